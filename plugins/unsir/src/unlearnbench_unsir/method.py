"""UNSIR: impair the network with noise made for it, then repair it with retain rows.

Source: Tarun et al., "Fast Yet Effective Machine Unlearning", IEEE TNNLS 2023 (arXiv 2111.08947); the form for samples
is that of Choi and Na, 2023 (arXiv 2311.02240). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import (
    Batch,
    Component,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    View,
    augmented,
    fit,
    joined,
    local_rng,
    paired,
    steps_per_epoch,
    without,
)
from unlearnbench_unsir.plugin import UnsirParams

LABEL_ROWS = 1024
"""Rows per batch where only annotations are read."""


class Unsir(Component[UnsirParams]):
    """Impair, then repair: whole classes with noise of their own, samples with noise for each batch."""

    def unlearn(self, job: UnlearnJob) -> Result:
        if job.request.kind == "class":
            retain = some_of_each_class(job.retain, self.p.retain_per_class, job.rng("subset"))
            impair_classes(job, retain, self.p)
        else:
            retain = without(job.retain, job.forget)
            impair_samples(job, retain, self.p)
        repair = replace(self.p, lr=self.p.repair_lr, epochs=self.p.repair_epochs)
        fit(job.model, job.task, retain, repair, job.rng("repair"))
        return Result(model=job.model)


# --- Tarun et al.: classes ---------------------------------------------------------------------------------------


def impair_classes(job: UnlearnJob, retain: View, p: UnsirParams) -> None:
    """Train on error-maximising noise, labelled with the classes to be forgotten, among the retain rows."""
    job.model.eval()
    noise = Noise.of([error_maximising(job, retain, label, p) for label in job.request.classes])
    rows = p.noise_copies * len(noise.y) + len(retain)
    stepper = Stepper(job.model, p, ceil(rows / p.batch_size))
    job.model.train()
    with local_rng(job.rng("dropout")):
        for _ in range(p.epochs):
            for batch in noisy_epoch(noise, retain, job, p):
                stepper.step(partial(task_loss, job.model, job.task, batch, p), rows=len(batch.y))


@dataclass(frozen=True)
class Noise:
    """Noise inputs and the class that each stands for."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, parts: list[tuple[Tensor, Tensor]]) -> Noise:
        x, y = zip(*parts, strict=True)
        return cls(torch.cat(x), torch.cat(y))

    def take(self, rows: Tensor) -> Batch:
        """The noise at these positions; noise has no ids."""
        rows = rows.to(self.y.device)
        return Batch(self.x[rows], self.y[rows], torch.full_like(rows, -1))


def error_maximising(job: UnlearnJob, like: View, label: int, p: UnsirParams) -> tuple[Tensor, Tensor]:
    """N = argmin of -loss(f(N), label) + lambda * mean ||N||^2, from standard normal noise; and its labels."""
    example = like.take(torch.tensor([0]))
    x = standard_normal(p.noise_rows, example.x, job.rng("noise"))
    y = torch.full((p.noise_rows,), label, dtype=example.y.dtype, device=example.y.device)

    def objective() -> Tensor:
        loss = job.task.loss(job.task.outputs(job.model, Batch(x, y, y)), y)
        return -loss + p.noise_penalty * x.square().flatten(1).sum(1).mean()

    descend(x, objective, p.noise_steps, p.noise_lr)
    return x.detach(), y


def noisy_epoch(noise: Noise, retain: View, job: UnlearnJob, p: UnsirParams) -> Iterator[Batch]:
    """One shuffled pass over ``noise_copies`` of the noise and the retain rows."""
    copies = p.noise_copies * len(noise.y)
    order = torch.randperm(copies + len(retain), generator=job.rng("order"))
    for rows in order.split(p.batch_size):
        parts = []
        if (made := rows[rows < copies]).numel():
            parts.append(noise.take(made % len(noise.y)))
        if (kept := rows[rows >= copies]).numel():
            batch = retain.take(kept - copies)
            parts.append(augmented(batch, p, job.rng("augment"), job.task) if p.augment else batch)
        yield parts[0] if len(parts) == 1 else joined(*parts)


def some_of_each_class(view: View, count: int, rng: Generator) -> View:
    """Up to ``count`` random rows of each class, in their order."""
    y = torch.cat([batch.y for batch in view.batches(LABEL_ROWS)]).cpu()
    order = torch.randperm(len(y), generator=rng)
    picked = [order[y[order] == label][:count] for label in y.unique()]
    return view.where(torch.cat(picked).sort().values)


# --- Choi and Na: samples ----------------------------------------------------------------------------------------


def impair_samples(job: UnlearnJob, rows: View, p: UnsirParams) -> None:
    """Train each batch of retain rows beside noise far from a forget batch, both with the retain labels."""
    stepper = Stepper(job.model, p, steps_per_epoch(rows, p.batch_size))
    with local_rng(job.rng("dropout")):
        for _ in range(p.epochs):
            for retain, forget in paired(rows, job.forget, p.batch_size, job.rng("order")):
                job.model.eval()
                noise = far_from(job, forget, retain, p)
                job.model.train()
                batch = augmented(retain, p, job.rng("augment"), job.task) if p.augment else retain
                loss = partial(impair_loss, job.model, job.task, noise, batch, p)
                stepper.step(loss, rows=min(len(noise.y), len(batch.y)))


def far_from(job: UnlearnJob, forget: Batch, retain: Batch, p: UnsirParams) -> Batch:
    """Noise whose outputs are driven away from those of forget rows, with the labels of retain rows."""
    n = min(len(forget.y), len(retain.y))
    beside = Batch(retain.x[:n], retain.y[:n], torch.full_like(retain.ids[:n], -1))
    x = standard_normal(n, retain.x, job.rng("noise"))
    with torch.no_grad():
        theirs = job.task.outputs(job.model, Batch(*(column[:n] for column in forget[:3])))
    descend(
        x,
        lambda: -F.mse_loss(job.task.outputs(job.model, beside._replace(x=x)), theirs),
        p.sample_noise_steps,
        p.sample_noise_lr,
    )
    return beside._replace(x=x.detach().clamp(retain.x.min(), retain.x.max()))


def impair_loss(model: nn.Module, task: Task, noise: Batch, retain: Batch, p: UnsirParams) -> Tensor:
    """loss(noise) + loss(retain), each in a forward pass of its own."""
    return task_loss(model, task, noise, p) + task_loss(model, task, retain, p)


# --- both --------------------------------------------------------------------------------------------------------


def standard_normal(rows: int, like: Tensor, rng: Generator) -> Tensor:
    """Noise N(0, 1) of the shape of the rows of ``like``, to be optimised."""
    drawn = torch.randn(rows, *like.shape[1:], generator=rng, dtype=like.dtype)
    return drawn.to(like.device).requires_grad_(True)


def descend(x: Tensor, objective: Callable[[], Tensor], steps: int, lr: float) -> None:
    """Minimise the objective over the inputs ``x`` with Adam; the network's weights get no gradients."""
    optimizer = torch.optim.Adam([x], lr=lr)
    for _ in range(steps):
        (x.grad,) = torch.autograd.grad(objective(), [x])
        optimizer.step()


def task_loss(model: nn.Module, task: Task, batch: Batch, p: UnsirParams) -> Tensor:
    """The task's own loss."""
    return task.loss(task.outputs(model, batch), batch.y, p.label_smoothing)
