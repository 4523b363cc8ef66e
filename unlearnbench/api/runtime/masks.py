"""Masks: weights that may not move, whatever optimiser and loop is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

Mask = Mapping[str, Tensor]
"""Boolean tensor per parameter name; true where the weight may change."""

_WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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
    held = {named[name]: _Held.of(named[name], keep) for name, keep in mask.items() if not bool(keep.all())}

    def restore(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, hold in held.items():
            hold.restore(parameter)
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == hold.factor.shape:
                    value.mul_(hold.factor)

    handles = [p.register_hook(lambda grad, factor=hold.factor: grad * factor) for p, hold in held.items()]
    handles.append(register_optimizer_step_post_hook(restore))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, hold in held.items():
            hold.restore(parameter)


@dataclass(frozen=True)
class _Held:
    """How one parameter is held: masked entries are put back by bit operations, exact for every value.

    Bit operations and products over whole tensors take a fraction of the time of choosing under a boolean mask.
    """

    factor: Tensor
    """1 at free entries, 0 at masked ones."""
    free: Tensor
    """All bits set at free entries, none at masked ones."""
    kept: Tensor
    """The bits of the masked entries, 0 at free ones."""

    @classmethod
    def of(cls, parameter: Tensor, keep: Tensor) -> _Held:
        keep, bits = keep.to(parameter.device), _bits(parameter)
        free = -keep.to(bits.dtype)
        return cls(keep.to(parameter.dtype), free, bits & ~free)

    def restore(self, parameter: Tensor) -> None:
        _bits(parameter).bitwise_and_(self.free).bitwise_or_(self.kept)


def _bits(parameter: Tensor) -> Tensor:
    """The same memory as whole numbers."""
    return parameter.detach().view(_WHOLE[parameter.element_size()])
