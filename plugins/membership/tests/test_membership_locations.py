"""The attacks on Location-30, which the model memorises."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import unlearnbench
from unlearnbench import Record

pytestmark = pytest.mark.skipif(
    "UNLEARNBENCH_DATA" not in os.environ, reason="Location-30 lies in the folder UNLEARNBENCH_DATA"
)
CHEAP = ("loss-attack", "umia", "yeom", "song-mittal")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def run(unlearner: str, measures: Sequence[str], folder: Path, store: Path, params: Mapping[str, Any]) -> Record:
    (record,) = unlearnbench.run(
        unlearner,
        scenario="location30-mlp-random10/v1",
        measures=list(measures),
        parameters=params,
        out=folder,
        store=store,
    )
    assert record.status == "complete"
    return record


def reading(record: Record, measure: str, subject: str, name: str, **at: str) -> Mapping[str, Any]:
    (found,) = (
        r
        for r in record.readings
        if (r["measure"], r["subject"], r["name"], dict(r.get("at") or {})) == (measure, subject, name, at)
    )
    return found


def test_memorised_rows_are_found_gold_gives_nothing_away_and_identity_is_the_original(
    tmp_path: Path, store: Path
) -> None:
    params = {"shokri.shadows": 8, "shokri.least_rows": 30}
    record = run("identity", (*CHEAP, "shokri"), tmp_path, store, params)
    for measure, at, least in (
        ("loss-attack", {}, 0.78),
        ("umia", {}, 0.78),
        ("song-mittal", {"score": "modified-entropy"}, 0.8),
        ("shokri", {}, 0.85),
    ):
        original, gold = (reading(record, measure, subject, f"{measure}-auc", **at) for subject in ("original", "gold"))
        assert least <= original["value"] <= 0.99
        assert original["interval"][0] > 0.7
        assert gold["interval"][0] <= 0.5 <= gold["interval"][1]
        assert abs(gold["value"] - 0.5) <= 0.08
        assert original["verdict"] == "above gold"
    assert reading(record, "umia", "original", "umia")["value"] > 0.7
    assert reading(record, "yeom", "original", "yeom-advantage")["value"] > 0.25
    mine, before = (
        {(r["measure"], r["name"], str(r.get("at"))): r["value"] for r in record.readings if r["subject"] == subject}
        for subject in ("unlearned", "original")
    )
    assert mine == before


def test_what_was_over_forgotten_reads_far_below_gold(tmp_path: Path, store: Path) -> None:
    """Wrong labels for the forget set: its loss is now higher than that of rows that the model never saw."""
    pytest.importorskip("unlearnbench_salun")
    recipe = {"optimizer": "adam", "lr": 0.003, "epochs": 20, "batch_size": 64, "weight_decay": 0.0}
    params = {f"random-labels.{name}": value for name, value in recipe.items()}
    record = run("random-labels", ("loss-attack",), tmp_path, store, params)
    found = reading(record, "loss-attack", "unlearned", "loss-attack-auc")
    assert found["value"] < 0.35
    assert found["verdict"] == "below gold"
    assert abs(found["gap"]) > 0.1
