"""A graph that edges leave and join: rows of neighbours with a live length and room to grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearnbench.api.errors import DataError
from unlearnbench_scalegun import adjacency

Number = TypeVar("Number", bound=np.generic)
LISTED = 5
"""So many edges or nodes are named in an error."""
LARGEST = 2**31 - 1
"""Neighbours are 32-bit numbers."""


class Allocate(Protocol):
    """A new array of zeros from its name, shape and type: in memory, or in a mapped file."""

    def __call__(self, name: str, shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
        """The array."""


def in_memory(name: str, shape: tuple[int, ...], dtype: type[Number]) -> NDArray[Number]:
    """An array of zeros in memory, all of it taken now rather than by whichever update first writes to a page."""
    del name
    made = np.empty(shape, dtype)
    made.fill(0)
    return made


def named_edges(edges: NDArray[np.int64]) -> str:
    """The first few edges [2, k] as text."""
    return ", ".join(f"{u}-{v}" for u, v in edges[:, :LISTED].T.tolist())


def edge_list(edges: ArrayLike, n: int) -> NDArray[np.int64]:
    """Edges [2, k] as whole numbers between nodes 0 to n - 1, no edge from a node to itself.

    Raises:
        DataError: ``bad-data`` for another shape or type, ``unknown-nodes``, ``self-loops``.
    """
    found = np.asarray(edges)
    if found.size == 0:
        return np.zeros((2, 0), np.int64)
    if found.ndim != 2 or len(found) != 2 or not np.issubdtype(found.dtype, np.integer):
        raise DataError("bad-data", f"edges must be whole numbers [2, m], not {found.dtype} {list(found.shape)}")
    found = found.astype(np.int64, copy=False)
    if not adjacency.edges_fit(found[0], found[1], n):
        outside = ((found < 0) | (found >= n)).any(0)
        if outside.any():
            raise DataError("unknown-nodes", f"edges {named_edges(found[:, outside])} lead out of the {n} nodes")
        raise DataError("self-loops", f"edges {named_edges(found[:, found[0] == found[1]])} lead from a node to itself",
                        hint="leave them out; the method adds its own")  # fmt: skip
    return found


def distinct_edges(edges: ArrayLike, n: int) -> NDArray[np.int64]:
    """A batch of edges [2, k] with u < v, sorted; refused as :func:`edge_list` does, or where one is named twice."""
    low, high = np.sort(edge_list(edges, n), 0)
    key, counts = np.unique(low * n + high, return_counts=True)
    found = np.stack([key // n, key % n])
    if len(key) < len(low):
        raise DataError("duplicate-edges", f"edges {named_edges(found[:, counts > 1])} are given more than once")
    return found


def _checksum(n: int, m: int, total: int) -> str:
    return f"{n}-{m}-{total:016x}"


def graph_checksum(n: int, edges: ArrayLike) -> str:
    """A checksum of a graph from its edges [2, m] in any order, each once; not a guard against forgery."""
    found = edge_list(edges, n)
    return _checksum(n, found.shape[1], int(adjacency.edges_hash(found[0], found[1], n)))


def _both_ways(edges: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Sources, sorted, and ends of both directions of edges."""
    sources, ends = np.concatenate([edges, edges[::-1]], 1).astype(np.int32)
    order = np.argsort(sources, kind="stable")
    return sources[order], ends[order]


@dataclass
class LiveGraph:
    """An undirected graph as rows of neighbours; an update costs what the rows that it touches cost.

    Attributes:
        offset: where each row begins in ``neighbours`` [n].
        length: how many neighbours each node has [n], without itself: the degree of the method is one more.
        capacity: how many neighbours its row can take [n].
        neighbours: all rows, and after ``used`` of them room for rows that outgrow theirs.
        used: where the next such row goes.
        m: number of edges.
        total: the sum of the edges' hashes, modulo 2^64.
        allocate: where ``neighbours`` comes from when it is full.
    """

    offset: NDArray[np.int64]
    length: NDArray[np.int32]
    capacity: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    used: int
    m: int
    total: int
    allocate: Allocate = in_memory

    def __post_init__(self) -> None:
        self._mark = np.zeros(self.n, np.uint8)

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.length)

    @classmethod
    def of(cls, n: int, edges: ArrayLike, allocate: Allocate = in_memory) -> LiveGraph:
        """The graph of these edges [2, m]: each once, in either direction, none from a node to itself.

        Raises:
            DataError: as :func:`edge_list`; ``duplicate-edges``; ``too-large`` for 2^31 nodes and more.
        """
        if n > LARGEST:
            raise DataError("too-large", f"{n} nodes; there may be at most {LARGEST}")
        found = edge_list(edges, n)
        us, vs = found
        length = allocate("length", (n,), np.int32)
        capacity = allocate("capacity", (n,), np.int32)
        offset = allocate("offset", (n,), np.int64)
        neighbours = allocate("neighbours", (2 * len(us),), np.int32)
        adjacency.count_neighbours(us, vs, capacity)
        np.cumsum(capacity[:-1], out=offset[1:])
        adjacency.put_edges(us, vs, offset, length, neighbours)
        total = int(adjacency.edges_hash(us, vs, n))
        graph = cls(offset, length, capacity, neighbours, 2 * len(us), len(us), total, allocate)
        twin = adjacency.row_with_twins(offset, length, neighbours, graph._mark)
        if twin >= 0:
            row, counts = np.unique(graph.row(twin), return_counts=True)
            twice = row[counts > 1]
            named = named_edges(np.stack([np.full_like(twice, twin), twice]).astype(np.int64))
            raise DataError("duplicate-edges", f"edges {named} are given more than once",
                            hint="give each edge once, in one direction")  # fmt: skip
        return graph

    def row(self, u: int) -> NDArray[np.int32]:
        """The neighbours of a node, in any order."""
        return self.neighbours[self.offset[u] : self.offset[u] + self.length[u]]

    @property
    def edges(self) -> NDArray[np.int64]:
        """All edges [2, m] with u < v, sorted; goes through the whole graph."""
        sources = np.repeat(np.arange(self.n), self.length)
        starts = np.cumsum(self.length, dtype=np.int64) - self.length
        ends = self.neighbours[np.arange(len(sources)) + np.repeat(self.offset - starts, self.length)].astype(np.int64)
        up = sources < ends
        key = np.sort(sources[up] * self.n + ends[up])
        return np.stack([key // max(self.n, 1), key % max(self.n, 1)])

    def checksum(self) -> str:
        """The same as :func:`graph_checksum` of the edges that are there now."""
        return _checksum(self.n, self.m, self.total)

    def has(self, edges: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each edge [2, k] is there; edges are sorted, as :func:`distinct_edges` gives them."""
        sources, ends = edges.astype(np.int32)
        there = np.zeros(len(ends), np.uint8)
        adjacency.are_there(sources, ends, self.offset, self.length, self.neighbours, self._mark, there)
        return there.astype(bool)

    def incident(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """All edges [2, k] with an end among ``nodes``, each once, u < v."""
        rows = [np.stack([np.full(self.length[u], u), self.row(u).astype(np.int64)]) for u in nodes.tolist()]
        found = np.sort(np.concatenate([np.zeros((2, 0), np.int64), *rows], 1), 0)
        key = np.unique(found[0] * self.n + found[1])
        return np.stack([key // max(self.n, 1), key % max(self.n, 1)])

    def remove(self, edges: NDArray[np.int64]) -> None:
        """Take out edges [2, k] that are there, each named once."""
        sources, ends = _both_ways(edges)
        adjacency.take_neighbours(sources, ends, self.offset, self.length, self.neighbours, self._mark)
        self._count(edges, -1)

    def insert(self, edges: NDArray[np.int64]) -> None:
        """Put in edges [2, k] that are not there, each named once. A row that is full moves to where it has room."""
        rows, more = np.unique(edges, return_counts=True)
        wanted = self.length[rows].astype(np.int64) + more
        full = wanted > self.capacity[rows]
        rows, room = rows[full], wanted[full] * 3 // 2 + 2
        if len(rows):
            self._reserve(int(room.sum()))
            targets = self.used + np.cumsum(room) - room
            adjacency.move_rows(rows, targets, self.offset, self.length, self.neighbours)
            self.capacity[rows] = room
            self.used += int(room.sum())
        adjacency.put_edges(edges[0], edges[1], self.offset, self.length, self.neighbours)
        self._count(edges, 1)

    def _reserve(self, room: int) -> None:
        """Make ``neighbours`` longer by at least a half, so that its copies cost little for each row that moves."""
        if self.used + room > len(self.neighbours):
            longer = self.allocate("neighbours", ((self.used + room) * 3 // 2,), np.int32)
            longer[: self.used] = self.neighbours[: self.used]
            self.neighbours = longer

    def _count(self, edges: NDArray[np.int64], sign: int) -> None:
        self.m += sign * edges.shape[1]
        self.total = (self.total + sign * int(adjacency.edges_hash(edges[0], edges[1], self.n))) % 2**64
