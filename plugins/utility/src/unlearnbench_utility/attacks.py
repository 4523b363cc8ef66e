"""The simple membership attacks inside ToW-MIA and NoMUS, and the intervals of their readings."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

Floats = npt.NDArray[np.float64]

SPLITS = 10
FEWEST = 6
"""Rows on each side: with fewer a tenth of them cannot hold a row of each side."""
RESAMPLES = 1000


def best_threshold(members: Floats, others: Floats) -> float:
    """The value t for which ``score >= t`` tells members from others best, by the mean of the two rates.

    Among equally good ones it is the smallest. Only observed scores need to be tried; whole numbers keep ties exact.
    """
    tried = np.unique(np.concatenate([members, others]))
    found = len(members) - np.searchsorted(np.sort(members), tried)
    spared = np.searchsorted(np.sort(others), tried)
    return float(tried[np.argmax(found * len(others) + spared * len(members))])


@dataclass(frozen=True)
class Tally:
    """How often each row was in a test part (``times``) and was then told rightly (``right``), both [n]."""

    right: Floats
    times: Floats

    @property
    def accuracy(self) -> float:
        return float(self.right.sum() / self.times.sum())


def loss_attack(forgotten: Floats, unseen: Floats, seed: int) -> Tally:
    """Tell forgotten from unseen rows by a logistic regression on the loss; equally many of both.

    As in the starter kit of the NeurIPS 2023 unlearning challenge, which NoMUS took over: 10 stratified shuffled splits
    with a tenth held out. All test parts are equally large, so the mean of their accuracies is ``Tally.accuracy``.
    """
    x = _within_reach(np.concatenate([forgotten, unseen]))[:, None]
    y = np.repeat([1, 0], [len(forgotten), len(unseen)])
    right, times = np.zeros(len(y)), np.zeros(len(y))
    for train, test in StratifiedShuffleSplit(SPLITS, random_state=seed).split(x, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the last digits of a slope do not change what it tells apart
            attack = LogisticRegression().fit(x[train], y[train])
        right[test] += attack.predict(x[test]) == y[test]
        times[test] += 1
    return Tally(right, times)


def _within_reach(losses: Floats) -> Floats:
    """Losses as they are while the solver can cope with them, else smaller.

    It fails silently beyond about 1e6, and a model destroyed by ascent would look as if nothing could be told.
    """
    return np.minimum(losses / max(1.0, float(np.median(losses)) / 100), 1e5)


def bootstrap_interval(tested: Tally, seed: int) -> tuple[float, float]:
    """95 % percentile interval of the accuracy: rows are drawn again on each side, the attack's fits are kept."""
    rng, half = np.random.default_rng(seed), len(tested.right) // 2
    sides = np.arange(half), np.arange(half, len(tested.right))
    drawn = []
    for _ in range(RESAMPLES):
        again = np.concatenate([rng.choice(side, len(side)) for side in sides])
        times = tested.times[again].sum()
        if times:
            drawn.append(tested.right[again].sum() / times)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
