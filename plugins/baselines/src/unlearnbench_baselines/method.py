"""Training that goes on: on the retain set alone, or on the forget set with random labels as well.

Sources: the baseline FT of Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023 (arXiv
2304.04934); successive random labels as in D'Angelo et al., "How to Make Reproducible Research in Machine Unlearning
with ERASURE", IJCAI 2025.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import (
    Batch,
    Component,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    augmented,
    finish,
    fit,
    local_rng,
    mixed,
    steps_per_epoch,
)
from unlearnbench_baselines.plugin import FinetuneParams, SuccessiveRandomLabelsParams


class Finetune(Component[FinetuneParams]):
    """Train on, on the retain set alone: catastrophic forgetting does the work."""

    def unlearn(self, job: UnlearnJob) -> Result:
        fit(job.model, job.task, job.retain, self.p, job.rng("order"))
        return Result(model=job.model)


class SuccessiveRandomLabels(Component[SuccessiveRandomLabelsParams]):
    """Train on the forget set with labels that are drawn anew whenever a row is seen, and on the retain set."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model, p = job.model, self.p
        stepper = Stepper(model, p, self._steps(job))
        model.train()
        with local_rng(job.rng("dropout")):
            for _ in range(p.epochs):
                for batch in self._epoch(job):
                    rows = augmented(batch, p, job.rng("augment"), job.task) if p.augment else batch
                    stepper.step(partial(_loss, model, job.task, rows, p.label_smoothing), rows=len(rows.y))
        return Result(model=finish(model))

    def _steps(self, job: UnlearnJob) -> int:
        """Optimiser steps in one epoch; a graph is one batch of each set."""
        if self.p.passes == "mixed" and not job.retain.is_graph:
            return -(-(len(job.forget) + len(job.retain)) // self.p.batch_size)
        return sum(steps_per_epoch(view, self.p.batch_size) for view in (job.forget, job.retain))

    def _epoch(self, job: UnlearnJob) -> Iterator[Batch]:
        """The batches of one epoch; the rows of the forget set come with random labels."""
        size, order = self.p.batch_size, job.rng("order")
        if self.p.passes == "mixed":
            for batch, forgotten in mixed(job.forget, job.retain, size, order):
                yield batch._replace(y=torch.cat([self._drawn(batch.y[:forgotten], job), batch.y[forgotten:]]))
            return
        for batch in job.forget.batches(size, order):
            yield batch._replace(y=self._drawn(batch.y, job))
        yield from job.retain.batches(size, order)

    def _drawn(self, y: Tensor, job: UnlearnJob) -> Tensor:
        return job.task.other(y, len(job.forget.outputs), job.rng("labels"), wrong=self.p.draw == "wrong")


def _loss(model: nn.Module, task: Task, batch: Batch, smoothing: float) -> Tensor:
    return task.loss(task.outputs(model, batch), batch.y, smoothing)
