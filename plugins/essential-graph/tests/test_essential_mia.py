"""The paper's membership attack on simulated shadows whose truth is known, and why its recall says little."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from scenario_runs import CLASS, known
from scenario_runs import measured as run_measures
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor, nn

import unlearnbench
from unlearnbench.api.errors import UsageError
from unlearnbench.api.runtime import TASKS, Data, Ensemble, Evidence, Reading, View, derive_seed, generator
from unlearnbench.parameters import resolve_parameters
from unlearnbench_essential_graph.mia import TargetMia, attack_network, auc, features, fold, readings
from unlearnbench_essential_graph.plugin import TargetMiaParams

CLASSES, AUDITED, SHADOWS = 5, 200, 6
FORGOTTEN = torch.arange(AUDITED) < AUDITED // 2
FEW = {"shadows": SHADOWS, "epochs": 8}


def outputs(seen: Tensor, seed: int, signal: float) -> Tensor:
    """Logits of a model; those of a row that was seen stand out by ``signal``."""
    logits = torch.randn(AUDITED, CLASSES, generator=generator(seed))
    logits[:, 2] += 1 + signal * seen
    return logits


@dataclass
class Simulated:
    """Shadows that saw random halves of the audit rows; ids in any order."""

    signal: float
    order: Tensor
    diverged: bool = False

    def __post_init__(self) -> None:
        halves = [torch.rand(AUDITED, generator=generator(50 + j)) < 0.5 for j in range(SHADOWS // 2)]
        self._members = torch.stack([h for half in halves for h in (half, ~half)])
        self.ids, self.forgotten = self.order, FORGOTTEN[self.order]
        self.members = self._members[:, self.order]

    def __len__(self) -> int:
        return SHADOWS

    def outputs(self, subject: str) -> Tensor:
        assert subject == "original"  # the attacker trains on models as they are made, not on what is judged
        found = torch.stack([outputs(self._members[i], 60 + i, self.signal) for i in range(SHADOWS)])
        return found[:, self.order] * (torch.nan if self.diverged else 1)


@dataclass
class Shown:
    """A subject that saw the forget set if ``seen``, and whose outputs have this signal."""

    made: Simulated
    seen: bool = True
    task_name: str = "classification"
    without: str = ""

    def __post_init__(self) -> None:
        self.task = TASKS[self.task_name]
        self.asked: list[int] = []
        n = AUDITED
        y = torch.full((n,), 2) if self.task_name == "classification" else torch.eye(CLASSES)[torch.full((n,), 2)]
        names = tuple("abcde")
        data = Data(x=torch.zeros(n, 1), y=y, ids=torch.arange(n), outputs=names)
        rows = {"forget": FORGOTTEN.nonzero()[:, 0], "holdout": (~FORGOTTEN).nonzero()[:, 0]}
        self._views = {
            split: View(data, index[:0] if split == self.without else index, name=split)
            for split, index in rows.items()
        }
        self._out = outputs(FORGOTTEN & self.seen, 99, self.made.signal)

    def view(self, split: str) -> View:
        return self._views[split]

    def y(self, split: str) -> Tensor:
        return self._views[split].tensors().y

    def outputs(self, split: str, subject: str | None = None) -> Tensor:
        return self._out[self._views[split].ids]

    def shadows(self, n: int) -> Simulated:
        self.asked.append(n)
        return self.made

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(8, purpose))


def shown(signal: float, **parts: object) -> Shown:
    return Shown(Simulated(signal, torch.arange(AUDITED)), **parts)  # type: ignore[arg-type]


def measured(evidence: Shown, **params: object) -> dict[str, Reading]:
    measure = TargetMia(resolve_parameters(TargetMiaParams, FEW | params, where="test"))
    return {r.name.removeprefix("target-mia-"): r for r in measure.measure(cast(Evidence, evidence))}


def value(found: dict[str, Reading], name: str) -> float:
    assert found[name].value is not None
    return cast(float, found[name].value)


def test_a_planted_signal_is_found_and_its_size_is_that_of_the_best_attack() -> None:
    found = measured(shown(3.0))
    # The sum of two independent normals: the best attack that knows the signal has about this area.
    raw = shown(3.0)._out[:, 2].numpy()
    best = roc_auc_score(FORGOTTEN, raw)
    assert best > 0.95
    assert value(found, "auc") > best - 0.06
    assert value(found, "recall") > 0.8
    assert value(found, "fpr") < 0.2
    assert value(found, "advantage") == pytest.approx(value(found, "recall") - value(found, "fpr"))


def test_without_a_signal_it_is_at_chance() -> None:
    found = measured(shown(0.0))
    low, high = cast(float, found["auc"].low), cast(float, found["auc"].high)
    assert low <= 0.5 <= high
    assert high - low < 0.2
    assert value(found, "advantage") < 0.2


def test_a_subject_that_never_saw_the_forget_set_is_at_chance_although_shadows_have_a_signal() -> None:
    found = measured(shown(3.0, seen=False))
    assert cast(float, found["auc"].low) <= 0.5 <= cast(float, found["auc"].high)
    assert value(found, "recall") < 0.4


def test_multi_label_outputs_are_attacked_by_their_sigmoids() -> None:
    assert value(measured(shown(3.0, task_name="multi-label")), "auc") > 0.85
    out = torch.tensor([[0.0, 2.0, -1.0]])
    assert torch.allclose(features(TASKS["multi-label"], out, None), out.sigmoid())


def test_the_largest_outputs_are_sorted_and_as_many_as_asked_for() -> None:
    out = torch.tensor([[0.0, 2.0, 1.0], [3.0, -1.0, 0.0]])
    p = out.softmax(1)
    assert torch.allclose(features(TASKS["classification"], out, None), p)
    assert torch.allclose(features(TASKS["classification"], out, 2), torch.stack([p[0, [1, 2]], p[1, [0, 2]]]))
    assert features(TASKS["classification"], out, 10).shape == (2, 3)
    assert value(measured(shown(3.0), top=3), "auc") > 0.8


def test_recall_alone_is_degenerate() -> None:
    """Whoever takes every row for a member has recall 1 and knows nothing; whoever takes none has recall 0."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.9, 1.0, 400)
    for shift, recall in ((0.0, 1.0), (-0.9, 0.0)):
        found = {r.name.removeprefix("target-mia-"): r for r in readings(scores[:200] + shift, scores[200:] + shift)}
        assert found["recall"].value == recall
        assert found["fpr"].value == recall
        assert found["advantage"].value == 0
        assert cast(float, found["auc"].low) <= 0.5 <= cast(float, found["auc"].high)
    same = {r.name: r.value for r in readings(np.ones(20), np.ones(10))}
    assert (same["target-mia-recall"], same["target-mia-auc"], same["target-mia-two-sided-auc"]) == (1, 0.5, 0.5)


def test_rows_that_look_less_seen_than_unseen_ones_are_told_apart_too() -> None:
    found = {r.name.removeprefix("target-mia-"): r.value for r in readings(np.full(30, 0.1), np.full(30, 0.4))}
    assert (found["recall"], found["auc"], found["two-sided-auc"]) == (0, 0, 1)
    flipped = {r.name.removeprefix("target-mia-"): r.value for r in readings(np.full(30, 0.2), np.full(30, 0.7))}
    assert flipped["advantage"] == 1


def test_the_area_is_scikit_learns_and_its_interval_holds_chance_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        one, other = rng.normal(size=40).round(1), rng.normal(size=25).round(1)
        area, (low, high) = auc(one, other)
        assert area == pytest.approx(roc_auc_score([1] * 40 + [0] * 25, np.concatenate([one, other])))
        assert low is not None
        assert high is not None
        held += low <= 0.5 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_the_two_sided_interval_is_the_folded_one() -> None:
    for ends, wanted in (((0.4, 0.7), [0.5, 0.7]), ((0.1, 0.3), [0.7, 0.9]), ((0.6, 0.8), [0.6, 0.8])):
        assert list(fold(ends)) == pytest.approx(wanted)
    assert fold((None, None)) == (None, None)


def test_the_network_is_the_papers() -> None:
    p = resolve_parameters(TargetMiaParams, {"epochs": 1}, where="test")
    network = attack_network(torch.rand(70, 4), torch.arange(70) % 2 == 0, p, generator(0))
    assert [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)] == [
        (4, 256), (256, 128), (128, 1),
    ]  # fmt: skip
    assert (p.shadows, p.batch_size) == (20, 64)


def test_the_network_is_trained_once_for_all_subjects_and_not_by_the_global_state() -> None:
    measure = TargetMia(resolve_parameters(TargetMiaParams, FEW, where="test"))
    first = list(measure.measure(cast(Evidence, shown(3.0))))
    network = measure._trained
    torch.manual_seed(123)
    state = torch.get_rng_state()
    assert list(measure.measure(cast(Evidence, shown(3.0)))) == first
    assert measure._trained is network
    assert list(TargetMia(measure.p).measure(cast(Evidence, shown(3.0)))) == first
    assert torch.equal(torch.get_rng_state(), state)
    list(measure.measure(cast(Evidence, shown(1.0))))
    assert measure._trained is not network


def test_the_order_of_audit_rows_changes_nothing() -> None:
    order = torch.randperm(AUDITED, generator=generator(5))
    assert measured(Shown(Simulated(3.0, order))) == measured(shown(3.0))


@pytest.mark.parametrize(
    ("parts", "status"),
    [({"without": "forget"}, "empty split"), ({"without": "holdout"}, "empty split")],
    ids=str,
)
def test_an_empty_split_is_a_status_and_costs_no_shadow(parts: dict[str, str], status: str) -> None:
    evidence = shown(3.0, **parts)
    found = measured(evidence)
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, status)}
    assert len(found) == 5
    assert evidence.asked == []


def test_diverged_shadows_are_a_status() -> None:
    found = measured(Shown(Simulated(3.0, torch.arange(AUDITED), diverged=True)))
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, "non-finite")}


def test_it_asks_for_as_many_shadows_as_the_paper_and_refuses_odd_numbers() -> None:
    assert TargetMia(TargetMiaParams()).ensembles() == (Ensemble(kind="shadows", originals=20),)
    with pytest.raises(UsageError, match="must be even"):
        resolve_parameters(TargetMiaParams, {"shadows": 7}, where="test")


# -- real runs ---------------------------------------------------------------------------------------------------------


def test_on_digits_recall_is_all_or_none_by_accident_and_the_other_figures_say_so(tmp_path: Path) -> None:
    """Threes that were trained on look like threes that were not, so the attack takes nearly all or nearly none."""
    record = run_measures(
        "identity", CLASS, ["target-mia"], tmp_path, {"target-mia.shadows": 2, "target-mia.epochs": 10}
    )
    for subject in ("original", "gold"):
        recall = known(record, "target-mia-recall", subject)
        assert known(record, "target-mia-fpr", subject) == pytest.approx(recall, abs=0.2)
        assert known(record, "target-mia-two-sided-auc", subject) < 0.7
        assert known(record, "target-mia-advantage", subject) < 0.2


def test_requests_for_targets_have_shadows_too(tmp_path: Path) -> None:
    """Audit rows are the scenes that carry the target, of which each shadow was trained on a half."""
    (record,) = unlearnbench.run(
        "identity",
        experiment={
            "dataset": {"name": "shapes", "params": {"train_rows": 90, "test_rows": 60}},
            "model": {"name": "scene-labels", "params": {"channels": [6, 8], "pool_after": [1]}},
            "recipe": {"epochs": 1, "batch_size": 32, "lr": 0.002},
            "requests": [{"kind": "target", "targets": ["cross"]}],
        },
        measures=["target-mia"],
        parameters={"target-mia.shadows": 2, "target-mia.epochs": 1},
        out=tmp_path / "out",
        store=tmp_path / "store",
    )
    found = [reading for reading in record.document["readings"] if reading["name"] == "target-mia-auc"]
    assert {reading["subject"] for reading in found} == {"original", "gold", "unlearned"}
    assert {reading["status"] for reading in found} == {"ok"}
