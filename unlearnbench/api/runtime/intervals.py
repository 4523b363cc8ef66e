"""Intervals at 95 % of what measures count and average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Interval = tuple[float, float] | tuple[None, None]
"""The ends of an interval, or neither: as ``low`` and ``high`` of a ``Reading``."""


def share_interval(hits: int, n: int, method: Literal["exact", "wilson"] = "exact") -> tuple[float, float]:
    """95 % interval of the share ``hits / n`` of independent rows.

    ``exact`` is Clopper and Pearson's (1934), which holds the true share at least as often as it says; ``wilson`` is
    Wilson's score interval (1927), narrower, which does so on average. Either holds ``hits / n``.

    Raises:
        ValueError: ``n`` is 0, or ``hits`` lies outside [0, n].
    """
    from scipy.stats import binomtest  # slow to import, and few runs need it

    low, high = binomtest(hits, n).proportion_ci(0.95, method=method)
    return min(float(low), hits / n), max(float(high), hits / n)


def bootstrap_interval(
    values: Array, rng: np.random.Generator, statistic: Callable[[Array], Any] = np.mean, draws: int = 1000
) -> Interval:
    """95 % percentile bootstrap of a statistic of values [n]: units are drawn again, n with replacement.

    Efron and Tibshirani 1993, chapter 13. Fewer than two units have no interval. The same generator draws the same
    units for every statistic.
    """
    n = len(values)
    if n < 2:
        return None, None
    # One draw at a time: a thousand at once take 8 kB a unit.
    found = [statistic(values[rng.integers(n, size=n)]) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
