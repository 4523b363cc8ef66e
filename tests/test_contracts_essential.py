"""Essential graph: one code for two tasks through the task's own target score; a mask that binds the next stage."""

from pathlib import Path

import pytest
import torch
from toys_support import new_stages, one_record, run_toys, scenes

from unlearnbench.api import IncompatibleError, Recipe
from unlearnbench.api.runtime import fit, generator
from unlearnbench.store import Entry

TASKS = ["multi-label", "segmentation"]
RED, BLUE = {"kind": "target", "targets": ["red"]}, {"kind": "target", "targets": ["blue"]}


def pruned(entry: Entry) -> dict[str, torch.Tensor]:
    """Weights that the mask holds, by parameter."""
    assert entry.mask is not None
    return {name: entry.weights[name][~free] for name, free in entry.mask.items()}


@pytest.mark.parametrize("task", TASKS)
def test_the_target_goes_and_the_others_stay(tmp_path: Path, task: str) -> None:
    record = one_record(tmp_path, scenes("toy-essential", task, RED))
    word = "recall" if task == "multi-label" else "iou"
    assert (record.value(f"{word}.test.target=red", "original") or 0) >= 0.6
    assert (record.value(f"{word}.test.target=red") or 0) <= 0.1
    for other in ("green", "blue"):
        key = f"{word}.test.target={other}"
        assert (record.value(key) or 0) >= 0.7 * (record.value(key, "original") or 0)


@pytest.mark.parametrize("task", TASKS)
def test_only_voted_channels_change_and_the_mask_names_them(tmp_path: Path, task: str) -> None:
    spec, stages = scenes("toy-essential", task, RED), new_stages(tmp_path)
    before, after = stages.original(spec).weights, stages.unlearned(spec)
    assert after.mask is not None
    assert sum(len(weights) for weights in pruned(after).values()) > 0
    for name, weight in before.items():
        free = after.mask.get(name, torch.ones_like(weight, dtype=torch.bool))
        assert torch.equal(after.weights[name], weight.masked_fill(~free, 0)), name


@pytest.mark.parametrize("task", TASKS)
def test_the_next_stage_of_the_chain_keeps_pruned_weights_at_exactly_zero(tmp_path: Path, task: str) -> None:
    # Momentum and weight decay would move them, and a step of Adam would too.
    harsh = {"toy-finetune.weight_decay": 0.1, "toy-finetune.momentum": 0.9, "toy-finetune.epochs": 2}
    spec, stages = scenes("toy-essential+toy-finetune", task, RED, set=harsh), new_stages(tmp_path)
    alone = stages.unlearned(scenes("toy-essential", task, RED))
    chained = stages.unlearned(spec)
    held = pruned(chained)
    assert set(held) == set(pruned(alone))
    assert all(bool((weights == 0).all()) for weights in held.values())
    moved = [n for n in chained.weights if not torch.equal(chained.weights[n], alone.weights[n])]
    assert {"0.weight", "3.weight"} <= set(moved)


def test_without_the_mask_the_same_training_would_revive_them(tmp_path: Path) -> None:
    spec, stages = scenes("toy-essential", "multi-label", RED), new_stages(tmp_path)
    entry, scene = stages.unlearned(spec), stages.scene(spec)
    model = stages.network(entry, scene.device)
    fit(model, scene.task, scene.parts[0].retain.view("retain"), Recipe(epochs=1, lr=0.05), generator(0))
    moved = {name: p.detach()[~entry.mask[name]] for name, p in model.named_parameters() if name in (entry.mask or {})}
    assert any(bool((weights != 0).any()) for weights in moved.values())


def test_a_stream_of_targets_adds_up(tmp_path: Path) -> None:
    spec, stages = scenes("toy-essential", "multi-label", RED, BLUE), new_stages(tmp_path)
    first, second = stages.unlearned(spec, 0), stages.unlearned(spec, 1)
    assert second.state is not None
    assert second.state.meta["0"]["gone"] == [0, 2]
    for name, free in (first.mask or {}).items():
        assert bool((second.weights[name][~free] == 0).all())


def test_delta_belongs_to_unlearning_and_sigma_to_the_preparation(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    for delta in (0.1, 0.25, 0.5):
        stages.unlearned(scenes("toy-essential", "multi-label", RED, set={"toy-essential.delta": delta}))
    assert stages.computed == ["train", "prepare", "unlearn", "unlearn", "unlearn"]
    stages.unlearned(scenes("toy-essential", "multi-label", RED, set={"toy-essential.sigma": 1}))
    assert stages.computed[5:] == ["prepare", "unlearn"]


def test_a_task_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="unlearner toy-sisa cannot handle the task 'multi-label'"):
        run_toys(tmp_path, scenes("toy-sisa", "multi-label", {"kind": "samples", "count": 5}))
