"""The readings of each column of a paper's table, by row, request and seeds; every model of a run counts once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unlearnbench.api.tables import TableColumn
from unlearnbench.comparison.comparable import differing, measure_settings
from unlearnbench.comparison.document import Subject
from unlearnbench.comparison.fanout import Fan
from unlearnbench.comparison.series import Series, coordinates
from unlearnbench.identity import digest
from unlearnbench.record import Record

RowKey = tuple[str, Subject]
"""Label and subject of a row."""


@dataclass
class ColumnReadings:
    """What was read for one column: series by row and by the name of the request, and what one must know of them."""

    column: TableColumn
    series: dict[RowKey, dict[str, Series]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def readings_of_columns(
    columns: Sequence[TableColumn], rows: Mapping[RowKey, Sequence[Record]], records: Sequence[Record], fan: Fan
) -> list[ColumnReadings]:
    """The readings of all columns; ``rows`` has the records that each row may take them from."""
    wanted = {(column.measure, column.reading) for column in columns}
    found = {
        str(record.path): [r for r in record.readings if (r["measure"], r["name"]) in wanted] for record in records
    }
    return [_of_column(column, rows, records, found, fan) for column in columns]


def _of_column(
    column: TableColumn,
    rows: Mapping[RowKey, Sequence[Record]],
    records: Sequence[Record],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    fan: Fan,
) -> ColumnReadings:
    taken = ColumnReadings(column)
    matching = {
        str(record.path): [r for r in found[str(record.path)] if _matches(r, column, record)] for record in records
    }
    counting = _of_one_setting([record for record in records if matching[str(record.path)]], taken)
    for (label, subject), mine in rows.items():
        for record in (one for one in mine if str(one.path) in counting):
            for reading in matching[str(record.path)]:
                if reading["subject"] == subject:
                    _take(taken, (label, subject), record, reading, fan)
    return taken


def _matches(reading: Mapping[str, Any], column: TableColumn, record: Record) -> bool:
    """Of a stream, what was read after the last request: only then no request is left among the coordinates."""
    place = (reading["measure"], reading["name"], reading["split"])
    return place == (column.measure, column.reading, column.split) and coordinates(reading, record) == dict(column.at)


def _of_one_setting(records: Iterable[Record], taken: ColumnReadings) -> set[str]:
    """The records whose measure has the setting of most: means over two settings would mean nothing."""
    settings = {str(record.path): measure_settings(record).get(taken.column.measure, {}) for record in records}
    keys = {path: digest(setting) for path, setting in settings.items()}
    if not keys:
        return set()
    (most, count), *others = Counter(keys.values()).most_common()
    if others:
        by_key = {keys[path]: setting for path, setting in settings.items()}
        words = differing(by_key[most], list(by_key.values()))
        taken.notes.append(
            f"{taken.column.heading} was read with several settings of {taken.column.measure}: only those with {words} "
            f"count, {count} of {len(keys)} records"
        )
    return {path for path, key in keys.items() if key == most}


def _take(taken: ColumnReadings, row: RowKey, record: Record, reading: Mapping[str, Any], fan: Fan) -> None:
    """Keep a reading, once for each request and seeds: original and gold stand in the record of every unlearner."""
    seeds = record.document["spec"]["seeds"]
    label, subject = row
    seed = (seeds["train"], seeds["unlearn"] if subject == "unlearned" else 0, seeds["measure"])
    place = fan.place(record)
    by_request = taken.series.setdefault(row, {})
    series = by_request.setdefault(place.request, Series(subject, label, str(record.document["trainer"])))
    known = series.values.get(seed)
    if known is not None and reading["value"] is not None and known != reading["value"] and not _timed(record, reading):
        note = f"{taken.column.heading} of {label} differs between records of the same request and seeds: one counts"
        if note not in taken.notes:
            taken.notes.append(note)
    series.take(seed, reading)


def _timed(record: Record, reading: Mapping[str, Any]) -> bool:
    """Whether the clock is read, which never says the same twice."""
    return any(m["name"] == reading["measure"] and m["timed"] for m in record.document["measures"])
