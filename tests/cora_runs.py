"""Nodes of Cora that are forgotten, for the behaviour tests of plugins."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import unlearnbench
from unlearnbench import Record
from unlearnbench.api.runtime import MISSING
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.registry import registry
from unlearnbench.scenes import load_dataset
from unlearnbench.spec import Choice

NEURAL_NETWORKS = 3
"""The largest class of Cora, whose training nodes are forgotten: what that does to a model is plain to see."""


def forget_a_class_of_cora(unlearner: str, params: Mapping[str, Any], out: Path) -> Record:
    """The record of a linear network that is to forget all training nodes of a class with their edges.

    Their features stay, so that models still have something to say about them. The test is skipped without Cora.
    """
    if not os.environ.get("UNLEARNBENCH_DATA"):
        pytest.skip("Cora lies in the folder UNLEARNBENCH_DATA")
    (record,) = unlearnbench.run(
        unlearner,
        dataset="planetoid",
        model="sgc",
        forget=[{"kind": "nodes", "ids": list(_nodes_of_the_class()), "features": False}],
        measures=["accuracy"],
        parameters={
            "recipe.optimizer": "adam",
            "recipe.lr": 0.05,
            "recipe.epochs": 60,
            **{f"{unlearner}.{name}": value for name, value in params.items()},
        },
        store=_store().name,
        out=out,
    )
    assert record.status == "complete"
    return record


def assert_nearer_to_gold(record: Record, *, forget: float, test: float = 0.1) -> None:
    """Accuracy on the forgotten nodes went below ``forget``, and on test nodes it is within ``test`` of gold's."""
    before, after = (value(record, "accuracy.forget", subject) for subject in ("original", "unlearned"))
    assert before > 0.9
    assert after < forget
    assert value(record, "accuracy.forget", "gold") < 0.05
    assert value(record, "accuracy.test", "unlearned") > value(record, "accuracy.test", "gold") - test


def value(record: Record, key: str, subject: str) -> float:
    """A value that must be there."""
    found = record.value(key, subject)
    assert found is not None
    return found


@functools.cache
def _nodes_of_the_class() -> tuple[int, ...]:
    params = parameters_json(resolve_parameters(registry().get("dataset", "planetoid").spec.params, {}, where=""))
    train = load_dataset(registry(), Choice("planetoid", params))[0].train
    assert bool((train.y == MISSING).any())
    return tuple(train.ids[train.y == NEURAL_NETWORKS].tolist())


@functools.cache
def _store() -> tempfile.TemporaryDirectory[str]:
    """One store for all tests of a process, so that original and gold are trained once."""
    return tempfile.TemporaryDirectory(prefix="unlearnbench-cora-", ignore_cleanup_errors=True)
