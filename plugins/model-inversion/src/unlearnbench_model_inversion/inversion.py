"""The attack: descent on the input until the model takes it for a class.

Source: Fredrikson, Jha and Ristenpart, "Model Inversion Attacks that Exploit Confidence Information and Basic
Countermeasures", CCS 2015, algorithm 1 (MI-Face). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unlearnbench_model_inversion.plugin import ModelInversionParams


def invert(
    outputs: Callable[[Tensor], Tensor],
    classes: Tensor,
    shape: tuple[int, ...],
    low: float,
    high: float,
    p: ModelInversionParams,
) -> tuple[Tensor, Tensor]:
    """Inputs [k, *shape] within [low, high] that a model takes for the classes [k], and the probabilities [k] so won.

    x <- clip(x - lr * gradient of the cost), in units in which [low, high] is [0, 1]; of all inputs of a class the one
    with the smallest cost is returned. A class rests once its probability is ``confidence``, or when its cost has not
    become smaller for ``patience`` steps. A probability is NaN where no cost was a number. Nothing is drawn, and
    classes do not touch each other.
    """
    width = high - low
    neutral = 0.5 if p.start == "grey" else (min(max(0.0, low), high) - low) / width
    x = torch.full((len(classes), *shape), neutral, device=classes.device)
    best, least = x.clone(), torch.full((len(classes),), torch.inf, device=classes.device, dtype=torch.float64)
    waited = torch.zeros_like(classes)
    for step in range(p.steps + 1):
        x.requires_grad_(True)
        log_p = outputs(low + width * x).double().log_softmax(1).gather(1, classes[:, None])[:, 0]
        costs = -log_p if p.cost == "log" else -torch.expm1(log_p)
        (gradient,) = torch.autograd.grad(costs.sum(), x)
        x, costs = x.detach(), costs.detach()
        better = costs < least
        best[better], least = x[better], torch.where(better, costs, least)
        waited = torch.where(better, 0, waited + 1)
        active = (log_p.detach().exp() < p.confidence) & (waited < p.patience)
        if step == p.steps or not bool(active.any()):
            break
        x = torch.where(_like(active, x), (x - p.lr * gradient).clamp(0, 1), x)
    reached = torch.exp(-least) if p.cost == "log" else 1 - least
    return low + width * best, torch.where(least.isfinite(), reached, torch.nan)


def _like(mask: Tensor, x: Tensor) -> Tensor:
    """A mask [k] that broadcasts over inputs [k, ...]."""
    return mask.view(-1, *[1] * (x.ndim - 1))
