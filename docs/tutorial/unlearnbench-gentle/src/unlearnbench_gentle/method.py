"""Gentle ascent: negative gradient with a stop rule, then a short repair."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import log

from torch import Tensor, nn

from unlearnbench.api.runtime import (
    Batch,
    Component,
    Result,
    Stepper,
    Task,
    UnlearnJob,
    finish,
    fit,
    local_rng,
    steps_per_epoch,
)
from unlearnbench_gentle.plugin import GentleParams


class Gentle(Component[GentleParams]):
    """Climb on the forget set until the model does no better than a guess, then repair on the retain set."""

    def unlearn(self, job: UnlearnJob) -> Result:
        steps = self._climb(job)
        repair = replace(self.p, epochs=self.p.repair_epochs)
        fit(job.model, job.task, job.retain, repair, job.rng("repair"))
        return Result(model=job.model, artifacts={"ascent_steps": steps})

    def _climb(self, job: UnlearnJob) -> int:
        """Gradient ascent; returns the number of steps that it took."""
        ceiling = self.p.height * log(len(job.forget.outputs))  # cross-entropy of a uniform guess
        stepper = Stepper(job.model, self.p, steps_per_epoch(job.forget, self.p.batch_size))
        job.model.train()
        with local_rng(job.rng("dropout")):
            for _ in range(self.p.epochs):
                for batch in job.forget.batches(self.p.batch_size, job.rng("order")):
                    loss = -stepper.step(partial(negative_loss, job.model, job.task, batch), rows=len(batch.y))
                    if loss >= ceiling:
                        finish(job.model)
                        return stepper.steps
        finish(job.model)
        return stepper.steps


def negative_loss(model: nn.Module, task: Task, batch: Batch) -> Tensor:
    """Minus the loss on a batch: descending on it is ascending on the loss."""
    return -task.loss(task.outputs(model, batch), batch.y)
