"""Annotations that say where something is: squares of images, and masks and boxes scaled along with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path, PurePosixPath

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob, padded_boxes
from unlearnbench_torchvision.annotated import Read

Shown = tuple[Tensor, Tensor]
"""One square image, uint8 [3, size, size], and its annotation."""
Box = tuple[float, float, float, float, int]
"""Corners x1 y1 x2 y2 in pixels of the image as it is stored, counted from 0, and a class."""


def square(image: Image.Image, size: int) -> Tensor:
    """A colour image as uint8 [3, size, size], bilinear and antialiased; its proportions are not kept."""
    pixels: Tensor = tvf.resize(tvf.pil_to_tensor(image), [size, size], antialias=True)
    return pixels


def square_mask(mask: Tensor, size: int) -> Tensor:
    """Ids [h, w] as [size, size]: of the pixel under the centre of each new one, so that ids never mix."""
    scaled: Tensor = tvf.resize(mask[None], [size, size], interpolation=InterpolationMode.NEAREST_EXACT)
    return scaled[0]


def square_boxes(boxes: Sequence[Box], width: int, height: int, size: int, where: str) -> Tensor:
    """Boxes of an image of width x height as [k, 5] float32 for its square: clipped; those without area left out.

    Raises:
        DataError: a box is turned around, is not finite, or lies wholly beside the image.
    """
    for x1, y1, x2, y2, _ in boxes:
        shown = f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g})"
        if not all(map(isfinite, (x1, y1, x2, y2))) or x2 < x1 or y2 < y1:
            raise DataError("bad-annotations", f"{shown} has no corners x1 <= x2, y1 <= y2", where=where,
                            hint="mend or leave out this box")  # fmt: skip
        if x2 < 0 or y2 < 0 or x1 > width or y1 > height:
            raise DataError("bad-annotations", f"{shown} lies beside its image of {width}x{height} pixels", where=where,
                            hint="check that image and annotations belong together")  # fmt: skip
    table = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 5)
    scale = torch.tensor([size / width, size / height, size / width, size / height], dtype=torch.float64)
    # Clipped after scaling, in the precision that is handed over: rounding must not push a corner out of the image.
    corners = (table[:, :4] * scale).float().clamp(0, size)
    visible = (corners[:, 0] < corners[:, 2]) & (corners[:, 1] < corners[:, 3])
    return torch.cat([corners, table[:, 4:].float()], 1)[visible]


def reader(read: Callable[[int, int], Shown], *, boxes: bool) -> Read:
    """Reads rows one by one with ``read(position, size)``; boxes are padded, masks stacked."""

    def rows(index: Tensor, size: int | None) -> tuple[Tensor, Tensor]:
        assert size is not None  # these data sets have no images of one size, so their parameter is no option
        images = torch.empty((len(index), 3, size, size), dtype=torch.uint8)
        annotations = []
        for row, i in enumerate(index.tolist()):
            images[row], found = read(i, size)
            annotations.append(found)
        return images, padded_boxes(annotations) if boxes else torch.stack(annotations)

    return rows


def present_files(job: DataJob, names: Sequence[str], hint: str) -> None:
    """Check that files are there, before minutes are spent on reading the first of them.

    Raises:
        DataError: one is missing; its name is the place.
    """
    for name in names:
        if not (Path(job.root) / name).is_file():
            raise DataError("missing-file", "is not there", where=name, hint=hint)


def is_below(name: str) -> bool:
    """Whether a path, relative to a folder, stays below this folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & set(name)


def below(folder: str, name: str, where: str) -> str:
    """The path of a file that a list names, which must lie below its folder.

    Raises:
        DataError: it does not.
    """
    if not is_below(name):
        raise DataError("bad-data", f"names a file outside its folder: {name!r}", where=where,
                        hint="names are relative to the folder of images")  # fmt: skip
    return f"{folder}/{PurePosixPath(name)}"
