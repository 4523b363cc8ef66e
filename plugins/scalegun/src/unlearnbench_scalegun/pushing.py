"""Repair of a block of columns of a propagation: corrections where the graph changed, then pushes level by level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearnbench_scalegun import kernels
from unlearnbench_scalegun.graph import LiveGraph
from unlearnbench_scalegun.kernels import Table


@dataclass(frozen=True)
class State:
    """What a propagation holds about each node and feature: all [..., n, F], rows contiguous.

    Attributes:
        x: features [n, F].
        share: q(u) / d(u) of the levels 0 to L - 1 [L, n, F].
        residue: r(u) of these levels [L, n, F].
        final: q(u) of level L [n, F].
    """

    x: Table
    share: Table
    residue: Table
    final: Table

    @property
    def levels(self) -> int:
        """L: how many levels hand on."""
        return len(self.share)

    @property
    def unit(self) -> float:
        """The unit roundoff of its numbers."""
        return float(np.finfo(self.x.dtype).eps) / 2

    @property
    def inner(self) -> float:
        """The unit roundoff of double precision, in which it is reckoned, in units of its own."""
        return float(np.finfo(np.float64).eps) / 2 / self.unit


@dataclass(frozen=True)
class Change:
    """A batch: edges [2, k] that went and came, already out of and in the graph, and the nodes that it touches [k]."""

    went: NDArray[np.int64]
    came: NDArray[np.int64]
    nodes: NDArray[np.int64]


@dataclass
class Tally:
    """What an update did to the sums of a propagation, level by level and column by column [L + 1, F].

    Attributes:
        taken: sizes of residues before, of all nodes that were touched.
        added: their sizes afterwards.
        rounded: sizes of what was rounded, in units of the state's unit roundoff.
    """

    taken: NDArray[np.float64]
    added: NDArray[np.float64]
    rounded: NDArray[np.float64]

    @classmethod
    def empty(cls, levels: int, columns: int) -> Tally:
        """Nothing done yet."""
        return cls(*np.zeros((3, levels + 1, columns)))


class Block:
    """The columns ``first`` to ``last`` of a propagation, with lists and marks that serve every update.

    Marks are all zero and lists meaningless between updates, so that an update costs what it touches.
    """

    def __init__(self, first: int, last: int, n: int, dtype: np.dtype[np.floating]) -> None:
        self.first = first
        self.last = last
        self._mark = np.zeros(n, np.uint8)
        self._here, self._there, self._over = (np.empty(n, np.int32) for _ in range(3))
        self._gain, self._swell = np.empty((2, last - first), dtype)

    def repair(
        self, state: State, graph: LiveGraph, change: Change, rmax: float, weights: tuple[float, ...], tally: Tally
    ) -> tuple[NDArray[np.int32], int]:
        """Restore what q and r must add up to, and push.

        Returns:
            Nodes [k] whose estimate may have changed, some more than once; levels of weight 0 do not count. And how
            many sizes have been summed up for a column.
        """
        span = self.first, self.last
        kernels.renew_first(
            change.nodes, state.x, state.share[0], state.residue[0], graph.length, state.inner, *span, tally.rounded[0]
        )
        for edges, sign in ((change.went, 1.0), (change.came, -1.0)):
            for level in range(1, state.levels):
                below, share, residue = state.share[level - 1], state.share[level], state.residue[level]
                kernels.correct(edges[0], edges[1], sign, below, share, residue, *span, tally.rounded[level])
            kernels.correct_final(
                edges[0], edges[1], sign, state.share[-1], state.final, *span, tally.rounded[state.levels]
            )
        return self._push(state, graph, change.nodes, rmax, weights, tally)

    def _push(
        self, state: State, graph: LiveGraph, nodes: NDArray[np.int64], rmax: float, weights: tuple[float, ...],
        tally: Tally,
    ) -> tuple[NDArray[np.int32], int]:  # fmt: skip
        """Basic Prop with the nodes that a change touches, and those that pushes reach, as candidates.

        A node pushes when its level is complete, if its residue is above the threshold then. Nodes push in ascending
        order, so that what a column becomes does not depend on which columns share a block.
        """
        span, start = (self.first, self.last), len(nodes)
        reached = self._begin(nodes)
        changed, terms = [nodes.astype(np.int32)], len(nodes)
        for level in range(state.levels):
            terms += reached
            residue = state.residue[level]
            count = kernels.select(
                self._here[:reached], residue, rmax, *span, self._mark, tally.added[level], self._over
            )
            pushed = self._over[:count]
            pushed.sort()
            if weights[level]:
                changed.append(pushed.copy())
            waits = level + 1 < state.levels
            self._here, self._there = self._there, self._here
            self._begin(nodes)
            reached = kernels.push(
                pushed, state.share[level], residue, state.residue[level + 1] if waits else state.final, waits,
                graph.offset, graph.length, graph.neighbours, rmax, *span,
                self._mark, self._here, start, self._gain, self._swell,
                tally.taken[level + 1], tally.rounded[level], tally.rounded[level + 1],
            )  # fmt: skip
        self._mark[self._here[:reached]] = 0
        if weights[-1]:
            changed.append(self._here[start:reached].copy())
        return np.concatenate(changed), terms

    def _begin(self, nodes: NDArray[np.int64]) -> int:
        """Mark the nodes of a change as the first candidates of a level."""
        self._here[: len(nodes)] = nodes
        self._mark[nodes] = 1
        return len(nodes)
