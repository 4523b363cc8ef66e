"""The measure: the subject's ensemble against retrained models."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unlearnbench.api.runtime import (
    Component,
    Ensemble,
    Evidence,
    Reading,
    Siblings,
    bootstrap_interval,
    numpy_rng,
    rows_of,
    share_interval,
    status_of,
)
from unlearnbench_forgetting_score.epsilon import CAP, confidences, epsilons
from unlearnbench_forgetting_score.plugin import ForgettingScoreParams
from unlearnbench_forgetting_score.score import accuracy, median_interval, points

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
        pair = rows_of(evidence, "forget", models=mine), rows_of(evidence, "forget", "gold", models=retrained)
        status = status_of(*pair)
        if status != "empty split" and pair[0].outputs.shape[2] < 2:
            status = "one class"
        if status != "ok":
            return _undefined(status)
        found = epsilons(*(confidences(rows.outputs, rows.y) for rows in pair))
        n = len(found)
        earned = points(found, self.p.n)
        low, high = bootstrap_interval(earned, numpy_rng(evidence.rng("rows")))
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
