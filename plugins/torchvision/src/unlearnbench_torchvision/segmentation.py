"""torchvision's DeepLabv3 as a network of the task segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torchvision.models.segmentation import DeepLabV3, DeepLabV3_ResNet50_Weights, deeplabv3_resnet50

from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_torchvision.building import adapt, probe
from unlearnbench_torchvision.params import WeightsParams
from unlearnbench_torchvision.weights import cached_weights, start_from

NAME = "deeplabv3-resnet50"
LEFT_OUT = ("aux_classifier.",)
"""What published weights have besides: a second head for training, which the task has no output for."""


class Pixels(DeepLabV3):  # type: ignore[misc]  # torchvision is not typed
    """DeepLabv3 that answers with its logits alone; tensors are named as in torchvision's own."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes, h, w] of images [n, channels, h, w]."""
        return cast(Mapping[str, Tensor], super().forward(x))["out"]


class DeepLabV3ResNet50(Component[WeightsParams]):
    """DeepLabv3 on a ResNet-50 of stride 8 (Chen et al. 2017), without the auxiliary head; images of any size."""

    def build(self, job: BuildJob) -> nn.Module:
        channels, *_ = job.image(NAME)
        weights = DeepLabV3_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1
        path = cached_weights(weights, job, NAME) if self.p.weights == "cache" else None
        made = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=job.outputs, aux_loss=False)
        net = Pixels(made.backbone, made.classifier)
        if channels != 3:
            adapt(net, channels)
        start_from(net, path, head="classifier.4.", left_out=LEFT_OUT)
        probe(net, job, NAME, hint="set image_size of the data set", pixels=True)
        return net
