"""Classifiers of torchvision for any number of channels and classes, with random weights or those in the cache.

Layers draw their first weights from torch's global random state, which the host seeds. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import vgg

from unlearnbench.api import UsageError, did_you_mean
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_torchvision.building import adapt, he, probe, refusal
from unlearnbench_torchvision.params import (
    ArchitectureParams,
    ResNet18Params,
    ResNetParams,
    Vgg13Params,
    VggParams,
    WeightsParams,
)
from unlearnbench_torchvision.weights import cached_weights, start_from

_EXTRA: dict[str, dict[str, Any]] = {
    # Auxiliary heads return tuples while training, which no task understands.
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


_SIZE = "set image_size of the data set; it was made for 224x224"


class ResNet18(Component[ResNet18Params]):
    """ResNet-18 (He et al. 2016); images [channels, h, w] of any size."""

    def build(self, job: BuildJob) -> nn.Module:
        path = None
        if self.p.weights == "cache":
            if self.p.stem != "imagenet":
                raise UsageError(
                    "bad-model", "the published weights of resnet18 are for the stem imagenet",
                    where="resnet18.stem", hint="--set resnet18.stem=imagenet, or --set resnet18.weights=none",
                )  # fmt: skip
            path = cached_weights(models.ResNet18_Weights.IMAGENET1K_V1, job, "resnet18")
        net = _resnet(models.resnet18, job, self.p, "resnet18")
        start_from(net, path, head="fc")
        return net


class ResNet50(Component[ResNetParams]):
    """ResNet-50 (He et al. 2016); images [channels, h, w] of any size."""

    def build(self, job: BuildJob) -> nn.Module:
        return _resnet(models.resnet50, job, self.p, "resnet50")


class Vgg16(Component[VggParams]):
    """VGG-16 (Simonyan and Zisserman 2015, configuration D); any size with the cifar stem, else at least 32x32."""

    def build(self, job: BuildJob) -> nn.Module:
        channels, *_ = job.image("vgg16")
        if self.p.stem == "imagenet":
            build = models.vgg16_bn if self.p.batch_norm else models.vgg16
            net: nn.Module = build(weights=None, num_classes=job.outputs)
        else:
            net = _small_vgg(job.outputs, batch_norm=self.p.batch_norm)
        if channels != 3:
            adapt(net, channels)
        probe(net, job, "vgg16", hint="--set vgg16.stem=cifar takes images of any size")
        return net


class AlexNet(Component[WeightsParams]):
    """AlexNet (Krizhevsky et al. 2012, as in Krizhevsky 2014); images of at least 63x63."""

    def build(self, job: BuildJob) -> nn.Module:
        return _large(models.alexnet, models.AlexNet_Weights.IMAGENET1K_V1, job, "alexnet", self.p.weights)


class Vgg13(Component[Vgg13Params]):
    """VGG-13 (Simonyan and Zisserman 2015, configuration B); images of at least 32x32."""

    def build(self, job: BuildJob) -> nn.Module:
        plain, normed = models.VGG13_Weights.IMAGENET1K_V1, models.VGG13_BN_Weights.IMAGENET1K_V1
        build, weights = (models.vgg13_bn, normed) if self.p.batch_norm else (models.vgg13, plain)
        return _large(build, weights, job, "vgg13", self.p.weights)


class Architecture(Component[ArchitectureParams]):
    """Any name of ``torchvision.models.list_models(module=torchvision.models)``.

    Networks that are made for one image size (ViT, MaxViT) are made for the size of the data. Where images do not have
    3 channels, the first convolution is replaced by one that takes them (He initialisation).
    """

    def build(self, job: BuildJob) -> nn.Module:
        name = self.p.architecture
        known = models.list_models(module=models)
        if name not in known:
            hint = did_you_mean(name, known, otherwise="see torchvision.models.list_models()")
            where = "torchvision-model.architecture"
            raise UsageError("bad-parameter", f"torchvision has no classifier {name!r}", where=where, hint=hint)
        channels, *_ = job.image("torchvision-model")
        extra = dict(_EXTRA.get(name, {}))
        if name.startswith("vit_"):
            extra["image_size"] = job.inputs[1]
        elif name.startswith("maxvit_"):
            extra["input_size"] = job.inputs[1:]
        try:
            net = _instantiate(name, job.outputs, extra)
        except (ValueError, AssertionError, RuntimeError) as problem:
            raise refusal(name, job, problem, "set image_size of the data set") from problem
        if channels != 3:
            adapt(net, channels)
        probe(net, job, name, hint="set image_size of the data set")
        return net


def _instantiate(name: str, outputs: int, extra: dict[str, Any]) -> nn.Module:
    def build() -> nn.Module:
        net: nn.Module = models.get_model(name, weights=None, num_classes=outputs, **extra)
        return net

    try:
        return build()
    except NotImplementedError:
        # RegNet reads its widths from tensors, which the meta device (where stored models are restored) does not hold.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            return build().to("meta")


def _resnet(build: Callable[..., nn.Module], job: BuildJob, p: ResNetParams, name: str) -> nn.Module:
    channels, *_ = job.image(name)
    net = build(weights=None, num_classes=job.outputs)
    if p.stem == "cifar":
        net.conv1 = he(nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False))
        net.maxpool = nn.Identity()
    elif channels != 3:
        adapt(net, channels)
    return net


def _large(build: Callable[..., nn.Module], weights: Any, job: BuildJob, name: str, source: str) -> nn.Module:
    """A network for large images whose last layer is ``classifier.6``, refused before its many weights are drawn."""
    channels, *_ = job.image(name)

    def made() -> nn.Module:
        net = build(weights=None, num_classes=job.outputs)
        if channels != 3:
            adapt(net, channels)
        return net

    path = cached_weights(weights, job, name) if source == "cache" else None
    with torch.device("meta"):
        probe(made(), job, name, hint=_SIZE)
    net = made()
    start_from(net, path, head="classifier.6.")
    return net


def _small_vgg(outputs: int, *, batch_norm: bool) -> nn.Module:
    """VGG-16's convolutions, global average and one linear layer, initialised as torchvision initialises VGG."""
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=batch_norm)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            he(layer)
        elif isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # the same for sizes that 32 divides; smaller images survive five poolings
    classifier = nn.Linear(512, outputs)
    nn.init.normal_(classifier.weight, 0, 0.01)
    nn.init.zeros_(classifier.bias)
    layers = [("features", features), ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    return nn.Sequential(OrderedDict([*layers, ("classifier", classifier)]))
