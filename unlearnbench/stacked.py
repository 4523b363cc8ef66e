"""Many small networks trained in lockstep: one batched step for all of them instead of a step for each.

Small networks are too little work for one call: most of the time goes into calling. Stacking the parameters of networks
of one shape (``torch.func.stack_module_state``) and mapping the loss over them (``vmap``) makes one call of many. The
draws are the same as in training one by one; sums may be taken in another order, so the results differ in the last bits
and stacking is part of what a stored model is keyed by.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from unlearnbench.api.recipe import Recipe
from unlearnbench.api.runtime import Stepper, Task, View, finish, steps_per_epoch

STACK = 8
"""Networks in a stack: more of them train no faster (``benchmarks/shadows.py``), and all of a stack are in memory."""

CPU_WORK = 4e6
"""Multiplications of a forward pass of one batch through one network, up to which stacking is faster on a CPU.

Beyond that the arithmetic takes longer than the calls (``benchmarks/shadows.py`` prints the ratios and the choices).
"""

_PLAIN = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Flatten, nn.Identity,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.LayerNorm, nn.GroupNorm,
)  # fmt: skip
"""Layers that neither draw random numbers nor keep statistics, so that a stack of them means what each means alone."""


def stackable(model: nn.Module, task: Task, view: View, recipe: Recipe) -> bool:
    """Whether networks like this one can be trained as a stack, and are trained faster that way.

    Decided by what the network is made of and how much work a batch is, never by a clock: the same run must give the
    same bits again.
    """
    plain = all(isinstance(module, _PLAIN) for module in model.modules() if not list(module.children()))
    usual = recipe.precision == "32-true" and recipe.clip_norm is None and not recipe.augment and recipe.epochs > 0
    if not (plain and usual and task.name == "classification" and len(view)) or view.is_graph or view.has_graphs:
        return False
    if next(model.parameters()).device.type == "cpu" and _work(model, view, recipe.batch_size) > CPU_WORK:
        return False
    return _maps(model, task, view)


def _work(model: nn.Module, view: View, rows: int) -> float:
    """Multiplications of a forward pass of one batch, counted where the weights are used."""
    found = 0.0

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal found
        weight = module.weight
        assert isinstance(weight, Tensor)
        places = output[0].numel() / len(weight) if isinstance(module, nn.Conv1d | nn.Conv2d) else 1
        found += rows * weight.numel() * places

    handles = [
        module.register_forward_hook(count)
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            model(view.take(torch.arange(1)).x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _maps(model: nn.Module, task: Task, view: View) -> bool:
    """Whether a step of two copies can be mapped at all: forward passes may do what ``vmap`` cannot follow."""
    batch = view.take(torch.arange(min(2, len(view))))
    params, buffers = stack_module_state([deepcopy(model), deepcopy(model)])
    x, y = torch.stack([batch.x] * 2), torch.stack([batch.y] * 2)
    try:
        losses = vmap(partial(_loss, deepcopy(model).to("meta"), task, 0.0))(params, buffers, x, y)
        losses.sum().backward()
    except RuntimeError:
        return False
    return bool(losses.detach().isfinite().all())


def _loss(base: nn.Module, task: Task, smoothing: float, params: Any, buffers: Any, x: Tensor, y: Tensor) -> Tensor:
    return task.loss(functional_call(base, (params, buffers), (x,)), y, smoothing)


def fit_stacked(
    models: Sequence[nn.Module], task: Task, views: Sequence[View], recipe: Recipe, rngs: Sequence[Generator]
) -> None:
    """Train each model in place on its own view, in the order that its own generator gives; see ``fit``.

    Raises:
        ValueError: the views have different numbers of rows, so that their batches do not go together.
    """
    if len({len(view) for view in views}) != 1:
        raise ValueError("networks of a stack need training sets of one size")
    stacked, buffers = stack_module_state(list(models))
    params = {name: nn.Parameter(weight.detach()) for name, weight in stacked.items()}
    base = deepcopy(models[0]).to("meta")
    steps = steps_per_epoch(views[0], recipe.batch_size)
    stepper = Stepper(nn.ParameterList(params.values()), recipe, steps)
    losses = vmap(partial(_loss, base, task, recipe.label_smoothing))
    for rng in rngs:  # what ``fit`` draws for layers that draw, although none of these does
        torch.randint(2**62, (1,), generator=rng)
    for _ in range(recipe.epochs):
        epoch = zip(*(view.batches(recipe.batch_size, rng) for view, rng in zip(views, rngs, strict=True)), strict=True)
        for batches in epoch:
            x, y = (torch.stack([getattr(batch, part) for batch in batches]) for part in ("x", "y"))
            stepper.step(lambda x=x, y=y: losses(params, buffers, x, y).sum())  # type: ignore[misc]
    with torch.no_grad():
        for place, model in enumerate(models):
            for name, weight in model.named_parameters():
                weight.copy_(params[name][place])
            finish(model)
