"""Gaps to gold: how far each unlearner is from the model that never saw the forgotten rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearnbench.comparison import Comparison, ReadingComparison, Row
from unlearnbench.plugins import printable
from unlearnbench.report.drawing import Drawing, Looks, mean, name_of, pad, place_of, short, verdict, written
from unlearnbench.report.svg import blank, colour, inline, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 9
"""Figures of gaps in a group: more are only in the table."""


def gap_readings(comparison: Comparison) -> list[ReadingComparison]:
    """Readings over all rows with a gap to gold, attacks with a verdict first, then what should be as gold's.

    Runs take the dearest evidence last, and the dearest attack sees most: its readings come first.
    """
    found = [
        reading
        for reading in comparison.readings
        if reading.basis == "gap" and not place_of(reading) and any(_is_shown(row) for row in _unlearners(reading))
    ]
    turn = {measure: -place for place, measure in enumerate(dict.fromkeys(reading.measure for reading in found))}
    return sorted(
        found,
        key=lambda reading: (
            not _judged(reading), reading.better != "gold", turn[reading.measure] if _judged(reading) else 0,
        ),
    )  # fmt: skip


def _judged(reading: ReadingComparison) -> bool:
    return any(row.verdicts for row in reading.rows)


def _unlearners(reading: ReadingComparison) -> list[Row]:
    return [row for row in reading.rows if row.subject == "unlearned"]


def _is_shown(row: Row) -> bool:
    return row.subject != "gold" and row.gap.mean is not None


def draw_gaps(reading: ReadingComparison, look: Looks, name: str) -> Drawing:
    """A dot for the mean gap with the interval as a whisker, and a faint stroke for every seed."""
    rows = [row for row in reading.rows if _is_shown(row)]
    title = f"Gap to gold, {name_of(reading)}"
    with style():
        figure = blank(1.05 + 0.3 * len(rows))
        axes = figure.add_subplot()
        floor = _floor(reading)
        if floor:
            axes.axvspan(-floor, floor, color=colour("grid"), linewidth=0)
        axes.axvline(0, color=colour("ink"), linewidth=1.6)
        reach = [0.0]
        for place, row in enumerate(rows):
            reach += _draw_row(axes, place, row, look)
        axes.set_xlim(*pad([*reach, -(floor or 0), floor or 0]))
        axes.set_yticks(range(len(rows)), [short(row.label, 16) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=4)
        unit = f" in {short(reading.unit, 8)}" if reading.unit else ""
        axes.set_xlabel(f"minus gold{unit} (line: gold)")
        svg = inline(figure, name, title, _description(reading, rows))
    band = " The band is how far apart two golds read." if floor else ""
    caption = f"{printable(reading.conclusion)}{band}"
    return Drawing(title, svg, caption, ("model", "gap to gold", "verdict", "seeds"), _table(rows, reading))


def _floor(reading: ReadingComparison) -> float | None:
    """How far apart two golds read, where a retrained control says so."""
    return reading.floor.distance.mean if reading.floor and reading.floor.distance else None


def _draw_row(axes: Axes, place: int, row: Row, look: Looks) -> list[float]:
    """Draw one subject; the values that the axis must reach."""
    mine, gap = look[row.label], row.gap
    seeds = [value for value in row.gaps if value is not None]
    axes.plot(seeds, [place] * len(seeds), "|", color=mine.colour, markersize=11, alpha=0.45)
    ends = [gap.low, gap.high] if gap.low is not None and gap.high is not None else []
    if ends:
        axes.plot(ends, [place, place], "-", color=mine.colour, linewidth=2.2)
    axes.plot([mean(gap)], [place], mine.mark, color=mine.colour, markersize=7)
    return [*seeds, *(end for end in ends if end is not None)]


def _table(rows: list[Row], reading: ReadingComparison) -> tuple[tuple[str, ...], ...]:
    return tuple((printable(row.label), written(row.gap), verdict(row, reading), str(row.gap.n)) for row in rows)


def _description(reading: ReadingComparison, rows: list[Row]) -> str:
    """The figure in words."""
    said = "; ".join(f"{printable(row.label)} {written(row.gap)}" for row in rows)
    return f"{name_of(reading)} minus that of gold, mean over seeds with its interval: {said}."
