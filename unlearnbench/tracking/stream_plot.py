"""The plot of a stream: accuracy, what is certified, and time, over its requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.stream_rows import ServedRow, stream_rows
from unlearnbench.tracking.plots import INK, LOOKS, head, save_svg, titles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unlearnbench.record import Record

STREAM_PLOT = "stream.svg"
# Gold is the line that the others are held against; shapes of the marks tell lines apart in print.
LINES = {"original": ("#8a8a8a", "--", "s"), "gold": (LOOKS["gold"][0], "-", "D"), "unlearned": ("#0072b2", "-", "o")}
RETRAIN = "#cc79a7"
RESIDUAL = "true residual"
MARKED = 60
"""Up to so many points, a line shows each of them."""
LEAST_SPAN = 0.05
"""Of an axis of accuracies."""
SPLIT_WORDS = {"test": "accuracy on test", "retain": "accuracy on retain"}

Panel = Callable[["Axes", Sequence[ServedRow]], None]


def stream_plot(record: Record, path: Path) -> Path | None:
    """Draw a record's stream as SVG, the same bytes for the same record; None when it has none.

    Raises:
        DataError: the file cannot be written.
    """
    rows = stream_rows(record.document)
    if not rows:
        return None
    return save_svg(path, titles(record.document), lambda: stream_figure(record.document, rows))


def stream_figure(document: Mapping[str, Any], rows: Sequence[ServedRow]) -> Figure:
    """The panels that there is something to draw for, one below the other; time is always there."""
    from matplotlib.figure import Figure

    panels: list[Panel] = [_panel_of(split) for split in SPLIT_WORDS if any(_has(row, split) for row in rows)]
    if any(number for row in rows for number in (row.bound, row.residual)):  # a logarithm has no place for 0
        panels.append(_certified)
    panels.append(_time)
    made = Figure(figsize=(7.2, 1.3 + 1.9 * len(panels)), facecolor="white", layout="constrained")
    every = [axes for (axes,) in made.subplots(len(panels), 1, sharex=True, squeeze=False)]
    for axes, draw in zip(every, panels, strict=True):
        draw(axes, rows)
        _retrains(axes, rows, named=axes is every[-1])
        tidy(axes)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9, handlelength=1.8)
    every[-1].set_xlabel("request")
    every[-1].xaxis.get_major_locator().set_params(integer=True)
    head(every[0], titles(document))
    made.align_ylabels(every)
    return made


def _has(row: ServedRow, split: str) -> bool:
    return any(where == split for _, where in row.accuracy)


def _panel_of(split: str) -> Panel:
    def draw(axes: Axes, rows: Sequence[ServedRow]) -> None:
        for subject, look in LINES.items():
            _line(axes, rows, [row.accuracy.get((subject, split)) for row in rows], look, subject)
        axes.set_ylabel(SPLIT_WORDS[split])

    return draw


def _certified(axes: Axes, rows: Sequence[ServedRow]) -> None:
    axes.set_yscale("log")
    _line(axes, rows, [row.budget for row in rows], (INK, "--", ""), "budget")
    _line(axes, rows, [row.bound for row in rows], LINES["unlearned"], "bound")
    _line(axes, rows, [row.residual for row in rows], ("#009e73", "-", "v"), RESIDUAL)
    axes.set_ylabel("certificate")


def _time(axes: Axes, rows: Sequence[ServedRow]) -> None:
    axes.set_yscale("log")
    _line(axes, rows, [row.gold_cpu_s for row in rows], LINES["gold"], "retraining")
    _line(axes, rows, [row.cpu_s for row in rows], LINES["unlearned"], "request")
    axes.set_ylabel("CPU seconds")


def _line(
    axes: Axes, rows: Sequence[ServedRow], values: Sequence[float | None], look: tuple[str, str, str], label: str
) -> None:
    """A line through what is there; a logarithm has no place for 0, which is left out.

    A true residual that was not measured everywhere has marks alone: a line between them would cross the bound where
    nothing was measured.
    """
    log = axes.get_yscale() == "log"
    points = [
        (row.request, value)
        for row, value in zip(rows, values, strict=True)
        if value is not None and (value > 0 or not log)
    ]
    if points:
        colour, dash, mark = look
        alone = label == RESIDUAL and len(points) < len(rows)
        axes.plot(
            [x for x, _ in points], [y for _, y in points], linestyle="" if alone else dash, color=colour,
            marker=mark if alone or len(points) <= MARKED else "", markersize=4.5 if alone else 3.5, linewidth=1.4,
            label=label,
        )  # fmt: skip


def _retrains(axes: Axes, rows: Sequence[ServedRow], *, named: bool) -> None:
    for place, row in enumerate(row for row in rows if row.retrained):
        label = "retrained" if named and not place else "_"
        axes.axvline(row.request, color=RETRAIN, linewidth=1.0, zorder=0, label=label)


def tidy(axes: Axes) -> None:
    """Plain numbers on logarithmic axes; others so wide that a row more or less does not look like a landslide."""
    from matplotlib.ticker import LogLocator

    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        near = high / low < 300
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if near else (1.0,), numticks=6))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter("")
    elif high - low < LEAST_SPAN:
        top = min((low + high + LEAST_SPAN) / 2, 1.003)  # no accuracy is above 1
        axes.set_ylim(top - LEAST_SPAN, top)
