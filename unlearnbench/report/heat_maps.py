"""Heat maps: what is known of each class by a row of gates that hides one, or after one was forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from unlearnbench.comparison.comparable import labels, scene_parts, usable
from unlearnbench.comparison.series import Series, coordinates, gather
from unlearnbench.identity import digest
from unlearnbench.plugins import printable
from unlearnbench.record import Record
from unlearnbench.report.drawing import named
from unlearnbench.statistics import nested_means
from unlearnbench.tracking.row_plot import COORDINATES, Cell

LEAST_REQUESTS = 3
"""Forgotten classes that make a figure: two of them stand in two tables as well."""
SUBJECTS = ("gold", "original", "unlearned")
"""Gold first: the others are held against it."""
WORD = "forgotten class"
"""What a row of a fan-out is."""


@dataclass(frozen=True)
class HeatMap:
    """One reading of one subject by row and class, means over training seeds; what has no value has no cell.

    ``word`` says what a row is, ``seeds`` how many training seeds the cells have, ascending.
    """

    title: str
    subject: str
    label: str
    word: str
    what: str
    rows: tuple[str, ...]
    classes: tuple[str, ...]
    values: Mapping[Cell, float]
    seeds: tuple[int, ...]

    @property
    def forgotten(self) -> tuple[float, ...]:
        """Values of the classes that their rows forget."""
        return tuple(value for (row, name), value in self.values.items() if row == name)

    @property
    def others(self) -> tuple[float, ...]:
        return tuple(value for (row, name), value in self.values.items() if row != name)


@dataclass(frozen=True)
class FanOut:
    """Requests that differ only in the one class that they name: the matrices of gold and of every unlearner."""

    title: str
    maps: tuple[HeatMap, ...]


@dataclass(frozen=True)
class HeatMaps:
    """Those of each group of records that are compared with each other, and those that need several groups."""

    by_group: tuple[tuple[HeatMap, ...], ...]
    fan_outs: tuple[FanOut, ...]


@dataclass
class _Cells:
    """Cells as they are found, with the seeds of each."""

    orders: list[list[str]] = field(default_factory=list)
    rows: dict[str, None] = field(default_factory=dict)
    values: dict[Cell, float] = field(default_factory=dict)
    seeds: set[int] = field(default_factory=set)

    def take(self, row: str, name: str, series: Series) -> None:
        self.rows.setdefault(row)
        if series.values:
            means = nested_means(series.values)
            self.values[row, name] = fmean(means.values())
            self.seeds.add(len(means))

    def heat_map(self, title: str, subject: str, label: str, word: str, what: str) -> HeatMap:
        classes = tuple(merged(self.orders))
        rows = tuple(self.rows)
        if self.rows.keys() <= set(classes):
            rows = tuple(name for name in classes if name in self.rows)
        return HeatMap(title, subject, label, word, what, rows, classes, self.values, tuple(sorted(self.seeds)))


def heat_maps(groups: Sequence[Sequence[Record]]) -> HeatMaps:
    """All that there is to draw of groups of records, each of them of one scenario."""
    return HeatMaps(tuple(map(row_maps, groups)), fan_outs([record for group in groups for record in group]))


def row_maps(group: Sequence[Record]) -> tuple[HeatMap, ...]:
    """A heat map for each reading with a row and a class, on each split and of each subject."""
    called = labels(group)
    found: dict[tuple[str, str], dict[tuple[int, str], _Cells]] = {}
    for one, variant in gather(usable(group)[0], called, _has_row_and_class):
        reading = one.reading
        row, name = reading["at"]["row"], reading["at"]["class"]
        key = named(reading["measure"], variant, reading["name"], reading["split"]), printable(reading["name"])
        for label, series in one.series.items():
            of_key = found.setdefault(key, {})
            cells = of_key.setdefault((SUBJECTS.index(series.subject), label), _Cells([[]]))
            if name not in cells.orders[0]:
                cells.orders[0].append(name)
            cells.take(row, name, series)
    return tuple(
        cells.heat_map(f"{what}, {printable(label)}", SUBJECTS[place], label, "row", name)
        for (what, name), by_label in found.items()
        for (place, label), cells in sorted(by_label.items(), key=lambda item: item[0])
        if cells.values
    )


def _has_row_and_class(reading: Mapping[str, Any], record: Record) -> bool:
    return coordinates(reading, record).keys() == COORDINATES


def fan_outs(records: Iterable[Record]) -> tuple[FanOut, ...]:
    """The matrices of runs of one data set, model and recipe whose requests each forget a class of their own.

    Rows are the forgotten classes, columns all classes: accuracy on test rows, of the forgotten class on the hold-out,
    for it has no test rows any more. A subject needs ``LEAST_REQUESTS`` of them.
    """
    alike: dict[str, list[Record]] = {}
    for record in usable(records)[0]:
        requests = record.document["spec"]["requests"]
        if len(requests) == 1 and requests[0]["kind"] == "class" and len(requests[0]["classes"]) == 1:
            alike.setdefault(_all_but_class(record), []).append(record)
    found = [FanOut(_title(group), tuple(_matrices(group))) for group in alike.values()]
    return tuple(each for each in found if each.maps)


def _all_but_class(record: Record) -> str:
    """What the runs of a fan-out have in common."""
    request = {key: value for key, value in record.document["spec"]["requests"][0].items() if key != "classes"}
    return digest({**scene_parts(record), "requests": request})


def _title(group: Sequence[Record]) -> str:
    spec = group[0].document["spec"]
    return f"{spec['dataset']['name']} / {spec['model']['name']}"


def _matrices(group: Sequence[Record]) -> list[HeatMap]:
    called = labels(group)
    by_class: dict[str, list[Record]] = {}
    for record in group:
        by_class.setdefault(_forgotten_class(record), []).append(record)
    orders = [[name for name in _tested(records[0]) if name != row] for row, records in by_class.items()]
    orders += [[row] for row in by_class]  # also those that no other run has test rows of
    found: dict[tuple[int, str, str], _Cells] = {}
    for row, records in by_class.items():
        for one, variant in gather(records, called, _is_of_class):
            name = one.reading["at"]["class"]
            if one.reading["split"] == ("holdout" if name == row else "test"):
                for label, series in one.series.items():
                    if series.subject != "original":  # it has forgotten nothing: all its rows are the same
                        key = SUBJECTS.index(series.subject), label, variant
                        found.setdefault(key, _Cells(orders)).take(row, name, series)
    return [
        cells.heat_map(f"Accuracy by {WORD}, {_called(label, variant)}", SUBJECTS[place], label, WORD, "accuracy")
        for (place, label, variant), cells in sorted(found.items(), key=lambda item: item[0])
        if len({row for row, _ in cells.values}) >= LEAST_REQUESTS
    ]


def _called(label: str, variant: str) -> str:
    return printable(f"{label} ({variant})" if variant else label)


def _is_of_class(reading: Mapping[str, Any], record: Record) -> bool:
    return reading["measure"] == reading["name"] == "accuracy" and coordinates(reading, record).keys() == {"class"}


def _forgotten_class(record: Record) -> str:
    """By the name that readings have for it, which a request may give by its position."""
    rows = [r["at"]["class"] for r in record.readings if _is_of_class(r, record) and r["split"] == "forget"]
    return str(rows[0] if rows else record.document["spec"]["requests"][0]["classes"][0])


def _tested(record: Record) -> list[str]:
    """Classes with test rows, in the order of the model's outputs."""
    rows = (r["at"]["class"] for r in record.readings if _is_of_class(r, record) and r["split"] == "test")
    return list(dict.fromkeys(rows))


def merged(orders: Iterable[Sequence[str]]) -> list[str]:
    """One order of names from several that each lack some; what they contradict each other in is as it comes."""
    before: dict[str, set[str]] = {}
    for order in orders:
        for place, name in enumerate(order):
            before.setdefault(name, set()).update(order[max(place - 1, 0) : place])
    found: list[str] = []
    while before:
        first = next(iter(before))
        found.append(next((name for name, earlier in before.items() if earlier.isdisjoint(before)), first))
        del before[found[-1]]
    return found
