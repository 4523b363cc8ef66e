"""The contract of measures, one function a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.runtime import SUBJECTS, Reading, Subject, generator
from unlearnbench.evidence import RunEvidence
from unlearnbench.guard import guarded
from unlearnbench.parameters import resolve_parameters
from unlearnbench.parts import Selection
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Check, NotApplicable, require
from unlearnbench.testing.problems import PROBLEMS, REQUESTS

EPOCHS = 5
"""How good the models are matters to no check, and some measures have hundreds of them trained."""


class WithoutTestRows(RunEvidence):
    """The same evidence where the data have no test rows."""

    def _selection(self, split: str) -> Selection:
        found = super()._selection(split)
        return Selection(found.data, found.index[:0]) if split == "test" else found

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in super().splits if split != "test")


class Diverged(RunEvidence):
    """The same evidence about a subject whose outputs are not numbers."""

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor:
        found = super().outputs(split, subject)
        return torch.full_like(found, math.nan) if subject in (None, self.subject) else found


class Shuffled(RunEvidence):
    """The same evidence with the rows of every split in another order."""

    def _selection(self, split: str) -> Selection:
        found = super()._selection(split)
        order = torch.randperm(len(found), generator=generator(len(found)))
        return Selection(found.data, found.index[order], found.elements)


def _spec(bench: Bench, unlearner: str = "retrain") -> RunSpec:
    pairs = bench.combinations()
    if not pairs:
        raise NotApplicable("none of its tasks has a tiny problem")
    task, request = next((pair for pair in pairs if pair[1] == "class"), pairs[0])
    return bench.tiny(PROBLEMS[task][0], REQUESTS[request], unlearner, bench.spec.name, epochs=EPOCHS)


def _readings(
    bench: Bench, subject: Subject, kind: type[RunEvidence] = RunEvidence, unlearner: str = "retrain"
) -> list[Reading]:
    """What the measure says of a subject; most checks look at the same readings, which are taken once."""
    key = (subject, kind.__name__, unlearner)
    if key not in bench.readings:
        bench.readings[key] = _taken(bench, bench.measuring, subject, kind, unlearner)
    return bench.readings[key]


def _taken(
    bench: Bench, stages: Stages, subject: Subject, kind: type[RunEvidence] = RunEvidence, unlearner: str = "retrain"
) -> list[Reading]:
    spec = _spec(bench, unlearner)
    params = resolve_parameters(bench.spec.params, spec.measures[0].params, where=bench.spec.name)
    evidence = kind(stages, spec, 0, subject, bench.spec.name, bench.spec.reads)
    with guarded(f"measure {bench.spec.name}", stages.scene(spec).shared):
        return list(bench.component.cls(params).measure(evidence))


def _values(readings: Sequence[Reading]) -> dict[str, Any]:
    return {reading.key: reading.value for reading in readings}


def readings_say_what_they_are(bench: Bench) -> None:
    """It yields readings for every subject: each with a name of its own, a number or a status, and its n."""
    for subject in SUBJECTS:
        readings = _readings(bench, subject)
        require(readings, f"nothing about {subject}")
        require(all(isinstance(reading, Reading) for reading in readings), "not all are Reading objects")
        keys = [reading.key for reading in readings]
        require(
            len(set(keys)) == len(keys), f"a reading stands twice: {sorted({k for k in keys if keys.count(k) > 1})}"
        )
        require(all(type(r.n) is int and r.n >= 0 for r in readings), "n is not a number of units")
        silent = [r.key for r in readings if r.value is None and r.status == "ok"]
        require(not silent, f"{', '.join(silent)} have neither value nor status")


def yields_what_it_declares(bench: Bench) -> None:
    """Each reading is one that the spec declares, with the declared unit, and good values lie where it says."""
    if not bench.spec.readings:
        raise NotApplicable("declares no readings")
    for subject in SUBJECTS:
        for reading in _readings(bench, subject):
            declared = next((one for one in bench.spec.readings if one.covers(reading.name)), None)
            require(declared is not None, f"{reading.name} is not declared")
            assert declared is not None
            require(reading.unit == declared.unit, f"{reading.key} has unit {reading.unit!r}, not {declared.unit!r}")
            allowed = declared.directions(reading.split)
            require(reading.better in allowed, f"{reading.key} says {reading.better}, its spec {' or '.join(allowed)}")


def value_lies_in_its_interval(bench: Bench) -> None:
    """A reading with an interval lies in it."""
    for subject in SUBJECTS:
        outside = [
            r.key
            for r in _readings(bench, subject)
            if None not in (r.low, r.value, r.high) and not r.low <= r.value <= r.high  # type: ignore[operator]
        ]
        require(not outside, f"{', '.join(outside[:3])} of {subject} lies outside its own interval")


def what_did_nothing_reads_as_the_original(bench: Bench) -> None:
    """A model that an unlearner handed back as it was has the readings of the original, to the last digit."""
    if "cost" in bench.spec.reads or bench.spec.effort == "repetition":
        raise NotApplicable("it reads what the subject cost")
    original, unlearned = (
        _values(_readings(bench, subject, unlearner="identity")) for subject in ("original", "unlearned")
    )
    shared = original.keys() & unlearned.keys()
    differ = sorted(key for key in shared if original[key] != unlearned[key])
    require(shared, "no reading is about both")
    require(not differ, f"{', '.join(differ[:3])} tell the original from its exact copy")


def row_order_does_not_matter_to_it(bench: Bench) -> None:
    """The order of rows does not change a reading, rounding aside."""
    if "cost" in bench.spec.reads:
        raise NotApplicable("it reads the clock")
    plain, shuffled = (_values(_readings(bench, "unlearned", kind)) for kind in (RunEvidence, Shuffled))
    require(plain.keys() == shuffled.keys(), "other readings with the rows in another order")
    differ = [key for key, value in plain.items() if not _alike(value, shuffled[key])]
    require(not differ, f"{', '.join(differ[:3])} depend on the order of rows")


def _alike(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6))


def same_seed_same_readings(bench: Bench) -> None:
    """The same run gives the same readings."""
    if "cost" in bench.spec.reads:
        raise NotApplicable("it reads the clock")
    first = _values(_readings(bench, "unlearned"))
    again = _values(_taken(bench, bench.stages(), "unlearned"))
    require(first == again, "two calls give other values")


def gold_is_ideal(bench: Bench) -> None:
    """A distance to gold is 0 for gold itself and larger for the original."""
    if "gold" not in bench.spec.reads or "cost" in bench.spec.reads:
        raise NotApplicable("measures no distance to gold")
    gold, original = (_readings(bench, subject) for subject in ("gold", "original"))
    distances = [reading.key for reading in gold if reading.better == "lower"]
    off = [key for key in distances if abs(_values(gold)[key] or 0) > 1e-6]
    require(not off, f"{', '.join(off[:3])} of gold against gold is not 0")
    values = _values(original)
    far = [key for key in distances if (values[key] or 0) < 0]
    require(not far, f"{', '.join(far[:3])} of the original is nearer to gold than gold")


def no_rows_is_a_status(bench: Bench) -> None:
    """About a split without rows it says a status, or nothing: never 0, never an error."""
    for reading in _readings(bench, "unlearned", WithoutTestRows):
        if reading.split == "test":
            require(reading.value is None, f"{reading.key} is {reading.value} without a single row")


def diverged_outputs_are_a_status(bench: Bench) -> None:
    """Outputs that are not numbers give a status: a value that is still there does not depend on them."""
    if "cost" in bench.spec.reads:
        raise NotApplicable("it reads the clock")
    plain = _values(_readings(bench, "original"))
    diverged = _readings(bench, "original", Diverged)
    made_up = [r.key for r in diverged if r.value is not None and r.value != plain[r.key]]
    require(not made_up, f"{', '.join(made_up[:3])} have a value although the outputs are not numbers")


CHECKS: tuple[Check, ...] = (
    readings_say_what_they_are,
    yields_what_it_declares,
    value_lies_in_its_interval,
    what_did_nothing_reads_as_the_original,
    row_order_does_not_matter_to_it,
    same_seed_same_readings,
    gold_is_ideal,
    no_rows_is_a_status,
    diverged_outputs_are_a_status,
)
