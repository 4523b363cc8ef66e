"""Scenes of drawn shapes: squares, discs, crosses and triangles, told apart by nothing but their form."""

from __future__ import annotations

import numpy as np

from unlearnbench.api.runtime import Component, DataJob, Splits, derive_seed
from unlearnbench_scenes.annotated import Array, Scenes, as_splits
from unlearnbench_scenes.colours import bright
from unlearnbench_scenes.plugin import ShapesParams

NAMES = ("square", "disc", "cross", "triangle")

PRESENCE = 0.5
"""Probability that a shape is in a scene."""

SIDES = (0.44, 0.62)
"""Square root of a shape's area, in units of a quadrant's side."""

EXTENTS = np.array([1.0, 2 / np.sqrt(np.pi), 1.30, np.sqrt(2)])
"""Width and height of each shape whose area is 1."""

NOISE = 0.06
"""Standard deviation of the noise of each channel."""

_COLOUR = 3
_DRAWS = 2 * len(NAMES) + 3 * len(NAMES) + _COLOUR * len(NAMES) + _COLOUR


class Shapes(Component[ShapesParams]):
    """Up to four shapes, one of each class and each in a quadrant of its own, on a dim noisy ground.

    Inputs are [n, 3, size, size] float32 in [0, 1]. Colour, brightness, quadrant and area of a shape are drawn from the
    same distributions for all of them, so only its form says which it is. One scene of sixteen is empty. The first
    scenes of a larger set are those of a smaller one, and training and test scenes come from streams of their own.

    Source: the scenes that the essential graph was tried on here (the paper has no such data).
    """

    def load(self, job: DataJob) -> Splits:
        train, test = self.p.train_rows, self.p.test_rows
        return as_splits(self._scenes("train", train), self._scenes("test", test), self.p.task, NAMES)

    def _scenes(self, split: str, n: int) -> Scenes:
        return draw(n, self.p.size, derive_seed(self.p.seed, "shapes", split))


def draw(n: int, size: int, seed: int) -> Scenes:
    """Draw ``n`` scenes of ``size`` x ``size`` pixels.

    All draws of a scene are one row of one table, so that a scene does not depend on how many follow it.
    """
    rng, noise_rng = (np.random.default_rng(derive_seed(seed, purpose)) for purpose in ("things", "noise"))
    shapes = len(NAMES)
    present, order, side, across, down, colours, ground = np.split(
        rng.random((n, _DRAWS)), np.cumsum([shapes] * 5 + [_COLOUR * shapes]), axis=1
    )
    quadrant = order.argsort(1)
    half = size // 2
    extent = half * (SIDES[0] + (SIDES[1] - SIDES[0]) * side) * EXTENTS
    # The whole shape lies in its quadrant; for an odd size the middle row and column stay empty.
    left = (quadrant % 2) * (size - half) + across * (half - extent)
    top = (quadrant // 2) * (size - half) + down * (half - extent)
    pixels = np.arange(size) + 0.5
    u = (pixels - left[..., None]) / extent[..., None]  # [n, shape, column], 0 to 1 over the shape
    v = (pixels - top[..., None]) / extent[..., None]
    items = np.zeros((n, size, size), np.uint8)
    x = np.broadcast_to(0.25 * ground[:, :, None, None], (n, _COLOUR, size, size)).astype(np.float32)
    paint = bright(colours.reshape(n, shapes, _COLOUR)).astype(np.float32)
    for k in range(shapes):
        inside = form(k, u[:, k, None, :], v[:, k, :, None]) & (present[:, k, None, None] < PRESENCE)
        items[inside] = k + 1
        x = np.where(inside[:, None], paint[:, k, :, None, None], x)
    x += NOISE * noise_rng.standard_normal(x.shape, np.float32)
    return Scenes(x.clip(0, 1), items, np.tile(np.arange(shapes), (n, 1)))


def form(shape: int, u: Array, v: Array) -> Array:
    """Which points of the plane belong to a shape that fills 0 to 1 across (``u``) and down (``v``); both broadcast."""
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    a, b = u - 0.5, v - 0.5
    if NAMES[shape] == "disc":
        return a**2 + b**2 <= 0.25
    if NAMES[shape] == "cross":
        return inside & ((np.abs(a) <= _ARM) | (np.abs(b) <= _ARM))  # type: ignore[no-any-return]
    if NAMES[shape] == "triangle":
        return inside & (2 * np.abs(a) <= v)
    return inside


_ARM = 0.5 * (1 - np.sqrt(1 - EXTENTS[NAMES.index("cross")] ** -2))
"""Half the width of a cross's arms: w = 2 _ARM solves 2 w - w^2 = area / extent^2."""
