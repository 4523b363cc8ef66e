"""Pickles of Planetoid's time, read without executing anything of them or of what they name.

They hold matrices in compressed rows, arrays and a dictionary of lists. Whatever else a pickle asks for is refused; for
numpy's and scipy's classes there are stand-ins that take parts in and check them.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from unlearnbench.api import DataError
from unlearnbench.api.runtime import one_line
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import Array
from unlearnbench_graphs.sparse import dense, positions_of_csr

_TYPES = frozenset({"b1", "i1", "u1", "i4", "i8", "u4", "u8", "f4", "f8"})


def read_matrix(path: Path, place: Place) -> Array:
    """The matrix [n, f] float32 of a file, sparse or not.

    Raises:
        DataError: not such a file.
    """
    found = _read(path, place)
    with one_line("corrupt-file", "is not a matrix", where=place.where, hint=place.hint):
        if isinstance(found, _Rows):
            return found.dense(place)
        matrix: Array = found.array()
        rows, columns = matrix.shape
        return matrix.astype(np.float32).reshape(rows, columns)


def read_neighbours(path: Path, place: Place) -> Array:
    """The edges [2, m] int64, as written, of a file that lists the neighbours of each node.

    Raises:
        DataError: not such a file.
    """
    found = _read(path, place)
    with one_line("corrupt-file", "does not list the neighbours of nodes", where=place.where, hint=place.hint):
        nodes = np.array(list(found.keys()), dtype=np.int64)
        neighbours = [np.array(others, dtype=np.int64).reshape(len(others)) for others in found.values()]
        first = np.repeat(nodes, [len(others) for others in neighbours])
        return np.stack([first, np.concatenate([*neighbours, np.zeros(0, dtype=np.int64)])])


def _read(path: Path, place: Place) -> Any:
    with (
        one_line("corrupt-file", "is not one of Planetoid's pickles", where=place.where, hint=place.hint),
        path.open("rb") as file,
    ):
        return _Careful(file, place).load()


class _Careful(pickle.Unpickler):
    """Knows what occurs in Planetoid's files alone."""

    def __init__(self, file: Any, place: Place) -> None:
        super().__init__(file, encoding="latin1")  # bytes of Python 2 are text of Python 3
        self._place = place

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise DataError("corrupt-file", f"is a pickle that asks for {module}.{name}, which is refused",
                            where=self._place.where, hint=self._place.hint)  # fmt: skip
        return _KNOWN[module, name]


class _Type:
    """In the place of ``numpy.dtype``."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in _TYPES:
            raise ValueError(f"numbers of type {code!r}")
        self.code, self.order = code, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = str(state[1])


class _Array:
    """In the place of ``numpy.ndarray``."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> Array:
        _, shape, kind, by_columns, content = self.state
        raw = content.encode("latin1") if isinstance(content, str) else content
        found: Array = np.frombuffer(raw, np.dtype(kind.order + kind.code))
        return found.reshape(shape, order="F" if by_columns else "C")


class _Rows:
    """In the place of ``scipy.sparse.csr_matrix``."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def dense(self, place: Place) -> Array:
        rows, columns = (int(size) for size in self.state["_shape"])
        values, indices, indptr = (self.state[name].array() for name in ("data", "indices", "indptr"))
        row, column = positions_of_csr(indptr, indices, (rows, columns), place)
        return dense(row, column, values, (rows, columns), place)


_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _Array for module in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{(module, "csr_matrix"): _Rows for module in ("scipy.sparse.csr", "scipy.sparse._csr")},
    **{(module, "list"): list for module in ("__builtin__", "builtins")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("collections", "defaultdict"): defaultdict,
}
