"""The measure: the subject's ensemble against retrained models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from unlearnbench.api.runtime import Component, Ensemble, Evidence, Reading, Siblings
from unlearnbench_forgetting_score.epsilon import CAP, confidences, epsilons
from unlearnbench_forgetting_score.plugin import ForgettingScoreParams
from unlearnbench_forgetting_score.score import accuracy, mean_interval, median_interval, points, share_interval

READINGS = {"forgetting-quality": "", "final-score": "", "epsilon": "nats", "at-cap": ""}


class ForgettingScore(Component[ForgettingScoreParams]):
    """F, the final score, the median epsilon and the share of rows at the cap.

    The retrained models are gold models 0...n-1. Original and unlearned are n models of their kind; gold is n further
    gold models, whose readings are the floor. Intervals are over forget rows with the models as they are: percentile
    bootstrap (1,000 draws) for F and the final score, order statistics for the median, exact for the share.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        n = self.p.n
        if self.p.originals == "each":
            return [Ensemble(kind="siblings", originals=n, golds=2 * n, unlearned=n)]
        return [Ensemble(kind="siblings", golds=2 * n), Ensemble(kind="siblings", unlearned=n, vary="unlearn")]

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        siblings = evidence.siblings(2 * self.p.n)
        mine, retrained = self._subject(evidence, siblings), siblings[: self.p.n]
        y = evidence.y("forget")
        if not len(y):
            return _undefined("empty split")
        pair = [mine.outputs("forget", evidence.subject), retrained.outputs("forget", "gold")]
        if pair[0].shape[2] < 2:
            return _undefined("one class")
        if not all(bool(outputs.isfinite().all()) for outputs in pair):
            return _undefined("non-finite")
        order = evidence.view("forget").ids.argsort()
        found = epsilons(*(confidences(outputs[:, order], y[order]) for outputs in pair))
        n = len(found)
        seed = int(torch.randint(2**31 - 1, (1,), generator=evidence.rng("rows")))
        earned = points(found, self.p.n)
        low, high = mean_interval(earned, np.random.default_rng(seed))
        quality = Reading("forgetting-quality", float(earned.mean()), n, split="forget", low=low, high=high)
        hits = int((found == CAP).sum())
        median_low, median_high = median_interval(found)
        share_low, share_high = share_interval(hits, n)
        return [
            quality,
            self._final(evidence, quality, mine, retrained),
            Reading(
                "epsilon", float(np.median(found)), n, split="forget", unit="nats", low=median_low, high=median_high
            ),
            Reading("at-cap", hits / n, n, split="forget", low=share_low, high=share_high),
        ]

    def _subject(self, evidence: Evidence, siblings: Siblings) -> Siblings:
        """The models that are judged; gold models are never of one original."""
        if evidence.subject == "gold":
            return siblings[self.p.n :]
        return siblings[: self.p.n] if self.p.originals == "each" else evidence.siblings(self.p.n, vary="unlearn")

    def _final(self, evidence: Evidence, quality: Reading, mine: Siblings, retrained: Siblings) -> Reading:
        """F * (RA_u / RA_r) * (TA_u / TA_r); the ratios are held fixed in its interval."""
        ratio = 1.0
        for split in ("retain", "test"):
            y = evidence.y(split)
            ours = accuracy(mine.outputs(split, evidence.subject), y)
            theirs = accuracy(retrained.outputs(split, "gold"), y)
            if ours is None or theirs is None:
                return _without("final-score", "non-finite" if len(y) else "empty split")
            if theirs == 0:
                return _without("final-score", "retrained models get nothing right")
            ratio *= ours / theirs
        assert quality.value is not None
        low, high = (None if end is None else end * ratio for end in (quality.low, quality.high))
        return Reading("final-score", quality.value * ratio, quality.n, split="forget", low=low, high=high)


def _undefined(status: str) -> Iterable[Reading]:
    return [_without(name, status) for name in READINGS]


def _without(name: str, status: str) -> Reading:
    return Reading(name, None, 0, split="forget", unit=READINGS[name], status=status)
