"""Pascal VOC: photographs with masks or boxes of 20 kinds of objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar
from xml.etree import ElementTree as ET

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from unlearnbench.api import DataError
from unlearnbench.api.runtime import MISSING, DataJob, one_line, require_file
from unlearnbench_torchvision.annotated import AnnotatedImages, Marked, Part, marked_rows
from unlearnbench_torchvision.base import Arguments
from unlearnbench_torchvision.images import photograph
from unlearnbench_torchvision.params import VocDetectionParams, VocParams
from unlearnbench_torchvision.places import (
    Box,
    Shown,
    below,
    present_files,
    reader,
    square,
    square_boxes,
    square_mask,
)

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The kinds of objects; in masks they count from 1."""
_BORDER = 255
"""Id of the pixels around objects and of what is too hard to tell."""

V = TypeVar("V", bound=VocParams, covariant=True)


class _Voc(AnnotatedImages[V]):
    """The rows of ``ImageSets/<listing>/train.txt``, those of ``val.txt`` for testing; both data sets share files."""

    origin: ClassVar[type[datasets.VOCSegmentation | datasets.VOCDetection]]
    listing: ClassVar[str]
    boxes: ClassVar[bool]
    outputs: ClassVar[tuple[str, ...]]

    @property
    def folder(self) -> str:
        """torchvision's root, the same for masks and boxes."""
        return "voc"

    @property
    def home(self) -> str:
        """Where torchvision unpacks the images of the year."""
        return f"{self.folder}/VOCdevkit/VOC{self.p.year}"

    def source(self) -> tuple[type[Any], tuple[Arguments, ...]]:
        # One archive has all image sets.
        return self.origin, ({"year": str(self.p.year), "image_set": "train"},)

    def parts(self, job: DataJob) -> tuple[Mapping[Part, Marked], tuple[str, ...]]:
        train, test = self._listed(job, "train"), self._listed(job, "val")
        both = sorted(set(train) & set(test))
        if both:
            raise DataError("bad-data", f"{both[0]} is both in train.txt and in val.txt", where=self.home,
                            hint=self.hint)  # fmt: skip
        names = [*train, *test]
        present_files(job, [file for name in names for file in self._files(name)], self.hint)

        def rows(first: int, n: int) -> Marked:
            read = reader(lambda i, size: self._read(job, names[first + i], size), boxes=self.boxes)
            return marked_rows(first + torch.arange(n), read)

        return {"train": rows(0, len(train)), "test": rows(len(train), len(test))}, self.outputs

    def _listed(self, job: DataJob, part: str) -> list[str]:
        file = f"{self.home}/ImageSets/{self.listing}/{part}.txt"
        with one_line("corrupt-file", "cannot be read", where=file, hint=self.hint):
            names = require_file(job, file, self.hint).read_text(encoding="ascii").split()
        if not names or len(set(names)) < len(names):
            raise DataError("bad-data", "has no rows, or one twice", where=file, hint=self.hint)
        for name in names:
            below(self.home, name, file)
        return names

    def _files(self, name: str) -> tuple[str, str]:
        """An image, and what holds its annotations."""
        return f"{self.home}/JPEGImages/{name}.jpg", f"{self.home}/{self._annotations(name)}"

    @abstractmethod
    def _annotations(self, name: str) -> str: ...

    @abstractmethod
    def _read(self, job: DataJob, name: str, size: int) -> Shown: ...


class VocSegmentation(_Voc[VocParams]):
    """Pascal VOC with a class for every pixel (Everingham et al. 2010).

    Masks [n, size, size] int64: 0 is background, 1 to 20 the objects, missing where they are 255: the borders of
    objects.
    """

    name = "voc-segmentation"
    origin = datasets.VOCSegmentation
    listing = "Segmentation"
    boxes = False
    outputs = ("background", *CLASSES)

    def _annotations(self, name: str) -> str:
        return f"SegmentationClass/{name}.png"

    def _read(self, job: DataJob, name: str, size: int) -> Shown:
        file, mask_file = self._files(name)
        image = photograph(job, file, self.hint)
        ids = self._ids(job, mask_file)
        if (ids.shape[1], ids.shape[0]) != image.size:
            raise DataError(
                "bad-annotations",
                f"has {ids.shape[1]}x{ids.shape[0]} pixels, and its image {image.width}x{image.height}",
                where=mask_file, hint=self.hint,
            )  # fmt: skip
        classes = square_mask(ids, size).long()
        return square(image, size), classes.masked_fill(classes == _BORDER, MISSING)

    def _ids(self, job: DataJob, file: str) -> Tensor:
        with (
            one_line("corrupt-file", "cannot be decoded", where=file, hint=self.hint),
            Image.open(require_file(job, file, self.hint)) as mask,
        ):
            if mask.mode != "P":  # decoded to colours or greys, ids would be other numbers
                raise DataError("bad-annotations", f"is of mode {mask.mode}, not a palette image", where=file,
                                hint="masks are PNG files whose palette indices are the ids")  # fmt: skip
            ids = torch.from_numpy(np.array(mask))
        wrong = ids[(ids > len(CLASSES)) & (ids != _BORDER)]
        if len(wrong):
            raise DataError("bad-annotations", f"a pixel has the id {int(wrong[0])}, not 0 to 20 or 255", where=file,
                            hint=self.hint)  # fmt: skip
        return ids


class VocDetection(_Voc[VocDetectionParams]):
    """Pascal VOC with boxes (Everingham et al. 2010): [n, m, 5] float32, corners in pixels of the square, and class.

    VOC counts pixels from 1 and the last one belongs to the box, so its x1 - 1 and x2 are the corners here.
    """

    name = "voc-detection"
    origin = datasets.VOCDetection
    listing = "Main"
    boxes = True
    outputs = CLASSES

    def _annotations(self, name: str) -> str:
        return f"Annotations/{name}.xml"

    def _read(self, job: DataJob, name: str, size: int) -> Shown:
        file, xml = self._files(name)
        image = photograph(job, file, self.hint)
        content = require_file(job, xml, self.hint).read_bytes()
        found = boxes_of(content, xml, difficult=self.p.difficult)
        return square(image, size), square_boxes(found, image.width, image.height, size, xml)


class _NoDoctype(ET.TreeBuilder):
    """Refuses what VOC's files never have and what entities, and with them attacks, would need."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which annotations do not need")


def boxes_of(content: bytes, where: str, *, difficult: bool) -> list[Box]:
    """The objects of an annotation in VOC's XML; parts of objects (heads, hands) are none.

    Raises:
        DataError: not such a file, or an object without a box or of an unknown class.
    """
    with one_line("corrupt-file", "is not an annotation of VOC", where=where, hint="unpack the archive again"):
        parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314  entities need a DOCTYPE, which is refused
        parser.feed(content)
        tree: ET.Element = parser.close()
        if tree.tag != "annotation":
            raise ValueError(f"its root is {tree.tag}")
    return [_box(thing, where) for thing in tree.findall("object") if difficult or not _is_difficult(thing, where)]


def _is_difficult(thing: ET.Element, where: str) -> bool:
    text = thing.findtext("difficult", "0").strip()
    if text not in ("0", "1"):
        raise DataError("bad-annotations", f"difficult is {text!r}, neither 0 nor 1", where=where, hint="mend it")
    return text == "1"


def _box(thing: ET.Element, where: str) -> Box:
    name = thing.findtext("name", "").strip()
    if name not in CLASSES:
        raise DataError(
            "bad-annotations", f"no class {name!r} in VOC", where=where, hint=f"it has {', '.join(CLASSES)}"
        )
    with one_line("bad-annotations", f"a {name} has no box of four numbers", where=where, hint="mend this object"):
        x1, y1, x2, y2 = (float(thing.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2, CLASSES.index(name)
