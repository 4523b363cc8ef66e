"""COCO: photographs with boxes, in one JSON file for each part; files of one's own in this format too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import DataJob, one_line, require_file
from unlearnbench_torchvision.annotated import AnnotatedImages, Marked, Part, marked_rows
from unlearnbench_torchvision.base import Arguments, unknown_value
from unlearnbench_torchvision.images import photograph
from unlearnbench_torchvision.params import CocoParams
from unlearnbench_torchvision.places import Box, Shown, below, is_below, present_files, reader, square, square_boxes


@dataclass(frozen=True)
class Listed:
    """An image of an annotation file: its name, width and height if they are told, boxes with category numbers."""

    file: str
    size: tuple[int, int] | None
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Instances:
    """An annotation file: names of categories by number and images, both in the order of their numbers."""

    categories: Mapping[int, str]
    images: tuple[Listed, ...]


class CocoDetection(AnnotatedImages[CocoParams]):
    """COCO with boxes (Lin et al. 2014): [n, m, 5] float32, corners in pixels of the square, and class.

    Rows are in the order of the images' numbers; an id is the position there, test rows counted on from training rows.
    Crowds are no objects, so they are left out.
    """

    name = "coco-detection"

    @property
    def folder(self) -> str:
        """Where annotations and images lie."""
        return self.p.folder

    @property
    def hint(self) -> str:
        """What to do when files are missing: nothing downloads them."""
        parts = " and ".join(f"{self._annotations(part)} with its images in {part}/" for part in self._names())
        return f"put {parts} into {self.folder} below the data folder"

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        return datasets.CocoDetection, ()

    def fetch(self, job: DataJob) -> None:
        """Say what to put where: torchvision reads COCO but does not download it.

        Raises:
            DataError: always.
        """
        raise DataError("not-fetchable", "torchvision cannot download COCO", where=self.folder, hint=self.hint)

    def parts(self, job: DataJob) -> tuple[Mapping[Part, Marked], tuple[str, ...]]:
        for key in ("folder", "train", "test"):
            if not is_below(path := getattr(self.p, key)):
                raise UsageError("bad-parameter", f"{path} is not below the data folder", where=f"{self.name}.{key}",
                                 hint="name a folder relative to the data folder")  # fmt: skip
        train, test = (self._instances(job, part) for part in self._names())
        if train.categories != test.categories:
            raise DataError("bad-data", "training and test rows have different categories", where=self.folder,
                            hint="both files need the same categories")  # fmt: skip
        outputs = self._kept(train.categories)
        place = {k: outputs.index(name) for k, name in train.categories.items() if name in outputs}
        parts: dict[Part, Marked] = {
            "train": self._rows(job, self.p.train, train, place, 0),
            "test": self._rows(job, self.p.test, test, place, len(train.images)),
        }
        return parts, outputs

    def _names(self) -> tuple[str, str]:
        return self.p.train, self.p.test

    def _annotations(self, part: str) -> str:
        return f"annotations/instances_{part}.json"

    def _instances(self, job: DataJob, part: str) -> Instances:
        file = f"{self.folder}/{self._annotations(part)}"
        return instances(require_file(job, file, self.hint), file)

    def _kept(self, categories: Mapping[int, str]) -> tuple[str, ...]:
        where, known = f"{self.name}.categories", list(categories.values())
        for name in self.p.categories:
            if name not in known:
                raise unknown_value(f"no category {name!r}", name, known, where)
        if len(set(self.p.categories)) < len(self.p.categories):
            raise UsageError("bad-parameter", "names a category twice", where=where, hint="name each once")
        return self.p.categories or tuple(known)

    def _rows(self, job: DataJob, part: str, found: Instances, place: Mapping[int, int], first: int) -> Marked:
        folder, source = f"{self.folder}/{part}", f"{self.folder}/{self._annotations(part)}"
        boxes: list[list[Box]] = [
            [(x1, y1, x2, y2, place[k]) for x1, y1, x2, y2, k in image.boxes if k in place] for image in found.images
        ]
        kept = [i for i, of_image in enumerate(boxes) if of_image or self.p.empty]
        if not kept:
            raise DataError("bad-data", "no image shows an object of these categories", where=source,
                            hint=f"--set {self.name}.empty=true keeps images without")  # fmt: skip
        files = [below(folder, image.file, source) for image in found.images]
        present_files(job, [files[i] for i in kept], self.hint)

        def read(position: int, size: int) -> Shown:
            i = kept[position]
            image, announced = photograph(job, files[i], self.hint), found.images[i].size
            if announced is not None and announced != image.size:
                raise DataError(
                    "bad-annotations",
                    f"has {image.width}x{image.height} pixels, not {announced[0]}x{announced[1]} as annotated",
                    where=files[i], hint="check that image and annotations belong together",
                )  # fmt: skip
            return square(image, size), square_boxes(boxes[i], image.width, image.height, size, files[i])

        return marked_rows(first + torch.tensor(kept), reader(read, boxes=True))


def instances(path: Path, where: str) -> Instances:
    """Read an annotation file; crowds are left out, and so are the outlines of objects.

    Raises:
        DataError: not such a file, or it contradicts itself.
    """
    with one_line("corrupt-file", "is not JSON", where=where, hint="unpack the annotations again"):
        # Outlines are most of COCO's 450 MB, and are let go one by one while it is read.
        found = json.loads(path.read_bytes(), object_hook=_without_outline)
    with one_line("bad-annotations", "is not an annotation file of COCO", where=where, hint="see cocodataset.org"):
        if not isinstance(found, dict):
            raise TypeError("it is no object")
        categories = {_number(one, "id"): _text(one, "name") for one in found["categories"]}
        images = {_number(one, "id"): one for one in found["images"]}
        if len(categories) < len(found["categories"]) or len(images) < len(found["images"]):
            raise ValueError("a number of an image or a category stands there twice")
        if len(set(categories.values())) < len(categories) or not images or not categories:
            raise ValueError("a name of a category stands there twice, or there are no images or categories")
        boxes: dict[int, list[Box]] = {number: [] for number in images}
        for one in found["annotations"]:
            if one.get("iscrowd", 0):
                continue
            image, category = _number(one, "image_id"), _number(one, "category_id")
            if image not in images or category not in categories:
                raise ValueError(
                    f"an annotation is of image {image}, category {category}, and one of them is not there"
                )
            boxes[image].append(_box(one["bbox"], category))
        return Instances(
            categories=dict(sorted(categories.items())),
            images=tuple(
                Listed(_text(one, "file_name"), _size(one), tuple(boxes[number]))
                for number, one in sorted(images.items())
            ),
        )


def _without_outline(found: dict[str, Any]) -> dict[str, Any]:
    found.pop("segmentation", None)
    return found


def _box(found: Any, category: int) -> Box:
    """x, y, width, height as corners."""
    if not (isinstance(found, list) and len(found) == 4 and all(type(v) in (int, float) for v in found)):
        raise TypeError(f"a box is {found!r}, not four numbers")
    x, y, width, height = (float(v) for v in found)
    return x, y, x + width, y + height, category


def _size(found: Mapping[str, Any]) -> tuple[int, int] | None:
    size = found.get("width"), found.get("height")
    if size == (None, None):
        return None
    width, height = size
    if type(width) is not int or type(height) is not int:
        raise TypeError(f"an image has the size {width!r}x{height!r}")
    return width, height


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found[key]
    if type(value) is not int:
        raise TypeError(f"{key} is {value!r}, not a whole number")
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found[key]
    if type(value) is not str:
        raise TypeError(f"{key} is {value!r}, not a text")
    return value
