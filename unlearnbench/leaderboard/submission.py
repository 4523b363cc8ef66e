"""What a submission is made of, once it was read: nothing in it is trusted beyond what reading could check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from unlearnbench.leaderboard.package import Package
    from unlearnbench.record import Record

SCHEMA = "https://unlearnbench.org/schemas/submission/1.json"

Subject = Literal["original", "gold", "unlearned"]
Level = Literal["self-reported", "recomputed-metrics", "recomputed-from-weights", "rerun"]
LEVELS: tuple[Level, ...] = ("self-reported", "recomputed-metrics", "recomputed-from-weights", "rerun")
"""From the lowest; a level holds only where those below it do."""


@dataclass(frozen=True)
class SubmittedRun:
    """One run of a submission; ``predictions`` and ``weights`` are names of files by subject, None where not given."""

    id: str
    file: str
    record: Record
    predictions: Mapping[Subject, str] | None
    weights: Mapping[Subject, str] | None

    @property
    def unlearner(self) -> str:
        return self.record.unlearner

    @property
    def scenario(self) -> str:
        """The scenario's name; empty where the run has none."""
        return str(self.record.document["spec"]["scenario"] or "")

    @property
    def seed(self) -> int:
        return int(self.record.document["spec"]["seeds"]["train"])


@dataclass(frozen=True)
class Submission:
    """A submission as it was read; ``sha256`` is that of ``submission.json``, which has the digests of all else."""

    document: Mapping[str, Any]
    sha256: str
    package: Package
    runs: tuple[SubmittedRun, ...]

    @property
    def name(self) -> str:
        return str(self.document["name"])

    @property
    def kind(self) -> str:
        return str(self.document["kind"])

    @property
    def suite(self) -> str:
        return str(self.document["suite"]["name"])

    @property
    def statement(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.document["statement"]
        return found

    @property
    def unlearners(self) -> tuple[str, ...]:
        """Names of the unlearners: one entry of the board each."""
        return tuple(sorted({run.unlearner for run in self.runs}))
