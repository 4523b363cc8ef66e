"""``unlearnbench leaderboard verify``: what is reported, what comes out again, and which level holds."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unlearnbench.cli.browse import echo_json

if TYPE_CHECKING:
    from unlearnbench.leaderboard.recompute import Compared
    from unlearnbench.leaderboard.verification import Check, Verification

MOST_READINGS = 40
MOST_PROBLEMS = 20
_NUMBER = 12
_VERDICT = 9


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--level",
    type=click.Choice(["recomputed-metrics", "recomputed-from-weights", "rerun"]),
    default="recomputed-metrics",
    show_default=True,
    help="How far to go; each level needs those before it.",
)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Make N runs again in place of all.")
@click.option("--seed", type=click.IntRange(min=0), metavar="S", help="Seed of the sample. [default: drawn, and told]")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write the verification as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the verification as JSON.")
@click.option("--all-readings", is_flag=True, help="Show readings that are the same, too.")
@click.option(
    "--public-key", type=click.Path(path_type=Path), metavar="FILE", help="Check the signature with this key."
)
@click.option("--download", is_flag=True, help="Fetch missing data first; nothing is ever downloaded without it.")
def verify_command(
    path: Path,
    level: str,
    sample: int | None,
    seed: int | None,
    report: Path | None,
    as_json: bool,
    all_readings: bool,
    public_key: Path | None,
    download: bool,
) -> int:
    """Verify a submission: recompute its readings from outputs or weights, or make its runs again.

    PATH is the submission's folder or a zip of it. Exits with 0 where the level that was asked for holds, 1 where it
    does not, 3 where a plugin is missing or another version, 5 where the submission cannot be read.
    """
    from unlearnbench.leaderboard.verification import worst_exit_code
    from unlearnbench.leaderboard.verify import examine
    from unlearnbench.registry import registry

    found = examine(
        path, level,  # type: ignore[arg-type]
        registry=registry(), sample=sample, seed=seed, download=download, key=public_key, progress=_progress(),
    )  # fmt: skip
    document = found.to_json()
    if report is not None:
        _write(report, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    if as_json:
        echo_json(document)
    else:
        _print(found, everything=all_readings)
    return 0 if found.passed else worst_exit_code(found.problems)


def _progress() -> Callable[[str], None]:
    """A line that rewrites itself, on terminals alone."""
    if not sys.stderr.isatty():
        return lambda line: None
    return lambda line: click.echo(f"\r\x1b[K{line}", err=True, nl=False)


def _write(report: Path, text: str) -> None:
    from unlearnbench.store import cannot_write

    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(text, "utf-8")
    except OSError as problem:
        raise cannot_write(report, problem) from problem


def _print(found: Verification, *, everything: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    drawn = None if found.sample is None else found.sample["seed"]
    for check in found.checks:
        _print_readings(found, check, everything=everything or (check.level == "rerun" and drawn is not None))
    for name, flag in found.flags:
        click.echo(f"flag: [{flag.code}] {_plain(name)} on {_plain(flag.scenario)}: {_plain(flag.message)}")
    for check in found.checks:
        click.echo(_summary(check))
    if drawn is not None:
        made = sum(len(check.runs) for check in found.checks if check.level == "rerun")
        click.echo(f"sample: {made} of {len(found.submission.runs)} runs, seed {drawn}")
    if found.signature != "none":
        click.echo(f"signature: {found.signature}")
    for problem in found.problems[:MOST_PROBLEMS]:
        click.echo(f"error: {_plain(str(problem))}", err=True)
    if len(found.problems) > MOST_PROBLEMS:
        click.echo(f"error: and {len(found.problems) - MOST_PROBLEMS} more problems (--json has them all)", err=True)
    held = "holds" if found.passed else f"does not hold; what holds is {found.level}"
    click.echo(f"{_plain(found.submission.name)} on {found.submission.suite}: {found.asked} {held}")


def _print_readings(found: Verification, check: Check, *, everything: bool) -> None:
    """Readings by run: those that differ, or all of them; never more than a screenful unless they were asked for."""
    chosen = [
        (run, reading)
        for run, comparison in check.runs.items()
        for reading in comparison.readings
        if everything or reading.verdict != "same"
    ]
    shown = chosen if everything else chosen[:MOST_READINGS]
    width = max((len(_name(reading)) for _, reading in shown), default=0)
    width = min(width, max(20, _columns() - 2 * (_NUMBER + 2) - _VERDICT - 4))
    last = ""
    for run, reading in shown:
        if run != last:
            same = {True: ", digest of the record identical", False: ", digest of the record differs"}
            told = same[found.identical[run]] if check.level == "rerun" and run in found.identical else ""
            click.echo(f"{_plain(run)} ({check.level}{told})")
            click.echo(f"  {'reading':<{width}}  {'reported':>{_NUMBER}}  {'recomputed':>{_NUMBER}}  verdict")
            last = run
        for line in _lines(reading, width):
            click.echo(line)
    if len(chosen) > len(shown):
        click.echo(f"  and {len(chosen) - len(shown)} more that differ (--all-readings shows all)")
    if shown:
        click.echo()


def _lines(reading: Compared, width: int) -> Sequence[str]:
    """One line, or two where the name is wider than its column."""
    name = _name(reading)
    fields = f" ({', '.join(reading.fields)})" if reading.verdict == "outside" else ""
    cells = (
        f"{_number(reading.reported):>{_NUMBER}}  {_number(reading.recomputed):>{_NUMBER}}  {reading.verdict}{fields}"
    )
    if len(name) > width:
        return [f"  {name}", f"  {'':<{width}}  {cells}"]
    return [f"  {name:<{width}}  {cells}"]


def _name(reading: Compared) -> str:
    return _plain(f"{reading.subject} {reading.measure}: {reading.key}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _summary(check: Check) -> str:
    counts = check.to_json()
    told = ", ".join(f"{counts[name]} {name}" for name in ("same", "within", "outside", "missing"))
    return (
        f"{check.level:<23} {check.status}: {counts['runs']} runs, {counts['readings']} readings: {told}; "
        f"{counts['not_compared']} not compared"
    )


def _columns() -> int:
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() or "COLUMNS" in os.environ else 100


def _plain(text: str) -> str:
    """What comes from a stranger rewrites no terminal."""
    from unlearnbench.plugins import printable

    return printable(text)
