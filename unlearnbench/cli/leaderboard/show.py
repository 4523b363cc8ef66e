"""``unlearnbench leaderboard show``: boards as text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unlearnbench.cli.browse import echo_json

if TYPE_CHECKING:
    from unlearnbench.leaderboard.board import Board, Bound, Entry, Ranking, Row
    from unlearnbench.leaderboard.entries import Gathered
    from unlearnbench.leaderboard.history import History
    from unlearnbench.statistics import Estimate

LEADERBOARD = Path("leaderboard")
SUBMISSIONS = LEADERBOARD / "submissions"
_LONGEST = 26


@click.command("show")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
@click.option("--suite", "name", metavar="NAME", help="Only this board.")
@click.option("--from-mlflow", "uri", metavar="URI", help="Take the records of an MLflow server or database, too.")
@click.option(
    "--history", "root", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Folder with verifications and retractions. [default: leaderboard, if SOURCES are left out]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the boards as one JSON list.")
def show_command(sources: tuple[Path, ...], name: str | None, uri: str | None, root: Path | None, as_json: bool) -> int:
    """Show boards: who is nearest to gold, with intervals, ties and levels of verification.

    SOURCES are submissions, folders of them, or folders of runs; leaderboard/submissions if there is one and nothing
    else is named. Exits with 1 where something was left out because it is not valid.
    """
    from unlearnbench.leaderboard.ranking import boards
    from unlearnbench.registry import unknown

    gathered, _ = gather(sources, uri, root)
    for problem in gathered.problems:
        click.echo(f"error: {problem}", err=True)
    found = boards(gathered.entries)
    if name is not None:
        known = [board.suite.name for board in found]
        if name not in known:
            raise unknown("board", name, known, where="--suite")
        found = tuple(board for board in found if board.suite.name == name)
    if as_json:
        echo_json([board.to_json() for board in found])
    else:
        for board in found:
            _print(board)
    return 1 if gathered.problems else 0


def gather(sources: Sequence[Path], uri: str | None, root: Path | None) -> tuple[Gathered, History]:
    """Entries of all sources and of an MLflow server, with the history that goes with them.

    Raises:
        UsageError: there is nothing to show.
    """
    from unlearnbench.api.errors import UsageError
    from unlearnbench.leaderboard.entries import Gathered, gather_entries
    from unlearnbench.leaderboard.history import History, read_history

    if not sources and uri is None:
        if not SUBMISSIONS.is_dir():
            raise UsageError("no-records", f"there is no {SUBMISSIONS}", where="SOURCES",
                             hint="name submissions, folders of runs, or --from-mlflow")  # fmt: skip
        sources, root = [SUBMISSIONS], root or LEADERBOARD
    history = read_history(root) if root is not None else History()
    if uri is None:
        return gather_entries(sources, history), history
    from unlearnbench.leaderboard.collect import collect

    with tempfile.TemporaryDirectory(prefix="unlearnbench-") as folder:
        collected = collect(uri, Path(folder))
        paths = [*sources, *([Path(folder)] if collected.records else [])]
        found = gather_entries(paths, history)
    return Gathered(found.entries, (*collected.problems, *found.problems)), history


def _print(board: Board) -> None:
    from unlearnbench.cli.table import print_grid

    rules = board.suite
    kind = "suite" if board.official else "no suite"
    _say(f"{rules.name} ({kind}): {rules.summary} Seeds {', '.join(map(str, rules.seeds))}.")
    for note in board.notes:
        _say(f"note: {note}")
    for ranking in board.rankings:
        entries = f"{len(ranking.rows)} {'entry' if len(ranking.rows) == 1 else 'entries'}"
        heads, cells = _summary(ranking, board)
        click.echo()
        print_grid(f"{ranking.division}: {entries}", [_name(row.entry) for row in ranking.rows], heads, cells)
        for part in rules.parts:
            rows = [row for row in ranking.rows if any(cell.scenario == part.scenario for cell in row.cells)]
            axes = [axis.name for axis in part.axes if axis.name != "cost"]
            if rows and axes:
                bounds = _bounds(board.bounds, part.scenario, axes)
                _say(f"{part.scenario}: {'; '.join(bounds)}")
                names = [_name(row.entry) for row in rows]
                lines = [_distances(row, part.scenario, axes) for row in rows]
                print_grid("distance to gold of the same seed [95 % interval]", names, [*axes, "ranks"], lines)
        if ranking.division != "control":
            _say(f"note: {ranking.note}")
        for row in ranking.rows:
            _details(row)
    click.echo()


def _summary(ranking: Ranking, board: Board) -> tuple[list[str], list[list[str]]]:
    """Place and mean rank; cost and layer of each scenario, in their order; what was verified. No empty columns."""
    heads = ["place", "mean rank", "CPU s", "layer", "level", "flags"]
    lines = [_line(row, board) for row in ranking.rows]
    filled = [place for place in range(len(heads)) if any(line[place] for line in lines)]
    return [heads[place] for place in filled], [[line[place] for place in filled] for line in lines]


def _line(row: Row, board: Board) -> list[str]:
    costs, layers = [], []
    for part in board.suite.parts:
        cost, layer = row.costs.get(part.scenario), row.layers.get(part.scenario)
        costs.append("-" if cost is None or cost.mean is None else f"{cost.mean:.2g}")
        layers.append("-" if layer is None else str(layer))
    rerun = f" {row.entry.rerun}/{len(row.entry.records)}" if row.entry.rerun else ""
    return [
        row.place,
        _estimate(row.rank, ".1f") if row.rank else "",
        " / ".join(costs) if set(costs) != {"-"} else "",
        " / ".join(layers) if set(layers) != {"-"} else "",
        f"{row.entry.level}{rerun}",
        ", ".join(sorted({flag.code for flag in row.entry.flags})),
    ]


def _distances(row: Row, scenario: str, axes: Sequence[str]) -> list[str]:
    cells = [row.cell(scenario, axis) for axis in axes]
    found = []
    for cell in cells:
        text = "" if cell is None else _estimate(cell.distance)
        if cell is not None and cell.missing:
            text += f" ({sum(cell.missing.values())} missing)"
        found.append(f"{text} *" if cell is not None and cell.from_attack else text)
    ranks = [cell.rank for cell in cells if cell is not None]
    return [*found, "/".join(f"{rank:.1f}" for rank in ranks if rank is not None)]


def _estimate(found: Estimate, form: str = ".2g") -> str:
    """The mean and the ends of its interval, these without a leading 0, so that three axes fit a terminal."""
    if found.mean is None:
        return "-"
    ends = [f"{end:{form}}" for end in (found.low, found.high) if end is not None]
    short = ", ".join(end[1:] if end.startswith("0.") else end for end in ends)
    return f"{found.mean:{form}} [{short}]" if short else f"{found.mean:{form}}"


def _bounds(bounds: Sequence[Bound], scenario: str, axes: Sequence[str]) -> list[str]:
    """What original and gold read on each axis."""
    found = []
    for axis in axes:
        mine = {b.subject: b.value.mean for b in bounds if (b.scenario, b.axis) == (scenario, axis)}
        told = [f"{subject} {mean:.3g}" for subject, mean in mine.items() if mean is not None]
        if told:
            found.append(f"{axis} of {', '.join(told)}")
    return found


def _details(row: Row) -> None:
    """Why a row has no rank, and re-attacks that stand in it."""
    if row.why_unranked and row.entry.division != "control":
        _say(f"{_name(row.entry)}: no rank: {row.why_unranked}")
    for cell in row.cells:
        if cell.from_attack:
            _say(f"* {_name(row.entry)}, {cell.scenario}: {cell.axis} as the re-attack {cell.from_attack} read it")
        if cell.missing:
            told = ", ".join(f"{count} {why}" for why, count in cell.missing.items())
            _say(f"{_name(row.entry)}, {cell.scenario}: {cell.axis} ranks last where it has no value: {told}")


def _name(entry: Entry) -> str:
    from unlearnbench.leaderboard.history import RECORDS
    from unlearnbench.plugins import printable

    name = printable(entry.label if entry.submission == RECORDS else entry.id)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}..."


def _say(text: str) -> None:
    """A line of text, wrapped at words as a terminal shows it."""
    import textwrap

    from unlearnbench.plugins import printable

    click.echo(textwrap.fill(printable(text), 100, subsequent_indent="  ", break_long_words=False))
