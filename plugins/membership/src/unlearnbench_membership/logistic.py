"""A logistic regression on one number per row, fitted and scored on repeated stratified splits."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from unlearnbench_membership.roc import RESAMPLES, Array, Estimate

LARGEST = 1e6
"""Losses are cut off here: the solver squares them, and whoever is that wrong is no more of a non-member beyond."""


def split_accuracy(
    members: Array, others: Array, *, splits: int, held: float, seed: int, rng: np.random.Generator
) -> Estimate | None:
    """Mean accuracy over the splits, in each of which a share ``held`` of the rows is scored and the rest fitted.

    The interval resamples rows of each kind with what happened to them in all splits (percentile bootstrap), so it
    treats the fitted regressions as given. None where there are too few rows for such a split.
    """
    x = np.concatenate([members, others]).clip(-LARGEST, LARGEST)[:, None]
    y = np.repeat([1, 0], [len(members), len(others)])
    scored = int(np.ceil(held * len(x)))
    if min(len(members), len(others)) < 2 or min(scored, len(x) - scored) < 2:
        return None
    hits, trials = np.zeros(len(x)), np.zeros(len(x))
    for fitted, tested in StratifiedShuffleSplit(n_splits=splits, test_size=held, random_state=seed).split(x, y):
        hits[tested] += _fit(x[fitted], y[fitted]).predict(x[tested]) == y[tested]
        trials[tested] += 1
    drawn = _resampled(hits, trials, len(members), rng)
    value = float(hits.sum() / trials.sum())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _fit(x: Array, y: npt.NDArray[np.int64]) -> LogisticRegression:
    """scikit-learn's defaults: an L2 penalty of strength 1 on the weight, lbfgs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the best point so far is what both authors score
        return LogisticRegression().fit(x, y)


def _resampled(hits: Array, trials: Array, members: int, rng: np.random.Generator) -> Array:
    """Accuracies of bootstrap resamples, members and others apart; rows that no split scored weigh nothing."""
    right, total = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for kind in (slice(None, members), slice(members, None)):
        n = len(hits[kind])
        rows = rng.integers(n, size=(RESAMPLES, n))
        right += hits[kind][rows].sum(1)
        total += trials[kind][rows].sum(1)
    accuracy: Array = right / np.maximum(total, 1)
    return accuracy
