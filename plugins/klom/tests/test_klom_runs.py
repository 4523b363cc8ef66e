"""What KLoM promises on real data: Location-30, whose forget rows the original has memorised."""

from pathlib import Path

import pytest
from scenario_runs import LOCATIONS, known, measured

from unlearnbench import Record


def run(n: int, bins: int, out: Path) -> Record:
    return measured("identity", LOCATIONS, ["klom"], out, {"klom.n": n, "klom.bins": bins})


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Few models need few bins: at 20 bins the floor of 8 models hides everything."""
    return run(8, 5, tmp_path_factory.mktemp("klom"))


def test_doing_nothing_is_far_above_the_floor_on_forget_rows(record: Record) -> None:
    floor = known(record, "klom.forget", "gold")
    assert known(record, "klom.forget", "unlearned") >= 3 * floor > 0
    assert known(record, "klom-p95.forget", "unlearned") > known(record, "klom-p95.forget", "gold")


def test_forget_rows_move_more_than_others_do(record: Record) -> None:
    forget, retain, test = (known(record, f"klom.{split}", "original") for split in ("forget", "retain", "test"))
    assert forget > 1.5 * max(retain, test)


def test_doing_nothing_reads_as_the_original_does(record: Record) -> None:
    for split in ("forget", "retain", "test"):
        for name in ("klom", "klom-p95"):
            assert known(record, f"{name}.{split}", "unlearned") == known(record, f"{name}.{split}", "original")


def test_gold_is_measured_against_other_golds(record: Record) -> None:
    assert all(known(record, f"klom.{split}", "gold") > 0.1 for split in ("forget", "retain", "test"))


def test_the_interval_holds_the_value(record: Record) -> None:
    readings = [r for r in record.document["readings"] if r["measure"] == "klom"]
    assert len(readings) == 18
    assert all(r["interval"][0] <= r["value"] <= r["interval"][1] for r in readings)


@pytest.mark.acceptance
def test_thirty_two_models_have_a_floor_below_two_and_a_half(tmp_path: Path) -> None:
    record = run(32, 20, tmp_path)
    floor = known(record, "klom.forget", "gold")
    assert floor <= 2.5
    assert known(record, "klom.forget", "unlearned") >= max(5, 3 * floor)
