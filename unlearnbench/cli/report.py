"""The command report: what records say of unlearners over seeds, drawn on one page."""

from __future__ import annotations

from pathlib import Path

import click

from unlearnbench.cli.compare import read_records


@click.command("report")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File to write.",
)
def report_command(paths: tuple[Path, ...], output: Path) -> int:
    """Draw a comparison as one HTML file: gaps to gold, Pareto fronts, attacks, relearning.

    PATHS are records or folders of them. The file needs nothing but itself: no network, no script.
    """
    records, problems = read_records(paths)
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    if records:
        from unlearnbench.report import make_report, write_report

        write_report(make_report(records), output)
        click.echo(f"report  {output}")
    return 1 if problems else 0
