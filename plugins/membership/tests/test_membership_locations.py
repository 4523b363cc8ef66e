"""The attacks on Location-30, which the model memorises."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scenario_runs import LOCATIONS, measured

from unlearnbench import Record

CHEAP = ("loss-attack", "umia", "yeom", "song-mittal")


def reading(record: Record, measure: str, subject: str, name: str, **at: str) -> Mapping[str, Any]:
    (found,) = (
        r
        for r in record.readings
        if (r["measure"], r["subject"], r["name"], dict(r.get("at") or {})) == (measure, subject, name, at)
    )
    return found


def test_memorised_rows_are_found_gold_gives_nothing_away_and_identity_is_the_original(tmp_path: Path) -> None:
    params = {"shokri.shadows": 8, "shokri.least_rows": 30}
    record = measured("identity", LOCATIONS, (*CHEAP, "shokri"), tmp_path, params)
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


def test_what_was_over_forgotten_reads_far_below_gold(tmp_path: Path) -> None:
    """Wrong labels for the forget set: its loss is now higher than that of rows that the model never saw."""
    pytest.importorskip("unlearnbench_salun")
    recipe = {"optimizer": "adam", "lr": 0.003, "epochs": 20, "batch_size": 64, "weight_decay": 0.0}
    params = {f"random-labels.{name}": value for name, value in recipe.items()}
    record = measured("random-labels", LOCATIONS, ["loss-attack"], tmp_path, params)
    found = reading(record, "loss-attack", "unlearned", "loss-attack-auc")
    assert found["value"] < 0.35
    assert found["verdict"] == "below gold"
    assert abs(found["gap"]) > 0.1
