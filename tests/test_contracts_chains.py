"""Chains: stages have seeds, states and optimisers of their own; masks bind what follows."""

from pathlib import Path

import pytest
import torch
from toys_support import images, new_stages, one_record, same_weights, toy_registry

from unlearnbench.api import PluginError, UsageError
from unlearnbench.unlearners import stages_of


def test_stages_draw_from_seeds_of_their_own(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    alone, chained = (stages.unlearned(images(name)).state for name in ("toy-note", "toy-note+toy-note"))
    assert alone is not None
    assert chained is not None
    seeds = {alone.meta["0"]["seed"], chained.meta["0"]["seed"], chained.meta["1"]["seed"]}
    assert len(seeds) == 3


def test_a_repeated_stage_is_set_apart_by_its_position(tmp_path: Path) -> None:
    settings = {"toy-finetune.clip_norm": 1.0, "toy-finetune#2.lr": 0.001, "toy-finetune#2.epochs": 3}
    spec = images("toy-finetune+toy-finetune", set=settings)
    found = [(stage.params.lr, stage.params.epochs) for stage in stages_of(toy_registry(), spec.unlearner)]
    assert found == [(0.05, 1), (0.001, 3)]
    stages = new_stages(tmp_path)
    entry = stages.unlearned(spec)
    assert [cost.rows_read["retain"] for cost in entry.stages] == [192, 3 * 192]
    assert not same_weights(entry, stages.unlearned(images("toy-finetune+toy-finetune")))


def test_a_position_without_a_stage_is_refused() -> None:
    with pytest.raises(UsageError, match="toy-finetune#3"):
        images("toy-finetune+toy-finetune", set={"toy-finetune#3.lr": 0.1})


def test_nested_chains_are_their_stages_in_order() -> None:
    nested = {"name": "chain", "stages": ["toy-note", {"name": "chain", "stages": ["toy-finetune", "toy-note"]}]}
    names = [stage.spec.name for stage in stages_of(toy_registry(), images(nested).unlearner)]
    assert names == ["toy-note", "toy-finetune", "toy-note"]


def test_each_stage_has_its_own_prepared_state(tmp_path: Path) -> None:
    spec, stages = images("toy-dampening+toy-spoiling"), new_stages(tmp_path)
    entry, prepared = stages.unlearned(spec), stages.prepared(spec)
    assert stages.computed == ["train", "prepare", "prepare", "unlearn"]
    assert [set(p.state.tensors) for p in prepared if p is not None and p.state is not None][1] == {"0/gates"}
    assert entry.artifacts == {"sum": 4.0, "left": ["a", "b"]}
    assert entry.state is not None
    assert {name.split("/")[0] for name in entry.state.tensors} == {"0", "1"}


def test_a_mask_binds_the_stages_after_it_in_every_bit(tmp_path: Path) -> None:
    harsh = {"toy-finetune.weight_decay": 0.1, "toy-finetune.momentum": 0.9}
    for optimizer in ("sgd", "adam", "adamw"):
        spec = images("toy-freezing+toy-finetune", set={**harsh, "toy-finetune.optimizer": optimizer})
        stages = new_stages(tmp_path)
        assert same_weights(stages.unlearned(spec), stages.original(spec))


def test_a_mask_does_not_bind_what_came_before(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune+toy-freezing"), new_stages(tmp_path)
    assert not same_weights(stages.unlearned(spec), stages.original(spec))


def test_a_stage_that_trains_a_copy_under_a_mask_is_caught(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    assert not same_weights(stages.unlearned(images("toy-copying")), stages.original(images("toy-copying")))
    with pytest.raises(PluginError, match="unlearner toy-copying: trained a copy, so the mask did not bind it"):
        stages.unlearned(images("toy-freezing+toy-copying"))


def test_a_later_stage_voids_an_earlier_certificate(tmp_path: Path) -> None:
    claim = {"claim": "nothing changed"}
    for name, expected in (("toy-note", claim), ("toy-note+toy-finetune", None), ("toy-finetune+toy-note", claim)):
        certificate = one_record(tmp_path, images(name)).document["certificate"]
        own = certificate and {k: v for k, v in certificate.items() if k != "digests"}  # which the host adds
        assert own == expected


def test_every_stage_leaves_a_model_as_the_next_must_find_it(tmp_path: Path) -> None:
    spec, stages = images("toy-dampening+toy-finetune"), new_stages(tmp_path)
    model = stages.network(stages.unlearned(spec), torch.device("cpu"))
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
