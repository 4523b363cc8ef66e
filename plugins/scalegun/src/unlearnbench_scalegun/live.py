"""A propagation in the state of a method: its arrays, and, from request to request of a stream, the object itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.runtime import Batch, State
from unlearnbench_scalegun.plugin import PropagationParams
from unlearnbench_scalegun.propagation import Propagation
from unlearnbench_scalegun.requests import wrong_state
from unlearnbench_scalegun.views import edges_of, numbers

PREFIX = "propagation/"


@dataclass(kw_only=True)
class LiveState(State):
    """A state together with the propagation whose arrays it shows.

    Opening the arrays again takes a look at every edge, which is more than most requests cost.
    """

    propagation: Propagation


def propagation_of(batch: Batch, level_weights: tuple[float, ...], p: PropagationParams) -> Propagation:
    """Propagated features of a whole graph."""
    return Propagation.start(
        numbers(batch.x),
        numbers(edges_of(batch)),
        level_weights,
        rmax=p.rmax,
        how=p.start,
        precision=p.precision,
        memory=p.memory,
        threads=torch.get_num_threads(),
    )


def state_with(propagation: Propagation, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> State:
    """A method's own tensors and meta, and its propagation, whose arrays are shared."""
    arrays = {PREFIX + name: torch.from_numpy(array) for name, array in propagation.tensors().items()}
    return LiveState(
        tensors={**arrays, **tensors}, meta={"propagation": propagation.meta, **meta}, propagation=propagation
    )


def propagation_in(state: State) -> Propagation:
    """The propagation of a state, alive or opened from its tensors.

    Raises:
        DataError: ``wrong-state``.
    """
    if isinstance(state, LiveState):
        return state.propagation
    if "propagation" not in state.meta:
        wrong_state("it holds no propagation")
    arrays = {name.removeprefix(PREFIX): numbers(t) for name, t in state.tensors.items() if name.startswith(PREFIX)}
    return Propagation.resume(arrays, state.meta["propagation"])
