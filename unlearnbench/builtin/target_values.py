"""Numbers about each target of a split: one function for each kind of annotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score
from torch import Tensor

from unlearnbench.api.runtime import MISSING, Evidence, Subject, average_precisions, order_by_id, recalls
from unlearnbench.builtin.plugin import TargetParams

NOT_SHOWN = "no row shows it"
ONE_CLASS = "every row shows it, or none"
NO_ANNOTATIONS = "no annotations"

Scores = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]


class Value(NamedTuple):
    """A number about a target, or about all: ``n`` units were judged, ``status`` says why there is none."""

    name: str
    value: float | None
    n: int
    status: str = "ok"


class Judged(NamedTuple):
    """The values of each target, in order, and those about all of them."""

    targets: list[list[Value]]
    overall: list[Value]


@dataclass(frozen=True, eq=False)
class TargetRows:
    """Predictions [n, ...] and annotations [n, ...] of a split by id; ``outputs`` is the number of targets."""

    predictions: Tensor
    y: Tensor
    outputs: int

    @cached_property
    def status(self) -> str:
        """``ok``, or why the predictions mean nothing: ``empty split`` or ``non-finite``."""
        if not len(self.y):
            return "empty split"
        return "ok" if bool(self.predictions.isfinite().all()) else "non-finite"


def rows_by_id(evidence: Evidence, split: str, subject: Subject | None = None) -> TargetRows:
    """What a subject predicts for the rows of a split; no model is asked about a split without rows."""
    view, y = evidence.view(split), evidence.y(split)
    order = order_by_id(view.ids)
    predictions = evidence.outputs(split, subject)[order] if len(order) else y[order]
    return TargetRows(predictions, y[order], len(view.outputs))


def first_problem(*statuses: str) -> str:
    """The first status that is not ``ok``; ``ok`` where there is none."""
    return next((status for status in statuses if status != "ok"), "ok")


def _value(name: str, value: float | None, n: int, why: str) -> Value:
    return Value(name, value if why == "ok" else None, n, why)


# --- labels ---------------------------------------------------------------------------------------------------------


def judge_labels(rows: TargetRows, evidence: Evidence, p: TargetParams) -> Judged:
    """Recalls and accuracies at the model's threshold, without any, and at one that validation rows choose."""
    validation = rows_by_id(evidence, "validation")
    return Judged([_label(rows, validation, target) for target in range(rows.outputs)], [])


def _label(rows: TargetRows, validation: TargetRows, target: int) -> list[Value]:
    scores, true = _cells(rows, target)
    n, shown = len(true), int(true.sum())
    found = first_problem(rows.status, "ok" if shown else NOT_SHOWN)
    told = first_problem(rows.status, "ok" if 0 < shown < n else ONE_CLASS)
    threshold, why = _chosen_threshold(validation, target)
    again, told_again = first_problem(found, why), first_problem(told, why)

    def value(name: str, units: int, why: str, compute: Callable[[], float]) -> Value:
        return Value(name, compute() if why == "ok" else None, units, why)

    return [
        value("target-recall", shown, found, lambda: _recall(scores > 0, true)),
        value(
            "target-accuracy", n, first_problem(rows.status, "ok" if n else NO_ANNOTATIONS),
            lambda: float(((scores > 0) == true).mean()),
        ),
        value("target-balanced-accuracy", n, told, lambda: _balanced(scores > 0, true)),
        value("target-auc", n, told, lambda: float(roc_auc_score(true, scores))),
        value("target-recalibrated-recall", shown, again, lambda: _recall(scores > threshold, true)),
        value(
            "target-recalibrated-balanced-accuracy", n, told_again, lambda: _balanced(scores > threshold, true)
        ),
    ]  # fmt: skip


def _cells(rows: TargetRows, target: int) -> tuple[Scores, Marks]:
    """Logits and labels of the rows that are annotated for a target."""
    y = rows.y[:, target]
    known = ~y.isnan()
    return rows.predictions[known, target].double().numpy(), (y[known] > 0.5).numpy()


def _recall(said: Marks, true: Marks) -> float:
    return float(said[true].mean())


def _balanced(said: Marks, true: Marks) -> float:
    return (_recall(said, true) + _recall(~said, ~true)) / 2


def _chosen_threshold(validation: TargetRows, target: int) -> tuple[float, str]:
    """The threshold that serves best on validation rows, or the reason why none can be chosen."""
    if validation.status != "ok":
        return 0.0, "no validation rows" if validation.status == "empty split" else validation.status
    scores, true = _cells(validation, target)
    if true.all() or not true.any():
        return 0.0, "every validation row shows it, or none"
    return best_threshold(scores, true), "ok"


def best_threshold(scores: Scores, true: Marks) -> float:
    """The threshold above which a yes gives the largest balanced accuracy on these rows.

    It lies in the middle between two scores, of several best places in the widest; where no place is better than
    always saying the same, the model keeps its own threshold, 0. There are rows of both kinds.
    """
    order = scores.argsort(kind="stable")
    ranked, marks = scores[order], true[order].astype(np.int64)
    places = np.flatnonzero(ranked[1:] > ranked[:-1])
    shown, lacking = int(marks.sum()), int((1 - marks).sum())
    found = shown - marks.cumsum()[places]
    refused = (1 - marks).cumsum()[places]
    merit = found * lacking + refused * shown  # in whole numbers: ties are ties
    if not len(places) or merit.max() <= shown * lacking:
        return 0.0
    best = places[merit == merit.max()]
    widest = best[(ranked[best + 1] - ranked[best]).argmax()]
    return float((ranked[widest] + ranked[widest + 1]) / 2)


# --- masks and boxes ------------------------------------------------------------------------------------------------


def judge_pixels(rows: TargetRows, evidence: Evidence, p: TargetParams) -> Judged:
    """Intersection over union of each class, and the share of the pixels that it is predicted for and has."""
    known = rows.y != MISSING
    total = int(known.sum())
    why = first_problem(rows.status, "ok" if total else NO_ANNOTATIONS)
    found = []
    for target in range(rows.outputs):
        said, true = (rows.predictions == target) & known, rows.y == target
        union, both, shown = int((said | true).sum()), int((said & true).sum()), int(true.sum())
        found.append(
            [
                _value("target-iou", both / max(union, 1), union, first_problem(why, "ok" if shown else NOT_SHOWN)),
                _value("target-predicted-pixels", int(said.sum()) / max(total, 1), total, why),
                _value("target-true-pixels", shown / max(total, 1), total, why),
            ]
        )
    return Judged(found, [])


def judge_boxes(rows: TargetRows, evidence: Evidence, p: TargetParams) -> Judged:
    """Average precision and recall of each class; COCO's mean over all."""
    shown = [int((rows.y[..., 4] == target).sum()) for target in range(rows.outputs)]
    why = [first_problem(rows.status, "ok" if boxes else NOT_SHOWN) for boxes in shown]
    overall = first_problem(rows.status, "ok" if any(shown) else NOT_SHOWN)
    precise: list[float | None] = [None] * rows.outputs
    mean, found = None, precise
    if overall == "ok":
        mean, _, precise = average_precisions(rows.predictions, rows.y, rows.outputs)
        found = recalls(rows.predictions, rows.y, rows.outputs, p.score)
    each = zip(precise, found, shown, why, strict=True)
    return Judged(
        [[_value("target-ap50", a, n, status), _value("target-recall", b, n, status)] for a, b, n, status in each],
        [_value("all-targets-map", mean, sum(shown), overall)],
    )


Judge = Callable[[TargetRows, Evidence, TargetParams], Judged]
JUDGES: Mapping[str, Judge] = {
    "multi-label": judge_labels,
    "segmentation": judge_pixels,
    "detection": judge_boxes,
}
"""By the name of the task."""
