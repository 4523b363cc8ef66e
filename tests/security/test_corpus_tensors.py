"""Predictions that are no safetensors, lie about themselves, or are not those of the run; all digests are mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from security.corpus import lying_tensors, pickles, tensors
from security.honest import UNLEARNER, assert_refused, assert_unreadable, copied, relist, verified
from submissions import run_of

from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.tensors import OUTPUTS, read_tensors, write_tensors

pytestmark = pytest.mark.usefixtures("measured_once")

Arrays = dict[str, np.ndarray[Any, Any]]
liars = cache(lying_tensors)


def predictions(folder: Path, seed: int = 0, subject: str = "unlearned") -> Path:
    return folder / str(run_of(folder, UNLEARNER, seed)["predictions"][subject])


def replaced(to: Path, content: bytes, subject: str = "unlearned") -> Path:
    """A copy whose first run has these bytes for outputs."""
    folder = copied(to)
    predictions(folder, subject=subject).write_bytes(content)
    return relist(folder)


def arrays_of(folder: Path, seed: int = 0, subject: str = "unlearned") -> Arrays:
    return read_tensors(predictions(folder, seed, subject).read_bytes(), "", most=9, kinds=OUTPUTS)


@pytest.mark.parametrize("kind", sorted(liars()))
def test_tensors_that_lie_are_refused(kind: str, tmp_path: Path) -> None:
    assert_unreadable(replaced(tmp_path / "copy", liars()[kind]), "predictions/", ".safetensors")


def test_tensors_that_lie_are_a_line_of_verify(tmp_path: Path) -> None:
    done = verified(replaced(tmp_path / "copy", liars()["100,000 tensors"]))
    assert_refused(done, "[bad-tensors]", "predictions/", "header of more than 1 MiB")
    assert done.rc == 1


@pytest.mark.parametrize("kind", sorted(pickles(Path("nowhere"))))
@pytest.mark.parametrize("place", ["predictions", "record", SUBMISSION, "archive"])
def test_a_pickle_under_another_name_is_refused_and_never_loaded(kind: str, place: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    content = pickles(canary)[kind]
    if place == "predictions":
        target = replaced(tmp_path / "copy", content)
    elif place == "archive":
        target = tmp_path / "copy.zip"
        target.write_bytes(content)
    else:
        target = copied(tmp_path / "copy")
        inner = min((target / "records").iterdir()) if place == "record" else target / place
        inner.write_bytes(content)
        if place == "record":
            relist(target)
    assert_unreadable(target)
    if kind == "a torch file":
        assert_refused(verified(target))
    assert not canary.exists()


def test_the_payload_would_touch_the_canary(tmp_path: Path) -> None:
    import pickle

    pickle.loads(pickles(tmp_path / "canary")["a pickle"])
    assert (tmp_path / "canary").exists()


CHANGES: dict[str, Callable[[Arrays], Arrays]] = {
    "a row fewer": lambda a: {**a, "forget": a["forget"][:-1]},
    "a row more": lambda a: {**a, "retain": np.concatenate([a["retain"], a["retain"][:1]])},
    "no rows": lambda a: {**a, "forget": a["forget"][:0]},
    "a class fewer": lambda a: {**a, "retain": np.ascontiguousarray(a["retain"][:, 1:])},
    "a split missing": lambda a: {k: v for k, v in a.items() if k != "forget"},
    "labels beside them": lambda a: {**a, "y": np.zeros((len(a["test"]), 10), np.float16)},
    "ids beside them": lambda a: {**a, "forget/ids": a["forget"]},
    "double precision": lambda a: {k: v.astype(np.float64) for k, v in a.items()},
    "integers": lambda a: {k: v.astype(np.int32) for k, v in a.items()},
    "flat": lambda a: {k: v.reshape(-1) for k, v in a.items()},
    "a number only": lambda a: {**a, "forget": np.float16(1).reshape(())},
    "not a number": lambda a: {**a, "forget": np.full_like(a["forget"], np.nan)},
    "one infinity": lambda a: {**a, "test": np.where(np.arange(10) == 7, np.inf, a["test"]).astype(a["test"].dtype)},
    "splits swapped": lambda a: {**a, "retain": a["test"], "test": a["retain"]},
    "a name with an escape": lambda a: {**a, "\x1b[2J": a["forget"]},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_outputs_that_cannot_be_those_of_the_run_are_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    path = predictions(folder)
    content = write_tensors(CHANGES[kind](dict(arrays_of(folder))))
    path.write_bytes(content)
    assert_unreadable(relist(folder), "predictions/")


ROWS = {
    "a test row more": lambda a: {**a, "test": np.concatenate([a["test"], a["test"][:1]])},
    "no test rows": lambda a: {k: v for k, v in a.items() if k != "test"},
}
"""How many rows of the test data count is known to those who have the data."""


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_outputs_for_other_rows_than_those_of_the_data_are_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    predictions(folder).write_bytes(write_tensors(ROWS[kind](dict(arrays_of(folder)))))
    assert_refused(verified(relist(folder)), "predictions/", "test has", "unlearned of run")


OTHERS: dict[str, Callable[[Arrays], Arrays]] = {
    "rows permuted": lambda a: {**a, "test": np.ascontiguousarray(a["test"][::-1])},
    "classes permuted": lambda a: {k: np.ascontiguousarray(v[:, ::-1]) for k, v in a.items()},
    "all the same": lambda a: {k: np.full_like(v, -2.3) for k, v in a.items()},
    "the largest float": lambda a: {k: np.full_like(v, np.finfo(v.dtype).max) for k, v in a.items()},
    "scaled": lambda a: {k: (v * 2).astype(v.dtype) for k, v in a.items()},
}


@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_outputs_that_do_not_give_the_readings_are_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    predictions(folder).write_bytes(write_tensors(OTHERS[kind](dict(arrays_of(folder)))))
    assert_refused(verified(relist(folder)), f".{UNLEARNER}.s0.", "readings", "value")


@pytest.mark.parametrize(("one", "other"), [((0, "unlearned"), (1, "unlearned")), ((0, "unlearned"), (0, "original"))])
def test_outputs_of_another_model_are_refused(one: tuple[int, str], other: tuple[int, str], tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    here, there = predictions(folder, *one), predictions(folder, *other)
    assert here != there
    document = json.loads((folder / SUBMISSION).read_text())
    for run in document["runs"]:
        if f".s{one[0]}." in run["id"]:
            run["predictions"][one[1]] = there.relative_to(folder).as_posix()
    here.unlink()
    (folder / SUBMISSION).write_text(json.dumps(document))
    assert_refused(verified(relist(folder)), f".{UNLEARNER}.s0.", "readings")


def test_a_shared_file_may_not_have_metadata_that_nobody_reads(tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    path = predictions(folder)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    path.write_bytes(tensors({"__metadata__": {"note": "<script>alert(1)</script>"}, **header}, data[8 + length :]))
    assert_unreadable(relist(folder), "predictions/")
