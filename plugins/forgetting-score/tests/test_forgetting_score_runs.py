"""What the score promises on real data: Location-30, whose forget rows the original has memorised."""

import os
from pathlib import Path

import pytest

import unlearnbench
from unlearnbench import Record

SCENARIO = "location30-mlp-random10/v1"
NAMES = ("forgetting-quality", "final-score", "epsilon", "at-cap")


def run(n: int, folder: Path, originals: str = "each", unlearner: str = "identity") -> Record:
    if not os.environ.get("UNLEARNBENCH_DATA"):
        pytest.skip("UNLEARNBENCH_DATA does not say where Location-30 is")
    (found,) = unlearnbench.run(
        unlearner,
        scenario=SCENARIO,
        measures=["forgetting-score"],
        parameters={"forgetting-score.n": n, "forgetting-score.originals": originals},
        out=folder / "runs",
        store=folder / "store",
    )
    assert found.status == "complete"
    return found


def read(record: Record, name: str, subject: str) -> float:
    value = record.value(f"{name}.forget", subject)
    assert value is not None
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="module")
def record(folder: Path) -> Record:
    return run(8, folder)


def test_doing_nothing_has_at_most_a_quarter_of_the_floors_quality(record: Record) -> None:
    assert read(record, "forgetting-quality", "unlearned") <= read(record, "forgetting-quality", "gold") / 4
    assert read(record, "final-score", "unlearned") <= read(record, "final-score", "gold") / 4


def test_doing_nothing_is_seen_on_most_rows(record: Record) -> None:
    assert read(record, "at-cap", "unlearned") > 0.5
    assert read(record, "at-cap", "gold") < 0.05
    assert read(record, "epsilon", "unlearned") > read(record, "epsilon", "gold") + 1


def test_doing_nothing_reads_as_the_original_does(record: Record) -> None:
    for name in NAMES:
        assert read(record, name, "unlearned") == read(record, name, "original")


def test_the_final_score_of_gold_is_its_quality_but_for_chance(record: Record) -> None:
    quality = read(record, "forgetting-quality", "gold")
    assert read(record, "final-score", "gold") == pytest.approx(quality, rel=0.05)
    assert read(record, "final-score", "gold") != quality


def test_the_interval_holds_the_value(record: Record) -> None:
    readings = [r for r in record.document["readings"] if r["measure"] == "forgetting-score"]
    assert len(readings) == 12
    assert all(r["interval"][0] <= r["value"] <= r["interval"][1] for r in readings)


def test_one_original_that_is_left_as_it_is_is_told_apart_on_every_row(folder: Path, record: Record) -> None:
    one = run(8, folder, "one")
    assert read(one, "at-cap", "unlearned") == read(one, "at-cap", "original") == 1
    assert read(one, "forgetting-quality", "unlearned") == 0
    assert read(one, "forgetting-quality", "gold") == read(record, "forgetting-quality", "gold")


def test_retraining_with_many_seeds_is_as_good_as_gold_from_one_original_too(folder: Path, record: Record) -> None:
    one = run(8, folder, "one", "retrain")
    assert read(one, "at-cap", "unlearned") < 0.05
    assert read(one, "forgetting-quality", "unlearned") == pytest.approx(
        read(one, "forgetting-quality", "gold"), rel=0.3
    )


@pytest.mark.acceptance
def test_sixteen_models_have_the_floor_of_the_official_grid(tmp_path: Path) -> None:
    record = run(16, tmp_path)
    floor = read(record, "forgetting-quality", "gold")
    assert floor >= 0.07
    assert read(record, "at-cap", "gold") == 0
    assert read(record, "epsilon", "gold") <= 2.5
    assert read(record, "forgetting-quality", "unlearned") <= floor / 4
