"""Each rule of ``tests/gate.py`` finds what breaks it, on a leaderboard with a real submission."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gate
import pytest
from submissions import edited, edited_reading, tampered

from unlearnbench.leaderboard.verify import examine
from unlearnbench.registry import registry

pytestmark = pytest.mark.usefixtures("measured_once")

NAME = "small"


def line(folder: Path) -> str:
    """What sha256sum prints for a submission, called from the root of a checkout."""
    digest = hashlib.sha256((folder / "submission.json").read_bytes()).hexdigest()
    return f"{digest}  leaderboard/submissions/{folder.name}/submission.json\n"


@pytest.fixture
def board(small_submission: Path, tmp_path: Path) -> Path:
    """A leaderboard with one submission, of which everything is right."""
    root = tmp_path / "leaderboard"
    shutil.copytree(small_submission, root / "submissions" / NAME)
    (root / "verifications").mkdir()
    (root / "submissions.txt").write_text(line(root / "submissions" / NAME), "utf-8")
    return root


@pytest.fixture(scope="module")
def found(small_submission: Path) -> dict[str, Any]:
    """A maintainer's verification of it."""
    return examine(small_submission, "recomputed-metrics", registry=registry()).to_json()


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_leaderboard_of_which_everything_is_right_breaks_no_rule(board: Path) -> None:
    (folder,) = gate.folders(board)
    assert [*gate.strays(board), *gate.unlisted(board), *gate.wrong_history(board)] == []
    assert [*gate.too_large(folder), *gate.misnamed(folder), *gate.unknown_plugins(folder, registry())] == []
    assert gate.wrong(folder, registry()) == []


@pytest.mark.parametrize(
    "path", ["notes.txt", "submissions/packed.zip", "verifications/other.json", "verifications/small.txt"]
)
def test_a_file_without_a_place_is_named(path: str, board: Path) -> None:
    (board / path).write_text("x", "utf-8")
    (problem,) = gate.strays(board)
    assert problem.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "", "add the line"),
        (lambda text: text * 2, "stands there twice"),
        (lambda text: text.replace("small", "another"), "another was here, and submissions/another is gone"),
        (lambda text: "0" * 64 + text[64:], "is not what submissions.txt says"),
        (lambda text: text + "anything\n", "line 2 is not what sha256sum prints"),
    ],
    ids=["missing", "twice", "gone", "changed", "nonsense"],
)
def test_the_list_must_be_that_of_the_submissions(change: Callable[[str], str], says: str, board: Path) -> None:
    path = board / "submissions.txt"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    assert any(says in problem for problem in gate.unlisted(board))


def test_the_line_that_is_missing_is_shown_as_it_must_be(board: Path) -> None:
    (board / "submissions.txt").unlink()
    (problem,) = gate.unlisted(board)
    (board / "submissions.txt").write_text(f"{problem.removeprefix('submissions.txt: add the line ')}\n", "utf-8")
    assert list(gate.unlisted(board)) == []


def test_a_submission_that_a_commit_had_cannot_be_removed_or_changed(board: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(board.parent), *words], check=True, capture_output=True)

    git("init", "--quiet")
    git("add", "leaderboard/submissions.txt")
    git("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "a submission")
    assert list(gate.removed(board, "HEAD")) == []
    path = board / "submissions.txt"
    text = path.read_text("utf-8")
    path.write_text(text + text.replace("small", "another"), "utf-8")
    assert list(gate.removed(board, "HEAD")) == []  # one more is no harm
    path.write_text("0" * 64 + text[64:], "utf-8")
    assert list(gate.removed(board, "HEAD")) == ["submissions.txt: the line of small was changed"]
    path.unlink()
    assert list(gate.removed(board, "HEAD")) == ["submissions.txt: the line of small was removed"]
    with pytest.raises(gate.Unavailable):
        list(gate.removed(board, "HEAD^1"))


def test_what_is_too_large_for_a_repository_is_named(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = board / "submissions" / NAME
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    monkeypatch.setattr(gate, "MOST_FILE", largest.stat().st_size - 1)
    problems = list(gate.too_large(folder))
    assert problems
    assert any(largest.name in problem for problem in problems)
    monkeypatch.setattr(gate, "MOST_SUBMISSION", largest.stat().st_size)
    assert f"{NAME}: is larger than" in list(gate.too_large(folder))[-1]


def test_a_submission_in_a_folder_of_another_name_is_named(board: Path) -> None:
    folder = (board / "submissions" / NAME).rename(board / "submissions" / "renamed")
    assert list(gate.misnamed(folder)) == ["renamed: its name is small"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (edited("submission.json", "suite", "sha256", value="0" * 64), "was made for another quick/v1"),
        (edited("submission.json", "suite", "name", value="quick/v9"), "quick/v9"),
        (lambda folder: (folder / "statement.json").unlink(), "statement.json"),
    ],
    ids=["other-suite", "no-suite", "no-statement"],
)
def test_what_a_submission_says_wrongly_of_itself_is_named(
    change: Callable[[Path], None], says: str, board: Path, tmp_path: Path
) -> None:
    """``tampered`` writes the statement anew, so that only the change is wrong."""
    folder = tampered(board / "submissions" / NAME, change, tmp_path / NAME, mend=says != "statement.json")
    assert any(says in problem for problem in gate.misnamed(folder))


def test_a_plugin_from_elsewhere_must_be_listed_with_its_version_and_its_runs_are_left_to_who_has_it(
    board: Path, tmp_path: Path
) -> None:
    folder = board / "submissions" / NAME
    place = json.loads((folder / "submission.json").read_bytes())["plugins"]
    other = [*place, {"distribution": "unlearnbench-elsewhere", "version": "1.2"}]
    shutil.move(folder, tmp_path / "before")
    tampered(tmp_path / "before", edited("submission.json", "plugins", value=other), folder)
    (problem,) = gate.unknown_plugins(folder, registry())
    assert "unlearnbench-elsewhere 1.2 is neither installed nor" in problem
    listed = board / "plugins.txt"
    listed.write_text("# a comment\nunlearnbench-elsewhere==1.1\n", "utf-8")
    assert list(gate.unknown_plugins(folder, registry())) == [problem]
    listed.write_text(f"unlearnbench-elsewhere==1.2 --hash=sha256:{'0' * 64}\n", "utf-8")
    assert list(gate.unknown_plugins(folder, registry())) == []
    with pytest.raises(gate.Unavailable, match="unlearnbench-elsewhere"):
        gate.wrong(folder, registry())


@pytest.mark.parametrize("was_verified", [False, True])
def test_a_reading_that_does_not_follow_is_found_whether_or_not_a_verification_lies_there(
    was_verified: bool, board: Path, tmp_path: Path, found: dict[str, Any]
) -> None:
    folder = board / "submissions" / NAME
    shutil.move(folder, tmp_path / "before")

    def forge(copy: Path) -> None:
        for seed in range(5):  # so that it is found in whichever runs are looked at
            edited_reading("finetune", seed, "accuracy.test", 1.5)(copy)
            edited_reading("identity", seed, "accuracy.test", 1.5)(copy)

    tampered(tmp_path / "before", forge, folder)
    if was_verified:
        digest = hashlib.sha256((folder / "submission.json").read_bytes()).hexdigest()
        forged = {**found, "submission": {"name": NAME, "sha256": digest}}
        write(board / "verifications" / f"{NAME}.json", forged)
    problems = gate.wrong(folder, registry())
    assert problems
    assert all("accuracy" in problem or "control" in problem for problem in problems)


# -- verifications and retractions -------------------------------------------------------------------------------------


def test_a_verification_of_the_submission_as_it_is_breaks_no_rule(board: Path, found: dict[str, Any]) -> None:
    path = write(board / "verifications" / f"{NAME}.json", found)
    assert list(gate.wrong_verification(path)) == []
    assert list(gate.wrong_history(board)) == []
    assert gate.wrong(board / "submissions" / NAME, registry()) == []


def changed(document: dict[str, Any], *path: str | int, value: Any) -> dict[str, Any]:
    other = json.loads(json.dumps(document))
    place = other
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return dict(other)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("submission", "sha256"), "0" * 64, "is of another submission"),
        (("entries", 0, "unlearner"), "salun", "has not the unlearners"),
        (("asked",), "rerun", "the check of rerun is missing"),
        (("level",), "rerun", "the check of recomputed-metrics is passed"),
        (("entries", 0, "level"), "rerun", "no run was looked at for it"),
        (("entries", 0, "rerun"), 5, "runs made again"),
        (("checks", 0, "outside"), 1, "not all of its readings agree"),
        (("checks", 0, "same"), 0, "another number of readings than verdicts"),
        (("checks", 0, "status"), "failed", "the check of recomputed-metrics is failed"),
        (("passed",), False, ""),
        (("sample",), {"seed": 7, "runs": ["another"]}, "not those that were made again"),
        (("level",), "certain", "certain"),
    ],
)
def test_a_verification_that_says_more_than_it_found_is_refused(
    path: tuple[str | int, ...], value: Any, says: str, board: Path, found: dict[str, Any]
) -> None:
    problems = list(
        gate.wrong_verification(write(board / "verifications" / f"{NAME}.json", changed(found, *path, value=value)))
    )
    if says:
        assert any(says in problem for problem in problems), problems
    else:
        assert problems == []  # a verification that did not pass may be kept, and then everything is computed again


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"submission": NAME, "unlearner": None, "date": "2027-01-31", "reason": "A slip."}, ""),
        ({"submission": NAME, "unlearner": "finetune", "date": "2027-01-31", "reason": "A slip."}, ""),
        ({"submission": NAME, "unlearner": "salun", "date": "2027-01-31", "reason": "A slip."}, "no unlearner salun"),
        ({"submission": "none", "unlearner": None, "date": "2027-01-31", "reason": "A slip."}, "no submission 'none'"),
        ({"submission": NAME, "unlearner": None, "date": "31 January", "reason": "A slip."}, "is no date"),
        ({"submission": NAME, "unlearner": None, "date": "2027-01-31", "reason": " "}, "is empty"),
        ({"submission": NAME, "date": "2027-01-31", "reason": "A slip."}, "must have exactly"),
    ],
)
def test_a_retraction_names_an_entry_that_is_here_a_day_and_a_reason(
    item: dict[str, Any], says: str, board: Path
) -> None:
    write(board / "retractions.yaml", [item])  # JSON is YAML
    problems = list(gate.wrong_history(board))
    assert bool(problems) == bool(says)
    assert says in "".join(problems)
