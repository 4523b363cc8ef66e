"""The few things that everything in here speaks of: the box of inputs, a linear region, a patch and who it is for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WHOLE = float(torch.finfo(torch.float32).max)
"""The radius that is stored for a whole region: weights of a model are finite numbers."""


@dataclass(frozen=True)
class Box:
    """Inputs from ``low`` to ``high`` in every feature: where the claims are made. Outside nothing is said."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Region:
    """A linear region S(x_u) of a network, in float64.

    Inside every slack ``g @ x + h`` is at least 0 and the network is ``c @ x + e``; x is flat. ``pattern`` [units]
    uint8 says which side of every bend it is on.
    """

    pattern: Tensor
    g: Tensor
    """[rows, features]"""
    h: Tensor
    """[rows]"""
    c: Tensor
    """[outputs, features]"""
    e: Tensor
    """[outputs]"""


@dataclass(frozen=True, eq=False)
class Place:
    """Where a claim is made: a region, cut by a box around ``centre`` [features] where there is a ``radius``."""

    region: Region
    box: Box
    centre: Tensor | None = None
    radius: float | None = None

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Least and largest value [features] of each feature, in float64."""
        wide = self.region.c.new_ones(self.region.c.shape[1])
        low, high = self.box.low * wide, self.box.high * wide
        if self.centre is None or self.radius is None:
            return low, high
        centre = self.centre.to(low)
        return low.maximum(centre - self.radius), high.minimum(centre + self.radius)


@dataclass(frozen=True, eq=False)
class Bound:
    """An upper bound of an affine function over a place, and the multipliers that prove it.

    ``duals`` [rows] are at least 0; see ``bounds.weak_duality``.
    """

    value: float
    duals: Tensor


@dataclass(frozen=True, eq=False)
class Patch:
    """A confusion map m(x) = slope @ x + shift. float32, as it is stored; ``slope`` is None where it is constant."""

    shift: Tensor
    """[outputs]"""
    slope: Tensor | None = None
    """[outputs, features]"""


@dataclass(frozen=True, eq=False)
class Spot:
    """What a gate keeps of a place: the pattern [units] uint8 and, where it has a radius, the centre [features]."""

    pattern: Tensor
    centre: Tensor | None = None
    radius: float | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """One patch, the class that it sends to, and the spots under its gate. A spot alone has a gate of its own."""

    target: int
    spots: tuple[Spot, ...]
    patch: Patch
