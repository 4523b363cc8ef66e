"""Siblings: the same run with other seeds and on half of the rows, in complementary pairs."""

from pathlib import Path

import pytest
import torch
from toys_support import images, new_stages, one_record

from unlearnbench.api import PluginError
from unlearnbench.evidence import RunEvidence
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages


def evidence(stages: Stages, spec: RunSpec, *reads: str) -> RunEvidence:
    return RunEvidence(stages, spec, 0, "unlearned", "toy-siblings", reads)


def test_half_siblings_come_in_complementary_pairs(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    everything = set(stages.scene(spec).train.view("train").ids.tolist())
    pairs = evidence(stages, spec, "siblings").siblings(4, keep=0.5)
    kept = [set(sibling.kept.tolist()) for sibling in pairs]
    for one, other in (kept[:2], kept[2:]):
        assert len(one) == len(other) == len(everything) // 2
        assert one | other == everything
    assert kept[0] != kept[2]
    assert stages.computed == []


def test_siblings_without_a_share_differ_by_seed_alone(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    first, second = evidence(stages, spec, "siblings").siblings(2)
    assert torch.equal(first.kept, second.kept)
    models = [stages.original(s) for s in (spec, first.spec, second.spec)]
    assert len({model.weights_sha256 for model in models}) == 3


@pytest.mark.parametrize("unlearner", ["toy-finetune", "toy-sisa", "toy-dampening+toy-finetune"])
def test_a_shadow_measure_runs_on_any_method(tmp_path: Path, unlearner: str) -> None:
    spec = images(unlearner, measures=[{"name": "toy-siblings", "params": {"pairs": 2}}])
    record = one_record(tmp_path, spec)
    for subject in ("original", "gold", "unlearned"):
        assert record.value("seen-by-half", subject) == 1.0
        assert record.value("sibling-gap.forget", subject) is not None
    if unlearner == "toy-sisa":
        assert record.value("sibling-gap.forget") == record.value("sibling-gap.forget", "gold")


def test_a_sibling_trains_original_and_gold_on_its_own_rows(tmp_path: Path) -> None:
    spec, stages = images("toy-witness"), new_stages(tmp_path)
    (sibling,) = evidence(stages, spec, "siblings").siblings(1, keep=0.5)
    from unlearnbench_toys.rogues import SEEN

    SEEN.clear()
    sibling.model("unlearned")
    sibling.model("gold")
    train, prepare, unlearn, gold = SEEN
    kept = set(sibling.kept.tolist())
    assert set(train.data.ids.tolist()) == kept  # type: ignore[attr-defined]
    assert set(prepare.data.ids.tolist()) == kept  # type: ignore[attr-defined]
    assert set(unlearn.forget.ids.tolist()) | set(unlearn.retain.ids.tolist()) == kept  # type: ignore[attr-defined]
    assert set(gold.data.ids.tolist()) == set(unlearn.retain.ids.tolist())  # type: ignore[attr-defined]


def test_a_sibling_is_an_ordinary_run_with_a_spec_of_its_own(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    (sibling,) = evidence(stages, spec, "siblings").siblings(1, keep=0.5)
    expected = sibling.model("unlearned").state_dict()
    sent = RunSpec.from_json(sibling.spec.to_json())
    there = new_stages(tmp_path / "there").unlearned(sent)
    assert all(torch.equal(expected[name], weight) for name, weight in there.weights.items())


def test_what_a_measure_does_not_declare_is_refused(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    with pytest.raises(PluginError, match="reads siblings without declaring it"):
        evidence(stages, spec).siblings(2)
    with pytest.raises(PluginError, match="reads gold without declaring it"):
        evidence(stages, spec).outputs("test", "gold")


def test_models_in_evidence_are_private_copies(tmp_path: Path) -> None:
    spec, stages = images("toy-finetune"), new_stages(tmp_path)
    mine = evidence(stages, spec)
    model = mine.model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert all(bool((weight != 0).any()) for weight in mine.model().parameters())
