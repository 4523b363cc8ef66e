"""Advanced NegGrad: one step descends on a retain batch and ascends on a forget batch.

Source: Choi and Na, "Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition
Systems", 2023 (arXiv 2311.02240). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from functools import partial

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
    local_rng,
    paired,
    steps_per_epoch,
)
from unlearnbench_advanced_neggrad.plugin import AdvancedNegGradParams


class AdvancedNegGrad(Component[AdvancedNegGradParams]):
    """Minimise loss(retain) - loss(forget)."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model, p = job.model, self.p
        stepper = Stepper(model, p, steps_per_epoch(job.retain, p.batch_size))
        model.train()
        with local_rng(job.rng("dropout")):
            for _ in range(p.epochs):
                for retain, forget in paired(job.retain, job.forget, p.batch_size, job.rng("order")):
                    if p.augment:
                        retain, forget = (
                            augmented(batch, p, job.rng("augment"), job.task) for batch in (retain, forget)
                        )
                    loss = partial(joint_loss, model, job.task, retain, forget, p)
                    stepper.step(loss, rows=min(len(retain.y), len(forget.y)))
        return Result(model=finish(model))


def joint_loss(model: nn.Module, task: Task, retain: Batch, forget: Batch, p: AdvancedNegGradParams) -> Tensor:
    """loss(retain) - loss(forget), in which a forget row counts up to the cap."""
    kept = task.loss(task.outputs(model, retain), retain.y, p.label_smoothing)
    lost = task.losses(task.outputs(model, forget), forget.y)
    if p.forget_cap is not None:
        lost = lost.clamp(max=p.forget_cap)
    return kept - lost.mean()
