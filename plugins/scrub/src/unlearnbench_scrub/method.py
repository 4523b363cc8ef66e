"""SCRUB, its rewinding form and NegGrad+.

Source: Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023 (arXiv 2302.09880). Differences are the
``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import (
    Batch,
    Component,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    View,
    augmented,
    finish,
    local_rng,
    paired,
    predict,
    steps_per_epoch,
)
from unlearnbench_scrub.plugin import NegGradPlusParams, ScrubParams

LABEL_ROWS = 1024
"""Rows per batch where only annotations are read."""


class Scrub(Component[ScrubParams]):
    """max_w d(x; w) on the forget set, in turn with min_w alpha * d(x; w) + gamma * loss on the retain set.

    d(x; w) is the divergence of the student's distribution from the teacher's, who is the original.
    """

    def unlearn(self, job: UnlearnJob) -> Result:
        scrub(job, self.p)
        return Result(model=finish(job.model))


class ScrubR(Component[ScrubParams]):
    """SCRUB, then back to the epoch whose forget error is nearest to the error on unseen rows of the same classes."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model, forgotten = job.model, labels(job.forget)
        unseen, left_out = Unseen.like(forgotten, job)
        errors: list[float] = []
        latest: dict[float, dict[str, Tensor]] = {}  # one checkpoint per error: of equals the latest is returned

        def keep() -> None:
            wrong = predict(model, job.task, job.forget).argmax(1) != forgotten
            errors.append(float(wrong.double().mean()))
            latest[errors[-1]] = {name: value.clone() for name, value in model.state_dict().items()}

        scrub(job, self.p, after_epoch=keep)
        reference = unseen.error(model, job)
        found: dict[str, Any] = {"reference_error": reference, "forget_errors": errors}
        if errors:
            gaps = [round(abs(error - reference), 9) for error in errors]  # rounding decides no tie
            epoch = max(i for i, gap in enumerate(gaps) if gap == min(gaps))
            model.load_state_dict(latest[errors[epoch]])
            found["epoch"] = epoch + 1
        return Result(model=finish(model), artifacts=found, warnings=left_out)


class NegGradPlus(Component[NegGradPlusParams]):
    """Minimise alpha * loss(retain) - (1 - alpha) * loss(forget)."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model, p = job.model, self.p
        stepper = Stepper(model, p, steps_per_epoch(job.retain, p.batch_size))
        model.train()
        with local_rng(job.rng("dropout")):
            for _ in range(p.epochs):
                for retain, forget in paired(job.retain, job.forget, p.batch_size, job.rng("order")):
                    loss = partial(contrast, model, job, seen(retain, job, p), seen(forget, job, p), p)
                    stepper.step(loss, rows=min(len(retain.y), len(forget.y)))
        return Result(model=finish(model))


def scrub(job: UnlearnJob, p: ScrubParams, after_epoch: Callable[[], None] = lambda: None) -> None:
    """Epochs 1 to E: while epoch <= msteps a max epoch on the forget set comes first; then a min epoch on the rest."""
    student, teacher = job.model, frozen_copy(job.model)
    stepper = Stepper(student, p, steps_per_epoch=1)
    schedule, stepper.schedule = stepper.schedule, None  # stepped by epoch: epochs differ in their number of steps
    student.train()
    with local_rng(job.rng("dropout")):
        for epoch in range(1, p.epochs + 1):
            if epoch <= p.msteps:
                for batch in batches(job.forget, p.forget_batch_size, job, p):
                    stepper.step(partial(max_loss, student, teacher, job.task, batch, p), rows=len(batch.y))
            for batch in batches(job.retain, p.batch_size, job, p):
                stepper.step(partial(min_loss, student, teacher, job.task, batch, p), rows=len(batch.y))
            if schedule is not None:
                schedule.step()
            after_epoch()


def frozen_copy(model: nn.Module) -> nn.Module:
    """The teacher: a copy that shares nothing with the student, in evaluation mode."""
    return deepcopy(model).eval().requires_grad_(False)


def max_loss(student: nn.Module, teacher: nn.Module, task: Task, batch: Batch, p: ScrubParams) -> Tensor:
    """-d(x; w): minimising it drives the student away from the teacher."""
    return -divergence(task.outputs(student, batch), teacher, task, batch, p)


def min_loss(student: nn.Module, teacher: nn.Module, task: Task, batch: Batch, p: ScrubParams) -> Tensor:
    """alpha * d(x; w) + gamma * loss(x, y; w)."""
    out = task.outputs(student, batch)
    loss = task.loss(out, batch.y, p.label_smoothing)
    return p.kl_weight * divergence(out, teacher, task, batch, p) + p.loss_weight * loss


def divergence(out: Tensor, teacher: nn.Module, task: Task, batch: Batch, p: ScrubParams) -> Tensor:
    """d(x; w) = KL(teacher || student) * T^2, the mean over the rows of the batch."""
    with torch.no_grad():
        reference = task.outputs(teacher, batch)
    return task.divergence(out, reference, p.temperature).mean()


def contrast(model: nn.Module, job: UnlearnJob, retain: Batch, forget: Batch, p: NegGradPlusParams) -> Tensor:
    """alpha * loss(retain) - (1 - alpha) * loss(forget), each batch in a forward pass of its own."""
    kept, lost = (
        job.task.loss(job.task.outputs(model, batch), batch.y, p.label_smoothing) for batch in (retain, forget)
    )
    return p.alpha * kept - (1 - p.alpha) * lost


def batches(view: View, size: int, job: UnlearnJob, p: ScrubParams) -> Iterator[Batch]:
    """One shuffled pass over a view."""
    for batch in view.batches(size, job.rng("order")):
        yield seen(batch, job, p)


def seen(batch: Batch, job: UnlearnJob, p: ScrubParams | NegGradPlusParams) -> Batch:
    """The batch as the networks see it."""
    return augmented(batch, p, job.rng("augment"), job.task) if p.augment else batch


@dataclass(frozen=True)
class Unseen:
    """Validation rows, weighted so that their classes have the shares that they have in the forget set."""

    y: Tensor
    weight: Tensor

    @classmethod
    def like(cls, forgotten: Tensor, job: UnlearnJob) -> tuple[Unseen, tuple[str, ...]]:
        """Weigh the validation rows like the labels of the forget set; also a sentence about classes left out.

        Raises:
            IncompatibleError: there is no validation row of any class of the forget set.
        """
        names = job.forget.outputs
        y = labels(job.validation) if len(job.validation) else forgotten[:0]
        wanted, there = (torch.bincount(labels, minlength=len(names)).double() for labels in (forgotten, y))
        weight = torch.where(there > 0, wanted / there.clamp(min=1), 0.0)[y]
        if not weight.sum():
            raise IncompatibleError(
                "incompatible",
                "rewinding needs validation rows of the forget set's classes, and there are none",
                hint="keep a share of the training rows for it: --validation 0.1",
            )
        missing = ", ".join(names[c] for c in torch.nonzero((wanted > 0) & (there == 0))[:, 0].tolist())
        sentence = f"the reference error leaves out classes of the forget set without validation rows: {missing}"
        return cls(y, weight / weight.sum()), (sentence,) if missing else ()

    def error(self, model: nn.Module, job: UnlearnJob) -> float:
        """The weighted share of rows that the model gets wrong."""
        wrong = predict(model, job.task, job.validation).argmax(1) != self.y
        return float((self.weight * wrong).sum())


def labels(view: View) -> Tensor:
    """The annotations of a view, in order."""
    return torch.cat([batch.y for batch in view.batches(LABEL_ROWS)])
