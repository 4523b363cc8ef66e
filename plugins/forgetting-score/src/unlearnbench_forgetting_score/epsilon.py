"""Epsilon of one forget row: how well thresholds on its confidence tell unlearned from retrained models.

Source: Triantafillou et al., "Are we making progress in unlearning?", 2024, section 3 and the competition's metric.py.
Differences are the ``deviations`` in ``plugin.py``.

Every threshold is an attack that calls a model positive or negative. Of ``n`` models of each kind it gets some wrong;
with the rates FPR and FNR, (epsilon, delta)-indistinguishability demands FPR + e^eps FNR >= 1 - delta and the same with
the rates exchanged, so each attack shows a smallest epsilon, and a row has the largest of all attacks.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from unlearnbench.api.runtime import log_odds

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.intp]

DELTA = 1e-5
CAP = 50.0
PER_UNIT = 100
"""Thresholds in one unit of confidence."""
BUFFER = 2.0
"""How far the ends of an interval are moved to either side."""
STEPS = int(2 * BUFFER * PER_UNIT)
"""Thresholds for each end of an interval."""
PEAKY = 0.01
LIMIT = 45 * math.log(10)


def confidences(outputs: Tensor, y: Tensor) -> Array:
    """Logit-scaled confidence, clipped to +-103.6, of outputs [models, rows, classes]: [models, rows]."""
    found: Array = log_odds(outputs, y).clamp(-LIMIT, LIMIT).numpy()
    return found


def epsilons(unlearned: Array, retrained: Array) -> Array:
    """Epsilon [rows] of confidences [models, rows] under unlearned and under retrained models, in [0, 50].

    The positive kind of a row is the one with the larger median (unlearned, if they are equal).
    """
    swap = np.median(retrained, axis=0) > np.median(unlearned, axis=0)
    a, b = np.sort(unlearned, axis=0), np.sort(retrained, axis=0)
    return np.array([_epsilon(b[:, i], a[:, i]) if swap[i] else _epsilon(a[:, i], b[:, i]) for i in range(len(swap))])


def _epsilon(positive: Array, negative: Array) -> float:
    """Epsilon of one row; the confidences [models] of both kinds are sorted."""
    narrow, wide = sorted([positive[-1] - positive[0], negative[-1] - negative[0]])
    if wide == 0:
        return CAP if positive[0] != negative[0] else 0.0
    if narrow / wide < PEAKY:
        return CAP
    table = shown(len(positive), len(negative))
    # The narrower kind is what an interval catches, whichever has the larger median.
    flip = positive[-1] - positive[0] >= negative[-1] - negative[0]
    inner, outer = (negative, positive) if flip else (positive, negative)
    swapped = shown(len(inner), len(outer))
    found = max(
        table[_single(positive, negative, single_grid(positive, negative))].max(initial=-np.inf),
        swapped[_intervals(inner, outer)].max(),
    )
    if found == -np.inf:
        every = np.unique(np.concatenate([positive, negative]))
        found = max(table[_single(positive, negative, every)].max(), swapped[_all_intervals(inner, outer, every)].max())
    return float(np.clip(found, 0, CAP))


@cache
def shown(positives: int, negatives: int) -> Array:
    """The epsilon that an attack shows, by its false positives and false negatives: [negatives + 1, positives + 1].

    max{ln(1 - delta - FPR) - ln FNR, ln(1 - delta - FNR) - ln FPR}, at least 0. Without any error it is infinite; with
    errors of one kind alone the sample is held to be too small to say, and the attack is dropped (-infinity).
    """
    fpr = (np.arange(negatives + 1) / negatives)[:, None]
    fnr = (np.arange(positives + 1) / positives)[None, :]
    found = np.maximum(_bound(fpr, fnr), _bound(fnr, fpr))
    found = np.where(found > -np.inf, np.maximum(found, 0), found)
    found[0, :] = found[:, 0] = -np.inf
    found[0, 0] = np.inf
    return found


def _bound(first: Array, second: Array) -> Array:
    """ln(1 - delta - first) - ln(second), -infinity where that has no value."""
    room = 1 - DELTA - first
    exists = (room > 0) & (second > 0)
    return np.where(exists, np.log(np.where(room > 0, room, 1)) - np.log(np.where(second > 0, second, 1)), -np.inf)


def single_grid(positive: Array, negative: Array) -> Array:
    """Thresholds of the single family: 100 in a unit from the smallest to the largest confidence, ends included."""
    low, high = min(positive[0], negative[0]), max(positive[-1], negative[-1])
    return np.linspace(low, high, math.ceil((high - low) * PER_UNIT))


def _single(positive: Array, negative: Array, thresholds: Array) -> tuple[Counts, Counts]:
    """False positives and false negatives of calling positive what is at or above a threshold."""
    return len(negative) - np.searchsorted(negative, thresholds), np.searchsorted(positive, thresholds)


def interval_grid(inner: Array) -> tuple[Array, Array]:
    """The interval family around the narrower kind: right ends [400], left ends [799].

    Right end i has the left ends i to i + 399. Right ends lie within 2 of the largest value, left ends within 2 of the
    right end less the width of the values. The left ends of neighbouring right ends are the same but for one, so 799
    stand for the 400 * 400 of the official code.
    """
    step = 2 * BUFFER / (STEPS - 1)
    right = inner[-1] - BUFFER + step * np.arange(STEPS)
    left = inner[0] + step * np.arange(1 - STEPS, STEPS)
    return right, left


def _intervals(inner: Array, outer: Array) -> tuple[Counts, Counts]:
    """False positives and false negatives [400, 400] of calling positive what is in an interval, ends included."""
    right, left = interval_grid(inner)

    def inside(values: Array) -> Counts:
        before = sliding_window_view(np.searchsorted(values, left), STEPS)
        found: Counts = np.maximum(np.searchsorted(values, right, "right")[:, None] - before, 0)
        return found

    return inside(outer), len(inner) - inside(inner)


def _all_intervals(inner: Array, outer: Array, every: Array) -> tuple[Counts, Counts]:
    """The same for all intervals between two of the given values."""

    def inside(values: Array) -> Counts:
        before = np.searchsorted(values, every)
        found: Counts = np.maximum(np.searchsorted(values, every, "right")[:, None] - before[None, :], 0)
        return found

    return inside(outer), len(inner) - inside(inner)
