"""Which filters belong to which classes, as the gates have it: the numbers behind the figures.

A gate is sigmoid(alpha), from 0 (closed) to 1 (open). Of a filter, which is an output channel of a convolution or an
output feature of a projection, the gate of its weights is looked at; shares of closed gates count those of biases too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearnbench_wfnet.contents import layers_of

Floats = NDArray[np.float64]

CLOSED = 0.5
"""Below this a gate is closed."""
MOST_CLOSED = 0.1
"""The share of each layer's filters by which two classes are compared."""


def weight_gates(artifacts: Mapping[str, Any]) -> dict[str, Floats]:
    """Gates [classes, width] of the weights of each layer."""
    return {layer.name: _gates(artifacts[f"weight/{layer.name}"]) for layer in layers_of(artifacts)}


def all_gates(artifacts: Mapping[str, Any]) -> dict[str, Floats]:
    """Gates [classes, width or twice the width] of each layer, those of biases behind those of weights."""
    found = weight_gates(artifacts)
    for layer in layers_of(artifacts):
        if layer.bias:
            found[layer.name] = np.concatenate([found[layer.name], _gates(artifacts[f"bias/{layer.name}"])], axis=1)
    return found


def closed_by_class(artifacts: Mapping[str, Any], below: float = CLOSED) -> Floats:
    """Share [classes] of each class's gates that are closed."""
    return np.asarray((np.concatenate(list(all_gates(artifacts).values()), axis=1) < below).mean(1))


def closed_by_layer(artifacts: Mapping[str, Any], below: float = CLOSED) -> dict[str, float]:
    """Share of each layer's gates that are closed, over all classes."""
    return {name: float((gates < below).mean()) for name, gates in all_gates(artifacts).items()}


def filter_order(gates: Floats, first: int | None = None) -> NDArray[np.int64]:
    """The filters of ``gates`` [classes, width] by the class that closes them most, and the most closed first.

    Filters that no class closes come last. With a class ``first``, the order is that of its gates alone.
    """
    least = gates.min(0)
    if first is not None:
        return np.lexsort((least, gates[first]))
    return np.lexsort((least, gates.argmin(0), least >= CLOSED))


def binned(gates: Floats, most: int) -> tuple[Floats, int]:
    """At most so many columns, each the mean of as many neighbours as it takes; and how many those are."""
    each = -(-gates.shape[1] // most)
    starts = np.arange(0, gates.shape[1], each)
    sizes = np.diff([*starts, gates.shape[1]])
    return np.asarray(np.add.reduceat(gates, starts, axis=1) / sizes), each


def shared_filters(alphas: Sequence[Floats]) -> Floats:
    """Share [classes, classes] of the most closed filters of one class that are also another's; by chance, a tenth.

    ``alphas`` [classes, width] of each layer, before the sigmoid, where no two gates become equal that are not. The
    most closed are a tenth of each layer; filters that are equally closed have equal parts in what is left of it.
    """
    members = np.concatenate([_most_closed(alpha) for alpha in alphas], axis=1)
    shared = [np.minimum(members, row).sum(1) for row in members]
    return np.asarray(np.stack(shared) / members[0].sum())


def _most_closed(alpha: Floats) -> Floats:
    """How far [classes, width] each filter is among the tenth that a class closes most, from 0 to 1."""
    mass = MOST_CLOSED * alpha.shape[1]
    found = np.zeros(alpha.shape)
    for row, members in zip(alpha, found, strict=True):
        left = mass
        values, sizes = np.unique(row, return_counts=True)
        for value, size in zip(values, sizes, strict=True):
            members[row == value] = min(1.0, left / size)
            left -= size
            if left <= 0:
                break
    return found


def _gates(alpha: Any) -> Floats:
    return alpha.double().sigmoid().numpy()  # type: ignore[no-any-return]
