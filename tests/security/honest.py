"""One real submission that all attacks start from, and what a refusal must look like."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import shared
from security.corpus import raw_controls
from submissions import read
from support import Done, call

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.identity import file_digest
from unlearnbench.leaderboard.bundle import seal
from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.leaderboard.read import outputs, read_submission
from unlearnbench.plugins import printable
from unlearnbench.record import Record

UNLEARNER = "finetune"
LINE = re.compile(r"error: \[[a-z][a-z-]*\] \S.*")
REFUSED = {1, 2, 3, 5}


@cache
def workplace() -> Path:
    """A folder for what all test modules of a process share."""
    folder = Path(tempfile.mkdtemp(prefix="unlearnbench-security-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def records() -> tuple[Record, ...]:
    """Real runs of one unlearner on the suite's first scenario, for all seeds."""
    return shared.records(UNLEARNER)


def honest() -> Path:
    """A submission of them that passes. It is shared: change copies of it."""
    return shared.honest()


def copied(to: Path, change: Callable[[Path], object] = lambda folder: None) -> Path:
    """A copy with a change, its digests as they were."""
    shutil.copytree(honest(), to)
    change(to)
    return to


def relist(folder: Path) -> Path:
    """List the files as they are now and make the Statement again, whatever the files hold."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    document = read(folder / SUBMISSION)
    for kind in ("predictions", "weights"):
        for path in sorted((folder / kind).glob("*.safetensors")):
            right = path.with_name(f"{file_digest(path)}.safetensors")
            path.replace(right)
            for run in document["runs"]:
                for subject, name in (run[kind] or {}).items():
                    if name == f"{kind}/{path.name}":
                        run[kind][subject] = f"{kind}/{right.name}"
    listed = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    document["files"] = {
        name: {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for name, path in listed.items()
        if name not in (SUBMISSION, STATEMENT)
    }
    seal(folder, document)
    return folder


def first(folder: Path, kind: str) -> Path:
    """The first file of a folder of a submission."""
    return min((folder / kind).iterdir())


def verified(path: Path, *arguments: str | Path) -> Done:
    """What ``leaderboard verify`` says, in this process."""
    return call("leaderboard", "verify", path, *arguments)


def assert_unreadable(path: Path, *words: str) -> None:
    """Refused while it is read, outputs of all models included, by an error whose line has all of ``words``.

    Faster than all of ``verify``, which loads data and measures before it comes to outputs.
    """
    with pytest.raises(DataError) as refused:
        _read_through(path)
    line = f"error: {refused.value}"
    assert_refused(Done(refused.value.exit_code, "", f"{printable(line)}\n"), *words)
    assert not raw_controls(line), line


def _read_through(path: Path) -> None:
    submission = read_submission(path)
    for run in submission.runs:
        for subject in SUBJECTS:
            outputs(submission, run, subject)


def assert_clean(done: Done) -> None:
    """No traceback, no bug, nothing that a terminal would obey."""
    output = done.stdout + done.stderr
    assert "Traceback" not in output, output
    assert "[internal]" not in output, output
    assert not raw_controls(output), sorted(raw_controls(output))


def assert_refused(done: Done, *words: str) -> None:
    """Refused in lines that each name a code and a place; one of them has all of ``words``."""
    assert_clean(done)
    assert done.rc in REFUSED, (done.rc, done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert lines, done.stderr
    assert all(LINE.fullmatch(line) and len(line) < 1000 for line in lines), lines
    assert any(all(word in line for word in words) for line in lines), (words, lines)
