"""The gradient that is really left, by other means than the method's: exact propagation, automatic derivatives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from unlearnbench.api.runtime import Batch, propagated
from unlearnbench_scalegun.views import edges_of


def true_residual(
    w: Tensor, graph: Batch, rows: Tensor, y: Tensor, level_weights: Sequence[float], noise: Tensor, ridge: float
) -> Tensor:
    """Norms [C] of the gradients of all classes' objectives on exact features.

    Args:
        w: weights [C, F].
        graph: features of all nodes and edges; its own rows and annotations are not looked at.
        rows: training nodes [m].
        y: their classes [m].
        level_weights: w_0, ..., w_L of the propagation.
        noise: [C, F], in the objective.
        ridge: lambda.
    """
    z = propagated(graph.x.double(), edges_of(graph), level_weights)[rows]
    at = w.detach().double().clone().requires_grad_()
    sign = 2.0 * one_hot(y, len(w)) - 1
    objective = softplus(-sign * (z @ at.T)).sum() + len(rows) * ridge / 2 * (at**2).sum() + (noise * at).sum()
    (slope,) = torch.autograd.grad(objective, at)
    norms: Tensor = slope.norm(dim=1)
    return norms
