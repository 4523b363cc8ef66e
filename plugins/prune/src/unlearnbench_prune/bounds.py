"""Upper bounds of affine functions over a place, with the multipliers that prove them.

A solver finds the multipliers, but no bound is the solver's word: each is worked out again from the multipliers, by
weak duality, as whoever checks a certificate will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from unlearnbench_prune.parts import Bound, Patch, Place, Region

How = Literal["auto", "interval", "lp"]

SLACK = 1e-9
"""Share of the sizes of its terms by which a bound is raised: far more than float64 loses on the way, so that a check
with directed rounding, which has to allow for every loss, still comes out below it."""

_INFEASIBLE = 2
"""``linprog``'s status where no point fulfils the rows."""


class NoSolution(Exception):
    """A request that cannot be patched, and why: an empty place, a solver that gave up, no class left to send to."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def limits(place: Place) -> tuple[Tensor, Tensor]:
    """Least and largest value [features] of each feature in ``place``.

    Raises:
        NoSolution: the box around the centre does not meet the box of inputs.
    """
    low, high = place.bounds()
    if bool((low > high).any()):
        raise NoSolution("the box around the row lies outside the box of inputs")
    return low, high


def weak_duality(place: Place, d: Tensor, q: float, duals: Tensor) -> float:
    """An upper bound of ``d @ x + q`` over ``place``, raised by ``SLACK``.

    ``duals @ (g @ x + h)`` is at least 0 in the region, so adding it can only raise the function; what is left is
    affine in x, and largest over a box at one of its corners. True for any multipliers; good for those of the optimum.

    Args:
        place: where.
        d: [features] the slope, float64.
        q: the constant.
        duals: [rows of the region], each at least 0.

    Raises:
        ValueError: a multiplier is negative.
        NoSolution: the box of the place is empty.
    """
    if bool((duals < 0).any()):
        raise ValueError("multipliers are at least 0")
    low, high = limits(place)
    used = duals.nonzero().flatten()
    g, h, mu = place.region.g[used], place.region.h[used], duals[used]
    rest = d + mu @ g
    value = q + mu @ h + (rest * low).maximum(rest * high).sum()
    sizes = 1 + abs(q) + mu @ h.abs() + (d.abs() + mu @ g.abs()) @ low.abs().maximum(high.abs())
    return float(value + SLACK * sizes)


def interval_bound(place: Place, d: Tensor, q: float) -> Bound:
    """The bound of ``d @ x + q`` from the box of ``place`` alone, so without multipliers. Raises NoSolution."""
    none = torch.zeros_like(place.region.h)
    return Bound(weak_duality(place, d, q, none), none)


@dataclass(frozen=True, eq=False)
class Program:
    """The linear programs over one place: its box, and the rows that the box does not already fulfil.

    Each of them has its own function to be made largest; what they share is worked out once.
    """

    place: Place
    kept: Tensor
    """[some of the rows of the region] those that a point of the box may violate"""
    g: NDArray[np.float64]
    h: NDArray[np.float64]
    box: NDArray[np.float64]
    """[features, 2]"""

    def solve(self, d: Tensor) -> tuple[Tensor, Tensor]:
        """Where ``d @ x`` is largest [features], and the multipliers [rows of the region] of the optimum.

        Raises:
            NoSolution: no point of the box is in the region, or the solver stopped before the optimum.
        """
        # Its presolve takes as long as the programs themselves, which differ in their objective alone.
        found = linprog(
            -d.numpy(), A_ub=-self.g, b_ub=self.h, bounds=self.box, method="highs", options={"presolve": False}
        )
        ensure_solved(found)
        duals = torch.zeros_like(self.place.region.h)
        duals[self.kept] = torch.from_numpy(-found.ineqlin.marginals).clamp_min(0)
        return torch.from_numpy(found.x), duals

    def bound(self, d: Tensor, q: float) -> Bound:
        """The least upper bound of ``d @ x + q``, as far as the solver's multipliers prove it. Raises NoSolution."""
        if not len(self.kept):
            return interval_bound(self.place, d, q)
        _, duals = self.solve(d)
        return Bound(weak_duality(self.place, d, q, duals), duals)


def program(place: Place) -> Program:
    """What the linear programs over ``place`` share. Raises NoSolution where its box is empty."""
    low, high = limits(place)
    region = place.region
    least = (region.g * low).minimum(region.g * high).sum(1) + region.h
    kept = (least < 0).nonzero().flatten()
    return Program(place, kept, region.g[kept].numpy(), region.h[kept].numpy(), torch.stack([low, high], dim=1).numpy())


def ensure_solved(found: Any) -> None:
    """Raise NoSolution unless ``linprog`` found the optimum."""
    if found.status == _INFEASIBLE:
        raise NoSolution("no input of the box is in the region")
    if found.status != 0:
        raise NoSolution(f"the solver stopped without an optimum: {' '.join(found.message.split())}")


def lp_bound(place: Place, d: Tensor, q: float) -> Bound:
    """The bound of ``d @ x + q`` from the rows and the box of ``place``, by a linear program. Raises NoSolution."""
    return program(place).bound(d, q)


def leads(
    place: Place, target: int, how: How = "auto", *, margin: float = 1e-2, added: Patch | None = None
) -> list[Bound]:
    """How far each output may lead over ``target`` in ``place``: a bound of (C_j - C_t) x + e_j - e_t for each j.

    Args:
        place: where.
        target: the output that the others are compared to; its own entry is ``Bound(-inf, zeros)``.
        how: ``interval`` by the box alone; ``lp`` by linear programs; ``auto`` by programs where there is no radius,
            and else by the box, unless the patch that this asks for is more than twice as large as what the centre
            alone needs. Even then there are no programs for outputs that such a small patch need not lower.
        margin: least lead that the target is to have, which ``auto`` counts into the sizes of patches.
        added: what is added to the outputs beforehand: earlier patches, or the one whose claim is to be proved (which
            holds where every value is at most ``-margin``).

    Raises:
        NoSolution: the place is empty, or the solver stopped.
    """
    slopes, shifts = ahead(place.region, target, added)
    others = [j for j in range(len(shifts)) if j != target]
    found = {target: Bound(-math.inf, torch.zeros_like(place.region.h))}
    solved = others
    if how != "lp" and (how == "interval" or place.radius is not None):
        found |= {j: interval_bound(place, slopes[j], float(shifts[j])) for j in others}
        solved = [] if how == "interval" else _too_loose(place, slopes, shifts, found, others, margin)
    if solved:
        over = program(place)
        found |= {j: over.bound(slopes[j], float(shifts[j])) for j in solved}
    return [found[j] for j in range(len(shifts))]


def ahead(region: Region, target: int, added: Patch | None) -> tuple[Tensor, Tensor]:
    """Slopes [outputs, features] and constants [outputs] of each output less the target's."""
    slopes, shifts = region.c, region.e
    if added is not None:
        shifts = shifts + added.shift.to(shifts)
        slopes = slopes if added.slope is None else slopes + added.slope.to(slopes)
    return slopes - slopes[target], shifts - shifts[target]


def _too_loose(
    place: Place, slopes: Tensor, shifts: Tensor, found: dict[int, Bound], others: Sequence[int], margin: float
) -> list[int]:
    """Outputs whose interval bound makes the patch larger than it should be.

    A constant patch has half of the largest lead as its largest entry, and lowers only outputs that lead by more than
    that; the lead at the centre says how small it can be at best.
    """
    if place.centre is None:
        return list(others)
    at_centre = slopes @ place.centre.to(slopes) + shifts
    needed = max(0.0, *(float(at_centre[j]) + margin for j in others)) / 2
    asked = max(0.0, *(found[j].value + margin for j in others)) / 2
    if asked <= 2 * needed:
        return []
    return [j for j in others if found[j].value + margin > needed]
