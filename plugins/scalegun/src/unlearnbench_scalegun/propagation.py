"""Propagated features that follow changes of their graph: ScaleGUN's lazy local propagation, batched.

With A the adjacency with self-loops and d its degrees, per column of the features x and for l = 0, ..., L - 1:

    q0(u) + r0(u) = sqrt(d(u)) x(u)
    q_{l+1}(u) + r_{l+1}(u) = sum over t in N(u) and u of q_l(t) / d(t),    r_L = 0

and the estimate is z(u) = sum over l of w_l q_l(u) / sqrt(d(u)) (Yi and Wei 2025, section 3). Pushing hands a residue
above the threshold on to the next level. What is stored in place of q_l(u) is the share q_l(u) / d(u), which a change
of degree leaves as it is; see :mod:`unlearnbench_scalegun.kernels`.

The error of a column, summed over nodes, is at most the sum over levels t of W_t = |w_t| + ... + |w_L| times the sizes
of the residues of level t, because A D^-1 keeps the sum of sizes and degrees are at least 1. The same holds for
whatever else breaks the equations above, which is what rounding does: every rounding is counted, and adds to the bound.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench_scalegun import kernels
from unlearnbench_scalegun.graph import LISTED, LiveGraph, distinct_edges, in_memory, named_edges
from unlearnbench_scalegun.graph import graph_checksum as graph_checksum
from unlearnbench_scalegun.keeping import checked_meta, kept_graph, kept_state
from unlearnbench_scalegun.pushing import Change, State, Tally
from unlearnbench_scalegun.starting import (
    Precision,
    blocks_of,
    checked_features,
    checked_weights,
    each,
    empty_state,
    mapped,
    multiply,
    refuse_infinite,
    sizes_per_column,
)
from unlearnbench_scalegun.starting import propagate as propagate

DOUBLE = float(np.finfo(np.float64).eps) / 2
"""Unit roundoff of double precision."""
SAFETY = 2.0
"""Times the roundings that kernels count. They count u * |stored|, which is right to first order: the other half covers
u * |exact| - u * |stored|, and that the counts are themselves sums of rounded numbers."""


class Propagation:
    """Propagated features of all nodes of a graph, kept up to date as edges and features come and go.

    Made by :meth:`start` or :meth:`resume`.

    Attributes:
        rmax: threshold above which a residue is pushed: the relative one times the mean over features of the sum over
            nodes of |x| at the start.
        level_weights: w_0, ..., w_L.
        threads: how many blocks of columns are updated at the same time; estimates do not depend on it.
    """

    def __init__(
        self, graph: LiveGraph, state: State, sums: NDArray[np.float64], level_weights: tuple[float, ...], rmax: float,
        threads: int,
    ) -> None:  # fmt: skip
        self.rmax = rmax
        self.level_weights = level_weights
        self.threads = threads
        self._graph = graph
        self._state = state
        self._sums = sums  # weighted sizes of residues, bound on the effect of rounding, sum of sqrt(d)|x|: [3, F]
        self._tails = np.abs(level_weights)[::-1].cumsum()[::-1]
        self._blocks = blocks_of(state.x, threads)

    @classmethod
    def start(
        cls, x: ArrayLike, edges: ArrayLike, level_weights: Sequence[float], *, rmax: float,
        how: Literal["exact", "push"] = "exact", precision: Precision = "float64",
        memory: Literal["ram", "disk"] = "ram", threads: int = 1,
    ) -> Propagation:  # fmt: skip
        """Propagate features [n, F] over a graph for the first time.

        Args:
            x: features of the nodes.
            edges: each edge once [2, m], without self-loops.
            level_weights: w_0, ..., w_L of two levels or more.
            rmax: threshold relative to the mean over features of the sum over nodes of |x|.
            how: ``exact`` products, which leave no residues, or the paper's ``push``.
            precision: numbers of the state.
            memory: ``disk`` keeps the state in mapped files of a private temporary folder, which goes with the object.
            threads: blocks of columns that are worked on at the same time.

        Raises:
            DataError: features or edges that cannot be; see :class:`LiveGraph`.
            UsageError: ``bad-parameter``.
        """
        weights = checked_weights(level_weights, precision)
        found = checked_features(x, precision)
        if not (np.isfinite(rmax) and rmax >= 0):
            raise UsageError("bad-parameter", f"rmax is {rmax}; it must be a number that is not negative")
        if how not in ("exact", "push") or memory not in ("ram", "disk"):
            raise UsageError("bad-parameter", f"how is {how!r} and memory {memory!r}; exact or push, ram or disk")
        folder = tempfile.mkdtemp(prefix="propagation-") if memory == "disk" else ""
        try:
            allocate = mapped(Path(folder)) if folder else in_memory
            graph = LiveGraph.of(len(found), edges, allocate)
            state = empty_state(found, len(weights) - 1, precision, allocate)
            threshold = rmax * float(sizes_per_column(state.x).mean())
            made = cls(graph, state, np.zeros((3, found.shape[1])), weights, threshold, threads)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if folder:
            weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
        if how == "push":
            made._push_all()
        else:
            made._sums[2], rounded = multiply(state, graph, made._blocks)
            made._sums[1] = SAFETY * state.unit * (made._tails @ rounded)
        return made

    def _push_all(self) -> None:
        """The paper's start: everything is a residue of the first level, and is pushed."""
        nodes = np.arange(self.n)
        each(
            lambda b: kernels.weigh(nodes, self._state.x, self._graph.length, b.first, b.last, self._sums[2]),
            self._blocks,
        )
        none = np.zeros((2, 0), np.int64)
        self._repair(Change(none, none, nodes), Tally.empty(self._state.levels, self._state.x.shape[1]))

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self._graph.n

    @property
    def m(self) -> int:
        """Number of edges that are there now."""
        return self._graph.m

    @property
    def edges(self) -> NDArray[np.int64]:
        """The edges that are there now [2, m], u < v, sorted; goes through the whole graph."""
        return self._graph.edges

    def checksum(self) -> str:
        """The checksum of the graph as it is now, see :func:`graph_checksum`; kept up to date."""
        return self._graph.checksum()

    def update(
        self, *, remove: ArrayLike | None = None, add: ArrayLike | None = None,
        features: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> NDArray[np.int64]:  # fmt: skip
        """Follow one batch of changes with one push; nothing has changed if it is refused.

        Args:
            remove: edges [2, k] that are there.
            add: edges [2, k] that are not there.
            features: nodes [k] and their new features [k, F].

        Returns:
            Sorted nodes whose estimate may have changed.

        Raises:
            DataError: ``unknown-edges``, ``duplicate-edges``, ``self-loops``, ``unknown-nodes``, ``duplicate-nodes``,
                ``bad-data``, ``missing-values``.
        """
        none = np.zeros((2, 0), np.int64)
        went = distinct_edges(none if remove is None else remove, self.n)
        came = distinct_edges(none if add is None else add, self.n)
        missing, there = ~self._graph.has(went), self._graph.has(came)
        if missing.any():
            raise DataError("unknown-edges", f"{named_edges(went[:, missing])} are not edges of the graph")
        if there.any():
            raise DataError("duplicate-edges", f"{named_edges(came[:, there])} are edges of the graph already")
        nodes, values = self._new_features(features)
        change = Change(went, came, np.unique(np.concatenate([went[0], went[1], came[0], came[1], nodes])))
        if not len(change.nodes):
            return change.nodes
        return self._follow(change, nodes, values)

    def remove_nodes(self, nodes: ArrayLike, *, features: bool) -> NDArray[np.int64]:
        """Remove all edges of these nodes, and set their features to zero if asked, as one :meth:`update`."""
        found = self._distinct_nodes(nodes)
        changes = (found, np.zeros((len(found), self._state.x.shape[1]))) if features else None
        return self.update(remove=self._graph.incident(found), features=changes)

    def rows(self, nodes: ArrayLike) -> NDArray[np.float64]:
        """The estimates [k, F] of these nodes."""
        found = self._known_nodes(nodes)
        root = np.sqrt(self._graph.length[found] + 1.0)
        total = (self.level_weights[-1] / root)[:, None] * self._state.final[found]
        for weight, share in zip(self.level_weights, self._state.share, strict=False):
            if weight:
                total += (weight * root)[:, None] * share[found]
        return np.asarray(total, np.float64)

    def error(self) -> NDArray[np.float64]:
        """A bound [F] on the sum over all nodes of the difference of estimates and exact propagation.

        Sizes of residues, weighted; what rounding did to the state; the features' single precision, if that is the
        state's; and what rounding does to the estimates themselves, the sum of whose sizes is bounded by that of x and
        the rest.
        """
        waiting, rounded, mass = self._sums
        bound = np.maximum(waiting, 0) + rounded
        if self._state.unit > DOUBLE:
            bound = bound + SAFETY * self._state.unit * self._tails[0] * mass
        levels = len(self.level_weights)
        return np.asarray(bound + (levels + 4) * DOUBLE * (self._tails[0] * mass + levels * bound) * SAFETY)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The whole state, without a copy: later updates change these arrays."""
        graph, state = self._graph, self._state
        return {
            "x": state.x, "share": state.share, "residue": state.residue, "final": state.final, "sums": self._sums,
            "offset": graph.offset, "length": graph.length, "capacity": graph.capacity,
            "neighbours": graph.neighbours[: graph.used],
        }  # fmt: skip

    @property
    def meta(self) -> dict[str, Any]:
        """What :meth:`resume` needs besides the tensors; can be written as JSON."""
        n, columns = self._state.x.shape
        return {
            "n": n, "m": self.m, "features": columns, "level_weights": list(self.level_weights), "rmax": self.rmax,
            "precision": self._state.x.dtype.name, "threads": self.threads, "checksum": self.checksum(),
        }  # fmt: skip

    @classmethod
    def resume(cls, tensors: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Propagation:
        """Go on from a state that was kept, in its own arrays; those that may not be written are copied.

        Raises:
            DataError: ``wrong-state`` when a field is missing, does not fit the others, or belongs to another graph.
        """
        found = checked_meta(meta)
        state, sums = kept_state(tensors, found)
        weights = tuple(map(float, found["level_weights"]))
        return cls(kept_graph(tensors, found), state, sums, weights, float(found["rmax"]), int(found["threads"]))

    def _known_nodes(self, nodes: ArrayLike) -> NDArray[np.int64]:
        found = np.asarray(nodes)
        if found.size == 0:
            return np.zeros(0, np.int64)
        if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
            raise DataError("bad-data", f"nodes must be whole numbers [k], not {found.dtype} {list(found.shape)}")
        outside = found[(found < 0) | (found >= self.n)]
        if len(outside):
            raise DataError("unknown-nodes", f"{outside[:LISTED].tolist()} are none of the {self.n} nodes")
        return found.astype(np.int64, copy=False)

    def _distinct_nodes(self, nodes: ArrayLike) -> NDArray[np.int64]:
        found = self._known_nodes(nodes)
        distinct, counts = np.unique(found, return_counts=True)
        if len(distinct) < len(found):
            raise DataError("duplicate-nodes", f"{distinct[counts > 1][:LISTED].tolist()} are given more than once")
        return found

    def _new_features(self, features: tuple[ArrayLike, ArrayLike] | None) -> tuple[NDArray[np.int64], NDArray[Any]]:
        columns = self._state.x.shape[1]
        if features is None:
            return np.zeros(0, np.int64), np.zeros((0, columns))
        nodes, values = self._distinct_nodes(features[0]), np.asarray(features[1])
        if values.shape != (len(nodes), columns):
            raise DataError("bad-data", f"features of {len(nodes)} nodes must be {[len(nodes), columns]}, not "
                            f"{list(values.shape)}")  # fmt: skip
        refuse_infinite(values, self._state.x.dtype.name)
        return nodes, values

    def _follow(self, change: Change, nodes: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.int64]:
        """Carry out a batch that is known to be right."""
        graph, state = self._graph, self._state
        columns = state.x.shape[1]
        tally = Tally.empty(state.levels, columns)
        for level in range(state.levels):
            kernels.withdraw(change.nodes, state.residue[level], 0, columns, tally.taken[level])
        before, after = np.zeros((2, columns))
        kernels.weigh(change.nodes, state.x, graph.length, 0, columns, before)
        graph.remove(change.went)
        graph.insert(change.came)
        state.x[nodes] = values
        kernels.weigh(change.nodes, state.x, graph.length, 0, columns, after)
        # The sum is kept a little too large rather than too small.
        self._sums[2] += after - before + (len(change.nodes) + 2) * DOUBLE * (after + before + self._sums[2])
        return self._repair(change, tally)

    def _repair(self, change: Change, tally: Tally) -> NDArray[np.int64]:
        """Correct and push every block of columns, and take what that did into the sums."""
        done = each(
            lambda b: b.repair(self._state, self._graph, change, self.rmax, self.level_weights, tally), self._blocks
        )
        taken, added = self._tails @ tally.taken, self._tails @ tally.added
        # Sums of k sizes err by k units of double precision; that their difference errs by more than it is must not
        # make the bound too small.
        terms = max(terms for _, terms in done) + 4
        self._sums[1] += SAFETY * self._state.unit * (self._tails @ tally.rounded)
        self._sums[1] += terms * DOUBLE * (taken + added) + DOUBLE * np.abs(self._sums[0])
        self._sums[0] += added - taken
        # Sorted, because np.unique hashes, which takes as long as the pushes.
        changed = np.sort(np.concatenate([nodes for nodes, _ in done]))
        return changed[np.diff(changed, prepend=-1) > 0].astype(np.int64)
