"""Graphs from files to tables, through the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import warm

RECIPE = [
    f"--set=recipe.{setting}"
    for setting in ("epochs=60", "lr=0.01", "batch_size=8", "optimizer=adam", "schedule=cosine")
]


def run(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The records of a run whose standard error stays empty, warnings of libraries included."""
    done = subprocess.run(
        [warm.command(), "run", "--dataset", "tu", "--set=tu.dataset=SHAPES", "--no-tracking", "--json", *RECIPE,
         *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def accuracy(record: dict[str, Any], subject: str) -> float:
    """On the test graphs."""
    (found,) = [r for r in record["readings"] if (r["key"], r["subject"]) == ("accuracy.test", subject)]
    return float(found["value"])


@pytest.mark.parametrize("model", ["gcn", "gin"])
def test_original_and_unlearned_models_tell_rings_from_stars(
    write_tu: Callable[..., Path], rings_and_stars: Any, tmp_path: Path, model: str
) -> None:
    write_tu("SHAPES", rings_and_stars)
    more = ["--set=gin.dropout=0"] if model == "gin" else []
    records = run(tmp_path, "--model", model, "--forget", "random=0.1", "-u", "finetune", "-u", "salun", "-u",
                  "retrain", "--set=finetune.epochs=2", "--set=finetune.lr=0.001", "--set=salun.epochs=1",
                  *more)  # fmt: skip
    assert [record["spec"]["unlearner"]["name"] for record in records] == ["finetune", "salun", "retrain"]
    for record in records:
        assert record["status"] == "complete"
        assert accuracy(record, "original") >= 0.9
        assert set(record["data"]["files"]) == {
            f"tu/SHAPES/raw/SHAPES_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")
        }
    assert accuracy(records[0], "unlearned") >= 0.9
    assert accuracy(records[2], "unlearned") >= 0.9


def test_graphs_of_a_size_can_be_forgotten(write_tu: Callable[..., Path], rings_and_stars: Any, tmp_path: Path) -> None:
    write_tu("SHAPES", rings_and_stars)
    (record,) = run(tmp_path, "--model", "gcn", "--forget", "group=size:8-15", "-u", "finetune",
                    "--set=recipe.epochs=1", "--set=finetune.epochs=1")  # fmt: skip
    (found,) = [r for r in record["readings"] if (r["key"], r["subject"]) == ("accuracy.forget", "unlearned")]
    ids = [number for number, (_, nodes, _) in enumerate(rings_and_stars) if nodes >= 8]
    assert 0 < found["n"] < len(ids)  # some of them are test graphs
