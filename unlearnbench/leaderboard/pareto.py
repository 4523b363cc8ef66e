"""Pareto layers: the entries that nobody beats, those that only they beat, and so on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def layers(scores: Mapping[str, Sequence[float]]) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Each entry's layer, 1 being the front, and by whom it is beaten; lower scores are better.

    Entries are beaten by those at least as low in every score and lower in one; a layer are those that are beaten only
    by what lies on the layers before it (Goldberg 1989, non-dominated sorting).
    """
    names = sorted(scores)
    if not names:
        return {}, {}
    points = np.array([scores[name] for name in names], dtype=np.float64).reshape(len(names), -1)
    beaten = np.empty((len(names), len(names)), dtype=bool)  # beaten[i, j]: i by j
    for place, point in enumerate(points):
        beaten[place] = (points <= point).all(axis=1) & (points < point).any(axis=1)
    found = np.zeros(len(names), dtype=np.int64)
    layer = 0
    while not found.all():
        layer += 1
        left = found == 0
        found[left & ~(beaten & left).any(axis=1)] = layer
    return (
        {name: int(found[place]) for place, name in enumerate(names)},
        {name: tuple(names[other] for other in np.flatnonzero(beaten[place])) for place, name in enumerate(names)},
    )
