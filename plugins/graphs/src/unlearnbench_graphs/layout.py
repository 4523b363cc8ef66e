"""From a graph and who is for what to the data of training, validation and test nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unlearnbench.api.runtime import MISSING, Data, Splits, derive_seed, generator
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.plugin import HeldOutParams
from unlearnbench_graphs.rooms import Array, Room, blocks, in_memory


@dataclass(frozen=True, eq=False)
class Graph:
    """Features [n, f] float32, edges [2, m] with u < v, classes [n] int64 (``MISSING`` where nobody knows)."""

    x: Array
    edges: Array
    y: Array
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Division:
    """Which nodes are for what, each [n] bool."""

    train: Array
    validation: Array
    test: Array


def to_splits(graph: Graph, division: Division, place: Place) -> Splits:
    """Three data sets over the same nodes and edges; the classes of the others are not there.

    Raises:
        DataError: a node is for two things, no node is left to train on or to test, or there is one class only.
    """
    _disjoint(division, place)
    known = graph.y != MISSING
    present = np.unique(graph.y[known])
    if len(present) < 2:
        only = f"all nodes are of class {graph.outputs[int(present[0])]!r}" if len(present) else "no node has a class"
        raise place.fault("one-class", only, hint="nodes of two classes at least are needed")
    x, edges = (torch.from_numpy(np.require(part, requirements=("C", "W"))) for part in (graph.x, graph.edges))
    ids = torch.arange(len(x))

    def part(chosen: Array) -> Data:
        y = torch.from_numpy(np.where(chosen & known, graph.y, MISSING))
        return Data(x=x, y=y, ids=ids, outputs=graph.outputs, edges=edges)

    for chosen, purpose in ((division.train, "training"), (division.test, "testing")):
        if not (chosen & known).any():
            raise place.fault(
                "too-few-rows", f"no node of a known class is for {purpose}", hint="divide nodes otherwise"
            )
    validation = part(division.validation) if (division.validation & known).any() else None
    return Splits(train=part(division.train), test=part(division.test), validation=validation)


def drawn(y: Array, p: HeldOutParams, place: Place) -> Division:
    """Validation and test nodes drawn from those of known class; all others are for training.

    Raises:
        DataError: none would be left to train on.
    """
    known = np.flatnonzero(y != MISSING)
    held = p.validation_nodes + p.test_nodes
    if held >= len(known):
        raise place.fault(
            "too-few-rows",
            f"{len(known)} nodes of known class leave none for training beside {p.validation_nodes} for validation "
            f"and {p.test_nodes} for testing",
            hint="lower validation_nodes and test_nodes",
        )
    order = known[torch.randperm(len(known), generator=generator(derive_seed(p.split_seed, "split"))).numpy()]
    return from_positions(len(y), order[held:], order[p.test_nodes : held], order[: p.test_nodes])


def from_positions(n: int, *positions: Array) -> Division:
    """The division whose training, validation and test nodes are at these positions."""
    masks = [np.zeros(n, dtype=bool) for _ in positions]
    for mask, at in zip(masks, positions, strict=True):
        mask[at] = True
    return Division(*masks)


def features(values: Array, place: Place, room: Room = in_memory) -> Array:
    """Features [n, f] as float32; ``values`` themselves where they are that.

    Raises:
        DataError: no table, or one with a number that is not finite.
    """
    if values.ndim != 2 or not values.size:
        raise place.fault(
            "bad-data", f"features must be nodes by numbers, at least one each, not of shape {values.shape}"
        )
    suits = values.dtype == np.float32 and values.flags.c_contiguous
    found = values if suits else room("x", values.shape, np.float32)
    for at in blocks(values):
        with np.errstate(over="ignore"):
            part = values[at].astype(np.float32)
        if not np.isfinite(part).all():
            node, feature = (int(k[0]) for k in np.nonzero(~np.isfinite(part)))
            what = f"feature {feature} of node {at.start + node} is {values[at.start + node, feature]}"
            raise place.fault("bad-data", f"{what}, not a finite number of 32 bits")
        if found is not values:
            found[at] = part
    return found


def numbered_classes(values: Array, classes: int, place: Place) -> Array:
    """Classes [n] int64 of a published data set, of which ``classes`` are known; NaN is a node without one.

    Raises:
        DataError: a number outside the range.
    """
    known = ~np.isnan(values)
    wrong = known & ~((values >= 0) & (values < classes) & (values == np.floor(values)))
    if wrong.any():
        node = int(wrong.argmax())
        raise place.fault("bad-labels", f"node {node} has the class {values[node]:g}, not one of 0 to {classes - 1}")
    return np.where(known, values, MISSING).astype(np.int64)


def named_classes(values: Array, place: Place) -> tuple[Array, tuple[str, ...]]:
    """Classes [n] int64 and their names, of numbers or texts [n] that name them.

    Nobody knows the class of NaN, -1 or an empty text. Names are sorted as numbers if all of them are, else as text.

    Raises:
        DataError: a number that is no class.
    """
    if values.dtype.kind == "U":
        known = (values != "") & (values != "-1") & (values != "-1.0")
        try:
            numbers = np.where(known, values, "-1").astype(np.float64)
        except ValueError:
            names, codes = np.unique(values[known], return_inverse=True)
            y = np.full(len(values), MISSING)
            y[known] = codes
            return y, tuple(str(name) for name in names)
    else:
        numbers = values.astype(np.float64)
    known = ~np.isnan(numbers) & (numbers != -1)
    wrong = known & ~((numbers >= 0) & (numbers == np.floor(numbers)) & (numbers < 2**53))
    if wrong.any():
        node = int(wrong.argmax())
        raise place.fault("bad-labels", f"node {node} has the class {numbers[node]:g}",
                          hint="classes are whole numbers from 0, or -1 where nobody knows, or words")  # fmt: skip
    found, codes = np.unique(numbers[known].astype(np.int64), return_inverse=True)
    y = np.full(len(values), MISSING)
    y[known] = codes
    return y, tuple(str(name) for name in found)


def _disjoint(division: Division, place: Place) -> None:
    parts = {"training": division.train, "validation": division.validation, "testing": division.test}
    for (one, first), (other, second) in (
        (a, b) for i, a in enumerate(parts.items()) for b in list(parts.items())[i + 1 :]
    ):
        if (both := first & second).any():
            raise place.fault("bad-data", f"node {int(both.argmax())} is for {one} and for {other}",
                              hint="let each node be for one of them")  # fmt: skip
