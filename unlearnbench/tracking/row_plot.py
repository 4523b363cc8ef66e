"""The plot of readings by row and class: what a model answers on one class while it hides another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.tracking.plots import INK, save_svg, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unlearnbench.record import Record

ROWS_PLOT = "rows.svg"
COORDINATES = frozenset({"row", "class"})
STEPS = 10
"""Shades of a scale: so few that a reader finds each of them in the legend again."""
MOST_CLASSES = 40
"""Rows and classes that are drawn: more would be specks."""
MOST_WRITTEN = 12
"""Up to so many classes, each cell has room for its number."""
LONGEST_NAME = 12
WHOLE, HALF = 6.4 * 72, 3.0 * 72
"""Widths of one panel, and of each of two beside each other, in points."""

Cell = tuple[str, str]
"""Row and class."""


@dataclass(frozen=True)
class RowPanel:
    """One reading on one split, by row and class; None for what was read and has no value."""

    title: str
    values: Mapping[Cell, float | None]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, _ in self.values))

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(name for _, name in self.values))


def rows_plot(record: Record, path: Path) -> Path | None:
    """Draw the unlearned model's readings by row and class as SVG; None when the record has none.

    Raises:
        DataError: the file cannot be written.
    """
    panels = row_panels(record.document)
    if not panels:
        return None
    return save_svg(path, titles(record.document), lambda: rows_figure(record.document, panels))


def row_panels(document: Mapping[str, Any]) -> list[RowPanel]:
    """The unlearned model's readings with a row and a class, after the last request, by measure, name and split."""
    requests = len(document["requests"])
    last = {"request": str(requests - 1)} if requests > 1 else {}
    found: dict[tuple[str, str, str], dict[Cell, float | None]] = {}
    for reading in document["readings"]:
        at = reading["at"]
        if reading["subject"] == "unlearned" and at == {**last, **{name: at.get(name) for name in COORDINATES}}:
            place = (reading["measure"], reading["name"], reading["split"])
            found.setdefault(place, {}).setdefault((at["row"], at["class"]), reading["value"])
    return [
        RowPanel(f"{name} on {split}" if split else name, values)
        for (_, name, split), values in found.items()
        if any(value is not None for value in values.values())
    ]


def scale(values: Collection[float]) -> tuple[float, float]:
    """Both ends of a scale: 0 and 1 for shares, so that figures can be compared, else the values' own."""
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1.0)


def shade(value: float, ends: tuple[float, float]) -> int:
    """The step of the scale that a value lies on, 0 to ``STEPS`` - 1."""
    low, high = ends
    return min(int(STEPS * (value - low) / (high - low)), STEPS - 1)


def cell_text(value: float) -> str:
    """A number for a cell: two digits, and no zero before the point, which every cell would repeat."""
    text = f"{value:.2f}"
    if abs(value) > 1:
        return f"{value:.3g}"
    return {"0.00": "0", "-0.00": "0", "1.00": "1"}.get(text, text.replace("0.", ".", 1))


def text_width(text: str) -> float:
    """About how many points a number in a cell takes; a sign or point is half as wide as a digit."""
    return sum(2.9 if sign in ".-" else 5.8 for sign in text)


def spaced(count: int, room: float, needed: float) -> range:
    """The places on an axis that get a label: so few that none runs into the next one."""
    return range(0, count, max(1, -int(-needed // room)))


def rows_figure(document: Mapping[str, Any], panels: Sequence[RowPanel]) -> Figure:
    """A heat map for each panel, two beside each other, and the scale that they share."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    beside = len(panels) > 1 and all(_room(panel, HALF) >= text_width(".00") for panel in panels if _written(panel))
    columns, width, height = (2, HALF, 3.1) if beside else (1, WHOLE, 4.6)
    lines = -(-len(panels) // columns)
    made = Figure(figsize=(7.2, 1.6 + height * lines), facecolor="white", layout="constrained")
    ends = scale([value for panel in panels for value in panel.values.values() if value is not None])
    colours = ScalarMappable(Normalize(*ends), mpl.colormaps["Blues"].resampled(STEPS))
    grid = made.subplots(lines, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, colours, _room(panel, width))
    for axes in grid[len(panels) :]:
        axes.remove()
    bar = made.colorbar(colours, ax=list(grid[: len(panels)]), location="bottom", shrink=0.5, aspect=30)
    bar.outline.set_visible(False)
    headline, second = titles(document)
    made.suptitle(f"{headline}\n\n", x=0.01, ha="left", fontsize=12, fontweight="bold")
    made.text(0.01, 1 - 0.42 / made.get_figheight(), second, va="center")
    return made


def _written(panel: RowPanel) -> bool:
    """Whether a panel is small enough for numbers."""
    return max(len(panel.classes), len(panel.rows)) <= MOST_WRITTEN


def _room(panel: RowPanel, width: float) -> float:
    """Points for each class, beside the names of the rows."""
    return (width - 6 * min(max(map(len, panel.rows)), LONGEST_NAME)) / min(len(panel.classes), MOST_CLASSES)


def _draw(axes: Axes, panel: RowPanel, colours: Any, room: float) -> None:
    """``room`` is that for each class, in points."""
    rows, classes = panel.rows[:MOST_CLASSES], panel.classes[:MOST_CLASSES]
    # What has no value is not 0: its cell is left to the hatched ground.
    axes.patch.set(facecolor="white", edgecolor="#b0b0b0", hatch="////", linewidth=0)
    values = [[_number(panel.values.get((row, name))) for name in classes] for row in rows]
    axes.pcolormesh(values, cmap=colours.cmap, norm=colours.norm, edgecolors="white", linewidth=0.5)
    texts = [(x, y, value) for y, line in enumerate(values) for x, value in enumerate(line) if value == value]
    if _written(panel) and all(text_width(cell_text(value)) <= room for _, _, value in texts):
        for x, y, value in texts:
            colour = "white" if shade(value, (colours.norm.vmin, colours.norm.vmax)) >= STEPS * 0.7 else INK
            axes.text(x + 0.5, y + 0.5, cell_text(value), ha="center", va="center", fontsize=9, color=colour)
    for y, row in enumerate(rows):
        if row in classes:
            x = classes.index(row)
            for ink, line in (("white", 2.4), (INK, 1.2)):  # one of them stands out from any shade
                axes.plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color=ink, linewidth=line)
    upright = min(max(map(len, classes)), LONGEST_NAME) * 6 > room
    across = spaced(len(classes), room, 11)
    axes.set_xticks([x + 0.5 for x in across], [_short(classes[x]) for x in across], rotation=90 if upright else 0)
    down = spaced(len(rows), 200 / len(rows), 11)
    axes.set_yticks([y + 0.5 for y in down], [_short(rows[y]) for y in down])
    axes.set(xlim=(0, len(classes)), ylim=(len(rows), 0), xlabel="class", ylabel="row")
    axes.tick_params(length=0, labelsize=9)
    axes.spines[:].set_visible(False)
    notes = [f"the first {MOST_CLASSES}"] if max(len(panel.rows), len(panel.classes)) > MOST_CLASSES else []
    notes += ["hatched: no value"] if len(texts) < len(rows) * len(classes) else []
    said = f" ({', '.join(notes)})" if notes else ""
    axes.set_title(f"{panel.title}{said}", loc="left", fontsize=10)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
