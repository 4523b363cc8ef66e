"""The command compare: what records say of unlearners over seeds, with intervals, tests and ties."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.cli.browse import echo_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from unlearnbench.comparison import Comparison, Estimate, ReadingComparison, Row
    from unlearnbench.record import Record


def _level(ctx: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuse what is not a number, which no range of click refuses."""
    if math.isnan(value):
        raise click.BadParameter(f"{value} is not a level", ctx, parameter)
    return value


Line = tuple[str, list[tuple[str, str]]]
"""A row's label, and heading and text of its cells."""


@click.command("compare")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--reading", "readings", multiple=True, metavar="KEY", help="Compare this reading; repeatable.")
@click.option(
    "--test",
    type=click.Choice(["permutation", "wilcoxon"]),
    default="permutation",
    show_default=True,
    help="The paired test over training seeds.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.9999),
    callback=_level,
    default=0.95,
    show_default=True,
    help="Level of intervals; tests take 1 minus it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as one JSON list.")
def compare_command(
    paths: tuple[Path, ...],
    readings: tuple[str, ...],
    test: Literal["permutation", "wilcoxon"],
    confidence: float,
    as_json: bool,
) -> int:
    """Compare unlearners over training seeds: gaps to gold with intervals, paired tests, ranks, ties.

    PATHS are records or folders of them. Without --reading, the readings of a run's table and all audits are compared.
    """
    from unlearnbench.comparison import compare

    records, problems = read_records(paths)
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    found = compare(records, readings, confidence=confidence, test=test)
    if as_json:
        echo_json([comparison.to_json() for comparison in found])
    else:
        for comparison in found:
            _print(comparison)
    return 1 if problems else 0


def read_records(paths: tuple[Path, ...]) -> tuple[list[Record], list[UnlearnBenchError]]:
    """All records in folders and files, and what is wrong with those that cannot be read.

    Raises:
        DataError: a path does not exist.
        UsageError: a folder holds no record.
    """
    from unlearnbench.record import find_records, read_record

    records, problems = [], []
    for path in paths:
        if not path.exists():
            raise DataError("missing-file", "does not exist", where=str(path), hint="name a folder that holds runs")
        files = find_records(path) if path.is_dir() else [path]
        if not files:
            raise UsageError("no-records", "no record.json below this folder", where=str(path),
                             hint="name a folder that holds runs")  # fmt: skip
        for file in files:
            try:
                records.append(read_record(file))
            except UnlearnBenchError as problem:
                problems.append(problem)
    return records, problems


def _print(comparison: Comparison) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    if not (console.is_terminal or "COLUMNS" in os.environ):
        console.width = max(console.width, 80)
    _say(console, comparison.title)
    for note in comparison.notes:
        _say(console, f"note: {note}")
    for left in comparison.left_out:
        _say(console, f"left out: {left.path} ({left.reason})")
    for reading in comparison.readings:
        _print_reading(console, reading, comparison)
    if not comparison.readings:
        _say(console, "no readings to compare")
    console.print()


def _print_reading(console: Console, reading: ReadingComparison, comparison: Comparison) -> None:
    """A table that fits: without the interval of the mean if need be, else a block per row."""
    from rich.measure import Measurement

    level = f"{100 * comparison.confidence:g} %"
    lines = [(row.label, _cells(row, reading, level)) for row in reading.rows]
    console.print()
    _say(console, _heading(reading))
    for left_out in ("", "of mean" if reading.basis == "gap" else ""):
        table = _table([(label, [c for c in cells if c[0] != f"{level} {left_out}"]) for label, cells in lines])
        if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
            console.print(table)
            break
    else:
        _print_blocks(console, lines)
    _say(console, reading.conclusion)
    for line in _details(reading):
        _say(console, line, indent=2)


def _table(lines: list[Line]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    cells = lines[0][1]
    for place, (heading, _) in enumerate(cells):
        # A column that no row fills says nothing.
        if any(line[place][1] for _, line in lines):
            table.add_column(heading, justify="right", no_wrap=True)
    filled = [place for place in range(len(cells)) if any(line[place][1] for _, line in lines)]
    for label, line in lines:
        table.add_row(_plain(label), *(line[place][1] for place in filled))
    return table


def _heading(reading: ReadingComparison) -> str:
    unit = f" in {reading.unit}" if reading.unit else ""
    variant = f" with {reading.variant}" if reading.variant else ""
    aims = {"gold": "gold's value is the aim", "higher": "higher is better", "lower": "lower is better"}
    return f"{reading.key}{unit} ({reading.measure}{variant}; {aims.get(reading.better, reading.better)})"


def _cells(row: Row, reading: ReadingComparison, level: str) -> list[tuple[str, str]]:
    """Heading and text of each cell."""
    mean = "-" if row.value.mean is None else number(row.value.mean)
    sd = "" if row.value.sd is None else f" ±{number(row.value.sd)}"
    cells = [("seeds", str(row.value.n)), ("mean ±sd", f"{mean}{sd}"), (f"{level} of mean", interval(row.value))]
    if reading.basis == "gap":
        gap = "" if row.gap.mean is None else number(row.gap.mean, signed=True)
        cells += [("gap to gold", gap), (f"{level} of gap", interval(row.gap, signed=True))]
    cells.append(("verdicts", ", ".join(f"{count} {word}" for word, count in row.verdicts.items())))
    return cells


def number(value: float, *, signed: bool = False) -> str:
    """Three digits behind the point for shares and scores, three digits at all for what is smaller, fewer else."""
    if value == 0:
        return "0"
    size = abs(value)
    kind = ".3g" if size < 0.01 else f".{3 if size < 10 else 2 if size < 100 else 1 if size < 10_000 else 0}f"
    return f"{value:{'+' if signed else ''}{kind}}"


def interval(estimate: Estimate, *, signed: bool = False) -> str:
    """Both ends, or nothing where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low, signed=signed)}, {number(estimate.high, signed=signed)}]"


def _details(reading: ReadingComparison) -> list[str]:
    """Floor, tied groups, pairs, ranks and notes, a line each."""
    found = []
    if reading.floor is not None:
        found.append(_floor(reading))
    if reading.ties:
        how = "by the test" if reading.ties_by == "test" else "by intervals"
        found.append(f"tied {how}: {'; '.join(' = '.join(group) for group in reading.ties)}")
    if reading.ties_by == "test":
        told = [f"{pair.first} / {pair.second} {pair.holm:.2g}" for pair in reading.pairs if pair.holm is not None]
        found.append(f"p after Holm: {'; '.join(told)}")
    if reading.ranks is not None:
        ranks = reading.ranks
        told = [f"{label} {rank:.2f}" for label, rank in sorted(ranks.average.items(), key=lambda item: item[1])]
        p = "undefined" if ranks.p is None else f"{ranks.p:.2g}"
        found.append(
            f"average ranks: {', '.join(told)}; critical difference {ranks.critical_difference:.2f}, Friedman p {p}"
        )
    return [*found, *_spread(reading), *(f"note: {note}" for note in reading.notes)]


def _floor(reading: ReadingComparison) -> str:
    floor = reading.floor
    assert floor is not None
    if floor.distance is not None and floor.distance.mean is not None:
        return (
            f"floor, gold against another gold: {number(floor.distance.mean)} {interval(floor.distance)} apart".rstrip()
        )
    assert floor.value.mean is not None
    sd = "" if floor.value.sd is None else f" ±{number(floor.value.sd)}"
    return f"floor: gold itself reads {number(floor.value.mean)}{sd}; run `retrain` too for gold against another gold"


def _spread(reading: ReadingComparison) -> list[str]:
    """Where variance enters, for rows in which more than training seeds were repeated."""
    found = []
    for row in reading.rows:
        parts = {"training": row.spread.train, "unlearning": row.spread.unlearn, "measure": row.spread.measure}
        if row.spread.unlearn is not None or row.spread.measure is not None:
            told = ", ".join(f"{number(sd)} over {name} seeds" for name, sd in parts.items() if sd is not None)
            found.append(f"sd of {row.label}: {told}")
    return found


def _print_blocks(console: Console, lines: list[Line]) -> None:
    for label, cells in lines:
        wide = max(len(heading) for heading, _ in cells)
        console.print()
        _say(console, label)
        for heading, text in cells:
            if text:
                _say(console, f"{heading:<{wide}}  {text}", indent=2)
    console.print()


def _plain(text: str) -> Text:
    """Names come from records of others; what is printed of them rewrites no terminal."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else " " for c in text))


def _say(console: Console, text: str, indent: int = 0) -> None:
    from rich.padding import Padding

    console.print(Padding(_plain(text), (0, 0, 0, indent), expand=False))
