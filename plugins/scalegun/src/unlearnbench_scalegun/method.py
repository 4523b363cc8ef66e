"""ScaleGUN (Yi and Wei 2025), the linear method: features kept up to date, a Newton step, a certificate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from unlearnbench.api.runtime import (
    Component,
    Finding,
    Job,
    PrepareJob,
    Result,
    State,
    Task,
    TrainJob,
    UnlearnJob,
    VerifyJob,
)
from unlearnbench_scalegun.certificate import Passed, document, limit, proof
from unlearnbench_scalegun.linear import Array, newton_step, train
from unlearnbench_scalegun.model import decoupled, drawn, refusal, weights, write
from unlearnbench_scalegun.plugin import ScaleGunParams
from unlearnbench_scalegun.propagation import propagate
from unlearnbench_scalegun.standing import Standing
from unlearnbench_scalegun.verify import findings
from unlearnbench_scalegun.views import edges_of, numbers, rows_of

HOPELESS = (
    "The bound passes the budget even for a model that was just trained: nothing is certified. "
    "A smaller rmax, or more noise (alpha), would help."
)


class ScaleGun(Component[ScaleGunParams]):
    """Certified removal of edges, nodes and features from a linear model on propagated features."""

    def check(self, model: nn.Module, task: Task) -> str | None:
        """Why a network cannot be served."""
        return refusal(model)

    def train(self, job: TrainJob) -> Result:
        """The optimum of the noisy objective on exactly propagated features."""
        model, batch = job.build(), job.data.tensors()
        levels = decoupled(model).level_weights
        z = propagate(numbers(batch.x), numbers(edges_of(batch)), levels, threads=torch.get_num_threads())
        noise = self._noise(job, model)
        w = train(z[numbers(rows_of(batch))], numbers(batch.y), noise, self.p.ridge, self.p.tolerance)
        decoupled(model).head.double()  # the gradient that is left is far below what single precision can tell
        write(model, w)
        return Result(model=model, state=State(tensors={"noise": torch.from_numpy(noise)}))

    def prepare(self, job: PrepareJob) -> State:
        """The propagation state of the training graph."""
        noise = numbers(job.state.tensors["noise"])
        levels = decoupled(job.model).level_weights
        return Standing.start(job.data, weights(job.model), noise, levels, self.p).state()

    def unlearn(self, job: UnlearnJob) -> Result:
        """Algorithm 1: propagate, one Newton step, and train anew if the bound passes the budget."""
        standing, w = Standing.of(job.state), weights(job.model)
        change = standing.serve(job.request.kind, job.forget, job.retain)
        delta = change.gradient(w, self.p.ridge)
        stepped = write(job.model, w + newton_step(w, standing.z, self.p.ridge, delta))
        standing.step(w, stepped, change)
        terms = standing.terms(stepped)
        value = terms.value(self.p.bound, self.p.pooling)
        passed = None
        if value > limit(self.p, standing):
            passed = Passed(value, stepped, standing.noise)
            noise = self._noise(job, job.model)
            anew = write(job.model, standing.optimum(noise, self.p.tolerance))
            standing.retrained(anew, noise)
            terms = standing.terms(anew)
        certificate = document(self.p, standing, terms, passed)
        return Result(
            model=job.model,
            state=standing.state(),
            certificate=certificate,
            proof=proof(standing, passed),
            warnings=() if certificate["holds"] else (HOPELESS,),
        )

    def verify(self, job: VerifyJob) -> Iterable[Finding]:
        """Work out every certificate of a stream again."""
        return findings(job, self.p)

    def _noise(self, job: Job, model: nn.Module) -> Array:
        """b ~ N(0, alpha^2 I), [C, F]; training and unlearning draw from streams of their own."""
        return drawn(self.p.alpha, weights(model), job.rng("noise"))
