"""Masks: weights that may not move, whatever optimiser and loop is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

Mask = Mapping[str, Tensor]
"""Boolean tensor per parameter name; true where the weight may change."""


@contextmanager
def masked(model: nn.Module, mask: Mask | None) -> Iterator[None]:
    """Keep the weights outside ``mask`` bit-identical while any loop trains ``model``.

    Gradients are masked as they arrive, so gradient clipping sees what will be applied. After each optimiser step
    masked weights are restored and masked entries of the optimiser's state (momentum, moments) are cleared: weight
    decay and momentum would otherwise move them. Parameters that ``mask`` does not name are free. Buffers (BatchNorm
    statistics) are not weights and are not covered.
    """
    if mask is None:
        yield
        return
    named = dict(model.named_parameters())
    unknown = sorted(set(mask) - set(named))
    if unknown:
        raise ValueError(f"mask names parameters that the model does not have: {unknown}")
    frozen = {named[name]: ~keep.to(named[name].device) for name, keep in mask.items() if not bool(keep.all())}
    kept = {parameter: parameter.detach().clone() for parameter in frozen}
    # Factors of 0 and 1: a product is several times faster than filling under a boolean mask.
    free = {parameter: (~hold).to(parameter.dtype) for parameter, hold in frozen.items()}

    @torch.no_grad()
    def restore(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                hold = frozen.get(parameter)
                if hold is not None:
                    torch.where(hold, kept[parameter], parameter, out=parameter)
                    for value in optimizer.state[parameter].values():
                        if isinstance(value, Tensor) and value.shape == parameter.shape:
                            value.mul_(free[parameter])

    handles = [p.register_hook(lambda grad, factor=factor: grad * factor) for p, factor in free.items()]
    handles.append(register_optimizer_step_post_hook(restore))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for parameter, hold in frozen.items():
                torch.where(hold, kept[parameter], parameter, out=parameter)
