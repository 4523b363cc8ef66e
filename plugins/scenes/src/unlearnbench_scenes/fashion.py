"""Scenes of Fashion-MNIST's items on colour canvases."""

from __future__ import annotations

import numpy as np

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Component, DataJob, Splits, derive_seed
from unlearnbench_scenes.annotated import Array, Scenes, as_splits
from unlearnbench_scenes.composing import MASK_ABOVE, compose
from unlearnbench_scenes.idx import read_idx
from unlearnbench_scenes.plugin import FashionScenesParams

FOLDER = "fashion-mnist/FashionMNIST/raw"
HINT = "fetch it by `unlearnbench data fetch fashion-mnist` (of the torchvision plugin)"

CLASSES = {"tshirt": 0, "trouser": 1, "sneaker": 7, "bag": 8, "boot": 9}
"""Names of the targets and their classes in Fashion-MNIST."""

SIDE = 28
"""Height and width of Fashion-MNIST's images."""

LEAST_PIXELS = 16
"""Bright pixels without which an image is no item: some are nearly black."""


class FashionScenes(Component[FashionScenesParams]):
    """One to four items of Fashion-MNIST (Xiao, Rasul, Vollgraf 2017) on a dim canvas, each tinted in a bright colour.

    Inputs are [n, 3, size, size] float32 in [0, 1]. Items of training scenes are training images, those of test scenes
    test images. Classes may stand twice in a scene. Labels, masks and boxes are those of what is visible.

    Files: the four idx files of Fashion-MNIST, packed or not, where torchvision's data set keeps them.
    """

    def load(self, job: DataJob) -> Splits:
        splits = (
            self._scenes(job, "train", "train", self.p.train_rows),
            self._scenes(job, "test", "t10k", self.p.test_rows),
        )
        return as_splits(*splits, self.p.task, tuple(CLASSES))

    def _scenes(self, job: DataJob, split: str, part: str, n: int) -> Scenes:
        rng = np.random.default_rng(derive_seed(self.p.seed, "fashion-scenes", split))
        return compose(_stock(job, part), n, self.p.size, rng)


def _stock(job: DataJob, part: str) -> list[Array]:
    """Images [k, 28, 28] uint8 of each class, in the order of the targets."""
    images, where = read_idx(job, f"{FOLDER}/{part}-images-idx3-ubyte", 3, HINT)
    labels, where_labels = read_idx(job, f"{FOLDER}/{part}-labels-idx1-ubyte", 1, HINT)
    if len(images) != len(labels):
        message = f"has {len(labels)} labels for {len(images)} images"
        raise DataError("corrupt-file", message, where=where_labels, hint=HINT)
    if images.shape[1:] != (SIDE, SIDE):
        message = f"has images of {images.shape[1]}x{images.shape[2]} pixels, not {SIDE}x{SIDE}"
        raise DataError("corrupt-file", message, where=where, hint=HINT)
    items = (images > MASK_ABOVE).sum((1, 2)) >= LEAST_PIXELS
    stock = [images[(labels == label) & items] for label in CLASSES.values()]
    missing = [name for name, found in zip(CLASSES, stock, strict=True) if not len(found)]
    if missing:
        raise DataError("bad-data", f"has no image of {', '.join(missing)}", where=where_labels, hint=HINT)
    return stock
