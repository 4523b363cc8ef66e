"""Cell nuclei: what lies inside one, what on its border, and what is background."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unlearnbench.api import DataError
from unlearnbench.api.runtime import Component, Data, DataJob, Splits, derive_seed, one_line, require_file
from unlearnbench_scenes.annotated import Array
from unlearnbench_scenes.plugin import NucleiParams
from unlearnbench_scenes.voc import pixels

OUTPUTS = ("background", "interior", "border")

FILE = "nuclei/nuclei256.npz"
HINT = "it holds images [n, h, w, 3] uint8 and instances [n, h, w] of whole numbers (BBBC038), 0 where no nucleus is"

MOST_BYTES = 2**30
"""What the archive may hold when it is unpacked."""


class Nuclei(Component[NucleiParams]):
    """Images of the 2018 Data Science Bowl (Caicedo et al. 2019, BBBC038) with the outlines of their nuclei.

    Inputs are [n, 3, size, size] float32 in [0, 1] (bilinear), masks [n, size, size] int64 (nearest): 0 background, 1
    interior, 2 border. The border is what lies within ``border`` pixels of the original image from anything else, be it
    background or another nucleus; the edge of the image is no edge of a nucleus. Which images are kept for testing is
    drawn from ``split_seed``; ids are positions in the file.
    """

    def load(self, job: DataJob) -> Splits:
        images, instances = _read(require_file(job, FILE, HINT))
        n = len(images)
        tested = min(max(1, round(self.p.test_fraction * n)), n - 1)
        order = np.random.default_rng(derive_seed(self.p.split_seed, "nuclei", "split")).permutation(n)
        size = self.p.size
        x = np.stack([pixels(Image.fromarray(image), size, size) for image in images])
        y = np.stack([_resized(regions(found, self.p.border), size) for found in instances])

        def part(rows: Array) -> Data:
            ids = torch.from_numpy(np.sort(rows))
            return Data(x=torch.from_numpy(x)[ids], y=torch.from_numpy(y)[ids].long(), ids=ids, outputs=OUTPUTS)

        return Splits(train=part(order[tested:]), test=part(order[:tested]))


def regions(instances: Array, border: int) -> Array:
    """Background 0, interior 1 and border 2 [h, w] uint8 of a map [h, w] that numbers the nuclei from 1.

    A pixel of a nucleus is on its border if a pixel that is not of it lies at most ``border`` away (Euclidean): the
    erosion of each nucleus by a disc, for all of them at once, since each of the disc's steps compares the map with
    itself moved.
    """
    height, width = instances.shape
    near = np.zeros(instances.shape, bool)
    for down in range(min(border, height - 1) + 1):
        for right in range(-min(border, width - 1), min(border, width - 1) + 1):
            if (down, right) <= (0, 0) or down**2 + right**2 > border**2:
                continue  # one of each two opposite steps is enough: a difference holds for both of its pixels
            here = slice(height - down), slice(max(0, -right), width - max(0, right))
            there = slice(down, height), slice(max(0, right), width - max(0, -right))
            differs = instances[here] != instances[there]
            near[here] |= differs
            near[there] |= differs
    return np.where(instances == 0, 0, np.where(near, 2, 1)).astype(np.uint8)


def _resized(mask: Array, size: int) -> Array:
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def _read(path: Path) -> tuple[Array, Array]:
    """Images and instances of the archive; no pickle is read, and nothing that unpacks without bound."""
    with one_line("corrupt-file", "cannot be read as an npz archive", where=FILE, hint=HINT):
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member.file_size for member in archive.infolist()}
        missing = [name for name in ("images", "instances") if f"{name}.npy" not in members]
        if missing:
            raise DataError("missing-column", f"has no array {missing[0]!r}", where=FILE, hint=HINT)
        if sum(members.values()) > MOST_BYTES:
            raise DataError("corrupt-file", f"unpacks to more than {MOST_BYTES} bytes", where=FILE, hint=HINT)
        with np.load(path, allow_pickle=False) as arrays:
            images, instances = arrays["images"], arrays["instances"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
        raise DataError("bad-data", f"images are {images.dtype} {list(images.shape)}", where=FILE, hint=HINT)
    if instances.dtype.kind not in "iu" or instances.shape != images.shape[:3]:
        message = f"instances are {instances.dtype} {list(instances.shape)} for images {list(images.shape)}"
        raise DataError("bad-data", message, where=FILE, hint=HINT)
    if len(images) < 2 or int(instances.min()) < 0:
        raise DataError("bad-data", "has fewer than two images, or negative numbers of nuclei", where=FILE, hint=HINT)
    return images, instances
