"""JSON that hurts a careless parser, as every document of a submission."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import pytest
from security.corpus import hurtful_json
from security.honest import assert_refused, copied, first, relist, verified

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.schemas import load_json, validate

documents = cache(hurtful_json)
SLOW = 15
"""Seconds on a busy core; a quadratic reader takes hours."""
KINDS = sorted(documents())


@pytest.mark.parametrize("kind", KINDS)
def test_hurtful_json_is_no_submission_and_soon_refused(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises((UnlearnBenchError, UnicodeDecodeError)):
        validate(load_json(documents()[kind].decode()), "submission")
    assert time.monotonic() - began < SLOW


@pytest.mark.parametrize("kind", KINDS)
def test_hurtful_json_in_place_of_the_submission_is_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    (folder / SUBMISSION).write_bytes(documents()[kind])
    assert_refused(verified(folder), SUBMISSION)


@pytest.mark.parametrize("kind", KINDS)
def test_hurtful_json_in_place_of_a_record_is_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    record = first(folder, "records")
    record.write_bytes(documents()[kind])
    assert_refused(verified(relist(folder)), f"records/{record.name}")


@pytest.mark.parametrize("kind", KINDS)
def test_hurtful_json_in_place_of_the_statement_is_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    (folder / STATEMENT).write_bytes(documents()[kind])
    assert_refused(verified(folder), STATEMENT)


@pytest.mark.parametrize("kind", ["deep lists", "a million elements", "nan", "nothing", "a list", "a lone surrogate"])
def test_hurtful_json_in_place_of_the_signature_is_refused(kind: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    (folder / SIGNATURE).write_bytes(documents()[kind])
    key = tmp_path / "key.pub"
    key.write_text("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")
    assert_refused(verified(folder, "--public-key", key))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"better":', '"better":NaN,"worse":'),
        ('"better":', '"n":1e400,"better":'),
        ('"better":', '"better":"lower","better":'),
        ('"threads":1', '"threads":' + "9" * 4000),
        ('"cores":', '"cores":' + "9" * 400 + ',"x":'),
        ('"better":', '"\\ud800":0,"better":'),
        ('"processor":"', '"processor":"\\ud800'),
    ],
)
def test_a_record_that_is_hurtful_in_one_place_is_refused(old: str, new: str, tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    record = first(folder, "records")
    text = record.read_text()
    assert old in text
    record.write_text(text.replace(old, new, 1))
    assert_refused(verified(relist(folder)), f"records/{record.name}")
