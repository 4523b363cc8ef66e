"""What the measure promises on real data: digits of which a class is forgotten."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scenario_runs import CLASS, known, measured

from unlearnbench import Record


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return measured("identity", CLASS, ["model-inversion"], tmp_path_factory.mktemp("runs"))


def read(record: Record, name: str, subject: str) -> float:
    return known(record, f"inversion-{name}.forget", subject)


def test_the_original_gives_away_what_the_class_looks_like_and_gold_does_not(record: Record) -> None:
    assert read(record, "similarity", "original") > 0.5
    assert read(record, "similarity", "gold") < read(record, "similarity", "original") - 0.2
    assert read(record, "nearest", "gold") < read(record, "nearest", "original") - 0.1


def test_gold_cannot_be_made_sure_of_a_class_that_it_never_saw(record: Record) -> None:
    assert read(record, "confidence", "original") >= 0.99
    assert read(record, "confidence", "gold") < 0.5


def test_doing_nothing_reads_as_the_original_does(record: Record) -> None:
    for name in ("similarity", "nearest", "confidence"):
        assert read(record, name, "unlearned") == read(record, name, "original")


def test_it_says_over_how_many_classes(record: Record) -> None:
    readings: list[dict[str, Any]] = record.document["readings"]
    assert {r["n"] for r in readings if r["measure"] == "model-inversion"} == {1}


def test_it_draws_nothing_from_the_global_state(tmp_path: Path, record: Record) -> None:
    torch.manual_seed(12345)
    again = measured("identity", CLASS, ["model-inversion"], tmp_path, store=tmp_path / "store")
    for subject in ("original", "gold"):
        assert read(again, "similarity", subject) == read(record, "similarity", subject)
