"""Fine-tuning on the retain set.

Source: the baseline FT of Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023,
arXiv 2304.04934.
"""

from __future__ import annotations

from unlearnbench.api.runtime import Component, Result, UnlearnJob, fit
from unlearnbench_baselines.plugin import FinetuneParams


class Finetune(Component[FinetuneParams]):
    """Train on, on the retain set alone: catastrophic forgetting does the work."""

    def unlearn(self, job: UnlearnJob) -> Result:
        fit(job.model, job.task, job.retain, self.p, job.rng("order"))
        return Result(model=job.model)
