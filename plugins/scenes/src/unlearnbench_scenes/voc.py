"""Pascal-VOC annotations and plain tar archives, read in memory; whoever wrote them is not trusted."""

from __future__ import annotations

import io
import math
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from unlearnbench.api import DataError
from unlearnbench.api.runtime import one_line
from unlearnbench_scenes.annotated import Array

MOST_BYTES = 2**24
"""What one member of an archive may hold."""

MOST_MEMBERS = 100_000

MOST_PIXELS = 2**24
"""What one image may hold when it is decoded."""

Box = tuple[str, float, float, float, float]
"""Class, x1, y1, x2, y2 in pixels."""


class Tar:
    """A plain tar archive: its files by name, read one by one; nothing is written and no link is followed."""

    def __init__(self, path: Path, shown: str, hint: str) -> None:
        """Look at an archive.

        Raises:
            DataError: it is none, or has too many members.
        """
        self.shown, self.hint = shown, hint
        with one_line("corrupt-file", "is not a whole tar archive", where=shown, hint=hint):
            self._archive = tarfile.open(path, "r:")  # noqa: SIM115  closed by __exit__
        self._members: dict[str, tarfile.TarInfo] = {}
        try:
            with one_line("corrupt-file", "is not a whole tar archive", where=shown, hint=hint):
                for member in self._archive:
                    if len(self._members) >= MOST_MEMBERS:
                        raise self.fault("corrupt-file", "", f"has more than {MOST_MEMBERS} members")
                    self._members[member.name.removeprefix("./")] = member
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Tar:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str) -> bytes:
        """The content of a file of the archive.

        Raises:
            DataError: it is not there, is no plain file, is too large or cut off.
        """
        member = self._members.get(name)
        if member is None or not member.isreg():
            raise DataError("missing-file", f"has no file {name}", where=self.shown, hint=self.hint)
        if member.size > MOST_BYTES:
            raise self.fault("corrupt-file", name, f"has {member.size} bytes; {MOST_BYTES} are allowed")
        with one_line("corrupt-file", "cannot be read", where=self.place(name), hint=self.hint):
            source = self._archive.extractfile(member)
            content = b"" if source is None else source.read(MOST_BYTES)
        if len(content) != member.size:
            raise self.fault("corrupt-file", name, f"ends after {len(content)} of {member.size} bytes")
        return content

    def text(self, name: str) -> str:
        """The content of a file as UTF-8.

        Raises:
            DataError: as ``read``, or it is something else.
        """
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as problem:
            raise self.fault("corrupt-file", name, "is not UTF-8") from problem

    def image(self, name: str) -> Image.Image:
        """A JPEG image, decoded, in RGB.

        Raises:
            DataError: as ``read``, or it cannot be decoded or is too large.
        """
        content = self.read(name)
        with one_line("corrupt-file", "cannot be decoded", where=self.place(name), hint=self.hint):
            image = Image.open(io.BytesIO(content), formats=["JPEG"])
            if math.prod(image.size) > MOST_PIXELS:
                raise self.fault(
                    "corrupt-file", name, f"has {image.width}x{image.height} pixels; {MOST_PIXELS} are allowed"
                )
            return image.convert("RGB")

    def place(self, name: str) -> str:
        """How an error names a file of the archive."""
        return f"{self.shown}: {name}" if name else self.shown

    def fault(self, code: str, name: str, message: str) -> DataError:
        """The error that a file of the archive, or the archive, is damaged."""
        return DataError(code, message, where=self.place(name), hint=self.hint)


def read_boxes(archive: Tar, name: str, size: tuple[int, int]) -> list[Box]:
    """Boxes of one annotation file, in its order, clipped to an image of ``size`` (width, height).

    Corners are taken as they are written, as points between 0 and the image's size. Boxes without any area are left
    out.

    Raises:
        DataError: not such a file, or boxes that cannot be of this image.
    """
    text = archive.text(name)
    # Entities can grow without bound or read other files, and annotations need none. What is searched is the text that
    # is parsed: from a str the parser takes no other encoding than the one it was decoded by.
    if "<!DOCTYPE" in text:
        raise archive.fault("corrupt-file", name, "declares a document type, which no annotation needs")
    with one_line("corrupt-file", "is not an XML document", where=archive.place(name), hint=archive.hint):
        root = ElementTree.fromstring(text)  # noqa: S314  without a document type there are no entities
    stated = tuple(_number(archive, name, root, f"size/{side}") for side in ("width", "height"))
    if stated != size:
        message = f"is of an image of {stated[0]:g}x{stated[1]:g} pixels, but it has {size[0]}x{size[1]}"
        raise archive.fault("corrupt-file", name, message)
    found = []
    for thing in root.iter("object"):
        label = (thing.findtext("name") or "").strip()
        x1, y1, x2, y2 = (_number(archive, name, thing, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
        if x2 < x1 or y2 < y1 or x1 > size[0] or y1 > size[1] or x2 < 0 or y2 < 0:
            message = f"the box ({x1:g}, {y1:g}, {x2:g}, {y2:g}) cannot be of an image of {size[0]}x{size[1]} pixels"
            raise DataError("bad-annotations", message, where=archive.place(name), hint=archive.hint)
        left, top, right, bottom = max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))
        if left < right and top < bottom:
            found.append((label, left, top, right, bottom))
    return found


def _number(archive: Tar, name: str, node: ElementTree.Element, path: str) -> float:
    text = node.findtext(path)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise archive.fault("corrupt-file", name, f"{path} is {text!r}, not a number")
    return value


def pixels(image: Image.Image, width: int, height: int) -> Array:
    """An RGB image resized (bilinear) to [3, height, width] float32 in [0, 1]."""
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32).transpose(2, 0, 1) / 255
