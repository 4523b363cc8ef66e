"""Runs, submissions and sites that many test modules start from. Nobody may change them; the store may grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from boards import hostile_board, hostile_changes, small_board, some_changes
from once import once
from submissions import packed, suite_runs

from unlearnbench.identity import canonical
from unlearnbench.leaderboard import submitted
from unlearnbench.leaderboard.board import Board, Change
from unlearnbench.leaderboard.recompute import Recomputed, from_outputs
from unlearnbench.leaderboard.site import build_site
from unlearnbench.record import Record, find_records, read_record
from unlearnbench.store import Store


@cache
def suite_folder() -> Path:
    """Runs of ``identity`` and ``finetune`` on the suite's first scenario."""
    return once("suite", lambda folder: suite_runs(folder / "runs")) / "runs"


@cache
def small_submission() -> Path:
    """A submission of all of these runs, with weights."""
    runs = suite_folder()
    store = Store(runs / "store")
    return once("small", lambda folder: packed(records(), folder / "small", weights=store)) / "small"


@cache
def honest() -> Path:
    """A submission of the runs of one unlearner, without weights: the smallest there is."""
    return once("honest", lambda folder: packed(records("finetune"), folder / "honest")) / "honest"


@cache
def records(unlearner: str | None = None) -> tuple[Record, ...]:
    """The runs, or those of one unlearner."""
    found = [read_record(path) for path in find_records(suite_folder())]
    return tuple(record for record in found if unlearner in (None, record.unlearner))


@cache
def small_site() -> Path:
    """The site of the small board."""
    return once("site", lambda folder: _built(small_board(), some_changes(), folder)) / "site"


@cache
def hostile_site() -> Path:
    """The site of the board whose every text is an attack."""
    return once("hostile", lambda folder: _built(hostile_board(), hostile_changes(), folder)) / "site"


def _built(board: Board, changes: tuple[Change, ...], folder: Path) -> None:
    build_site([board], changes, folder / "site")


@contextmanager
def measured_once() -> Iterator[None]:
    """Of a record and its outputs readings are worked out once, however many copies of a submission hold them.

    What is kept is the host's own answer, for exactly what it was asked: a change of one bit is measured again.
    """
    known: dict[Any, Recomputed] = {}

    def readings(document: Any, outputs: Any, stages: Any) -> Recomputed:
        arrays = {(s, split): (str(a.dtype), a.shape, a.numpy().tobytes()) for s, of in outputs.items()
                  for split, a in of.items()}  # fmt: skip
        asked = (canonical(document), frozenset(arrays.items()))
        if asked not in known:
            known[asked] = from_outputs(document, outputs, stages)
        return known[asked]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submitted, "from_outputs", readings)
        yield
