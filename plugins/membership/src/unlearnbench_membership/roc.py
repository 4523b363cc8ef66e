"""How well scores tell members from non-members: area under the curve, true positives at few false ones, intervals.

Pure functions on arrays. A higher score means "member". Everything is computed from the number of rows at each
distinct score, so that ties are exact and a bootstrap resample is nothing but other numbers of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

RESAMPLES = 1000
CURVE: tuple[float, ...] = tuple(float(rate) for rate in np.logspace(-3, -0.2, 15))
"""False positive rates at which a curve is drawn, evenly spaced on a log axis; 0.001 and 0.01 are among them."""
REPORTED: tuple[float, ...] = (0.001, 0.01)
_CELLS = 4_000_000
"""Numbers that the bootstrap holds at once."""


@dataclass(frozen=True)
class Counts:
    """Rows at each distinct score, in ascending order: ``members`` and ``others`` are [..., u]."""

    members: Array
    others: Array

    def auc(self) -> Array:
        """P(member's score > other's) + P(equal) / 2, [...]: the Mann-Whitney statistic over the number of pairs."""
        below = self.others.cumsum(-1) - self.others
        pairs = self.members.sum(-1) * self.others.sum(-1)
        found: Array = (self.members * (below + self.others / 2)).sum(-1) / pairs
        return found

    def tpr_at_fpr(self, rate: float) -> Array:
        """Largest true positive rate [...] of a threshold whose false positive rate is at most ``rate``.

        Nothing is interpolated: with fewer than 1 / rate non-members the threshold lies above all of them.
        """
        false = _at_least(self.others)
        true = _at_least(self.members)
        first = (false > rate * (1 + 1e-9) * false[..., :1]).sum(-1, keepdims=True)
        true = np.concatenate([true, np.zeros_like(true[..., :1])], -1)
        found: Array = (np.take_along_axis(true, first, -1) / true[..., :1])[..., 0]
        return found


def _at_least(rows: Array) -> Array:
    """Number of rows with this score or a higher one."""
    return np.flip(np.flip(rows, -1).cumsum(-1), -1)


def counted(members: Array, others: Array) -> Counts:
    """The number of rows of each kind at each distinct score."""
    scores, place = np.unique(np.concatenate([members, others]), return_inverse=True)
    kinds = (place[: len(members)], place[len(members) :])
    first, second = (np.bincount(kind, minlength=len(scores)).astype(np.float64) for kind in kinds)
    return Counts(first, second)


def auc(members: Array, others: Array) -> float:
    """Area under the receiver operating characteristic of two samples of scores."""
    return float(counted(members, others).auc())


def tpr_at_fpr(members: Array, others: Array, rate: float) -> float:
    """True positive rate at a false positive rate of at most ``rate``."""
    return float(counted(members, others).tpr_at_fpr(rate))


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def estimates(
    members: Array, others: Array, rates: Sequence[float], rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[Estimate, list[Estimate]]:
    """Area and true positive rates with stratified percentile bootstrap intervals.

    Members and others are resampled apart, each as many as they are (Efron and Tibshirani 1993, chapter 13). An
    interval always holds the value itself. Two samples that do not overlap resample to themselves: their interval is
    a point, whatever their size.
    """
    counts = counted(members, others)
    drawn = [(c.auc(), [c.tpr_at_fpr(rate) for rate in rates]) for c in _resampled(counts, resamples, rng)]
    area = _estimate(float(counts.auc()), np.concatenate([area for area, _ in drawn]))
    found = []
    for i, rate in enumerate(rates):
        found.append(_estimate(float(counts.tpr_at_fpr(rate)), np.concatenate([true[i] for _, true in drawn])))
    return area, found


def _resampled(counts: Counts, resamples: int, rng: np.random.Generator) -> Iterator[Counts]:
    n, m = int(counts.members.sum()), int(counts.others.sum())
    block = max(1, _CELLS // len(counts.members))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        members = rng.multinomial(n, counts.members / n, size).astype(np.float64)
        others = rng.multinomial(m, counts.others / m, size).astype(np.float64)
        yield Counts(members, others)


def _estimate(value: float, drawn: Array) -> Estimate:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value))


def undefined(members: Array, others: Array) -> str:
    """Why two samples of scores have no curve, or nothing."""
    if not len(members) and not len(others):
        return "empty split"
    if not len(members) or not len(others):
        return "one class"
    scores = np.concatenate([members, others])
    if not np.isfinite(scores).all():
        return "non-finite"
    return "zero variance" if (scores == scores[0]).all() else ""
