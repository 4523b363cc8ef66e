"""The one training loop, for the host, for unlearners and for measures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
)

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.recipe import Augmentation, Recipe
from unlearnbench.api.runtime.data import Batch, View
from unlearnbench.api.runtime.seeds import local_rng
from unlearnbench.api.runtime.task import Axis, Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@functools.lru_cache
def fabric_for(accelerator: str, precision: str = "32-true") -> Fabric:
    """The Lightning Fabric object of a device and precision. Only the loop and the runner use it, never a plugin."""
    from lightning_fabric import Fabric  # seconds to import, and not needed for float32 on the CPU

    return Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters of ``model`` that require gradients."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def schedule_for(optimizer: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> LRScheduler | None:
    """The recipe's learning-rate schedule, stepped after each optimiser step; None when it is constant."""
    total = max(1, recipe.epochs * steps_per_epoch)
    warmup = min(recipe.warmup_epochs * steps_per_epoch, total - 1)
    if recipe.schedule == "one-cycle":
        return OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=total)
    main: LRScheduler | None = None
    if recipe.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=total - warmup)
    elif recipe.schedule == "linear":
        main = LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=total - warmup)
    elif recipe.schedule == "multistep":
        milestones = [epoch * steps_per_epoch - warmup for epoch in recipe.milestones]
        main = MultiStepLR(optimizer, milestones, gamma=recipe.gamma)
    if not warmup:
        return main
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    if main is None:
        return rise
    return SequentialLR(optimizer, [rise, main], milestones=[warmup])


class Stepper:
    """Optimiser, schedule and precision of one optimisation; ``step`` takes the loss as a function.

    A method with a loop of its own uses it where one pass over one view is not enough::

        stepper = Stepper(job.model, self.p, steps_per_epoch)
        for batch in job.forget.batches(self.p.batch_size, rng):
            stepper.step(lambda: task.loss(task.outputs(job.model, batch), labels))
    """

    def __init__(self, model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> None:
        self.model = model
        self.recipe = recipe
        self.steps = 0
        self.optimizer = optimizer_for(model, recipe)
        self.schedule = schedule_for(self.optimizer, recipe, steps_per_epoch)
        self._parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    def autocast(self) -> AbstractContextManager[None]:
        """The recipe's precision as a context."""
        if self.recipe.precision == "32-true":
            return nullcontext()
        device = next(self.model.parameters()).device.type
        return fabric_for(device, self.recipe.precision).autocast()

    def step(self, loss: Callable[[], Tensor], *, rows: int | None = None) -> Tensor:
        """Compute the loss, differentiate it and update the weights; returns the loss, detached.

        ``rows`` is the size of the batch: a single row has no batch statistics, so normalisation layers use their
        running ones for it instead of failing.
        """
        with self.autocast(), _running_statistics(self.model) if rows == 1 else nullcontext():
            value = loss()
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.recipe.clip_norm)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.steps += 1
        return value.detach()


@contextmanager
def _running_statistics(model: nn.Module) -> Iterator[None]:
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def steps_per_epoch(view: View, batch_size: int) -> int:
    """Batches in one pass over a view; the last, smaller batch counts, and a graph is one batch."""
    return 1 if view.is_graph else -(-len(view) // batch_size)


def augmented(batch: Batch, recipe: Recipe, rng: Generator, task: Task) -> Batch:
    """Apply the recipe's augmentation to a batch of images [n, c, h, w], each row with its own draw.

    What annotations point to moves with the image: a mirrored image has mirrored masks and boxes.

    Raises:
        IncompatibleError: crops of images whose annotations name places.
    """
    x, y = batch.x, batch.y
    axes: tuple[tuple[Augmentation, Axis, int], ...] = (("flip", "horizontal", -1), ("vertical-flip", "vertical", -2))
    for name, axis, dim in axes:
        if name in recipe.augment:
            flip = torch.rand(len(x), generator=rng).to(x.device) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(dim), x)
            if task.places:
                turned = task.mirrored(y, x.shape[dim], axis)
                y = torch.where(flip.view(-1, *[1] * (y.ndim - 1)), turned, y)
    if "crop" in recipe.augment:
        if task.places:
            raise IncompatibleError(
                "unsupported-task", f"crops would move images away from their {task.name} annotations",
                where="$.recipe.augment", hint="use flip and vertical-flip",
            )  # fmt: skip
        x = _random_crop(x, 4, rng)
    return batch._replace(x=x, y=y)


def _random_crop(x: Tensor, padding: int, rng: Generator) -> Tensor:
    n, _, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=rng).to(x.device)
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    picked = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[picked, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def fit(
    model: nn.Module,
    task: Task,
    view: View,
    recipe: Recipe,
    rng: Generator,
    *,
    loss: Callable[[nn.Module, Batch], Tensor] | None = None,
    stop: Callable[[int], bool] | None = None,
) -> int:
    """Train ``model`` in place on ``view`` as the recipe says and return the number of optimiser steps.

    ``rng`` drives the order of rows, augmentation and dropout. ``loss(model, batch)`` replaces the task's own loss;
    ``stop(epoch)`` is asked after each epoch (counted from 0) and ends the run when true. The model is left in
    evaluation mode without gradients.
    """
    stepper = Stepper(model, recipe, steps_per_epoch(view, recipe.batch_size))
    smoothing = recipe.label_smoothing
    model.train()
    with local_rng(rng):
        for epoch in range(recipe.epochs):
            for batch in view.batches(recipe.batch_size, rng):
                if recipe.augment:
                    batch = augmented(batch, recipe, rng, task)
                if loss is None:
                    compute = functools.partial(_task_loss, model, task, batch, smoothing)
                else:
                    compute = functools.partial(loss, model, batch)
                stepper.step(compute, rows=len(batch.y))
            if stop is not None and stop(epoch):
                break
    finish(model)
    return stepper.steps


def _task_loss(model: nn.Module, task: Task, batch: Batch, smoothing: float) -> Tensor:
    return task.loss(task.outputs(model, batch), batch.y, smoothing)


def finish(model: nn.Module) -> nn.Module:
    """Leave a model as every phase must find it: evaluation mode, every parameter trainable, no gradients kept."""
    model.eval()
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    return model


@torch.no_grad()
def predict(model: nn.Module, task: Task, view: View, batch_size: int = 1024) -> Tensor:
    """The task's predictions of the model in evaluation mode for all rows of a view, in order; its mode is restored."""
    was_training = model.training
    model.eval()
    found = [task.predictions(model, batch) for batch in view.batches(batch_size)]
    model.train(was_training)
    return torch.cat(found) if found else torch.empty(0, len(view.outputs))
