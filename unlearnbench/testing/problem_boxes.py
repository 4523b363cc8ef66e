"""The kit's boxes: squares to be found, and a detector with one cell for each pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import (
    BuildJob,
    Component,
    Data,
    DataJob,
    Splits,
    padded_boxes,
    padded_detections,
    present,
)
from unlearnbench.testing.problem_parts import OUTPUTS, TEST, TRAIN, VALIDATION, convolutions, people

SIDE = 8
FOUND = 4
"""Detections of an image."""


class Boxes(Component[NoParams]):
    """Up to two squares of three pixels, each in a channel of its class; some images are empty."""

    def load(self, job: DataJob) -> Splits:
        rng = job.rng("boxes")

        def part(n: int, first: int) -> Data:
            x = 0.2 * torch.randn(n, len(OUTPUTS), SIDE, SIDE, generator=rng)
            boxes = []
            for row in range(n):
                drawn = []
                for left in (0, 4)[: int(torch.randint(3, (1,), generator=rng))]:
                    label, top = row % 3 if left == 0 else (row + 1) % 3, int(torch.randint(5, (1,), generator=rng))
                    x[row, label, top : top + 3, left : left + 3] += 2
                    drawn.append([left, top, left + 3, top + 3, label])
                boxes.append(torch.tensor(drawn, dtype=torch.float32).reshape(-1, 5))
            y = padded_boxes([*boxes, torch.zeros(2, 5)])[:n]  # as many places in every split
            return Data(x=x, y=y, ids=torch.arange(n) + first, outputs=OUTPUTS, columns=people(n))

        return Splits(train=part(TRAIN, 100), test=part(TEST, 900), validation=part(VALIDATION, 500))


class CellDetector(nn.Module):
    """Each cell says which class has its centre there, and how far it is to the four sides of the box."""

    def __init__(self, channels: int, classes: int, depth: int = 1) -> None:
        super().__init__()
        self.classes = classes
        self.body = nn.Sequential(*convolutions(channels, depth))
        self.head = nn.Conv2d(8, classes + 4, 1)

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [n, h, w, classes] and distances to left, top, right and bottom [n, h, w, 4]."""
        out = self.head(self.body(x)).movedim(1, -1)
        return out[..., : self.classes], F.softplus(out[..., self.classes :])

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits, sides = self._cells(x)
        return self._detections(logits, sides) if y is None else self._losses(logits, sides, y)

    def _detections(self, logits: Tensor, sides: Tensor) -> Tensor:
        height, width = logits.shape[1:3]
        scores, cells = logits.sigmoid().flatten(1).topk(FOUND)
        cell, label = cells // self.classes, cells % self.classes
        across, down = cell % width + 0.5, cell // width + 0.5
        left, top, right, bottom = sides.flatten(1, 2).gather(1, cell[..., None].expand(-1, -1, 4)).unbind(-1)
        corners = [
            (across - left).clamp(0, width),
            (down - top).clamp(0, height),
            (across + right).clamp(0, width),
            (down + bottom).clamp(0, height),
        ]
        return padded_detections(list(torch.stack([*corners, scores, label.to(scores.dtype)], -1)), FOUND)

    def _losses(self, logits: Tensor, sides: Tensor, y: Tensor) -> Tensor:
        there, cell, label = self._places(y, *logits.shape[1:3])
        wanted = F.one_hot(cell * self.classes + label, logits[0].numel()) * there[..., None]
        heat = F.binary_cross_entropy_with_logits(logits.flatten(1), wanted.amax(1).to(logits.dtype), reduction="none")
        corners = y[..., :4].nan_to_num()
        across, down = cell % logits.shape[2] + 0.5, cell // logits.shape[2] + 0.5
        aims = torch.stack([across, down, -across, -down], -1) + corners * corners.new_tensor([-1, -1, 1, 1])
        found = sides.flatten(1, 2).gather(1, cell[..., None].expand(-1, -1, 4))
        return heat.mean(1) + ((found - aims).abs().mean(-1) * there).sum(1) / 10

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        logits, _ = self._cells(x)
        there, cell, _ = self._places(y, *logits.shape[1:3])
        flat = logits.log_softmax(-1).flatten(1, 2)
        return flat.gather(1, cell[..., None].expand(-1, -1, self.classes)) * there[..., None]

    def _places(self, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which places hold a box, the cell of its centre, and its class, each [n, m]."""
        there = present(y)
        known = y.nan_to_num()
        across = ((known[..., 0] + known[..., 2]) / 2).long().clamp(0, width - 1)
        down = ((known[..., 1] + known[..., 3]) / 2).long().clamp(0, height - 1)
        return there, down * width + across, known[..., 4].long()


class Detector(Component[NoParams]):
    """A convolution with BatchNorm, and a head."""

    def build(self, job: BuildJob) -> nn.Module:
        return CellDetector(job.inputs[0], job.outputs, 1)


class DeepDetector(Component[NoParams]):
    """Six convolutions with BatchNorm, and a head."""

    def build(self, job: BuildJob) -> nn.Module:
        return CellDetector(job.inputs[0], job.outputs, 6)
