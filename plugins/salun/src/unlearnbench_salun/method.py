"""SalUn: saliency picks the weights that may change, training on random labels changes them.

Source: Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image
Classification and Generation", ICLR 2024 (arXiv 2310.12508). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import (
    Batch,
    Component,
    Mask,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    View,
    augmented,
    finish,
    local_rng,
    masked,
    mixed,
    steps_per_epoch,
)
from unlearnbench_salun.plugin import RandomLabelsParams, SaliencyParams, SalUnParams, SalUnSoftParams

SALIENCY_ROWS = 64
"""Rows per backward pass of the saliency: a constant, so that not even its rounding depends on the batch size."""


class SalUn(Component[SalUnParams]):
    """The whole method: the salient weights are trained on random labels, the others do not move."""

    def unlearn(self, job: UnlearnJob) -> Result:
        mask = Saliency(self.p).unlearn(job).mask  # m_S = 1[ |grad loss(theta_o; D_f)| >= gamma ]
        with masked(job.model, mask):  # theta_u = m_S * (theta_o + delta) + (1 - m_S) * theta_o
            return RandomLabels(self.p).unlearn(job)


class Saliency(Component[SaliencyParams]):
    """The first half, a chain stage: leaves the weights as they are and returns the mask of those that may change."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model = finish(job.model)
        saliency = {name: grad.abs() for name, grad in summed_gradients(model, job.task, job.forget).items()}
        return Result(model=model, mask=most_salient(saliency, self.p))


class RandomLabels(Component[RandomLabelsParams]):
    """The second half: minimise the loss on the forget set with random labels + alpha * the loss on the retain set."""

    def unlearn(self, job: UnlearnJob) -> Result:
        train_on_random_labels(job, self.p)
        return Result(model=finish(job.model))


class SalUnSoft(Component[SalUnSoftParams]):
    """No mask: after each step the weights are drawn back to theta_o, so that most of them stay there at first."""

    def unlearn(self, job: UnlearnJob) -> Result:
        original = torch.cat([weight.detach().flatten() for weight in job.model.parameters()])
        steps = max(1, self.p.epochs * steps_in_epoch(job, self.p))

        def draw_back(step: int) -> None:
            held = int(self.p.mask_ratio * (1 - step / steps) * len(original))
            shrink_towards(original, job.model, held)

        train_on_random_labels(job, self.p, draw_back)
        return Result(model=finish(job.model))


def train_on_random_labels(
    job: UnlearnJob, p: RandomLabelsParams, after_step: Callable[[int], None] | None = None
) -> None:
    """Train on both sets, the forget set with random labels; ``after_step`` hears of each step, counted from 1."""
    model = job.model
    stepper = Stepper(model, p, steps_in_epoch(job, p))
    model.train()
    with local_rng(job.rng("dropout")):
        for _ in range(p.epochs):
            for batch, forgotten in epoch(job, p):
                loss = partial(relabelled_loss, model, job.task, batch, forgotten, p)
                stepper.step(loss, rows=len(batch.y))
                if after_step is not None:
                    after_step(stepper.steps)


@torch.no_grad()
def shrink_towards(original: Tensor, model: nn.Module, held: int) -> None:
    """Soft-threshold the change of all weights at its ``held``-th smallest magnitude: so many go back exactly."""
    if not held:
        return
    weights = list(model.parameters())
    now = torch.cat([weight.flatten() for weight in weights])
    change = now - original
    threshold = change.abs().kthvalue(held).values
    drawn = torch.where(change.abs() > threshold, now - change.sign() * threshold, original)
    for weight, value in zip(weights, drawn.split([weight.numel() for weight in weights]), strict=True):
        weight.copy_(value.view_as(weight))


def summed_gradients(model: nn.Module, task: Task, forget: View) -> dict[str, Tensor]:
    """Sum over the forget rows of the gradient of each row's loss, per parameter; the model is in evaluation mode.

    Rows go in the order of their ids, so that the sum does not depend on how the request lists them.
    """
    names, weights = zip(*model.named_parameters(), strict=True)
    total = [torch.zeros_like(weight) for weight in weights]
    for batch in forget.where(forget.ids.argsort()).batches(SALIENCY_ROWS):
        loss = task.losses(task.outputs(model, batch), batch.y).sum()
        for so_far, grad in zip(total, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
            so_far += grad
    return dict(zip(names, total, strict=True))


def most_salient(saliency: dict[str, Tensor], p: SaliencyParams) -> Mask:
    """Mask the share ``density`` with the largest saliency, over all parameters together or within each."""
    if p.mask_scope == "layer":
        return {name: largest(values, p.density) for name, values in saliency.items()}
    together = torch.cat([values.flatten() for values in saliency.values()])
    parts = largest(together, p.density).split([values.numel() for values in saliency.values()])
    return {name: part.view_as(saliency[name]) for name, part in zip(saliency, parts, strict=True)}


def largest(values: Tensor, share: float) -> Tensor:
    """True at exactly ceil(share * n) largest entries, same shape; of equal entries the first ones."""
    count = math.ceil(Fraction(str(share)) * values.numel())  # exact: 0.7 * 10 is above 7 in floating point
    flat = values.flatten()
    keep = torch.zeros_like(flat, dtype=torch.bool)
    keep[flat.argsort(descending=True, stable=True)[:count]] = True
    return keep.view_as(values)


def steps_in_epoch(job: UnlearnJob, p: RandomLabelsParams) -> int:
    """Optimiser steps in one epoch; the last, smaller batch of a pass counts, and a graph is one batch of each set."""
    if p.passes == "mixed" and not job.retain.is_graph:
        return -(-(len(job.forget) + len(job.retain)) // p.batch_size)
    return sum(steps_per_epoch(view, p.batch_size) for view in (job.forget, job.retain))


def epoch(job: UnlearnJob, p: RandomLabelsParams) -> Iterator[tuple[Batch, int]]:
    """Yield the batches of one epoch, each with the number of its forget rows; these come first, labelled at random."""
    for batch, forgotten in passes(job, p):
        labelled = relabelled(batch, forgotten, job, p) if forgotten else batch
        yield (augmented(labelled, p, job.rng("augment"), job.task) if p.augment else labelled), forgotten


def passes(job: UnlearnJob, p: RandomLabelsParams) -> Iterator[tuple[Batch, int]]:
    """One shuffled pass over both sets, or one over the forget set and then one over the retain set."""
    order = job.rng("order")
    if p.passes == "mixed":
        yield from mixed(job.forget, job.retain, p.batch_size, order)
        return
    for batch in job.forget.batches(p.batch_size, order):
        yield batch, len(batch.y)
    for batch in job.retain.batches(p.batch_size, order):
        yield batch, 0


def relabelled(batch: Batch, forgotten: int, job: UnlearnJob, p: RandomLabelsParams) -> Batch:
    """The batch with freshly drawn random labels for its first ``forgotten`` rows."""
    drawn = job.task.other(batch.y[:forgotten], len(job.forget.outputs), job.rng("labels"), wrong=p.draw == "wrong")
    return batch._replace(y=torch.cat([drawn, batch.y[forgotten:]]))


def relabelled_loss(model: nn.Module, task: Task, batch: Batch, forgotten: int, p: RandomLabelsParams) -> Tensor:
    """Mean loss over the rows of a batch, whose first ``forgotten`` rows have weight 1, the others alpha."""
    out, n = task.outputs(model, batch), len(batch.y)
    if forgotten in (0, n):  # alternate passes: the batch is of one kind
        loss = task.loss(out, batch.y, p.label_smoothing)
        return loss if forgotten else p.retain_weight * loss
    random = task.loss(out[:forgotten], batch.y[:forgotten], p.label_smoothing)
    retain = task.loss(out[forgotten:], batch.y[forgotten:], p.label_smoothing)
    return forgotten / n * random + p.retain_weight * (n - forgotten) / n * retain
