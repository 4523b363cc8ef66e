"""The table of evidence: which readings stand in it, and what a cell says of several seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from records import run_document

from unlearnbench.api.runtime import SUBJECTS, Reading
from unlearnbench.cli.table import evidence_rows, print_evidence, print_table
from unlearnbench.record import Record

IDENTITY = {"name": "identity", "params": {}}
AUC = {"original": 0.9, "gold": 0.5, "unlearned": 0.7}


def auc(subject: str, value: float | None, reach: float = 0.1, **place: Any) -> Reading:
    """An attack's AUC with an interval of so much to either side."""
    low, high = (None, None) if value is None else (value - reach, value + reach)
    status = "ok" if value is not None else "one class"
    return Reading("attack-auc", value, 9, subject=subject, low=low, high=high, status=status, **place)


def attacks(shift: float = 0.0, **place: Any) -> list[Reading]:
    return [auc(subject, AUC[subject] + shift, **place) for subject in SUBJECTS]


def record(extra: list[Reading], seed: int = 0, **more: Any) -> Record:
    """A run; records of one test share their folder, since nothing is written."""
    return Record(run_document(seeds=(seed, seed, seed), extra=extra, **more), Path())


def printed(capsys: pytest.CaptureFixture[str], *records: Record) -> tuple[str, list[str], dict[str, list[str]]]:
    """The caption, the headings and the cells by the name of the row; two spaces or more part cells."""
    print_evidence(records)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]
    first = next(place for place, line in enumerate(lines) if line.startswith(" "))  # the caption may take two lines
    headings, *body = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[first:]]
    return " ".join(line.strip() for line in lines[:first]), headings, {row[0]: row[1:] for row in body}


def test_one_seed_shows_the_reading_itself_with_its_interval_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    caption, headings, cells = printed(capsys, record(attacks()))
    assert caption == "evidence: value [95 % interval]; above or below: where most intervals leave out gold's"
    assert headings == ["original", "gold", "salun"]
    assert cells == {"attack-auc": ["0.9 [0.8, 1] above", "0.5 [0.4, 0.6]", "0.7 [0.6, 0.8] above"]}


def test_several_seeds_show_means_of_values_and_of_both_ends(capsys: pytest.CaptureFixture[str]) -> None:
    caption, _, cells = printed(capsys, *(record(attacks(shift), seed) for seed, shift in enumerate((-0.1, 0, 0.04))))
    assert "means over seeds" in caption
    assert cells["attack-auc"] == ["0.88 [0.78, 0.98] above", "0.48 [0.38, 0.58]", "0.68 [0.58, 0.78] above"]


def test_a_verdict_stands_there_when_most_seeds_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    def verdicts(*values: float) -> str:
        found = []
        for seed, value in enumerate(values):
            found.append(record([auc("original", 0.9), auc("gold", 0.5), auc("unlearned", value)], seed))
        return printed(capsys, *found)[2]["attack-auc"][2].partition("] ")[2]

    assert verdicts(0.7, 0.7, 0.5) == "above"
    assert verdicts(0.3, 0.5, 0.3) == "below"
    assert verdicts(0.7, 0.5) == verdicts(0.7, 0.3) == ""  # one of two is not most


def test_original_and_gold_are_counted_once_per_seed(capsys: pytest.CaptureFixture[str]) -> None:
    """Both unlearners of seed 0 repeat them; counted twice, seed 0 would weigh two thirds."""
    records = [
        record(attacks(), 0),
        record([*attacks()[:2], auc("unlearned", 0.9)], 0, unlearner=IDENTITY),
        record(attacks(0.1), 1),
    ]
    _, headings, cells = printed(capsys, *records)
    assert headings == ["original", "gold", "salun", "identity"]
    values = [cell.split(" [")[0] for cell in cells["attack-auc"]]
    assert values == ["0.95", "0.55", "0.75", "0.9"]
    found = evidence_rows(records)[1]["attack-auc"]
    assert {column: len(readings) for column, readings in found.items()} == {
        "original": 2, "gold": 2, "salun": 2, "identity": 1,
    }  # fmt: skip


def test_original_and_gold_of_a_method_that_trains_itself_are_columns_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = record(attacks(0.2), unlearner={"name": "sisa", "params": {}})
    own = replace(own, document={**own.document, "trainer": "sisa"})
    _, headings, cells = printed(capsys, record(attacks()), own)
    assert headings == ["original", "gold", "salun", "original of sisa", "gold of sisa", "sisa"]
    assert [cell.split(" [")[0] for cell in cells["attack-auc"]] == ["0.9", "0.5", "0.7", "1.1", "0.7", "0.9"]


def test_seeds_without_a_value_are_counted_and_not_averaged(capsys: pytest.CaptureFixture[str]) -> None:
    records = [record([*attacks()[:2], auc("unlearned", value)], seed) for seed, value in enumerate((0.7, None, 0.7))]
    assert printed(capsys, *records)[2]["attack-auc"][2] == "0.7 [0.6, 0.8] above (1 undefined)"


def test_where_no_seed_has_a_value_the_status_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    records = [record([*attacks()[:2], auc("unlearned", None)], seed) for seed in range(2)]
    assert printed(capsys, *records)[2]["attack-auc"] == ["0.9 [0.8, 1] above", "0.5 [0.4, 0.6]", "one class"]


def test_a_reading_without_an_interval_is_a_bare_number(capsys: pytest.CaptureFixture[str]) -> None:
    bare = [Reading("steps", 12345.6, 9, subject=subject, split="forget") for subject in SUBJECTS]
    assert printed(capsys, record(bare))[2] == {"steps.forget": ["1.23e+04"] * 3}


def test_only_what_aims_at_gold_on_the_forget_set_is_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    extra = [
        *attacks(split="forget"),
        *attacks(at={"fpr": "0.01"}),
        *attacks(at={"fpr": "0.001"}),
        *attacks(at={"rows": "vulnerable"}),
        *attacks(at={"rows": "others"}),
        *attacks(at={"fpr": "0.01", "rows": "vulnerable"}),
        *attacks(split="test"),
        *attacks(split="retain"),
        *attacks(at={"class": "3"}),
        *[Reading("p-value", 0.5, 9, better="higher", subject=subject) for subject in SUBJECTS],
    ]
    assert set(printed(capsys, record(extra))[2]) == {
        "attack-auc.forget",
        "attack-auc.fpr=0.01",
        "attack-auc.rows=vulnerable",
        "attack-auc.fpr=0.01.rows=vulnerable",
    }


def test_of_a_stream_the_last_request_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [{"kind": "samples", "fraction": 0.1, "seed": seed} for seed in range(2)]
    extra = [*attacks(-0.1, at={"request": "0"}), *attacks(0.1, at={"request": "1"})]
    _, _, cells = printed(capsys, record(extra, requests=steps))
    assert {name: [cell.split(" [")[0] for cell in row] for name, row in cells.items()} == {
        "attack-auc": ["1", "0.6", "0.8"]
    }


def test_a_run_without_evidence_prints_no_second_table(capsys: pytest.CaptureFixture[str]) -> None:
    plain = record([])
    print_evidence([plain])
    assert capsys.readouterr().out == ""
    print_table([plain])
    assert "evidence" not in capsys.readouterr().out
    print_table([record(attacks())])
    assert "evidence: value [95 % interval]" in capsys.readouterr().out
