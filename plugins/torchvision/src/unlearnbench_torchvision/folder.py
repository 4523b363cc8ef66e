"""A folder of images of one's own, labelled by its subfolders or by a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Component, DataJob, Splits, derive_seed, one_line, require_file
from unlearnbench_torchvision.images import Rows, choose, item_reader, to_splits
from unlearnbench_torchvision.params import ImageFolderParams

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SPLITS = ("train", "test")
FILE, SPLIT = "file", "split"


@dataclass(frozen=True)
class Labelled:
    """An image file (below the folder) with its label; ``split`` is empty where the folder does not say it."""

    file: str
    label: str
    split: str
    groups: tuple[str, ...] = ()


class ImageFolder(Component[ImageFolderParams]):
    """Images [n, channels, h, w] of one's own; ids are positions in the sorted files, or in the CSV file."""

    def load(self, job: DataJob) -> Splits:
        """Read labels first, then the pixels of the rows that are used.

        Raises:
            DataError: files or labels are missing or damaged, or classes do not suit.
            UsageError: a parameter is missing, or names no column.
        """
        p = self.p
        if not p.folder:
            raise UsageError("bad-parameter", "names no folder", where="image-folder.folder",
                             hint="--set image-folder.folder=my-images")  # fmt: skip
        if not (Path(job.root) / p.folder).is_dir():
            raise DataError("missing-file", "is not a folder", where=p.folder,
                            hint="it is looked for below the data folder, UNLEARNBENCH_DATA")  # fmt: skip
        listed = self._from_csv(job) if p.labels else self._from_folders(job)
        if not listed:
            raise DataError("bad-data", "has no images", where=p.folder, hint="put them in a subfolder for each class")
        outputs = tuple(_in_order({row.label for row in listed}))
        if len(outputs) < 2:
            raise DataError("one-class", f"all images are of class {outputs[0]!r}", where=p.folder,
                            hint="put images into a subfolder for each class")  # fmt: skip
        y = torch.tensor([outputs.index(row.label) for row in listed])
        train, test = self._divided(listed, y)
        missing = sorted({outputs[k] for k in y[test].unique()} - {outputs[k] for k in y[train].unique()})
        if missing:
            raise DataError("bad-data", f"no training image is of class {missing[0]!r}, but test images are",
                            where=p.folder, hint="add training images, or take the class out")  # fmt: skip
        rows = self._rows(job, listed, y)
        return to_splits(rows.at(train), rows.at(test), outputs, p, "image-folder")

    def _from_folders(self, job: DataJob) -> list[Labelled]:
        """Every image below a folder for its class, or below train and test where both are there."""
        root = Path(job.root) / self.p.folder
        if self.p.groups:
            raise UsageError("bad-parameter", "groups stand in a CSV file", where="image-folder.groups",
                             hint="name it in image-folder.labels")  # fmt: skip
        files = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        divided = all((root / split).is_dir() for split in SPLITS)
        depth = 3 if divided else 2
        found = []
        for path in files:
            if len(path.parts) < depth or (divided and path.parts[0] not in SPLITS):
                where = "train/CLASS or test/CLASS" if divided else "a subfolder for its class"
                raise DataError("bad-data", f"{path.as_posix()} is not below {where}", where=self.p.folder,
                                hint="move it, or remove it")  # fmt: skip
            found.append(Labelled(path.as_posix(), path.parts[depth - 2], path.parts[0] if divided else ""))
        return found

    def _from_csv(self, job: DataJob) -> list[Labelled]:
        p = self.p
        name = f"{p.folder}/{p.labels}"
        columns, lines = _table(require_file(job, name, "check image-folder.labels"), name)
        for column in (FILE, p.label, *p.groups):
            if column not in columns:
                raise DataError("missing-column", f"no column {column!r}", where=name,
                                hint=f"columns: {', '.join(columns)}")  # fmt: skip
        found = []
        for number, line in enumerate(lines, 2):
            empty = [c for c in (FILE, p.label, *p.groups) if not line[c]]
            if empty:
                raise DataError("missing-values", f"line {number} has no {empty[0]}", where=name, hint="fill it in")
            if SPLIT in columns and line[SPLIT] not in SPLITS:
                raise DataError("bad-data", f"line {number} has split {line[SPLIT]!r}", where=name,
                                hint="write train or test")  # fmt: skip
            path = PurePosixPath(line[FILE])
            if path.is_absolute() or ".." in path.parts:
                raise DataError("bad-data", f"line {number} names a file outside the folder", where=name,
                                hint="name files relative to the folder")  # fmt: skip
            groups = tuple(line[group] for group in p.groups)
            found.append(Labelled(path.as_posix(), line[p.label], line.get(SPLIT, ""), groups))
        return found

    def _divided(self, listed: Sequence[Labelled], y: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of training and test rows: as they are marked, else a stratified draw."""
        if listed[0].split:
            test = torch.tensor([row.split == "test" for row in listed])
        else:
            n = max(1, round(len(listed) * self.p.test_fraction))
            held = choose(y, n, derive_seed(self.p.split_seed, "split"), "image-folder.test_fraction")
            test = torch.zeros(len(listed), dtype=torch.bool).index_fill(0, held, True)
        for part, name in ((~test, "training"), (test, "test")):
            if not part.any():
                raise DataError("too-few-rows", f"has no {name} images", where=self.p.folder,
                                hint="add images, or change image-folder.test_fraction")  # fmt: skip
        return (~test).nonzero().flatten(), test.nonzero().flatten()

    def _rows(self, job: DataJob, listed: Sequence[Labelled], y: Tensor) -> Rows:
        mode = {None: None, 1: "L", 3: "RGB"}[self.p.channels]

        def read(i: int) -> Image.Image:
            name = f"{self.p.folder}/{listed[i].file}"
            with (
                one_line("corrupt-file", "cannot be decoded", where=name, hint="replace the file, or take it out"),
                Image.open(require_file(job, name, "check the name in the CSV file")) as image,
            ):
                return image.convert(mode or ("L" if image.mode in ("1", "L") else "RGB"))

        columns: dict[str, Tensor] = {}
        values: dict[str, tuple[str, ...]] = {}
        for k, group in enumerate(self.p.groups):
            values[group] = tuple(_in_order({row.groups[k] for row in listed}))
            code = {value: position for position, value in enumerate(values[group])}
            columns[group] = torch.tensor([code[row.groups[k]] for row in listed])
        return Rows(y, torch.arange(len(listed)), item_reader(read, "image-folder"), columns, values)


def _table(path: Path, name: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and lines of a CSV file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError("unreadable-file", f"is not UTF-8: {problem}", where=name, hint="save it as UTF-8") from problem
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    with one_line("unreadable-file", "is not CSV", where=name, hint="check the file, and that commas divide it"):
        lines = [line for line in reader if line]
    if not lines:
        raise DataError("unreadable-file", "is empty", where=name, hint="the first line names the columns")
    columns = [column.strip() for column in lines[0]]
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise DataError("unreadable-file", f"line {number} has {len(line)} fields, not {len(columns)}", where=name,
                            hint="check the line, and that commas divide it")  # fmt: skip
    return columns, [dict(zip(columns, (field.strip() for field in line), strict=True)) for line in lines[1:]]


def _in_order(names: set[str]) -> list[str]:
    """Names sorted, numbers by their value."""
    numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name), name) if numbers else (0, name))
