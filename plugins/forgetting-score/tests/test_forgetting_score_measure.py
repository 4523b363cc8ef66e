"""What the measure says about ensembles that are given, and where it has nothing to say."""

import numpy as np
import pytest
import torch
from hand_siblings import EnsembleEvidence, drawn_ensembles

from unlearnbench.api.runtime import Ensemble, Reading
from unlearnbench_forgetting_score.epsilon import CAP, confidences, epsilons
from unlearnbench_forgetting_score.measure import ForgettingScore
from unlearnbench_forgetting_score.plugin import ForgettingScoreParams
from unlearnbench_forgetting_score.score import points

N = 12


def read(evidence: EnsembleEvidence, **params: str) -> dict[str, Reading]:
    measure = ForgettingScore(ForgettingScoreParams(n=N, **params))  # type: ignore[arg-type]
    return {reading.name: reading for reading in measure.measure(evidence)}


@pytest.fixture
def evidence() -> EnsembleEvidence:
    return drawn_ensembles(N, (9, 20, 15), shift=1.0)


def test_readings_are_those_of_the_rows(evidence: EnsembleEvidence) -> None:
    y = evidence.y("forget")
    retrained = confidences(evidence.each["forget", "gold"][:N], y)
    values = epsilons(confidences(evidence.each["forget", "unlearned"], y), retrained)
    found = read(evidence)
    assert found["forgetting-quality"].value == pytest.approx(points(values, N).mean())
    assert found["epsilon"].value == np.median(values)
    assert found["at-cap"].value == np.mean(values == CAP)
    assert {reading.n for reading in found.values()} == {9}


def test_the_final_score_is_quality_times_the_relative_accuracies(evidence: EnsembleEvidence) -> None:
    ratio = 1.0
    for split in ("retain", "test"):
        y = evidence.y(split)
        unlearned, golds = evidence.each[split, "unlearned"], evidence.each[split, "gold"][:N]
        ratio *= float((unlearned.argmax(2) == y).double().mean() / (golds.argmax(2) == y).double().mean())
    found = read(evidence)
    quality = found["forgetting-quality"].value
    assert quality is not None
    assert ratio != 1
    assert found["final-score"].value == pytest.approx(quality * ratio)


def test_gold_is_the_second_half_of_the_golds_against_the_first(evidence: EnsembleEvidence) -> None:
    golds = confidences(evidence.each["forget", "gold"], evidence.y("forget"))
    found = read(evidence.about("gold"))
    assert found["epsilon"].value == np.median(epsilons(golds[N:], golds[:N]))
    assert read(evidence.about("gold"), originals="one") == found


def test_original_and_unlearned_that_are_the_same_models_read_the_same(evidence: EnsembleEvidence) -> None:
    assert read(evidence.about("original")) == read(evidence.about("unlearned"))


def test_with_one_original_the_models_of_its_siblings_are_judged(evidence: EnsembleEvidence) -> None:
    one = drawn_ensembles(N, (9, 20, 15), shift=8.0).each
    other = EnsembleEvidence(data=evidence.data, each=evidence.each, one=one)
    assert read(other, originals="one")["at-cap"].value == 1
    assert read(other) == read(evidence)


def test_the_order_of_rows_does_not_matter_to_the_last_bit(evidence: EnsembleEvidence) -> None:
    assert read(evidence.shuffled()) == read(evidence)


def test_the_price_is_said_before_the_work() -> None:
    each = ForgettingScore(ForgettingScoreParams(n=5)).ensembles()
    assert list(each) == [Ensemble(kind="siblings", originals=5, golds=10, unlearned=5)]
    one = ForgettingScore(ForgettingScoreParams(n=5, originals="one")).ensembles()
    assert sum(asked.golds for asked in one) == 10
    assert sum(asked.originals for asked in one) == 0
    assert [asked.unlearned for asked in one if asked.vary == "unlearn"] == [5]


def test_no_forget_row_one_class_and_no_number_are_a_status(evidence: EnsembleEvidence) -> None:
    spoilt = {key: outputs.clone() for key, outputs in evidence.each.items()}
    spoilt["forget", "gold"][0, 0, 0] = torch.nan
    cases = {
        "empty split": drawn_ensembles(N, (0, 5, 5)),
        "one class": drawn_ensembles(N, (4, 5, 5), classes=1),
        "non-finite": EnsembleEvidence(data=evidence.data, each=spoilt),
    }
    for status, case in cases.items():
        found = read(case)
        assert len(found) == 4
        assert {(reading.value, reading.status) for reading in found.values()} == {(None, status)}


def test_without_test_rows_only_the_final_score_is_missing() -> None:
    found = read(drawn_ensembles(N, (9, 20, 0)))
    assert (found["final-score"].value, found["final-score"].status) == (None, "empty split")
    assert found["forgetting-quality"].value is not None


def test_retrained_models_that_get_nothing_right_leave_no_ratio(evidence: EnsembleEvidence) -> None:
    wrong = dict(evidence.each)
    y = evidence.y("test")
    wrong["test", "gold"] = -1e3 * torch.nn.functional.one_hot(y, 3).float().expand(2 * N, -1, -1)
    found = read(EnsembleEvidence(data=evidence.data, each=wrong))["final-score"]
    assert (found.value, found.status) == (None, "retrained models get nothing right")


def test_a_single_forget_row_has_values_and_no_interval_of_a_mean() -> None:
    found = read(drawn_ensembles(N, (1, 5, 5)))
    assert all(reading.value is not None for reading in found.values())
    assert (found["forgetting-quality"].low, found["epsilon"].low) == (None, None)
    assert found["at-cap"].low is not None
