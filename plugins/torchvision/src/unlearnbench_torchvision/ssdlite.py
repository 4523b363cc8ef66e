"""SSD-lite as a detector of the host."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from unlearnbench_torchvision.boxes import detections_of, placed, shares_of, targets_of


class SsdLite(SSD):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's SSD-lite on MobileNetV3; tensors are named as in torchvision's own.

    Images are [0, 1]; they are resized to ``size`` (height, width), on which default boxes depend. ``classes`` do not
    count the background.
    """

    def __init__(self, classes: int, channels: int, size: tuple[int, int], detections: int) -> None:
        made = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
        super().__init__(
            made.backbone,
            made.anchor_generator,
            size[::-1],
            classes + 1,
            head=made.head,
            image_mean=[0.5] * channels,
            image_std=[0.5] * channels,
            score_thresh=made.score_thresh,
            nms_thresh=made.nms_thresh,
            detections_per_img=detections,
            topk_candidates=made.topk_candidates,
        )
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the transform of images, which draws random numbers in training mode."""
        super().train(mode)
        self.transform.eval()
        return self

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Detections [n, detections, 6]; with annotations [n, m, 5] the losses [n] of the images.

        A loss is torchvision's for the image alone: smooth L1 of the offsets of matched default boxes and cross-entropy
        of these and of three times as many, the worst, of the background, over the number of the matched. So an image
        without boxes has loss 0.
        """
        targets = None if y is None else targets_of(y)
        images, targets, out, anchors = self._out(x, targets)
        if targets is None:
            found = self.postprocess_detections(out, anchors, images.image_sizes)
            shape = (x.shape[-2], x.shape[-1])
            found = self.transform.postprocess(found, images.image_sizes, [shape] * len(x))
            return detections_of(found, self.detections_per_img)
        losses = []
        for i, target in enumerate(targets):
            alone = {name: values[i : i + 1] for name, values in out.items()}
            parts = self.compute_loss([target], alone, [anchors[i]], [self._matches(target["boxes"], anchors[i])])
            losses.append(sum(parts.values()))
        return torch.stack(losses)

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        """Log-softmax over the classes [n, m, classes], without the background, of the default boxes matched to a box.

        The mean over the default boxes that its loss takes as positive.
        """
        _, targets, out, anchors = self._out(x, targets_of(y))
        known = out["cls_logits"][..., 1:].log_softmax(-1)
        scores = []
        for i, target in enumerate(targets):
            boxes = target["boxes"]
            shares = shares_of(boxes, anchors[i], self._matches(boxes, anchors[i]))
            scores.append(shares.to(known.dtype) @ known[i])
        return placed(scores, y)

    def _out(self, x: Tensor, targets: list[dict[str, Tensor]] | None) -> tuple[Any, Any, dict[str, Tensor], Any]:
        """Resized images and targets, what the heads say about every default box, and the default boxes."""
        images, targets = self.transform(list(x), targets)
        features = list(self.backbone(images.tensors).values())
        return images, targets, self.head(features), self.anchor_generator(images, features)

    def _matches(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The box [a] that each of a default boxes is matched to, negative where there is none."""
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        return cast(Tensor, self.proposal_matcher(box_iou(boxes, anchors)))
