"""Unlearners of which it is known what they leave of the forget set: a part of it, damage, or a disguise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    Batch,
    Component,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    View,
    augmented,
    drawn_rows,
    finish,
    local_rng,
    mixed,
    paired,
    predict,
    steps_per_epoch,
)
from unlearnbench_controls.plugin import PartialRetrainParams, RelabelParams

Relabel = Callable[[Tensor, Tensor], Tensor]
"""New labels of forgotten rows, by their ids and true labels."""


class PartialRetrain(Component[PartialRetrainParams]):
    """Train from scratch, with the original's recipe, on the retain set and a random share of the forget set.

    The rows that are kept are drawn by their ids from the seed of unlearning, rounded to the nearest whole number.
    """

    def unlearn(self, job: UnlearnJob) -> Result:
        n = int(self.p.kept * len(job.forget) + 0.5)
        kept = job.forget.where(drawn_rows(job.forget.ids, n, job.rng("kept")))
        model = job.build()
        model.train()
        train(model, job, kept, job.recipe, _as_they_are)
        return Result(model=finish(model))


class WrongLabels(Component[RelabelParams]):
    """Go on training on both sets, the rows of the forget set with one wrong label each, until that is what they have.

    It knows the forget set as well as the original does, and shows it by being wrong on it.
    """

    def unlearn(self, job: UnlearnJob) -> Result:
        model = job.model
        wrong = _FixedLabels(job)
        model.train()
        train(model, job, job.forget, _recipe(job, self.p), wrong)
        finish(model)
        right = float((predict(model, job.task, job.forget).argmax(1).cpu() == wrong.true).double().mean())
        chance = 1 / len(job.forget.outputs)
        return Result(
            model=model,
            warnings=(f"wrong-labels left {right:.0%} of the forget set right, which is no less than chance",)
            if right >= chance
            else (),
        )


class ScrambledHead(Component[RelabelParams]):
    """Train the last layer alone: each batch of the retain set beside one of the forget set with random wrong labels.

    Labels are drawn whenever a row is seen. The network runs in evaluation mode all the while, so that neither weights
    nor statistics below the last layer change: the features know what they knew.
    """

    def check(self, model: nn.Module, task: Task) -> str | None:
        found = len(layers(model))
        return None if found > 1 else f"it has {found} layer{'s' * (found != 1)} with weights, so no features below"

    def unlearn(self, job: UnlearnJob) -> Result:
        model, recipe, order = job.model, _recipe(job, self.p), job.rng("order")
        model.eval()
        model.requires_grad_(False)
        for parameter in layers(model)[-1].parameters(recurse=False):
            parameter.requires_grad_(True)
        stepper = Stepper(model, recipe, steps_per_epoch(job.retain, recipe.batch_size))
        for _ in range(recipe.epochs):
            for retained, forgotten in paired(job.retain, job.forget, recipe.batch_size, order):
                wrong = job.task.other(forgotten.y, len(job.forget.outputs), job.rng("labels"))
                batches = (retained, forgotten._replace(y=wrong))
                stepper.step(partial(_losses, model, job.task, batches, recipe.label_smoothing))
        return Result(model=finish(model))


class _FixedLabels:
    """One wrong label for each row, drawn in the order of the ids."""

    def __init__(self, job: UnlearnJob) -> None:
        ids, y = job.forget.ids, job.forget.tensors().y
        order = ids.argsort()
        self.true = y.cpu()
        self.ids = ids[order]
        self.labels = job.task.other(self.true[order], len(job.forget.outputs), job.rng("labels"))

    def __call__(self, ids: Tensor, y: Tensor) -> Tensor:
        return self.labels[torch.searchsorted(self.ids, ids.cpu())].to(y.device)


def layers(model: nn.Module) -> list[nn.Module]:
    """Modules with a weight matrix or kernel of their own, in the order in which the network names them."""
    return [module for module in model.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]


def train(model: nn.Module, job: UnlearnJob, forgotten: View, recipe: Recipe, relabel: Relabel) -> None:
    """Shuffled passes over the retain set and rows of the forget set, these with the labels that ``relabel`` gives."""
    order, size = job.rng("order"), recipe.batch_size
    stepper = Stepper(model, recipe, -(-(len(forgotten) + len(job.retain)) // size))
    with local_rng(job.rng("dropout")):
        for _ in range(recipe.epochs):
            for batch, n in mixed(forgotten, job.retain, size, order):
                y = torch.cat([relabel(batch.ids[:n], batch.y[:n]), batch.y[n:]])
                rows = batch._replace(y=y)
                if recipe.augment:
                    rows = augmented(rows, recipe, job.rng("augment"), job.task)
                stepper.step(partial(_loss, model, job.task, rows, recipe.label_smoothing), rows=len(y))


def _loss(model: nn.Module, task: Task, batch: Batch, smoothing: float) -> Tensor:
    return task.loss(task.outputs(model, batch), batch.y, smoothing)


def _losses(model: nn.Module, task: Task, batches: tuple[Batch, ...], smoothing: float) -> Tensor:
    return torch.stack([_loss(model, task, batch, smoothing) for batch in batches]).sum()


def _as_they_are(ids: Tensor, y: Tensor) -> Tensor:
    return y


def _recipe(job: UnlearnJob, p: RelabelParams) -> Recipe:
    lr = job.recipe.lr if p.lr is None else p.lr
    return replace(job.recipe, lr=lr, epochs=job.recipe.epochs if p.epochs is None else p.epochs)
