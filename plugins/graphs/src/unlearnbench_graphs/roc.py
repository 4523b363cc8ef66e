"""How well scores tell forgotten from other units: the area under the curve, with an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from unlearnbench.api.runtime import Reading

Array = npt.NDArray[np.float64]
RESAMPLES = 1000


def area_reading(name: str, forgotten: Array, others: Array, rng: np.random.Generator) -> Reading:
    """Area under the ROC curve of scores that are higher where a unit looks as if it had been trained on.

    Its interval is a percentile bootstrap in which either side is drawn again by itself (Efron and Tibshirani 1993,
    chapter 13). ``n`` counts the units of both sides.
    """
    n = len(forgotten) + len(others)
    scores = np.concatenate([forgotten, others])
    if not len(forgotten) or not len(others):
        return Reading(name, None, n, status="empty split")
    if not np.isfinite(scores).all():
        return Reading(name, None, n, status="non-finite")
    value = float(roc_auc_score(np.repeat([1, 0], [len(forgotten), len(others)]), scores))
    low, high = np.quantile(_resampled(forgotten, others, rng), (0.025, 0.975))
    return Reading(name, value, n, low=min(float(low), value), high=max(float(high), value))


def _resampled(forgotten: Array, others: Array, rng: np.random.Generator) -> Array:
    """Areas of resamples. A resample is how often each unit was drawn, so scores are ordered only once."""
    ordered = np.sort(others)
    below, upto = (np.searchsorted(ordered, forgotten, side) for side in ("left", "right"))
    n, m = len(forgotten), len(others)
    found = np.empty(RESAMPLES)
    for k in range(RESAMPLES):
        drawn = np.bincount(rng.integers(m, size=m), minlength=m).cumsum()
        drawn = np.concatenate([[0], drawn])
        beaten = (drawn[below] + drawn[upto]) / 2  # P(other < forgotten) + P(equal) / 2, times m
        found[k] = beaten[rng.integers(n, size=n)].mean() / m
    return found
