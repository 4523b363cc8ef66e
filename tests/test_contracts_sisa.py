"""SISA: a method that owns training, with a gold of its own that it reaches in every bit."""

from pathlib import Path

import pytest
import torch
from toys_support import CLASS, RECIPE, SAMPLES, images, new_stages, one_record, run_toys, same_weights, toy_registry

from unlearnbench.api import IncompatibleError
from unlearnbench.plan import describe


@pytest.mark.parametrize("request_of", [SAMPLES, CLASS], ids=["samples", "class"])
def test_unlearned_equals_the_methods_own_gold_bit_for_bit(tmp_path: Path, request_of: dict[str, object]) -> None:
    spec, stages = images("toy-sisa", request_of), new_stages(tmp_path)
    assert same_weights(stages.unlearned(spec), stages.gold(spec))
    assert not same_weights(stages.unlearned(spec), stages.original(spec))


def test_the_same_trainer_makes_original_and_gold_and_the_recipe_makes_neither(tmp_path: Path) -> None:
    sisa, host, stages = images("toy-sisa"), images("identity"), new_stages(tmp_path)
    for entry in (stages.original(sisa), stages.gold(sisa)):
        assert entry.ref is not None
        assert entry.ref.name == "toy-ensemble"
        assert entry.inputs["trainer"]["name"] == "toy-sisa"
    assert "recipe" in stages.gold(host).inputs["trainer"]
    assert describe(sisa, toy_registry())["trainer"] == "toy-sisa"
    assert describe(host, toy_registry())["trainer"] == "recipe"


def test_host_trained_methods_share_one_original_and_one_gold(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    for unlearner in ("identity", "toy-finetune", "toy-dampening"):
        stages.original(images(unlearner))
        stages.gold(images(unlearner))
    assert stages.computed == ["train", "train"]


def test_only_shards_that_were_hit_are_trained_again(tmp_path: Path) -> None:
    one = {"kind": "samples", "ids": [1007]}
    spec, stages = images("toy-sisa", one), new_stages(tmp_path)
    before, after = stages.original(spec).weights, stages.unlearned(spec).weights
    state = stages.unlearned(spec).state
    assert state is not None
    ((hit,),) = state.meta["0"]["refitted"]
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {str(hit)}


def test_an_exact_method_shows_gap_zero_in_its_record(tmp_path: Path) -> None:
    record = one_record(tmp_path, images("toy-sisa", measures=["accuracy", "agreement", "ua-ra-ta-mia"]))
    gaps = [r["gap"] for r in record.readings if r["subject"] == "unlearned"]
    assert gaps
    assert set(gaps) == {0.0}
    assert record.value("js.test") == 0.0
    assert record.value("js.test", "original") != 0.0


def test_a_stream_stays_exact(tmp_path: Path) -> None:
    spec = images("toy-sisa", SAMPLES, {**SAMPLES, "seed": 1}, CLASS)
    stages = new_stages(tmp_path)
    for step in range(3):
        assert same_weights(stages.unlearned(spec, step), stages.gold(spec, step))


def test_two_trainers_in_one_chain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="toy-sisa and toy-witness both own training"):
        run_toys(tmp_path, images("toy-sisa+toy-witness"))


def test_another_recipe_is_another_original(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    short = images("toy-sisa", recipe={**RECIPE, "epochs": 1})
    assert stages.original(short).key != stages.original(images("toy-sisa")).key
