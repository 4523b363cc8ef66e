"""From the epsilons of rows to the score, and how sure it is of it.

Source: Triantafillou et al., "Are we making progress in unlearning?", 2024, section 3 and the competition's metric.py.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from unlearnbench.api.runtime import Interval
from unlearnbench_forgetting_score.epsilon import Array

BUCKET = 0.5


def points(epsilon: Array, n: int) -> Array:
    """H: 2^-floor(epsilon / 0.5) for each row, 0 from ceil(ln(n - 1)) on, which n models cannot resolve."""
    earned: Array = np.where(epsilon < math.ceil(math.log(n - 1)), 2.0 ** -np.floor(epsilon / BUCKET), 0.0)
    return earned


def accuracy(outputs: Tensor, y: Tensor) -> float | None:
    """Mean accuracy of outputs [models, rows, classes] over the models; None where there is none."""
    if not len(y) or not bool(torch.isfinite(outputs).all()):
        return None
    return float((outputs.argmax(2) == y).double().mean())


def median_interval(values: Array) -> Interval:
    """95 % interval of the median whatever the distribution: the k-th smallest to the k-th largest of the values.

    k is the largest with P(Binomial(n, 1/2) < k) <= 2.5 %; fewer than 6 values have none.
    """
    k = int(stats.binom.ppf(0.025, len(values), 0.5))
    if k < 1:
        return None, None
    ordered = np.sort(values)
    return float(ordered[k - 1]), float(ordered[-k])
