"""Was this node trained on? An attack on the loss."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Component, Evidence, Reading, numpy_rng, rows_of
from unlearnbench_graphs.outputs import tangible
from unlearnbench_graphs.roc import Array, area_reading


class NodeMia(Component[NoParams]):
    """How well the loss tells forgotten nodes from test nodes, which no subject was trained on.

    The lower the loss, the likelier the node was trained on (Yeom et al. 2018); no threshold is chosen. All subjects
    answer on the graph after the request. Forgotten and test nodes need not be alike there (forgotten ones may have
    lost their edges), so the value to reach is gold's, not 1/2.

    Nodes that have lost all features and edges are left out: about them every model says the same whatever they were.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        forgotten, test = (_scores(evidence, split) for split in ("forget", "test"))
        if len(evidence.view("forget")) and not len(forgotten):
            yield Reading("node-mia-auc", None, len(test), status="nothing is left of the forgotten nodes")
            return
        yield area_reading("node-mia-auc", forgotten, test, numpy_rng(evidence.rng("bootstrap")))


def _scores(evidence: Evidence, split: str) -> Array:
    """Negative losses [k] of the annotated nodes of a split of which something is left, by id."""
    graph = evidence.view(split).tensors()
    rows = rows_of(evidence, split)
    assert graph.rows is not None
    left = graph.ids.cpu()[tangible(graph)[graph.rows.cpu()]]
    rows = rows.at(torch.isin(rows.ids, left).nonzero().flatten())
    found: Array = (-evidence.task.losses(rows.outputs, rows.y)).numpy()
    return found
