"""Weak duality: what an affine function is at most over a region cut with a box, from given multipliers.

For any multipliers mu >= 0 of rows that are at least 0 on the region, D.x + q <= (D + mu.G).x + q + mu.h there, and
over a box the right side is largest in a corner. So the bound holds whoever found the multipliers, and however badly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.numbers import Floats, N

Duals = Sequence[tuple[int, float]]
"""Multipliers that are not zero: (row, value)."""


@dataclass(frozen=True, eq=False)
class Cut(Generic[N]):
    """Least and largest value [features] of each feature."""

    low: N
    high: N


def cut(
    numbers: type[N],
    features: int,
    low: float,
    high: float,
    *,
    centre: npt.ArrayLike | None = None,
    radius: float | None = None,
) -> Cut[N]:
    """The box from ``low`` to ``high`` in every feature, cut with |x - centre| <= radius.

    Without a radius, or with an infinite one, it is the whole box.

    Raises:
        Refusal: ``empty-box``, nothing is left, so that anything could be claimed there; ``bad-input``.
    """
    bottom, top = numbers.exactly(np.full(features, low)), numbers.exactly(np.full(features, high))
    if radius is not None and radius != math.inf:
        place = np.asarray(centre, np.float64)
        if place.shape != (features,) or not np.isfinite(place).all() or not radius >= 0:
            raise Refusal("bad-input", f"a radius of 0 or more needs a centre of {features} finite numbers")
        middle, reach = numbers.exactly(place), numbers.exactly(np.full(features, radius))
        bottom, top = _larger(bottom, middle - reach), -_larger(-top, -(middle + reach))
    if (top - bottom).upper().min() < 0:
        raise Refusal("empty-box", "nothing lies within the radius of the centre and in the box")
    return Cut(bottom, top)


def upper(row: N, rows: N, duals: Duals, place: Cut[N]) -> Fraction:
    """At least the largest value of the affine function ``row`` [d + 1] where ``rows`` [L, d + 1] >= 0 in ``place``.

    Exact numbers give the bound itself, balls what is not below it.

    Raises:
        Refusal: ``bad-duals``, a multiplier that is negative, not finite, or of a row that is not there.
    """
    if duals:
        row = row + rows[_indices(duals, rows.shape[0])].weighted(_multipliers(duals))[0]
    bound = row[:-1].corner(place.low, place.high) + row[-1]
    return Fraction(bound.upper().item())


def lower(row: N, rows: N, duals: Duals, place: Cut[N]) -> Fraction:
    """At most the least value of the affine function ``row``: the opposite of what its opposite is at most.

    Raises:
        Refusal: as ``upper``.
    """
    return -upper(-row, rows, duals, place)


def _larger(a: N, b: N) -> N:
    return type(a).joined([a[None], b[None]]).largest()


def _indices(duals: Duals, rows: int) -> list[int]:
    indices = [index for index, _ in duals]
    if not all(0 <= index < rows for index in indices):
        raise Refusal("bad-duals", f"a multiplier belongs to a row that is not among the {rows} of the region")
    return indices


def _multipliers(duals: Duals) -> Floats:
    values = np.array([[value for _, value in duals]], np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise Refusal("bad-duals", "a multiplier is negative or not finite, and proves nothing")
    return values
