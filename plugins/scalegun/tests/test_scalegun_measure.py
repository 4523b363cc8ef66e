"""The readings of certificates, in runs of the host."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearnbench.config import resolve_experiment
from unlearnbench.plugins import load_plugins
from unlearnbench.record import Record
from unlearnbench.registry import Registry
from unlearnbench.runner import execute
from unlearnbench.testing.problems import PLUGIN

torch.set_num_threads(1)
EDGES = {"kind": "edges", "count": 5}
STREAM = (EDGES, {"kind": "nodes", "count": 3}, {"kind": "features", "count": 2}, {**EDGES, "seed": 1})
NAMES = ("bound", "budget", "true-residual", "within-budget", "bound-holds", "retrains")


def record_of(folder: Path, unlearner: str, *requests: Mapping[str, Any], **params: Any) -> Record:
    """The record of a run on the kit's tiny graph."""
    registry = Registry([*load_plugins(), PLUGIN])
    (spec,) = resolve_experiment(
        {
            "dataset": "kit-graph",
            "model": "sgc",
            "recipe": {"optimizer": "adam", "lr": 0.01, "epochs": 2, "batch_size": 64},
            "requests": list(requests),
            "unlearners": [{"name": unlearner, "params": params}],
            "measures": ["scalegun-certificate"],
        },
        registry,
    )
    outcome = execute([spec], out=folder / "runs", store=folder / "store", components=registry)
    assert not outcome.problems, outcome.problems
    return outcome.records[0]


def values(record: Record, place: str = "") -> dict[str, float | None]:
    return {name: record.value(name + place) for name in NAMES}


@pytest.mark.parametrize("pooling", ["pooled", "per-class", "joint"])
def test_what_a_certificate_states_is_read_beside_the_truth(tmp_path: Path, pooling: str) -> None:
    record = record_of(tmp_path, "scalegun", *STREAM, pooling=pooling, rmax=1e-4, epsilon=50.0)
    for step in range(len(STREAM)):
        found = values(record, f".request={step}")
        assert found["true-residual"] is not None
        assert found["bound"] is not None
        assert found["budget"] is not None
        assert 0 < found["true-residual"] < found["bound"] <= found["budget"]
        assert (found["within-budget"], found["bound-holds"], found["retrains"]) == (1.0, 1.0, 0.0)
    certificate = record.document["certificate"]
    assert found["bound"] == certificate["value"]
    assert found["budget"] == certificate["budget"]
    assert certificate["removed"] == {"edges": 10, "nodes": 3, "features": 2}


def test_the_rows_of_the_truth_are_those_that_are_still_trained_on(tmp_path: Path) -> None:
    record = record_of(tmp_path, "scalegun", {"kind": "edges", "count": 40}, rmax=0.0, ridge=0.05)
    found = values(record)
    # The ends of removed edges are training rows still: without them the gradient would be far from 0.
    assert found["true-residual"] is not None
    assert found["bound"] is not None
    assert found["true-residual"] == pytest.approx(found["bound"], rel=1e-2)


def test_a_retraining_is_counted(tmp_path: Path) -> None:
    record = record_of(tmp_path, "scalegun", EDGES, epsilon=1e-4)
    assert values(record)["retrains"] == 1.0
    assert record.document["certificate"]["retrained"]


def test_whoever_has_no_certificate_has_readings_that_say_so(tmp_path: Path) -> None:
    record = record_of(tmp_path, "scalegun", EDGES)
    other = record_of(tmp_path, "identity", EDGES)
    readings = [r for r in record.readings if r["subject"] != "unlearned"] + list(other.readings)
    readings = [r for r in readings if r["name"] in NAMES]
    assert {r["subject"] for r in readings} == {"original", "gold", "unlearned"}
    assert {(r["value"], r["status"]) for r in readings} == {(None, "no-certificate")}
