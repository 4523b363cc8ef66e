"""Where large arrays live: in memory, or in files that are made once and memory-mapped ever after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Room = Callable[[str, tuple[int, ...], Any], Array]
"""From a name, a shape and a type to an array to fill."""

BLOCK_BYTES = 1 << 28
"""Memory of what is computed at once where an array need not fit into memory."""


def in_memory(name: str, shape: tuple[int, ...], kind: Any) -> Array:
    """Room in memory."""
    return np.empty(shape, kind)


def on_disk(folder: Path) -> Room:
    """Room in files ``folder/NAME.npy``."""

    def room(name: str, shape: tuple[int, ...], kind: Any) -> Array:
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, shape)

    return room


def mapped(path: Path) -> Array:
    """The array of a .npy file, read when it is used; what is written to it stays in this process."""
    found: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    return found


def made_once(target: Path, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills, unless it is there: never half of it, and the first of several makers wins."""
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as staging:
            whole = Path(staging) / "whole"
            whole.mkdir()
            make(whole)
            try:
                whole.rename(target)
            except OSError:  # somebody else was faster; a folder with content is not replaced
                if not target.is_dir():
                    raise
    return target


def blocks(array: Array, axis: int = 0) -> Iterator[slice]:
    """Slices along an axis, of at most ``BLOCK_BYTES`` each."""
    total = array.shape[axis]
    step = max(1, BLOCK_BYTES * total // max(1, array.nbytes))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
