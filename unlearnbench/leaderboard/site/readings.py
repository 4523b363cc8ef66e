"""All readings of an entry as tables: each seed, the mean over seeds, and gold and original beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearnbench.api.specs import DIRECTIONS
from unlearnbench.record import Record
from unlearnbench.report.drawing import number


@dataclass(frozen=True)
class Line:
    """One reading: the value of each seed, then mean, spread and what original and gold read on average."""

    measure: str
    key: str
    better: str
    unit: str
    seeds: tuple[str, ...]
    mean: str
    sd: str
    gold: str
    original: str
    verdict: str


@dataclass(frozen=True)
class Readings:
    """The readings of one scenario; ``detail`` are those of single classes, rates and steps."""

    scenario: str
    seeds: tuple[str, ...]
    lines: tuple[Line, ...]
    detail: tuple[Line, ...]


def by_scenario(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the name of their scenario, in order of seed."""
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda each: (*_seeds(each), str(each.document["id"]))):
        found.setdefault(str(record.document["spec"]["scenario"] or ""), []).append(record)
    return found


def _seeds(record: Record) -> tuple[int, int, int]:
    seeds = record.document["spec"]["seeds"]
    return int(seeds["train"]), int(seeds["unlearn"]), int(seeds["measure"])


def seed_of(record: Record) -> str:
    """The seed of a run, or its three seeds where they differ."""
    seeds = _seeds(record)
    return str(seeds[0]) if len(set(seeds)) == 1 else "-".join(map(str, seeds))


def readings_of(scenario: str, records: Sequence[Record]) -> Readings:
    """The tables of one scenario."""
    columns = [_by_place(record) for record in records]
    places: dict[tuple[str, str], Mapping[str, Any]] = {}
    for column in columns:
        for subject in ("unlearned", "gold", "original"):
            for place, reading in column.get(subject, {}).items():
                places.setdefault(place, reading)
    detailed = {place: bool(set(reading["at"]) - {"request"}) for place, reading in places.items()}
    return Readings(
        scenario,
        tuple(map(seed_of, records)),
        tuple(_line(place, places[place], columns) for place in places if not detailed[place]),
        tuple(_line(place, places[place], columns) for place in places if detailed[place]),
    )


_Column = Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]]


def _by_place(record: Record) -> _Column:
    found: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for reading in record.document["readings"]:
        found.setdefault(reading["subject"], {})[reading["measure"], reading["key"]] = reading
    return found


def _line(place: tuple[str, str], sample: Mapping[str, Any], columns: Sequence[_Column]) -> Line:
    mine = [column.get("unlearned", {}).get(place) for column in columns]
    values = [float(reading["value"]) for reading in mine if reading and reading["value"] is not None]
    return Line(
        measure=place[0],
        key=place[1],
        better=DIRECTIONS.get(sample["better"], str(sample["better"])),
        unit=str(sample["unit"]),
        seeds=tuple(_written(reading) for reading in mine),
        mean=number(_average(values)) if values else "none",
        sd=number(_spread(values)) if len(values) > 1 else "",
        gold=_mean(column.get("gold", {}).get(place) for column in columns),
        original=_mean(column.get("original", {}).get(place) for column in columns),
        verdict=_verdict(mine),
    )


def _written(reading: Mapping[str, Any] | None) -> str:
    if reading is None:
        return ""
    return number(reading["value"]) if reading["value"] is not None else str(reading["status"])


def _mean(readings: Iterable[Mapping[str, Any] | None]) -> str:
    values = [float(reading["value"]) for reading in readings if reading and reading["value"] is not None]
    return number(_average(values)) if values else ""


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # fmean raises where numbers of a stranger are too large; this says inf


def _spread(values: Sequence[float]) -> float:
    if len(set(values)) == 1:
        return 0.0  # not what rounding leaves of it
    mean = _average(values)
    return math.sqrt(sum((value - mean) * (value - mean) for value in values) / (len(values) - 1))


def _verdict(mine: Sequence[Mapping[str, Any] | None]) -> str:
    """What the intervals of single runs said, most often first."""
    said = [str(reading["verdict"]) for reading in mine if reading and reading["verdict"]]
    times = {word: said.count(word) for word in sorted(set(said))}
    return ", ".join(
        word if times[word] == len(said) else f"{word} ({times[word]} of {len(said)})"
        for word in sorted(times, key=lambda each: (-times[each], each))
    )
