"""Plugins that break their contract are stopped, named, and cost nobody else anything."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from toys_support import CLASS, graph, images, new_stages, run_toys

from unlearnbench.record import read_record, verify_record


def global_states() -> tuple[object, ...]:
    """The three global generators, to compare."""
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        random.getstate(),
    )


@pytest.mark.parametrize("rogue", ["toy-endless", "toy-busy"])
def test_a_budget_stops_a_loop_that_does_not_cooperate(tmp_path: Path, rogue: str) -> None:
    run_toys(tmp_path, images("toy-finetune"))
    outcome = run_toys(tmp_path, images(rogue), images("toy-dampening", CLASS), budget_s=1.0)
    failed, fine = outcome.records
    assert (failed.status, fine.status) == ("failed", "complete")
    (problem,) = outcome.problems
    assert problem.code == "budget-exceeded"
    assert problem.where == f"unlearner {rogue}"
    assert problem.exit_code == 4


@pytest.mark.parametrize(
    ("which", "named"),
    [
        ("torch", "torch's global random state"),
        ("numpy", "numpy's global random state"),
        ("random", "random's global state"),
    ],
)
def test_whoever_draws_from_global_state_is_named_and_the_state_restored(
    tmp_path: Path, which: str, named: str
) -> None:
    states = global_states()
    outcome = run_toys(tmp_path, images("toy-reseeding", set={"toy-reseeding.which": which}))
    (problem,) = outcome.problems
    assert problem.where == "unlearner toy-reseeding"
    assert problem.message == f"changed {named}"
    assert global_states() == states


def test_weights_that_are_not_numbers_are_a_status_of_the_run(tmp_path: Path) -> None:
    outcome = run_toys(tmp_path, images("toy-diverging"))
    (record,) = outcome.records
    assert record.status == "diverged"
    assert record.document["error"]["code"] == "diverged"
    assert not record.document["models"]["unlearned"][0]["finite"]
    assert record.document["models"]["gold"][0]["finite"]
    assert read_record(record.folder).status == "diverged"


def test_writing_into_shared_data_is_caught(tmp_path: Path) -> None:
    outcome = run_toys(tmp_path, graph("toy-writing"))
    (problem,) = outcome.problems
    assert problem.where == "unlearner toy-writing"
    assert problem.message == "changed shared data"


def test_nothing_of_a_rogue_stays_in_the_store(tmp_path: Path) -> None:
    for spec in (images("toy-reseeding"), images("toy-undeclared"), images("toy-peeking")):
        run_toys(tmp_path, spec)
    phases = {phase for phase, _ in new_stages(tmp_path / "store").store.entries()}
    assert phases == {"train"}


def test_a_rogue_in_the_middle_costs_the_others_nothing(tmp_path: Path) -> None:
    quiet = run_toys(tmp_path / "quiet", images("toy-sisa"), images("toy-finetune"))
    loud = run_toys(tmp_path / "loud", images("toy-sisa"), images("toy-reseeding"), images("toy-finetune"))
    assert [r.status for r in loud.records] == ["complete", "failed", "complete"]
    kept = [r for r in loud.records if r.status == "complete"]
    assert [r.document["digest"] for r in quiet.records] == [r.document["digest"] for r in kept]


def test_a_broken_measure_costs_no_other_measure(tmp_path: Path) -> None:
    alone = run_toys(tmp_path, images("toy-finetune", measures=["accuracy", "agreement"])).records[0]
    outcome = run_toys(tmp_path, images("toy-finetune", measures=["accuracy", "toy-unasked", "agreement"]))
    (record,), (problem,) = outcome.records, outcome.problems
    assert record.status == "failed"
    assert (problem.code, problem.where, problem.exit_code) == ("undeclared-read", "measure toy-unasked", 4)
    states = [(m["name"], m["status"], bool(m["message"])) for m in record.document["measures"]]
    assert states == [("accuracy", "ok", False), ("toy-unasked", "failed", True), ("agreement", "ok", False)]
    assert record.readings == alone.readings
    verify_record(read_record(record.folder))


def test_a_measure_cannot_spoil_the_predictions_of_the_others(tmp_path: Path) -> None:
    alone = run_toys(tmp_path, images("toy-finetune", measures=["agreement"])).records[0]
    after = run_toys(tmp_path, images("toy-finetune", measures=["toy-scribbling", "agreement"])).records[0]
    assert after.status == "complete"
    assert [r for r in after.readings if r["measure"] == "agreement"] == alone.readings
    assert after.document["predictions"] == alone.document["predictions"]
