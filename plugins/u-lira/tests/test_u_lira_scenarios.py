"""The audits on data that a network memorises: what must be caught, what must not, and what one threshold misses."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario_runs import LOCATIONS, known, measured

from unlearnbench import Record

AUDITS = ("u-lira", "vulnerable-samples")


@pytest.fixture(scope="module")
def locations(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return measured("salun", LOCATIONS, AUDITS, tmp_path_factory.mktemp("locations"), {"salun.batch_size": 32})


def test_an_untouched_model_is_caught_also_at_few_false_alarms(locations: Record) -> None:
    assert known(locations, "u-lira-auc", "original") >= 0.95
    assert known(locations, "u-lira-tpr.fpr=0.01", "original") >= 0.5
    assert known(locations, "u-lira-p-value", "original") <= 0.01


def test_gold_models_are_not(locations: Record) -> None:
    assert abs(known(locations, "u-lira-auc", "gold") - 0.5) <= 0.05
    assert abs(known(locations, "u-lira-null-auc", "gold") - 0.5) <= 0.01
    assert known(locations, "u-lira-tpr.fpr=0.01", "gold") <= 0.03
    assert known(locations, "u-lira-p-value", "gold") > 0.01


def test_salun_is_caught_although_one_threshold_for_all_rows_sees_nothing(locations: Record) -> None:
    assert abs(known(locations, "u-lira-uncalibrated-auc", "unlearned") - 0.5) <= 0.05
    assert known(locations, "u-lira-auc", "unlearned") >= 0.82
    assert known(locations, "u-lira-tpr.fpr=0.01", "unlearned") >= 0.15


def test_the_rows_that_training_exposes_most_stay_exposed(locations: Record) -> None:
    groups = ("vulnerable", "others")
    vulnerable, others = (known(locations, f"vulnerable-auc.rows={rows}", "unlearned") for rows in groups)
    assert vulnerable >= others + 0.05
    assert abs(known(locations, "vulnerable-auc.rows=vulnerable", "gold") - 0.5) <= 0.1


@pytest.mark.acceptance
def test_wrong_labels_that_a_small_network_memorised_are_caught(tmp_path: Path) -> None:
    """With 8 shadows, on seeds 0 and 1: original 0.92 and 0.91, SalUn 0.80 and 0.79, gold 0.48 and 0.47."""
    record = measured("salun", "digits-noisy-cnn-random10/v1", ["u-lira"], tmp_path, {"u-lira.shadows": 8})
    assert known(record, "u-lira-auc", "original") >= 0.85
    assert known(record, "u-lira-auc", "unlearned") >= 0.7
    assert abs(known(record, "u-lira-auc", "gold") - 0.5) <= 0.06
