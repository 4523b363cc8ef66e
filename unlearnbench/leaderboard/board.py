"""What a board shows, as frozen data: ranking fills it, the site and the terminal print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from unlearnbench.leaderboard.submission import Level
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.record import Record
from unlearnbench.statistics import Estimate

Division = Literal["oracle-free", "oracle-tuned", "control"]
"""Who is ranked against whom. Oracle-tuned: readings on test data or of the gold model were looked at when parameters
were chosen. Controls bound the board and have no rank."""


@dataclass(frozen=True)
class Statement:
    """What the submitters say."""

    authors: tuple[str, ...] = ()
    paper: str | None = None
    licence: str = ""
    access: str = ""
    settings: int | None = None
    notes: str = ""


@dataclass(frozen=True)
class Flag:
    """What a person should look at."""

    scenario: str
    code: str
    message: str


@dataclass(frozen=True)
class AttackReading:
    """What a re-attack read of one run: the value, and how far it is from gold's in the same record."""

    scenario: str
    seed: int
    measure: str
    key: str
    value: float
    distance: float


@dataclass(frozen=True)
class ReAttack:
    """A stronger attack on an entry, by a submission of its own; ``sha256`` is that of its ``submission.json``.

    Its readings count where its level is at least that of the entry: what nobody looked at moves nothing that somebody
    found again.
    """

    submission: str
    created: str
    sha256: str
    level: Level
    readings: tuple[AttackReading, ...]


@dataclass(frozen=True)
class Entry:
    """One unlearner of one submission: its runs on a suite, and what is known of them.

    ``id`` is ``SUBMISSION/UNLEARNER``; for plain records the submission is ``records``, and of two settings of one
    unlearner each says after its name in what it differs. ``level`` comes of the verifications that maintainers made,
    never of the submission; ``rerun`` of ``len(records)`` runs were made again. ``retracted`` is the reason, or None.
    ``re_attacks`` are the names of submissions that attacked it. ``suite`` is the name of its board; ``sha256`` is that
    of ``submission.json``, empty for plain records.
    """

    id: str
    submission: str
    unlearner: str
    division: Division
    statement: Statement
    created: str
    level: Level
    rerun: int
    records: tuple[Record, ...]
    flags: tuple[Flag, ...] = ()
    retracted: str | None = None
    re_attacks: tuple[str, ...] = ()
    suite: str = ""
    sha256: str = ""
    attacks: tuple[ReAttack, ...] = ()

    @property
    def label(self) -> str:
        """The unlearner, with its setting where there are several."""
        return self.id.removeprefix(f"{self.submission}/")


@dataclass(frozen=True)
class Cell:
    """An entry on one axis of one scenario.

    ``value`` and ``distance`` are means over seeds with intervals: of the reading, and of the absolute difference to
    the gold model of the same seed. ``rank`` is the average rank over seeds among the entries of the same division (1
    is nearest to gold). ``from_attack`` names the re-attack whose reading stands here because it is further from gold.
    """

    scenario: str
    axis: str
    value: Estimate
    distance: Estimate
    rank: float | None
    missing: Mapping[str, int] = field(default_factory=dict)
    from_attack: str | None = None


@dataclass(frozen=True)
class Row:
    """An entry's line: ``place`` is its rank, a range where it is tied (``2-5``), empty where it has none.

    ``rank`` is the mean over seeds, with its interval, of the mean of its ranks over all axes and scenarios; it is
    None for controls, retracted entries and those that lack a scenario. ``tied`` are the ids of entries that are not
    told apart from it. ``layers`` is its Pareto layer by scenario (1 is the front), on the three distances and cost.
    ``beaten_by`` are the ids, by scenario, of entries at least as good on all four and better on one.
    """

    entry: Entry
    place: str
    rank: Estimate | None
    tied: tuple[str, ...]
    cells: tuple[Cell, ...]
    costs: Mapping[str, Estimate]
    layers: Mapping[str, int | None]
    beaten_by: Mapping[str, tuple[str, ...]]
    why_unranked: str = ""

    def cell(self, scenario: str, axis: str) -> Cell | None:
        """The cell of a scenario and an axis, if the entry ran it."""
        return next((cell for cell in self.cells if (cell.scenario, cell.axis) == (scenario, axis)), None)


@dataclass(frozen=True)
class Bound:
    """Original or gold on one axis of one scenario, over all entries' seeds."""

    scenario: str
    axis: str
    subject: Literal["original", "gold"]
    value: Estimate


@dataclass(frozen=True)
class Ranking:
    """The entries of one division, best first, unranked ones last; how ties were decided, in a sentence."""

    division: Division
    rows: tuple[Row, ...]
    note: str


@dataclass(frozen=True)
class Change:
    """A line of the feed: a submission that came, a verification, a retraction, a re-attack."""

    date: str
    kind: Literal["submission", "verification", "retraction", "re-attack"]
    subject: str
    text: str


@dataclass(frozen=True)
class Board:
    """One suite. Records that belong to no suite are on boards of their scenario, whose suite is made up of it."""

    suite: Suite
    official: bool
    rankings: tuple[Ranking, ...]
    bounds: tuple[Bound, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for ranking in self.rankings for row in ranking.rows)

    def to_json(self) -> dict[str, Any]:
        """The board as plain JSON values; of records only their ids."""
        return {
            "suite": self.suite.name,
            "sha256": self.suite.sha256,
            "official": self.official,
            "rankings": [
                {"division": each.division, "note": each.note, "rows": [_row(row) for row in each.rows]}
                for each in self.rankings
            ],
            "bounds": [asdict(bound) for bound in self.bounds],
            "notes": list(self.notes),
        }


def _row(row: Row) -> dict[str, Any]:
    found = {name: value for name, value in vars(row).items() if name not in ("entry", "cells", "rank", "costs")}
    apart = ("records", "statement", "flags", "attacks")
    entry = {name: value for name, value in vars(row.entry).items() if name not in apart}
    return {
        **entry,
        "statement": asdict(row.entry.statement),
        "flags": [asdict(flag) for flag in row.entry.flags],
        "attacks": [asdict(attack) for attack in row.entry.attacks],
        "runs": [record.document["id"] for record in row.entry.records],
        **found,
        "rank": asdict(row.rank) if row.rank else None,
        "cells": [asdict(cell) for cell in row.cells],
        "costs": {scenario: asdict(cost) for scenario, cost in row.costs.items()},
    }
