"""Unlearners against each other on one reading: paired tests, ranks, and which of them are tied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Literal

import numpy as np

from unlearnbench.comparison.document import Pair, Ranks, Test
from unlearnbench.statistics import (
    critical_difference,
    estimate,
    friedman,
    holm,
    paired_permutation,
    smallest_p,
    tied_groups,
    wilcoxon,
)

Scores = Mapping[str, Mapping[int, float]]
"""By label and training seed, lower being better."""

TESTS = {"permutation": paired_permutation, "wilcoxon": wilcoxon}


@dataclass(frozen=True)
class Contest:
    """What came of it, in the parts of a ``ReadingComparison``.

    ``smallest`` is the p-value that Holm's correction leaves of the smallest that any pair can reach.
    """

    order: tuple[str, ...]
    pairs: tuple[Pair, ...]
    ranks: Ranks | None
    ties: tuple[tuple[str, ...], ...]
    ties_by: Literal["test", "interval", "none"]
    smallest: float | None


def contest(scores: Scores, confidence: float, test: Test) -> Contest:
    """Compare all pairs of unlearners that share training seeds, and rank all of them on the seeds that all share."""
    alpha = round(1 - confidence, 12)
    means = {label: fmean(found.values()) for label, found in scores.items() if found}
    order = tuple(sorted(means, key=lambda label: (means[label], label)))
    pairs = _corrected([_pair(one, two, scores, confidence, test) for one, two in combinations(order, 2)], alpha)
    reachable = [pair.smallest for pair in pairs if pair.smallest is not None]
    smallest = min(1.0, min(reachable) * len(reachable)) if reachable else None
    ties_by: Literal["test", "interval", "none"] = "none"
    if smallest is not None and smallest <= alpha:
        ties_by = "test"
    elif pairs and all(pair.n >= 3 for pair in pairs):
        ties_by = "interval"
    ranks = _ranks(scores, order, alpha)
    return Contest(order, pairs, ranks, _ties(order, pairs, ties_by), ties_by, smallest)


def _pair(one: str, two: str, scores: Scores, confidence: float, test: Test) -> Pair:
    shared = sorted(scores[one].keys() & scores[two].keys())
    differences = [scores[one][seed] - scores[two][seed] for seed in shared]
    differences = [0.0 if abs(d) <= 1e-12 else d for d in differences]  # the last bits of two equal readings
    found = estimate(differences, confidence)
    inside = found.low is not None and found.high is not None and found.low <= 0 <= found.high
    apart = found.n >= 3 and bool(found.mean) and not inside
    return Pair(one, two, len(shared), found, TESTS[test](differences), None, smallest_p(differences), False, apart)


def _corrected(pairs: Sequence[Pair], alpha: float) -> tuple[Pair, ...]:
    """The pairs with p-values after Holm's correction for all that could be tested."""
    tested = [pair for pair in pairs if pair.p is not None]
    after = dict(zip(tested, holm([pair.p for pair in tested if pair.p is not None]), strict=True))
    return tuple(replace(p, holm=after[p], differs=after[p] <= alpha) if p in after else p for p in pairs)


def _ranks(scores: Scores, order: Sequence[str], alpha: float) -> Ranks | None:
    """Ranks over the training seeds that all unlearners share; needs three unlearners and two seeds."""
    shared = sorted(set.intersection(*(set(scores[label]) for label in order))) if order else []
    if len(order) < 3 or len(shared) < 2:
        return None
    found = friedman(np.array([[scores[label][seed] for label in order] for seed in shared]))
    average = dict(zip(order, found.average, strict=True))
    ranked = tuple(sorted(order, key=lambda label: average[label]))
    position = {label: place for place, label in enumerate(order)}
    ties = tied_groups(ranked, lambda one, two: bool(found.nemenyi[position[one], position[two]] <= alpha))
    difference = critical_difference(len(order), len(shared), alpha)
    return Ranks(len(shared), average, found.statistic, found.p, difference, ties)


def _ties(order: Sequence[str], pairs: Sequence[Pair], by: str) -> tuple[tuple[str, ...], ...]:
    if by == "none":
        return ()
    apart = {frozenset((pair.first, pair.second)) for pair in pairs if (pair.differs if by == "test" else pair.apart)}
    return tied_groups(order, lambda one, two: frozenset((one, two)) in apart)
