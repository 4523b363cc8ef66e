"""The measure: three ensembles of the run against the same oracles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from unlearnbench.api.runtime import (
    Component,
    Ensemble,
    Evidence,
    Reading,
    bootstrap_interval,
    rows_of,
    seed_from,
    status_of,
)
from unlearnbench_klom.margins import Array, klom, margins, p95
from unlearnbench_klom.plugin import KlomParams

SPLITS = ("forget", "retain", "test")


class Klom(Component[KlomParams]):
    """Mean and 95th percentile over the rows of a split of KL(margins of the subject || margins of the oracles).

    The oracles are gold models 0...n-1. Original and unlearned are models 0...n-1 of their kind; gold is n further gold
    models, so its reading is the floor that two ensembles of gold models reach. Intervals are percentile bootstraps
    over the rows (1,000 draws) with the models as they are.
    """

    def ensembles(self) -> Sequence[Ensemble]:
        return [Ensemble(kind="siblings", originals=self.p.n, golds=2 * self.p.n, unlearned=self.p.n)]

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        siblings = evidence.siblings(2 * self.p.n)
        oracles = siblings[: self.p.n]
        mine = siblings[self.p.n :] if evidence.subject == "gold" else oracles
        for split in SPLITS:
            pair = rows_of(evidence, split, models=mine), rows_of(evidence, split, "gold", models=oracles)
            status = status_of(*pair)
            if status != "empty split" and pair[0].outputs.shape[2] < 2:
                status = "one class"
            if status != "ok":
                yield from _undefined(split, status)
                continue
            p, q = (margins(rows.outputs, rows.y) for rows in pair)
            values, rng = klom(p, q, self.p.bins), evidence.rng(f"rows/{split}")
            yield from _readings(split, values, seed_from(rng))


def _readings(split: str, values: Array, seed: int) -> Iterable[Reading]:
    for name, statistic in (("klom", np.mean), ("klom-p95", p95)):
        low, high = bootstrap_interval(values, np.random.default_rng(seed), statistic)
        yield Reading(name, float(statistic(values)), len(values), split=split, unit="nats", low=low, high=high)


def _undefined(split: str, status: str) -> Iterable[Reading]:
    for name in ("klom", "klom-p95"):
        yield Reading(name, None, 0, split=split, unit="nats", status=status)
