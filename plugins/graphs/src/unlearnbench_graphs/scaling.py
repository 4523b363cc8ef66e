"""Features of nodes on a common scale."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import StandardScaler

from unlearnbench_graphs.plugin import Scale
from unlearnbench_graphs.rooms import Array, Room, blocks, in_memory


def scaled(x: Array, how: Scale, room: Room = in_memory) -> Array:
    """Features [n, f] float32 as they are, as shares of their node's sum, or standardised.

    ``rows`` divides by the sum of a node's absolute values and leaves a node without any at 0. ``standard`` is that of
    Yi and Wei (2025): mean 0 and deviation 1 over all nodes, in float32, then all divided by the largest norm of a
    node; where that is 0, so is everything.
    """
    if how == "none":
        return x
    out = room(f"x-{how}", x.shape, np.float32)
    if how == "rows":
        for at in blocks(x):
            total = np.abs(x[at]).sum(1, keepdims=True, dtype=np.float64)
            out[at] = x[at] / np.where(total > 0, total, 1)
        return out
    scaler = StandardScaler()
    for at in blocks(x):
        scaler.partial_fit(x[at])
    largest = np.float32(0)
    for at in blocks(x):
        out[at] = scaler.transform(x[at])
        largest = max(largest, np.linalg.norm(out[at], axis=1).max())
    if largest:
        for at in blocks(x):
            out[at] /= largest
    return out
