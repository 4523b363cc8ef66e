"""The command meta: what each measure is worth, on models of which it is known what they have forgotten."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unlearnbench.cli.browse import echo_json
from unlearnbench.cli.compare import number

if TYPE_CHECKING:
    from rich.console import Console

    from unlearnbench.meta import Entry, Meta, Score

COLUMNS = ("tau", "apart", "finds", "noise", "CPU s")
LEGEND = (
    "tau: Kendall's tau of the distance from gold with the share of the forget set that was kept (1: the right order).",
    "apart: steps between neighbouring shares in the right order with intervals that do not overlap; own intervals for "
    "each seed, or (*) Student's over seeds.",
    "finds: the smallest kept share that is farther from gold, with every seed, than another gold is with any, and not "
    "like gold by the intervals where there are any.",
    "yes/no: whether a model is told from gold in the same way.",
    "noise: standard deviation over seeds as a part of the distance between original and gold.",
    "CPU s: mean of a run; models that runs share count in the first that needs them.",
)


@click.command("meta")
@click.option("--scenario", metavar="NAME", help="A scenario that memorises. [default: location30-mlp-random10/v1]")
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Measure to score. Repeatable.")
@click.option(
    "--profile",
    type=click.Choice(["smoke", "standard", "audit", "gold"]),
    help="Measures of a profile. [default: audit, unless measures are named]",
)
@click.option(
    "--seed", "seeds", multiple=True, type=click.IntRange(min=0), metavar="N", help="Repeatable. [default: 0 1 2]"
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs-meta"), show_default=True, help="Folder of records."
)
@click.option("--store", type=click.Path(path_type=Path), help="Folder of stored models. [default: OUT/store]")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.md", help="Write a Markdown table too.")
@click.option("--every-reading", is_flag=True, help="Show every reading, not only the best of each measure.")
@click.option("--json", "as_json", is_flag=True, help="Print every reading as JSON instead of the table.")
def meta_command(
    scenario: str | None,
    measures: tuple[str, ...],
    profile: str | None,
    seeds: tuple[int, ...],
    out: Path,
    store: Path | None,
    output: Path | None,
    every_reading: bool,
    as_json: bool,
) -> int:
    """Measure the measures: do they order, and catch, models of which it is known what they have forgotten?

    The bank: gold, partial retraining with 25, 50 and 75 % of the forget set, the original, an over-unlearned model, a
    scrambled head on intact features, and unlearners tuned until a threshold on the loss reads chance.
    """
    from unlearnbench.cli import trace
    from unlearnbench.cli.progress import progress_bar, watched
    from unlearnbench.meta.bench import DEFAULT_SCENARIO, measure_the_measures
    from unlearnbench.phases import no_progress
    from unlearnbench.store import cannot_write

    with contextlib.redirect_stdout(sys.stderr):
        found = measure_the_measures(
            scene=scenario or DEFAULT_SCENARIO,
            measures=measures,
            profile=profile,
            seeds=seeds or (0, 1, 2),
            out=out,
            store=store,
            on_event=lambda event: click.echo(event, err=True),
            on_price=lambda price: click.echo(f"price: {price}", err=True) if price.models else None,
            progress=progress_bar if watched() and not as_json else no_progress,
        )
    if output is not None:
        try:
            output.write_text(markdown(found, every=every_reading), "utf-8")
        except OSError as refused:
            raise cannot_write(output, refused) from refused
    if as_json:
        echo_json(found.to_json())
    else:
        _print(found, every=every_reading)
        if output is not None:
            click.echo(f"table  {output}")
    for problem in found.problems:
        trace(problem)
        click.echo(f"error: {problem}", err=True)
    return max((problem.exit_code for problem in found.problems), default=0)


def markdown(found: Meta, *, every: bool) -> str:
    """The table as a Markdown document of its own."""
    scores = shown(found, every=every)
    headings = ["reading", *(heading for heading, _ in _cells(scores[0], found))] if scores else []
    lines = [title(found), ""]
    if headings:
        lines += [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    lines += [f"| `{_name(s)}` | {' | '.join(text for _, text in _cells(s, found))} |" for s in scores]
    return "\n".join([*lines, "", *(f"- {line}" for line in _notes(found, every=every))]) + "\n"


def shown(found: Meta, *, every: bool) -> list[Score]:
    """The scores that a table has a row for: all, or the best of each measure."""
    if every:
        return list(found.scores)
    best: dict[str, Score] = {}
    for score in found.scores:
        best.setdefault(score.measure, score)
    return list(best.values())


def _notes(found: Meta, *, every: bool) -> list[str]:
    left_out = [] if every else ["A measure is shown by its best reading; --every-reading shows all."]
    return [*tunings(found), *left_out, *LEGEND]


def title(found: Meta) -> str:
    """What was run, in one line."""
    seeds = " ".join(map(str, found.seeds))
    return f"{found.scenario} · {len(found.bank)} models of known truth · seed{'s' * (len(found.seeds) > 1)} {seeds}"


def tunings(found: Meta) -> list[str]:
    """Where the search for each tuned entry ended."""
    return [
        f"{label}: learning rate {tuned.lr:.3g}, where the loss attack reads {tuned.reading:.3f}"
        for label, tuned in found.tuned.items()
    ]


def _name(score: Score) -> str:
    return f"{score.measure}: {score.key}"


def _cells(score: Score, found: Meta) -> list[tuple[str, str]]:
    """Heading and text: means along the kept shares, how good the order is, what else is told from gold."""
    ladder = [entry for entry in found.bank if entry.kept is not None]
    shares = f"kept {' '.join(f'{100 * (entry.kept or 0):g}' for entry in ladder)} %"
    apart = score.apart
    own = {
        "tau": "-" if score.tau is None else f"{score.tau:.2f}",
        "apart": "-" if apart is None else f"{apart.steps}/{apart.of}{'*' * (apart.intervals == 'seeds')}",
        "finds": "-" if score.finds is None else f"{100 * score.finds:g} %",
        "noise": "-" if score.noise is None else f"{score.noise:.2f}" if score.noise < 10 else ">10",
        "CPU s": f"{score.cpu_s:.2f}",
    }
    return [
        (shares, " ".join(_value(score, entry) for entry in ladder)),
        *((heading, own[heading]) for heading in COLUMNS[:3]),
        *((e.label, f"{_value(score, e)} {_told(score, e)}".strip()) for e in found.bank if e.kept is None),
        *((heading, own[heading]) for heading in COLUMNS[3:]),
    ]


def _value(score: Score, entry: Entry) -> str:
    value = score.values[entry.label]
    return "-" if value is None else number(value)


def _told(score: Score, entry: Entry) -> str:
    told = score.told[entry.label]
    return "" if told is None else "yes" if told else "no"


def _print(found: Meta, *, every: bool) -> None:
    """A table if it fits, else a block per reading; what every symbol means is said below."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    rows = [(_name(score), _cells(score, found)) for score in shown(found, every=every)]
    console = Console(file=sys.stdout, highlight=False)
    console.print(title(found), markup=False)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("", no_wrap=True)
        for heading, _ in rows[0][1]:
            table.add_column(heading, justify="right", no_wrap=True)
        for name, cells in rows:
            table.add_row(name, *(text for _, text in cells))
        needed = Measurement.get(console, console.options.update(max_width=1000), table).maximum
        fixed = console.is_terminal or "COLUMNS" in os.environ
        console.width = console.width if fixed else max(console.width, needed)
        if needed <= console.width:
            console.print(table)
        else:
            _print_blocks(console, rows)
    for line in _notes(found, every=every):
        console.print(line, markup=False)


def _print_blocks(console: Console, rows: list[tuple[str, list[tuple[str, str]]]]) -> None:
    for name, cells in rows:
        wide = max(len(heading) for heading, _ in cells)
        console.print(f"\n{name}", markup=False)
        for heading, text in cells:
            console.print(f"  {heading:<{wide}}  {text}", markup=False)
    console.print()
