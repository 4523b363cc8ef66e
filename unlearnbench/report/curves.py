"""Curves: how often an attack is right where it is rarely wrong, and how fast forgotten rows are learned again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearnbench.comparison import Comparison, Estimate
from unlearnbench.plugins import printable
from unlearnbench.report.drawing import Drawing, Looks, at, named, number, short, written
from unlearnbench.report.svg import blank, colour, inline, legend, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float, Estimate]
"""x, mean over seeds, the same with its interval."""


@dataclass(frozen=True)
class Curves:
    """One reading at several places of an axis, for original, gold and every unlearner."""

    measure: str
    variant: str
    name: str
    split: str
    unit: str
    series: Mapping[str, tuple[Point, ...]]

    @property
    def label(self) -> str:
        return named(self.measure, self.variant, self.name, self.split)


def roc_curves(comparison: Comparison) -> list[Curves]:
    """Readings such as ``u-lira-tpr`` at places such as ``fpr=0.01``: one set of curves per attack."""
    return [curves for curves in _curves(comparison, "fpr") if curves.name.endswith("tpr")]


def relearn_curves(comparison: Comparison) -> list[Curves]:
    """Readings at places such as ``step=20``: one set of curves per reading."""
    return _curves(comparison, "step")


def _curves(comparison: Comparison, axis: str) -> list[Curves]:
    found: dict[tuple[str, str, str, str, str], dict[str, list[Point]]] = {}
    for reading in comparison.readings:
        x = at(reading, axis)
        if x is None or (axis == "fpr" and x <= 0):  # a logarithm has no place for it
            continue
        place = (reading.measure, reading.variant, reading.name, reading.split, reading.unit)
        for row in reading.rows:
            if row.value.mean is not None:
                found.setdefault(place, {}).setdefault(row.label, []).append((x, row.value.mean, row.value))
    return [
        Curves(*place, series={label: tuple(sorted(points, key=lambda p: p[0])) for label, points in series.items()})
        for place, series in found.items()
    ]


def draw_roc(curves: Curves, look: Looks, name: str) -> Drawing:
    """True against false positives on log axes: what counts is to the left, where an attack accuses few wrongly."""
    points = [point for series in curves.series.values() for point in series]
    left = min(point[0] for point in points) / 1.5
    floor = min([left, *(point[1] / 1.5 for point in points if point[1] > 0)])
    title = f"Attack ROC, {curves.label}"
    with style():
        figure = blank(3.4 + 0.12 * len(curves.series))
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log", xlim=(left, 1.15), ylim=(floor / 1.1, 1.15))
        axes.plot([floor, 1], [floor, 1], ":", color=colour("muted"), linewidth=1.2, label="chance")
        _draw(axes, curves, look, floor)
        for side in (axes.xaxis, axes.yaxis):
            side.set_major_formatter(lambda value, _: f"{100 * value:g} %")
            side.set_minor_formatter("")
        axes.set_xlabel("false positive rate")
        axes.set_title("true positive rate")
        legend(figure, axes)
        svg = inline(figure, name, title, _description(curves, "a false positive rate of"))
    caption = (
        "How many forgotten rows the attack finds (up) where it accuses few unseen rows (left); mean over seeds. "
        "A curve as low as gold's leaves nothing to find. Both axes are logarithmic, with 0 at the lower edge."
    )
    return Drawing(title, svg, caption, *_table(curves, "FPR"))


def draw_relearn(curves: Curves, look: Looks, name: str) -> Drawing:
    """The reading after each step of training on the forget set again."""
    title = f"Relearning, {curves.label}"
    with style():
        figure = blank(3.2 + 0.12 * len(curves.series))
        axes = figure.add_subplot()
        _draw(axes, curves, look, -math.inf)
        axes.set_xlabel("steps of relearning")
        where, unit = f" on {curves.split}" if curves.split else "", f", {curves.unit}" if curves.unit else ""
        axes.set_title(short(f"{curves.name}{where}{unit}", 44))
        legend(figure, axes)
        svg = inline(figure, name, title, _description(curves, "step"))
    caption = (
        "The forgotten rows are learned again; mean over seeds. A model that comes back sooner than gold had kept "
        "something of them; one that comes back later has been marked by forgetting."
    )
    return Drawing(title, svg, caption, *_table(curves, "step"))


def _draw(axes: Axes, curves: Curves, look: Looks, floor: float) -> None:
    for label, points in curves.series.items():
        mine = look[label]
        axes.plot(
            [x for x, _, _ in points], [max(y, floor) for _, y, _ in points], mine.dash, color=mine.colour,
            marker=mine.mark, linewidth=mine.width, markersize=9 if mine.mark == "*" else 5, label=short(label),
        )  # fmt: skip


def _table(curves: Curves, axis: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    places = sorted({x for points in curves.series.values() for x, _, _ in points})
    rows = []
    for label, points in curves.series.items():
        found = {x: estimate for x, _, estimate in points}
        counts = sorted({estimate.n for estimate in found.values()})
        seeds = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        rows.append((printable(label), *(written(found[x]) if x in found else "none" for x in places), seeds))
    return ("model", *(f"{axis} {x:g}" for x in places), "seeds"), tuple(rows)


def _description(curves: Curves, place: str) -> str:
    """The figure in words: where every curve begins and ends."""
    said = []
    for label, points in curves.series.items():
        (x, y, _), (last_x, last_y, _) = points[0], points[-1]
        more = f" and {number(last_y)} at {last_x:g}" if len(points) > 1 else ""
        said.append(f"{printable(label)} {number(y)} at {place} {x:g}{more}")
    return f"{curves.label}, mean over seeds: {'; '.join(said)}."
