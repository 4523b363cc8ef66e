"""Ensembles: the same run with other seeds, and shadows that saw different halves of the audit rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toys_support import CLASS, SAMPLES, images, new_stages, one_record, toy_registry

from unlearnbench.api import IncompatibleError, PluginError
from unlearnbench.evidence import RunEvidence
from unlearnbench.price import PROBE_STEPS, ensembles_of, price
from unlearnbench.spec import RunSpec
from unlearnbench.stacked import STACK
from unlearnbench.stages import Stages

SHADOWS = {"name": "toy-shadows", "params": {"pairs": 2}}


def evidence(stages: Stages, spec: RunSpec, *reads: str) -> RunEvidence:
    return RunEvidence(stages, spec, 0, "unlearned", "toy-shadows", reads or ("siblings",))


def rows(part: Any) -> set[int]:
    return set(part.ids.tolist())


@pytest.mark.parametrize("request_", [SAMPLES, CLASS], ids=["samples", "class"])
def test_shadows_see_the_retain_set_and_complementary_halves_of_the_audit_rows(
    tmp_path: Path, request_: dict[str, Any]
) -> None:
    spec, stages = images("toy-finetune", request_), new_stages(tmp_path)
    mine = evidence(stages, spec)
    forget, retain, unseen = (rows(mine.view(split)) for split in ("forget", "retain", "holdout"))
    shadows = mine.shadows(4)
    assert rows(shadows) == forget | unseen
    assert set(shadows.ids[shadows.forgotten].tolist()) == forget
    halves = [set(shadows.ids[members].tolist()) for members in shadows.members]
    for one, other in (halves[:2], halves[2:]):
        assert one | other == forget | unseen
        assert not one & other
        assert abs(len(one) - len(other)) <= 1
    assert halves[0] != halves[2]
    for own, half in zip(shadows.specs, halves, strict=True):
        scene = stages.scene(own)
        assert rows(scene.train.view("train")) == retain | half
        assert rows(scene.parts[0].forget.view("forget")) == half
        assert rows(scene.parts[0].retain.view("retain")) == retain
        assert not rows(scene.parts[0].measured["test"].view("test")) & (forget | unseen)
    assert stages.computed == []  # who is a member is known before anything is trained


def test_annotations_and_outputs_of_audit_rows_go_together(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    mine = evidence(stages, spec)
    shadows = mine.shadows(2)
    parts = [(mine.view(split).ids.tolist(), mine.y(split).tolist()) for split in ("forget", "holdout")]
    known = {row: label for ids, labels in parts for row, label in zip(ids, labels, strict=True)}
    assert [known[int(i)] for i in shadows.ids] == shadows.y.tolist()
    outputs = shadows.outputs("original")
    assert outputs.shape == (2, len(shadows.y), 10)
    batch = shadows.pool.selection.view("audit").tensors()
    with torch.no_grad():
        assert torch.allclose(outputs[1], shadows.model(1, "original")(batch.x), atol=1e-6)


@pytest.mark.parametrize("unlearner", ["toy-finetune", "toy-sisa", "toy-dampening+toy-finetune"])
def test_a_shadow_measure_runs_on_any_method(tmp_path: Path, unlearner: str) -> None:
    record = one_record(tmp_path, images(unlearner, measures=[SHADOWS]))
    for subject in ("original", "gold", "unlearned"):
        assert record.value("seen-by-half", subject) == 1.0
        assert record.value("shadow-gap", subject) is not None
    if unlearner == "toy-sisa":  # it is exact: forgetting a half gives what never saw it
        assert record.value("shadow-gap") == record.value("shadow-gap", "gold")
    else:  # SISA averages nets that saw a shard each, and remembers too little
        original, gold = record.value("shadow-gap", "original"), record.value("shadow-gap", "gold")
        assert original is not None
        assert gold is not None
        assert original > gold + 0.02


def test_a_shadow_trains_original_and_gold_on_its_own_rows(tmp_path: Path) -> None:
    spec, stages = images("toy-witness"), new_stages(tmp_path)
    shadows = evidence(stages, spec).shadows(2)
    from unlearnbench_toys.rogues import SEEN

    SEEN.clear()
    shadows.model(0, "unlearned")
    shadows.model(0, "gold")
    train, prepare, unlearn, gold = SEEN[:4]
    half = set(shadows.ids[shadows.members[0]].tolist())
    retain = rows(evidence(stages, spec).view("retain"))
    assert rows(train.data) == rows(prepare.data) == half | retain  # type: ignore[attr-defined]
    assert rows(unlearn.forget) == half  # type: ignore[attr-defined]
    assert rows(unlearn.retain) == rows(gold.data) == retain  # type: ignore[attr-defined]


def test_siblings_differ_by_their_seeds_alone(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    siblings = evidence(stages, spec).siblings(3)
    models = [stages.original(s) for s in (spec, *siblings.specs)]
    assert len({model.weights_sha256 for model in models}) == 4
    assert len({rows_of.digest() for rows_of in (stages.scene(s).train.view("train") for s in siblings.specs)}) == 1
    outputs = siblings.outputs("forget", "original")
    assert outputs.shape == (3, 8, 10)
    assert torch.equal(siblings[1:].outputs("forget", "original"), outputs[1:])


def test_siblings_in_unlearning_share_the_original(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    siblings = evidence(stages, spec).siblings(3, vary="unlearn")
    assert {stages.original(s).key for s in siblings.specs} == {stages.original(spec).key}
    assert len({stages.unlearned(s).weights_sha256 for s in (spec, *siblings.specs)}) == 4


def test_golds_alone_cost_no_originals(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    evidence(stages, spec).siblings(2).outputs("forget", "gold")
    assert stages.computed == ["train", "train"]


def test_a_member_is_an_ordinary_run_with_a_spec_of_its_own(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    shadows = evidence(stages, spec).shadows(2)
    expected = shadows.model(1, "unlearned").state_dict()
    sent = RunSpec.from_json(json.loads(json.dumps(shadows.specs[1].to_json())))
    there = new_stages(tmp_path / "there").unlearned(sent)
    assert all(torch.equal(expected[name], weight) for name, weight in there.weights.items())


def test_an_ensemble_comes_from_the_store_the_second_time(tmp_path: Path) -> None:
    spec = images("toy-finetune", measures=[SHADOWS])
    first = one_record(tmp_path, spec)
    stages = new_stages(tmp_path / "store")
    evidence(stages, spec).shadows(4).outputs("unlearned")
    assert stages.computed == []
    assert first.document["status"] == "complete"


def test_what_a_measure_does_not_declare_is_refused(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    for ask in (lambda e: e.siblings(2), lambda e: e.shadows(2)):
        with pytest.raises(PluginError, match="reads siblings without declaring it"):
            ask(evidence(stages, spec, "gold"))
    with pytest.raises(PluginError, match="reads gold without declaring it"):
        evidence(stages, spec, "cost").outputs("test", "gold")
    with pytest.raises(PluginError, match="shadows come in pairs"):
        evidence(stages, spec).shadows(3)


def test_models_in_evidence_are_private_copies(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    mine = evidence(stages, spec)
    model = mine.model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert all(bool((weight != 0).any()) for weight in mine.model().parameters())


# -- the price, and what cannot have an ensemble -----------------------------------------------------------------------


def test_the_price_counts_each_model_once(tmp_path: Path) -> None:
    specs = [images(name, measures=[SHADOWS]) for name in ("toy-finetune", "toy-dampening")]
    found = price(specs, toy_registry())
    assert (found.originals, found.golds, found.unlearned) == (4, 4, 8)  # originals and golds are shared
    assert "4 original + 4 gold + 8 unlearned models" in str(found)
    assert found.training_s is None
    timed = price(specs, toy_registry(), new_stages(tmp_path))
    assert timed.training_s is not None
    assert timed.training_s > 0
    assert price([images("toy-finetune")], toy_registry()).models == 0


@pytest.mark.parametrize(("unlearner", "together"), [("toy-finetune", STACK), ("toy-sisa", 1)])
def test_the_told_time_is_that_of_a_stack_where_networks_are_trained_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlearner: str, together: int
) -> None:
    """The probe is said to take 60 seconds; a stack of eight then costs each of its networks an eighth of that."""
    moments = iter([100.0, 160.0])
    monkeypatch.setattr("unlearnbench.price.process_time", lambda: next(moments))
    spec = images(unlearner, measures=[SHADOWS])
    stages = new_stages(tmp_path)
    rows, size = len(stages.scene(spec).train), spec.recipe.batch_size
    steps, probed = -(-rows // size), -(-min(rows, PROBE_STEPS * size) // size)
    each = 60 / together / probed * steps * spec.recipe.epochs
    assert price([spec], toy_registry(), stages).training_s == pytest.approx(8 * each)


def test_the_price_of_a_method_that_owns_training_is_its_own() -> None:
    specs = [images(name, measures=[SHADOWS]) for name in ("toy-finetune", "toy-sisa")]
    assert price(specs, toy_registry()).originals == 8


def test_a_stream_or_a_checkpoint_cannot_be_audited_with_shadows() -> None:
    stream = images("toy-finetune", SAMPLES, {**SAMPLES, "seed": 1}, measures=[SHADOWS])
    with pytest.raises(IncompatibleError, match="toy-shadows reads shadow models, which serve one request"):
        ensembles_of(stream, toy_registry())
    from dataclasses import replace

    brought = replace(images("toy-finetune", measures=[SHADOWS]), checkpoint={"name": "a", "sha256": "0" * 64})
    with pytest.raises(IncompatibleError, match="brought as a checkpoint"):
        ensembles_of(brought, toy_registry())


# -- observation -------------------------------------------------------------------------------------------------------


def test_a_phase_is_observed_once_and_its_result_thrown_away(tmp_path: Path) -> None:
    spec, stages = images("toy-dampening"), new_stages(tmp_path)
    before = stages.unlearned(spec).weights_sha256
    seen: list[str] = []

    def watch(run: Any) -> int:
        run()
        seen.append("watched")
        return len(seen)

    mine = evidence(stages, spec)
    assert [mine.observe(phase, watch) for phase in ("train", "train-gold", "prepare", "unlearn", "train")] == [
        1,
        2,
        3,
        4,
        1,
    ]
    assert len(seen) == 4
    assert stages.unlearned(spec).weights_sha256 == before
    with pytest.raises(PluginError, match="no phase 'serve' to observe"):
        mine.observe("serve", watch)
    with pytest.raises(PluginError, match="no phase 'prepare' to observe"):
        evidence(stages, images("toy-finetune")).observe("prepare", watch)
