"""What the score promises on real data: Location-30, whose forget rows the original has memorised."""

from pathlib import Path

import pytest
from scenario_runs import LOCATIONS, known, measured

from unlearnbench import Record

NAMES = ("forgetting-quality", "final-score", "epsilon", "at-cap")


def run(n: int, out: Path, originals: str = "each", unlearner: str = "identity") -> Record:
    params = {"forgetting-score.n": n, "forgetting-score.originals": originals}
    return measured(unlearner, LOCATIONS, ["forgetting-score"], out, params)


def read(record: Record, name: str, subject: str) -> float:
    return known(record, f"{name}.forget", subject)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return run(8, tmp_path_factory.mktemp("score"))


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


def test_one_original_that_is_left_as_it_is_is_told_apart_on_every_row(tmp_path: Path, record: Record) -> None:
    one = run(8, tmp_path, "one")
    assert read(one, "at-cap", "unlearned") == read(one, "at-cap", "original") == 1
    assert read(one, "forgetting-quality", "unlearned") == 0
    assert read(one, "forgetting-quality", "gold") == read(record, "forgetting-quality", "gold")


def test_retraining_with_many_seeds_is_as_good_as_gold_from_one_original_too(tmp_path: Path, record: Record) -> None:
    one = run(8, tmp_path, "one", "retrain")
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
