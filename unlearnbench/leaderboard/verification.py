"""What a verifier found, as the document of ``schemas/verification.json``."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.leaderboard.board import Flag
from unlearnbench.leaderboard.recompute import Compared, Comparison
from unlearnbench.leaderboard.submission import LEVELS, Level, Submission
from unlearnbench.plugins import printable
from unlearnbench.schemas import validate

SCHEMA = "https://unlearnbench.org/schemas/verification/1.json"
Signature = Literal["none", "valid", "not checked"]
Status = Literal["passed", "failed", "not possible"]


@dataclass
class Check:
    """What one level found, run by run. ``failed`` are unlearners with a problem at this level."""

    level: Level
    runs: dict[str, Comparison] = field(default_factory=dict)
    unlearners: dict[str, int] = field(default_factory=dict)
    """How many runs of each were looked at."""
    failed: set[str] = field(default_factory=set)
    possible: bool = True

    @property
    def status(self) -> Status:
        if self.failed:
            return "failed"
        return "passed" if self.possible else "not possible"

    def add(self, run: str, unlearner: str, comparison: Comparison) -> None:
        self.runs[run] = comparison
        self.unlearners[unlearner] = self.unlearners.get(unlearner, 0) + 1

    def to_json(self) -> dict[str, Any]:
        found = self.runs.values()
        return {
            "level": self.level,
            "status": self.status,
            "runs": len(self.runs),
            "readings": sum(len(each.readings) for each in found),
            **{v: sum(each.count(v) for each in found) for v in ("same", "within", "outside", "missing")},
            "not_compared": sum(each.not_compared for each in found),
        }


@dataclass
class Verification:
    """A verification: its document, and the readings that it leaves out since they are as reported."""

    submission: Submission
    asked: Level
    checks: list[Check] = field(default_factory=list)
    problems: list[UnlearnBenchError] = field(default_factory=list)
    flags: list[tuple[str, Flag]] = field(default_factory=list)
    signature: Signature = "none"
    sample: Mapping[str, Any] | None = None
    identical: dict[str, bool] = field(default_factory=dict)
    """Runs made again, and whether their records have the same digest."""

    def level_of(self, unlearner: str) -> Level:
        """The highest level that an unlearner's runs reached.

        Weights are optional: a run that comes out again from its spec has shown more than they could.
        """
        held: Level = LEVELS[0]
        for check in self.checks:
            if unlearner in check.failed:
                break
            if check.possible and check.unlearners.get(unlearner):
                held = check.level
        return held

    @property
    def passed(self) -> bool:
        return not self.problems and any(c.level == self.asked and c.status == "passed" for c in self.checks)

    @property
    def level(self) -> Level:
        """The level that held: the asked one, or the lowest among the entries."""
        levels = [self.level_of(unlearner) for unlearner in self.submission.unlearners]
        return self.asked if self.passed else min(levels, key=LEVELS.index)

    def readings(self) -> list[tuple[Level, str, Compared]]:
        """Every compared reading with its level and run."""
        return [(c.level, run, reading) for c in self.checks for run, of in c.runs.items() for reading in of.readings]

    def to_json(self) -> dict[str, Any]:
        """The document.

        Raises:
            UsageError: it is not valid (a bug of the host, caught before anybody reads it).
        """
        remade = next((check.unlearners for check in self.checks if check.level == "rerun"), {})
        counts = {name: sum(r.unlearner == name for r in self.submission.runs) for name in self.submission.unlearners}
        document = {
            "$schema": SCHEMA,
            "submission": {"name": self.submission.name, "sha256": self.submission.sha256},
            "suite": self.submission.suite,
            "asked": self.asked,
            "level": self.level,
            "passed": self.passed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "sample": self.sample,
            "signature": self.signature,
            "environment": _environment(),
            "checks": [check.to_json() for check in self.checks],
            "entries": [
                {"unlearner": _short(n), "level": self.level_of(n), "runs": runs, "rerun": remade.get(n, 0)}
                for n, runs in counts.items()
            ],
            "flags": [
                {"unlearner": _short(name), "scenario": flag.scenario, "code": flag.code, "message": flag.message[:400]}
                for name, flag in self.flags
            ],
            "problems": [{k: printable(v) for k, v in problem.to_json().items()} for problem in self.problems],
            "readings": [_reading_json(*each) for each in self.readings() if each[2].verdict in ("outside", "missing")],
        }
        validate(document, "verification", where="verification")
        return document


def _reading_json(level: Level, run: str, reading: Compared) -> dict[str, Any]:
    return {
        "level": level,
        "run": _short(run),
        "measure": _short(reading.measure),
        "subject": reading.subject,
        "key": _short(reading.key),
        "reported": reading.reported,
        "recomputed": reading.recomputed,
        "verdict": reading.verdict,
    }


def _environment() -> dict[str, str]:
    return {
        "unlearnbench": version("unlearnbench"),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": version("torch"),
    }


def _short(text: str) -> str:
    return printable(text, 200) or "?"


def worst_exit_code(problems: Sequence[UnlearnBenchError]) -> int:
    """What the command line exits with: 3 where something is not installed, since installing it may mend the rest."""
    return 3 if any(problem.exit_code == 3 for problem in problems) else 1
