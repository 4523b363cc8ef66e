"""Numbers in float64 that know how far off they may be: the fast number system."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.arithmetic import Flags, Floats, Indices, Number, Objects, Undecided
from unlearnbench_verifier.findings import Refusal

ULP = 2.0**-52
"""Twice the unit roundoff u: what one rounding adds, relative to its result, and as much again for the bound's own."""
SMALL = 2.0**-900
"""Products of factors that multiply to less may lose digits to underflow ..."""
SLACK = 2.0**-1000
"""... by less than this each (a rounding in the subnormal range is off by 2**-1075), the bound's own included."""


class Ball(Number):
    """Numbers known up to a radius: each lies within ``radius`` of ``middle``.

    Rounding errors are bounded as in Higham, Accuracy and Stability of Numerical Algorithms, chapters 2 and 3: one
    operation is off by u = 2**-53 relative to its result, a sum of n products by n u / (1 - n u) relative to the sum
    of their absolute values, in whatever order and fused or not. That holds for IEEE 754 arithmetic and for matrix
    products that add up products (every BLAS in use; not Strassen's). Bounds are worked out in floats too: each is
    made larger by a factor that is well above what its own roundings can have taken away.
    """

    def __init__(self, middle: Floats, radius: Floats) -> None:
        if not (np.isfinite(middle).all() and np.isfinite(radius).all()):
            raise Refusal("overflow", "numbers grow beyond what float64 holds", hint="use exact arithmetic")
        self.middle = middle
        self.radius = radius

    @property
    def shape(self) -> tuple[int, ...]:
        return self.middle.shape

    @classmethod
    def exactly(cls, values: npt.ArrayLike) -> Self:
        middle = np.asarray(values, np.float64)
        return cls(middle, np.zeros_like(middle))

    @classmethod
    def joined(cls, parts: Sequence[Self], axis: int = 0) -> Self:
        middles, radii = [part.middle for part in parts], [part.radius for part in parts]
        return cls(np.concatenate(middles, axis), np.concatenate(radii, axis))

    def __getitem__(self, index: Any) -> Self:
        return type(self)(np.asarray(self.middle[index]), np.asarray(self.radius[index]))

    def reshaped(self, *shape: int) -> Self:
        return type(self)(self.middle.reshape(shape), self.radius.reshape(shape))

    def __neg__(self) -> Self:
        return type(self)(-self.middle, self.radius)

    def __add__(self, other: Self) -> Self:
        with np.errstate(all="ignore"):
            middle = np.asarray(self.middle + other.middle)
            # Adding an exact zero is exact; a sum in the subnormal range is exact as well, so nothing underflows.
            exact = ((self.middle == 0) & (self.radius == 0)) | ((other.middle == 0) & (other.radius == 0))
            rounding = np.where(exact, 0.0, ULP * np.abs(middle))
            return type(self)(middle, (self.radius + other.radius + rounding) * (1 + 8 * ULP))

    def __mul__(self, other: Self) -> Self:
        with np.errstate(all="ignore"):
            a, b = np.abs(self.middle), np.abs(other.middle)
            middle = np.asarray(self.middle * other.middle)
            # By 0, 1 or -1 nothing is rounded: a zero stays an exact zero, so that its sign can be decided.
            exact = (a == 0) | (a == 1) | (b == 0) | (b == 1)
            rounding = np.where(exact, 0.0, ULP * np.abs(middle) + _slack(1, a, b))
            spread = a * other.radius + self.radius * (b + other.radius)
            lost = _slack(3, np.concatenate([_flat(a), _flat(self.radius)]), other.radius) + _slack(1, self.radius, b)
            unsure, other_unsure = self.radius > 0, other.radius > 0
            touched = (unsure & ((b > 0) | other_unsure)) | (other_unsure & (a > 0))
            return type(self)(middle, (spread + rounding + np.where(touched, lost, 0.0)) * (1 + 16 * ULP))

    def weighted(self, weights: Floats) -> Self:
        with np.errstate(all="ignore"):
            size = np.abs(weights)
            return type(self)(weights @ self.middle, self._spread(size))

    def _spread(self, size: Floats) -> Floats:
        """Radius of a matrix product whose left side has these absolute values [o, k]."""
        n = size.shape[-1]
        # gamma = n u / (1 - n u) is below n * ULP for every n that fits a memory. Near the smallest float this may be
        # rounded to 0, which a weight could make large again; an exact zero has to stay one.
        share = np.nextafter(n * ULP * np.abs(self.middle), np.inf, where=self.middle != 0, out=np.zeros(self.shape))
        share += self.radius
        lost = _slack(n, size, self.middle) + _slack(n, size, self.radius)
        return np.asarray((size @ share) * (1 + (n + 16) * ULP) + lost)

    def relu(self) -> Self:
        low, high = self._ends()
        return self._between(np.maximum(low, 0), np.maximum(high, 0))

    def largest(self) -> Self:
        low, high = self._ends()
        return self._between(low.max(axis=0), high.max(axis=0))

    def active(self) -> Flags:
        yes = self.middle >= self.radius
        if not (yes | (self.middle < -self.radius)).all():
            raise Undecided("a value is so near to 0 that float64 cannot tell its side")
        return yes

    def first_largest(self, present: Flags) -> Indices:
        winner: Indices = np.where(present, self.middle, -np.inf).argmax(axis=0)
        gap = self[winner[None], *np.indices(winner.shape, sparse=True)] - self
        place = np.arange(self.shape[0]).reshape(-1, *[1] * winner.ndim)
        later = (place > winner) & (gap.middle >= gap.radius)
        if not (~present | (place == winner) | later | (gap.middle > gap.radius)).all():
            raise Undecided("two values of a window are so near to each other that float64 cannot tell the larger")
        return winner

    def corner(self, low: Self, high: Self) -> Self:
        bottom, top = low._ends()[0], high._ends()[1]
        best = np.where(self.middle >= 0, top, bottom)
        with np.errstate(all="ignore"):
            # Another corner is better only as far as the radius goes, which the farther end of each side accounts for.
            reach = np.maximum(np.abs(bottom), np.abs(top))
            return type(self)(np.asarray(best @ self.middle), self._spread(reach))

    def upper(self) -> Objects:
        return np.asarray(_fractions(self.middle) + _fractions(self.radius), object)

    def lower(self) -> Objects:
        return np.asarray(_fractions(self.middle) - _fractions(self.radius), object)

    def _ends(self) -> tuple[Floats, Floats]:
        """The least and the largest float of each ball, rounded outward; the number itself where it is exact."""
        known = self.radius == 0
        with np.errstate(all="ignore"):
            low = np.nextafter(self.middle - self.radius, -np.inf)
            high = np.nextafter(self.middle + self.radius, np.inf)
        return np.where(known, self.middle, low), np.where(known, self.middle, high)

    @classmethod
    def _between(cls, low: Floats, high: Floats) -> Self:
        with np.errstate(all="ignore"):
            middle = low + (high - low) / 2
            radius = np.nextafter(np.maximum(high - middle, middle - low), np.inf)
        return cls(np.asarray(middle), np.where(low == high, 0.0, radius))


def _flat(values: Floats) -> Floats:
    return np.asarray(values).reshape(-1)


def _slack(n: int, *factors: Floats) -> float:
    """What n products of one number of each array can lose to underflow: nothing where all are large enough."""
    smallest = 1.0
    for values in factors:
        size = np.abs(values)
        smallest *= float(size.min(initial=np.inf, where=size > 0))
    return 0.0 if smallest >= SMALL else n * SLACK


def _fractions(values: Floats) -> Objects:
    found = np.empty(values.shape, object)
    for place, value in np.ndenumerate(values):
        found[place] = Fraction(float(value))
    return found
