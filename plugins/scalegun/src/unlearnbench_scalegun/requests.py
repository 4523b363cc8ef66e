"""What a request does to a propagation: it belongs to the graph before, and takes out what the request names."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import Batch
from unlearnbench_scalegun.linear import Rows
from unlearnbench_scalegun.propagation import Propagation
from unlearnbench_scalegun.views import edges_of, numbers

SAMPLE = 256
"""Edges that are looked up to see whether a state belongs to a graph."""


def wrong_state(why: str) -> NoReturn:
    """Refuse a state.

    Raises:
        DataError: always.
    """
    raise DataError(
        "wrong-state",
        f"the prepared state does not belong to this graph: {why}",
        where="unlearner scalegun",
        hint="prepare again on the graph that the requests are about",
    )


def belongs_to(propagation: Propagation, features: int, graph: Batch) -> None:
    """Refuse a graph of other sizes, or without an edge that it should have.

    A sample of the edges is looked up, as all of them would cost more than the request. What a sample misses, the
    verifier finds, who propagates from the beginning.

    Raises:
        DataError: ``wrong-state``.
    """
    edges = edges_of(graph)
    own, theirs = (propagation.n, features, propagation.m), (*graph.x.shape, edges.shape[1])
    if own != theirs:
        wrong_state("it has {} nodes, {} features and {} edges, the graph {}, {} and {}".format(*own, *theirs))
    at = torch.linspace(0, max(own[2] - 1, 0), min(own[2], SAMPLE), device=edges.device).long()
    for u, v in numbers(edges[:, at]).T.tolist():
        if v not in neighbours(propagation, u):
            wrong_state(f"it has no edge {u}-{v}")


def take_out(propagation: Propagation, kind: str, elements: Rows, before: Batch, after: Batch) -> Rows:
    """Follow a request by local pushes; sorted nodes whose estimates may have changed.

    Args:
        propagation: of the graph before; changed.
        kind: edges, nodes (whose features go if they are others afterwards) or features.
        elements: edges [2, k], or nodes [1, k].
        before: the graph before.
        after: the graph after.
    """
    if kind == "edges":
        return propagation.update(remove=elements)
    nodes = torch.from_numpy(elements[0]).to(after.x.device)
    if kind == "features":
        return propagation.update(features=(elements[0], numbers(after.x[nodes])))
    return propagation.remove_nodes(elements[0], features=_differ(before.x[nodes], after.x[nodes]))


def _differ(before: Tensor, after: Tensor) -> bool:
    return not torch.equal(before, after)


def degrees(propagation: Propagation, kind: str, elements: Rows) -> Rows:
    """Degrees, with the self-loop, of what the worst case counts: the nodes named, for nodes with their neighbours."""
    about = elements.ravel()
    if kind == "nodes":
        about = np.concatenate([about, *(neighbours(propagation, node) for node in about.tolist())])
    found: Rows = propagation.tensors()["length"][about].astype(np.int64) + 1
    return found


def neighbours(propagation: Propagation, node: int) -> NDArray[Any]:
    """A node's row of the adjacency."""
    kept = propagation.tensors()
    first = kept["offset"][node]
    found: NDArray[Any] = kept["neighbours"][first : first + kept["length"][node]]
    return found
