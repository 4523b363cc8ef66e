"""How heat maps are drawn: shades of one hue, the numbers where they have room, and what is forgotten outlined."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from unlearnbench.plugins import printable
from unlearnbench.report.drawing import Drawing, number, short
from unlearnbench.report.heat_maps import WORD, HeatMap
from unlearnbench.report.svg import SCALE, blank, colour, inline, style
from unlearnbench.tracking.row_plot import (
    LONGEST_NAME,
    MOST_CLASSES,
    MOST_WRITTEN,
    cell_text,
    scale,
    shade,
    spaced,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 288.0
"""The width of a figure in points, which are about a screen's pixels on the page."""
TEXT, LETTER = 9.0, 5.6
"""Size and width of the letters in cells and beside them."""
GAP = 0.02
"""Around a cell, in cells."""

Shown = tuple[Sequence[str], Sequence[str]]
"""Rows and classes that are drawn."""


def draw_heat_map(found: HeatMap, name: str) -> Drawing:
    """A cell for each row and class; the darker (on a dark page the lighter), the higher."""
    shown = rows, classes = _shown(found)
    ends = scale(found.values.values())
    wide, high = _cell_size(rows, classes)
    upright = max(len(short(each, LONGEST_NAME)) for each in classes) * LETTER > wide
    across = LETTER * max(len(short(each, LONGEST_NAME)) for each in classes) if upright else TEXT
    bar = 46.0
    with style():
        figure = blank((high * len(rows) + across + 30 + bar) / 72)
        axes, below = figure.subplots(2, 1, height_ratios=[high * len(rows), 9])
        _draw_cells(axes, found, shown, ends)
        if len(classes) <= MOST_WRITTEN and high >= TEXT:
            _write(axes, found, shown, ends, wide)
        _label(axes, found, shown, (wide, high), upright)
        _draw_scale(below, found, ends)
        svg = inline(figure, name, found.title, _description(found))
    return Drawing(found.title, svg, _caption(found), *_table(found))


def _cell_size(rows: Sequence[str], classes: Sequence[str]) -> tuple[float, float]:
    """Width and height in points."""
    beside = 22 + LETTER * max(len(short(row, LONGEST_NAME)) for row in rows)
    wide = (ACROSS - beside - 8) / len(classes)
    return wide, min(max(wide, 6.0), 24.0)


def _draw_cells(axes: Axes, found: HeatMap, shown: Shown, ends: tuple[float, float]) -> None:
    """Cells by shade, a stroke where there is no value, and a frame around what is forgotten."""
    rows, classes = shown
    line = min(1.4, ACROSS / len(classes) / 8)
    shades: dict[int, list[tuple[int, int]]] = {}
    for y, row in enumerate(rows):
        for x, name in enumerate(classes):
            if (row, name) in found.values:
                shades.setdefault(shade(found.values[row, name], ends), []).append((x, y))
            else:
                axes.plot([x + 0.2, x + 0.8], [y + 0.8, y + 0.2], "-", color=colour("muted"), linewidth=0.8)
    for step, cells in sorted(shades.items()):
        _fill(axes, cells, step)
    for y, row in enumerate(rows):
        if row in classes:
            x = classes.index(row)
            for ink, width in (("paper", 2 * line), ("ink", line)):  # one of them stands out from any shade
                axes.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], "-", color=colour(ink), linewidth=width)
    axes.set(xlim=(-0.05, len(classes) + 0.05), ylim=(len(rows) + 0.05, -0.05))


def _fill(axes: Axes, cells: Sequence[tuple[int, int]], step: int) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    low, high = GAP, 1 - GAP
    square = ((low, low), (high, low), (high, high), (low, high), (low, low))
    squares = [Path([(x + dx, y + dy) for dx, dy in square], closed=True) for x, y in cells]
    whole = Path.make_compound_path(*squares)
    axes.add_patch(PathPatch(whole, facecolor=colour(SCALE[step]), edgecolor="none", linewidth=0))


def _write(axes: Axes, found: HeatMap, shown: Shown, ends: tuple[float, float], wide: float) -> None:
    """The numbers, where all of them have room."""
    places = [
        (x, y, found.values.get((row, name))) for y, row in enumerate(shown[0]) for x, name in enumerate(shown[1])
    ]
    texts = [(x, y, value, cell_text(value)) for x, y, value in places if value is not None]
    if any(text_width(text) > wide for *_, text in texts):
        return
    for x, y, value, text in texts:
        ink = colour("ink" if shade(value, ends) < len(SCALE) // 2 else "paper")
        axes.text(x + 0.5, y + 0.5, text, fontsize=TEXT, ha="center", va="center", color=ink)


def _label(axes: Axes, found: HeatMap, shown: Shown, cell: tuple[float, float], upright: bool) -> None:
    rows, classes = shown
    across, down = spaced(len(classes), cell[0], TEXT + 2), spaced(len(rows), cell[1], TEXT + 2)
    axes.set_xticks([x + 0.5 for x in across], [short(classes[x], LONGEST_NAME) for x in across])
    axes.set_yticks([y + 0.5 for y in down], [short(rows[y], LONGEST_NAME) for y in down])
    axes.tick_params(length=0, labelsize=TEXT)
    axes.tick_params(axis="x", rotation=90 if upright else 0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="class", ylabel=found.word)


def _draw_scale(axes: Axes, found: HeatMap, ends: tuple[float, float]) -> None:
    """The legend: all shades from low to high."""
    for step in range(len(SCALE)):
        _fill(axes, [(step, 0)], step)
    steps = len(SCALE)
    middle = (ends[0] + ends[1]) / 2
    axes.set_xticks([0, steps / 2, steps], [f"{value:.3g}" for value in (ends[0], middle, ends[1])])
    axes.set_yticks([])
    axes.set(xlim=(0, 2 * steps), ylim=(0, 1))
    axes.tick_params(length=0, labelsize=TEXT)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.text(steps + 0.6, 0.5, short(found.what, 24), fontsize=TEXT, va="center")


def _caption(found: HeatMap) -> str:
    """How to read it, in one sentence; a second one where not all is drawn."""
    counts = (found.seeds[0], found.seeds[-1])
    seeds = str(counts[0]) if counts[0] == counts[1] else f"{counts[0]} to {counts[1]}"
    over = f"mean over {seeds} training seed{'s' if counts[1] > 1 else ''}"
    if found.word == WORD:
        other = "any unlearner should look like it" if found.subject == "gold" else "all should look as in gold's"
        said = (
            f"Accuracy on unseen rows of each class (across) after one class was forgotten (down), {over}: "
            f"the outlined diagonal is what is forgotten, and {other}."
        )
    else:
        said = f"{found.what} of each class (across) under each row (down), {over}"
        said += ": the outlined diagonal is what the row forgets." if found.forgotten else "."
    rows, classes = _shown(found)
    if any((row, name) not in found.values for row in rows for name in classes):
        said += " A stroke stands where there is no value."
    if max(len(found.rows), len(found.classes)) > MOST_CLASSES:
        drawn = f"The first {MOST_CLASSES} of {max(len(found.rows), len(found.classes))} classes are drawn."
        said = f"{said} {drawn} {_means(found)}"
    return said


def _shown(found: HeatMap) -> Shown:
    return found.rows[:MOST_CLASSES], found.classes[:MOST_CLASSES]


def _means(found: HeatMap) -> str:
    return (
        f"Over all classes, the mean is {_mean(found.forgotten)} on the diagonal and {_mean(found.others)} elsewhere."
    )


def _mean(values: Collection[float]) -> str:
    return number(fmean(values)) if values else "none"


def _table(found: HeatMap) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The numbers that are drawn, and for each row the mean of all classes that it does not forget."""
    shown, classes = _shown(found)
    rows = []
    for row in shown:
        cells = [number(found.values.get((row, name))) for name in classes]
        kept = [value for (mine, name), value in found.values.items() if mine == row != name]
        rows.append((printable(row), *cells, _mean(kept)))
    return (found.word, *map(printable, classes), "mean of the others"), tuple(rows)


def _description(found: HeatMap) -> str:
    """The figure in words."""
    size = f"{len(found.rows)} rows by {len(found.classes)} classes"
    low, high = min(found.values.values()), max(found.values.values())
    return f"{found.title}: {size}, from {number(low)} to {number(high)}. {_means(found)}"
