"""What became of each target: of those that were to be forgotten, and of all the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from unlearnbench.api.runtime import Better, Component, Evidence, Reading
from unlearnbench.builtin.plugin import TargetParams
from unlearnbench.builtin.target_values import JUDGES, Value, first_problem, judge_labels, judge_pixels, rows_by_id

SPLIT = "test"
ALWAYS_GOLD = ("target-predicted-pixels", "target-true-pixels")
"""How often a class is predicted is best where gold has it, whether the class stays or not."""


class PerTarget(Component[TargetParams]):
    """Every target on the test rows: the forgotten ones are best where gold has them, for the others more is better.

    A recall of 0 may mean that a target is forgotten, or only that the model no longer says it: a lower bias hides a
    label and leaves all that is known about it, which one shifted threshold brings back. So labels are read without
    any threshold too (AUC), and at the threshold that serves best on validation rows. ``only-the-bias-moved`` is the
    share of the forgotten targets that are no longer found (recall at most ``lost``) of which that is so (AUC at least
    ``known``): 1 says that nothing was forgotten but the saying, 0 that the ranking went as well. It is undefined as
    long as the targets are found.

    The background of masks is read, but is none of the others: it would lift their mean. What targets there are to
    forget includes those of earlier requests of a stream.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        judge, rows = JUDGES[evidence.task.name], rows_by_id(evidence, SPLIT)
        names = evidence.view(SPLIT).outputs
        forgotten = sorted({*evidence.request.targets, *evidence.request.earlier})
        others = [t for t in range(len(names)) if t not in forgotten and not (t == 0 and judge is judge_pixels)]
        found = judge(rows, evidence, self.p)
        for target, values in enumerate(found.targets):
            better: Better = "gold" if target in forgotten else "higher"
            for name, value, n, status in values:
                direction = "gold" if name in ALWAYS_GOLD else better
                at = {"target": names[target]}
                yield Reading(name, value, n, better=direction, split=SPLIT, at=at, status=status)
        for name, value, n, status in found.overall:
            yield Reading(name, value, n, split=SPLIT, status=status)
        gone, kept = ([found.targets[t] for t in which] for which in (forgotten, others))
        if judge is judge_labels:
            for what in ("recall", "auc", "recalibrated-recall"):
                yield from _largest(gone, what)
            yield from _worst_and_mean(kept, "recall")
            yield from _worst_and_mean(kept, "balanced-accuracy")
            if gone:
                yield self._only_the_bias(gone)
            return
        first = found
        if evidence.subject != "original":
            first = judge(rows_by_id(evidence, SPLIT, "original"), evidence, self.p)
        pairs = [(found.targets[t], first.targets[t]) for t in others]
        if judge is judge_pixels:
            yield from _largest(gone, "iou")
            yield from _worst_and_mean(_compared(pairs, "iou", "relative-iou", _ratio), "relative-iou")
            return
        yield from _largest(gone, "recall")
        yield from _largest(gone, "ap50")
        yield from _worst_and_mean(kept, "recall")
        yield from _worst_and_mean(_compared(pairs, "ap50", "ap50-drop", _drop), "ap50-drop")

    def _only_the_bias(self, forgotten: Sequence[Sequence[Value]]) -> Reading:
        name, lost, status = "only-the-bias-moved", [], "ok"
        for values in forgotten:
            recall, auc = (_named(values, wanted) for wanted in ("target-recall", "target-auc"))
            status = next((one.status for one in (recall, auc) if one.status != "ok"), status)
            if recall.value is not None and auc.value is not None and recall.value <= self.p.lost:
                lost.append(auc.value >= self.p.known)
        if lost:
            return Reading(name, sum(lost) / len(lost), len(lost), better="lower", split=SPLIT)
        status = "every forgotten target is still found" if status == "ok" else status
        return Reading(name, None, 0, better="lower", split=SPLIT, status=status)


# --- in one number --------------------------------------------------------------------------------------------------


def _named(values: Sequence[Value], name: str) -> Value:
    return next(value for value in values if value.name in (name, f"target-{name}"))


def _ratio(value: float, before: float) -> float | None:
    return value / before if before else None


def _drop(value: float, before: float) -> float:
    return before - value


def _compared(
    pairs: Iterable[tuple[Sequence[Value], Sequence[Value]]],
    name: str,
    new_name: str,
    compare: Callable[[float, float], float | None],
) -> list[list[Value]]:
    """What a value is beside the original's, by target."""
    found = []
    for after, before in pairs:
        mine, theirs = _named(after, name), _named(before, name)
        status = first_problem(mine.status, theirs.status)
        value = compare(mine.value, theirs.value) if mine.value is not None and theirs.value is not None else None
        if status == "ok" and value is None:
            status = "the original does not find it"
        found.append([Value(new_name, value, mine.n, status)])
    return found


def _largest(targets: Sequence[Sequence[Value]], what: str) -> Iterable[Reading]:
    if targets:
        yield _over(targets, what, f"forgotten-{what}", max, "gold")


def _worst_and_mean(targets: Sequence[Sequence[Value]], what: str) -> Iterable[Reading]:
    lower = what.endswith("-drop")
    better: Better = "lower" if lower else "higher"
    yield _over(targets, what, f"others-{what}", max if lower else min, better)
    yield _over(targets, what, f"others-mean-{what}", fmean, better)


def _over(
    targets: Sequence[Sequence[Value]], what: str, name: str, fold: Callable[[list[float]], float], better: Better
) -> Reading:
    """One number over the targets that have one; the status of the first where none has."""
    each = [_named(values, what) for values in targets]
    values = [one.value for one in each if one.value is not None]
    if values:
        return Reading(name, fold(values), len(values), better=better, split=SPLIT)
    status = each[0].status if each else "there is no such target"
    return Reading(name, None, 0, better=better, split=SPLIT, status=status)
