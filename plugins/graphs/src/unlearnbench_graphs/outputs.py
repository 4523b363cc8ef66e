"""What a model says about every node of the graph, annotated or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Batch, Evidence


def graph_of(evidence: Evidence) -> Batch:
    """All nodes of the graph after the request, with its edges; every split holds the same."""
    return evidence.view("test").tensors()


@torch.no_grad()
def all_outputs(model: nn.Module, graph: Batch) -> Tensor:
    """Outputs [n, c] for all nodes in evaluation mode, in float64 on the CPU."""
    out: Tensor = model.eval()(graph.x, graph.edges)
    return out.cpu().double()


def all_probabilities(evidence: Evidence) -> Tensor:
    """The subject's probabilities [n, c] for all nodes."""
    return evidence.task.probabilities(all_outputs(evidence.model(), graph_of(evidence)))


def tangible(graph: Batch) -> Tensor:
    """Nodes [n] bool that have a feature or an edge left; for any other the outputs do not depend on the node."""
    found = graph.x.ne(0).any(1)
    if graph.edges is not None:
        found[graph.edges.flatten()] = True
    return found.cpu()
