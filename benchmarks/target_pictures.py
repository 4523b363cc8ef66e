"""What networks see of a test scene before and after a target is forgotten, for the documents.

Models come from the store of the slow tests (``make slow``) or are trained: a quarter of an hour each. Writes
``docs/figures/forgotten-sneakers-{segmentation,detection}.png``: the scene, what is there, and what the original, the
gold and the unlearned model say.

    OMP_NUM_THREADS=1 python benchmarks/target_pictures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from target_runs import kept, spec, stages  # noqa: E402  tests and pictures share their models

from unlearnbench.api.runtime import SUBJECTS, present  # noqa: E402
from unlearnbench.guard import deterministic  # noqa: E402

TARGET = "sneaker"
SCENES = 5
SCORE = 0.3
COLOURS = ("#e15759", "#59a14f", "#4e79a7", "#edc948", "#b07aa1")
"""tshirt, trouser, sneaker, bag, boot."""


def main() -> None:
    """Draw one picture for masks and one for boxes."""
    mpl.use("Agg")
    folder = ROOT / "docs" / "figures"
    folder.mkdir(exist_ok=True)
    for task in ("segmentation", "detection"):
        path = folder / f"forgotten-{TARGET}s-{task}.png"
        draw(task).savefig(path, dpi=80, bbox_inches="tight")
        print(path.relative_to(ROOT))


def draw(task: str) -> Figure:
    """Rows are scenes with the target; columns are the truth and what each model says."""
    run, made = spec(f"fashion-scenes-{task}/v1", TARGET), stages(kept())
    with deterministic(run.threads):
        scene = made.scene(run)
        part = scene.parts[0].measured["holdout"]  # test scenes that show the target
        entries = {"original": made.original(run), "gold": made.gold(run), "unlearned": made.unlearned(run)}
        said = {name: made.outputs(entry, part, scene)[:SCENES] for name, entry in entries.items()}
    batch = part.view("test").take(torch.arange(SCENES))
    columns = {"scene": None, "annotated": batch.y, **{name: said[name] for name in SUBJECTS}}
    figure = Figure(figsize=(2 * len(columns), 2 * SCENES))
    axes = figure.subplots(SCENES, len(columns), gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for row in range(SCENES):
        for place, (heading, content) in enumerate(columns.items()):
            ax = axes[row, place]
            ax.set_xticks([])
            ax.set_yticks([])
            ax.imshow(batch.x[row].permute(1, 2, 0).numpy(), interpolation="nearest")
            if row == 0:
                ax.set_title(heading)
            if content is not None:
                (pixels if task == "segmentation" else boxes)(ax, content[row])
    legend = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS]
    names = [name for name in scene.splits.train.outputs if name != "background"]
    figure.legend(legend, names, loc="lower center", ncols=len(names), frameon=False, bbox_to_anchor=(0.5, 0.07))
    return figure


def pixels(ax: Axes, classes: Tensor) -> None:
    """Pixels in the colour of their class, the background dark."""
    palette = np.array([[0.12, 0.12, 0.12], *[mpl.colors.to_rgb(colour) for colour in COLOURS]])
    ax.imshow(palette[classes.long().numpy()], interpolation="nearest")


def boxes(ax: Axes, found: Tensor) -> None:
    """Boxes in the colour of their class: all that are annotated, or what is detected with a score of at least 0.3."""
    kept_ = found[present(found)] if found.shape[1] == 5 else found[found[:, 4] >= SCORE]
    for x1, y1, x2, y2, *_, label in kept_.tolist():
        frame = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, lw=2, color=COLOURS[int(label)])
        ax.add_patch(frame)


if __name__ == "__main__":
    main()
