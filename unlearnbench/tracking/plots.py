"""One plot per run: accuracy of original, gold and unlearned on the forget, retain and test rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from unlearnbench.api.errors import DataError
from unlearnbench.tracking.labels import experiment_name, seed_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from unlearnbench.record import Record

SPLITS = ("forget", "retain", "test")
# Okabe and Ito's colours, which stay apart for colour-blind readers; the hatches do so in print.
LOOKS = {"original": ("#bbbbbb", "//"), "gold": ("#e69f00", ""), "unlearned": ("#56b4e9", "\\\\")}
INK = "#222222"
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "unlearnbench",
    "svg.fonttype": "path",  # looks the same where the font is missing
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

Bars = Mapping[tuple[str, str], Mapping[str, Any]]
"""Readings by subject and split."""


def run_plot(record: Record, path: Path) -> Path | None:
    """Draw a run as SVG, the same bytes for the same record; None when it has no accuracy to draw.

    Raises:
        DataError: the file cannot be written.
    """
    bars = accuracies(record.document)
    if all(reading["value"] is None for reading in bars.values()):
        return None
    return save_svg(path, titles(record.document), lambda: figure(record.document, bars))


def save_svg(path: Path, said: tuple[str, str], draw: Callable[[], Figure]) -> Path:
    """Draw a figure in the house's style and write it as SVG; ``said`` is its headline and second line.

    Raises:
        DataError: the file cannot be written.
    """
    image = _svg(said, draw)
    try:
        path.write_bytes(image)
    except OSError as problem:
        cause = problem.strerror or str(problem)
        raise DataError("cannot-write", cause, where=str(path), hint="choose a writable folder with --out") from problem
    return path


def accuracies(document: Mapping[str, Any]) -> Bars:
    """The readings named accuracy over whole splits, after the last request."""
    requests = len(document["requests"])
    place = {"request": str(requests - 1)} if requests > 1 else {}
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for reading in document["readings"]:
        if reading["name"] == "accuracy" and reading["split"] in SPLITS and reading["at"] == place:
            found.setdefault((reading["subject"], reading["split"]), reading)
    return found


def _svg(said: tuple[str, str], draw: Callable[[], Figure]) -> bytes:
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's own style must not change the bytes
        mpl.rcParams.update(SETTINGS)
        metadata = {"Date": None, "Creator": "UnlearnBench", "Title": " - ".join(said)}
        draw().savefig(stream, format="svg", metadata=metadata)
    return stream.getvalue()


def figure(document: Mapping[str, Any], bars: Bars) -> Figure:
    """The plot as a matplotlib figure, outside pyplot's global state."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(7.2, 4.0), facecolor="white", layout="constrained")
    axes = made.add_subplot()
    splits = [split for split in SPLITS if any((subject, split) in bars for subject in LOOKS)]
    for position, split in enumerate(splits):
        _draw_split(axes, position, split, bars)
    axes.set_xticks(range(len(splits)), [_split_label(split, bars) for split in splits])
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1.09)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    head(axes, titles(document))
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    made.legend(named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False, handlelength=1.6)
    return made


def head(axes: Axes, said: tuple[str, str]) -> None:
    """Headline and second line above the axes."""
    axes.set_title(said[0], loc="left", fontsize=12, fontweight="bold", pad=24)
    axes.annotate(said[1], (0, 1), (0, 9), xycoords="axes fraction", textcoords="offset points")


def _draw_split(axes: Axes, position: int, split: str, bars: Bars) -> None:
    width = 0.26
    for place, (subject, (colour, hatch)) in enumerate(LOOKS.items()):
        x = position + (place - 1) * width
        value = bars[subject, split]["value"] if (subject, split) in bars else None
        axes.bar(x, value or 0.0, width * 0.92, color=colour, edgecolor=INK, linewidth=0.8, hatch=hatch, label=subject)
        # A value that does not exist is not a bar of height 0.
        text = "none" if value is None else f"{value:.3f}"
        axes.annotate(text, (x, value or 0.0), (0, 3), textcoords="offset points", ha="center", fontsize=9)


def titles(document: Mapping[str, Any]) -> tuple[str, str]:
    """Headline and second line: the unlearner; scenario, seed and whatever else a reader must know."""
    parts = [shorten(experiment_name(document), 70), f"seed {seed_label(document)}"]
    if len(document["requests"]) > 1:
        parts.append(f"after {len(document['requests'])} requests")
    if document["status"] != "complete":
        parts.append(document["status"])
    return shorten(document["spec"]["unlearner"]["name"], 70), ", ".join(parts)


def _split_label(split: str, bars: Bars) -> str:
    rows = next(bars[subject, split]["n"] for subject in LOOKS if (subject, split) in bars)
    return f"{split}\n(n = {rows:,})"
