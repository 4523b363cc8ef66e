"""The gate of the leaderboard: what lies in ``leaderboard/`` keeps its rules.

``make check-submissions`` runs this module alone. ``SUBMISSIONS_BASE`` names the commit from which nothing may vanish;
without it that is the last one.
"""

from __future__ import annotations

import os
from pathlib import Path

import gate
import pytest

from unlearnbench.registry import registry

ROOT = Path(__file__).parent.parent / "leaderboard"
BASE = os.environ.get("SUBMISSIONS_BASE", "HEAD")
SUBMISSIONS = gate.folders(ROOT)
VERIFICATIONS = sorted((ROOT / "verifications").glob("*.json"))

of_each_submission = pytest.mark.parametrize("folder", SUBMISSIONS, ids=lambda path: path.name)


def test_everything_has_its_place() -> None:
    assert {"README.md", "suites", "submissions.txt", "plugins.txt"} <= {path.name for path in ROOT.iterdir()}
    assert list(gate.strays(ROOT)) == []


def test_the_list_has_every_submission_as_it_is() -> None:
    assert list(gate.unlisted(ROOT)) == []


def test_no_submission_is_removed_or_changed() -> None:
    try:
        gone = list(gate.removed(ROOT, BASE))
    except gate.Unavailable as reason:
        pytest.skip(str(reason))
    assert gone == []


def test_verifications_can_be_read_and_retractions_name_entries_that_are_here() -> None:
    assert list(gate.wrong_history(ROOT)) == []


@of_each_submission
def test_a_submission_is_small(folder: Path) -> None:
    assert list(gate.too_large(folder)) == []


@of_each_submission
def test_a_submission_is_what_it_says_of_itself(folder: Path) -> None:
    assert list(gate.misnamed(folder)) == []


@of_each_submission
def test_the_plugins_of_a_submission_can_be_had(folder: Path) -> None:
    assert list(gate.unknown_plugins(folder, registry())) == []


@of_each_submission
def test_the_readings_of_a_submission_follow_from_its_outputs(folder: Path) -> None:
    try:
        problems = gate.wrong(folder, registry())
    except gate.Unavailable as reason:
        pytest.skip(str(reason))
    assert problems == []


@pytest.mark.parametrize("path", VERIFICATIONS, ids=lambda path: path.stem)
def test_a_verification_is_of_the_submission_that_is_here(path: Path) -> None:
    assert list(gate.wrong_verification(path)) == []
