"""From boards to a folder of files: whole or not at all, the same bytes for the same boards."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlearnbench.api.errors import DataError
from unlearnbench.leaderboard.board import Board, Change
from unlearnbench.leaderboard.site.downloads import as_csv, as_json, as_parquet
from unlearnbench.leaderboard.site.feed import latest_first
from unlearnbench.leaderboard.site.pages import Pages
from unlearnbench.report.templates import FOLDER as SHARED
from unlearnbench.store import cannot_write

MARKER = ".unlearnbench-site"
"""Says that a folder is a site of ours, and which files are: a folder with any other file is not replaced."""
STATIC = Path(__file__).parent / "static"


def build_site(boards: Sequence[Board], changes: Sequence[Change], out: Path) -> None:
    """Write the site into a folder, in place of a site that is there.

    Raises:
        DataError: the folder has other files in it, or cannot be written.
    """
    _refuse_others(out)
    ordered = sorted(boards, key=lambda board: (not board.official, board.suite.name))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".tmp-site-", dir=out.parent))
        try:
            _write(made, _files(ordered, latest_first(changes)))
            _replace(made, out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as problem:
        raise cannot_write(out, problem) from problem


def _files(boards: Sequence[Board], changes: Sequence[Change]) -> Iterator[tuple[str, bytes]]:
    colours = (SHARED / "colours.css").read_bytes()
    yield "static/board.css", colours + (STATIC / "board.css").read_bytes()
    for name in ("board.js", "icon.svg"):
        yield f"static/{name}", (STATIC / name).read_bytes()
    pages = Pages(boards, changes)
    for board in boards:
        place = f"downloads/{pages.slug_of_board[board.suite.name]}"
        yield f"{place}.json", as_json(board)
        yield f"{place}.csv", as_csv(board)
        yield f"{place}.parquet", as_parquet(board)
    yield from pages.all()


def _write(folder: Path, files: Iterator[tuple[str, bytes]]) -> None:
    names = []
    for name, content in files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as stream:  # two pages of one name would be a bug that loses one of them
            stream.write(content)
        names.append(name)
    (folder / MARKER).write_text(json.dumps({"files": sorted(names)}, indent=0) + "\n", "utf-8")
    folder.chmod(0o755)


def _refuse_others(out: Path) -> None:
    """Refuse to replace what is no site of ours.

    Raises:
        DataError: it is something else, or has files that the site did not have.
    """
    if not os.path.lexists(out):
        return
    hint = "choose another folder with -o"
    if out.is_symlink() or not out.is_dir():
        raise DataError("not-a-site", "is there and is no folder", where=str(out), hint=hint)
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    if not there:
        return
    strange = sorted(there - _listed(out) - {MARKER})
    if strange:
        raise DataError("not-a-site", f"has files of its own, such as {strange[0]}", where=str(out), hint=hint)


def _listed(out: Path) -> set[str]:
    try:
        found = json.loads((out / MARKER).read_text("utf-8"))["files"]
        return set(found)
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _replace(made: Path, out: Path) -> None:
    """Put a folder in the place of another, which is moved away first: no name can be given twice."""
    _refuse_others(out)
    if not out.exists():
        made.rename(out)
        return
    old = Path(tempfile.mkdtemp(prefix=".tmp-old-", dir=out.parent))
    try:
        out.rename(old / "site")
        try:
            made.rename(out)
        except OSError:
            (old / "site").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
