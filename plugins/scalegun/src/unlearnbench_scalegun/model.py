"""Models that the linear method serves: propagation, then one line without an offset."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Decoupled
from unlearnbench_scalegun.linear import Array
from unlearnbench_scalegun.views import numbers


def refusal(model: nn.Module) -> str | None:
    """Why the method cannot serve a network, or None."""
    if not isinstance(model, Decoupled):
        return "it does not propagate before it learns (level_weights and head are missing)"
    if len(model.level_weights) < 2:
        return "it does not propagate at all, and there is no graph to forget anything of"
    if not isinstance(model.head, nn.Linear):
        return f"what learns must be one line, not {type(model.head).__name__}; scalegun-deep takes networks"
    return "its line has an offset, which the certificate does not cover" if model.head.bias is not None else None


def decoupled(model: nn.Module) -> Decoupled:
    """The model, which ``check`` let pass."""
    assert isinstance(model, Decoupled)
    return model


def weights(model: nn.Module) -> Array:
    """A copy of the line's weights [C, F] in double precision."""
    head = decoupled(model).head
    assert isinstance(head.weight, Tensor)
    return numbers(head.weight).astype(np.float64)


def drawn(alpha: float, like: Array, stream: torch.Generator) -> Array:
    """b ~ N(0, alpha^2 I), [C, F], from the beginning of a stream."""
    found: Array = alpha * numbers(torch.randn(like.shape, generator=stream, dtype=torch.float64))
    return found


def write(model: nn.Module, w: Array) -> Array:
    """Put weights into the model; what its precision made of them."""
    head = decoupled(model).head
    assert isinstance(head.weight, Tensor)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(w))
    return weights(model)
