"""The baselines of a request for a target, through the host: gold, instance level, the target masked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scenario_runs import known, shared_store

from unlearnbench import Record
from unlearnbench.api import DataError, IncompatibleError, PluginError
from unlearnbench.api.runtime import Data, Meter, View, without
from unlearnbench.config import resolve_experiment
from unlearnbench.phases import Phases
from unlearnbench.plugins import load_plugins
from unlearnbench.registry import Registry
from unlearnbench.runner import execute
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store
from unlearnbench.testing.problems import PLUGIN

TARGET, OTHERS = "cross", ("square", "disc", "triangle")
SCENES = {
    "dataset": {"name": "shapes", "params": {"train_rows": 400, "test_rows": 200}},
    "model": {"name": "scene-labels", "params": {"channels": [8, 16, 32], "pool_after": [2]}},
    "recipe": {
        "optimizer": "adamw", "lr": 0.005, "weight_decay": 0.0, "epochs": 20, "batch_size": 32, "schedule": "one-cycle",
    },
}  # fmt: skip
RECIPE: dict[str, Any] = {"optimizer": "adam", "lr": 0.003, "epochs": 5, "batch_size": 32}
BASELINES: dict[str, dict[str, Any]] = {
    "identity": {},
    "retrain": {},
    "finetune": RECIPE,
    "successive-random-labels": RECIPE,
    "ssd": {"selection": "adaptive", "dampening": 0.1},
    "unsir": {**RECIPE, "epochs": 2, "repair_lr": 0.002},
    "bad-teaching": {**RECIPE, "lr": 0.002, "retain_fraction": 1.0},
}
INSTANCE_LEVEL = ("unsir", "bad-teaching")


def registry() -> Registry:
    return Registry([*load_plugins(), PLUGIN])


def specs_of(
    how: str, problem: Mapping[str, Any], unlearners: Mapping[str, dict[str, Any]], target: str
) -> list[RunSpec]:
    chosen = [{"name": name, "params": params} for name, params in unlearners.items()]
    request = {"kind": "target", "targets": [target], "as": how}
    experiment = {**problem, "measures": ["accuracy"], "requests": [request], "unlearners": chosen}
    return list(resolve_experiment(experiment, registry()))


def run(how: str, folder: Path) -> tuple[dict[str, Record], dict[str, Entry]]:
    """Records and models of all baselines, by name."""
    specs, store, components = specs_of(how, SCENES, BASELINES, TARGET), shared_store(folder), registry()
    outcome = execute(specs, out=folder / "runs", store=store, components=components)
    assert not outcome.problems, outcome.problems
    stages = Stages(components, Store(store), Phases(components))
    names = list(BASELINES)
    return (
        dict(zip(names, outcome.records, strict=True)),
        dict(zip(names, map(stages.unlearned, specs), strict=True)),
    )


def recall(record: Record, target: str, subject: str = "unlearned") -> float:
    return known(record, f"recall.test.target={target}", subject)


@pytest.mark.parametrize("how", ["absent", "images"])
def test_every_baseline_serves_labels_of_scenes(how: str, tmp_path: Path) -> None:
    """Measured with this seed: the original recalls .99, gold 0; all but bad teaching fall to 0, it to .46."""
    records, models = run(how, tmp_path)
    for name, entry in models.items():
        assert all(bool(w.isfinite().all()) for w in entry.weights.values() if w.is_floating_point()), name
        assert min(recall(records[name], other) for other in OTHERS) >= 0.5, name
    original, gold = (recall(records["retrain"], TARGET, subject) for subject in ("original", "gold"))
    assert original >= 0.8
    assert recall(records["identity"], TARGET) == original
    assert gold <= 0.1
    for name in ("retrain", "finetune", "successive-random-labels", "ssd", "unsir"):
        assert recall(records[name], TARGET) <= 0.1, name
    assert recall(records["bad-teaching"], TARGET) <= 0.7 * original


def test_unsir_and_bad_teaching_treat_whole_rows_however_the_target_is_taken_away(tmp_path: Path) -> None:
    """Gold differs: without the images it has seen no row with the target, nor what else is in them."""
    (absent, first), (images, second) = (run(how, tmp_path / how) for how in ("absent", "images"))
    for name in BASELINES:
        same = all(torch.equal(w, second[name].weights[k]) for k, w in first[name].weights.items())
        assert same == (name in (*INSTANCE_LEVEL, "identity")), name
    key = "accuracy.test"
    assert known(absent["retrain"], key, "gold") != known(images["retrain"], key, "gold")


def test_the_rows_without_others_keep_their_order_and_are_told_by_their_ids() -> None:
    """Views of two data sets that share rows, as a request makes them that takes annotations away; none is read."""
    ids, meter = torch.tensor([7, 3, 9, 1, 5]), Meter()
    complete = Data(torch.zeros(5, 1), torch.zeros(5, 2), ids, ("a", "b"))
    erased = Data(torch.zeros(5, 1), torch.ones(5, 2), ids, ("a", "b"))
    retain = View(erased, torch.tensor([4, 0, 1, 2]), name="retain", meter=meter, locked=True)
    forget = View(complete, torch.tensor([0, 2, 3]), name="forget", meter=meter, locked=True)
    assert without(retain, forget).ids.tolist() == [5, 3]
    assert without(without(retain, forget), forget).ids.tolist() == [5, 3]
    assert not meter.rows
    with pytest.raises(PluginError, match="retain view is not declared"):
        without(retain, forget).tensors()
    with pytest.raises(DataError, match=r"^\[empty-retain-set\] \$.request: every retain row is a forget row as well"):
        without(retain.where(torch.tensor([1, 3])), forget)
    none = torch.arange(0)
    assert len(without(retain.where(none), forget)) == 0
    assert without(retain, forget.where(none)).ids.tolist() == retain.ids.tolist()


def test_what_no_detector_can_do_is_refused_before_any_work(tmp_path: Path) -> None:
    boxes = {"dataset": "kit-boxes", "model": "kit-detector"}
    components = registry()
    stages = Stages(components, Store(tmp_path), Phases(components))
    (label_free,) = specs_of("absent", boxes, {"ssd": {"importance": "label-free"}}, "b")
    with pytest.raises(IncompatibleError, match=r"^\[incompatible\].*ssd cannot serve model kit-detector: importance="):
        stages.check(label_free)
    for name in ("unsir", "bad-teaching", "successive-random-labels"):
        with pytest.raises(IncompatibleError, match=f"unlearner {name} cannot handle the task 'detection'"):
            execute(specs_of("absent", boxes, {name: {}}, "b"), out=tmp_path, store=tmp_path, components=components)
    assert stages.computed == []


@pytest.mark.parametrize("name", ["finetune", "ssd"])
@pytest.mark.parametrize("how", ["absent", "images"])
def test_boxes_of_a_target_are_forgotten_without_harm_to_the_weights(name: str, how: str, tmp_path: Path) -> None:
    boxes = {"dataset": "kit-boxes", "model": "kit-detector", "recipe": {**RECIPE, "batch_size": 16}}
    components = registry()
    stages = Stages(components, Store(tmp_path), Phases(components))
    (spec,) = specs_of(how, boxes, {name: BASELINES[name]}, "b")
    before, after = stages.original(spec).weights, stages.unlearned(spec).weights
    assert all(bool(w.isfinite().all()) for w in after.values())
    assert any(not torch.equal(w, before[k]) for k, w in after.items())
