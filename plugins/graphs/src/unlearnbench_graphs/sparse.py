"""Sparse matrices in parts, as files hold them."""

from __future__ import annotations

import numpy as np

from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import Array


def positions_of_csr(indptr: Array, indices: Array, shape: tuple[int, int], place: Place) -> tuple[Array, Array]:
    """Row and column [k] of each entry of a matrix in compressed rows.

    Raises:
        DataError: the parts do not belong together.
    """
    if indptr.shape != (shape[0] + 1,) or indptr[0] != 0 or indptr[-1] != len(indices) or (np.diff(indptr) < 0).any():
        raise place.fault("corrupt-file", f"is no matrix of {shape[0]} compressed rows")
    return np.repeat(np.arange(shape[0]), np.diff(indptr)), indices


def dense(row: Array, column: Array, values: Array, shape: tuple[int, int], place: Place) -> Array:
    """The matrix [shape] float32 with these entries [k] and 0 elsewhere.

    Raises:
        DataError: a position outside of it, or twice.
    """
    if not row.shape == column.shape == values.shape == (values.size,):
        raise place.fault("bad-data", f"has {row.size} rows and {column.size} columns for {values.size} values")
    for name, at, size in (("row", row, shape[0]), ("column", column, shape[1])):
        outside = (at < 0) | (at >= size)
        if outside.any():
            raise place.fault("bad-data", f"names {name} {int(at[outside.argmax()])} of {size}")
    flat = row.astype(np.int64) * shape[1] + column
    if len(np.unique(flat)) < len(flat):
        raise place.fault("bad-data", "has a feature of a node more than once")
    found = np.zeros(shape[0] * shape[1], dtype=np.float32)
    with np.errstate(over="ignore"):
        found[flat] = values
    return found.reshape(shape)
