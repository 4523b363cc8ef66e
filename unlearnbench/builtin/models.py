"""Small networks."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn

from unlearnbench.api import NoParams, UsageError
from unlearnbench.api.runtime import BuildJob, Component
from unlearnbench.builtin.plugin import CnnParams, MlpParams


class Logistic(Component[NoParams]):
    """One linear layer on the flattened inputs."""

    def build(self, job: BuildJob) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(job.inputs), job.outputs))


class Mlp(Component[MlpParams]):
    """Linear layers with ReLU between them."""

    def build(self, job: BuildJob) -> nn.Module:
        widths = [prod(job.inputs), *self.p.hidden]
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(widths[-1], job.outputs))


class Cnn(Component[CnnParams]):
    """3x3 convolutions, each with ReLU and 2x2 max-pooling, then two linear layers."""

    def build(self, job: BuildJob) -> nn.Module:
        channels, height, width = job.image("cnn")
        layers: list[nn.Module] = []
        for out in self.p.channels:
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, height, width = out, height // 2, width // 2
        if not height or not width:
            raise UsageError(
                "bad-model", f"{len(self.p.channels)} poolings leave nothing of {job.inputs[1]}x{job.inputs[2]} pixels",
                where="$.model.params.channels", hint="name fewer channels",
            )  # fmt: skip
        features = channels * height * width
        head = [nn.Flatten(), nn.Linear(features, self.p.hidden), nn.ReLU(), nn.Linear(self.p.hidden, job.outputs)]
        return nn.Sequential(*layers, *head)
