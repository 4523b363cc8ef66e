"""What runs shared is said once: what their preparation cost, and what a request costs beside it."""

from pathlib import Path
from typing import Any

import pytest
from records import run_document

from unlearnbench.cli.preparations import shared_preparations
from unlearnbench.record import Record

COST = {"wall_s": 1.0, "peak_memory_mb": 0.0, "rows_read": {}}


def record(digit: int, *, prepare_s: float | None, unlearn_s: float = 0.002, seed: int = 0, **more: Any) -> Record:
    """A run that forgets a digit, with costs."""
    request = {"kind": "class", "classes": [str(digit)]}
    document = run_document(requests=(request,), seeds=(seed, 0, 0), **more)
    document["models"] = {"original": [{"key": f"original of seed {seed}"}]}
    document["costs"] = {"unlearn": {**COST, "cpu_s": unlearn_s}}
    if prepare_s is not None:
        document["costs"]["prepare"] = {**COST, "cpu_s": prepare_s}
    return Record(document, Path(f"run-{seed}-{digit}"))


def test_one_preparation_of_many_runs_is_said_with_the_mean_of_a_request() -> None:
    runs = [record(digit, prepare_s=4.0, unlearn_s=0.001 * (digit + 1)) for digit in range(3)]
    (line,) = shared_preparations(runs)
    assert line == "salun (training seed 0) prepared once, 4 CPU s, for 3 runs; a request took 2 ms of CPU time"


def test_each_training_seed_has_a_preparation_of_its_own() -> None:
    runs = [record(digit, prepare_s=4.0 + seed, seed=seed) for seed in (0, 1) for digit in range(2)]
    assert [line.split(",")[0] for line in shared_preparations(runs)] == [
        "salun (training seed 0) prepared once",
        "salun (training seed 1) prepared once",
    ]


@pytest.mark.parametrize(
    "runs",
    [
        [record(0, prepare_s=4.0)],
        [record(0, prepare_s=None), record(1, prepare_s=None)],
        [record(0, prepare_s=4.0), record(1, prepare_s=5.0)],
        [record(0, prepare_s=4.0), record(1, prepare_s=4.0, unlearner={"name": "ssd", "params": {}})],
        [record(0, prepare_s=4.0), record(1, prepare_s=4.0, status="failed")],
        [],
    ],
    ids=["one run", "nothing is prepared", "prepared apart", "two unlearners", "one failed", "no runs"],
)
def test_what_was_not_shared_is_not_said(runs: list[Record]) -> None:
    assert list(shared_preparations(runs)) == []
