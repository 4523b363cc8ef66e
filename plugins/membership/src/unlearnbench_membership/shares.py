"""Shares of rows, and differences of two of them, with 95 % intervals in closed form."""

from __future__ import annotations

import math

from unlearnbench.api.runtime import share_interval
from unlearnbench_membership.roc import Estimate


def share(hits: int, n: int) -> Estimate:
    """``hits / n`` with Wilson's score interval, which is not a point where all rows agree."""
    return Estimate(hits / n, *share_interval(hits, n, "wilson"))


def difference(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent shares with Newcombe's hybrid score interval (Newcombe 1998, method 10)."""
    value = first.value - second.value
    low = value - math.hypot(first.value - first.low, second.high - second.value)
    high = value + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, low, high)


def balanced_accuracy(found: Estimate, taken: Estimate) -> Estimate:
    """(true positive rate + 1 - false positive rate) / 2, from the shares of members and of others called members."""
    gap = difference(found, taken)
    return Estimate(*((1 + end) / 2 for end in (gap.value, gap.low, gap.high)))
