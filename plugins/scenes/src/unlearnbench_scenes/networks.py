"""Small networks for scenes: a body of 3x3 convolutions, and heads for labels and for pixels.

Layers draw their first weights from torch's global random state, which the host seeds. Convolutions have no bias, since
the BatchNorm behind them has one, and no ReLU works in place: what a convolution puts out can be looked at.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_scenes.plugin import BodyParams


class SceneLabels(Component[BodyParams]):
    """Logits [n, labels]: the body, the global maximum of each channel, a linear layer."""

    def build(self, job: BuildJob) -> nn.Module:
        return Labels(body(job, self.p, "scene-labels"), self.p.channels[-1], job.outputs)


class ScenePixels(Component[BodyParams]):
    """Logits [n, classes, h, w] of the pixels, background included in the classes."""

    def build(self, job: BuildJob) -> nn.Module:
        return Pixels(body(job, self.p, "scene-pixels"), self.p.channels[-1], job.outputs, stride(self.p))


class Labels(nn.Module):
    """Which things an image shows, wherever they are."""

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        # Not adaptive pooling, whose backward pass on a GPU is not repeatable.
        return cast(Tensor, self.head(self.body(x).amax((2, 3))))


class Pixels(nn.Module):
    """A class for each pixel: logits of the cells, enlarged between the centres of the cells (half-pixel centres)."""

    def __init__(self, body: nn.Module, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Conv2d(width, outputs, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        cells = self.head(self.body(x))
        enlarged = F.interpolate(cells, scale_factor=float(self.stride), mode="bilinear", align_corners=False)
        # Where the pools do not divide the image, the last cells reach beyond it: enlarging by the stride and cutting
        # keeps every cell where its pixels are, which enlarging to the size of the image would not.
        return enlarged[..., : x.shape[2], : x.shape[3]]


def stride(p: BodyParams) -> int:
    """Pixels between two cells of the body's output."""
    return int(2 ** len(p.pool_after))


def body(job: BuildJob, p: BodyParams, name: str) -> nn.Sequential:
    """The convolutions, each with BatchNorm and ReLU, and the pools: from [n, c, h, w] to [n, last, h', w'].

    h' and w' are h and w over the stride, rounded up: images of any size can be taken. ``name`` is who asks.

    Raises:
        UsageError: rows are no images; there is no convolution; a pool is at a place that does not exist, or twice.
    """
    before, *_ = job.image(name)
    if not p.channels or min(p.channels) < 1:
        raise UsageError(
            "bad-parameter", f"needs at least one convolution, each with a channel or more, not {list(p.channels)}",
            where=f"{name}.channels",
        )  # fmt: skip
    if not set(p.pool_after) <= set(range(1, len(p.channels) + 1)) or len(set(p.pool_after)) < len(p.pool_after):
        raise UsageError(
            "bad-parameter", f"names convolutions from 1 to {len(p.channels)}, each once, not {list(p.pool_after)}",
            where=f"{name}.pool_after",
        )  # fmt: skip
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for place, channels in enumerate(p.channels, start=1):
        layers[f"conv{place}"] = nn.Conv2d(before, channels, 3, padding=1, bias=False)
        layers[f"norm{place}"] = nn.BatchNorm2d(channels)
        layers[f"relu{place}"] = nn.ReLU()
        if place in p.pool_after:
            layers[f"pool{place}"] = nn.MaxPool2d(2, ceil_mode=True)
        before = channels
    return nn.Sequential(layers)
