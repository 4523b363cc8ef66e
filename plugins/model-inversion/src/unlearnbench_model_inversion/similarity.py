"""How alike a reconstruction is to rows: Pearson correlation over the values of an input."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CONSTANT = 1e-9
"""Spread, relative to the largest value, below which an input is constant but for rounding."""


def correlation(one: Array, rows: Array) -> Array:
    """Pearson correlation of one input [d] with each row [m, d]: [m]; NaN where either is constant."""
    a, b = centred(one[None])[0], centred(rows)
    norms = np.linalg.norm(a) * np.linalg.norm(b, axis=1)
    found: Array = np.where(norms > 0, (b @ a) / np.where(norms > 0, norms, 1), np.nan)
    return found


def centred(rows: Array) -> Array:
    """Rows [m, d] less their own mean; exactly 0 where nothing but rounding is left."""
    found = rows - rows.mean(1, keepdims=True)
    spread, size = np.abs(found).max(1, keepdims=True), np.abs(rows).max(1, keepdims=True)
    kept: Array = np.where(spread > CONSTANT * size, found, 0.0)
    return kept


def to_class_means(reconstructions: Array, classes: Array, rows: Array, y: Array) -> Array:
    """Correlation of each class's reconstruction with the mean of the class's rows: [k]; NaN where there is none."""
    pairs = zip(reconstructions, classes, strict=True)
    return np.array([correlation(x, rows[y == c].mean(0)[None])[0] for x, c in pairs])


def to_nearest(reconstructions: Array, classes: Array, rows: Array, y: Array) -> Array:
    """Largest correlation of each class's reconstruction with a row of the class: [k]; NaN where there is none."""
    pairs = zip(reconstructions, classes, strict=True)
    found = np.array([np.nan_to_num(correlation(x, rows[y == c]), nan=-np.inf).max() for x, c in pairs])
    return np.where(found > -np.inf, found, np.nan)
