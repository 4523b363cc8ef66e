"""Scenes before anybody asks for a task: images, and to which item each pixel belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnbench.api.runtime import Data, Splits
from unlearnbench_scenes.plugin import SceneTask

Array = np.ndarray[Any, np.dtype[Any]]

FIRST_TEST_ID = 10**9
"""Id of the first test scene, so that ids of test scenes do not depend on how many training scenes there are."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes of up to m items. Labels, masks and boxes are all taken from what is visible, so they always agree.

    ``x`` [n, 3, h, w] float32 in [0, 1]. ``items`` [n, h, w] uint8 says which item each pixel shows: 0 background, k
    the k-th item. ``classes`` [n, m] int64 are the items' classes, counted from 0; what stands at an item without a
    visible pixel has no meaning.
    """

    x: Array
    items: Array
    classes: Array

    def labels(self, classes: int) -> Tensor:
        """Which classes are visible [n, classes] float32, 0 or 1."""
        boxes = self.boxes()
        found = torch.zeros(len(self.x), classes)
        row, place = (~boxes[..., 4].isnan()).nonzero(as_tuple=True)
        found[row, boxes[row, place, 4].long()] = 1
        return found

    def masks(self) -> Tensor:
        """Class of each pixel [n, h, w] int64: 0 background, k + 1 an item of class k."""
        known = np.concatenate([np.zeros((len(self.classes), 1), np.int64), self.classes + 1], 1)
        return torch.from_numpy(known[np.arange(len(known))[:, None, None], self.items])

    def boxes(self) -> Tensor:
        """Bounds of what is visible of each item [n, m, 5] float32: x1 y1 x2 y2 in pixels, class; NaN behind them."""
        _, height, width = self.items.shape
        found = np.full((*self.classes.shape, 5), np.nan, np.float32)
        for k in range(self.classes.shape[1]):
            shown = self.items == k + 1
            columns, rows = shown.any(1), shown.any(2)
            bounds = [
                columns.argmax(1),
                rows.argmax(1),
                width - columns[:, ::-1].argmax(1),
                height - rows[:, ::-1].argmax(1),
            ]
            there = columns.any(1)
            found[there, k] = np.stack([*bounds, self.classes[:, k]], 1)[there]
        first = np.isnan(found[..., 4]).argsort(1, kind="stable")
        return torch.from_numpy(np.take_along_axis(found, first[..., None], 1))

    def annotations(self, task: SceneTask, classes: int) -> Tensor:
        """What a task learns from."""
        if task == "multi-label":
            return self.labels(classes)
        return self.masks() if task == "segmentation" else self.boxes()


def output_names(task: SceneTask, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the outputs; those of pixels begin with the background."""
    return ("background", *names) if task == "segmentation" else names


def as_splits(train: Scenes, test: Scenes, task: SceneTask, names: tuple[str, ...]) -> Splits:
    """Both sets of scenes with the annotations of a task; the same images in each task."""

    def part(scenes: Scenes, first: int) -> Data:
        return Data(
            x=torch.from_numpy(scenes.x),
            y=scenes.annotations(task, len(names)),
            ids=first + torch.arange(len(scenes.x)),
            outputs=output_names(task, names),
        )

    return Splits(train=part(train, 0), test=part(test, FIRST_TEST_ID))
