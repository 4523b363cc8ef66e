"""ScaleGUN (Yi and Wei 2025) for networks on propagated features: the same propagation, and no certificate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Batch, Component, Decoupled, PrepareJob, Result, State, Task, UnlearnJob
from unlearnbench_scalegun.blocks import HALVINGS, Mended, Rows, mended
from unlearnbench_scalegun.live import propagation_in, propagation_of, state_with
from unlearnbench_scalegun.plugin import DeepParams
from unlearnbench_scalegun.propagation import Propagation
from unlearnbench_scalegun.requests import belongs_to, take_out, wrong_state
from unlearnbench_scalegun.views import edges_of, numbers, rows_of

UNCERTIFIED = "scalegun-deep certifies nothing: no bound is known on what this network still holds of the request."


class ScaleGunDeep(Component[DeepParams]):
    """Removal of edges, nodes and features from a network that propagates before it learns; the recipe trains it.

    Only trained tensors move: running statistics of normalisation layers stay as training left them.
    """

    def check(self, model: nn.Module, task: Task) -> str | None:
        """Why a network cannot be served."""
        if not isinstance(model, Decoupled):
            return "it does not propagate before it learns (level_weights and head are missing)"
        if len(model.level_weights) < 2:
            return "it does not propagate at all, and there is no graph to forget anything of"
        return None

    def prepare(self, job: PrepareJob) -> State:
        """The propagation of the training graph, and which nodes were trained on."""
        batch = job.data.tensors()
        propagation = propagation_of(batch, _decoupled(job.model).level_weights, self.p)
        return _state(propagation, batch, served=0)

    def unlearn(self, job: UnlearnJob) -> Result:
        """Propagate, then one safeguarded step of every tensor of the head."""
        before, after = job.forget.tensors(), job.retain.tensors()
        propagation, rows, y = _resumed(job.state)
        belongs_to(propagation, propagation.meta["features"], before)
        old = _estimates(propagation, rows, y.to(job.device))
        assert job.forget.elements is not None
        take_out(propagation, job.request.kind, numbers(job.forget.elements), before, after)
        if propagation.m != edges_of(after).shape[1]:
            wrong_state(f"it has {propagation.m} edges after the request, the graph {edges_of(after).shape[1]}")
        new = _estimates(propagation, rows_of(after), after.y)
        head, smoothing = _decoupled(job.model).head, job.recipe.label_smoothing
        done = mended(head, lambda out, classes: job.task.loss(out, classes, smoothing), old, new, self.p)
        with torch.no_grad():
            for name, tensor in head.named_parameters():
                tensor.copy_(done.after.weights[name])
        served = int(job.state.meta["served"])
        return Result(
            model=job.model,
            state=_state(propagation, after, served + 1),
            artifacts=_account(done),
            warnings=((UNCERTIFIED,) if not served else ()) + _warnings(done),
        )


def _decoupled(model: nn.Module) -> Decoupled:
    """The model, which ``check`` let pass."""
    assert isinstance(model, Decoupled)
    return model


def _state(propagation: Propagation, batch: Batch, served: int) -> State:
    """The propagation, and the training nodes and classes of the graph that it is about."""
    return state_with(propagation, {"rows": rows_of(batch), "y": batch.y}, {"served": served})


def _resumed(state: State) -> tuple[Propagation, Tensor, Tensor]:
    """The propagation of a state, its training nodes [m] and their classes [m].

    Raises:
        DataError: it is not a state of this method.
    """
    absent = [name for name in ("rows", "y") if name not in state.tensors]
    absent += [name for name in ("served",) if name not in state.meta]
    if absent:
        wrong_state(f"it holds no {', '.join(absent)}")
    return propagation_in(state), state.tensors["rows"], state.tensors["y"]


def _estimates(propagation: Propagation, rows: Tensor, y: Tensor) -> Rows:
    """Training rows as the propagation has them now, on the device of their classes."""
    return Rows(torch.from_numpy(propagation.rows(numbers(rows))).to(y.device), y)


def _account(done: Mended) -> dict[str, Any]:
    """What became of a request, for the record."""
    return {
        "certified": False,
        "residual-before": done.before.residual,
        "residual-after": done.after.residual,
        "loss-before": done.before.loss,
        "loss-after": done.after.loss,
        "step-taken": done.taken,
        "halvings": done.halvings,
        "tensors-without-positive-curvature": list(done.uphill),
    }


def _warnings(done: Mended) -> tuple[str, ...]:
    """What a reader must know: a step that was dropped, tensors that conjugate gradients had to leave early."""
    found = []
    if done.uphill:
        found.append(
            f"The curvature of {', '.join(done.uphill)} is not positive everywhere: conjugate gradients stopped there."
        )
    if not done.taken and done.before.residual:
        found.append(
            f"No step was taken, after {HALVINGS} halvings: each left the gradient further from where it should be, or "
            "raised the training loss. The features follow the request, the weights do not."
        )
    return tuple(found)
