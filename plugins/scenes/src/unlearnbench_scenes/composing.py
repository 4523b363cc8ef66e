"""Scenes composed of photographed items: grey images, cut out, tinted and laid on a canvas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from unlearnbench_scenes.annotated import Array, Scenes
from unlearnbench_scenes.colours import bright

MOST = 4
"""Items of a scene at most."""

OVERLAP = 0.15
"""What the frames of two items may share at most, of the smaller one's area."""

SIDES = (20 / 64, 32 / 64)
"""Least and greatest side to which an item's image is resized, in units of the scene's side."""

MASK_ABOVE = 24
"""An item is where its image is brighter than this, of 255."""

DIM = 0.3
"""Brightest channel of the canvas before its gradient."""

GRADIENT = 0.1
"""Difference of brightness between two sides of the canvas at most."""

NOISE = 0.06
"""Standard deviation of the noise of each channel."""

Frame = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def compose(stock: Sequence[Array], n: int, size: int, rng: np.random.Generator) -> Scenes:
    """Compose ``n`` scenes of ``size`` x ``size`` pixels.

    ``stock`` holds the images of each class, [k, h, w] uint8 with at least one of each. A scene has 1 to 4 items of
    classes drawn uniformly. Each is resized, cut to its bright pixels, multiplied by a bright colour and laid where its
    frame shares at most 15 % with any other's (of the smaller); a later item covers an earlier one. An item that fits
    nowhere is left out, which the first never is. Noise comes over everything.

    Scenes are drawn one after the other, so the first scenes of a larger set are those of a smaller one.
    """
    x = np.empty((n, 3, size, size), np.float32)
    items = np.zeros((n, size, size), np.uint8)
    classes = np.zeros((n, MOST), np.int64)
    for row in range(n):
        x[row] = canvas(size, rng)
        frames: list[Frame] = []
        for _ in range(int(rng.integers(1, MOST + 1))):
            label = int(rng.integers(len(stock)))
            image = stock[label][rng.integers(len(stock[label]))]
            grey = cut(image, int(rng.integers(round(SIDES[0] * size), round(SIDES[1] * size) + 1)))
            colour = bright(rng.random(3)).astype(np.float32)
            frame = place(grey.shape[1], grey.shape[0], frames, size, rng)
            if frame is None:
                continue
            classes[row, len(frames)] = label
            frames.append(frame)
            left, top, width, height = frame
            area = slice(top, top + height), slice(left, left + width)
            shown = grey > MASK_ABOVE
            items[row][area][shown] = len(frames)
            x[row][:, *area][:, shown] = colour[:, None] * (grey[shown] / np.float32(255))
        x[row] += NOISE * rng.standard_normal(x[row].shape, np.float32)
    return Scenes(x.clip(0, 1, out=x), items, classes)


def canvas(size: int, rng: np.random.Generator) -> Array:
    """A ground [3, size, size] of one dim colour that grows lighter in a random direction."""
    colour, turn, strength = DIM * rng.random(3), 2 * np.pi * rng.random(), GRADIENT * rng.random()
    across = np.linspace(-0.5, 0.5, size)
    slope = strength * (np.cos(turn) * across + np.sin(turn) * across[:, None])
    return (colour[:, None, None] + slope).astype(np.float32)  # type: ignore[no-any-return]


def cut(image: Array, side: int) -> Array:
    """An image [h, w] uint8 resized to ``side`` x ``side`` (bilinear), cut to the bounds of what is bright.

    What is nowhere bright comes back whole.
    """
    grey = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    shown = grey > MASK_ABOVE
    if not shown.any():
        return grey
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def place(width: int, height: int, taken: Sequence[Frame], size: int, rng: np.random.Generator) -> Frame | None:
    """A frame inside the canvas, uniformly among all that share little enough with those taken; None if there is none.

    What two frames share is the product of what their sides share, so all places are judged at once.
    """
    lefts, tops = np.arange(size - width + 1), np.arange(size - height + 1)
    free = np.ones((len(tops), len(lefts)), bool)
    for left, top, other_width, other_height in taken:
        across = np.minimum(lefts + width, left + other_width) - np.maximum(lefts, left)
        down = np.minimum(tops + height, top + other_height) - np.maximum(tops, top)
        shared = down.clip(0)[:, None] * across.clip(0)
        free &= shared <= OVERLAP * min(width * height, other_width * other_height)
    found = np.flatnonzero(free)
    if not len(found):
        return None
    at = int(found[rng.integers(len(found))])
    return int(lefts[at % len(lefts)]), int(tops[at // len(lefts)]), width, height
