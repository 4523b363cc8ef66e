"""The audits on data that a network memorises: what must be caught, what must not, and what one threshold misses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import unlearnbench
from unlearnbench import Record


def audited(scenario: str, folder: Path, **salun: float) -> Record:
    (record,) = unlearnbench.run(
        "salun",
        scenario=scenario,
        measures=["u-lira", "vulnerable-samples"],
        parameters={f"salun.{name}": value for name, value in salun.items()},
        out=folder / "runs",
        store=folder / "store",
    )
    assert record.status == "complete"
    return record


def value(record: Record, key: str, subject: str) -> float:
    found = record.value(key, subject)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> Record:
    if "UNLEARNBENCH_DATA" not in os.environ:
        pytest.skip("Location-30 lies in the folder UNLEARNBENCH_DATA")
    return audited("location30-mlp-random10/v1", tmp_path_factory.mktemp("locations"), batch_size=32)


def test_an_untouched_model_is_caught_also_at_few_false_alarms(locations: Record) -> None:
    assert value(locations, "u-lira-auc", "original") >= 0.95
    assert value(locations, "u-lira-tpr.fpr=0.01", "original") >= 0.5
    assert value(locations, "u-lira-p-value", "original") <= 0.01


def test_gold_models_are_not(locations: Record) -> None:
    assert abs(value(locations, "u-lira-auc", "gold") - 0.5) <= 0.05
    assert abs(value(locations, "u-lira-null-auc", "gold") - 0.5) <= 0.01
    assert value(locations, "u-lira-tpr.fpr=0.01", "gold") <= 0.03
    assert value(locations, "u-lira-p-value", "gold") > 0.01


def test_salun_is_caught_although_one_threshold_for_all_rows_sees_nothing(locations: Record) -> None:
    assert abs(value(locations, "u-lira-uncalibrated-auc", "unlearned") - 0.5) <= 0.05
    assert value(locations, "u-lira-auc", "unlearned") >= 0.82
    assert value(locations, "u-lira-tpr.fpr=0.01", "unlearned") >= 0.15


def test_the_rows_that_training_exposes_most_stay_exposed(locations: Record) -> None:
    groups = ("vulnerable", "others")
    vulnerable, others = (value(locations, f"vulnerable-auc.rows={rows}", "unlearned") for rows in groups)
    assert vulnerable >= others + 0.05
    assert abs(value(locations, "vulnerable-auc.rows=vulnerable", "gold") - 0.5) <= 0.1


@pytest.mark.acceptance
def test_wrong_labels_that_a_small_network_memorised_are_caught(tmp_path: Path) -> None:
    record = audited("digits-noisy-cnn-random10/v1", tmp_path)
    assert value(record, "u-lira-auc", "original") >= 0.85
    assert value(record, "u-lira-auc", "unlearned") >= 0.7
    assert abs(value(record, "u-lira-auc", "gold") - 0.5) <= 0.06
