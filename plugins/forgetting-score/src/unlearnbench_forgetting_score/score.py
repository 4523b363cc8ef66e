"""From the epsilons of rows to the score, and how sure it is of it.

Source: Triantafillou et al., "Are we making progress in unlearning?", 2024, section 3 and the competition's metric.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from unlearnbench_forgetting_score.epsilon import Array

BUCKET = 0.5
Interval = tuple[float, float] | tuple[None, None]


def points(epsilon: Array, n: int) -> Array:
    """H: 2^-floor(epsilon / 0.5) for each row, 0 from ceil(ln(n - 1)) on, which n models cannot resolve."""
    earned: Array = np.where(epsilon < math.ceil(math.log(n - 1)), 2.0 ** -np.floor(epsilon / BUCKET), 0.0)
    return earned


def accuracy(outputs: Tensor, y: Tensor) -> float | None:
    """Mean accuracy of outputs [models, rows, classes] over the models; None where there is none."""
    if not len(y) or not bool(torch.isfinite(outputs).all()):
        return None
    return float((outputs.argmax(2) == y).double().mean())


def mean_interval(values: Array, rng: np.random.Generator, draws: int = 1000) -> Interval:
    """95 % percentile bootstrap over rows; a single row has none."""
    if len(values) < 2:
        return None, None
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def median_interval(values: Array) -> Interval:
    """95 % interval of the median whatever the distribution: the k-th smallest to the k-th largest of the values.

    k is the largest with P(Binomial(n, 1/2) < k) <= 2.5 %; fewer than 6 values have none.
    """
    k = int(stats.binom.ppf(0.025, len(values), 0.5))
    if k < 1:
        return None, None
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[-k])


def share_interval(hits: int, n: int) -> Interval:
    """Exact 95 % interval (Clopper and Pearson) of a share."""
    found = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)
