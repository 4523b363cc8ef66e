"""What the two number systems have in common: arrays with the few operations that checking a certificate takes.

What is written with these operations runs in either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]


class Undecided(Exception):
    """A comparison that the rounding errors of float64 leave open; exact numbers decide it."""


class Number(ABC):
    """An array of numbers. Shapes, axes and broadcasting are numpy's."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the array."""

    @classmethod
    @abstractmethod
    def exactly(cls, values: npt.ArrayLike) -> Self:
        """The numbers that these finite float64 (or integers below 2**53) are, without any error."""

    @classmethod
    @abstractmethod
    def joined(cls, parts: Sequence[Self], axis: int = 0) -> Self:
        """Several arrays one after the other along an axis."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Self:
        """Whatever numpy's indexing allows."""

    @abstractmethod
    def reshaped(self, *shape: int) -> Self:
        """The same numbers in another shape."""

    @abstractmethod
    def __neg__(self) -> Self: ...

    @abstractmethod
    def __add__(self, other: Self) -> Self: ...

    @abstractmethod
    def __mul__(self, other: Self) -> Self: ...

    def __sub__(self, other: Self) -> Self:
        return self + (-other)

    @abstractmethod
    def weighted(self, weights: Floats) -> Self:
        """``weights`` [o, k], taken as exact, times this [k, m]: [o, m]."""

    @abstractmethod
    def relu(self) -> Self:
        """The larger of each number and 0."""

    @abstractmethod
    def largest(self) -> Self:
        """The largest along the first axis."""

    @abstractmethod
    def active(self) -> Flags:
        """Where the numbers are at least 0.

        Raises:
            Undecided: for one of them that is open.
        """

    @abstractmethod
    def first_largest(self, present: Flags) -> Indices:
        """Where along the first axis the first largest of those ``present`` stands; one at least must be present.

        Raises:
            Undecided: that is open somewhere.
        """

    @abstractmethod
    def corner(self, low: Self, high: Self) -> Self:
        """The largest value [] of this [n] times x for x between low [n] and high [n].

        Where low and high are not known exactly, ``upper`` of the answer is right for the widest box that they allow.
        """

    @abstractmethod
    def upper(self) -> Objects:
        """Fractions, none below its number."""

    @abstractmethod
    def lower(self) -> Objects:
        """Fractions, none above its number."""


N = TypeVar("N", bound=Number)
