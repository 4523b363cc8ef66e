"""Edges as they were written, checked and brought into one form: u < v, each once, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import Array, Room, blocks, in_memory


@dataclass(frozen=True)
class Rules:
    """What becomes of edges that an undirected graph without loops cannot have as they are."""

    directed: Literal["error", "symmetric"]
    self_loops: Literal["error", "drop"]
    duplicates: Literal["error", "drop"]


PUBLISHED = Rules("symmetric", "drop", "drop")
"""Published graphs are what everybody makes of them."""


def undirected(pairs: Array, nodes: int, rules: Rules, place: Place, room: Room = in_memory) -> Array:
    """Edges [2, k] int64 with u < v, each once, sorted, of ``pairs`` [2, m] as they were written.

    Memory beyond that of ``room`` does not grow with the number of edges. An edge that an error names is counted
    from 0.

    Raises:
        DataError: a node that is not there, or what the rules refuse.
    """
    keys = _keys(pairs, nodes, rules, place, room)
    keys.sort()
    counts = _Counts()
    for block, previous in _with_previous(keys):
        fresh = block != previous
        counts.distinct += int(fresh.sum())
        counts.falling += int((block[fresh] & 1).sum())
        counts.pairs += int((block >> 1 != previous >> 1).sum())
    if rules.duplicates == "error" and counts.distinct < len(keys):
        u, v = _edge(int(keys[1:][keys[1:] == keys[:-1]][0]), nodes)
        raise place.fault(
            "bad-data", f"the edge {u}, {v} is there more than once", hint="--set graph-file.duplicates=drop"
        )
    if rules.directed == "error" and not counts.undirected:
        u, v = _one_way(keys, nodes)
        raise place.fault(
            "bad-data",
            f"is directed: the edge {u}, {v} is there, {v}, {u} is not",
            hint="--set graph-file.directed=symmetric lets every edge go both ways",
        )
    edges = room("edges", (2, counts.pairs), np.int64)
    end = 0
    for block, previous in _with_previous(keys):
        pair = block[block >> 1 != previous >> 1] >> 1
        edges[0, end : end + len(pair)] = pair // nodes
        edges[1, end : end + len(pair)] = pair % nodes
        end += len(pair)
    return edges


@dataclass
class _Counts:
    """Edges as written, each once; those of them from a larger to a smaller node; and pairs of nodes with an edge."""

    distinct: int = 0
    falling: int = 0
    pairs: int = 0

    @property
    def undirected(self) -> bool:
        """Every edge is there both ways; or none is, and all of them rise, or all of them fall."""
        return self.distinct == 2 * self.pairs or (self.distinct == self.pairs and self.falling in (0, self.distinct))


def _keys(pairs: Array, nodes: int, rules: Rules, place: Place, room: Room) -> Array:
    """One number [m] for each edge that is no loop: its pair of nodes, and in the last bit whether it falls."""
    keys = room("keys", (pairs.shape[1],), np.int64)
    end = 0
    for at in blocks(pairs, axis=1):
        block = pairs[:, at]
        wrong = ((block < 0) | (block >= nodes)).any(0)
        if wrong.any():
            k = int(wrong.argmax())
            named = next(int(node) for node in block[:, k] if not 0 <= node < nodes)
            raise place.fault("bad-data", f"edge {at.start + k} names node {named}, and nodes are 0 to {nodes - 1}")
        first, second = block.astype(np.int64)
        loops = first == second
        if loops.any() and rules.self_loops == "error":
            k = int(loops.argmax())
            raise place.fault("bad-data", f"edge {at.start + k} joins node {int(first[k])} to itself",
                              hint="--set graph-file.self_loops=drop")  # fmt: skip
        falls = first > second
        key = ((np.minimum(first, second) * nodes + np.maximum(first, second)) * 2 + falls)[~loops]
        keys[end : end + len(key)] = key
        end += len(key)
    return keys[:end]


def _with_previous(keys: Array) -> Iterator[tuple[Array, Array]]:
    """Blocks of sorted keys, each beside the keys one place before, which is -1 before the first."""
    before = -1
    for at in blocks(keys):
        block = np.asarray(keys[at])
        yield block, np.concatenate([[before], block[:-1]])
        before = int(block[-1])


def _edge(key: int, nodes: int) -> tuple[int, int]:
    low, high = divmod(key >> 1, nodes)
    return (high, low) if key & 1 else (low, high)


def _one_way(keys: Array, nodes: int) -> tuple[int, int]:
    distinct = np.unique(keys)
    _, first, count = np.unique(distinct >> 1, return_index=True, return_counts=True)
    return _edge(int(distinct[first[count == 1][0]]), nodes)
