"""npz archives, of which nothing is executed."""

from __future__ import annotations

import shutil
import zipfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnbench.api.runtime import one_line
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import Array, mapped

NUMBERS, WHOLE = "biuf", "biu"
"""Kinds of numpy's types that are numbers, and whole ones."""


@dataclass(frozen=True)
class Npz:
    """An archive and the names of its arrays."""

    path: Path
    place: Place
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, place: Place) -> Npz:
        """Look at an archive.

        Raises:
            DataError: it is none.
        """
        with (
            one_line("corrupt-file", "is not a whole npz archive", where=place.where, hint=place.hint),
            zipfile.ZipFile(path) as archive,
        ):
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        return cls(path, place, tuple(names))

    def array(self, name: str, kinds: str, dimensions: int) -> Array:
        """An array of these kinds of type and number of dimensions.

        Raises:
            DataError: it is not there, is damaged, of another kind, or a pickle.
        """
        self._required(name)
        with self._whole(name), np.load(self.path, allow_pickle=False) as archive:
            found: Array = archive[name]
        return self._suits(found, name, kinds, dimensions)

    def mapped(self, name: str, folder: Path, kinds: str, dimensions: int) -> Array:
        """The same, unpacked into ``folder`` and memory-mapped.

        Raises:
            DataError: as ``array``.
        """
        self._required(name)
        target = folder / f"unpacked-{name}.npy"
        with self._whole(name):
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, 1 << 20)
            found = mapped(target)
        return self._suits(found, name, kinds, dimensions)

    def _required(self, name: str) -> None:
        if name not in self.names:
            raise self.place.fault(
                "missing-column", f"has no array {name!r}", hint=f"arrays: {', '.join(sorted(self.names)[:12])}"
            )

    def _whole(self, name: str) -> AbstractContextManager[None]:
        place = self.place.of(name)
        return one_line("corrupt-file", "cannot be read", where=place.where, hint=place.hint)

    def _suits(self, found: Array, name: str, kinds: str, dimensions: int) -> Array:
        if found.dtype.kind not in kinds or found.ndim != dimensions:
            wanted = f"{dimensions} dimensions of {'whole numbers' if kinds == WHOLE else 'numbers'}"
            raise self.place.of(name).fault("bad-data", f"must have {wanted}, not {found.ndim} of {found.dtype}")
        return found
