"""What the measure says about ensembles that are given, and where it has nothing to say."""

import numpy as np
import pytest
import torch
from hand_siblings import EnsembleEvidence, drawn_ensembles

from unlearnbench.api.runtime import Ensemble, Reading
from unlearnbench_klom.margins import klom, margins
from unlearnbench_klom.measure import Klom
from unlearnbench_klom.plugin import KlomParams

N = 12


def read(evidence: EnsembleEvidence, n: int = N) -> dict[str, Reading]:
    return {reading.key: reading for reading in Klom(KlomParams(n=n)).measure(evidence)}


@pytest.fixture
def evidence() -> EnsembleEvidence:
    return drawn_ensembles(N, (9, 20, 15))


def test_readings_are_mean_and_percentile_of_the_rows(evidence: EnsembleEvidence) -> None:
    y = evidence.y("forget")
    oracles = margins(evidence.each["forget", "gold"][:N], y)
    values = klom(margins(evidence.each["forget", "unlearned"], y), oracles)
    found = read(evidence)
    assert found["klom.forget"].value == pytest.approx(values.mean())
    assert found["klom-p95.forget"].value == pytest.approx(np.percentile(values, 95))
    assert found["klom.forget"].n == 9
    assert found["klom.retain"].n == 20


def test_gold_is_the_second_half_of_the_golds_against_the_first(evidence: EnsembleEvidence) -> None:
    golds = margins(evidence.each["test", "gold"], evidence.y("test"))
    floor = read(evidence.about("gold"))["klom.test"].value
    assert floor == pytest.approx(klom(golds[N:], golds[:N]).mean())


def test_original_and_unlearned_are_measured_against_the_same_oracles(evidence: EnsembleEvidence) -> None:
    assert read(evidence.about("original")) == read(evidence.about("unlearned"))
    assert read(evidence)["klom.forget"].value != read(evidence.about("gold"))["klom.forget"].value


def test_the_order_of_rows_does_not_matter_to_the_last_bit(evidence: EnsembleEvidence) -> None:
    assert read(evidence.shuffled()) == read(evidence)


def test_the_price_is_said_before_the_work() -> None:
    (asked,) = Klom(KlomParams(n=5)).ensembles()
    assert asked == Ensemble(kind="siblings", originals=5, golds=10, unlearned=5)


def test_an_empty_split_is_a_status_and_the_others_are_read() -> None:
    found = read(drawn_ensembles(N, (9, 20, 0)))
    assert (found["klom.test"].value, found["klom.test"].status) == (None, "empty split")
    assert found["klom.forget"].value is not None


def test_outputs_that_are_not_numbers_are_a_status(evidence: EnsembleEvidence) -> None:
    spoilt = {key: outputs.clone() for key, outputs in evidence.each.items()}
    spoilt["forget", "unlearned"][3, 2, 1] = torch.inf
    found = read(EnsembleEvidence(data=evidence.data, each=spoilt))
    assert {found[name].status for name in ("klom.forget", "klom-p95.forget")} == {"non-finite"}
    assert found["klom.retain"].status == "ok"


def test_one_class_has_no_margin() -> None:
    found = read(drawn_ensembles(N, (4, 4, 4), classes=1))
    assert {reading.status for reading in found.values()} == {"one class"}


def test_a_single_forget_row_has_a_value_without_an_interval() -> None:
    found = read(drawn_ensembles(N, (1, 5, 5)))["klom.forget"]
    assert found.value is not None
    assert (found.low, found.high, found.n) == (None, None, 1)


def test_models_that_all_agree_have_divergence_0(evidence: EnsembleEvidence) -> None:
    same = {key: torch.ones_like(outputs) for key, outputs in evidence.each.items()}
    found = read(EnsembleEvidence(data=evidence.data, each=same))
    assert {reading.value for reading in found.values()} == {0.0}
