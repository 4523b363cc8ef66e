"""Song and Mittal's attacks: five things read off the outputs, each compared with what retain and test rows have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from sklearn.svm import SVC
from torch import Tensor

from unlearnbench.api.runtime import Component, Evidence, Reading, Rows, rows_of, status_of
from unlearnbench_membership import scores
from unlearnbench_membership.plugin import SCORES, SongMittalParams
from unlearnbench_membership.readings import array, curve_readings, estimated, undefined_curve
from unlearnbench_membership.roc import REPORTED, Array, Estimate
from unlearnbench_membership.shares import balanced_accuracy, share
from unlearnbench_membership.thresholds import class_thresholds

# All are higher for members; correctness alone needs no fitted threshold.
_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "correctness": scores.correctness,
    "confidence": scores.confidence,
    "entropy": lambda outputs, _: -scores.entropy(outputs),
    "modified-entropy": lambda outputs, y: -scores.modified_entropy(outputs, y),
}
VECTOR = "probability-vector"


class SongMittal(Component[SongMittalParams]):
    """Each attack is fitted on retain rows (members) and test rows (non-members) of the subject itself.

    Then it judges the forget set and the hold-out. ``song-mittal-non-members`` is the share of the forget set that it
    takes for unseen rows (Wilson interval); ``-accuracy`` its balanced accuracy on forget set (members) against
    hold-out (Newcombe interval), ``-auc`` and ``-tpr`` the same by the margin of its decision (stratified bootstrap).
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forget, retain, test, holdout = (rows_of(evidence, s) for s in ("forget", "retain", "test", "holdout"))
        status = status_of(forget, retain, test)
        for score in SCORES:
            if status != "ok":
                yield from _undefined(score, len(forget), status)
                continue
            if score == VECTOR or self.p.attack == "svc":
                margin, own = self._machine(score, retain, test, evidence), None
            else:
                margin, own = _by_class(score, retain, test)
            if own is not None:
                yield Reading("song-mittal-own-thresholds", own, own, unit="classes", at={"score": score})
            yield from _readings(score, margin, forget, holdout, evidence)

    def _machine(self, score: str, retain: Rows, test: Rows, evidence: Evidence) -> Callable[[Rows], Array]:
        """SalUn's support vector classifier on as many retain rows as test rows, both drawn."""
        n = min(len(retain), len(test), self.p.limit or len(test))
        members, others = (rows.drawn(n, evidence.rng(name)) for rows, name in ((retain, "members"), (test, "others")))
        machine = SVC(C=3, gamma="auto", kernel="rbf", random_state=0)
        machine.fit(np.concatenate([_features(score, members), _features(score, others)]), np.repeat([1, 0], n))

        def margin(rows: Rows) -> Array:
            found: Array = machine.decision_function(_features(score, rows))
            return found

        return margin


def _features(score: str, rows: Rows) -> Array:
    if score == VECTOR:
        return array(rows.outputs.softmax(1))
    return array(_SCORES[score](rows.outputs, rows.y))[:, None]


def _by_class(score: str, retain: Rows, test: Rows) -> tuple[Callable[[Rows], Array], int | None]:
    """The margin above the class's threshold, and how many classes have one of their own."""
    read = _SCORES[score]
    if score == "correctness":
        return lambda rows: array(read(rows.outputs, rows.y)) - 0.5, None
    members, others = (array(read(rows.outputs, rows.y)) for rows in (retain, test))
    found = class_thresholds(members, retain.y.numpy(), others, test.y.numpy(), retain.outputs.shape[1])
    return lambda rows: found.margin(array(read(rows.outputs, rows.y)), rows.y.numpy()), found.own


def _readings(
    score: str, margin: Callable[[Rows], Array], forget: Rows, holdout: Rows, evidence: Evidence
) -> Iterator[Reading]:
    at, n = {"score": score}, len(forget)
    inside = margin(forget)
    found = share(int((inside >= 0).sum()), n)
    kept_out = Estimate(1 - found.value, 1 - found.high, 1 - found.low)
    yield estimated("song-mittal-non-members", kept_out, n, at=at, unit="%", scale=100)
    status = status_of(holdout)
    if status != "ok":
        yield from _no_curve(score, n, status)
        return
    outside = margin(holdout)
    taken = share(int((outside >= 0).sum()), len(outside))
    yield estimated("song-mittal-accuracy", balanced_accuracy(found, taken), n + len(outside), at=at)
    yield from curve_readings("song-mittal", inside, outside, REPORTED, evidence.rng(f"bootstrap/{score}"), at)


def _undefined(score: str, n: int, status: str) -> Iterator[Reading]:
    yield Reading("song-mittal-non-members", None, n, at={"score": score}, unit="%", status=status)
    yield from _no_curve(score, n, status)


def _no_curve(score: str, n: int, status: str) -> Iterator[Reading]:
    yield Reading("song-mittal-accuracy", None, n, at={"score": score}, status=status)
    yield from undefined_curve("song-mittal", REPORTED, n, status, {"score": score})
