"""The centre-point detector: the body of the scenes' networks with three heads of 1x1 convolutions."""

from __future__ import annotations

from math import log
from typing import cast

from torch import Tensor, fx, nn

from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench_scenes.centres import Maps, detections, log_classes, losses
from unlearnbench_scenes.networks import body, stride
from unlearnbench_scenes.plugin import BoxesParams

# One node each in a traced graph: what they compute is no layer, and shapes are not known while tracing.
fx.wrap("detections")
fx.wrap("losses")

PRIOR = 0.1
"""Probability of a centre with which a fresh network starts: else cells without one would swamp the first steps."""


class SceneBoxes(Component[BoxesParams]):
    """A detector of ``job.outputs`` classes. One more convolution is one more number in ``channels``."""

    def build(self, job: BuildJob) -> nn.Module:
        return CentrePoints(body(job, self.p, "scene-boxes"), self.p, job.outputs)


class CentrePoints(nn.Module):
    """Detects objects by their centres (Zhou, Wang and Kraehenbuehl 2019); see ``centres``.

    ``forward(x)`` gives detections [n, k, 6], ``forward(x, y)`` the losses [n] for boxes [n, m, 5], ``class_scores``
    the log-probabilities of the classes in the centre cells of boxes.
    """

    def __init__(self, body: nn.Module, p: BoxesParams, classes: int) -> None:
        super().__init__()
        self.body = body
        self.heat = nn.Conv2d(p.channels[-1], classes, 1)
        self.size = nn.Conv2d(p.channels[-1], 2, 1)
        self.offset = nn.Conv2d(p.channels[-1], 2, 1)
        nn.init.constant_(cast(nn.Parameter, self.heat.bias), -log((1 - PRIOR) / PRIOR))
        self.stride = stride(p)
        self.p = p

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        maps = self._maps(x)
        if y is None:
            return detections(maps, x.shape[2], x.shape[3], self.stride, self.p.detections)
        return losses(maps, y, self.stride, self.p.least_sigma, self.p.size_weight, self.p.offset_weight)

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        return log_classes(self.heat(self.body(x)), y, self.stride)

    def _maps(self, x: Tensor) -> Maps:
        features = self.body(x)
        return Maps(self.heat(features), self.size(features), self.offset(features))
