"""A state that was kept: whether it is whole, fits together and belongs to its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnbench.api.errors import DataError
from unlearnbench_scalegun import adjacency
from unlearnbench_scalegun.graph import LiveGraph
from unlearnbench_scalegun.pushing import State


def _wrong(message: str) -> DataError:
    return DataError("wrong-state", message, where="propagation", hint="start again from features and edges")


def _array(tensors: Mapping[str, NDArray[Any]], name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """One array, writable; a size of -1 may be anything."""
    if name not in tensors:
        raise _wrong(f"there is no {name}")
    found = np.asarray(tensors[name])
    fits = len(found.shape) == len(shape) and all(b in (-1, a) for a, b in zip(found.shape, shape, strict=True))
    if found.dtype != dtype or not fits:
        raise _wrong(f"{name} is {found.dtype} {list(found.shape)}, not {dtype} {list(shape)}")
    return np.require(found, requirements=["C", "W"])


def kept_graph(tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> LiveGraph:
    """The graph of a state; its edges are read once more to see that they are those that ``meta`` names."""
    n = int(meta["n"])
    offset, length = _array(tensors, "offset", "int64", (n,)), _array(tensors, "length", "int32", (n,))
    capacity, neighbours = _array(tensors, "capacity", "int32", (n,)), _array(tensors, "neighbours", "int32", (-1,))
    if (
        (offset < 0).any()
        or (length < 0).any()
        or (length > capacity).any()
        or (offset + capacity > len(neighbours)).any()
    ):
        raise _wrong("rows of neighbours lie outside of their array")
    whole, total = adjacency.rows_hash(offset, length, neighbours)
    graph = LiveGraph(offset, length, capacity, neighbours, len(neighbours), int(length.sum()) // 2, int(total))
    if not whole or graph.checksum() != meta["checksum"]:
        raise _wrong("its edges are not those of the graph that it was made for")
    return graph


def kept_state(tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> tuple[State, NDArray[np.float64]]:
    """The numbers of a state, and the sums that bound its error."""
    n, columns, levels = int(meta["n"]), int(meta["features"]), len(meta["level_weights"]) - 1
    dtype = str(meta["precision"])
    shapes = {"x": (n, columns), "share": (levels, n, columns), "residue": (levels, n, columns), "final": (n, columns)}
    state = State(**{name: _array(tensors, name, dtype, shape) for name, shape in shapes.items()})
    return state, _array(tensors, "sums", "float64", (3, columns))


def checked_meta(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was kept beside the arrays, if nothing is missing."""
    missing = {"n", "features", "level_weights", "rmax", "precision", "threads", "checksum"} - set(meta)
    if missing:
        raise _wrong(f"there is no {', '.join(sorted(missing))}")
    return meta
