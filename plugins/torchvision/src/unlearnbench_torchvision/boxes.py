"""Between the host's boxes and torchvision's: the host counts classes from 0, torchvision's 0 is the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from unlearnbench.api.runtime import padded_detections, present


def found_in(y: Tensor) -> list[Tensor]:
    """The boxes [k_i, 5] of each image of annotations [n, m, 5]."""
    return [boxes[there] for boxes, there in zip(y, present(y), strict=True)]


def targets_of(y: Tensor) -> list[dict[str, Tensor]]:
    """Annotations [n, m, 5] as torchvision's detectors take them: boxes [k, 4] and labels [k] from 1 on."""
    return [{"boxes": boxes[:, :4], "labels": boxes[:, 4].long() + 1} for boxes in found_in(y)]


def detections_of(found: Sequence[Mapping[str, Tensor]], k: int) -> Tensor:
    """What torchvision's detectors found as detections [n, k, 6]."""
    rows = [
        torch.cat([one["boxes"], one["scores"][:, None], one["labels"][:, None] - 1.0], dim=1).float() for one in found
    ]
    return padded_detections(rows, k)


def placed(scores: Sequence[Tensor], y: Tensor) -> Tensor:
    """Scores [k_i, classes] of the boxes of each image, in their order, put where the boxes are: [n, m, classes].

    Places without a box are 0.
    """
    flat = torch.cat(list(scores))
    out = flat.new_zeros(*y.shape[:2], flat.shape[1])
    return out.index_put(present(y).nonzero(as_tuple=True), flat)


def shares_of(boxes: Tensor, anchors: Tensor, matches: Tensor) -> Tensor:
    """Which anchors stand for a box: weights [k, a] over a anchors with sum 1 for each of k boxes [k, 4].

    ``matches`` [a] is the box that an anchor is matched to, negative where there is none. A box whose only anchor was
    matched to another box is given its best one.
    """
    ours = matches == torch.arange(len(boxes), device=matches.device)[:, None]
    lost = ~ours.any(1)
    if bool(lost.any()):
        best = box_iou(boxes[lost], anchors).argmax(1)
        ours[lost.nonzero()[:, 0], best] = True
    return ours / ours.sum(1, keepdim=True)
