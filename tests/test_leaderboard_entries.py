"""Entries: from records and submissions, with what maintainers found out; and reading many records quickly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from records import SALUN, run_document, write
from support import assert_one_error, call, spawn

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import Reading
from unlearnbench.identity import canonical, canonical_json
from unlearnbench.leaderboard import reading as bulk
from unlearnbench.leaderboard.entries import entries_of_records, entries_of_submissions, gather_entries
from unlearnbench.leaderboard.history import History, changes, read_history
from unlearnbench.leaderboard.ranking import boards
from unlearnbench.leaderboard.site import build_site
from unlearnbench.record import content_digest, find_records, read_record
from unlearnbench.schemas import _quick, load_json, read_document, validate

Values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def finetune(lr: float) -> dict[str, Any]:
    return {"name": "finetune", "params": {"lr": lr}}


# --- Reading -----------------------------------------------------------------------------------------------------


def verdict(read: Callable[[str], Any], text: str) -> str:
    try:
        read(text)
    except UnlearnBenchError as problem:
        return str(problem)
    return "valid"


def slow(text: str) -> None:
    validate(load_json(text), "run-record")


def quick(text: str) -> None:
    read_document(text, "run-record")


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


DOCUMENT = run_document(extra=(Reading("auc", 0.5, 4, low=0.25, high=1.0, subject="gold"),))
PLACES = places(DOCUMENT)[1:]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(PLACES), Values)
@example(("readings", 0, "n"), 50.0)
@example(("readings", 0, "n"), 2**70)
@example(("readings", 0, "value"), 10**40)
@example(("readings", 0, "key"), "\ud800")
@example(("spec", "seeds", "train"), 0.0)
@example(("spec", "threads"), True)
@example(("created",), "2026-11-21T08:00:00+00:00\n")
@example(("created",), "٢٠٢٦-11-21T08:00:00+00:00")
@example(("files",), ["a", "a"])
@example(("files",), [])
def test_the_quick_validator_gives_the_verdict_and_the_words_of_the_usual_one(
    place: tuple[Any, ...], value: Any
) -> None:
    document = deepcopy(DOCUMENT)
    node: Any = document
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    text = json.dumps(document)
    assert verdict(quick, text) == verdict(slow, text)


def test_a_valid_record_never_meets_the_slow_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _quick("run-record").is_valid(DOCUMENT)
    monkeypatch.setattr("unlearnbench.schemas.validate", lambda *_, **__: pytest.fail("asked the slow one"))
    quick(json.dumps(DOCUMENT))


@settings(max_examples=300, deadline=None)
@given(Values)
@example([1e-05, 1e-06, 1e-07, 1.5e-08, -0.0, 0.0, 1.0, 1e16, 1e20, 1e21, 5e-324, 1.7976931348623157e308])
@example([2**53 - 1, -(2**53) + 1, 10**15, 1e15, 123456789012345.0, 'say "1.0"', "1e-05", ",1.0,", "a\\b"])
@example({"\ue000": 1, "\U0001f600": 2, "a": [True, None, {}]})
def test_quick_canonical_bytes_are_those_of_rfc_8785(value: Any) -> None:
    try:
        expected = canonical(value)
    except ValueError as problem:
        with pytest.raises(type(problem)):
            canonical_json(value)
    else:
        assert canonical_json(value) == expected


def test_records_that_are_not_valid_are_told_and_the_others_are_read(tmp_path: Path) -> None:
    good = write(tmp_path, run_document(unlearner=finetune(0.1)))
    forged = run_document(unlearner=finetune(0.2), seeds=(1, 1, 1))
    forged["readings"][6]["value"] = 0.5
    write(tmp_path, forged)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "record.json").write_text("{")
    found = gather_entries([tmp_path], History())
    assert [entry.id for entry in found.entries] == ["records/finetune"]
    assert [record.folder for record in found.entries[0].records] == [good.folder]
    assert sorted(problem.code for problem in found.problems) == ["bad-json", "wrong-digest"]


def test_several_processes_read_what_one_reads_and_leave_the_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        write(tmp_path, run_document(seeds=(seed, seed, seed)))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "record.json").write_text("{")
    paths = find_records(tmp_path)
    whole, problems = bulk.read_all(paths)
    assert any(reading["at"] for reading in whole[0].readings)
    monkeypatch.setattr(bulk, "FEW", 2)
    slim, again = bulk.read_all(paths)
    assert [str(problem) for problem in again] == [str(problem) for problem in problems]
    assert [record.document["digest"] for record in slim] == [record.document["digest"] for record in whole]
    for one, other in zip(slim, whole, strict=True):
        assert one.readings == [reading for reading in other.readings if not reading["at"]]
    found = boards(entries_of_records(slim))[0]
    assert "thresholds and steps are in the records" in found.notes[-1]
    assert bulk.left_out(slim) == sum(bool(reading["at"]) for record in whole for reading in record.readings)
    build_site([found], (), tmp_path / "site")
    page = next((tmp_path / "site" / "entries").iterdir()).read_text("utf-8")
    assert f"{bulk.left_out(slim)} readings of this entry stand in its records only" in page


def test_equal_parts_of_records_stand_in_memory_once(tmp_path: Path) -> None:
    records = [write(tmp_path, run_document(unlearner=finetune(lr))) for lr in (0.1, 0.2)]
    one, other = (bulk.slim(read_record(record.path)) for record in records)
    assert one.document["environment"] is other.document["environment"]
    assert one.readings[0] is other.readings[0]
    assert content_digest(one.document) == one.document["digest"]


# --- Records -----------------------------------------------------------------------------------------------------


def test_two_settings_of_an_unlearner_on_one_scenario_are_two_entries(tmp_path: Path) -> None:
    records = [
        write(tmp_path, run_document(unlearner=choice, seeds=(seed, seed, seed)))
        for choice in (finetune(0.1), finetune(0.2), SALUN)
        for seed in (0, 1)
    ]
    found = entries_of_records(records)
    assert sorted(entry.label for entry in found) == ["finetune (lr=0.1)", "finetune (lr=0.2)", "salun"]
    assert {entry.unlearner for entry in found} == {"finetune", "salun"}
    assert {len(entry.records) for entry in found} == {2}


def test_one_setting_for_each_scenario_is_one_entry(suite_folder: Path, tmp_path: Path) -> None:
    records = [read_record(path) for path in find_records(suite_folder)]
    second = [deepcopy(dict(record.document)) for record in records]
    for document in second:
        document["spec"]["scenario"] = "digits-noisy-cnn-random10/v1"
        document["spec"]["measures"].append({"name": "loss-attack", "params": {}})
        document["spec"]["unlearner"]["params"] = {"other": 1}
        document["id"] = document["id"].replace("class3", "noisy")
    found = entries_of_records([*records, *(write(tmp_path, document) for document in second)])
    assert [(entry.id, entry.suite, len(entry.records)) for entry in sorted(found, key=lambda each: each.id)] == [
        ("records/finetune", "quick/v1", 10),
        ("records/identity", "quick/v1", 10),
    ]
    assert {entry.unlearner: entry.division for entry in found} == {"finetune": "oracle-free", "identity": "control"}


def test_records_that_fit_no_suite_are_on_a_board_of_their_scenario(tmp_path: Path) -> None:
    extra = [
        Reading("probe-auc", value, 4, low=value - 0.1, high=value + 0.1, subject=subject)
        for subject, value in (("gold", 0.5), ("unlearned", 0.7))
    ]
    records = [
        write(tmp_path, run_document(unlearner=choice, seeds=(seed, seed, seed), scenario="mine/v1", extra=extra))
        for choice in (finetune(0.1), SALUN, {"name": "identity", "params": {}})
        for seed in (0, 1, 2)
    ]
    records.append(write(tmp_path, run_document(unlearner=SALUN, seeds=(9, 9, 9), scenario="mine/v1", extra=extra)))
    [board] = boards(entries_of_records(records))
    assert (board.official, board.suite.name, board.suite.seeds) == (False, "mine/v1", (0, 1, 2))
    assert {axis.name: axis.key for axis in board.suite.parts[0].axes} == {
        "forgetting": "accuracy.forget",
        "utility": "accuracy.test",
        "privacy": "probe-auc",
    }
    assert {row.entry.id: row.place for row in board.rows} == {
        "records/finetune": "1-2", "records/salun": "1-2", "records/identity": "",
    }  # fmt: skip


# --- Submissions -------------------------------------------------------------------------------------------------


def kept(source: Path, root: Path, **changed: Any) -> Path:
    """A folder as maintainers keep it: the submission and its verification."""
    from unlearnbench.leaderboard.read import read_submission

    folder = root / "submissions" / source.name
    shutil.copytree(source, folder)
    document = {
        "$schema": "https://unlearnbench.org/schemas/verification/1.json",
        "submission": {"name": source.name, "sha256": read_submission(folder).sha256},
        "suite": "quick/v1",
        "asked": "rerun",
        "level": "rerun",
        "passed": True,
        "created": "2026-11-22T12:00:00+00:00",
        "sample": {"seed": 7, "runs": []},
        "signature": "none",
        "environment": {"unlearnbench": "0.1.0", "python": "3.11.7", "platform": "Linux x86_64", "torch": "2.15.0"},
        "checks": [],
        "entries": [
            {"unlearner": "finetune", "level": "rerun", "runs": 5, "rerun": 3},
            {"unlearner": "identity", "level": "recomputed-from-weights", "runs": 5, "rerun": 0},
        ],
        "flags": [{"unlearner": "finetune", "scenario": "digits-cnn-class3/v1", "code": "too-good", "message": "near"}],
        "problems": [],
        "readings": [],
        **changed,
    }
    (root / "verifications").mkdir()
    (root / "verifications" / f"{source.name}.json").write_text(json.dumps(document))
    return folder


def test_levels_and_flags_come_of_the_verification_that_is_bound_to_the_submission(
    small_submission: Path, tmp_path: Path
) -> None:
    folder = kept(small_submission, tmp_path)
    entries = {entry.unlearner: entry for entry in entries_of_submissions([folder], read_history(tmp_path))}
    assert (entries["finetune"].level, entries["finetune"].rerun) == ("rerun", 3)
    assert [flag.code for flag in entries["finetune"].flags] == ["too-good"]
    assert (entries["identity"].level, entries["identity"].division) == ("recomputed-from-weights", "control")
    assert entries["finetune"].statement.authors
    [unbound] = [e for e in entries_of_submissions([folder], History()) if e.unlearner == "finetune"]
    assert (unbound.level, unbound.rerun, unbound.flags) == ("self-reported", 0, ())


def test_a_verification_of_other_bytes_says_nothing(small_submission: Path, tmp_path: Path) -> None:
    folder = kept(small_submission, tmp_path, submission={"name": small_submission.name, "sha256": "0" * 64})
    found = gather_entries([folder], read_history(tmp_path))
    assert {entry.level for entry in found.entries} == {"self-reported"}


def test_changes_are_told_newest_first(small_submission: Path, tmp_path: Path) -> None:
    folder = kept(small_submission, tmp_path)
    retraction = "- {submission: small, unlearner: finetune, date: 2026-12-24, reason: a bug}\n"
    (tmp_path / "retractions.yaml").write_text(retraction.replace("small", small_submission.name))
    history = read_history(tmp_path)
    found = gather_entries([folder.parent], history)
    told = changes(found.entries, history)
    assert next(change.kind for change in told) == "retraction"
    assert {change.kind for change in told} == {"submission", "verification", "retraction"}
    assert [change.date for change in told] == sorted((change.date for change in told), reverse=True)
    assert told == changes(found.entries[::-1], history)
    [gone] = [entry for entry in found.entries if entry.retracted]
    assert (gone.unlearner, gone.retracted) == ("finetune", "a bug")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no list"),
        ("- {submission: small}", "must have exactly"),
        ("- {submission: small, unlearner: null, date: soon, reason: a bug}", "no date"),
        ("- {submission: small, unlearner: null, date: 2026-12-24, reason: ' '}", "is empty"),
        ("- {submission: none, unlearner: null, date: 2026-12-24, reason: a bug}", "no submission"),
    ],
)
def test_a_retraction_that_is_not_one_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "submissions" / "small").mkdir(parents=True)
    (tmp_path / "retractions.yaml").write_text(text)
    with pytest.raises(DataError, match=words):
        read_history(tmp_path)


def test_a_retraction_of_an_unlearner_that_is_not_there_is_refused(small_submission: Path, tmp_path: Path) -> None:
    folder = kept(small_submission, tmp_path)
    line = f"- {{submission: {small_submission.name}, unlearner: salun, date: 2026-12-24, reason: a bug}}"
    (tmp_path / "retractions.yaml").write_text(line)
    with pytest.raises(DataError, match="has no 'salun'"):
        gather_entries([folder], read_history(tmp_path))


def test_a_verification_under_another_name_is_refused(small_submission: Path, tmp_path: Path) -> None:
    kept(small_submission, tmp_path, submission={"name": "other", "sha256": "0" * 64})
    with pytest.raises(DataError, match="is about submission 'other'"):
        read_history(tmp_path)


def test_sources_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither"):
        gather_entries([tmp_path], History())
    with pytest.raises(DataError, match="does not exist"):
        gather_entries([tmp_path / "nowhere"], History())


# --- The board as text -------------------------------------------------------------------------------------------


def test_the_board_reads_well_at_a_hundred_columns(suite_folder: Path, tmp_path: Path) -> None:
    done = spawn("leaderboard", "show", suite_folder, cwd=tmp_path, env={"COLUMNS": "100"})
    assert done.rc == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    for words in (
        "quick/v1 (suite)",
        "oracle-free: 1 entry",
        "control: 1 entry",
        "self-reported",
        "no runs of digits-noisy",
    ):
        assert words in done.stdout
    assert "\N{ESCAPE}" not in done.stdout


def test_the_board_as_json_has_every_run(suite_folder: Path) -> None:
    [board] = call("leaderboard", "show", suite_folder, "--suite", "quick/v1", "--json").json()
    rows = {row["id"]: row for ranking in board["rankings"] for row in ranking["rows"]}
    assert set(rows) == {"records/finetune", "records/identity"}
    assert len(rows["records/finetune"]["runs"]) == 5
    assert board["suite"] == "quick/v1"


def test_what_is_left_out_fails_the_command_and_the_rest_is_shown(suite_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    done = call("leaderboard", "show", suite_folder, tmp_path)
    assert done.rc == 1
    assert "error: [bad-value]" in done.stderr
    assert "finetune" in done.stdout


def test_a_board_that_is_not_there_is_refused(suite_folder: Path) -> None:
    done = call("leaderboard", "show", suite_folder, "--suite", "quick/v2")
    assert done.rc == 2
    assert "did you mean quick/v1?" in done.stderr


def test_without_sources_submissions_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_one_error(call("leaderboard", "show"), 2, "no-records", "leaderboard/submissions")
