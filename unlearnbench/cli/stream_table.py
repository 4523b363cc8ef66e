"""The table of a stream: what was asked, how good the model stayed, what is certified, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from unlearnbench.cli.table import print_grid
from unlearnbench.record import Record
from unlearnbench.stream_rows import ServedRow, StreamSummary, chosen_rows, stream_rows, summary
from unlearnbench.tracking.labels import seed_label

MOST_ROWS = 12
MOST_TABLES = 5
NOTHING = "-"


def _accuracy(subject: str) -> Callable[[ServedRow], float | None]:
    return lambda row: row.accuracy.get((subject, "test"))


def _fixed(value: float) -> str:
    return f"{value:.3f}"


def _small(value: float) -> str:
    return f"{value:.2e}" if value and not 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"


def times(value: float) -> str:
    """How many times cheaper, with the digits that say something."""
    return f"{value:.1f}x" if value < 100 else f"{value:,.0f}x"


COLUMNS: tuple[tuple[str, Callable[[ServedRow], float | None], Callable[[float], str]], ...] = (
    ("test acc", _accuracy("unlearned"), _fixed),
    ("gold acc", _accuracy("gold"), _fixed),
    ("bound", lambda row: row.bound, _small),
    ("budget", lambda row: row.budget, _small),
    ("true residual", lambda row: row.residual, _small),
    ("CPU s", lambda row: row.cpu_s, _seconds),
    ("gold CPU s", lambda row: row.gold_cpu_s, _seconds),
    ("cheaper", lambda row: row.times_cheaper, times),
)
"""Heading, value and how it is written; a column without any value is left out."""


def print_streams(records: Sequence[Record]) -> None:
    """Print the stream of each record that has one, of the first few in rows, of all in sentences."""
    streams = [(record, rows) for record in records if (rows := stream_rows(record.document))]
    for place, (record, rows) in enumerate(streams):
        name = f"stream of {record.unlearner}, seed {seed_label(record.document)}: {len(rows)} requests"
        if place < MOST_TABLES:
            shown = chosen_rows(rows, MOST_ROWS)
            left = len(rows) - len(shown)
            print_rows(f"{name}, {left} of them not shown" if left else name, shown)
        else:
            click.echo(name)
        for line in said(summary(rows)):
            click.echo(line)


def print_rows(caption: str, rows: Sequence[ServedRow]) -> None:
    """Print a table with one row per request."""
    columns = [column for column in COLUMNS if any(column[1](row) is not None for row in rows)]
    retrained = any(row.retrained for row in rows)
    headings = ["what", *(heading for heading, _, _ in columns)]
    cells = [[_what(row), *(_cell(value(row), write) for _, value, write in columns)] for row in rows]
    if retrained:  # beside what made the method do it
        place = headings.index("CPU s")
        headings.insert(place, "retrained")
        for row, line in zip(rows, cells, strict=True):
            line.insert(place, "yes" if row.retrained else NOTHING)
    print_grid(caption, [str(row.request) for row in rows], headings, cells)


def _what(row: ServedRow) -> str:
    return f"{row.kind} {row.elements:,}"


def _cell(value: float | None, write: Callable[[float], str]) -> str:
    return NOTHING if value is None else write(value)


def said(found: StreamSummary) -> list[str]:
    """What a stream comes to, in a line for accuracy, one for certificates and one for time."""
    lines = []
    if found.before is not None and found.after is not None and found.change is not None:
        lines.append(
            f"test accuracy {found.before:.3f} before, {found.after:.3f} after; "
            f"largest change {100 * found.change:.2f} points"
        )
    if found.certified:
        line = f"bound above the budget {_often(found.violations, found.certified)}, retrained {_count(found.retrains)}"
        beyond = f"; true residual above the bound {_often(found.passed, found.compared)}" if found.compared else ""
        lines.append(line + beyond)
    elif found.retrains:
        lines.append(f"retrained {_count(found.retrains)}")
    cheaper = f", {times(found.times_cheaper)} cheaper than retraining" if found.times_cheaper is not None else ""
    lines.append(f"{_seconds(found.cpu_s)} CPU s per request{cheaper}")
    return lines


def _count(number: int) -> str:
    return "never" if not number else "once" if number == 1 else f"{number:,} times"


def _often(number: int, of: int) -> str:
    return f"{_count(number)} in {of:,}"
