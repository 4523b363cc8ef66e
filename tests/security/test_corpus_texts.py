"""Texts that run somewhere: in a browser, a terminal or a spreadsheet. They are kept or refused, and never obeyed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from security.corpus import FORMULAS, LINKS, SCRIPTS, TERMINAL, raw_controls
from security.honest import UNLEARNER, assert_clean, assert_refused, assert_unreadable, copied, honest, verified
from submissions import edited, edited_record, tampered
from support import spawn

from unlearnbench.leaderboard.layout import SUBMISSION

pytestmark = pytest.mark.usefixtures("measured_once")

HOSTILE = "".join((*SCRIPTS, *TERMINAL, *FORMULAS)).replace("\n", " ")
SHORT = "<script>\x1b]0;owned\x07\u202e\x9b31m=1+1"

KEPT: dict[str, tuple[Any, ...]] = {
    "notes": (SUBMISSION, ("statement", "notes"), HOSTILE),
    "author": (SUBMISSION, ("statement", "authors"), [SHORT, "A. Author"]),
    "warning": ("record", ("warnings",), [HOSTILE]),
    "processor": ("record", ("environment", "processor"), HOSTILE),
    "certificate": ("record", ("certificate",), {SHORT: HOSTILE}),
}
"""Fields that may hold any text: what shows them has to see to it that nothing of it is obeyed."""

REFUSED: dict[str, tuple[Any, ...]] = {
    "name": (SUBMISSION, ("name",), SHORT),
    "licence": (SUBMISSION, ("statement", "licence"), SHORT),
    "date": (SUBMISSION, ("created",), SHORT),
    "suite": (SUBMISSION, ("suite", "name"), SHORT),
    "access": (SUBMISSION, ("statement", "tuning", "access"), SHORT),
    "plugin": (SUBMISSION, ("plugins", 0, "distribution"), SHORT),
    "version of a plugin": (SUBMISSION, ("plugins", 0, "version"), SHORT),
    "run": (SUBMISSION, ("runs", 0, "id"), SHORT),
    "file of a record": (SUBMISSION, ("runs", 0, "record"), SHORT),
    "property": (SUBMISSION, (SHORT,), 1),
    "unlearner": ("record", ("spec", "unlearner", "name"), SHORT),
    "parameter": ("record", ("spec", "unlearner", "params", SHORT), 1),
    "scenario": ("record", ("spec", "scenario"), SHORT),
    "trainer": ("record", ("trainer",), SHORT),
    "component": ("record", ("components", 2, "name"), SHORT),
    "distribution": ("record", ("components", 2, "distribution"), SHORT),
    "version of a component": ("record", ("components", 2, "version"), SHORT),
    "version of a distribution": ("record", ("components", 2, "distribution_version"), SHORT),
    "key of a reading": ("record", ("readings", 0, "key"), SHORT),
    "unit of a reading": ("record", ("readings", 0, "unit"), SHORT),
    "place of a reading": ("record", ("readings", 0, "at"), {SHORT: SHORT}),
    "measure": ("record", ("measures", 0, "name"), SHORT),
    "id of a record": ("record", ("id",), SHORT),
    "error of a run that has none": ("record", ("error",), dict.fromkeys(("code", "where", "message", "hint"), SHORT)),
    "request": ("record", ("spec", "requests", 0, "classes"), [SHORT]),
    "file of the data": ("record", ("data", "files"), {SHORT: "0" * 64}),
}


def with_text(field: tuple[Any, ...], to: Path) -> Path:
    file, path, value = field
    change = edited_record(UNLEARNER, 0, *path, value=value) if file == "record" else edited(file, *path, value=value)
    return tampered(honest(), change, to)


@pytest.mark.parametrize("field", REFUSED)
def test_a_field_that_has_a_form_refuses_text_that_runs_and_prints_none_of_it(field: str, tmp_path: Path) -> None:
    assert_refused(verified(with_text(REFUSED[field], tmp_path / "copy")))


@pytest.mark.parametrize("field", KEPT)
def test_free_text_is_kept_and_printed_harmlessly(field: str, tmp_path: Path) -> None:
    folder = with_text(KEPT[field], tmp_path / "copy")
    done = verified(folder, "--json")
    assert done.rc == 0, done.stderr
    assert_clean(done)
    assert done.json()["passed"] is True


def test_every_hostile_text_may_be_the_name_of_an_author(tmp_path: Path) -> None:
    texts = [text.replace("\n", " ") for text in (*SCRIPTS, *TERMINAL, *FORMULAS)]
    done = verified(tampered(honest(), edited(SUBMISSION, "statement", "authors", value=texts), tmp_path / "copy"))
    assert done.rc == 0, done.stderr
    assert_clean(done)


@pytest.mark.parametrize("link", LINKS)
def test_a_link_that_is_none_to_a_paper_is_refused(link: str, tmp_path: Path) -> None:
    folder = tampered(honest(), edited(SUBMISSION, "statement", "paper", value=link), tmp_path / "copy")
    assert_unreadable(folder, SUBMISSION, "$.statement.paper")


@pytest.mark.parametrize("text", [*TERMINAL, *SCRIPTS], ids=repr)
def test_a_path_that_rewrites_terminals_is_printed_harmlessly(text: str, tmp_path: Path) -> None:
    assert_refused(verified(tmp_path / text.replace("\x00", "").replace("/", "_")))


def test_the_bytes_that_a_terminal_sees_hold_no_command(tmp_path: Path) -> None:
    folder = copied(tmp_path / "copy")
    (folder / SUBMISSION).write_text(json.dumps({SHORT: SHORT}), "utf-8")
    (folder / "records" / "\x1b]0;owned\x07").write_bytes(b"")
    for done in (spawn("leaderboard", "verify", folder, cwd=tmp_path), verified(folder / SUBMISSION)):
        assert_refused(type(done)(done.rc, done.stdout, done.stderr))
        assert not raw_controls(done.stdout + done.stderr)


def test_a_report_holds_no_command_either(tmp_path: Path) -> None:
    folder = with_text(REFUSED["component"], tmp_path / "copy")
    done = verified(folder, "--json", "--report", tmp_path / "report.json")
    assert done.rc == 3
    assert_clean(done)
    assert not raw_controls((tmp_path / "report.json").read_text("utf-8"))
