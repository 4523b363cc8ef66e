"""The readings of records, gathered by key and subject, and by the seeds of the runs that took them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unlearnbench.comparison.comparable import differing, measure_settings
from unlearnbench.comparison.document import Subject
from unlearnbench.identity import digest
from unlearnbench.record import Record

Seed = tuple[int, int, int]
"""Seeds of training, unlearning and measuring."""


@dataclass
class Series:
    """The readings of one subject under one key, by seeds. Of runs with the same seeds the first one counts."""

    subject: Subject
    label: str
    trainer: str
    values: dict[Seed, float] = field(default_factory=dict)
    gaps: dict[Seed, float] = field(default_factory=dict)
    statuses: dict[Seed, str] = field(default_factory=dict)
    verdicts: dict[Seed, str] = field(default_factory=dict)

    def take(self, seed: Seed, reading: Mapping[str, Any]) -> None:
        """Keep a reading: its value with what belongs to it, or why it has none."""
        if reading["value"] is None:
            self.statuses.setdefault(seed, str(reading["status"]))
            return
        self.values.setdefault(seed, float(reading["value"]))
        if reading["gap"] is not None:
            self.gaps.setdefault(seed, float(reading["gap"]))
        if reading.get("verdict"):
            self.verdicts.setdefault(seed, str(reading["verdict"]))

    @property
    def missing(self) -> dict[Seed, str]:
        """Statuses of the seeds that no run has a value for."""
        return {seed: status for seed, status in self.statuses.items() if seed not in self.values}

    @property
    def train_seeds(self) -> list[int]:
        return sorted({seed[0] for seed in (*self.values, *self.statuses)})


@dataclass
class Taken:
    """All that was read under one key with one setting of its measure."""

    reading: Mapping[str, Any]
    key: str
    timed: bool
    settings: Mapping[str, Any]
    series: dict[str, Series] = field(default_factory=dict)


def gather(
    records: Iterable[Record], labels: Mapping[str, str], wanted: Callable[[Mapping[str, Any], Record], bool]
) -> list[tuple[Taken, str]]:
    """Wanted readings with what sets the setting of their measure apart from another, in the order of the records.

    Original and gold stand once per trainer; they do not depend on the unlearning seed.
    """
    found: dict[tuple[str, str, str], Taken] = {}
    for record in records:
        settings = measure_settings(record)
        timed = {measure["name"] for measure in record.document["measures"] if measure["timed"]}
        trainer = str(record.document["trainer"])
        seeds = record.document["spec"]["seeds"]
        for reading in record.readings:
            if not wanted(reading, record):
                continue
            measure = reading["measure"]
            mine = settings.get(measure, {})
            place = (measure, digest(mine), stem(reading, record))
            taken = found.setdefault(place, Taken(reading, place[2], measure in timed, mine))
            subject: Subject = reading["subject"]
            label = labels[str(record.path)] if subject == "unlearned" else of_trainer(subject, trainer)
            series = taken.series.setdefault(label, Series(subject, label, trainer))
            series.take((seeds["train"], seeds["unlearn"] if subject == "unlearned" else 0, seeds["measure"]), reading)
    return [(taken, _variant(taken, place, found)) for place, taken in found.items()]


def _variant(taken: Taken, place: tuple[str, str, str], found: Mapping[tuple[str, str, str], Taken]) -> str:
    measure, _, key = place
    return differing(taken.settings, [t.settings for (m, _, k), t in found.items() if (m, k) == (measure, key)])


def of_trainer(subject: str, trainer: str) -> str:
    """The label of an original or gold model."""
    return subject if trainer == "recipe" else f"{subject} of {trainer}"


def stem(reading: Mapping[str, Any], record: Record) -> str:
    """A reading's key; the last request of a stream goes without saying."""
    at = coordinates(reading, record)
    places = [f"{name}={at[name]}" for name in sorted(at)]
    return ".".join([reading["name"], *([reading["split"]] if reading["split"] else []), *places])


def coordinates(reading: Mapping[str, Any], record: Record) -> dict[str, str]:
    """A reading's coordinates, without the last request of a stream."""
    last = {"request": str(len(record.document["requests"]) - 1)}
    return {name: value for name, value in reading["at"].items() if last.get(name) != value}
