"""The pictures that ``target-inversion`` kept, side by side: the rows' mean, original, gold, unlearned, with scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

from unlearnbench_essential_graph.folders import SUBJECTS, Pictures

SCORES = (("target-inversion-ssim", "SSIM"), ("target-inversion-probe", "probe"), ("target-inversion-reached", "p"))
SIZE = 1.9
"""Inches of a picture."""


def save_pictures(found: Mapping[str, Pictures], path: Path, kind: str) -> None:
    """Draw the pictures of each target as a row into a ``png`` or ``svg`` file. Raises OSError if it cannot be."""
    figure = Figure(figsize=(SIZE * 4 + 0.6, (SIZE + 0.55) * len(found) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(found), 4, squeeze=False)
    for row, (target, pictures) in zip(axes, found.items(), strict=True):
        _image(row[0], pictures.mean, "mean of the rows")
        row[0].set_ylabel(_plain(target))
        for axis, subject in zip(row[1:], SUBJECTS, strict=True):
            picture = pictures.recovered.get(subject)
            scores = pictures.scores.get(subject, {})
            told = ", ".join(
                f"{short} {scores[name]:.2f}" for name, short in SCORES if scores.get(name) is not None
            )  # fmt: skip
            _image(axis, picture, f"{subject}\n{told}" if told else subject)
    # Names are anybody's, and matplotlib would read a dollar sign as the beginning of a formula.
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
    with path.open("wb") as file:
        dated: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}  # not the time of day
        figure.savefig(file, format=kind, dpi=150, bbox_inches="tight", **dated)


def _image(axis: Any, picture: Tensor | None, title: str) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=8)
    if picture is None:
        axis.set_xlabel("not kept", fontsize=8)
        return
    shown = picture.double().clamp(0, 1)
    if len(shown) not in (1, 3):
        shown = shown.mean(0, keepdim=True)  # what no screen has colours for is shown as its mean over channels
    pixels = shown.permute(1, 2, 0).numpy()
    axis.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:40]
