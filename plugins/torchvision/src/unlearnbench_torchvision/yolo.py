"""A detector of your own in the format of YOLO as a detector of the host.

No YOLO is part of this package: the well-known ones have licences (GPL, AGPL) that ours could not carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, box_iou, clip_boxes_to_image

from unlearnbench.api import PluginError
from unlearnbench.api.runtime import padded_detections
from unlearnbench_torchvision.boxes import found_in, placed


class Yolo(nn.Module):
    """Wraps a module whose output in evaluation mode is [n, a, 5 + classes] for images [n, channels, h, w].

    Each of the a candidates of an image is centre x, centre y, width and height in pixels, how sure it is that there is
    an object, and the probability of each class. If the output is a tuple, its first part is this tensor and the rest
    is for the loss.

    ``loss(out, boxes)`` gives the loss of one image, a scalar: ``out`` is what the module put out for it (the image's
    part of every tensor in it, with a first dimension of 1; in training mode that may be something else than in
    evaluation mode), ``boxes`` [k, 5] are its boxes (corners in pixels, class), k possibly 0.

    Candidates whose objectness times probability of a class is above ``least_score`` are detections of that class; the
    ``candidates`` best of them, cut to the image, without those that overlap a better one of their class by more than
    ``overlap`` (IoU), are given back, at most ``detections``.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Callable[[Any, Tensor], Tensor],
        *,
        least_score: float = 0.001,
        overlap: float = 0.6,
        candidates: int = 3000,
        detections: int = 100,
    ) -> None:
        super().__init__()
        self.net = net
        self.loss = loss
        self.least_score = least_score
        self.overlap = overlap
        self.candidates = candidates
        self.detections = detections

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Detections [n, detections, 6]; with annotations [n, m, 5] the losses [n] of the images.

        Raises:
            PluginError: the module's output or the loss is of another form.
        """
        if y is None:
            return padded_detections([self._found(image, x.shape) for image in self._decoded(x)], self.detections)
        out = self.net(x)
        losses = [self.loss(_row(out, i), boxes) for i, boxes in enumerate(found_in(y))]
        wrong = next((one for one in losses if one.numel() != 1), None)
        if wrong is not None:
            raise _broken(f"its loss of one image has shape {list(wrong.shape)}, not one number")
        return torch.stack([one.reshape(()) for one in losses])

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        """Log-probabilities [n, m, classes], divided by their sum, of the candidate that overlaps a box most.

        Where none overlaps, of the one whose centre is nearest.
        """
        scores = []
        for image, boxes in zip(self._decoded(x), found_in(y), strict=True):
            places = image[:, :4].detach()
            overlap = box_iou(boxes[:, :4], box_convert(places, "cxcywh", "xyxy"))
            centres = box_convert(boxes[:, :4], "xyxy", "cxcywh")[:, :2]
            nearest = torch.cdist(centres, places[:, :2]).argmin(1)
            best = torch.where(overlap.amax(1) > 0, overlap.argmax(1), nearest)
            # Of a probability that is rounded to 0 there is no logarithm, but of the smallest number there is.
            certain = image[best, 5:].clamp(min=torch.finfo(image.dtype).tiny).log()
            scores.append(certain - certain.logsumexp(1, keepdim=True))
        return placed(scores, y)

    def _decoded(self, x: Tensor) -> Tensor:
        out = self.net(x)
        decoded = out[0] if isinstance(out, tuple | list) and out else out
        if not isinstance(decoded, Tensor) or decoded.ndim != 3 or len(decoded) != len(x) or decoded.shape[2] < 6:
            shape = list(decoded.shape) if isinstance(decoded, Tensor) else type(decoded).__name__
            mode = "training" if self.training else "evaluation"
            raise _broken(f"in {mode} mode it puts out {shape}, not [{len(x)}, candidates, 5 + classes]")
        return decoded

    def _found(self, image: Tensor, shape: torch.Size) -> Tensor:
        """Detections [k, 6] among the candidates [a, 5 + classes] of an image."""
        scores = image[:, 4:5] * image[:, 5:]
        which, label = (scores > self.least_score).nonzero(as_tuple=True)
        score, order = scores[which, label].sort(descending=True, stable=True)
        score, order = score[: self.candidates], order[: self.candidates]
        corners = box_convert(image[which[order], :4], "cxcywh", "xyxy")
        corners = clip_boxes_to_image(corners, (shape[-2], shape[-1]))
        label = label[order]
        inside = (corners[:, 2:] > corners[:, :2]).all(1)
        corners, score, label = corners[inside], score[inside], label[inside]
        kept = batched_nms(corners, score, label, self.overlap)[: self.detections]
        return torch.cat([corners[kept], score[kept, None], label[kept, None].to(score.dtype)], dim=1)


def _row(out: Any, i: int) -> Any:
    """What a module put out for one image of a batch: slices of all tensors in lists, tuples and mappings."""
    if isinstance(out, Tensor):
        return out[i : i + 1]
    if isinstance(out, dict):
        return {name: _row(part, i) for name, part in out.items()}
    if isinstance(out, tuple | list):
        return type(out)(_row(part, i) for part in out)
    return out


def _broken(problem: str) -> PluginError:
    return PluginError("broken-contract", problem, where="the detector that Yolo wraps",
                       hint="see unlearnbench_torchvision.yolo.Yolo")  # fmt: skip
