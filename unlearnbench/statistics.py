"""Statistics over seeds: pure functions on arrays, thin over scipy and scikit-posthocs.

Nothing here knows of records. What cannot be said is None with a status in words, never NaN: two values have no
interval, equal values no spread. Everything repeats in bits: resampling has a generator of its own with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = Sequence[float] | npt.NDArray[np.float64]

RESAMPLES = 9_999
_TOGETHER = 32
"""Rows whose resamples are drawn together; each takes RESAMPLES numbers of memory per value."""
EXACT = 14
"""Up to so many pairs, all 2^n sign changes are enumerated; above, ``RESAMPLES`` of them are drawn."""


@dataclass(frozen=True)
class Estimate:
    """Mean and sd (n - 1) of n values, with the ends of the interval of the mean.

    Where there is no interval, ``status`` says why: ``no values``, ``fewer than 3 values`` or ``zero variance``.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    status: str = "ok"


def estimate(values: Floats, confidence: float = 0.95) -> Estimate:
    """Mean, sd and the BCa bootstrap interval of the mean.

    The interval is bias-corrected and accelerated (Efron 1987, "Better Bootstrap Confidence Intervals"), taken at the
    level of :func:`expanded`, without which ten seeds would cover a nominal 95 % in about 90 % of cases and five in
    about 82 %. No bootstrap reaches past the smallest and the largest value, so that three values cover at most 75 %
    of symmetric cases, four 87.5 % and five 93.75 %.
    """
    from scipy.stats import bootstrap

    found = np.asarray(values, dtype=np.float64)
    n = len(found)
    if n == 0:
        return Estimate(0, None, None, None, None, "no values")
    mean = float(found.mean())
    sd = None if n == 1 else 0.0 if _equal(found) else float(found.std(ddof=1))
    if n < 3:
        return Estimate(n, mean, sd, None, None, "fewer than 3 values")
    if sd == 0:
        return Estimate(n, mean, sd, None, None, "zero variance")
    made = bootstrap(
        (found,),
        np.mean,
        confidence_level=expanded(confidence, n),
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = float(made.low), float(made.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Estimate(n, mean, sd, None, None, "degenerate")
    return Estimate(n, mean, sd, low, high)


def estimates(rows: Sequence[Floats], confidence: float = 0.95) -> list[Estimate]:
    """:func:`estimate` of each row, several times as fast: rows of one length are drawn together.

    Each alone would be drawn with the same generator, so that only the order of sums may differ, in the last bits; what
    stands beside a row changes nothing.
    """
    from scipy.stats import bootstrap

    keys = [tuple(map(float, row)) for row in rows]
    found: dict[tuple[float, ...], Estimate] = {}
    drawn: dict[int, list[tuple[float, ...]]] = {}
    for key in dict.fromkeys(keys):
        if len(key) < 3 or _equal(np.asarray(key)):
            found[key] = estimate(key, confidence)
        else:
            drawn.setdefault(len(key), []).append(key)
    for n, group in drawn.items():
        for start in range(0, len(group), _TOGETHER):
            part = group[start : start + _TOGETHER]
            matrix = np.asarray(part)
            made = bootstrap(
                (matrix,),
                _contiguous_mean,
                confidence_level=expanded(confidence, n),
                n_resamples=RESAMPLES,
                method="BCa",
                axis=-1,
                rng=np.random.default_rng(0),
            ).confidence_interval
            for key, row, low, high in zip(part, matrix, made.low, made.high, strict=True):
                mean, sd = float(row.mean()), float(row.std(ddof=1))
                if math.isfinite(low) and math.isfinite(high):
                    found[key] = Estimate(n, mean, sd, float(low), float(high))
                else:
                    found[key] = Estimate(n, mean, sd, None, None, "degenerate")
    return [found[key] for key in keys]


def _contiguous_mean(values: npt.NDArray[np.float64], axis: int = -1) -> Any:
    """Sums must be taken in the order of a single row, whatever stands beside it."""
    return np.ascontiguousarray(values).mean(axis=axis)


def expanded(confidence: float, n: int) -> float:
    """The level at which to take a bootstrap interval of n values for it to have about the stated coverage.

    A bootstrap interval is too narrow by sqrt((n - 1) / n), and by the normal distribution where Student's is due.
    The level undoes both: alpha' / 2 = Phi(-sqrt(n / (n - 1)) t), with t the quantile 1 - alpha / 2 of Student's t
    with n - 1 degrees of freedom (Hesterberg 2015, "What Teachers Should Know About the Bootstrap", expanded
    percentile intervals). It tends to ``confidence`` as n grows.
    """
    from scipy.stats import norm, t

    quantile = t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(n / (n - 1))
    return min(float(1 - 2 * norm.sf(quantile)), 1 - 1e-9)


def paired_permutation(differences: Floats) -> float | None:
    """Two-sided p-value of the mean of paired differences being 0, by changing signs (Fisher 1935).

    Exact for up to ``EXACT`` pairs; above, (1 + hits) / (1 + draws), so that it is never 0. None without pairs.
    """
    from scipy.stats import permutation_test

    found = np.asarray(differences, dtype=np.float64)
    if len(found) == 0:
        return None
    if len(found) == 1 or not found.any():  # scipy needs two pairs; one can only be p = 1
        return 1.0
    tested = permutation_test(
        (found, np.zeros_like(found)),
        _mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT if len(found) <= EXACT else RESAMPLES,
        alternative="two-sided",
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def _mean_difference(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], axis: int = -1) -> Any:
    return np.mean(x - y, axis=axis)


def wilcoxon(differences: Floats) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test (Wilcoxon 1945); zeros are dropped. None without pairs.

    Exact for up to ``EXACT`` differences that are not 0, also when some are equal; above, scipy's choice.
    """
    from scipy.stats import PermutationMethod
    from scipy.stats import wilcoxon as signed_rank

    found = np.asarray(differences, dtype=np.float64)
    if len(found) == 0:
        return None
    found = found[found != 0]
    if len(found) < 2:
        return 1.0
    every = PermutationMethod(n_resamples=2**EXACT) if len(found) <= EXACT else "auto"
    return float(signed_rank(found, alternative="two-sided", method=every).pvalue)


def smallest_p(differences: Floats) -> float | None:
    """The smallest p-value that either paired test can give for so many differences: 2^(1 - n), or 2 / (draws + 1).

    A difference of 0 cannot change its sign and does not count. None without pairs.
    """
    if len(differences) == 0:
        return None
    n = int(np.count_nonzero(differences))
    return min(1.0, 2.0 ** (1 - n)) if n <= EXACT else 2 / (RESAMPLES + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values after Holm's correction (Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure").

    The i-th smallest of m times m - i + 1, none below the one before it, at most 1. The same as statsmodels'
    ``multipletests``, which collects garbage on every call and with that takes most of the time of a comparison.
    """
    found = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(found, kind="stable")
    corrected = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1)).clip(max=1)
    return [float(p) for p in corrected[np.argsort(order)]]


@dataclass(frozen=True)
class Friedman:
    """Average rank per column (1 is the lowest value), Friedman's statistic and p, Nemenyi's pairwise p-values."""

    average: tuple[float, ...]
    statistic: float | None
    p: float | None
    nemenyi: npt.NDArray[np.float64]


def friedman(scores: npt.NDArray[np.float64]) -> Friedman:
    """Friedman's test of [blocks, treatments] with Nemenyi's test after it (Demsar 2006, section 3.2.2).

    Statistic and p are None where every treatment ties with every other in every block.

    Raises:
        ValueError: fewer than 2 blocks or 3 treatments.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata

    n, k = scores.shape
    if n < 2 or k < 3:
        raise ValueError(f"{n} blocks of {k} treatments: Friedman's test needs 2 blocks of 3")
    ranks = rankdata(scores, axis=1)
    average = tuple(float(rank) for rank in ranks.mean(axis=0))
    nemenyi = np.asarray(posthoc_nemenyi_friedman(scores), dtype=np.float64)
    if (ranks == ranks[:, :1]).all():
        return Friedman(average, None, None, nemenyi)
    tested = friedmanchisquare(*scores.T)
    return Friedman(average, float(tested.statistic), float(tested.pvalue), nemenyi)


def critical_difference(treatments: int, blocks: int, alpha: float = 0.05) -> float:
    """How far apart average ranks must lie to differ: q sqrt(k (k + 1) / (6 N)) (Demsar 2006, section 3.2.2).

    q is the quantile 1 - alpha of the studentized range of k groups with infinite degrees of freedom, over sqrt 2.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, treatments, np.inf)) / math.sqrt(2)
    return q * math.sqrt(treatments * (treatments + 1) / (6 * blocks))


def tied_groups(order: Sequence[str], differ: Callable[[str, str], bool]) -> tuple[tuple[str, ...], ...]:
    """The largest groups of two or more of which no pair differs, each in ``order`` and the groups too.

    Groups may overlap: a tied with b and b with c does not tie a with c. They are the maximal cliques of the graph of
    ties (Bron and Kerbosch 1973, with the pivot of Tomita, Tanaka and Takahashi 2006).
    """
    ties = {one: {other for other in order if other != one and not differ(one, other)} for one in order}
    found: list[list[str]] = []

    def grow(group: list[str], candidates: set[str], done: set[str]) -> None:
        if not candidates and not done and len(group) > 1:
            found.append(sorted(group, key=order.index))
        # Every group holds the pivot or one that is not tied with it; without one, n tied entries would take 2^n steps.
        pivot = max(candidates | done, key=lambda one: (len(candidates & ties[one]), one), default=None)
        for one in sorted(candidates - (ties[pivot] if pivot is not None else set()), key=order.index):
            grow([*group, one], candidates & ties[one], done & ties[one])
            candidates = candidates - {one}
            done = done | {one}

    grow([], set(order), set())
    return tuple(map(tuple, sorted(found, key=lambda group: [order.index(one) for one in group])))


Cells = Mapping[tuple[int, int, int], float]
"""Readings by their training, unlearning and measure seed."""


def nested_means(cells: Cells) -> dict[int, float]:
    """One value per training seed: the mean over unlearning seeds of the means over measure seeds."""
    return {seed: fmean(inner.values()) for seed, inner in _by_unlearning(cells).items()}


@dataclass(frozen=True)
class Components:
    """Standard deviations by the place where they enter; None for a place in which no seed was repeated.

    What varies in a place that was not repeated is part of the place above it.
    """

    train: float | None
    unlearn: float | None
    measure: float | None


def components(cells: Cells) -> Components:
    """Variance components of the nested random-effects model: training seed > unlearning seed > measure seed.

    The analysis of variance by moments (Searle, Casella and McCulloch 1992, chapter 3): the pooled variance of means
    within a place is that place's component plus the one below over the number that a mean was taken of (their
    average 1 / n, for designs that are not balanced). An estimate below 0 is 0.
    """
    inner = _by_unlearning(cells)
    groups: dict[tuple[int, int], list[float]] = {}
    for (one, two, _), value in sorted(cells.items()):
        groups.setdefault((one, two), []).append(value)
    measure = _pooled(list(groups.values()))
    unlearn_all = _pooled([list(means.values()) for means in inner.values()])
    unlearn = _less(unlearn_all, measure, [len(values) for values in groups.values()])
    train_all = _pooled([[fmean(means.values()) for means in inner.values()]])
    if unlearn_all is None:  # one unlearning seed each: what the measure adds stands in the means as it is
        below, sizes = measure, [len(values) for values in groups.values()]
    else:
        below, sizes = unlearn_all, [len(means) for means in inner.values()]
    train = _less(train_all, below, sizes)
    return Components(*(None if part is None else math.sqrt(part) for part in (train, unlearn, measure)))


def _by_unlearning(cells: Cells) -> dict[int, dict[int, float]]:
    found: dict[int, dict[int, list[float]]] = {}
    for (train, unlearn, _), value in sorted(cells.items()):
        found.setdefault(train, {}).setdefault(unlearn, []).append(value)
    return {train: {u: fmean(values) for u, values in inner.items()} for train, inner in found.items()}


def _pooled(groups: Sequence[Sequence[float]]) -> float | None:
    """Sum of squares within groups over their degrees of freedom; None when no group has two values."""
    groups = [group for group in groups if group]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return None
    return sum(float(np.var(group)) * len(group) for group in groups) / freedom


def _less(variance: float | None, below: float | None, sizes: Sequence[int]) -> float | None:
    """A variance of means without what the place below it contributes."""
    if variance is None or below is None:
        return variance
    return max(0.0, variance - below * fmean(1 / size for size in sizes))


def _equal(values: npt.NDArray[np.float64]) -> bool:
    """Equal up to rounding: differences of readings that are equal may differ in their last bits."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))
