"""Images as tensors: from arrays at once, from files one by one; rows chosen, sizes and numbers made equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Data, DataJob, Splits, derive_seed, generator, one_line, require_file
from unlearnbench_torchvision.params import ImageParams

_RESIZE_ROWS = 2048


@dataclass(frozen=True)
class Rows:
    """Rows of one split before any is decoded.

    ``labels`` [n] int64; ``ids`` [n] int64; ``pixels(positions, size)`` gives uint8 images [m, channels, h, w].
    """

    labels: Tensor
    ids: Tensor
    pixels: Callable[[Tensor, int | None], Tensor]
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def at(self, index: Tensor) -> Rows:
        """The rows at these positions."""
        return Rows(
            self.labels[index],
            self.ids[index],
            lambda positions, size: self.pixels(index[positions], size),
            {k: v[index] for k, v in self.columns.items()},
            self.values,
        )


def to_splits(train: Rows, test: Rows, outputs: tuple[str, ...], p: ImageParams, name: str) -> Splits:
    """Draw rows, read their pixels, and scale them to numbers with statistics of the training rows alone."""
    for rows in (train, test):
        if len(rows.labels) and not 0 <= int(rows.labels.min()) <= int(rows.labels.max()) < len(outputs):
            raise DataError("bad-labels", f"has classes outside 0..{len(outputs) - 1}", where=name)
    train = train.at(choose(train.labels, p.rows, derive_seed(p.split_seed, name, "train"), f"{name}.rows"))
    test = test.at(choose(test.labels, p.test_rows, derive_seed(p.split_seed, name, "test"), f"{name}.test_rows"))
    bytes_train, bytes_test = (rows.pixels(torch.arange(len(rows.labels)), p.image_size) for rows in (train, test))
    if bytes_train.shape[2:] != bytes_test.shape[2:]:
        raise DataError(
            "bad-data", "training and test images differ in size", where=name, hint=f"--set {name}.image_size=64"
        )
    channels = max(bytes_train.shape[1], bytes_test.shape[1])  # grey rows of a data set that also has colour
    bytes_train, bytes_test = (x.expand(-1, channels, -1, -1) for x in (bytes_train, bytes_test))
    statistics = channel_statistics(bytes_train) if p.normalise else None

    def data(rows: Rows, pixels: Tensor) -> Data:
        x = as_numbers(pixels, statistics)
        return Data(x=x, y=rows.labels, ids=rows.ids, outputs=outputs, columns=rows.columns, values=rows.values)

    return Splits(train=data(train, bytes_train), test=data(test, bytes_test))


def choose(labels: Tensor, n: int | None, seed: int, where: str) -> Tensor:
    """Positions [n] of a stratified draw, sorted; None takes every row.

    Each class gets its share of ``n`` (largest remainders, ties to the lower class). Each class is shuffled once, so
    where a larger draw with the same seed takes more rows of a class, the rows of the smaller one are among them.

    Raises:
        DataError: there are fewer rows than asked for.
    """
    total = len(labels)
    if n is None:
        return torch.arange(total)
    if n > total:
        raise DataError("too-few-rows", f"asks for {n} of {total} rows", where=where)
    counts = labels.bincount()
    shares = counts * n  # exact: in units of 1/total
    quota = shares // total
    left = n - int(quota.sum())
    quota[(shares % total).argsort(descending=True, stable=True)[:left]] += 1
    rng = generator(seed)
    drawn = []
    for k, take in enumerate(quota.tolist()):
        of_class = (labels == k).nonzero().flatten()
        drawn.append(of_class[torch.randperm(len(of_class), generator=rng)[:take]])
    return torch.cat(drawn).sort().values


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [channels] of uint8 images scaled to [0, 1]; a constant channel has deviation 1.

    Computed from the histogram of each channel, so the result does not depend on the order of summation.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for c in range(images.shape[1]):
        share = images[:, c].flatten().bincount(minlength=256).double()
        share /= share.sum()
        mean = (share * levels).sum()
        deviation = (share * (levels - mean) ** 2).sum().sqrt()
        means.append(mean)
        deviations.append(deviation if deviation > 0 else torch.ones_like(deviation))
    return torch.stack(means).float(), torch.stack(deviations).float()


def as_numbers(pixels: Tensor, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
    """float32 of uint8 images [n, channels, h, w]: in [0, 1], or with these means and deviations taken out."""
    x = pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if statistics:
        mean, deviation = (s[:, None, None] for s in statistics)
        x.sub_(mean).div_(deviation)
    return x


def resize(images: Tensor, size: int | None) -> Tensor:
    """Scale the shorter side of images [..., h, w] to ``size`` (bilinear, antialiased) and cut out the middle."""
    if size is None or images.shape[-2:] == (size, size):
        return images
    scaled = tvf.resize(images, [size], antialias=True)
    cut: Tensor = tvf.center_crop(scaled, [size, size])
    return cut


def from_array(array: Any) -> Tensor | None:
    """uint8 images [n, channels, h, w] of an array that torchvision holds; None if it is not an array of images."""
    images = torch.as_tensor(array) if isinstance(array, (np.ndarray, Tensor)) else None
    if images is None or images.dtype != torch.uint8:
        return None
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images.permute(0, 3, 1, 2)
    return None


def array_reader(images: Tensor) -> Callable[[Tensor, int | None], Tensor]:
    """``Rows.pixels`` for images in memory."""

    def pixels(index: Tensor, size: int | None) -> Tensor:
        parts = [resize(images[part], size) for part in index.split(_RESIZE_ROWS)]
        return torch.cat(parts)

    return pixels


def item_reader(read: Callable[[int], Image.Image], where: str) -> Callable[[Tensor, int | None], Tensor]:
    """``Rows.pixels`` for images that are decoded one by one (about a millisecond each for small photographs)."""

    def pixels(index: Tensor, size: int | None) -> Tensor:
        found = [resize(to_tensor(read(i)), size) for i in index.tolist()]
        sizes = {tuple(image.shape[1:]) for image in found}
        if len(sizes) > 1:
            raise DataError("bad-data", "images differ in size", where=where, hint=f"--set {where}.image_size=64")
        channels = max(len(image) for image in found)
        return torch.stack([image.expand(channels, -1, -1) for image in found])

    return pixels


def photograph(job: DataJob, file: str, hint: str) -> Image.Image:
    """The image of a file in colour, decoded whole.

    Raises:
        DataError: it is missing or damaged.
    """
    with (
        one_line("corrupt-file", "cannot be decoded", where=file, hint=hint),
        Image.open(require_file(job, file, hint)) as image,
    ):
        return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 [1, h, w] of a grey or black-and-white image, [3, h, w] of any other (palettes and alpha become colour)."""
    mode = "L" if image.mode in ("1", "L") else "RGB"
    tensor: Tensor = tvf.pil_to_tensor(image if image.mode == mode else image.convert(mode))
    return tensor
