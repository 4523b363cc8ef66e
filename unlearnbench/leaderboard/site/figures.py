"""Figures of a board: intervals of ranks and distances, and who is beaten on everything. Each has its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal

from unlearnbench.leaderboard.board import Board, Row
from unlearnbench.leaderboard.history import RECORDS
from unlearnbench.leaderboard.suites import AXES, Part
from unlearnbench.plugins import printable
from unlearnbench.report.drawing import Drawing, mean, number, pad, short, sparse, written
from unlearnbench.report.svg import blank, colour, inline, style
from unlearnbench.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 4
"""Up to so many boards are drawn by this process: another one takes seconds to start."""
Drawings = list[tuple[str, list[Drawing]]]
"""Figures under headings."""
MOST = 30
"""Entries in a figure; the table of the board has all."""
KINDS = {
    "oracle-free": ("c1", "o", "oracle-free"),
    "oracle-tuned": ("c2", "D", "oracle-tuned"),
}
"""Colour, mark and name of each division. Controls, far from gold on purpose, would hide the rest."""


@dataclass(frozen=True)
class _Point:
    """An entry in a figure, with the number that it has there and in the table."""

    number: int
    row: Row
    division: str

    @property
    def label(self) -> str:
        entry = self.row.entry
        return printable(entry.label if entry.submission == RECORDS else f"{entry.label} ({entry.submission})")


@contextmanager
def figures_of(boards: Sequence[Board], prefixes: Mapping[str, str]) -> Iterator[Callable[[Board], Drawings]]:
    """What gives the figures of a board; for many boards another process draws them while this one does other things.

    ``prefixes`` are by the name of the suite. The process is a new interpreter: a fork with threads of torch may hang.
    """
    if len(boards) <= FEW:
        yield lambda board: figures(board, prefixes[board.suite.name])
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = {
            board.suite.name: pool.submit(figures, _without_records(board), prefixes[board.suite.name])
            for board in boards
        }
        yield lambda board: found[board.suite.name].result()


def _without_records(board: Board) -> Board:
    """The board with all that a figure shows, which is little to send."""
    rankings = [
        replace(ranking, rows=tuple(
            replace(row, entry=replace(row.entry, records=(), attacks=()), tied=(), beaten_by={})
            for row in ranking.rows
        ))
        for ranking in board.rankings
    ]  # fmt: skip
    return replace(board, rankings=tuple(rankings))


def figures(board: Board, prefix: str) -> Drawings:
    """All figures of a board under headings; ``prefix`` keeps the identifiers of two boards apart."""
    drawn = [(ranking, row) for ranking in board.rankings for row in ranking.rows if ranking.division in KINDS]
    points = [_Point(place, row, ranking.division) for place, (ranking, row) in enumerate(drawn, start=1)]
    shown = points[:MOST]
    more = (
        f" The first {MOST} of {len(points)} entries are drawn; the table of the board has all."
        if points[MOST:]
        else ""
    )
    found = []
    ranked = [(point, point.row.rank) for point in shown if point.row.rank and point.row.rank.mean is not None]
    if ranked:
        caption = f"Left is nearer to gold. Entries whose ranks are not told apart share a place.{more}"
        drawing = _intervals("Mean rank", "mean rank", ranked, None, caption, f"{prefix}-rank")
        found.append(("Over all scenarios", [drawing]))
    for turn, part in enumerate(board.suite.parts):
        if drawings := _scenario(part, shown, more, f"{prefix}-s{turn}"):
            found.append((part.scenario, drawings))
    return found


def _scenario(part: Part, points: Sequence[_Point], more: str, prefix: str) -> list[Drawing]:
    found = []
    for axis in part.axes:
        shown = [
            (point, cell.distance)
            for point in points
            if (cell := point.row.cell(part.scenario, axis.name)) and cell.distance.mean is not None
        ]
        if shown:
            floor = part.floor.get(axis.name)
            caption = f"Left is nearer to gold. The reading is {axis.key} of {axis.measure}."
            caption += f" The band is how far a second gold is from gold: {number(floor)}." if floor else ""
            title, label = f"Distance to gold in {axis.name}", f"|{axis.key} - gold|"
            found.append(_intervals(title, label, shown, floor, caption + more, f"{prefix}-{axis.name}"))
    front = [point for point in points if _all_distances(point.row, part.scenario)]
    return [*found, _pareto(part, front, more, f"{prefix}-front")] if front else found


def _intervals(
    title: str,
    label: str,
    shown: Sequence[tuple[_Point, Estimate]],
    floor: float | None,
    caption: str,
    name: str,
) -> Drawing:
    """A mark for each mean with its interval as a whisker."""
    with style():
        figure = blank(0.9 + 0.24 * len(shown))
        axes = figure.add_subplot()
        if floor:
            axes.axvspan(0, floor, color=colour("grid"), linewidth=0)
        for place, (point, estimate) in enumerate(shown):
            ink, mark, _ = KINDS[point.division]
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place, place], "-", color=colour(ink), linewidth=2.2)
            axes.plot([mean(estimate)], [place], mark, color=colour(ink), markersize=6)
        ends = [end for _, e in shown for end in (e.mean, e.low, e.high) if end is not None]
        axes.set_xlim(*pad([*ends, floor or ends[0]]))
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_yticks(range(len(shown)), [short(point.label, 20) for point, _ in shown])
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(short(label, 44))
        rows = tuple((point.label, KINDS[point.division][2], written(e), str(e.n)) for point, e in shown)
        said = "; ".join(f"{point.label} {written(e)}" for point, e in shown[:10])
        rest = f"; and {len(shown) - 10} more, in the table" if shown[10:] else ""
        svg = inline(figure, name, title, f"Mean with its interval, in the order of the board: {said}{rest}.")
    return Drawing(title, svg, f"{caption} {_marks([point for point, _ in shown])}".strip(),
                   ("entry", "division", "mean and interval", "seeds"), rows)  # fmt: skip


def _marks(points: Sequence[_Point]) -> str:
    """Which mark is which division, where there is more than one."""
    words = {"oracle-free": "circles oracle-free", "oracle-tuned": "diamonds oracle-tuned"}
    there = [word for name, word in words.items() if any(point.division == name for point in points)]
    return f"Marks: {', '.join(there)}." if len(there) > 1 else ""


def _all_distances(row: Row, scenario: str) -> bool:
    cells = [row.cell(scenario, axis) for axis in AXES]
    return all(cell is not None and cell.distance.mean is not None for cell in cells)


def _pareto(part: Part, points: Sequence[_Point], more: str, name: str) -> Drawing:
    """Utility, privacy and cost over the same distance in forgetting; what is beaten on all four is hollow."""
    title = "Forgetting against utility, privacy and cost"
    values = {point.number: _values(point.row, part.scenario) for point in points}
    costs = [four[3].mean for four in values.values() if four[3].mean is not None]
    logarithmic = bool(costs) and min(costs) > 0
    scale = " (logarithmic)" if logarithmic else ""
    headings = ("utility, |gap to gold|", "privacy, |gap to gold|", f"cost{scale}")[: 3 if costs else 2]
    front = {point.number for point in points if point.row.layers.get(part.scenario) == 1}
    with style():
        figure = blank(0.7 + 1.9 * len(headings))
        panels = figure.subplots(len(headings), 1, sharex=True)
        if logarithmic:
            panels[-1].set_yscale("log")
            panels[-1].yaxis.set_major_formatter(sparse)
            panels[-1].yaxis.set_minor_formatter(sparse)
        for turn, (axes, heading) in enumerate(zip(panels, headings, strict=True), start=1):
            axes.set_title(heading)
            axes.margins(y=0.2)
            _panel(axes, [(point, values[point.number][0], values[point.number][turn]) for point in points], front)
        panels[-1].set_xlim(*pad([0.0, *(mean(four[0]) for four in values.values())]))
        panels[-1].locator_params(axis="x", nbins=5)
        panels[-1].set_xlabel("forgetting, |gap to gold|")
        first = ", ".join(point.label for point in points if point.number in front) or "none"
        svg = inline(figure, name, title, f"On the front: {first}. Numbers are those of the table.")
    caption = (
        "Better is left and down in every panel. Numbers are those of the table; filled marks are on the front, hollow "
        f"ones are matched or beaten in all four by another entry, or have no layer.{more}"
    )
    columns = ("entry", "number", *(f"|gap| in {axis}" for axis in AXES), "cost", "layer")
    rows = tuple(_line(point, part.scenario, values[point.number]) for point in points)
    return Drawing(title, svg, caption, columns, rows)


def _values(row: Row, scenario: str) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    forgetting, utility, privacy = (cell.distance if (cell := row.cell(scenario, axis)) else _NONE for axis in AXES)
    return forgetting, utility, privacy, row.costs.get(scenario, _NONE)


_NONE = Estimate(0, None, None, None, None, "no values")


def _panel(axes: Axes, points: Sequence[tuple[_Point, Estimate, Estimate]], front: Container[int]) -> None:
    """Marks with their numbers; where several lie on each other, the numbers stand in a row."""
    drawn = [(point, mean(x), mean(y)) for point, x, y in points if y.mean is not None]
    for point, x, y in drawn:
        ink, mark, _ = KINDS[point.division]
        ground, size = (colour(ink), 8) if point.number in front else ("none", 6)
        axes.plot([x], [y], mark, color=colour(ink), markersize=size, markerfacecolor=ground)
    spots: dict[tuple[int, int], list[tuple[int, float, float]]] = {}
    wide, high = (max(max(ends) - min(ends), 1e-12) for ends in (_scaled(drawn, 1, axes), _scaled(drawn, 2, axes)))
    for (point, x, y), across, up in zip(drawn, _scaled(drawn, 1, axes), _scaled(drawn, 2, axes), strict=True):
        spots.setdefault((round(across / wide * 8), round(up / high * 8)), []).append((point.number, x, y))
    for found in spots.values():
        numbers = ", ".join(str(number) for number, _, _ in found[:2]) + (f", +{len(found) - 2}" if found[2:] else "")
        ink = colour("ink" if any(number in front for number, _, _ in found) else "muted")
        axes.annotate(numbers, found[0][1:], xytext=(5, 4), textcoords="offset points", fontsize=9, color=ink)


def _scaled(drawn: Sequence[tuple[_Point, float, float]], place: Literal[1, 2], axes: Axes) -> list[float]:
    """Where points lie along an axis as the eye sees it; 0 for none, so that there is always a largest."""
    logarithmic = place == 2 and axes.get_yscale() == "log"
    return [math.log10(each[place]) if logarithmic else each[place] for each in drawn] or [0.0]


def _line(point: _Point, scenario: str, values: Sequence[Estimate]) -> tuple[str, ...]:
    layer = point.row.layers.get(scenario)
    return (point.label, str(point.number), *map(written, values), str(layer) if layer else "none")
