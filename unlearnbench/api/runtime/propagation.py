"""Propagation of node features over a graph with self-loops, and networks that do all of it before they learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Decoupled(Protocol):
    """A network of nodes that propagates before it learns: ``forward(x, edges)`` is head(sum over l of w_l P^l x).

    P = D^-1/2 (A + I) D^-1/2. What is learned does not see the graph, so whoever keeps the propagated features up to
    date can train and mend ``head`` alone.
    """

    level_weights: tuple[float, ...]
    """w_0, ..., w_L."""
    head: nn.Module
    """From propagated features [n, f] to outputs [n, classes]."""


def propagated(x: Tensor, edges: Tensor, level_weights: Sequence[float]) -> Tensor:
    """sum over l of w_l P^l x with P = D^-1/2 (A + I) D^-1/2, exactly (Gasteiger et al. 2019; Wu et al. 2019).

    Differentiable with respect to ``x`` [n, f]. ``edges`` [2, m] hold each undirected edge once, without self-loops.
    """
    n = len(x)
    root = (1 + torch.bincount(edges.flatten(), minlength=n)).to(x.dtype).sqrt()[:, None]
    both = torch.cat([edges, edges.flip(0)], 1)
    ones = torch.ones(both.shape[1], dtype=x.dtype, device=x.device)
    adjacency = torch.sparse_coo_tensor(both, ones, (n, n), check_invariants=False)
    total = level_weights[0] * x
    for weight in level_weights[1:]:
        scaled = x / root
        x = (torch.sparse.mm(adjacency, scaled) + scaled) / root
        if weight:
            total = total + weight * x
    return total
