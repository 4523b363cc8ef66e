"""What takes time or memory, refused by a child that may use little more than for an honest submission."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from security.corpus import Member, archive, hurtful_json, lying_tensors, many_members, overlapping, quoted_overlap
from security.honest import UNLEARNER, assert_refused, copied, first, honest, relist, workplace
from security.limits import Ended, limited
from submissions import run_of
from support import Done

from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.package import MOST_FILES

SECONDS = 20
"""Of processor time for one attack."""
MORE_MB = 256
"""Memory that an attack may cost beyond what an honest submission of a megabyte does."""


def with_submission(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(to: Path) -> Path:
        copied(to)
        (to / SUBMISSION).write_bytes(content())
        return to

    return make


def with_record(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(to: Path) -> Path:
        copied(to)
        first(to, "records").write_bytes(content())
        return relist(to)

    return make


def with_outputs(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(to: Path) -> Path:
        copied(to)
        (to / run_of(to, UNLEARNER, 0)["predictions"]["unlearned"]).write_bytes(content())
        return relist(to)

    return make


def as_zip(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(to: Path) -> Path:
        path = to.with_suffix(".zip")
        path.write_bytes(content())
        return path

    return make


def many_files(to: Path) -> Path:
    copied(to)
    for number in range(MOST_FILES + 1):
        (to / "records" / f"r{number}.json").touch()
    return to


def hollow(to: Path) -> Path:
    """A file of three gigabytes that takes no space."""
    copied(to)
    with first(to, "predictions").open("r+b") as file:
        file.truncate(3 * 2**30)
    return to


def pipe(to: Path) -> Path:
    copied(to)
    (to / SUBMISSION).unlink()
    os.mkfifo(to / SUBMISSION)
    return to


def bomb(size: int | None = None) -> bytes:
    return archive([Member(SUBMISSION.encode(), bytes(400 * 2**20), size=size)])


NAMES = [SUBMISSION, *(f"records/r{number}.json" for number in range(1000))]
HEAVY: dict[str, Callable[[Path], Path]] = {
    "a million keys": with_submission(lambda: hurtful_json()["a million keys, all twice"]),
    "a million elements": with_submission(lambda: hurtful_json()["a million elements"]),
    "a record of a million elements": with_record(lambda: b'{"readings":[' + b",".join([b"{}"] * 10**6) + b"]}"),
    "deep lists": with_record(lambda: hurtful_json()["deep lists"]),
    "400,000 values": with_submission(lambda: b'{"runs":[' + b",".join([b"0"] * 400_000) + b"]}"),
    "400,000 files": with_submission(lambda: b'{"files":{' + b",".join(b'"%d":{}' % n for n in range(400_000)) + b"}}"),
    "100,000 tensors": with_outputs(lambda: lying_tensors()["100,000 tensors"]),
    "a header of 100 MB": with_outputs(lambda: lying_tensors()["a header of 100 MB"]),
    "a bomb": as_zip(bomb),
    "a bomb that declares little": as_zip(lambda: bomb(size=1000)),
    "entries of one header": as_zip(lambda: overlapping(NAMES, 4 * 2**20)),
    "entries that quote each other": as_zip(lambda: quoted_overlap(NAMES[:200], 4 * 2**20)),
    "70,000 entries": as_zip(lambda: many_members(70_000)),
    "20,001 files": many_files,
    "a hollow file": hollow,
    "a pipe": pipe,
}


@cache
def ended() -> dict[str, Ended]:
    """How all attacks ended, after an honest submission."""
    attacks, cwd = workplace() / "attacks", workplace() / "empty"
    attacks.mkdir()
    cwd.mkdir()
    made = {kind: make(attacks / str(number)) for number, (kind, make) in enumerate(HEAVY.items())}
    before = listing(attacks)
    found = limited([honest(), *made.values()], cwd)
    assert listing(attacks) == before
    assert not list(cwd.iterdir())
    return dict(zip(["honest", *made], found, strict=True))


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns) for p in folder.rglob("*"))


def test_an_honest_submission_passes_within_the_limits() -> None:
    assert ended()["honest"].rc == 0, ended()["honest"].stderr


@pytest.mark.parametrize("kind", HEAVY)
def test_what_is_heavy_is_refused_in_bounded_time_and_memory(kind: str) -> None:
    found = ended()[kind]
    assert_refused(Done(found.rc, found.stdout, found.stderr))
    assert found.seconds < SECONDS
    assert found.peak_mb < ended()["honest"].peak_mb + MORE_MB
