"""What settings of the essential graph come to on validation images: how the scenarios' were chosen.

Prints for each setting and target the forgotten score, what is known of it without a threshold, and what the others
lose, all on validation rows. Models come from the store of the slow tests (``make slow``), or are trained.

    OMP_NUM_THREADS=1 python benchmarks/target_settings.py fashion-scenes-detection/v1 sneaker,bag GRID

where GRID is JSON such as ``{"instances": [64], "selection": ["contrast"], "sigma": [3, 4], "delta": [0.06, 0.07]}``.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from target_runs import kept, spec, stages  # noqa: E402  tests and benchmarks share their models

from unlearnbench.api.runtime import average_precisions, predict, recalls  # noqa: E402
from unlearnbench.guard import deterministic  # noqa: E402
from unlearnbench.spec import RunSpec  # noqa: E402
from unlearnbench.store import Entry  # noqa: E402

Scores = dict[str, tuple[float, float]]
"""By target: its score at the model's threshold, and without one (AUC, average precision; IoU again)."""


def main() -> None:
    """Try all settings of a grid on all targets that are named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario")
    parser.add_argument("targets", help="names, with commas between them: each is forgotten alone")
    parser.add_argument("grid", help="JSON: parameters and the values to try")
    options = parser.parse_args()
    grid = json.loads(options.grid)
    for values in product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        print(json.dumps(settings))
        for target in options.targets.split(","):
            run = spec(options.scenario, target, **settings)
            with deterministic(run.threads):
                before = scores(run, stages(kept()).original(run))
                after = scores(run, stages(kept()).unlearned(run))
            others = [name for name in before if name not in (target, "background")]
            lost = [before[name][1] - after[name][1] for name in others]
            score, known = after[target]
            print(
                f"  {target:10} {score:.3f}, without a threshold {known:.3f}; others lose {fmean(lost):.3f} "
                f"(at most {max(lost):.3f}), keep {fmean(after[n][0] / before[n][0] for n in others):.3f}"
            )


def scores(run: RunSpec, entry: Entry) -> Scores:
    """The scores of all targets on the validation rows."""
    made = stages(kept())
    scene = made.scene(run)
    view = scene.validation.view("validation")
    out, y = predict(made.network(entry, scene.device), scene.task, view, 64), view.tensors().y
    names = view.outputs
    if scene.task.name == "detection":
        found = zip(names, recalls(out, y, len(names)), average_precisions(out, y, len(names)).of_class_50, strict=True)
        return {name: (recall or 0.0, precision or 0.0) for name, recall, precision in found}
    if scene.task.name == "segmentation":
        ious = {m.at["target"]: m.value or 0.0 for m in scene.task.metrics(out, y, names) if m.name == "iou"}
        return {name: (ious.get(name, 0.0),) * 2 for name in names}
    return {name: _label(out[:, k], y[:, k]) for k, name in enumerate(names)}


def _label(out: Tensor, y: Tensor) -> tuple[float, float]:
    return float(balanced_accuracy_score(y, out > 0)), float(roc_auc_score(y, out))


if __name__ == "__main__":
    main()
