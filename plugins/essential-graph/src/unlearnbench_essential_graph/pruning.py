"""Setting channels to zero, and the masks that keep them so."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Mask


@torch.no_grad()
def prune(model: nn.Module, drop: Mapping[str, Tensor], norms: Mapping[str, str], zero_bn: bool) -> Mask:
    """Zero channels in place: of a convolution its filters and biases, and with ``zero_bn`` its norm's scale and shift.

    ``drop`` says by layer which channels [channels] bool; ``norms`` names the BatchNorm of a layer. With its norm
    zeroed a channel is 0 before the activation. Without, it is the constant beta - gamma * mu / sqrt(var + eps).
    Returns the masks of the parameters that were touched: True where they may change.
    """
    mask = {}
    for layer, channels in drop.items():
        if not bool(channels.any()):
            continue
        places = [layer, norms[layer]] if zero_bn and layer in norms else [layer]
        for place in places:
            module = model.get_submodule(place)
            for name in ("weight", "bias"):
                value = getattr(module, name, None)  # a buffer in norms that are frozen
                if value is None:
                    continue
                chosen = channels.to(value.device)
                value[chosen] = 0
                if isinstance(value, nn.Parameter):
                    free = torch.ones_like(value, dtype=torch.bool)
                    free[chosen] = False
                    mask[f"{place}.{name}"] = free
    return mask
