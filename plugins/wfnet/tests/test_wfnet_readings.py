"""What the measures say of a WF-Net that was untrained on digits."""

from __future__ import annotations

from pathlib import Path

import pytest
from scenario_runs import CLASS, known, measured

from unlearnbench import Record

MEASURES = ["accuracy", "wfnet-rows", "insertion-deletion", "closed-gates"]
CLASSES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def wfnet(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return measured("wfnet", CLASS, MEASURES, tmp_path_factory.mktemp("wfnet"))


def test_every_row_forgets_its_own_class_and_knows_most_of_the_others(wfnet: Record) -> None:
    for part in ("", "-train"):
        assert known(wfnet, f"rows-acc-f-max{part}") <= 0.05
        assert known(wfnet, f"rows-acc-r{part}") >= 0.88
        assert known(wfnet, f"rows-acc-r-min{part}") >= 0.8
        assert known(wfnet, f"rows-acc-f{part}", "original") >= 0.95


def test_the_row_of_the_forgotten_class_is_the_model_that_came_back(wfnet: Record) -> None:
    assert known(wfnet, "row-accuracy.class=3.row=3") == known(wfnet, "accuracy.holdout")
    assert known(wfnet, "row-accuracy-train.class=3.row=3") == known(wfnet, "accuracy.forget")
    for name in CLASSES[:3] + CLASSES[4:]:
        assert known(wfnet, f"row-accuracy.class={name}.row=3") == known(wfnet, f"accuracy.test.class={name}")
        assert known(wfnet, f"row-accuracy-train.class={name}.row=3") == known(wfnet, f"accuracy.retain.class={name}")


def test_summaries_follow_from_the_matrix_and_its_counts(wfnet: Record) -> None:
    cells = {(r["at"]["row"], r["at"]["class"]): r for r in wfnet.readings if r["name"] == "row-accuracy" and r["n"]}
    assert len(cells) == 100
    kept = []
    for row in CLASSES:
        others = [cells[row, name] for name in CLASSES if name != row]
        kept.append(sum(r["value"] * r["n"] for r in others) / sum(r["n"] for r in others))
    assert known(wfnet, "rows-acc-r") == pytest.approx(sum(kept) / 10)
    assert known(wfnet, "rows-acc-r-min") == pytest.approx(min(kept))


def test_the_gates_that_close_hold_what_was_known_of_the_class(wfnet: Record) -> None:
    insertion, deletion = known(wfnet, "insertion.holdout"), known(wfnet, "deletion.holdout")
    assert insertion >= 0.7
    assert deletion <= 0.25
    assert insertion > known(wfnet, "insertion-random.holdout") + 0.2
    assert deletion < known(wfnet, "deletion-random.holdout") - 0.1


def test_some_gates_are_closed_and_most_are_open(wfnet: Record) -> None:
    for name in ("closed-gates", "closed-gates-all"):
        assert 0 < known(wfnet, f"{name}.below=0.1") <= known(wfnet, f"{name}.below=0.5") <= 0.3


def test_an_unlearner_without_gates_has_none_to_measure(tmp_path: Path) -> None:
    record = measured("identity", CLASS, MEASURES[1:], tmp_path)
    mine = [reading for reading in record.readings if reading["subject"] == "unlearned"]
    assert {(reading["value"], reading["status"]) for reading in mine} == {(None, "no gates")}
    assert known(record, "rows-acc-f", "original") >= 0.95
