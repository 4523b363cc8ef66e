"""Phases: what a preparation depends on, and that what it leaves cannot be spoiled."""

from pathlib import Path

import pytest
import torch
from toys_support import CLASS, RECIPE, SAMPLES, images, new_stages

from unlearnbench.api import PluginError


def test_a_sweep_over_a_parameter_of_unlearning_recomputes_one_stage_each(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    sweep = [images("toy-dampening", set={"toy-dampening.alpha": alpha}) for alpha in (1.0, 2.0, 5.0, 10.0)]
    found = {stages.unlearned(spec).weights_sha256 for spec in sweep}
    assert len(found) == 4
    assert stages.computed == ["train", "prepare", *["unlearn"] * 4]


def test_a_parameter_of_the_preparation_prepares_again(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    for chunk in (16, 64):
        stages.unlearned(images("toy-dampening", set={"toy-dampening.chunk": chunk}))
    assert stages.computed == ["train", "prepare", "unlearn", "prepare", "unlearn"]


def test_dampening_only_shrinks(tmp_path: Path) -> None:
    spec, stages = images("toy-dampening", CLASS, set={"toy-dampening.alpha": 1.0}), new_stages(tmp_path)
    before, after = stages.original(spec).weights, stages.unlearned(spec).weights
    assert all(bool((after[name].abs() <= weight.abs()).all()) for name, weight in before.items())
    assert any(not torch.equal(after[name], weight) for name, weight in before.items())


def test_reading_a_later_parameter_is_an_error_because_the_key_would_lie(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="parameter alpha is read in prepare but belongs to a later phase") as found:
        new_stages(tmp_path).unlearned(images("toy-peeking"))
    assert found.value.code == "later-parameter"
    assert found.value.where == "unlearner toy-peeking"


def test_a_prepared_state_is_handed_out_fresh_to_every_request(tmp_path: Path) -> None:
    whole = {"sum": 4.0, "left": ["a", "b"]}
    stages = new_stages(tmp_path)
    for request in (SAMPLES, CLASS, {**SAMPLES, "seed": 1}):
        assert stages.unlearned(images("toy-spoiling", request)).artifacts == whole
    assert stages.computed == ["train", "prepare", *["unlearn"] * 3]
    (prepared,) = stages.prepared(images("toy-spoiling"))
    assert prepared is not None
    assert prepared.state is not None
    assert prepared.state.tensors["0/gates"].tolist() == [1.0] * 4


def test_no_state_from_unlearn_means_that_a_stream_goes_on_with_the_state_as_it_was(tmp_path: Path) -> None:
    spec, stages = images("toy-spoiling", SAMPLES, CLASS), new_stages(tmp_path)
    assert stages.unlearned(spec, 1).artifacts == {"sum": 4.0, "left": ["a", "b"]}


def test_state_travels_from_training_through_preparation_to_unlearning(tmp_path: Path) -> None:
    spec, stages = images("toy-witness", SAMPLES, CLASS), new_stages(tmp_path)
    last = stages.unlearned(spec, 1).state
    assert last is not None
    assert last.meta["0"]["phases"] == ["train", "prepare", "unlearn", "unlearn"]
    first = stages.unlearned(spec, 0).state
    assert first is not None
    assert first.meta["0"]["phases"] == ["train", "prepare", "unlearn"]


def test_the_recipe_is_part_of_the_key_also_of_a_method_that_owns_training(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    short = {**RECIPE, "epochs": 1}
    for unlearner in ("toy-sisa", "toy-finetune"):
        one, other = stages.original(images(unlearner)), stages.original(images(unlearner, recipe=short))
        assert one.key != other.key
        assert one.weights_sha256 != other.weights_sha256


def test_the_unlearning_seed_pays_no_training_and_the_training_seed_pays_all(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    for train, unlearn in ((0, 0), (0, 1), (1, 1)):
        stages.unlearned(images("toy-dampening", seeds={"train": [train], "unlearn": [unlearn]}))
    assert stages.computed == ["train", "prepare", "unlearn", "unlearn", "train", "prepare", "unlearn"]
