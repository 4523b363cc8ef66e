"""The measure: three ensembles of the run against the same oracles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from unlearnbench.api.runtime import Component, Ensemble, Evidence, Reading
from unlearnbench_klom.margins import Array, bootstrap, klom, margins
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
            y = evidence.y(split)
            if not len(y):
                yield from _undefined(split, "empty split")
                continue
            order = evidence.view(split).ids.argsort()
            pair = [mine.outputs(split, evidence.subject), oracles.outputs(split, "gold")]
            if pair[0].shape[2] < 2:
                yield from _undefined(split, "one class")
                continue
            if not all(bool(outputs.isfinite().all()) for outputs in pair):
                yield from _undefined(split, "non-finite")
                continue
            p, q = (margins(outputs[:, order], y[order]) for outputs in pair)
            yield from self._readings(evidence, split, klom(p, q, self.p.bins))

    def _readings(self, evidence: Evidence, split: str, values: Array) -> Iterable[Reading]:
        n = len(values)
        seed = int(torch.randint(2**31 - 1, (1,), generator=evidence.rng(f"rows/{split}")))
        ends = bootstrap(values, np.random.default_rng(seed)) if n > 1 else {}
        low, high = ends.get("mean", (None, None))
        yield Reading("klom", float(values.mean()), n, split=split, unit="nats", low=low, high=high)
        low, high = ends.get("p95", (None, None))
        yield Reading("klom-p95", float(np.quantile(values, 0.95)), n, split=split, unit="nats", low=low, high=high)


def _undefined(split: str, status: str) -> Iterable[Reading]:
    for name in ("klom", "klom-p95"):
        yield Reading(name, None, 0, split=split, unit="nats", status=status)
