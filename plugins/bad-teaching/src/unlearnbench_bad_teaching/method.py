"""Bad Teaching: an incompetent teacher for the forget set, a competent one for the retain set.

Source: Chundawat et al., "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent
Teacher", AAAI 2023 (arXiv 2205.08096). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import torch
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
    finish,
    local_rng,
    mixed,
    without,
)
from unlearnbench_bad_teaching.plugin import BadTeachingParams


class BadTeaching(Component[BadTeachingParams]):
    """Minimise sum over x of (1 - l) KL(T_good(x) || S(x)) + l KL(T_bad(x) || S(x)), with l = 1 on the forget set."""

    def unlearn(self, job: UnlearnJob) -> Result:
        student, p = job.model, self.p
        teachers = Teachers(good=frozen(deepcopy(student)), bad=frozen(job.build(init="bad-teacher")))
        # A target that is erased from rows leaves them among the retain rows, where the good teacher would teach it.
        retain = share_of(without(job.retain, job.forget), p.retain_fraction, job.rng("subset"))
        # A graph is one batch of each set.
        steps = 2 if retain.is_graph else math.ceil((len(job.forget) + len(retain)) / p.batch_size)
        stepper = Stepper(student, p, steps)
        student.train()
        with local_rng(job.rng("dropout")):
            for _ in range(p.epochs):
                for batch, forgotten in mixed(job.forget, retain, p.batch_size, job.rng("order")):
                    if p.augment:
                        batch = augmented(batch, p, job.rng("augment"), job.task)
                    loss = partial(taught_loss, student, teachers, job.task, batch, forgotten, p.temperature)
                    stepper.step(loss, rows=len(batch.y))
        return Result(model=finish(student))


@dataclass(frozen=True)
class Teachers:
    """Both are in evaluation mode and never change."""

    good: nn.Module
    bad: nn.Module

    @torch.no_grad()
    def outputs(self, task: Task, batch: Batch, forgotten: int) -> Tensor:
        """What the student is to put out: as the bad teacher for the first rows, as the good one for the others."""
        return torch.cat([task.outputs(self.bad, batch)[:forgotten], task.outputs(self.good, batch)[forgotten:]])


def frozen(teacher: nn.Module) -> nn.Module:
    """A teacher in evaluation mode, without gradients."""
    return teacher.eval().requires_grad_(False)


def taught_loss(
    student: nn.Module, teachers: Teachers, task: Task, batch: Batch, forgotten: int, temperature: float
) -> Tensor:
    """Mean over the rows of the divergence from the teacher of each; the first ``forgotten`` rows have l = 1."""
    reference = teachers.outputs(task, batch, forgotten)
    return task.divergence(task.outputs(student, batch), reference, temperature).mean()


def share_of(view: View, fraction: float, rng: Generator) -> View:
    """A random share of the rows, in their order; at least one."""
    count = math.ceil(Fraction(str(fraction)) * len(view))  # exact: 0.3 * 10 is below 3 in floating point
    return view.where(torch.randperm(len(view), generator=rng)[:count].sort().values)
