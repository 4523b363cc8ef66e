"""l1-sparse: fine-tuning on the retain set with an l1 penalty on all parameters that fades over the epochs.

Source: Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023 (arXiv 2304.04934).
Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

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
    local_rng,
    steps_per_epoch,
)
from unlearnbench_l1_sparse.plugin import L1SparseParams


class L1Sparse(Component[L1SparseParams]):
    """Minimise the loss on the retain set + alpha_t * the l1 norm of the parameters."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model, p = job.model, self.p
        stepper = Stepper(model, p, steps_per_epoch(job.retain, p.batch_size))
        model.train()
        with local_rng(job.rng("dropout")):
            for epoch in range(p.epochs):
                alpha = penalty(epoch, p)
                for batch in job.retain.batches(p.batch_size, job.rng("order")):
                    rows = augmented(batch, p, job.rng("augment"), job.task) if p.augment else batch
                    loss = partial(penalised_loss, model, job.task, rows, alpha, p.label_smoothing)
                    stepper.step(loss, rows=len(rows.y))
        return Result(model=finish(model))


def penalty(epoch: int, p: L1SparseParams) -> float:
    """alpha_t = alpha * (1 - t / (T - T_no_l1)) for t < T - T_no_l1, then 0; t counts from 0."""
    penalised = p.epochs - p.no_l1_epochs
    return p.alpha * (1 - epoch / penalised) if epoch < penalised else 0.0


def penalised_loss(model: nn.Module, task: Task, batch: Batch, alpha: float, smoothing: float) -> Tensor:
    """Mean loss of a batch + alpha times the sum of the magnitudes of all parameters."""
    loss = task.loss(task.outputs(model, batch), batch.y, smoothing)
    if not alpha:
        return loss
    return loss + alpha * torch.stack([p.abs().sum() for p in model.parameters()]).sum()
