"""What the page of an entry shows, beside the entry itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unlearnbench.leaderboard.board import Board, Cell, Entry, Row
from unlearnbench.leaderboard.reading import left_out
from unlearnbench.leaderboard.site.command import commands, stages
from unlearnbench.leaderboard.site.readings import by_scenario, readings_of, seed_of
from unlearnbench.leaderboard.site.text import shortened
from unlearnbench.leaderboard.suites import Part
from unlearnbench.record import Record
from unlearnbench.report.drawing import number, written

Bounds = Mapping[tuple[str, str, str], str]
"""Mean and interval of original and gold by scenario, axis and subject."""
NOWHERE = "no named scenario"
MOST_NAMED = 8
"""Other entries that a page names in one place; it says how many more there are, and the download names all."""


def bounds_of(board: Board) -> Bounds:
    """The bounds of a board, written."""
    return {(bound.scenario, bound.axis, str(bound.subject)): written(bound.value) for bound in board.bounds}


def entry_values(board: Board, row: Row, bounds: Bounds) -> dict[str, Any]:
    """Everything that the template of an entry's page puts into tables."""
    groups = by_scenario(row.entry.records)
    ordered = [(name or NOWHERE, record) for name, records in groups.items() for record in records]
    return {
        "distances": list(_distances(board, row, bounds)),
        "costs": list(_costs(board, row)),
        "attacks": list(_attacks(row.entry)),
        "commands": commands(board, row.entry),
        "scenarios": [name or NOWHERE for name in groups],
        "settings": list(_settings(groups)),
        "readings_of": [readings_of(name or NOWHERE, records) for name, records in groups.items()],
        "left_out": left_out(row.entry.records),
        "certificates": [
            (_run(record), _json(record.document["certificate"]))
            for _, record in ordered
            if record.document["certificate"] is not None
        ],
        "environments": list(_environments(row.entry)),
        "runs": [_identity(name, record) for name, record in ordered],
        "models": [line for _, record in ordered for line in _models(record)],
    }


def _attacks(entry: Entry) -> Iterator[tuple[str, ...]]:
    for attack in entry.attacks:
        for each in attack.readings:
            yield (
                attack.submission,
                attack.level,
                each.scenario,
                str(each.seed),
                f"{each.key} ({each.measure})",
                number(each.value),
                number(each.distance),
            )


def _distances(board: Board, row: Row, bounds: Bounds) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """A table for each scenario that the entry ran."""
    for part in board.suite.parts:
        lines = [_distance(part, cell, bounds) for axis in part.axes if (cell := row.cell(part.scenario, axis.name))]
        if lines:
            yield part.scenario, lines


def _distance(part: Part, cell: Cell, bounds: Bounds) -> tuple[str, ...]:
    axis = part.axis(cell.axis)
    missing = "".join(f"; {count} {status}" for status, count in sorted(cell.missing.items()))
    attack = f"; by re-attack {cell.from_attack}" if cell.from_attack else ""
    return (
        cell.axis,
        f"{axis.key} ({axis.measure})",
        written(cell.value),
        f"{written(cell.distance)}{missing}{attack}",
        number(cell.rank) if cell.rank is not None else "",
        bounds.get((part.scenario, cell.axis, "gold"), ""),
        bounds.get((part.scenario, cell.axis, "original"), ""),
        number(part.floor[cell.axis]) if cell.axis in part.floor else "",
    )


def _costs(board: Board, row: Row) -> Iterator[tuple[str, ...]]:
    for part in board.suite.parts:
        cost, layer = row.costs.get(part.scenario), row.layers.get(part.scenario)
        if cost is not None or layer is not None:
            keys = ", ".join(f"{axis.key} ({axis.measure})" for axis in part.axes if axis.name == "cost")
            beaten = row.beaten_by.get(part.scenario, ())
            more = f" and {len(beaten) - MOST_NAMED} more" if beaten[MOST_NAMED:] else ""
            said = ", ".join(beaten[:MOST_NAMED]) + more
            yield part.scenario, keys, written(cost) if cost else "", str(layer or "none"), said or "nobody"


def _settings(groups: Mapping[str, Sequence[Record]]) -> Iterator[tuple[str, ...]]:
    """Parameters by scenario; an entry has one setting for each."""
    found: dict[str, dict[str, str]] = {}
    for name, records in groups.items():
        chain = stages(records[0].document["spec"]["unlearner"])
        for place, stage in enumerate(chain, start=1):
            mark = f"{stage['name']}#{place}." if len(chain) > 1 else ""
            for parameter, value in sorted(stage["params"].items()):
                found.setdefault(f"{mark}{parameter}", {})[name] = _json(value)
    for parameter, values in found.items():
        yield parameter, *(values.get(name, "") for name in groups)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _run(record: Record) -> str:
    return shortened(str(record.document["id"]), 120)


def _identity(scenario: str, record: Record) -> tuple[str, ...]:
    document = record.document
    return (_run(record), scenario, seed_of(record), record.status, document["digest"], document["spec_id"])


def _models(record: Record) -> Iterator[tuple[str, ...]]:
    for subject, models in sorted(record.document["models"].items()):
        for model in models:
            yield _run(record), subject, f"{model['parameters']:,}", str(model["sha256"])


def _environments(entry: Entry) -> Iterator[tuple[str, ...]]:
    """What the runs ran on; a value that only some of them have says how many."""
    found: dict[tuple[str, str], int] = {}
    for record in entry.records:
        environment = dict(record.document["environment"])
        packages = environment.pop("packages", {})
        for name, value in (*environment.items(), *packages.items()):
            place = (str(name), value if isinstance(value, str) else _json(value))
            found[place] = found.get(place, 0) + 1
    distributions = {
        (f"{each['kind']} {each['name']}", f"{each['distribution']} {each['distribution_version']}, v{each['version']}")
        for record in entry.records
        for each in record.document["components"]
    }
    for (name, value), times in sorted(found.items()):
        yield name, value, "all" if times == len(entry.records) else str(times)
    for name, value in sorted(distributions):
        yield name, value, ""
