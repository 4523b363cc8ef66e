"""The table after a run: original, gold and every unlearner side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from unlearnbench.record import Record

COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("forget acc", "accuracy", "accuracy", "forget"),
    ("retain acc", "accuracy", "accuracy", "retain"),
    ("test acc", "accuracy", "accuracy", "test"),
    ("MIA %", "ua-ra-ta-mia", "MIA", ""),
    ("avg gap", "ua-ra-ta-mia", "average-gap", ""),
    ("JS forget", "agreement", "js", "forget"),
    ("CPU s", "run-cost", "cpu-time", ""),
    ("speed-up", "run-cost", "speed-up", ""),
)
"""Heading, measure, reading and split of each column; a column without any value is left out."""

Row = tuple[str, dict[str, list[float]]]


def table_rows(records: Sequence[Record]) -> list[Row]:
    """Original, gold and each unlearner with their values over seeds, by heading.

    Original and gold come once per trainer: methods that own training have their own.
    """
    complete = [record for record in records if record.document["readings"]]
    found: list[Row] = []
    trainers = list(dict.fromkeys(record.document["trainer"] for record in complete))
    for trainer in trainers:
        own = {_seed(r): r for r in complete if r.document["trainer"] == trainer}
        mark = "" if trainer == "recipe" else f" of {trainer}"
        found += [(f"{subject}{mark}", _values(list(own.values()), subject)) for subject in ("original", "gold")]
    for name in dict.fromkeys(record.unlearner for record in complete):
        found.append((name, _values([r for r in complete if r.unlearner == name], "unlearned")))
    return found


def _seed(record: Record) -> int:
    return int(record.document["spec"]["seeds"]["train"])


def _values(records: Sequence[Record], subject: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for heading, measure, name, split in COLUMNS:
        values = [
            float(reading["value"])
            for record in records
            for reading in record.readings
            if (reading["measure"], reading["name"], reading["split"]) == (measure, name, split)
            and reading["subject"] == subject
            and reading["value"] is not None
            and _is_last(reading, record)
        ]
        if values:
            found[heading] = values
    return found


def _is_last(reading: Mapping[str, Any], record: Record) -> bool:
    """About all rows, after the last request of a stream."""
    requests = len(record.document["requests"])
    return bool(reading["at"] == ({"request": str(requests - 1)} if requests > 1 else {}))


def cell(heading: str, values: Sequence[float]) -> str:
    """Mean over seeds, with the standard deviation when there are several."""
    if heading == "speed-up":
        mean = fmean(values)
        return f"{mean:.1f}x" if mean < 1000 else ">999x"
    digits = 3 if heading in ("forget acc", "retain acc", "test acc", "JS forget") else 2
    text = f"{fmean(values):.{digits}f}"
    return f"{text} ±{stdev(values):.{digits}f}" if len(values) > 1 and heading != "CPU s" else text


def title(records: Sequence[Record]) -> str:
    """What was run, in one line."""
    document = records[0].document
    spec = document["spec"]
    scenario = spec["scenario"] or f"{spec['dataset']['name']} / {spec['model']['name']}"
    request = document["requests"][-1]
    what = f"{request['kind']}: forget {request['forget']:,} of {request['forget'] + request['retain']:,} rows"
    if len(document["requests"]) > 1:
        what = f"{len(document['requests'])} requests, the last {what}"
    seeds = len({(record.document["spec"]["seeds"]["train"]) for record in records})
    return f"{scenario} · {what} · {seeds} seed{'s' if seeds > 1 else ''}"


def groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records that may stand in one table: the same data, model and requests."""
    found: dict[str, list[Record]] = {}
    for record in records:
        document = record.document
        key = f"{document['data']['train']['digest']}{document['requests']}{document['spec']['model']}"
        found.setdefault(key, []).append(record)
    return list(found.values())


def print_table(records: Sequence[Record]) -> None:
    """Print one table per group of records; a narrow terminal gets one block per row instead."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    for group in groups(records):
        rows = table_rows(group)
        headings = [column[0] for column in COLUMNS if any(column[0] in values for _, values in rows)]
        if not headings:
            continue
        cells = [[cell(h, values[h]) if h in values else "" for h in headings] for _, values in rows]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for (name, _), line in zip(rows, cells, strict=True):
            table.add_row(name, *line)
        console = Console(file=sys.stdout, highlight=False)
        needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
        # A pipe has no width: never cut what a program may read. COLUMNS says that somebody means it.
        fixed = console.is_terminal or "COLUMNS" in os.environ
        console.width = console.width if fixed else max(console.width, needed)
        console.print(title(group), markup=False)
        if needed > console.width:
            _print_blocks(console, rows, headings, cells)
        else:
            console.print(table)


def _print_blocks(console: Any, rows: Sequence[Row], headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    wide = max(len(h) for h in headings)
    for (name, _), line in zip(rows, cells, strict=True):
        console.print(f"\n{name}", markup=False)
        for heading, text in zip(headings, line, strict=True):
            if text:
                console.print(f"  {heading:<{wide}}  {text}", markup=False)
    console.print()
