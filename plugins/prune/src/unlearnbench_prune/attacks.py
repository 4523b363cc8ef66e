"""Membership attacks that are read both ways: how many forgotten rows look seen, and how far they stand out at all.

A row that was sent to another class has an extreme loss. A threshold for seen rows then finds none of them (recall 0),
and its mirror finds nearly all (area 0): only the distance of the area from 1/2 says how well the rows are hidden.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch.nn.functional import cross_entropy

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import (
    Component,
    Ensemble,
    Evidence,
    Interval,
    Reading,
    Rows,
    Shadows,
    log_odds,
    order_by_id,
    rows_of,
    seed_from,
    share_interval,
    status_of,
)
from unlearnbench_prune.plugin import Attack, AttackParams

Array = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

HIDDEN = (256, 128)
"""Units of the network that learns from shadow models' posteriors."""
EPOCHS = 60
OWN_VARIANCE = 32
"""Shadow models of a kind from which on a row has a variance of its own; with fewer all rows share one, as Carlini et
al. 2022 do for few models."""
ROUNDING = 1e-12
"""A standard deviation below this share of the largest log-odds is rounding, not spread."""


@dataclass(frozen=True)
class Scores:
    """Scores of forgotten and of unseen rows, higher for rows that look seen; members are those from ``cut`` on."""

    forget: Array
    others: Array
    cut: float


class Unread(Exception):
    """An attack without a value; the message is the status of its readings."""


class TwoSided(Component[AttackParams]):
    """The attacks that are asked for, on the subject's outputs for the forget set and for unseen rows.

    Unseen rows are the hold-out; without one ``yeom`` and ``shadow`` take as many test rows. Readings are NAME-recall
    (exact interval), NAME-auc (DeLong's interval) and NAME-two-sided = |AUC - 1/2|.

    * ``yeom``: rows whose loss is at most the subject's mean loss on the retain set (Yeom et al. 2018, adversary 1).
    * ``shadow``: a network of 256 and 128 units learns from the posteriors of shadow models, each for rows that it was
      trained on and rows that it never saw. It is trained on what the same stage of the shadows puts out (after their
      unlearning for the unlearned model), so it learns traces of forgetting, too. Rows from 1/2 on are members.
    * ``lira``: for each row the log-likelihood ratio of its log-odds under Gaussians over the shadows that were trained
      on it and over those that were not (Carlini et al. 2022). Rows from 0 on are members.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        """Shadow models, where an attack needs them; every subject is attacked with its own stage of them."""
        if not {"shadow", "lira"} & set(self.p.attacks):
            return ()
        n = self.p.shadows
        if n % 2:
            raise UsageError(
                "bad-parameter",
                f"{n} shadow models are no pairs",
                where="two-sided-mia.shadows",
                hint=f"take {n + 1}",
            )
        return (Ensemble("shadows", originals=n, golds=n, unlearned=n),)

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, holdout = rows_of(evidence, "forget"), rows_of(evidence, "holdout")
        others = holdout if len(holdout) else _as_many(rows_of(evidence, "test"), forget, evidence)
        for attack in dict.fromkeys(self.p.attacks):
            try:
                if attack == "yeom":
                    found = yeom(forget, rows_of(evidence, "retain"), others)
                else:
                    shadows = Audit.of(evidence.shadows(self.p.shadows), evidence)
                    seed = seed_from(evidence.rng("network"))
                    found = (
                        shadow(shadows, forget, others, seed) if attack == "shadow" else lira(shadows, forget, holdout)
                    )
            except Unread as reason:
                yield from _undefined(attack, len(forget), len(others), str(reason))
            else:
                yield from readings(attack, found)


@dataclass(frozen=True, eq=False)
class Audit:
    """What shadow models put out [n, m, c] for the audit rows, in order of id, and which of them were trained on."""

    outputs: Tensor
    y: Tensor
    ids: Tensor
    members: Bools

    @classmethod
    def of(cls, shadows: Shadows, evidence: Evidence) -> Audit:
        """The shadows at the stage of the evidence's subject. Raises Unread where an output is not finite."""
        order = order_by_id(shadows.ids, shadows.y)
        outputs = shadows.outputs(evidence.subject)[:, order].double()
        if not bool(outputs.isfinite().all()):
            raise Unread("non-finite")
        members: Bools = shadows.members[:, order].cpu().numpy()
        return cls(outputs, shadows.y[order], shadows.ids[order], members)

    def audited(self, rows: Rows) -> Rows:
        """Those of the rows that the shadows audit, in order of id."""
        return rows.at((rows.ids[:, None] == self.ids).any(1).nonzero()[:, 0])


def yeom(forget: Rows, retain: Rows, others: Rows) -> Scores:
    """Loss against the mean loss of the retain set."""
    _look(forget, retain, others)
    return Scores(-_losses(forget), -_losses(others), -float(_losses(retain).mean()))


def shadow(audit: Audit, forget: Rows, others: Rows, seed: int) -> Scores:
    """Probability of membership by posteriors, from a network that is trained on the shadows'."""
    _look(forget, others)
    members = audit.members.flatten()
    if members.all() or not members.any():
        raise Unread("one class")
    network = MLPClassifier(HIDDEN, max_iter=EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is the setting
        network.fit(_posteriors(audit.outputs.flatten(0, 1)), members)
    found = [network.predict_proba(_posteriors(rows.outputs))[:, 1] for rows in (forget, others)]
    return Scores(found[0], found[1], 0.5)


def lira(audit: Audit, forget: Rows, holdout: Rows) -> Scores:
    """Log-likelihood ratios of the rows that the shadows audit."""
    forget, holdout = audit.audited(forget), audit.audited(holdout)
    _look(forget, holdout)
    phi = _log_odds(audit.outputs, audit.y)
    seen, unseen = (gaussians(phi, group) for group in (audit.members, ~audit.members))
    found = []
    for rows in (forget, holdout):
        here = np.searchsorted(audit.ids.numpy(), rows.ids.numpy())
        own = _log_odds(rows.outputs, rows.y)
        densities = [norm.logpdf(own, mean[here], spread[here]) for mean, spread in (seen, unseen)]
        found.append(densities[0] - densities[1])
    return Scores(found[0], found[1], 0.0)


def gaussians(phi: Array, group: Bools) -> tuple[Array, Array]:
    """Mean and standard deviation [m] of each row's log-odds [n, m] over the models of ``group`` [n, m].

    With fewer than ``OWN_VARIANCE`` models for a row all rows share the pooled standard deviation.

    Raises:
        Unread: some row has no model in the group, no row has two, or nothing varies.
    """
    models = group.sum(0)
    if models.min() < 1 or models.max() < 2:
        raise Unread("too few models")
    mean = np.where(group, phi, 0.0).sum(0) / models
    squares = np.where(group, (phi - mean) ** 2, 0.0).sum(0)
    pooled = squares.sum() / (models - 1).sum()
    variance = squares / np.maximum(models - 1, 1) if models.min() >= OWN_VARIANCE else np.full_like(mean, pooled)
    if variance.min() <= (ROUNDING * np.abs(phi).max()) ** 2:
        raise Unread("zero variance")
    return mean, np.sqrt(variance)


def auc(members: Array, others: Array) -> float:
    """P(member's score > other's) + P(equal) / 2, from ranks (Mann and Whitney 1947)."""
    n, m = len(members), len(others)
    ranks = rankdata(np.concatenate([members, others]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(members: Array, others: Array) -> Interval:
    """95 % interval of the area by DeLong et al. (1988), cut to [0, 1]; none with fewer than two rows of a kind.

    Scores that do not overlap have a point.
    """
    n, m = len(members), len(others)
    if min(n, m) < 2:
        return None, None
    together = rankdata(np.concatenate([members, others]))
    of_members = (together[:n] - rankdata(members)) / m
    of_others = 1 - (together[n:] - rankdata(others)) / n
    area = auc(members, others)
    half = float(norm.ppf(0.975)) * math.sqrt(of_members.var(ddof=1) / n + of_others.var(ddof=1) / m)
    return max(0.0, area - half), min(1.0, area + half)


def readings(attack: Attack, found: Scores) -> Iterator[Reading]:
    """The three readings of an attack."""
    n, m = len(found.forget), len(found.others)
    hits = int((found.forget >= found.cut).sum())
    low, high = share_interval(hits, n)
    yield Reading(f"{attack}-recall", hits / n, n, split="forget", low=low, high=high)
    area, ends = auc(found.forget, found.others), auc_interval(found.forget, found.others)
    yield Reading(f"{attack}-auc", area, n + m, split="forget", low=ends[0], high=ends[1])
    low_side, high_side = folded(ends)
    yield Reading(
        f"{attack}-two-sided", abs(area - 0.5), n + m, better="lower", split="forget", low=low_side, high=high_side
    )


def folded(ends: Interval) -> Interval:
    """The interval of |AUC - 1/2| from that of the AUC."""
    if ends[0] is None or ends[1] is None:
        return None, None
    below, above = ends[0] - 0.5, ends[1] - 0.5
    nearest = 0.0 if below <= 0 <= above else min(abs(below), abs(above))
    return nearest, max(abs(below), abs(above))


def _undefined(attack: Attack, n: int, m: int, status: str) -> Iterator[Reading]:
    yield Reading(f"{attack}-recall", None, n, split="forget", status=status)
    yield Reading(f"{attack}-auc", None, n + m, split="forget", status=status)
    yield Reading(f"{attack}-two-sided", None, n + m, better="lower", split="forget", status=status)


def _as_many(test: Rows, forget: Rows, evidence: Evidence) -> Rows:
    return test.drawn(len(forget), evidence.rng("others")) if len(test) else test


def _look(*parts: Rows) -> None:
    status = status_of(*parts)
    if status != "ok":
        raise Unread(status)


def _losses(rows: Rows) -> Array:
    found: Array = cross_entropy(rows.outputs, rows.y, reduction="none").numpy()
    return found


def _posteriors(outputs: Tensor) -> Array:
    found: Array = outputs.softmax(1).numpy()
    return found


def _log_odds(outputs: Tensor, y: Tensor) -> Array:
    found: Array = log_odds(outputs, y).numpy()
    if not np.isfinite(found).all():
        raise Unread("infinite log-odds")
    return found
