"""Attacks on the loss alone: the starting kit's, ERASURE's population attack, Yeom's threshold."""

from __future__ import annotations

from collections.abc import Iterable

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Component, Evidence, Reading, Rows, numpy_rng, rows_of, seed_from, status_of
from unlearnbench_membership import scores
from unlearnbench_membership.logistic import split_accuracy
from unlearnbench_membership.plugin import UmiaParams
from unlearnbench_membership.readings import array, curve_readings, estimated, undefined_curve
from unlearnbench_membership.roc import CURVE, REPORTED, Array
from unlearnbench_membership.shares import difference, share


def losses(rows: Rows) -> Array:
    """Cross-entropies [n]."""
    return array(scores.loss(rows.outputs, rows.y))


class LossAttack(Component[NoParams]):
    """How well the loss tells the forget set (members) from the hold-out.

    ``loss-attack-accuracy`` is that of the starting kit: a logistic regression on the losses of as many rows of each
    kind, fitted on 90 % of them and scored on the rest, mean of ten stratified splits. ``loss-attack-auc`` and ``-tpr``
    need no fit: any threshold on the loss (stratified bootstrap intervals). An area far below 1/2 leaks as much as one
    far above.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, holdout = rows_of(evidence, "forget"), rows_of(evidence, "holdout")
        status = status_of(forget, holdout)
        if status != "ok":
            n = len(forget) + len(holdout)
            yield Reading("loss-attack-accuracy", None, n, status=status)
            yield from undefined_curve("loss-attack", CURVE, n, status)
            return
        yield _fitted("loss-attack-accuracy", forget, holdout, evidence, splits=10, held=0.1)
        yield from curve_readings("loss-attack", -losses(forget), -losses(holdout), CURVE, evidence.rng("bootstrap"))


class Umia(Component[UmiaParams]):
    """ERASURE's UMIA: a logistic regression on the losses of forget set and as many unseen rows.

    ``umia`` is the accuracy on the 80 % of the rows that a split holds back, mean of five stratified splits;
    ``umia-auc`` and ``-tpr`` those of the loss on the very same rows, without a fit (stratified bootstrap intervals).
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, unseen = rows_of(evidence, "forget"), rows_of(evidence, self.p.unseen)
        n, status = min(len(forget), len(unseen)), status_of(forget, unseen)
        if status != "ok":
            yield Reading("umia", None, 2 * n, status=status)
            yield from undefined_curve("umia", REPORTED, 2 * n, status)
            return
        forget, unseen = forget.drawn(n, evidence.rng("members")), unseen.drawn(n, evidence.rng("others"))
        yield _fitted("umia", forget, unseen, evidence, splits=5, held=0.8)
        yield from curve_readings("umia", -losses(forget), -losses(unseen), REPORTED, evidence.rng("bootstrap"))


class Yeom(Component[NoParams]):
    """Rows whose loss is at most the subject's mean loss on the retain set are called members.

    ``yeom-advantage`` is the share of the forget set minus the share of the hold-out that is called so (Newcombe
    interval), the threshold taken as given.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, retain, holdout = (rows_of(evidence, split) for split in ("forget", "retain", "holdout"))
        n, status = len(forget) + len(holdout), status_of(forget, retain, holdout)
        if status != "ok":
            yield Reading("yeom-threshold", None, len(retain), unit="nats", status=status)
            for name in ("yeom-true-positive-rate", "yeom-false-positive-rate", "yeom-advantage"):
                yield Reading(name, None, n, status=status)
            return
        threshold = float(losses(retain).mean())
        found, taken = (share(int((losses(rows) <= threshold).sum()), len(rows)) for rows in (forget, holdout))
        yield Reading("yeom-threshold", threshold, len(retain), unit="nats")
        yield estimated("yeom-true-positive-rate", found, len(forget))
        yield estimated("yeom-false-positive-rate", taken, len(holdout))
        yield estimated("yeom-advantage", difference(found, taken), n)


def _fitted(name: str, members: Rows, others: Rows, evidence: Evidence, *, splits: int, held: float) -> Reading:
    n = min(len(members), len(others))
    first, second = members.drawn(n, evidence.rng("members")), others.drawn(n, evidence.rng("others"))
    seed, rng = seed_from(evidence.rng("splits")), numpy_rng(evidence.rng("rows"))
    found = split_accuracy(losses(first), losses(second), splits=splits, held=held, seed=seed, rng=rng)
    if found is None:
        return Reading(name, None, 2 * n, status="too few rows")
    return estimated(name, found, 2 * n)
