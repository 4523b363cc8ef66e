"""The command report: what records say of unlearners over seeds, as a page of figures or as a paper's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unlearnbench.api.errors import UsageError
from unlearnbench.cli.browse import echo_json
from unlearnbench.cli.compare import read_records
from unlearnbench.cli.papers import cited
from unlearnbench.plugins import printable

if TYPE_CHECKING:
    from unlearnbench.comparison import FilledTable
    from unlearnbench.record import Record

PAGE = Path("report.html")


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help=f"File to write: HTML; with --table .csv, .tex or .html.  [default: {PAGE}; a table is printed]",
)
@click.option("--table", metavar="NAME", help="Print the table of a paper instead; see `list tables`.")
@click.option("--json", "as_json", is_flag=True, help="Print the table's numbers as one JSON document.")
def report_command(paths: tuple[Path, ...], output: Path | None, table: str | None, as_json: bool) -> int:
    """Draw a comparison as one HTML file, or print the table of a paper.

    PATHS are records or folders of them. The HTML file (gaps to gold, Pareto fronts, attacks, relearning) needs nothing
    but itself: no network, no script. A table has means over the requests of a fan-out and over training seeds.
    """
    if table is not None:
        return _table(paths, table, output, as_json)
    if as_json:
        raise UsageError("bad-output", "a page of figures is no JSON", where="--json",
                         hint="name a table with --table, or ask `unlearnbench compare --json`")  # fmt: skip
    records, code = _read(paths)
    if records:
        from unlearnbench.report import make_report, write_report

        output = output or PAGE
        write_report(make_report(records), output)
        click.echo(f"report  {output}")
    return code


def _read(paths: tuple[Path, ...]) -> tuple[list[Record], int]:
    """Records, and the exit code: what is wrong with others is said on standard error."""
    records, problems = read_records(paths)
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    return records, 1 if problems else 0


def _table(paths: tuple[Path, ...], name: str, output: Path | None, as_json: bool) -> int:
    """Fill a paper's table, and print it or write it."""
    from unlearnbench.comparison import fill_table
    from unlearnbench.registry import registry
    from unlearnbench.report.make import write_report
    from unlearnbench.report.paper_table import format_of

    spec = registry().table(name, where="--table").spec
    written = format_of(output) if output is not None else None
    records, code = _read(paths)
    if not records:
        return code
    table = fill_table(spec, records)
    captions = _captions(table)
    if output is not None and written is not None:
        write_report(written(table, captions), output)
    if as_json:
        echo_json(table.to_json())
    elif output is not None:
        click.echo(f"table  {output}")
    else:
        _print(table, captions)
    return code


def _captions(table: FilledTable) -> list[str]:
    """Which table of which paper, and what the block is made of."""
    spec = table.spec
    paper = f" ({cited(spec.paper)})" if spec.paper else ""
    return [printable(f"{spec.name}{paper} · {block.title}") for block in table.blocks]


def _print(table: FilledTable, captions: Sequence[str]) -> None:
    """Print every block with its notes, and what was left out."""
    from unlearnbench.cli.table import print_grid
    from unlearnbench.report.paper_table import cells, headings

    for caption, block in zip(captions, table.blocks, strict=True):
        labels = [row.label for row in block.rows]
        print_grid(caption, labels, headings(table), [cells(table, row) for row in block.rows])
        for note in block.notes:
            click.echo(f"note: {note}")
    for left in table.left_out:
        click.echo(printable(f"left out: {left.path} ({left.reason})"))
