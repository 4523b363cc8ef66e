"""The measures on real data: identity must read as the original does, another gold as gold does."""

from __future__ import annotations

from typing import Any

import pytest
from scenario_runs import CLASS, LOCATIONS, measured

from unlearnbench import Record

MEASURES = [
    "sklearn", "calibration", "completeness", "weight-distance", "tow", "aus", "nomus", "linear-probe", "cka",
]  # fmt: skip


@pytest.fixture(params=[CLASS, LOCATIONS], scope="module")
def scenario(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def identity(scenario: str, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return measured("identity", scenario, MEASURES, tmp_path_factory.mktemp("identity"))


@pytest.fixture(scope="module")
def retrain(scenario: str, tmp_path_factory: pytest.TempPathFactory) -> Record:
    return measured("retrain", scenario, MEASURES, tmp_path_factory.mktemp("retrain"))


def values(record: Record, subject: str) -> dict[tuple[str, ...], Any]:
    return {
        (r["measure"], r["name"], r.get("split") or ""): (r["value"], r["status"])
        for r in record.document["readings"]
        if r["subject"] == subject
    }


def test_doing_nothing_reads_exactly_as_the_original(identity: Record) -> None:
    unlearned = values(identity, "unlearned")
    assert unlearned == values(identity, "original")
    assert {status for _, status in unlearned.values()} == {"ok"}
    assert {measure for measure, _, _ in unlearned} == set(MEASURES)


def test_a_second_gold_is_near_gold_where_the_original_is_not(retrain: Record) -> None:
    for key in ("tow", "tow-mia", "completeness.forget"):
        assert retrain.value(key) > retrain.value(key, "original") + 0.1
    for key in ("nll.forget", "brier.forget", "threshold-mia.forget"):
        floor = abs(retrain.value(key) - retrain.value(key, "gold"))
        assert floor < 0.5 * abs(retrain.value(key, "original") - retrain.value(key, "gold"))
    assert retrain.value("aus") > retrain.value("aus", "original") + 0.1
    assert retrain.value("tow") > 0.9


def test_weights_of_two_golds_are_far_apart_although_they_do_the_same(retrain: Record) -> None:
    assert retrain.value("distance-to-gold") > retrain.value("distance-to-gold", "original") > 0
    assert retrain.value("distance-to-gold", "gold") == 0


def test_features_remember_rows_that_the_model_was_trained_on(identity: Record, scenario: str) -> None:
    """Of memorised rows the probe reads all off the original's features, off gold's as many as of unseen rows."""
    original, gold = (identity.value("probe-accuracy.forget", s) for s in ("original", "gold"))
    assert original > gold
    if scenario == LOCATIONS:
        assert original > 0.95
        assert abs(gold - identity.value("probe-accuracy.holdout", "gold")) < 0.1
        assert identity.value("loss-mia.forget", "original") > 0.7
        assert abs(identity.value("loss-mia.forget", "gold") - 0.5) < 0.1
        assert identity.value("nomus", "gold") > identity.value("nomus", "original") + 0.1
    else:
        assert gold > 0.8  # a class that was never seen is still linearly apart: features are of more use than labels


def test_features_of_the_forget_set_are_alike_but_not_the_same(identity: Record) -> None:
    assert identity.value("cka-to-original.forget", "original") == pytest.approx(1)
    assert 0.5 < identity.value("cka-to-gold.forget", "original") < 0.999
