"""The table after a run: original, gold and every unlearner side by side."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from unlearnbench.comparison.comparable import title
from unlearnbench.comparison.compare import TARGETS
from unlearnbench.record import Record

Columns = tuple[tuple[str, str, str, str], ...]
"""Heading, measure, reading and split of each column; a column without any value is left out."""

_COST: Columns = (("CPU s", "run-cost", "cpu-time", ""), ("speed-up", "run-cost", "speed-up", ""))
COLUMNS: Columns = (
    ("forget acc", "accuracy", "accuracy", "forget"),
    ("retain acc", "accuracy", "accuracy", "retain"),
    ("test acc", "accuracy", "accuracy", "test"),
    ("test mAP", "accuracy", "map", "test"),
    ("test AP50", "accuracy", "map50", "test"),
    ("MIA %", "ua-ra-ta-mia", "MIA", ""),
    ("avg gap", "ua-ra-ta-mia", "average-gap", ""),
    ("JS forget", "agreement", "js", "forget"),
    *_COST,
)
TARGET_COLUMNS: Columns = (*((heading, "per-target", name, "test") for heading, name in TARGETS), *_COST)
"""Where targets were judged one by one: a mean accuracy over all of them would say nothing."""

TWO_DIGITS = ("MIA %", "avg gap", "CPU s")

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


def columns_of(records: Sequence[Record]) -> Columns:
    """The columns of these records' table: what became of targets, where they were judged one by one."""
    judged = any(reading["measure"] == "per-target" for record in records for reading in record.readings)
    return TARGET_COLUMNS if judged else COLUMNS


def _values(records: Sequence[Record], subject: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for heading, measure, name, split in columns_of(records):
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
    digits = 2 if heading in TWO_DIGITS else 3
    text = f"{fmean(values):.{digits}f}"
    return f"{text} ±{stdev(values):.{digits}f}" if len(values) > 1 and heading != "CPU s" else text


def groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records that may stand in one table: the same data, model and requests."""
    found: dict[str, list[Record]] = {}
    for record in records:
        document = record.document
        key = f"{document['data']['train']['digest']}{document['requests']}{document['spec']['model']}"
        found.setdefault(key, []).append(record)
    return list(found.values())


def print_table(records: Sequence[Record]) -> None:
    """Print one table per group of records, and the evidence besides it, if any was taken."""
    for group in groups(records):
        rows = table_rows(group)
        headings = [column[0] for column in columns_of(group) if any(column[0] in values for _, values in rows)]
        if headings:
            cells = [[cell(h, values[h]) if h in values else "" for h in headings] for _, values in rows]
            print_grid(title(group), [name for name, _ in rows], headings, cells)
        print_evidence(group)


def print_evidence(records: Sequence[Record]) -> None:
    """Attacks and audits beside original and gold: what has gold's value as its aim and is in no column above."""
    columns, found = evidence_rows(records)
    if not found:
        return
    seeds = len({_seed(record) for record in records})
    caption = "evidence: value [95 % interval]" + (", means over seeds" if seeds > 1 else "")
    caption += "; above or below: where most intervals leave out gold's"
    cells = [[_evidence_cell(by_subject.get(column, [])) for column in columns] for by_subject in found.values()]
    print_grid(caption, list(found), columns, cells)


def evidence_rows(records: Sequence[Record]) -> tuple[list[str], dict[str, dict[str, list[Mapping[str, Any]]]]]:
    """Names of the subjects, and their readings by the flat name of what was read."""
    shown = {(measure, name) for _, measure, name, _ in columns_of(records)}
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    columns: dict[str, None] = {}
    for record in records:
        trained = "" if record.document["trainer"] == "recipe" else f" of {record.document['trainer']}"
        for reading in record.readings:
            if not _is_evidence(reading, record, shown):
                continue
            subject = reading["subject"]
            column = record.unlearner if subject == "unlearned" else f"{subject}{trained}"
            columns[column] = None
            name = reading["key"].replace(f".request={len(record.document['requests']) - 1}", "")
            taken = found.setdefault(name, {}).setdefault(column, [])
            # Original and gold stand in the record of every unlearner that shares them.
            if subject == "unlearned" or _seed(record) not in {r["_seed"] for r in taken}:
                taken.append({**reading, "_seed": _seed(record)})
    return list(columns), found


def _is_evidence(reading: Mapping[str, Any], record: Record, shown: set[tuple[str, str]]) -> bool:
    at = {name: value for name, value in reading["at"].items() if name != "request"}
    last = reading["at"].get("request", str(len(record.document["requests"]) - 1))
    return (
        reading["better"] == "gold"
        and reading["split"] in ("", "forget")
        and (reading["measure"], reading["name"]) not in shown
        and reading["measure"] not in ("accuracy", "ua-ra-ta-mia")
        and at in ({}, {"fpr": "0.01"}, {"rows": "vulnerable"}, {"fpr": "0.01", "rows": "vulnerable"})
        and last == str(len(record.document["requests"]) - 1)
    )


def _evidence_cell(readings: Sequence[Mapping[str, Any]]) -> str:
    """Mean value, mean ends of the intervals, and the verdict of most; the status where there is no value."""
    valued = [reading for reading in readings if reading["value"] is not None]
    if not valued:
        return str(readings[0]["status"]) if readings else ""
    text = f"{fmean(reading['value'] for reading in valued):.3g}"
    ends = [reading["interval"] for reading in valued if reading["interval"]]
    if ends:
        text += f" [{fmean(low for low, _ in ends):.3g}, {fmean(high for _, high in ends):.3g}]"
    verdicts = [str(reading["verdict"]) for reading in valued if reading["verdict"]]
    for side in ("above", "below"):
        if 2 * verdicts.count(f"{side} gold") > len(valued):
            text += f" {side}"
    if len(valued) < len(readings):
        text += f" ({len(readings) - len(valued)} undefined)"
    return text


def print_grid(caption: str, names: Sequence[str], headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table; a terminal that is too narrow for it gets one block per row instead."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, line in zip(names, cells, strict=True):
        table.add_row(name, *line)
    console = Console(file=sys.stdout, highlight=False, markup=False)
    needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    # A pipe has no width: never cut what a program may read. COLUMNS says that somebody means it.
    fixed = console.is_terminal or "COLUMNS" in os.environ
    console.width = console.width if fixed else max(console.width, needed)
    console.print(caption, soft_wrap=not fixed)  # a pipe has no width
    if needed > console.width:
        _print_blocks(console, names, headings, cells)
    else:
        console.print(table)


def _print_blocks(console: Any, names: Sequence[str], headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    wide = max(len(h) for h in headings)
    for name, line in zip(names, cells, strict=True):
        console.print(f"\n{name}")
        for heading, text in zip(headings, line, strict=True):
            if text:
                console.print(f"  {heading:<{wide}}  {text}")
    console.print()
