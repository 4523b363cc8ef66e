"""Records: what is digested, what tampering shows, and how they are written and read."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import run_document, write

from unlearnbench.api.errors import DataError, UnlearnBenchError
from unlearnbench.api.runtime import Reading
from unlearnbench.record import (
    PREDICTIONS,
    RECORD,
    Record,
    arrays_digest,
    content_digest,
    controls,
    pack_arrays,
    read_record,
    reading_json,
    verdict,
    verify_record,
    write_record,
)

ARRAYS = {"forget/ids": np.arange(3), "forget/gold": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)}


def document() -> dict[str, Any]:
    """A record whose predictions are ``ARRAYS``."""
    found = run_document()
    found["predictions"] = arrays_digest(ARRAYS)
    found["digest"] = content_digest(found)
    return found


def written(folder: Path) -> Record:
    found = document()
    return write_record(folder / found["id"], found, {PREDICTIONS: pack_arrays(ARRAYS)})


def change(record: Record, alter: Callable[[dict[str, Any]], None]) -> Record:
    """Write a changed document over the record, as somebody with an editor would."""
    found = json.loads(record.path.read_text("utf-8"))
    alter(found)
    record.path.write_text(json.dumps(found), "utf-8")
    return read_record(record.path)


def test_a_record_is_read_as_it_was_written_and_verifies(tmp_path: Path) -> None:
    record = written(tmp_path)
    for path in (record.path, record.folder):
        found = read_record(path)
        assert found.document == document()
        assert found.folder == record.folder
        verify_record(found)
    assert (record.status, record.unlearner) == ("complete", "salun")
    assert {p.name for p in record.folder.iterdir()} == {RECORD, PREDICTIONS}


def test_a_failed_run_without_predictions_verifies(tmp_path: Path) -> None:
    record = write(tmp_path, run_document(status="failed"))
    assert {path.name for path in record.folder.iterdir()} == {RECORD}
    verify_record(record)
    with pytest.raises(DataError, match="its digest does not match its content"):
        verify_record(change(record, lambda found: found["data"]["train"].update(rows=1)))


# -- tampering ---------------------------------------------------------------------------------------------------------


def _better_reading(found: dict[str, Any]) -> None:
    reading = next(r for r in found["readings"] if (r["subject"], r["key"]) == ("unlearned", "accuracy.test"))
    reading["value"] += 0.01


def _fewer_readings(found: dict[str, Any]) -> None:
    found["readings"].pop()


def _set(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def alter(found: dict[str, Any]) -> None:
        *parents, last = [int(p) if p.isdigit() else p for p in place.split("/")]
        for key in parents:
            found = found[key]
        assert found[last] != value
        found[last] = value

    return alter


TAMPERED: dict[str, Callable[[dict[str, Any]], None]] = {
    "a better reading": _better_reading,
    "a reading left out": _fewer_readings,
    "the number of rows": _set("readings/0/n", 9999),
    "the gap to gold": _set("readings/0/gap", 0.0),
    "a parameter of the unlearner": _set("spec/unlearner/params/lr", 0.5),
    "the seed of the training": _set("spec/seeds/train", 1),
    "the recipe": _set("spec/recipe/epochs", 31),
    "the data": _set("data/train/digest", "0" * 64),
    "the request": _set("requests/0/digest", "0" * 64),
    "the size of the forget set": _set("requests/0/forget", 1),
    "the weights of gold": _set("models/gold/0/sha256", "0" * 64),
    "the weights of the unlearned model": _set("models/unlearned/0/sha256", "0" * 64),
    "the predictions": _set("predictions", "0" * 64),
    "the digest itself": _set("digest", "0" * 64),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_changed_record_is_found_out(tmp_path: Path, what: str) -> None:
    record = change(written(tmp_path), TAMPERED[what])
    with pytest.raises(DataError, match="its digest does not match its content") as found:
        verify_record(record)
    assert (found.value.code, found.value.where) == ("wrong-digest", str(record.path))


def test_changed_predictions_are_found_out(tmp_path: Path) -> None:
    record = written(tmp_path)
    better = {**ARRAYS, "forget/gold": ARRAYS["forget/gold"] + np.float32(1e-6)}
    (record.folder / PREDICTIONS).write_bytes(pack_arrays(better))
    with pytest.raises(DataError, match="predictions do not match"):
        verify_record(record)


PREDICTIONS_LOST: dict[str, Callable[[Path], None]] = {
    "gone": lambda path: path.unlink(),
    "cut off": lambda path: os.truncate(path, 100),
    "empty": lambda path: path.write_bytes(b""),
    "a pickle": lambda path: path.write_bytes(pack_arrays({"forget/ids": np.array([{"a": 1}], dtype=object)})),
    "not an archive": lambda path: path.write_bytes(b"PK, but nothing more"),
    "one bare array": lambda path: (
        np.save(path.with_suffix(".npy"), np.arange(3)) or path.with_suffix(".npy").rename(path)
    ),
}


@pytest.mark.parametrize("how", PREDICTIONS_LOST)
def test_predictions_that_cannot_be_read_are_one_line(tmp_path: Path, how: str) -> None:
    record = written(tmp_path)
    PREDICTIONS_LOST[how](record.folder / PREDICTIONS)
    with pytest.raises(DataError, match="unreadable-file") as found:
        verify_record(record)
    assert "\n" not in str(found.value)


# -- the digest --------------------------------------------------------------------------------------------------------


def test_what_differs_between_repetitions_is_not_digested() -> None:
    first = document()
    again = copy.deepcopy(first)
    again["created"] = "2031-01-01T00:00:00+00:00"
    again["invocation"] = "f" * 32
    again["environment"]["processor"] = "another one"
    again["costs"]["unlearn"]["cpu_s"] = 99.0
    again["stages"][0]["wall_s"] = 99.0
    again["events"] = ["train entry 0123 was damaged; removed and made again"]
    again["spec"]["scenario"] = None
    assert content_digest(again) == content_digest(first)


def test_readings_of_measures_that_read_the_clock_are_not_digested() -> None:
    first = document()
    again = copy.deepcopy(first)
    for found, seconds in ((first, 1.0), (again, 2.0)):
        found["measures"].append({"name": "run-cost", "timed": True, "status": "ok", "message": ""})
        found["readings"].append({**found["readings"][0], "measure": "run-cost", "key": "cpu-time", "value": seconds})
    assert content_digest(again) == content_digest(first)
    again["measures"][-1]["timed"] = first["measures"][-1]["timed"] = False
    assert content_digest(again) != content_digest(first)


def test_the_digest_of_arrays_sees_names_types_shapes_and_values_but_not_their_order() -> None:
    base = {"a": np.arange(6), "b": np.zeros(2)}
    assert arrays_digest(dict(reversed(base.items()))) == arrays_digest(base)
    others = [
        {"a": np.arange(6), "c": np.zeros(2)},
        {"a": np.arange(6).astype(np.int32), "b": np.zeros(2)},
        {"a": np.arange(6).reshape(2, 3), "b": np.zeros(2)},
        {"a": np.arange(6), "b": -np.zeros(2)},
        {"a": np.arange(6)},
    ]
    assert len({arrays_digest(found) for found in [base, *others]}) == len(others) + 1
    assert arrays_digest({"a": np.arange(6).reshape(2, 3).T.copy().T}) == arrays_digest(
        {"a": np.arange(6).reshape(2, 3)}
    )


def test_the_same_arrays_are_packed_into_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack_arrays(ARRAYS)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert pack_arrays(dict(reversed(ARRAYS.items()))) == first


# -- writing and reading -----------------------------------------------------------------------------------------------


def test_nothing_is_written_when_the_document_is_not_a_record(tmp_path: Path) -> None:
    bad = document()
    bad["status"] = "wonderful"
    with pytest.raises(UnlearnBenchError, match="status"):
        write_record(tmp_path / "run", bad, {PREDICTIONS: b""})
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_json_does_not_have_are_never_written(tmp_path: Path) -> None:
    bad = document()
    bad["readings"][0]["value"] = math.nan
    with pytest.raises((UnlearnBenchError, ValueError)):
        write_record(tmp_path / "run", bad, {})
    assert not list(tmp_path.rglob(RECORD))


def test_a_crash_before_the_record_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(source: Path, target: Path) -> Path:
        if target.name == RECORD:
            raise KeyboardInterrupt
        return replace(source, target)

    replace = Path.replace
    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [PREDICTIONS]


def test_writing_again_replaces_the_record(tmp_path: Path) -> None:
    first = written(tmp_path)
    later = {**document(), "created": "2031-01-01T00:00:00+00:00"}
    write_record(first.folder, later, {})
    assert read_record(first.folder).document["created"] == "2031-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"{", "bad-json"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1, "a": 2}', "a"),
        (b"[]", "object"),
    ],
    ids=["missing", "not text", "cut off", "NaN", "duplicate key", "list"],
)
def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / RECORD
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnlearnBenchError) as found:
        read_record(path)
    assert line in str(found.value)
    assert "\n" not in str(found.value)
    assert str(path) in str(found.value)


def test_values_are_found_by_their_flat_names(tmp_path: Path) -> None:
    record = written(tmp_path)
    assert record.value("accuracy.test") == pytest.approx(0.9659)
    assert record.value("accuracy.test", "gold") == pytest.approx(0.9814)
    assert record.value("accuracy.test.class=1", "original") == 0.9
    with pytest.raises(KeyError, match=r"accuracy\.train"):
        record.value("accuracy.train")


def test_controls_bound_each_reading_and_say_where_a_measure_cannot_tell() -> None:
    found = {c["key"]: c for c in controls(run_document()["readings"])}
    assert found["accuracy.forget"] == {
        "measure": "accuracy", "key": "accuracy.forget", "original": 0.9931, "gold": 0.0, "separates": True,
    }  # fmt: skip
    assert not [key for key in found if "class=" in key]
    blind = [{**r, "value": 0.5} for r in run_document()["readings"]]
    assert {c["separates"] for c in controls(blind)} == {False}
    without = [r for r in run_document()["readings"] if r["subject"] != "gold"]
    assert controls(without) == []


# -- verdicts ----------------------------------------------------------------------------------------------------------


def interval(value: float | None, low: float | None, high: float | None, subject: str = "unlearned") -> Reading:
    return Reading("auc", value, 9, low=low, high=high, subject=subject)


def test_a_verdict_is_what_the_interval_of_the_difference_says() -> None:
    """Zou and Donner by hand: the difference reaches down by the root of 3^2 + 4^2."""
    gold = interval(5, 4, 9)
    assert verdict(interval(10, 7, 11), gold) == "like gold"  # it just touches 0
    assert verdict(interval(10.01, 7.01, 11), gold) == "above gold"
    assert verdict(interval(0, -1, 3), interval(5, 1, 6)) == "like gold"
    assert verdict(interval(-0.01, -1, 2.99), interval(5, 1, 6)) == "below gold"


def test_intervals_that_overlap_may_still_tell_two_readings_apart() -> None:
    assert verdict(interval(10, 7, 13), interval(4, 0, 8)) == "above gold"
    assert verdict(interval(4, 0, 8), interval(10, 7, 13)) == "below gold"


def test_of_lopsided_intervals_only_the_ends_between_the_two_values_count() -> None:
    near, far = interval(0.4, 0.1, 0.43), interval(0.4, 0.37, 0.7)  # short and long towards gold's value
    gold = interval(0.5, 0.46, 0.9)
    assert verdict(near, gold) == "below gold"
    assert verdict(far, gold) == "like gold"
    assert verdict(interval(0.6, 0.57, 0.9), interval(0.5, 0.1, 0.54)) == "above gold"
    assert verdict(interval(0.6, 0.57, 0.9), interval(0.5, 0.46, 0.9)) == "like gold"


@pytest.mark.parametrize("missing", ["value", "low", "high"])
def test_without_a_value_or_an_interval_there_is_no_verdict(missing: str) -> None:
    whole = {"value": 0.9, "low": 0.8, "high": 0.95}
    lacking = interval(**{**whole, missing: None})
    assert verdict(interval(**whole), interval(0.5, 0.4, 0.6)) == "above gold"
    assert verdict(lacking, interval(0.5, 0.4, 0.6)) is None
    assert verdict(interval(0.5, 0.4, 0.6), lacking) is None


def test_gold_itself_and_readings_that_gold_lacks_get_no_verdict() -> None:
    mine, gold = interval(0.9, 0.8, 0.95), interval(0.5, 0.4, 0.6, "gold")
    found = reading_json(mine, "probe", {gold.key: gold})
    assert (found["verdict"], found["gap"], found["interval"]) == ("above gold", 0.4, [0.8, 0.95])
    assert reading_json(gold, "probe", {gold.key: gold})["verdict"] is None
    assert reading_json(mine, "probe", {})["verdict"] is None
