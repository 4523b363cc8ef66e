"""Where a propagation begins: checked features, arrays in memory or on disk, exact products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench_scalegun import kernels
from unlearnbench_scalegun.graph import Allocate, LiveGraph, Number
from unlearnbench_scalegun.kernels import Table
from unlearnbench_scalegun.pushing import Block, State

Precision = Literal["float64", "float32"]
Result = TypeVar("Result")

ROWS = 2**16
"""So many rows are read at a time, which keeps temporary arrays small."""


def mapped(folder: Path) -> Allocate:
    """Arrays of zeros in files of ``folder``, which take space as they are written."""
    numbers = count()

    def allocate(name: str, shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
        if 0 in shape:
            return np.zeros(shape, dtype)
        return np.asarray(np.memmap(folder / f"{name}-{next(numbers)}", dtype, "w+", shape=shape))

    return allocate


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="propagation")


def each(call: Callable[[Block], Result], blocks: Sequence[Block]) -> list[Result]:
    """One result per block of columns, side by side: kernels let go of the interpreter's lock."""
    if len(blocks) == 1:
        return [call(blocks[0])]
    return list(_pool(len(blocks)).map(call, blocks))


def blocks_of(x: Table, threads: int) -> tuple[Block, ...]:
    """The columns of features [n, F], shared out among threads."""
    n, columns = x.shape
    if threads < 1:
        raise UsageError("bad-parameter", f"threads is {threads}; it must be at least 1")
    ends = np.linspace(0, columns, min(threads, columns) + 1).astype(int).tolist()
    return tuple(Block(first, last, n, x.dtype) for first, last in pairwise(ends))


def refuse_infinite(values: NDArray[Any], precision: str) -> None:
    """Refuse features that are not finite numbers in this precision."""
    largest = np.finfo(precision).max
    if not all((np.abs(values[i : i + ROWS]) <= largest).all() for i in range(0, len(values), ROWS)):
        raise DataError("missing-values", f"features have entries that are not finite {precision} numbers")


def checked_features(x: ArrayLike, precision: Precision) -> NDArray[Any]:
    """Features [n, F] that are finite numbers; refused otherwise."""
    found = np.asarray(x)
    if found.ndim != 2 or not found.size or found.dtype.kind not in "fiu":
        raise DataError("bad-data", f"features must be numbers [n, F], not {found.dtype} {list(found.shape)}")
    refuse_infinite(found, precision)
    return found


def checked_weights(level_weights: Sequence[float], precision: Precision) -> tuple[float, ...]:
    """The weights, if they and the precision can be; refused otherwise."""
    if precision not in ("float64", "float32"):
        raise UsageError("bad-parameter", f"precision is {precision!r}; it is float64 or float32")
    if len(level_weights) < 2 or not np.isfinite(level_weights).all():
        raise UsageError("bad-parameter", f"{list(level_weights)} are not the finite weights of two levels or more")
    return tuple(map(float, level_weights))


def empty_state(x: NDArray[Any], levels: int, precision: Precision, allocate: Allocate) -> State:
    """The features, and nothing propagated to any level."""
    dtype: type[Any] = np.float64 if precision == "float64" else np.float32
    state = State(
        allocate("x", x.shape, dtype), allocate("share", (levels, *x.shape), dtype),
        allocate("residue", (levels, *x.shape), dtype), allocate("final", x.shape, dtype),
    )  # fmt: skip
    for i in range(0, len(x), ROWS):
        state.x[i : i + ROWS] = x[i : i + ROWS]
    return state


def sizes_per_column(x: Table) -> NDArray[np.float64]:
    """sum over nodes of |x| [F], in double precision."""
    total = np.zeros(x.shape[1])
    for i in range(0, len(x), ROWS):
        total += np.abs(x[i : i + ROWS]).sum(0, dtype=np.float64)
    return total


def _pull(share: Table, target: Table, graph: LiveGraph, divided: bool, b: Block, size: NDArray[np.float64]) -> None:
    kernels.pull(share, target, graph.offset, graph.length, graph.neighbours, divided, b.first, b.last, size)


def multiply(
    state: State, graph: LiveGraph, blocks: Sequence[Block]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fill all levels by exact products, which leave no residues.

    Returns:
        sum of sqrt(d)|x| per column [F], and how much rounding there was at each level, in units of the state's
        precision [L + 1, F].
    """
    mass = np.zeros(state.x.shape[1])
    sizes = np.zeros((state.levels + 1, state.x.shape[1]))
    each(lambda b: kernels.first_shares(state.x, state.share[0], graph.length, b.first, b.last, mass, sizes[0]), blocks)
    for level, size in enumerate(sizes[1:], 1):
        waits = level < state.levels
        source, target = state.share[level - 1], state.share[level] if waits else state.final
        each(lambda b, s=source, t=target, w=waits, z=size: _pull(s, t, graph, w, b, z), blocks)  # type: ignore[misc]
    # A sum of d numbers errs by d units of double precision times the sum of their sizes; each size is in the sums of d
    # nodes: over all nodes no more than the largest degree times the sizes of the level below.
    rounded = sizes.copy()
    rounded[1:] += state.inner * (1 + int(graph.length.max())) * sizes[:-1]
    return mass, rounded


def propagate(
    x: ArrayLike, edges: ArrayLike, level_weights: Sequence[float], precision: Precision = "float64", threads: int = 1
) -> NDArray[np.floating]:
    """sum over l of w_l P^l x [n, F], P = D^-1/2 (A + I) D^-1/2, by exact products. Sums are in double precision."""
    weights = checked_weights(level_weights, precision)
    total: Table = checked_features(x, precision).astype(precision)
    graph = LiveGraph.of(len(total), edges)
    root = np.sqrt(graph.length + 1.0)
    blocks = blocks_of(total, threads)
    share, further = np.empty_like(total), np.empty_like(total)
    unused = np.zeros((2, total.shape[1]))
    each(lambda b: kernels.first_shares(total, share, graph.length, b.first, b.last, *unused), blocks)
    total *= weights[0]
    for weight in weights[1:]:
        each(lambda b, s=share, t=further: _pull(s, t, graph, True, b, unused[0]), blocks)  # type: ignore[misc]
        share, further = further, share
        for i in range(0, len(total), ROWS):
            total[i : i + ROWS] += (weight * root[i : i + ROWS])[:, None] * share[i : i + ROWS]
    return total
