"""The named scenarios: each can be planned, and those whose data are at hand run at a reduced size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import unlearnbench
from unlearnbench.config import resolve_experiment, scenario, scenario_names
from unlearnbench.plan import check
from unlearnbench.registry import registry

REDUCED: dict[str, dict[str, Any]] = {
    "fashion-cnn-random10/v1": {"fashion-mnist.rows": 1000, "fashion-mnist.test_rows": 500, "recipe.epochs": 3},
    "fashion-cnn-class3/v1": {"fashion-mnist.rows": 1000, "fashion-mnist.test_rows": 500, "recipe.epochs": 3},
    "fashion-vit-class3/v1": {"fashion-mnist.rows": 1000, "fashion-mnist.test_rows": 500, "recipe.epochs": 15},
}
"""Those of plugins with other data are run by the tests of these plugins, those of the host in test_acceptance."""


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_can_be_planned_with_each_unlearner_that_has_a_recipe_there(name: str) -> None:
    unlearners = sorted({"finetune", "retrain", *scenario(name).get("unlearners", {})})
    specs = resolve_experiment({"scenario": name, "unlearners": unlearners}, registry())
    assert [(spec.scenario, spec.unlearner.name) for spec in specs] == [(name, u) for u in unlearners]
    for spec in specs:
        check(spec, registry())
        own = scenario(name).get("unlearners", {}).get(spec.unlearner.name, {"params": {}})["params"]
        given = {key: list(v) if isinstance(v, tuple) else v for key, v in spec.unlearner.params.items()}
        assert own.items() <= given.items()


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_names_the_plugins_of_its_data_model_and_measures(name: str) -> None:
    scene = scenario(name)
    parts = [registry().get(kind, scene[kind]["name"]) for kind in ("dataset", "model")]
    parts += [registry().get("measure", measure) for measure in scene["measures"]]
    wanted = {part.plugin.distribution for part in parts} - {"unlearnbench"}
    assert set(scene.get("plugins", ())) == wanted


@pytest.mark.parametrize("name", REDUCED)
def test_a_scenario_of_images_runs_at_a_reduced_size(name: str, tmp_path: Path) -> None:
    if "UNLEARNBENCH_DATA" not in os.environ:
        pytest.skip("Fashion-MNIST is found through UNLEARNBENCH_DATA")
    (record,) = unlearnbench.run("salun", scenario=name, parameters=REDUCED[name], out=tmp_path)
    assert record.status == "complete"
    assert record.document["data"]["train"]["rows"] == 1000
    original = record.value("accuracy.test", "original")
    assert original is not None
    assert original > 0.6
    if "class" in name:
        assert record.value("accuracy.forget", "gold") == 0
