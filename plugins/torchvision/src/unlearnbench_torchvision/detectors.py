"""torchvision's detectors for the number of classes and the images of a data set."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights, SSDLite320_MobileNet_V3_Large_Weights
from torchvision.ops import FrozenBatchNorm2d

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_torchvision.building import adapt
from unlearnbench_torchvision.fasterrcnn import LEVELS, FasterRcnn
from unlearnbench_torchvision.params import FasterRcnnParams, SsdLiteParams
from unlearnbench_torchvision.ssdlite import SsdLite
from unlearnbench_torchvision.weights import cached_weights, start_from

LONGEST = 1333
"""Pixels of the longer side of a resized image at most, as in torchvision's Faster R-CNN."""


class SsdLite320(Component[SsdLiteParams]):
    """SSD-lite on MobileNetV3-Large (Howard et al. 2019); images in [0, 1] of any size, which are resized."""

    def build(self, job: BuildJob) -> nn.Module:
        name = "ssdlite320-mobilenet-v3-large"
        channels, height, width = job.image(name)
        size = (height, width) if self.p.size is None else (self.p.size, self.p.size)
        weights = SSDLite320_MobileNet_V3_Large_Weights.COCO_V1
        path = cached_weights(weights, job, name) if self.p.weights == "cache" else None
        net = SsdLite(job.outputs, channels, size, self.p.detections)
        if channels != 3:
            adapt(net, channels)
        start_from(net, path, head="head.classification_head.")
        return net


class FasterRcnnResNet50(Component[FasterRcnnParams]):
    """Faster R-CNN (Ren et al. 2015) on a ResNet-50 with a feature pyramid; images in [0, 1] of any size."""

    def build(self, job: BuildJob) -> nn.Module:
        name = "fasterrcnn-resnet50-fpn"
        channels, height, width = job.image(name)
        if len(self.p.anchors) != LEVELS or min(self.p.anchors) < 1:
            raise UsageError(
                "bad-parameter", f"{list(self.p.anchors)} are not {LEVELS} sides of at least 1 pixel",
                where=f"{name}.anchors", hint=f"--set {name}.anchors='[8, 16, 32, 64, 128]'",
            )  # fmt: skip
        shorter, longer = sorted((height, width))
        sides = (shorter, longer) if self.p.min_size is None else (self.p.min_size, max(LONGEST, self.p.min_size))
        cached = self.p.weights == "cache"
        path = cached_weights(FasterRCNN_ResNet50_FPN_Weights.COCO_V1, job, name) if cached else None
        net = FasterRcnn(
            job.outputs,
            channels,
            sides,
            anchors=self.p.anchors,
            detections=self.p.detections,
            frozen=cached or self.p.norm == "frozen",
        )
        if channels != 3:
            adapt(net, channels)
        start_from(net, path, head="roi_heads.box_predictor.")
        for layer in net.modules():
            if cached and isinstance(layer, FrozenBatchNorm2d):
                layer.eps = 0.0  # these weights were trained so; torchvision sets it too
        return net
