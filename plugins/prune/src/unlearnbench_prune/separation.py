"""How far the support nets of other patches are off in a place, and what is left of those patches there.

The support net of a region is 1 less the sum over its rows of min(1, lambda * violation). A violation is at least the
negative slack, so any sum of negative slacks, over rows of our choice, that is at least s in the place puts the net at
1 - min(1, lambda * s) or below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnbench_prune.bounds import interval_bound, limits, program, weak_duality
from unlearnbench_prune.parts import Box, Patch, Place, Region

_TRIES = 4
"""Most choices of rows that are solved for; each is a linear program."""


@dataclass(frozen=True, eq=False)
class Off:
    """An upper bound ``nu`` in [0, 1] of another region's support net over a place, and what proves it.

    ``rows`` are rows of the other region, ``duals`` [rows of the place's own region] the multipliers by which the sum
    of their negative slacks is bounded. Nothing is proved where there are no rows: ``nu`` is 1 then.
    """

    rows: tuple[int, ...]
    duals: Tensor
    nu: float


def off(place: Place, other: Region, sharpness: float) -> Off:
    """How far the support net of ``other`` is off everywhere in ``place``.

    The rows are those that are negative at the centre, or without one those that are negative everywhere in the place
    by construction: units of the first layer on which the two regions differ. Intervals are tried first, then linear
    programs; rows that are not negative where the sum is least do harm, and are left out of the next.

    Args:
        place: where; its ``centre`` is looked at also where there is no radius.
        other: the region of another patch in the same network.
        sharpness: lambda of the support nets.

    Raises:
        NoSolution: the place is empty, or the solver stopped.
    """
    best = Off((), torch.zeros_like(place.region.h), 1.0)
    rows = _negative(place, other)
    over = program(place)
    for attempt in range(_TRIES):
        if not len(rows):
            break
        # The least sum of negative slacks is minus the largest sum of slacks.
        g, h = other.g[rows].sum(0), float(other.h[rows].sum())
        if attempt == 0:
            bound = interval_bound(place, g, h)
            best = _better(best, rows, bound.duals, bound.value, sharpness)
        if best.nu == 0:
            break
        x, duals = over.solve(g)
        best = _better(best, rows, duals, weak_duality(place, g, h, duals), sharpness)
        harmless = other.g[rows] @ x + other.h[rows] <= 0
        if bool(harmless.all()):
            break
        rows = rows[harmless]
    return best


def _better(best: Off, rows: Tensor, duals: Tensor, most: float, sharpness: float) -> Off:
    """``best``, or what these rows prove, whose slacks add up to ``most`` at most."""
    nu = 1 - min(1.0, sharpness * max(0.0, -most))
    return Off(tuple(rows.tolist()), duals, nu) if nu < best.nu else best


def _negative(place: Place, other: Region) -> Tensor:
    """Rows of ``other`` that are negative at the centre, or without a centre everywhere in the place."""
    if place.centre is not None:
        return (other.g @ place.centre.to(other.g) + other.h < 0).nonzero().flatten()
    low, high = limits(place)
    most = (other.g * low).maximum(other.g * high).sum(1) + other.h
    own = place.region
    opposite = ((other.g == -own.g).all(1) & (other.h == -own.h)) & ((other.g != 0).any(1) | (other.h != 0))
    return ((most < 0) | opposite).nonzero().flatten()


def reach(patch: Patch, box: Box) -> Tensor:
    """Largest size [outputs] of each entry of the map over the box, in float64; H is the largest of them."""
    shift = patch.shift.double()
    if patch.slope is None:
        return shift.abs()
    slope = patch.slope.double()
    ends = torch.stack([slope * box.low, slope * box.high])
    return (shift + ends.amin(0).sum(1)).abs().maximum((shift + ends.amax(0).sum(1)).abs())


def interference(nu: float, patch: Patch, height: float, box: Box) -> Tensor:
    """What ``patch``, whose gate is on to ``nu`` at most, may do to the leads: [outputs, outputs].

    Entry [j, t] is the most by which it raises the lead of j over t: what it may add to j and take from t. An affine
    map counts with the largest size of its entries over the box, in both directions.

    Args:
        nu: upper bound of the gate, in [0, 1].
        patch: the other group's.
        height: H of its gate.
        box: where the claims are made.
    """
    left = (reach(patch, box) - height * (1 - nu)).clamp_min(0)
    if patch.slope is None:
        added = patch.shift.double().sign() * left
        return added.clamp_min(0)[:, None] + (-added).clamp_min(0)
    return left[:, None] + left
