"""The contract of models, one function a sentence."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from unlearnbench.api.errors import UsageError
from unlearnbench.api.runtime import Ref, generator
from unlearnbench.networks import build_network, restore_network
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.testing.bench import Bench, same_bits
from unlearnbench.testing.contract import Check, NotApplicable, require

CPU = torch.device("cpu")
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "classification": ((3, 32, 32), (1, 28, 28), (12,)),
    "multi-label": ((3, 32, 32), (12,)),
    "segmentation": ((3, 32, 32),),
    "node-classification": ((6,),),
}
ROWS = 3


def _ref(bench: Bench) -> tuple[Ref, Any]:
    """A ref of the first input shape that the model takes, and rows of that shape."""
    if bench.spec.wrapper:
        raise NotApplicable("a wrapper is built by its method only")
    params = parameters_json(resolve_parameters(bench.spec.params, {}, where=bench.spec.name))
    refusals, built = [], None
    for shape in (shape for task in bench.spec.tasks for shape in SHAPES.get(task, ())):
        ref, x = Ref(bench.spec.name, params, shape, 4), torch.randn(ROWS, *shape, generator=generator(0))
        try:
            model = build_network(bench.registry, ref, 0, CPU)
        except UsageError as problem:
            refusals.append(problem.message)
            continue
        built = built or (ref, x)
        with suppress(Exception), torch.no_grad():  # rows of another shape may suit it
            model(x)
            return ref, x
    if built is None:
        raise NotApplicable("; ".join(refusals) or "none of its tasks has a tiny problem")
    return built


def same_seed_same_weights(bench: Bench) -> None:
    """The same seed builds the same weights, another seed others."""
    ref, _ = _ref(bench)
    first, again, other = (build_network(bench.registry, ref, seed, CPU).state_dict() for seed in (0, 0, 1))
    require(all(same_bits(v, again[k]) for k, v in first.items()), "two builds with one seed differ")
    require(not all(same_bits(v, other[k]) for k, v in first.items()), "two seeds build the same weights")


def outputs_fit(bench: Bench) -> None:
    """It gives one row of outputs for each row of inputs, as many as it was asked for."""
    ref, x = _ref(bench)
    with torch.no_grad():
        out = build_network(bench.registry, ref, 0, CPU)(x)
    require(tuple(out.shape[:2]) == (ROWS, ref.outputs), f"outputs {list(out.shape)} for {ROWS} rows and 4 outputs")
    require(bool(out.isfinite().all()), "a fresh network gives outputs that are not finite")


def survives_the_store(bench: Bench) -> None:
    """Its state dict rebuilds it: the copy predicts the same bits."""
    ref, x = _ref(bench)
    model = build_network(bench.registry, ref, 0, CPU)
    again = restore_network(bench.registry, ref, model.state_dict(), CPU)
    with torch.no_grad():
        require(torch.equal(model(x), again(x)), "the copy predicts something else: is there state outside state_dict?")


def evaluation_mode_is_repeatable(bench: Bench) -> None:
    """In evaluation mode it draws nothing and changes nothing."""
    ref, x = _ref(bench)
    model = build_network(bench.registry, ref, 0, CPU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        require(torch.equal(model(x), model(x)), "two passes differ")
    require(all(same_bits(v, before[k]) for k, v in model.state_dict().items()), "a pass changed its state")


CHECKS: tuple[Check, ...] = (same_seed_same_weights, outputs_fit, survives_the_store, evaluation_mode_is_repeatable)
