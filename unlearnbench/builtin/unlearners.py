"""The two controls that bound every reading."""

from __future__ import annotations

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Component, Result, UnlearnJob, fit


class Identity(Component[NoParams]):
    """Returns the model as it came."""

    def unlearn(self, job: UnlearnJob) -> Result:
        return Result(model=job.model)


class Retrain(Component[NoParams]):
    """Trains from scratch on the retain set with the original's recipe and the unlearning seed."""

    def unlearn(self, job: UnlearnJob) -> Result:
        model = job.build()
        fit(model, job.task, job.retain, job.recipe, job.rng("order"))
        return Result(model=model)
