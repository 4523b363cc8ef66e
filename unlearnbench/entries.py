"""Entries: what a phase made, as the store keeps it; and its state, which may be larger than all models together.

A small state is kept with its entry, in memory and in the store, and everybody gets a private copy. A large one lies in
the store alone, from where it is mapped: writing into what was mapped changes no file, so reading is the private copy
and takes no memory that is not touched. In a stream a large state goes from request to request itself, and is stored
after some of them only: what was not stored is worked out again from the last that was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from unlearnbench.api.runtime import State, finish, ref_of, tensors_digest
from unlearnbench.phases import Made
from unlearnbench.store import Entry

SMALL_BYTES = 8 * 2**20
"""Up to this size a state is small."""
STORED_EVERY = 25
"""A large state is stored after every so many requests of a stream, and after the last."""


def is_small(state: State | None) -> bool:
    """Whether a state may be copied without a thought."""
    return state is None or sum(tensor.nbytes for tensor in state.tensors.values()) <= SMALL_BYTES


def to_store(entry: Entry, step: int, steps: int) -> Entry:
    """What is stored of the entry of request ``step`` of a stream of ``steps``."""
    stored = is_small(entry.state) or (step + 1) % STORED_EVERY == 0 or step + 1 == steps
    return entry if stored else replace(entry, state=None)


def to_remember(entry: Entry) -> Entry:
    """What stays in memory of an entry whose state, if it is large, is in the store."""
    return entry if is_small(entry.state) else replace(entry, state=None)


def entry_from(key: str, inputs: Mapping[str, Any], made: Made) -> Entry:
    """An entry of what a phase made."""
    result = made.result
    if result is None:
        return Entry(key=key, inputs=inputs, cost=made.cost, state=made.state)
    model = finish(result.model)
    weights = {name: _kept(tensor) for name, tensor in model.state_dict().items()}
    proof = {name: _kept(tensor) for name, tensor in result.proof.items()}
    return Entry(
        key=key,
        inputs=inputs,
        cost=made.cost,
        ref=ref_of(model),
        weights=weights,
        weights_sha256=tensors_digest(weights),
        state=made.state,
        mask=result.mask,
        certificate=_certified(result.certificate, inputs, weights, proof),
        proof=proof,
        artifacts={name: _kept(found) for name, found in result.artifacts.items()},
        warnings=result.warnings,
        stages=made.stages,
    )


def _kept(found: Any) -> Any:
    """A copy of a tensor on the CPU; anything else as it is."""
    return found.detach().cpu().clone() if isinstance(found, Tensor) else found


def _certified(
    certificate: Mapping[str, Any] | None,
    inputs: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    proof: Mapping[str, Tensor],
) -> Mapping[str, Any] | None:
    """A method's certificate, and what it is about: the data after the request, the model and the proof."""
    if certificate is None:
        return None
    data = inputs.get("retain", inputs.get("data"))
    return {**certificate, "digests": {"data": data, "model": tensors_digest(weights), "proof": tensors_digest(proof)}}
