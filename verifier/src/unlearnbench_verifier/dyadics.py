"""Whole numbers times a power of two, without any error: the exact number system."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.arithmetic import Flags, Floats, Indices, Number, Objects


class Exact(Number):
    """Dyadic rationals ``numerators * 2**-shift``: Python's integers, with one shift for the whole array."""

    def __init__(self, numerators: Objects, shift: int) -> None:
        self.numerators = numerators
        self.shift = shift

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numerators.shape

    @classmethod
    def exactly(cls, values: npt.ArrayLike) -> Self:
        floats = np.asarray(values, np.float64)
        fraction, exponent = np.frexp(floats)
        whole = np.asarray(np.ldexp(fraction, 53)).astype(np.int64)
        lowest = whole & -whole  # the lowest bit that is set: what stands below it need not be carried along
        zeros = np.where(whole == 0, 0, np.frexp(lowest.astype(np.float64))[1] - 1)
        place = np.where(whole == 0, 0, exponent.astype(np.int64) - 53 + zeros)
        shift = max(0, -int(place.min(initial=0)))
        return cls(_objects((whole >> zeros).astype(object) << (place + shift).astype(object)), shift)

    @classmethod
    def joined(cls, parts: Sequence[Self], axis: int = 0) -> Self:
        shift = max(part.shift for part in parts)
        return cls(np.concatenate([part._at(shift) for part in parts], axis), shift)

    def __getitem__(self, index: Any) -> Self:
        return type(self)(_objects(self.numerators[index]), self.shift)

    def reshaped(self, *shape: int) -> Self:
        return type(self)(self.numerators.reshape(shape), self.shift)

    def __neg__(self) -> Self:
        return type(self)(_objects(-self.numerators), self.shift)

    def __add__(self, other: Self) -> Self:
        shift = max(self.shift, other.shift)
        return type(self)(_objects(self._at(shift) + other._at(shift)), shift)

    def __mul__(self, other: Self) -> Self:
        return type(self)(_objects(self.numerators * other.numerators), self.shift + other.shift)

    def weighted(self, weights: Floats) -> Self:
        left = type(self).exactly(weights)
        used = self.numerators != 0
        alive = np.flatnonzero(used.any(axis=1))  # units that are off bring whole rows of zeros
        a, b, used = left.numerators[:, alive], self.numerators[alive], used[alive]
        if used.sum() * 4 > used.size:
            product = a @ b
        else:
            product = np.zeros((len(a), b.shape[1]), object)
            for k, columns in enumerate(used):
                product[:, columns] += a[:, k, None] * b[None, k, columns]
        return type(self)(_objects(product), left.shift + self.shift)

    def relu(self) -> Self:
        return type(self)(_objects(np.maximum(self.numerators, 0)), self.shift)

    def largest(self) -> Self:
        return type(self)(_objects(self.numerators.max(axis=0)), self.shift)

    def active(self) -> Flags:
        return np.asarray(self.numerators >= 0, np.bool_)

    def first_largest(self, present: Flags) -> Indices:
        below = min(self.numerators.reshape(-1), default=0) - 1
        return np.asarray(np.where(present, self.numerators, below).argmax(axis=0))

    def corner(self, low: Self, high: Self) -> Self:
        ends = self.joined([(self * low)[None], (self * high)[None]]).largest()
        return type(self)(_objects(ends.numerators.sum(initial=0)), ends.shift)

    def upper(self) -> Objects:
        found = np.empty(self.shape, object)
        for place, numerator in np.ndenumerate(self.numerators):
            found[place] = Fraction(numerator, 1 << self.shift)
        return found

    def lower(self) -> Objects:
        return self.upper()

    def _at(self, shift: int) -> Objects:
        return self.numerators if shift == self.shift else _objects(self.numerators << (shift - self.shift))


def _objects(values: Any) -> Objects:
    """An array of Python's integers, also where numpy gives back a bare one for an array without axes."""
    if isinstance(values, np.ndarray):
        return values
    found = np.empty((), object)
    found[()] = int(values)
    return found
