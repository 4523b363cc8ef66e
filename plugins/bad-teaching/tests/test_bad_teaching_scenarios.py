"""Bad Teaching on real data, with the recipes of the scenarios."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scenario_runs import CLASS, measured, run_scenario

PAPER: dict[str, Any] = {"lr": 1e-4, "epochs": 1, "batch_size": 256}
RECIPE: dict[str, Any] = {"lr": 3e-3, "epochs": 10, "batch_size": 32}
LOCATIONS = {"lr": 1e-3, "epochs": 10, "batch_size": 64}

run = partial(run_scenario, "bad-teaching")


def test_a_class_of_digits_is_forgotten_and_the_others_are_kept(tmp_path: Path) -> None:
    record = run(CLASS, RECIPE, tmp_path)
    assert record.value("accuracy.forget", "original") >= 0.95
    assert record.value("accuracy.forget") <= 0.25
    assert record.value("accuracy.test") >= record.value("accuracy.test", "gold") - 0.05


def test_the_papers_single_epoch_does_nothing_here(tmp_path: Path) -> None:
    """Why the scenario's recipe differs: measured 99.3 to 100 % over three seeds."""
    assert run(CLASS, PAPER, tmp_path).value("accuracy.forget") > 0.95


def test_memorised_rows_of_location30_get_a_higher_loss(tmp_path: Path) -> None:
    if "UNLEARNBENCH_DATA" not in os.environ:
        pytest.skip("Location-30 is found through UNLEARNBENCH_DATA")
    record = run("location30-mlp-random10/v1", LOCATIONS, tmp_path)
    assert record.value("loss.forget") > 3 * record.value("loss.forget", "original")
    assert record.value("accuracy.test") >= record.value("accuracy.test", "gold") - 0.10


def test_the_papers_measures_on_a_class_of_digits(tmp_path: Path) -> None:
    """Bad Teaching imitates a random network on purpose: ZRF far above gold's says that it can be told from gold."""
    measures = ["zrf", "bad-teaching-mia"]
    recipe = {f"bad-teaching.{key}": value for key, value in RECIPE.items()}
    taught = measured("bad-teaching", CLASS, measures, tmp_path / "taught", recipe)
    identity = measured("identity", CLASS, measures, tmp_path / "identity")
    original, gold = (taught.value("zrf.forget", subject) for subject in ("original", "gold"))
    assert original < 0.35 < gold < 0.6 < 0.8 < taught.value("zrf.forget")
    assert taught.value("bad-teaching-mia.forget", "original") > 0.8
    assert taught.value("bad-teaching-mia.forget", "gold") < 0.5
    for key in ("zrf.forget", "bad-teaching-mia.forget"):
        assert identity.value(key) == identity.value(key, "original")
