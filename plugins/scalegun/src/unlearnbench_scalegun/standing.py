"""Where a stream of requests stands: the propagation, the training rows of its estimates, and the account of bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unlearnbench.api.runtime import State, View
from unlearnbench_scalegun import bounds
from unlearnbench_scalegun.bounds import Ledger, Terms
from unlearnbench_scalegun.linear import Array, Problem, Rows, gradient, left_over, train
from unlearnbench_scalegun.live import propagation_in, propagation_of, state_with
from unlearnbench_scalegun.plugin import ScaleGunParams
from unlearnbench_scalegun.propagation import Propagation
from unlearnbench_scalegun.requests import belongs_to, degrees, take_out, wrong_state
from unlearnbench_scalegun.views import edges_of, numbers, rows_of


@dataclass(frozen=True)
class Change:
    """What a request changed of the training rows: those that are no longer so, and what they are now.

    Rows that the propagation did not touch would cancel in every difference, so they are not here. ``gone`` rows left,
    ``moved`` is the Frobenius norm of the change of those that stayed, ``influence`` the request's worst-case term.
    """

    old: tuple[Array, Rows]
    new: tuple[Array, Rows]
    moved: float
    influence: float

    @property
    def gone(self) -> int:
        return len(self.old[1]) - len(self.new[1])

    def gradient(self, w: Array, ridge: float) -> Array:
        """The objectives' gradient on D less that on D', [C, F]: the noise cancels, the ridge counts rows."""
        none = np.zeros_like(w)
        found: Array = gradient(w, *self.old, none, 0) - gradient(w, *self.new, none, 0) + ridge * self.gone * w
        return found


@dataclass
class Standing:
    """Mutable; ``rows`` [m] are the training nodes in order, ``z`` [m, F] their estimates, ``y`` [m] their classes."""

    propagation: Propagation
    rows: Rows
    y: Rows
    z: Array
    noise: Array
    ridge: float
    ledger: Ledger
    edges: int
    """Edges of the graph before any request."""
    served: int
    removed: dict[str, int]
    retrains: int

    # -- life of a state --------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, data: View, w: Array, noise: Array, level_weights: tuple[float, ...], p: ScaleGunParams) -> Standing:
        """Propagate over a training view's graph and open the account of a model that was trained there."""
        batch = data.tensors()
        propagation = propagation_of(batch, level_weights, p)
        rows, y = numbers(rows_of(batch)), numbers(batch.y)
        z = propagation.rows(rows)
        return cls(
            propagation=propagation,
            rows=rows,
            y=y,
            z=z,
            noise=noise,
            ridge=p.ridge,
            ledger=Ledger.after_training(w, Problem(z, y, noise, p.ridge)),
            edges=propagation.m,
            served=0,
            removed={"edges": 0, "nodes": 0, "features": 0},
            retrains=0,
        )

    def state(self) -> State:
        """Everything, for the next request; arrays are shared, not copied."""
        arrays: Mapping[str, NDArray[Any]] = {
            "rows": self.rows,
            "y": self.y,
            "z": self.z,
            "noise": self.noise,
            "training": self.ledger.training,
            "accumulated": self.ledger.accumulated,
        }
        meta = {
            "ridge": self.ridge,
            "spectral": self.ledger.spectral,
            "worst": self.ledger.worst,
            "edges": self.edges,
            "served": self.served,
            "removed": self.removed,
            "retrains": self.retrains,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return state_with(self.propagation, tensors, meta)

    @classmethod
    def of(cls, state: State) -> Standing:
        """Go on from a state.

        Raises:
            DataError: it is not a state of this method.
        """
        arrays = {name: numbers(tensor) for name, tensor in state.tensors.items()}
        meta = state.meta
        try:
            return cls(
                propagation=propagation_in(state),
                rows=arrays["rows"],
                y=arrays["y"],
                z=arrays["z"],
                noise=arrays["noise"],
                ridge=meta["ridge"],
                ledger=Ledger(arrays["training"], arrays["accumulated"], meta["spectral"], meta["worst"]),
                edges=meta["edges"],
                served=meta["served"],
                removed=dict(meta["removed"]),
                retrains=meta["retrains"],
            )
        except KeyError as absent:
            wrong_state(f"it holds no {absent.args[0]}")

    # -- what happens to it -------------------------------------------------------------------------------------------

    def serve(self, kind: str, forget: View, retain: View) -> Change:
        """Take out what a request takes out: the propagation by local pushes, then the training rows that it touched.

        Args:
            kind: edges, nodes or features.
            forget: elements on the graph before.
            retain: the graph after.

        Raises:
            DataError: the state is that of another graph.
        """
        before, after = forget.tensors(), retain.tensors()
        assert forget.elements is not None
        elements = numbers(forget.elements)
        belongs_to(self.propagation, self.z.shape[1], before)
        influence = bounds.influence(kind, degrees(self.propagation, kind, elements))
        touched = take_out(self.propagation, kind, elements, before, after)
        if self.propagation.m != edges_of(after).shape[1]:
            wrong_state(f"it has {self.propagation.m} edges after the request, the graph {edges_of(after).shape[1]}")
        change = self._refresh(touched, elements[0] if kind == "nodes" else elements[0, :0], influence)
        if not np.array_equal(self.rows, numbers(rows_of(after))):
            wrong_state("its training rows are not those of the graph")
        self.served += 1
        self.removed = {**self.removed, kind: self.removed[kind] + elements.shape[1]}
        return change

    def step(self, w: Array, stepped: Array, change: Change) -> None:
        """Put a step from ``w`` to ``stepped`` on the account."""
        right, step = change.gradient(w, self.ridge), stepped - w
        left = left_over(w, self.z, self.ridge, right, step)
        self.ledger = self.ledger.after_step(w, step, left, self.problem, change.moved, change.influence)

    def retrained(self, w: Array, noise: Array) -> None:
        """Open a new account for weights that were trained on the present rows."""
        self.noise = noise
        self.ledger = Ledger.after_training(w, self.problem)
        self.retrains += 1

    # -- what it comes to ---------------------------------------------------------------------------------------------

    @property
    def problem(self) -> Problem:
        """The objectives of the present rows."""
        return Problem(self.z, self.y, self.noise, self.ridge)

    def optimum(self, noise: Array, tolerance: float) -> Array:
        """Weights trained from scratch on the present rows."""
        return train(self.z, self.y, noise, self.ridge, tolerance)

    def terms(self, w: Array) -> Terms:
        """Every term of the bounds at weights ``w``."""
        own = self.propagation
        worst = bounds.paper_error(own.n, len(own.level_weights), own.rmax)
        return bounds.terms(self.ledger, w, self.problem, own.error(), worst)

    def digest(self) -> str:
        """sha256 over the training rows' estimates and the graph's checksum.

        Estimates come of additions and divisions in an order of our own, the same on every processor. The bound on
        their error does not (it is a product of matrices), so it is compared as a number, in the terms.
        """
        found = sha256(np.ascontiguousarray(self.z).tobytes())
        found.update(self.propagation.checksum().encode())
        return found.hexdigest()

    # -- parts of serve -----------------------------------------------------------------------------------------------

    def _refresh(self, touched: Rows, leaving: Rows, influence: float) -> Change:
        """Read the touched training rows again and drop those that leave."""
        out = positions(self.rows, leaving)
        stay = np.setdiff1d(positions(self.rows, touched), out, assume_unique=True)
        both = np.concatenate([stay, out])
        old = self.z[both], self.y[both]
        new = self.propagation.rows(self.rows[stay]), self.y[stay]
        self.z[stay] = new[0]
        if len(out):
            self.rows, self.y = np.delete(self.rows, out), np.delete(self.y, out)
            self.z = np.delete(self.z, out, axis=0)
        return Change(old, new, float(np.linalg.norm(new[0] - old[0][: len(stay)])), influence)


def positions(rows: Rows, nodes: Rows) -> Rows:
    """Where the nodes lie among the sorted rows; those that are not there are left out."""
    at = np.searchsorted(rows, nodes)
    inside = at < len(rows)
    at, nodes = at[inside], nodes[inside]
    found: Rows = at[rows[at] == nodes]
    return found
