"""What the ranking takes of an entry's records: for each scenario, axis and seed a value and its distance to gold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from unlearnbench.comparison.series import Series, stem
from unlearnbench.leaderboard.board import Entry
from unlearnbench.leaderboard.submission import LEVELS
from unlearnbench.leaderboard.suites import AXES, Axis, Part, Suite
from unlearnbench.record import Record
from unlearnbench.statistics import nested_means

Place = tuple[str, str]
"""Scenario and axis."""


@dataclass(frozen=True)
class Line:
    """An entry on one axis of one scenario, by training seed; ``missing`` has the seeds without a value, and why."""

    values: Mapping[int, float]
    distances: Mapping[int, float]
    missing: Mapping[int, str]
    from_attack: str | None = None


def part_of(record: Record, suite: Suite, official: bool) -> Part | None:
    """The part of a suite that a record belongs to; what is made up of records has one part for all of them."""
    if not official:
        return suite.parts[0]
    name = record.document["spec"]["scenario"]
    return next((part for part in suite.parts if part.scenario == name), None)


def train_seed(record: Record) -> int:
    """What readings are averaged and compared by."""
    return int(record.document["spec"]["seeds"]["train"])


def lines_of(entry: Entry, suite: Suite, official: bool) -> dict[Place, Line]:
    """The lines of all axes, cost among them, of every scenario that the entry has runs of."""
    by_part: dict[str, list[Record]] = {}
    for record in entry.records:
        part = part_of(record, suite, official)
        if part is not None:
            by_part.setdefault(part.scenario, []).append(record)
    found: dict[Place, Line] = {}
    for part in suite.parts:
        scenario = part.scenario
        if scenario not in by_part:
            continue
        series = _series(by_part[scenario], part, "unlearned")
        for axis in part.axes:
            line = _line(series[axis.name], axis)
            found[scenario, axis.name] = _attacked(line, entry, scenario) if axis.name == "privacy" else line
    return found


def trains_itself(entry: Entry) -> bool:
    """Its method trains the original and gold models too, so that its gold is not the suite's."""
    return any(record.document["trainer"] != "recipe" for record in entry.records)


def held_against(lines: Mapping[Place, Line], gold: Mapping[str, Mapping[int, float]]) -> dict[Place, Line]:
    """Lines whose utility is the distance to the suite's own gold models, by scenario and seed, where these are known.

    A method that trains its own models could pay for forgetting with all of their utility and still equal its own gold.
    """
    found = dict(lines)
    for (scenario, axis), line in lines.items():
        aims = gold.get(scenario, {})
        if axis == "utility" and set(line.values) <= set(aims):
            distances = {seed: abs(value - aims[seed]) for seed, value in line.values.items()}
            found[scenario, axis] = replace(line, distances=distances)
    return found


Bounds = dict[tuple[str, str, str], dict[int, float]]
"""Values by scenario, axis and subject, one for each training seed."""


def bound_values(entries: Iterable[Entry], suite: Suite, official: bool) -> Bounds:
    """Values of original and gold.

    They are those of the scenario's recipe; models that a method trains itself stand only where there are no others.
    """
    by_part: dict[str, list[Record]] = {}
    for entry in entries:
        for record in entry.records:
            part = part_of(record, suite, official)
            if part is not None:
                by_part.setdefault(part.scenario, []).append(record)
    found: Bounds = {}
    for part in suite.parts:
        records = by_part.get(part.scenario, [])
        records = [record for record in records if record.document["trainer"] == "recipe"] or records
        for subject in ("original", "gold"):
            values: dict[str, dict[int, list[float]]] = {}
            for record in records:
                for axis, one in _series([record], part, subject).items():
                    values.setdefault(axis, {}).setdefault(train_seed(record), []).extend(one.values.values())
            for name in AXES:
                seeds = values.get(name, {})
                found[part.scenario, name, subject] = {seed: fmean(v) for seed, v in sorted(seeds.items()) if v}
    return found


def _series(records: Sequence[Record], part: Part, subject: str) -> dict[str, Series]:
    found: dict[str, Series] = {axis.name: Series("unlearned", axis.name, "recipe") for axis in part.axes}
    wanted = {(axis.measure, axis.key): axis.name for axis in part.axes}
    names = {(axis.measure, axis.key.partition(".")[0]) for axis in part.axes}
    for record in sorted(records, key=lambda each: str(each.document["id"])):
        seeds = record.document["spec"]["seeds"]
        seed = (seeds["train"], seeds["unlearn"], seeds["measure"])
        for reading in record.document["readings"]:
            if reading["subject"] != subject or (reading["measure"], reading["key"].partition(".")[0]) not in names:
                continue
            name = wanted.get((reading["measure"], stem(reading, record)))
            if name:
                found[name].take(seed, reading)
        for series in found.values():
            if seed not in series.values and seed not in series.statuses:
                series.statuses[seed] = record.status if record.status != "complete" else "no such reading"
    return found


def _line(series: Series, axis: Axis) -> Line:
    values = nested_means(series.values)
    # A cost has no gap to gold that would mean anything: it is not compared.
    gaps = values if axis.name == "cost" else nested_means(series.gaps)
    missing = {seed[0]: status for seed, status in sorted(series.statuses.items()) if seed[0] not in gaps}
    missing |= {seed: "gold has no value" for seed in values if seed not in gaps and seed not in missing}
    return Line(values, {seed: abs(gap) for seed, gap in gaps.items()}, missing)


def _attacked(line: Line, entry: Entry, scenario: str) -> Line:
    """The line where readings of re-attacks stand for those that are nearer to gold; it is never nearer after it."""
    values, distances = dict(line.values), dict(line.distances)
    stands: str | None = None
    for attack in sorted(entry.attacks, key=lambda each: each.submission):
        if LEVELS.index(attack.level) < LEVELS.index(entry.level):
            continue
        for reading in attack.readings:
            own = distances.get(reading.seed, math.inf)  # without a value it is ranked last already
            if reading.scenario == scenario and reading.distance > own:
                values[reading.seed], distances[reading.seed] = reading.value, reading.distance
                stands = attack.submission
    return Line(values, distances, line.missing, stands)
