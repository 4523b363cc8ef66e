"""SalUn: saliency picks the weights that may change, training on random labels changes them.

Source: Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image
Classification and Generation", ICLR 2024 (arXiv 2310.12508). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
)
from unlearnbench_salun.plugin import RandomLabelsParams, SaliencyParams, SalUnParams

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
        model, p = job.model, self.p
        stepper = Stepper(model, p, steps_in_epoch(job, p))
        model.train()
        with local_rng(job.rng("dropout")):
            for _ in range(p.epochs):
                for batch, forgotten in epoch(job, p):
                    loss = partial(relabelled_loss, model, job.task, batch, forgotten, p)
                    stepper.step(loss, rows=len(batch.y))
        return Result(model=finish(model))


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
    """Optimiser steps in one epoch; the last, smaller batch of a pass counts."""
    forget, retain = len(job.forget), len(job.retain)
    passes = (forget + retain,) if p.passes == "mixed" else (forget, retain)
    return sum(-(-rows // p.batch_size) for rows in passes)


def epoch(job: UnlearnJob, p: RandomLabelsParams) -> Iterator[tuple[Batch, int]]:
    """Yield the batches of one epoch, each with the number of its forget rows; these come first, labelled at random."""
    for batch, forgotten in (mixed if p.passes == "mixed" else alternate)(job, p):
        yield (augmented(batch, p, job.rng("augment")) if p.augment else batch), forgotten


def alternate(job: UnlearnJob, p: RandomLabelsParams) -> Iterator[tuple[Batch, int]]:
    """One pass over the forget set, then one over the retain set."""
    for batch in job.forget.batches(p.batch_size, job.rng("order")):
        yield relabelled(batch, job, p), len(batch.y)
    for batch in job.retain.batches(p.batch_size, job.rng("order")):
        yield batch, 0


def mixed(job: UnlearnJob, p: RandomLabelsParams) -> Iterator[tuple[Batch, int]]:
    """One pass over both sets, concatenated and shuffled."""
    forget, retain = relabelled(job.forget.tensors(), job, p), job.retain.tensors()
    x, y, ids = (torch.cat(pair) for pair in ((forget.x, retain.x), (forget.y, retain.y), (forget.ids, retain.ids)))
    order = torch.randperm(len(ids), generator=job.rng("order"))
    for rows in order.split(p.batch_size) if len(ids) else ():
        rows = rows.sort().values  # forget rows first; a batch's loss does not depend on the order within it
        forgotten = int((rows < len(forget.ids)).sum())
        rows = rows.to(ids.device)
        yield Batch(x[rows], y[rows], ids[rows]), forgotten


def relabelled(batch: Batch, job: UnlearnJob, p: RandomLabelsParams) -> Batch:
    """The batch with freshly drawn random labels."""
    drawn = job.task.other(batch.y, len(job.forget.outputs), job.rng("labels"), wrong=p.draw == "wrong")
    return batch._replace(y=drawn)


def relabelled_loss(model: nn.Module, task: Task, batch: Batch, forgotten: int, p: RandomLabelsParams) -> Tensor:
    """Mean loss over the rows of a batch, whose first ``forgotten`` rows have weight 1, the others alpha."""
    out, n = task.outputs(model, batch), len(batch.y)
    if forgotten in (0, n):  # alternate passes: the batch is of one kind
        loss = task.loss(out, batch.y, p.label_smoothing)
        return loss if forgotten else p.retain_weight * loss
    random = task.loss(out[:forgotten], batch.y[:forgotten], p.label_smoothing)
    retain = task.loss(out[forgotten:], batch.y[forgotten:], p.label_smoothing)
    return forgotten / n * random + p.retain_weight * (n - forgotten) / n * retain
