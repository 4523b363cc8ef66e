"""Object detection: boxes, detections, and the task that judges them.

Boxes are corners in pixels, x1 y1 x2 y2 with x1 < x2 and y1 < y2. Annotations are [n, m, 5] (corners, class), NaN where
an image has fewer than m boxes; an image without any box is annotated all the same: it shows nothing. Detections are
[n, k, 6] (corners, score, class), in the order of falling scores; places that are left over have score 0 and class -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.runtime.data import Batch
from unlearnbench.api.runtime.task import Axis, Erasure, Fault, Metric, Task

NOTHING = (0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""A place of the detections of an image that is left over."""

SCORE = 0.3
"""Score from which a detection counts as asserted: for recall, where average precision takes all scores."""


@runtime_checkable
class Detector(Protocol):
    """What a network has to offer to detect objects; any ``nn.Module`` with these two methods."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Detections [n, k, 6] of images, k fixed by the network; with annotations the losses [n] of the images.

        Losses are what it is trained with, differentiable, and those of an image do not depend on the images beside it.
        """
        ...

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        """How strongly each class is asserted where the boxes ``y`` are: log-probabilities [n, m, classes].

        Over the classes at the place of the box (its centre cell, or what is matched to it), differentiable; places
        without a box are 0.
        """
        ...


def padded_boxes(boxes: Sequence[Tensor]) -> Tensor:
    """Boxes [k_i, 5] of n images as annotations [n, m, 5], m being the most that an image has, at least 1."""
    most = max([1, *(len(found) for found in boxes)])
    padded = torch.full((len(boxes), most, 5), torch.nan)
    for row, found in enumerate(boxes):
        padded[row, : len(found)] = found
    return padded


def padded_detections(detections: Sequence[Tensor], k: int) -> Tensor:
    """Detections [k_i, 6] of n images as one tensor [n, k, 6]: the k of each with the highest scores."""
    found = []
    for one in detections:
        best = one[one[:, 4].argsort(descending=True, stable=True)[:k]]
        found.append(torch.cat([best, best.new_tensor(NOTHING).expand(k - len(best), 6)]))
    return torch.stack(found)


def present(y: Tensor) -> Tensor:
    """Which places of annotations [..., m, 5] hold a box [..., m] bool."""
    return ~y[..., 4].isnan()


class Detection(Task):
    """Boxes with a class each. The detector owns its loss; predictions are its detections."""

    name = "detection"
    places = True

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        return cast(Tensor, model(batch.x, batch.y))

    def predictions(self, model: nn.Module, batch: Batch) -> Tensor:
        return cast(Tensor, model(batch.x))

    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        return out

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        return out.mean()

    def divergence(self, out: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        raise IncompatibleError("unsupported-task", "detections are no distribution, so they have no divergence")

    def probabilities(self, out: Tensor) -> Tensor:
        raise IncompatibleError("unsupported-task", "detections are no distribution over classes")

    def metrics(self, out: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
        if not len(y):
            return [Metric("map", None, 0), Metric("map50", None, 0)]
        found, asserted = average_precisions(out, y, len(names)), recalls(out, y, len(names))
        boxes = [int((y[..., 4] == k).sum()) for k in range(len(names))]
        total = sum(boxes)
        metrics = [
            Metric("map", found.mean if total else None, total),
            Metric("map50", found.mean_50 if total else None, total),
        ]
        for k, name in enumerate(names):
            if boxes[k]:
                metrics.append(Metric("ap50", found.of_class_50[k], boxes[k], {"target": name}))
                metrics.append(Metric("recall", asserted[k], boxes[k], {"target": name}))
        return metrics

    def other(self, y: Tensor, n: int, rng: Generator, *, wrong: bool = True) -> Tensor:
        if wrong and n < 2:
            raise IncompatibleError("unsupported-task", "there is no other class that a box could have")
        shape = y[..., 4].shape
        changed = y.clone()
        if wrong:
            changed[..., 4] = (y[..., 4] + torch.randint(1, n, shape, generator=rng).to(y.device)) % n
        else:
            drawn = torch.randint(n, shape, generator=rng).to(y.device, y.dtype)
            changed[..., 4] = torch.where(present(y), drawn, torch.nan)
        return changed

    def split_target(self, y: Tensor, target: int) -> tuple[Tensor, Tensor]:
        of_target = y[..., 4] == target
        carries = of_target.any(1)
        return carries, y[carries].masked_fill(~of_target[carries][..., None], torch.nan)

    def erase(self, y: Tensor, target: int, how: Erasure) -> Tensor:
        if how == "unknown":
            raise IncompatibleError(
                "unsupported-task", "a detector cannot leave boxes out of its loss: what has no box is background",
                where="$.request.as", hint="ask for absent or images",
            )  # fmt: skip
        return y.masked_fill((y[..., 4] == target)[..., None], torch.nan)

    def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
        scores = cast(Detector, model).class_scores(batch.x, batch.y)[..., target]
        return scores[batch.y[..., 4] == target].sum()

    def annotated(self, y: Tensor) -> Tensor:
        return torch.ones(len(y), dtype=torch.bool, device=y.device)

    def mirrored(self, y: Tensor, size: int, axis: Axis) -> Tensor:
        low, high = (0, 2) if axis == "horizontal" else (1, 3)
        turned = y.clone()
        turned[..., low], turned[..., high] = size - y[..., high], size - y[..., low]
        return turned

    def find_fault(self, x: Tensor, y: Tensor, outputs: int) -> Fault | None:
        if y.ndim != 3 or y.shape[2] != 5:
            return Fault(0, f"boxes of shape {list(y.shape[1:])}, not [m, 5]")
        height, width = x.shape[-2:]
        x1, y1, x2, y2, label = y.unbind(-1)
        there = present(y)
        unlabelled = ~there & ~y[..., :4].isnan().all(-1)
        outside = there & ~((x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height))
        empty = there & ~((x1 < x2) & (y1 < y2))
        unknown = there & ~((label >= 0) & (label < outputs) & (label == label.round()))
        for wrong, why in (
            (unlabelled, "has no class"),
            (outside, f"lies outside its image of {width}x{height} pixels"),
            (empty, "has no area"),
            (unknown, f"is of a class that does not exist: there are {outputs}"),
        ):
            if bool(wrong.any()):
                row, place = (int(i) for i in wrong.nonzero()[0])
                corners = ", ".join(f"{v:g}" for v in y[row, place].tolist())
                return Fault(row, f"the box ({corners}) {why}")
        return None


class AveragePrecisions(NamedTuple):
    """Over IoU .5 to .95 and all classes, at .5 over all classes, and at .5 of each class (None without a box)."""

    mean: float
    mean_50: float
    of_class_50: list[float | None]


def average_precisions(out: Tensor, y: Tensor, classes: int) -> AveragePrecisions:
    """COCO's average precisions, as torchmetrics works them out with pycocotools."""
    found = _judged(out, y, iou_thresholds=OVERLAPS, extended_summary=True)
    precision = found["precision"][0, :, :, 0, -1]  # at IoU .5, over recalls [101, known classes], any area, most boxes
    of_class: list[float | None] = [None] * classes
    for column, k in enumerate(_classes(found)):
        if 0 <= k < classes and bool((precision[:, column] > -1).all()):
            of_class[k] = float(precision[:, column].double().mean())
    return AveragePrecisions(float(found["map"]), float(found["map_50"]), of_class)


def recalls(out: Tensor, y: Tensor, classes: int, score: float = SCORE) -> list[float | None]:
    """Share of each class's boxes that a detection of at least ``score`` finds with IoU .5; None without a box."""
    kept = out.clone()
    kept[out[..., 4] < score] = out.new_tensor(NOTHING)
    found = _judged(kept, y, iou_thresholds=[0.5], class_metrics=True)
    by_class = dict(zip(_classes(found), found[f"mar_{MOST}_per_class"].reshape(-1).tolist(), strict=True))
    return [value if (value := by_class.get(k, -1.0)) >= 0 else None for k in range(classes)]


MOST = 100
"""Detections of an image and class that are judged, as in COCO."""

OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
"""COCO's own, in double precision: torchmetrics rounds its to float32, and 3 of 10 boxes then miss the recall .3."""


def _judged(out: Tensor, y: Tensor, **settings: Any) -> dict[str, Tensor]:
    from torchmetrics.detection import MeanAveragePrecision  # seconds to import, and only detection needs it

    metric = MeanAveragePrecision(rec_thresholds=RECALLS, max_detection_thresholds=[1, 10, MOST], **settings)
    metric.warn_on_many_detections = False
    seen = [image[image[:, 4] > 0] for image in out.cpu()]
    there = [image[present(image)] for image in y.cpu()]
    metric.update(
        [{"boxes": image[:, :4], "scores": image[:, 4], "labels": image[:, 5].long()} for image in seen],
        [{"boxes": image[:, :4], "labels": image[:, 4].long()} for image in there],
    )
    return cast(dict[str, Tensor], metric.compute())


def _classes(found: dict[str, Tensor]) -> list[int]:
    return [int(k) for k in found["classes"].reshape(-1)]
