"""Faster R-CNN as a detector of the host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from unlearnbench.api.runtime import generator, local_rng
from unlearnbench_torchvision.boxes import detections_of, placed, targets_of

LEVELS = 5
"""Levels of the feature pyramid; each has anchors of one size and three shapes."""
RATIOS = (0.5, 1.0, 2.0)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels, with which torchvision normalises."""
DRAW = 0
"""Seed of the draw of the anchors and proposals that a loss is taken over."""


class FasterRcnn(FasterRCNN):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's Faster R-CNN on a ResNet-50 with a feature pyramid; tensors are named as in torchvision's own.

    Images are [0, 1]. They are resized so that the shorter side is ``sides[0]`` and the longer at most ``sides[1]``,
    then padded with 0 to multiples of 32. ``classes`` do not count the background. ``frozen`` takes batch normalisation
    with fixed statistics and factors (buffers), else it is trained.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        sides: tuple[int, int],
        *,
        anchors: tuple[int, ...],
        detections: int,
        frozen: bool,
    ) -> None:
        norm = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
        # All layers are trainable: the host thaws whatever a network has frozen.
        body = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=norm, trainable_layers=5)
        coloured = channels == len(MEAN)
        super().__init__(
            body,
            classes + 1,
            min_size=sides[0],
            max_size=sides[1],
            image_mean=MEAN if coloured else [sum(MEAN) / 3] * channels,
            image_std=DEVIATION if coloured else [sum(DEVIATION) / 3] * channels,
            rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in anchors), (RATIOS,) * LEVELS),
            box_detections_per_img=detections,
        )
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but the transform of images, which draws random numbers in training mode."""
        super().train(mode)
        self.transform.eval()
        return self

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Detections [n, detections, 6]; with annotations [n, m, 5] the losses [n] of the images.

        A loss is the sum of torchvision's four (objectness and offsets of anchors, classes and offsets of proposals)
        for the image alone. They are taken over 256 anchors and 512 proposals at most, drawn with one seed that never
        changes: the same image, boxes and weights have the same loss.
        """
        if y is not None:
            return self._losses(x, y)
        images, _ = self.transform(list(x))
        features = self.backbone(images.tensors)
        with _learning(False, self.rpn, self.roi_heads):
            proposals, _ = self.rpn(images, features)
            found, _ = self.roi_heads(features, proposals, images.image_sizes)
        shape = (x.shape[-2], x.shape[-1])
        found = self.transform.postprocess(found, images.image_sizes, [shape] * len(x))
        return detections_of(found, self.roi_heads.detections_per_img)

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        """Log-softmax over the classes [n, m, classes], without the background, with the boxes as proposals."""
        images, targets = self.transform(list(x), targets_of(y))
        boxes = [target["boxes"] for target in targets]
        features = self.backbone(images.tensors)
        heads = self.roi_heads
        logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, boxes, images.image_sizes)))
        return placed([logits[:, 1:].log_softmax(1)], y)

    def _losses(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.training and len(x) > 1:
            # Rounding differs between batches, and where scores are close, that changes which proposals are kept.
            return torch.cat([self._losses(x[i : i + 1], y[i : i + 1]) for i in range(len(x))])
        images, targets = self.transform(list(x), targets_of(y))
        features = self.backbone(images.tensors)
        losses = []
        with _learning(True, self.rpn, self.roi_heads):
            for i, target in enumerate(targets):
                image = ImageList(images.tensors[i : i + 1], [images.image_sizes[i]])
                alone = {name: maps[i : i + 1] for name, maps in features.items()}
                with local_rng(generator(DRAW)):
                    proposals, of_anchors = self.rpn(image, alone, [target])
                    _, of_proposals = self.roi_heads(alone, proposals, image.image_sizes, [target])
                losses.append(cast(Tensor, sum((*of_anchors.values(), *of_proposals.values()))))
        return torch.stack(losses)


@contextmanager
def _learning(losses: bool, *parts: nn.Module) -> Iterator[None]:
    """Whether parts give losses or detections. They read it from their mode; layers inside keep theirs."""
    before = [part.training for part in parts]
    for part in parts:
        part.training = losses
    try:
        yield
    finally:
        for part, mode in zip(parts, before, strict=True):
            part.training = mode
