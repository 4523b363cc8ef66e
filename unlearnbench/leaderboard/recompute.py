"""Readings again: of what was submitted, by the same measures, compared with what the record reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from unlearnbench.api.errors import PluginError
from unlearnbench.api.runtime import Reading, Subject
from unlearnbench.api.specs import Effort
from unlearnbench.guard import deterministic
from unlearnbench.leaderboard.evidence import Given, NotAvailable, SubmittedStages, spec_here
from unlearnbench.record import controls, reading_json
from unlearnbench.registry import Registry
from unlearnbench.runner import measure_spec_of, readings_of
from unlearnbench.spec import RunSpec

Verdict = Literal["same", "within", "outside", "missing"]

FROM_OUTPUTS: tuple[Effort, ...] = ("predictions",)
FROM_WEIGHTS: tuple[Effort, ...] = ("predictions", "models")
NOT_SUBMITTED = frozenset({"cost", "siblings", "certificate"})
"""What measures may read beside models: no submission holds it."""

EXACT = ("name", "split", "at", "better", "unit", "n", "status")
"""Fields of a reading that no rounding of outputs changes."""


@dataclass(frozen=True)
class Recomputed:
    """Readings that were found again, as a record keeps them, and the measures that they are of."""

    readings: Sequence[Mapping[str, Any]]
    measures: frozenset[str]


@dataclass(frozen=True)
class Compared:
    """One reading as reported and as found; ``fields`` are those that differ by more than the tolerance allows."""

    measure: str
    subject: str
    key: str
    reported: float | None
    recomputed: float | None
    verdict: Verdict
    fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The reading's place in its record, for messages."""
        return f"{self.measure}/{self.subject}/{self.key}"


@dataclass(frozen=True)
class Comparison:
    """All readings of a run; ``not_compared`` counts those that cannot be found at this level."""

    readings: tuple[Compared, ...]
    not_compared: int

    def count(self, verdict: Verdict) -> int:
        return sum(reading.verdict == verdict for reading in self.readings)

    @property
    def wrong(self) -> tuple[Compared, ...]:
        return tuple(reading for reading in self.readings if reading.verdict in ("outside", "missing"))


def recompute(spec: RunSpec, stages: SubmittedStages, efforts: Sequence[Effort]) -> Recomputed:
    """The readings of all measures of a run that need no more than what ``stages`` were given."""
    found: list[Mapping[str, Any]] = []
    names = set()
    for choice in spec.measures:
        measure = measure_spec_of(stages.registry, choice)
        if measure.effort not in efforts or NOT_SUBMITTED & set(measure.reads):
            continue
        try:
            with deterministic(spec.threads):
                readings = readings_of(choice, spec, stages)
        except NotAvailable:
            continue
        except PluginError:  # as in a run: a measure that breaks has no readings
            readings = []
        names.add(choice.name)
        gold = {reading.key: reading for reading in readings if reading.subject == "gold"}
        found += [reading_json(reading, choice.name, gold) for reading in readings]
    return Recomputed(found, frozenset(names))


def from_outputs(
    document: Mapping[str, Any], outputs: Mapping[Subject, Mapping[str, Tensor]], stages: SubmittedStages
) -> Recomputed:
    """The readings of a record that follow from outputs by subject and split."""
    given = {subject: Given({k: torch.as_tensor(v) for k, v in of.items()}) for subject, of in outputs.items()}
    return recompute(spec_here(document), stages.under(given), FROM_OUTPUTS)


def untimed(document: Mapping[str, Any], registry: Registry) -> Recomputed:
    """The readings of a record that must come out again when its run is made again."""
    names = frozenset(
        choice.name
        for choice in RunSpec.from_json(document["spec"]).measures
        if "cost" not in measure_spec_of(registry, choice).reads
    )
    return Recomputed([reading for reading in document["readings"] if reading["measure"] in names], names)


def compare(document: Mapping[str, Any], found: Recomputed, tolerance: float) -> Comparison:
    """A record's readings beside those that were found, in the record's order, then those that it lacks.

    Each reading must also follow from the record itself: its gap and its verdict from its own value, its interval and
    gold's. Numbers may differ by ``tolerance + tolerance * |reported|``.
    """
    known = {choice["name"] for choice in document["spec"]["measures"]}
    again = {_place(reading): reading for reading in found.readings}
    derived = _derived(document["readings"])
    seen: Counter[tuple[str, str, str]] = Counter()
    compared = []
    skipped = 0
    for reading, own in zip(document["readings"], derived, strict=True):
        place = _place(reading)
        seen[place] += 1
        if place[0] in known - found.measures:
            wrong = _differing(reading, own, own)
            if wrong:
                compared.append(_compared(reading, None, "outside", wrong))
            else:
                skipped += 1
        elif place not in again or seen[place] > 1:
            compared.append(_compared(reading, None, "missing", ("key",)))
        else:
            compared.append(_judged(reading, own, again[place], tolerance))
    compared += [_compared(None, reading, "missing", ("key",)) for place, reading in again.items() if not seen[place]]
    return Comparison(tuple(compared), skipped)


def wrong_controls(document: Mapping[str, Any]) -> str:
    """The first control that does not follow from the record's readings; empty where all do."""
    reported, own = list(document["controls"]), controls(document["readings"])
    if reported == own:
        return ""
    for place, (mine, theirs) in enumerate(zip(own, reported, strict=False)):
        if mine != theirs:
            return f"controls[{place}] ({mine['measure']}/{mine['key']})"
    return f"controls has {len(reported)} entries, not {len(own)}"


def _place(reading: Mapping[str, Any]) -> tuple[str, str, str]:
    return reading["measure"], reading["subject"], reading["key"]


def _derived(readings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every reading as a run would have written it, from its own value and interval and those of gold."""
    made = [_reading(reading) for reading in readings]
    gold = {(of["measure"], r.key): r for of, r in zip(readings, made, strict=True) if r.subject == "gold"}
    found = []
    for of, reading in zip(readings, made, strict=True):
        aim = gold.get((of["measure"], reading.key))
        found.append(reading_json(reading, of["measure"], {reading.key: aim} if aim else {}))
    return found


def _reading(document: Mapping[str, Any]) -> Reading:
    low, high = document["interval"] or (None, None)
    names = ("name", "value", "n", "better", "split", "unit", "at", "status", "subject")
    return Reading(**{name: document[name] for name in names}, low=low, high=high)


def _judged(reading: Mapping[str, Any], own: Mapping[str, Any], again: Mapping[str, Any], tolerance: float) -> Compared:
    fields = _differing(reading, own, again)
    mine, theirs = _numbers(reading), _numbers(again)
    for name in mine:
        if not _near(mine[name], theirs[name], tolerance):
            fields = (*fields, name)
    if fields:
        return _compared(reading, again, "outside", tuple(dict.fromkeys(fields)))
    return _compared(reading, again, "same" if mine == theirs else "within", ())


def _differing(reading: Mapping[str, Any], own: Mapping[str, Any], again: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields that must be equal and are not: to what follows from the record, and to what was found."""
    inner = [name for name in own if reading.get(name) != own[name]]
    return tuple(dict.fromkeys([*inner, *(name for name in EXACT if reading[name] != again[name])]))


def _numbers(reading: Mapping[str, Any]) -> dict[str, tuple[float, ...] | None]:
    value, interval = reading["value"], reading["interval"]
    return {"value": None if value is None else (value,), "interval": None if interval is None else tuple(interval)}


def _near(mine: tuple[float, ...] | None, theirs: tuple[float, ...] | None, tolerance: float) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return all(abs(a - b) <= tolerance + tolerance * abs(a) for a, b in zip(mine, theirs, strict=True))


def _compared(
    reading: Mapping[str, Any] | None, again: Mapping[str, Any] | None, verdict: Verdict, fields: tuple[str, ...]
) -> Compared:
    some = reading or again
    assert some is not None
    return Compared(
        *_place(some),
        reported=reading["value"] if reading else None,
        recomputed=again["value"] if again else None,
        verdict=verdict,
        fields=fields,
    )
