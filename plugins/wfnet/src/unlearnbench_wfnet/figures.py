"""The figure of a WF-Net: which filters each class closes, which classes close the same, and how much each closes.

After Poppi et al. 2024, figures 3 and 4, which show the relation of filters to classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnbench.api import UsageError
from unlearnbench_wfnet.contents import layers_of
from unlearnbench_wfnet.relations import (
    CLOSED,
    Floats,
    binned,
    closed_by_class,
    closed_by_layer,
    filter_order,
    shared_filters,
    weight_gates,
)
from unlearnbench_wfnet.words import plain_text, share
from unlearnbench_wfnet.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_LAYERS = 8
MOST_COLUMNS = 512
"""More filters than these are drawn as means of neighbours."""
MOST_NUMBERS = 12
"""More classes than these, and the numbers have no room in their cells."""
INK, GRID, BAR = "#222222", "#dddddd", "#56b4e9"
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "unlearnbench",
    "svg.fonttype": "path",  # looks the same where the font is missing
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
# One hue whose lightness falls steadily, so that it reads the same to colour-blind readers and in print.
SCALE = "Blues"


def save_figure(artifacts: Mapping[str, Any], path: Path, *, first: int | None = None) -> Path:
    """Draw the gates as SVG or PNG, the same bytes for the same gates; ``first`` is a class whose order filters have.

    Raises:
        UsageError: the name ends otherwise.
        DataError: the file cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise UsageError("bad-parameter", f"{path.name!r} ends neither in .svg nor in .png", where="--out",
                         hint="name the figure filters.svg or filters.png")  # fmt: skip
    import matplotlib as mpl

    metadata = {"Date": None, "Creator": "UnlearnBench"} if kind == "svg" else {"Software": "UnlearnBench"}
    with mpl.rc_context(), warnings.catch_warnings(), replacing(path) as temporary:
        # A class may have a name in signs that the font lacks: a box is drawn for them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()  # a reader's own style must not change the bytes
        mpl.rcParams.update(SETTINGS)
        draw(artifacts, first=first).savefig(temporary, format=kind, dpi=200, metadata=metadata)
    return path


def chosen_layers(artifacts: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The layers that are drawn, in their order, and those that are left out: of many, those that close least."""
    closed = closed_by_layer(artifacts)
    by_closed = sorted(closed, key=lambda name: -closed[name])
    drawn = set(by_closed[:MOST_LAYERS])
    return [name for name in closed if name in drawn], [name for name in closed if name not in drawn]


def draw(artifacts: Mapping[str, Any], *, first: int | None = None) -> Figure:
    """The figure, outside pyplot's global state."""
    from matplotlib.figure import Figure

    layers, left_out = chosen_layers(artifacts)
    classes = [plain_text(name) for name in artifacts["classes"]]
    columns = 1 if len(layers) == 1 else 2
    lines = -(-len(layers) // columns)
    high = min(max(0.16 * len(classes), 0.5), 2.4)
    heights = [(high + 0.5) * lines + 0.75, max(min(0.3 * len(classes), 4.2), 1.6) + 0.9]
    figure = Figure(figsize=(9.0, sum(heights)), facecolor="white", layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False).ravel()
    _draw_layers(above, artifacts, layers, classes, (lines, columns), first)
    _headline(above, classes, layers, left_out, first)
    left, right = below.subplots(1, 2, width_ratios=[1.25, 1])
    alphas = [artifacts[f"weight/{layer.name}"].double().numpy() for layer in layers_of(artifacts)]
    _draw_shared(left, shared_filters(alphas), classes)
    _draw_closed(right, closed_by_class(artifacts), classes, set(artifacts["rows"]))
    return figure


def _headline(
    figure: SubFigure, classes: Sequence[str], layers: Sequence[str], left_out: Sequence[str], first: int | None
) -> None:
    """What is seen, and what is not."""
    order = (
        "by the class that closes them most"
        if first is None
        else f"by the gates of class {shorten_name(classes[first], 24)}"
    )
    parts = [f"filters ordered {order}; dark is closed"]
    if left_out:
        total = len(layers) + len(left_out)
        parts.append(f"{len(layers)} of {total} layers, those with most closed gates")
    lines = ["Which filters each class closes", ", ".join(parts)]
    if left_out:
        lines.append(shorten(f"left out: {', '.join(map(plain_text, left_out))}", 120, placeholder=" …"))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9.5, linespacing=1.5)


def _draw_layers(
    figure: SubFigure, artifacts: Mapping[str, Any], layers: Sequence[str], classes: Sequence[str],
    grid: tuple[int, int], first: int | None,
) -> None:  # fmt: skip
    """Classes by filters for each layer; ``grid`` is how many lines and columns of layers there are."""
    from matplotlib.patches import Rectangle

    gates = weight_gates(artifacts)
    panels = figure.subplots(*grid, squeeze=False).ravel()
    for axes in panels[len(layers) :]:
        axes.set_visible(False)
    for place, (axes, name) in enumerate(zip(panels, layers, strict=False)):
        found = gates[name]
        shown, each = binned(found[:, filter_order(found, first)], MOST_COLUMNS)
        image = axes.imshow(
            shown, cmap=f"{SCALE}_r", vmin=0, vmax=1, aspect="auto", interpolation="nearest",
            extent=(0, found.shape[1], len(classes), 0),
        )  # fmt: skip
        folded = f", a column is {each} filters" if each > 1 else ""
        title = f"layer {shorten_name(plain_text(name), 34)}: {found.shape[1]:,} filters{folded}"
        axes.set_title(title, loc="left", fontsize=9, pad=4)
        _name_rows(axes, classes, place % grid[1] == 0)
        axes.xaxis.set_major_locator(_whole_numbers())
        if first is not None:
            axes.add_patch(Rectangle((0, first), found.shape[1], 1, fill=False, edgecolor="#e69f00", linewidth=1.6))
    bar = figure.colorbar(image, ax=list(panels), fraction=0.025, pad=0.01, aspect=18)
    bar.set_label("gate: 0 closed, 1 open")
    bar.outline.set_linewidth(0.6)


def _draw_shared(axes: Axes, shared: Floats, classes: Sequence[str]) -> None:
    """Classes by classes; what a class shares with itself says nothing and is left grey."""
    apart = np.where(np.eye(len(classes), dtype=bool), np.nan, shared)
    top = max(0.2, float(np.nanmax(apart))) if len(classes) > 1 else 0.2
    axes.set_facecolor(GRID)
    image = axes.imshow(apart, cmap=SCALE, vmin=0, vmax=top, aspect="auto", interpolation="nearest",
                        extent=(0, len(classes), len(classes), 0))  # fmt: skip
    if len(classes) <= MOST_NUMBERS:
        for y, x in np.argwhere(~np.isnan(apart)):
            ink = "white" if apart[y, x] > 0.6 * top else INK
            axes.text(x + 0.5, y + 0.5, f"{100 * apart[y, x]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    else:
        bar = axes.figure.colorbar(
            image, ax=axes, fraction=0.05, pad=0.02, format=lambda value, _: f"{100 * value:.0f}"
        )
        bar.outline.set_linewidth(0.6)
    _name_rows(axes, classes, True)
    axes.set_xticks([])  # the columns are in the order of the rows
    if len(classes) <= MOST_NUMBERS:
        names = [shorten_name(name, 14) for name in classes]
        axes.set_xticks([x + 0.5 for x in range(len(names))], names)
        axes.tick_params(axis="x", length=0, rotation=90 if max(map(len, names)) > 4 else 0)
    axes.set_title("Filters that two classes share\n% of the tenth that each closes most; 10 by chance", loc="left",
                   fontsize=9, pad=4, linespacing=1.4)  # fmt: skip


def _draw_closed(axes: Axes, closed: Floats, classes: Sequence[str], rows: set[int]) -> None:
    """How many gates each class closes; those that are forgotten now are hatched."""
    places = np.arange(len(classes)) + 0.5
    bars = axes.barh(places, 100 * closed, 0.78, color=BAR, edgecolor=INK, linewidth=0.6 if len(classes) < 60 else 0)
    for row in rows:
        bars[row].set_hatch("////")
    axes.set(ylim=(len(classes), 0), xlim=(0, max(1.0, 115 * float(closed.max()))))
    if len(classes) <= 2 * MOST_NUMBERS:
        for place, value in zip(places, closed, strict=True):
            axes.annotate(share(value), (100 * value, place), (3, 0), textcoords="offset points", va="center",
                          fontsize=8)  # fmt: skip
    _name_rows(axes, classes, True)
    axes.spines[["top", "right"]].set_visible(False)
    if rows:
        axes.set_xlabel("hatched: forgotten now")
    axes.set_title(f"Closed gates of each class\n% below {CLOSED:g}, biases counted", loc="left", fontsize=9, pad=4,
                   linespacing=1.4)  # fmt: skip


def _name_rows(axes: Axes, classes: Sequence[str], named: bool) -> None:
    """Class names beside the rows, as many as have room."""
    step = max(1, -(-len(classes) // 16)) if len(classes) > 16 else 1
    places = range(0, len(classes), step)
    axes.set_yticks([y + 0.5 for y in places], [shorten_name(classes[y], 16) if named else "" for y in places])
    axes.tick_params(axis="y", length=0)


def shorten_name(name: str, most: int) -> str:
    """A name that fits beside a row."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, integer=True)
