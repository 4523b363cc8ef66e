"""Suites made up of records that belong to none: one scenario, with the axes and seeds that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from unlearnbench.comparison.series import coordinates, stem
from unlearnbench.leaderboard.board import Entry
from unlearnbench.leaderboard.lines import train_seed
from unlearnbench.leaderboard.suites import Axis, Part, Suite, suite, suite_names
from unlearnbench.record import Record

_FIXED = (
    Axis("forgetting", "accuracy", "accuracy.forget"),
    Axis("utility", "accuracy", "accuracy.test"),
    Axis("cost", "run-cost", "cpu-time"),
)
_NO_ATTACKS = frozenset({"accuracy", "agreement", "run-cost"})


def made_up(name: str, entries: Sequence[Entry]) -> Suite:
    """The suite of entries on one scenario that no suite has.

    Its seeds are those that more than half of the entries ran, so that one entry with a further seed does not take the
    rank of all others; where there is no such seed, all of them.
    """
    records = [record for entry in entries for record in entry.records]
    ran = Counter(seed for entry in entries for seed in {train_seed(record) for record in entry.records})
    seeds = sorted(seed for seed, times in ran.items() if 2 * times > len(entries)) or sorted(ran)
    return Suite(
        name=name,
        summary="Records of one scenario that belong to no suite.",
        track=str(records[0].document["spec"]["task"]),
        released="",
        seeds=tuple(seeds),
        settings=0,
        recompute=0.0,
        rerun=0.0,
        controls=controls(),
        parts=(Part(name, (), tuple(_axes(records)), (), {}),),
        sha256="",
    )


def controls() -> tuple[str, ...]:
    """Unlearners that are a control of any suite."""
    return tuple(sorted({name for each in suite_names() for name in suite(each).controls}))


def _axes(records: Iterable[Record]) -> Iterator[Axis]:
    """Those that have a reading in any record; privacy is the first attack in the order of the measures."""
    known: set[tuple[str, str]] = set()
    attacks: dict[tuple[str, str], bool] = {}
    for record in records:
        for reading in record.document["readings"]:
            if reading["subject"] == "unlearned" and not coordinates(reading, record):
                place = (reading["measure"], stem(reading, record))
                known.add(place)
                if is_attack(reading):
                    attacks.setdefault(place, reading["name"].endswith("auc"))
    yield from (axis for axis in _FIXED[:2] if (axis.measure, axis.key) in known)
    if attacks:  # the area under a curve sums up an attack; a rate at one threshold may be all noise
        yield Axis("privacy", *max(attacks, key=lambda place: attacks[place]))
    yield from (axis for axis in _FIXED[2:] if (axis.measure, axis.key) in known)


def is_attack(reading: dict[str, object]) -> bool:
    """It asks whether rows were members: the aim is gold's value, and it is of no measure of predictions as such."""
    named = str(reading["name"]).endswith("auc") or reading["name"] == "MIA" or bool(reading["interval"])
    return reading["better"] == "gold" and reading["measure"] not in _NO_ATTACKS and named
