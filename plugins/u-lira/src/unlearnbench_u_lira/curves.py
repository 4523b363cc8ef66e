"""ROC curves of pooled scores under weights of rows: point values, bootstrap intervals, permutation null."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlearnbench_u_lira.likelihood import Bools, Floats

CELLS = 2_000_000
"""Numbers in one array of weighted counts: bounds memory, not results."""


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Roc:
    """Weight of members (``hits``) and others (``alarms``) at or above each threshold, [weights, thresholds]."""

    hits: Floats
    alarms: Floats

    def auc(self) -> Floats:
        """Area under the curve, ties counted half: [weights]."""
        areas = np.diff(self.alarms, axis=1) * (self.hits[:, 1:] + self.hits[:, :-1]) / 2
        return np.asarray(areas.sum(1) / (self.hits[:, -1] * self.alarms[:, -1]))

    def tpr(self, levels: Floats) -> Floats:
        """Largest share of members found with a share of false alarms of at most each level: [weights, levels].

        There is no interpolation: a level between two thresholds takes the stricter one.
        """
        found = []
        for hits, alarms in zip(self.hits, self.alarms, strict=True):
            at = np.searchsorted(alarms, levels * alarms[-1] * (1 + 1e-9), side="right") - 1
            found.append(hits[at] / hits[-1])
        return np.stack(found)


def rocs(scores: Floats, members: Bools, used: Bools, weights: Floats) -> Iterator[Roc]:
    """Curves of all used entries of [n, m] scores, one for each line of weights [w, m] of the rows, in blocks."""
    flat = scores[used]
    order = np.argsort(-flat, kind="stable")
    seen, rows = members[used][order], np.nonzero(used)[1][order]
    last = np.flatnonzero(np.append(np.diff(flat[order]) != 0, True))  # equal scores are one threshold
    step = max(1, CELLS // max(1, len(flat)))
    for start in range(0, len(weights), step):
        weight = weights[start : start + step, rows]
        counts = [np.cumsum(weight * group, axis=1)[:, last] for group in (seen, ~seen)]
        hits, alarms = (np.pad(count, ((0, 0), (1, 0))) for count in counts)
        yield Roc(hits, alarms)


def area(scores: Floats, members: Bools, used: Bools) -> float:
    """The AUC of all used entries."""
    (roc,) = rocs(scores, members, used, np.ones((1, scores.shape[1])))
    return float(roc.auc()[0])


def attack_curve(
    scores: Floats, members: Bools, used: Bools, levels: Floats, draws: int, rng: np.random.Generator
) -> tuple[Estimate, list[Estimate]]:
    """AUC and rates of true positives at the levels, with percentile bootstrap intervals over rows.

    A draw takes whole rows, with the scores that all models have for them: scores of one row share its fits and are no
    independent observations.
    """
    weights = row_weights(used, draws, rng)
    aucs, rates = [], []
    for roc in rocs(scores, members, used, weights):
        aucs.append(roc.auc())
        rates.append(roc.tpr(levels))
    rate = np.concatenate(rates)
    return estimate(np.concatenate(aucs)), [estimate(rate[:, i]) for i in range(len(levels))]


def accuracy_at_zero(scores: Floats, members: Bools, used: Bools, draws: int, rng: np.random.Generator) -> Estimate:
    """Share of entries whose score is above 0 exactly where the model saw the row, with its bootstrap interval.

    Every row has as many models that saw it as others, so this is the balanced accuracy too.
    """
    weights = row_weights(used, draws, rng)
    right = (((scores > 0) == members) & used).sum(0)
    return estimate(weights @ right / (weights @ used.sum(0)))


def row_weights(used: Bools, draws: int, rng: np.random.Generator) -> Floats:
    """How often each row counts, [1 + draws, m]: once in the first line, then drawn with replacement."""
    rows = np.flatnonzero(used.any(0))
    weights = np.zeros((1 + draws, used.shape[1]))
    weights[0, rows] = 1
    weights[1:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=draws)
    return weights


def estimate(values: Floats) -> Estimate:
    """The first value with the 2.5th and 97.5th percentile of the others."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))


def permutation_null(auc: Callable[[Bools], float], members: Bools, draws: int, rng: np.random.Generator) -> Floats:
    """AUCs of an attack that refits after membership was swapped, for each row and pair with probability 1/2."""
    pairs = (len(members) // 2, members.shape[1])
    swaps = (np.repeat(rng.random(pairs) < 0.5, 2, axis=0) for _ in range(draws))
    return np.array([auc(members ^ swap) for swap in swaps])


def two_sided_p(observed: float, null: Floats) -> float:
    """``(1 + draws at least as far from 1/2) / (1 + draws)``: exact for a null in which a pair can be swapped."""
    far: npt.NDArray[np.bool_] = np.abs(null - 0.5) >= abs(observed - 0.5) - 1e-12
    return float((1 + far.sum()) / (1 + len(null)))
