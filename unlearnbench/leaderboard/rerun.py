"""Runs made again from their specs, all or a sample that nobody can choose."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearnbench.leaderboard.recompute import Comparison, compare, untimed
from unlearnbench.leaderboard.submission import SubmittedRun
from unlearnbench.record import Record
from unlearnbench.registry import Registry
from unlearnbench.runner import execute
from unlearnbench.spec import RunSpec


@dataclass(frozen=True)
class Rerun:
    """A run made again: its readings beside the reported ones, its status, and whether its digest is the same."""

    run: SubmittedRun
    comparison: Comparison
    status: str
    identical: bool


def sample(runs: Sequence[SubmittedRun], size: int | None, seed: int) -> list[SubmittedRun]:
    """The runs to make again, in the order of their ids; all of them where no size is given.

    The draw takes those with the smallest sha256 of ``SEED:ID``, so that anybody can repeat it with any tool.
    """
    ordered = sorted(runs, key=lambda run: run.id)
    if size is None:
        return ordered
    drawn = sorted(ordered, key=lambda run: hashlib.sha256(f"{seed}:{run.id}".encode()).hexdigest())[:size]
    return sorted(drawn, key=lambda run: run.id)


def rerun(
    runs: Sequence[SubmittedRun],
    registry: Registry,
    tolerance: float,
    *,
    download: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Iterator[Rerun]:
    """Execute the specs of runs again, in a folder that goes away, with one store for all of them.

    Raises:
        UnlearnBenchError: a spec cannot be executed here.
    """
    made = 0

    def told(record: Record) -> None:
        nonlocal made
        made += 1
        progress(f"made again: {made} of {len(runs)} runs")

    with tempfile.TemporaryDirectory(prefix="unlearnbench-rerun-") as folder:
        specs = [RunSpec.from_json(run.record.document["spec"]) for run in runs]
        outcome = execute(specs, out=Path(folder), components=registry, download=download, on_record=told)
    for run, record in zip(runs, outcome.records, strict=True):
        yield Rerun(
            run=run,
            comparison=compare(run.record.document, untimed(record.document, registry), tolerance),
            status=record.status,
            identical=record.document["digest"] == run.record.document["digest"],
        )
