"""The contract of models, one function a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import cast

import torch
from torch import Tensor, nn

from unlearnbench.api.errors import UsageError
from unlearnbench.api.runtime import TASKS, Batch, Detector, Ref, generator, padded_boxes
from unlearnbench.networks import build_network, restore_network
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.testing.bench import Bench, same_bits
from unlearnbench.testing.contract import Check, NotApplicable, require

CPU = torch.device("cpu")
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "classification": ((3, 32, 32), (1, 28, 28), (12,)),
    "multi-label": ((3, 32, 32), (12,)),
    "segmentation": ((3, 32, 32),),
    "detection": ((3, 32, 32), (3, 64, 64)),
}
ROWS = 3
TOKENS = torch.tensor([[1, 2, 2, 1, 0, 0], [2, 1, 0, 0, 0, 0], [1, 1, 2, 2, 1, 2]])
"""Padded at the end with 0; ids that any vocabulary has."""
EDGES = torch.tensor([[0, 1, 1, 2, 4, 5], [1, 0, 2, 1, 5, 4]])
"""A path of three nodes, a node of its own, and a pair."""
OWNERS = torch.tensor([0, 0, 0, 1, 2, 2])


BOXES = padded_boxes([torch.tensor([[2.0, 3.0, 20.0, 24.0, 1.0]]), torch.zeros(0, 5), torch.zeros(0, 5)])
"""A box of the second class in the first image."""


class Sample:
    """Three rows of a kind of input and the task that they are of."""

    def __init__(self, task: str, shape: tuple[int, ...], x: Tensor, **graph: Tensor) -> None:
        self.task = TASKS[task]
        self.shape = shape
        y = BOXES if task == "detection" else torch.zeros(ROWS, dtype=torch.int64)
        self.batch = Batch(x, y, torch.arange(ROWS), **graph)

    def outputs(self, model: nn.Module) -> Tensor:
        """What the model puts out for the rows, asked as in a run; of a detector, what it detects."""
        with torch.no_grad():
            if self.task.name == "detection":
                return self.task.predictions(model, self.batch)
            return self.task.outputs(model, self.batch)


def _samples(bench: Bench) -> Iterator[Sample]:
    """Rows of every task and kind of input that the model declares."""
    rng = generator(0)
    for task in (task for task in bench.spec.tasks if task in TASKS):
        if task == "node-classification":
            yield Sample(task, (6,), torch.randn(6, 6, generator=rng), edges=EDGES, rows=torch.tensor([0, 3, 5]))
            continue
        if "graphs" in bench.spec.inputs:
            yield Sample(task, (6,), torch.randn(6, 6, generator=rng), edges=EDGES, rows=OWNERS)
        if "tokens" in bench.spec.inputs:
            yield Sample(task, tuple(TOKENS.shape[1:]), TOKENS)
        if "numbers" in bench.spec.inputs:
            for shape in SHAPES.get(task, ()):
                yield Sample(task, shape, torch.randn(ROWS, *shape, generator=rng))


def _ref(bench: Bench) -> tuple[Ref, Sample]:
    """A ref of the first inputs that the model takes, and those inputs."""
    if bench.spec.wrapper:
        raise NotApplicable("a wrapper is built by its method only")
    params = parameters_json(resolve_parameters(bench.spec.params, {}, where=bench.spec.name))
    refusals, built = [], None
    for sample in _samples(bench):
        ref = Ref(bench.spec.name, params, sample.shape, 4)
        try:
            model = build_network(bench.registry, ref, 0, CPU)
        except UsageError as problem:
            refusals.append(problem.message)
            continue
        built = built or (ref, sample)
        with suppress(Exception):  # rows of another shape may suit it
            sample.outputs(model)
            return ref, sample
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
    ref, sample = _ref(bench)
    model = build_network(bench.registry, ref, 0, CPU)
    out = sample.outputs(model)
    if sample.task.name == "detection":
        _detects(model, sample, ref.outputs)
        return
    require(tuple(out.shape[:2]) == (ROWS, ref.outputs), f"outputs {list(out.shape)} for {ROWS} rows and 4 outputs")
    require(bool(out.isfinite().all()), "a fresh network gives outputs that are not finite")


def _detects(model: nn.Module, sample: Sample, classes: int) -> None:
    """A detector gives detections without annotations, a loss per image with them, and scores of classes at boxes."""
    require(isinstance(model, Detector), "it has no class_scores, which the task detection asks for")
    found = sample.outputs(model.eval())
    require(found.ndim == 3 and found.shape[0] == ROWS and found.shape[2] == 6, f"detections {list(found.shape)}")
    require(bool(found.isfinite().all()), "a fresh network gives detections that are not finite")
    require(bool((found[..., 4].diff(dim=1) <= 0).all()), "detections are not in the order of falling scores")
    asserted = found[found[..., 4] > 0]
    require(bool(((asserted[:, 5] >= 0) & (asserted[:, 5] < classes)).all()), "a detection is of no class")
    require(bool((asserted[:, :2] <= asserted[:, 2:4]).all()), "corners of a detection are the wrong way round")
    batch = sample.batch
    with torch.no_grad():
        losses = sample.task.outputs(model, batch)
        alone = torch.cat([sample.task.outputs(model, Batch(*(c[k : k + 1] for c in batch[:3]))) for k in range(ROWS)])
        scores = cast(Detector, model).class_scores(batch.x, batch.y)
    require(losses.shape == (ROWS,) and bool(losses.isfinite().all()), f"losses {list(losses.shape)} for {ROWS} images")
    require(torch.allclose(losses, alone, rtol=1e-4), "the loss of an image depends on those beside it")
    require(scores.shape == (*batch.y.shape[:2], classes), f"scores of classes {list(scores.shape)}")
    require(bool((scores[batch.y[..., 4].isnan()] == 0).all()), "places without a box have scores")


def survives_the_store(bench: Bench) -> None:
    """Its state dict rebuilds it: the copy predicts the same bits."""
    ref, sample = _ref(bench)
    model = build_network(bench.registry, ref, 0, CPU)
    again = restore_network(bench.registry, ref, model.state_dict(), CPU)
    same = torch.equal(sample.outputs(model), sample.outputs(again))
    require(same, "the copy predicts something else: is there state outside state_dict?")


def evaluation_mode_is_repeatable(bench: Bench) -> None:
    """In evaluation mode it draws nothing and changes nothing."""
    ref, sample = _ref(bench)
    model = build_network(bench.registry, ref, 0, CPU)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    require(torch.equal(sample.outputs(model), sample.outputs(model)), "two passes differ")
    require(all(same_bits(v, before[k]) for k, v in model.state_dict().items()), "a pass changed its state")


CHECKS: tuple[Check, ...] = (same_seed_same_weights, outputs_fit, survives_the_store, evaluation_mode_is_repeatable)
