"""Colours that say nothing about what they are on."""

from __future__ import annotations

import numpy as np

from unlearnbench_scenes.annotated import Array


def bright(drawn: Array) -> Array:
    """Bright colours [..., 3] out of uniform numbers [..., 3]: each has a channel of at least .8, none below .2.

    No channel is preferred. The third number says how bright the brightest one is, so all are used exactly once.
    """
    hue, saturation, value = drawn[..., 0], 0.75 * drawn[..., 1], 0.8 + 0.2 * drawn[..., 2]
    wheel = np.abs((hue[..., None] * 6 + np.array([0, 4, 2])) % 6 - 3) - 1  # the hexagon of hues, one ramp a channel
    return value[..., None] * (1 - saturation[..., None] * (1 - wheel.clip(0, 1)))  # type: ignore[no-any-return]
