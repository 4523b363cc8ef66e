"""The toy plugin and the host around it, for the tests of the contracts. Nothing needs to be installed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import torch

from unlearnbench.config import resolve_experiment
from unlearnbench.phases import Phases
from unlearnbench.plugins import BUILTIN, GROUP, _load
from unlearnbench.record import Record
from unlearnbench.registry import Registry
from unlearnbench.runner import Outcome, execute
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store

TOYS = Path(__file__).parent / "fixtures" / "plugins" / "toys" / "src"
RECIPE = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "epochs": 6, "batch_size": 32}

CLASS = {"kind": "class", "classes": ["3"]}
SAMPLES = {"kind": "samples", "count": 8}
EDGES = {"kind": "edges", "count": 5}

torch.set_num_threads(1)


@functools.cache
def toy_registry() -> Registry:
    """The host's own components and the toys."""
    sys.path.insert(0, str(TOYS))
    host = _load(EntryPoint(BUILTIN, "unlearnbench.builtin.plugin", GROUP), BUILTIN, "")
    toys = _load(EntryPoint("toys", "unlearnbench_toys.plugin", GROUP), "unlearnbench-toys", "0.1.0")
    assert not toys.error, toys.error
    return Registry([host, toys])


def images(unlearner: Any, *requests: Mapping[str, Any], **more: Any) -> RunSpec:
    """A run on images with a small MLP; several requests are a stream."""
    return _run({"dataset": "toy-images", "model": "toy-mlp", "unlearners": [unlearner]}, requests or (SAMPLES,), more)


def scenes(unlearner: Any, task: str, *requests: Mapping[str, Any], **more: Any) -> RunSpec:
    """A run on scenes, as multi-label or as segmentation."""
    model = "toy-segnet" if task == "segmentation" else "toy-cnn"
    dataset = {"name": "toy-scenes", "params": {"task": task}}
    return _run({"dataset": dataset, "model": model, "unlearners": [unlearner]}, requests, more)


def graph(unlearner: Any, *requests: Mapping[str, Any], **more: Any) -> RunSpec:
    """A run on the graph."""
    return _run({"dataset": "toy-graph", "model": "toy-sgc", "unlearners": [unlearner]}, requests or (EDGES,), more)


def _run(fixed: dict[str, Any], requests: tuple[Mapping[str, Any], ...], more: dict[str, Any]) -> RunSpec:
    experiment = {"recipe": RECIPE, "measures": ["accuracy"], **fixed, "requests": list(requests), **more}
    (spec,) = resolve_experiment(experiment, toy_registry())
    return spec


def new_stages(store: Path, budget_s: float | None = None) -> Stages:
    """As a new invocation would have it: only the store is shared."""
    registry = toy_registry()
    return Stages(registry, Store(store), Phases(registry, budget_s))


def run_toys(folder: Path, *specs: RunSpec, budget_s: float | None = None) -> Outcome:
    """The whole way from specs to records."""
    return execute(specs, out=folder / "runs", store=folder / "store", components=toy_registry(), budget_s=budget_s)


def one_record(folder: Path, spec: RunSpec) -> Record:
    """The record of a run that is expected to work."""
    outcome = run_toys(folder, spec)
    assert not outcome.problems, outcome.problems
    return outcome.records[0]


def same_weights(one: Entry, other: Entry) -> bool:
    """Whether two models are the same in every bit."""
    assert one.weights
    return one.weights_sha256 == other.weights_sha256 and all(
        torch.equal(one.weights[name], other.weights[name]) for name in {**one.weights, **other.weights}
    )
