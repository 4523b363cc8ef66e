"""Was this edge there? An attack on the outputs for its two ends."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from unlearnbench.api.runtime import Component, Evidence, Reading, drawn_rows, numpy_rng
from unlearnbench_graphs.outputs import all_probabilities, graph_of, tangible
from unlearnbench_graphs.plugin import EdgeMiaParams
from unlearnbench_graphs.roc import Array, area_reading


class EdgeMia(Component[EdgeMiaParams]):
    """How well the outputs for two nodes tell removed edges from pairs that were never joined.

    The first attack of He et al. 2021 (no knowledge but the posteriors of the two nodes): the more alike they are, the
    likelier is an edge. Alike by the cosine, one of their eight distances: it is bounded, knows no scale, and unlike
    correlation exists for every posterior, also a uniform one. The value to reach is gold's, not 1/2: neighbours
    mostly share a class, so that a model which never saw an edge still tells it from a random pair (on Cora .77 with
    sgc, .88 with GCN). Only what lies above gold's comes from the edges themselves.

    Nodes that have lost all features and edges are left out: about them every model says the same whatever they were.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        left = tangible(graph_of(evidence))
        forgotten, never = (_pairs(evidence, split, left) for split in ("forget", "holdout"))
        n = min(forgotten.shape[1], never.shape[1], self.p.pairs)
        if not n:
            yield Reading("edge-mia-auc", None, 0, status="no edges between nodes that are left")
            return
        forgotten, never = _drawn(forgotten, n, evidence, "forgotten"), _drawn(never, n, evidence, "never")
        p = all_probabilities(evidence)
        yield area_reading("edge-mia-auc", alike(p, forgotten), alike(p, never), numpy_rng(evidence.rng("bootstrap")))


def alike(p: Tensor, pairs: Tensor) -> Array:
    """Cosines [k] of the probabilities [n, c] of the two nodes of pairs [2, k]."""
    unit = p / p.norm(dim=1, keepdim=True)
    found: Array = (unit[pairs[0]] * unit[pairs[1]]).sum(1).numpy()
    return found


def _pairs(evidence: Evidence, split: str, left: Tensor) -> Tensor:
    """Pairs [2, k] of nodes of a split of which something is left; none where a request has removed no edge."""
    elements = evidence.view(split).elements
    if elements is None:
        return torch.zeros(2, 0, dtype=torch.int64)
    pairs = elements.cpu()
    return pairs[:, left[pairs].all(0)]


def _drawn(pairs: Tensor, n: int, evidence: Evidence, purpose: str) -> Tensor:
    return pairs[:, drawn_rows(torch.arange(pairs.shape[1]), n, evidence.rng(purpose))]
