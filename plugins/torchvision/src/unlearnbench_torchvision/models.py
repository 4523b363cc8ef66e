"""Classifiers of torchvision with random weights, for any number of channels and classes.

Layers draw their first weights from torch's global random state, which the host seeds. Nothing is ever downloaded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torchvision import models
from torchvision.models import vgg

from unlearnbench.api import UsageError, did_you_mean
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_torchvision.plugin import ArchitectureParams, ResNetParams, VggParams

_EXTRA: dict[str, dict[str, Any]] = {
    # Auxiliary heads return tuples while training, which no task understands.
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


class ResNet18(Component[ResNetParams]):
    """ResNet-18 (He et al. 2016); images [channels, h, w] of any size."""

    def build(self, job: BuildJob) -> nn.Module:
        return _resnet(models.resnet18, job, self.p, "resnet18")


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
            _adapt(net, channels)
        _probe(net, job, "vgg16", hint="--set vgg16.stem=cifar takes images of any size")
        return net


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
            raise _refusal(name, job, problem, "set image_size of the data set") from problem
        if channels != 3:
            _adapt(net, channels)
        _probe(net, job, name, hint="set image_size of the data set")
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
        net.conv1 = _he(nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False))
        net.maxpool = nn.Identity()
    elif channels != 3:
        _adapt(net, channels)
    return net


def _small_vgg(outputs: int, *, batch_norm: bool) -> nn.Module:
    """VGG-16's convolutions, global average and one linear layer, initialised as torchvision initialises VGG."""
    features = vgg.make_layers(vgg.cfgs["D"], batch_norm=batch_norm)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            _he(layer)
        elif isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # the same for sizes that 32 divides; smaller images survive five poolings
    classifier = nn.Linear(512, outputs)
    nn.init.normal_(classifier.weight, 0, 0.01)
    nn.init.zeros_(classifier.bias)
    layers = [("features", features), ("avgpool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    return nn.Sequential(OrderedDict([*layers, ("classifier", classifier)]))


def _he(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _adapt(net: nn.Module, channels: int) -> None:
    """Replace the first convolution by one of the same geometry for this number of channels."""
    name, old = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    net.set_submodule(name, _he(new))


def _probe(net: nn.Module, job: BuildJob, name: str, *, hint: str) -> None:
    """Send one row through the network on the meta device: shapes only, no arithmetic, no random draw.

    Raises:
        UsageError: the network cannot take images of this size.
    """
    tensors = {k: t.to("meta") for k, t in (*net.named_parameters(), *net.named_buffers())}
    net.eval()
    try:
        with torch.no_grad():
            out = functional_call(net, tensors, (torch.empty(1, *job.inputs, device="meta"),))
    except (RuntimeError, ValueError, AssertionError) as problem:
        raise _refusal(name, job, problem, hint) from problem
    finally:
        net.train()
    if out.shape != (1, job.outputs):
        raise _refusal(name, job, f"outputs have shape {list(out.shape)}", hint)


def _refusal(name: str, job: BuildJob, problem: object, hint: str) -> UsageError:
    size = "x".join(str(n) for n in job.inputs)
    reason = (str(problem).splitlines() or [""])[0] or type(problem).__name__
    return UsageError("bad-model", f"{name} cannot take {size} images: {reason}", where="$.model.name", hint=hint)
