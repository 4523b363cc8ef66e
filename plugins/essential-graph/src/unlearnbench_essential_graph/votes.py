"""Which channels are pruned: what each target selects, and how forgotten and retained targets vote.

Only the importances of a layer's own channels enter. The paper's edges between selected channels of consecutive layers
decide nothing; they are drawn, and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unlearnbench_essential_graph.plugin import Balance, Selection


def count(delta: float, channels: int) -> int:
    """Channels that a target selects in a layer: floor(delta * channels), at least 1.

    Products that are whole but for rounding (0.29 * 100) count as whole.
    """
    return max(1, math.floor(delta * channels + 1e-9))


def top(alpha: Tensor, delta: float) -> Tensor:
    """The largest signed importances [..., channels] as a mask of the same shape; of equal ones the first channels.

    A row of zeros selects nothing: the target does not depend on the layer.
    """
    best = alpha.argsort(dim=-1, descending=True, stable=True)[..., : count(delta, alpha.shape[-1])]
    chosen = torch.zeros_like(alpha, dtype=torch.bool).scatter(-1, best, True)
    return chosen & (alpha != 0).any(-1, keepdim=True)


def pruned(
    alpha: Tensor,
    known: Tensor,
    forgotten: Sequence[int],
    delta: float,
    selection: Selection,
    balance: Balance,
) -> tuple[Tensor, Tensor]:
    """What each target selects [targets, channels] in a layer, and what is pruned [channels].

    ``alpha`` [targets, channels] are signed importances, ``known`` [targets] the targets that had an instance: the
    others select nothing and protect nothing. ``balance`` belongs to the selection ``vote``.
    """
    goes = torch.zeros(len(alpha), dtype=torch.bool)
    goes[list(forgotten)] = True
    selected = top(alpha, delta) & known[:, None]
    if selection == "contrast":
        for target in forgotten:
            selected[target] = known[target] & contrast(alpha[target], alpha[~goes & known], delta)
        return selected, selected[goes].any(0)
    if balance == "code":
        return selected, votes(selected, goes) >= len(alpha)
    wanted = selected[goes].any(0)
    return selected, wanted if balance == "none" else wanted & ~selected[~goes].any(0)


def votes(selected: Tensor, goes: Tensor) -> Tensor:
    """The paper's v_sum [channels]: each forgotten target that selects a channel counts |Y|, each retained one -1."""
    return len(selected) * selected[goes].sum(0) - selected[~goes].sum(0)


def contrast(alpha: Tensor, retained: Tensor, delta: float) -> Tensor:
    """Channels [channels] whose scaled importance exceeds that to every retained target [n, channels] by most.

    q_k = a_k / max|a| - max over the retained r of |a_r,k| / max|a_r|; the largest delta of them, and only q > 0.
    """
    others = scaled(retained).abs().amax(0) if len(retained) else torch.zeros_like(alpha)
    q = scaled(alpha) - others
    return top(q, delta) & (q > 0)


def scaled(alpha: Tensor) -> Tensor:
    """Divided by the largest absolute value of the row; rows of zeros stay."""
    return alpha / alpha.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(alpha.dtype).tiny)
