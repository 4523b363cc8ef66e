"""Gold of a target is trained on data that never say it, whatever the task and however it is erased."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlearnbench import phases
from unlearnbench.api.runtime import TASKS, Task, View, fit
from unlearnbench.config import resolve_experiment
from unlearnbench.phases import Phases
from unlearnbench.plugins import BUILTIN
from unlearnbench.registry import Registry, registry
from unlearnbench.stages import Stages
from unlearnbench.store import Store
from unlearnbench.testing.problems import PLUGIN

HOST = [plugin for plugin in registry().plugins if plugin.name == BUILTIN]
PROBLEMS = {
    "multi-label": ("kit-labels", "kit-convnet"),
    "segmentation": ("kit-pixels", "kit-segnet"),
    "detection": ("kit-boxes", "kit-detector"),
}


@pytest.mark.parametrize(
    ("task", "how"),
    [
        ("multi-label", "unknown"),
        ("segmentation", "unknown"),
        ("detection", "absent"),
        ("detection", "images"),
    ],
)
def test_gold_never_sees_the_target(tmp_path: Path, task: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def watching(model: nn.Module, of: Task, view: View, *more: Any, **named: Any) -> int:
        seen.append(view.tensors().y)
        return fit(model, of, view, *more, **named)

    dataset, model = PROBLEMS[task]
    known = Registry([*HOST, PLUGIN])
    experiment = {
        "dataset": dataset, "model": model, "unlearners": ["identity"], "measures": ["accuracy"],
        "recipe": {"epochs": 1, "batch_size": 16}, "forget": [{"kind": "target", "targets": ["b"], "as": how}],
    }  # fmt: skip
    (spec,) = resolve_experiment(experiment, known)
    stages = Stages(known, Store(tmp_path), Phases(known))
    stages.original(spec)
    monkeypatch.setattr(phases, "fit", watching)
    stages.gold(spec)
    (left,), everything = seen, stages.scene(spec).splits.train.y
    assert bool(TASKS[task].split_target(everything, 1)[0].any())
    assert not bool(TASKS[task].split_target(left, 1)[0].any())
    assert bool(TASKS[task].split_target(left, 2)[0].any())
    assert (len(left) < len(everything)) == (how == "images")
    if task == "multi-label":
        assert bool(left[:, 1].isnan().all())
        assert torch.equal(left[:, 2], everything[:, 2])
