"""The steps of a network, each written once for both number systems and for any number of columns.

A value is an array [numbers of the value, columns]. Its columns are the coefficients of the input's features and last
the constant, or the constant alone where a network runs at a point.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.arithmetic import Flags, Floats, Indices, N
from unlearnbench_verifier.windows import Windows, over_channels

Pattern = npt.NDArray[np.uint8]


class Smooth(ABC):
    """A step that is the same affine function everywhere."""

    @property
    def load(self) -> int:
        """Numbers (per column) that it works on at a time, beside its value."""
        return 0

    @abstractmethod
    def apply(self, *values: N) -> N:
        """The value that it makes."""


class Bend(ABC):
    """A step with units, each of which is affine on either side (relu) or at each winner (max pooling)."""

    @property
    @abstractmethod
    def units(self) -> int:
        """How many it has."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many slacks its units have; the same whatever their sides are."""

    @abstractmethod
    def decide(self, value: N) -> Pattern:
        """The sides [units] at a point. Undecided where rounding errors leave one open."""

    @abstractmethod
    def allows(self, sides: Pattern) -> bool:
        """Whether these are sides that its units can be on."""

    @abstractmethod
    def bend(self, value: N, sides: Pattern) -> N:
        """The value that it makes with its units on these sides."""

    @abstractmethod
    def slacks(self, value: N, sides: Pattern) -> N:
        """What is at least 0 where its units are on these sides: [rows, columns]."""


# -- smooth ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Same(Smooth):
    """Flatten: values are kept flat anyway."""

    def apply(self, *values: N) -> N:
        return values[0]


@dataclass(frozen=True, eq=False)
class Sum(Smooth):
    """Residual addition."""

    def apply(self, *values: N) -> N:
        return values[0] + values[1]


@dataclass(frozen=True, eq=False)
class Linear(Smooth):
    """weight @ x + bias."""

    weight: Floats
    """[out, in]"""
    bias: Floats | None

    def apply(self, *values: N) -> N:
        return _plus(values[0].weighted(self.weight), self.bias)


@dataclass(frozen=True, eq=False)
class Scale(Smooth):
    """scale * x + shift, number by number: batch norm in eval mode."""

    scale: Floats
    shift: Floats

    def apply(self, *values: N) -> N:
        return _plus(values[0] * type(values[0]).exactly(self.scale[:, None]), self.shift)


@dataclass(frozen=True, eq=False)
class Convolution(Smooth):
    """A 2-d convolution: windows are gathered, and the kernels are multiplied with all of them at once."""

    windows: Windows
    weight: Floats
    """[groups, channels out of a group, channels into a group * positions of the kernel]"""
    bias: Floats | None
    """[channels out * windows]"""
    inputs: int
    """channels into a group"""

    @property
    def load(self) -> int:
        return int(self.weight.shape[2]) * self.windows.count

    def apply(self, *values: N) -> N:
        value = _padded(values[0])
        sources, size = self.windows.sources(), self.windows.size
        columns = value.shape[1]
        parts = []
        for group, weight in enumerate(self.weight):
            channels = (np.arange(self.inputs) + group * self.inputs)[:, None, None] * size
            places = np.where(sources < 0, -1, sources + channels).reshape(weight.shape[1], -1)
            made = value[places].reshaped(weight.shape[1], -1).weighted(weight)
            parts.append(made.reshaped(-1, columns))
        return _plus(type(value).joined(parts), self.bias)


@dataclass(frozen=True, eq=False)
class Average(Smooth):
    """Average pooling; zeros of the padding are counted."""

    windows: Windows
    channels: int

    @property
    def load(self) -> int:
        return self.channels * self.windows.positions * self.windows.count

    def apply(self, *values: N) -> N:
        value = _padded(values[0])
        places = over_channels(self.windows.sources(), self.channels, self.windows.size)
        factors = np.full((1, len(places)), 1 / len(places))
        return value[places].reshaped(len(places), -1).weighted(factors).reshaped(-1, value.shape[1])


# -- bends -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Relu(Bend):
    """x where x >= 0, else slope * x. Side 1 is x >= 0."""

    size: int
    slope: float = 0.0

    @property
    def units(self) -> int:
        return self.size

    @property
    def rows(self) -> int:
        return self.size

    def decide(self, value: N) -> Pattern:
        return value[:, -1].active().astype(np.uint8)

    def allows(self, sides: Pattern) -> bool:
        return bool((sides <= 1).all())

    def bend(self, value: N, sides: Pattern) -> N:
        return value * type(value).exactly(np.where(sides == 1, 1.0, self.slope)[:, None])

    def slacks(self, value: N, sides: Pattern) -> N:
        return value * type(value).exactly(np.where(sides == 1, 1.0, -1.0)[:, None])


@dataclass(frozen=True, eq=False)
class MaxPool(Bend):
    """The largest of a window. A side is the position of the first largest; padding never is it."""

    places: Indices
    """[positions, units]; -1 is padding"""

    @property
    def units(self) -> int:
        return int(self.places.shape[1])

    @property
    def rows(self) -> int:
        return int(self._present.sum()) - self.units

    @property
    def _present(self) -> Flags:
        return self.places >= 0

    def decide(self, value: N) -> Pattern:
        return value[:, -1][self.places].first_largest(self._present).astype(np.uint8)

    def allows(self, sides: Pattern) -> bool:
        if (sides >= len(self.places)).any():
            return False
        return bool((self._won(sides) >= 0).all())

    def bend(self, value: N, sides: Pattern) -> N:
        return value[self._won(sides)]

    def slacks(self, value: N, sides: Pattern) -> N:
        others = self._present.T & (np.arange(len(self.places)) != sides[:, None])
        unit, position = np.nonzero(others)
        return value[self._won(sides)[unit]] - value[self.places[position, unit]]

    def _won(self, sides: Pattern) -> Indices:
        return self.places[sides, np.arange(self.units)]


def _padded(value: N) -> N:
    """The value and behind it a row of zeros, which index -1 finds."""
    return type(value).joined([value, type(value).exactly(np.zeros((1, value.shape[1])))])


def _plus(value: N, constant: Floats | None) -> N:
    """Adds to the last column."""
    if constant is None:
        return value
    last = value[:, -1:] + type(value).exactly(constant[:, None])
    return type(value).joined([value[:, :-1], last], axis=1)
