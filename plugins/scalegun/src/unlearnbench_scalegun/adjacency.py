"""Kernels on rows of neighbours. A row u is ``neighbours[offset[u] : offset[u] + length[u]]``, in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnbench_scalegun.compiling import COUNTS, ENDS, FLAGS, INDEX, OFFSETS, compiled, numba

Counts = NDArray[np.int32]
Offsets = NDArray[np.int64]
Flags = NDArray[np.uint8]
Ends = NDArray[np.int64]

SHORT = 8
"""Up to so many entries of a row are looked for one by one; more are marked, and one pass finds them all."""
NOBODY = -1
"""Where a neighbour was that is forgotten."""
_uint64 = numba.uint64


@compiled(numba.boolean(ENDS, ENDS, INDEX))
def edges_fit(us: Ends, vs: Ends, n: int) -> bool:
    """Whether every edge leads from one node to another."""
    for e in range(len(us)):
        u, v = us[e], vs[e]
        if u < 0 or u >= n or v < 0 or v >= n or u == v:
            return False
    return True


@compiled(numba.void(ENDS, ENDS, COUNTS))
def count_neighbours(us: Ends, vs: Ends, length: Counts) -> None:
    """Add the number of each node's neighbours to ``length``."""
    for e in range(len(us)):
        length[us[e]] += 1
        length[vs[e]] += 1


@compiled(numba.void(ENDS, ENDS, OFFSETS, COUNTS, COUNTS))
def put_edges(us: Ends, vs: Ends, offset: Offsets, length: Counts, neighbours: Counts) -> None:
    """Append both directions of every edge to rows that have room for them."""
    for e in range(len(us)):
        u, v = us[e], vs[e]
        neighbours[offset[u] + length[u]] = v
        neighbours[offset[v] + length[v]] = u
        length[u] += 1
        length[v] += 1


@compiled(INDEX(OFFSETS, COUNTS, COUNTS, FLAGS))
def row_with_twins(offset: Offsets, length: Counts, neighbours: Counts, mark: Flags) -> int:
    """The first node that has a neighbour twice, or -1; the marks are left as they were, all zero."""
    for u in range(len(length)):
        begin, end = offset[u], offset[u] + length[u]
        twin = False
        for i in range(begin, end):
            twin |= mark[neighbours[i]] != 0
            mark[neighbours[i]] = 1
        for i in range(begin, end):
            mark[neighbours[i]] = 0
        if twin:
            return u
    return -1


@compiled(numba.uint64(INDEX, INDEX, INDEX))
def _mixed(u: int, v: int, n: int) -> Any:
    """A hash of one edge: the finaliser of splitmix64 (Steele et al. 2014) on the edge's number."""
    if u > v:
        u, v = v, u
    h = _uint64(u * n + v) + _uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> _uint64(30))) * _uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> _uint64(27))) * _uint64(0x94D049BB133111EB)
    return h ^ (h >> _uint64(31))


@compiled(numba.uint64(ENDS, ENDS, INDEX))
def edges_hash(us: Ends, vs: Ends, n: int) -> Any:
    """The sum modulo 2^64 of the edges' hashes: the same in every order, and cheap to keep up to date."""
    total = _uint64(0)
    for e in range(len(us)):
        total += _mixed(us[e], vs[e], n)
    return total


@compiled(numba.types.Tuple((numba.boolean, numba.uint64))(OFFSETS, COUNTS, COUNTS))
def rows_hash(offset: Offsets, length: Counts, neighbours: Counts) -> Any:
    """Whether rows hold each edge in both directions (as far as hashes can tell), and the edges' hash."""
    n = len(length)
    up, down = _uint64(0), _uint64(0)
    for u in range(n):
        for i in range(offset[u], offset[u] + length[u]):
            v = neighbours[i]
            if v < 0 or v >= n or v == u:
                return False, up
            if u < v:
                up += _mixed(u, v, n)
            else:
                down += _mixed(u, v, n)
    return up == down, up


@compiled(INDEX(COUNTS, INDEX, INDEX, INDEX))
def _place(neighbours: Counts, begin: int, end: int, wanted: int) -> int:
    """Where a neighbour stands in its row, or -1. Blocks are compared as a whole, which the compiler vectorises."""
    block = 64
    i = begin
    while i + block <= end:
        found = 0
        for k in range(i, i + block):
            found += neighbours[k] == wanted
        if found:
            break
        i += block
    for k in range(i, min(i + block, end)):
        if neighbours[k] == wanted:
            return k
    return -1


@compiled(numba.void(COUNTS, COUNTS, OFFSETS, COUNTS, COUNTS, FLAGS, FLAGS))
def are_there(
    sources: Counts, ends: Counts, offset: Offsets, length: Counts, neighbours: Counts, mark: Flags, there: Flags
) -> None:
    """Set ``there[i]`` to whether ``ends[i]`` is a neighbour of ``sources[i]``; equal sources stand together."""
    first = 0
    while first < len(sources):
        u = sources[first]
        last = first
        while last < len(sources) and sources[last] == u:
            last += 1
        begin, end = offset[u], offset[u] + length[u]
        if last - first <= SHORT:
            for i in range(first, last):
                there[i] = _place(neighbours, begin, end, ends[i]) >= 0
        else:
            for i in range(first, last):
                mark[ends[i]] = 1
            for k in range(begin, end):
                if mark[neighbours[k]]:
                    mark[neighbours[k]] = 2
            for i in range(first, last):
                there[i] = mark[ends[i]] == 2
            for i in range(first, last):
                mark[ends[i]] = 0
        first = last


@compiled(numba.void(COUNTS, COUNTS, OFFSETS, COUNTS, COUNTS, FLAGS))
def take_neighbours(
    sources: Counts, ends: Counts, offset: Offsets, length: Counts, neighbours: Counts, mark: Flags
) -> None:
    """Drop ``ends[i]`` from the row of ``sources[i]``, where it is; equal sources stand together.

    What is left behind the row's end is overwritten: a state that is kept must not tell which edges were forgotten.
    """
    first = 0
    while first < len(sources):
        u = sources[first]
        last = first
        while last < len(sources) and sources[last] == u:
            last += 1
        begin = offset[u]
        if last - first <= SHORT:
            for i in range(first, last):
                length[u] -= 1
                end = begin + length[u]
                neighbours[_place(neighbours, begin, end + 1, ends[i])] = neighbours[end]
                neighbours[end] = NOBODY
        else:
            for i in range(first, last):
                mark[ends[i]] = 1
            kept = begin
            for k in range(begin, begin + length[u]):
                if not mark[neighbours[k]]:
                    neighbours[kept] = neighbours[k]
                    kept += 1
            for k in range(kept, begin + length[u]):
                neighbours[k] = NOBODY
            length[u] = kept - begin
            for i in range(first, last):
                mark[ends[i]] = 0
        first = last


@compiled(numba.void(OFFSETS, OFFSETS, OFFSETS, COUNTS, COUNTS))
def move_rows(rows: Offsets, targets: Offsets, offset: Offsets, length: Counts, neighbours: Counts) -> None:
    """Move rows to where there is room for more."""
    for i in range(len(rows)):
        u = rows[i]
        for k in range(length[u]):
            neighbours[targets[i] + k] = neighbours[offset[u] + k]
            neighbours[offset[u] + k] = NOBODY
        offset[u] = targets[i]
