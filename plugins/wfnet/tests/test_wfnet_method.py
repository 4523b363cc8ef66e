"""WF-Net on the digits: what its rows forget and keep, what a run leaves, and what shares a preparation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from torch import Tensor, nn

import unlearnbench
from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Classification, PrepareJob, Request, State, UnlearnJob
from unlearnbench.config import resolve_experiment
from unlearnbench.networks import build_network
from unlearnbench.phases import Phases, restore
from unlearnbench.record import Record
from unlearnbench.registry import registry
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store
from unlearnbench_wfnet.artifact import load, read
from unlearnbench_wfnet.method import WfNet
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.plugin import DEVIATIONS, WfNetParams
from unlearnbench_wfnet.targets import find_targets
from unlearnbench_wfnet.untraining import untrain

SCENARIO = "digits-cnn-class3/v1"
PARAMETERS = {"forget_weight": 2.0, "epochs": 60, "patience": 50}
CPU = torch.device("cpu")
CLASSES = range(10)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def forgetting(*classes: int) -> dict[str, object]:
    return {"kind": "class", "classes": [str(k) for k in classes]}


def specs(*, params: Mapping[str, Any] = PARAMETERS, **choices: Any) -> list[RunSpec]:
    unlearners = [{"name": "wfnet", "params": dict(params)}]
    wanted = {"scenario": SCENARIO, "unlearners": unlearners, "measures": ["accuracy"], **choices}
    return resolve_experiment(wanted, registry())


@dataclass
class Digits:
    """The scenario's original, its ten unlearned models, and how they came about."""

    place: Path
    stages: Stages
    specs: list[RunSpec]
    unlearned: list[Entry]
    computed: list[str]

    @property
    def original(self) -> nn.Module:
        return restore(registry(), self.stages.original(self.specs[0]), CPU)

    @property
    def test(self) -> tuple[Tensor, Tensor]:
        data = self.stages.scene(self.specs[0]).splits.test
        return data.x, data.y

    @property
    def prepared(self) -> Entry:
        (entry,) = self.stages.prepared(self.specs[0])
        assert entry is not None
        return entry

    def job(self, seed: int) -> PrepareJob:
        """What a preparation gets."""
        data = self.stages.scene(self.specs[0])
        return PrepareJob(
            task=Classification(), device=CPU, root_seed=seed, phase="prepare/0", builder=lambda ref, seed: nn.Module(),
            data=data.train.view("train"), validation=data.validation.view("validation"),
            model=self.original, state=State(),
        )  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    """Ten requests of a class each, served from one store."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("digits")
    stages = Stages(registry(), Store(place / "store"), Phases(registry(), None))
    fan_out = specs(forget=[forgetting(k) for k in CLASSES])
    unlearned = [stages.unlearned(spec) for spec in fan_out]
    return Digits(place, stages, fan_out, unlearned, list(stages.computed))


@pytest.fixture(scope="module")
def record(digits: Digits) -> Record:
    """A run of the same store, with its record."""
    (found,) = unlearnbench.run(
        "wfnet", scenario=SCENARIO, parameters={f"wfnet.{name}": value for name, value in PARAMETERS.items()},
        measures=["accuracy"], out=digits.place / "runs", store=digits.place / "store",
    )  # fmt: skip
    return found


def outputs(model: nn.Module, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.eval()(x).double().numpy()


def accuracies(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    """Acc_f and Acc_r on the test rows, class by class."""
    x, y = digits.test
    forgot, kept = [], []
    for k, entry in enumerate(digits.unlearned):
        right = outputs(restore(registry(), entry, CPU), x).argmax(1) == y.numpy()
        forgot.append(right[y == k].mean())
        kept.append(right[y != k].mean())
    return np.array(forgot), np.array(kept)


def zrf(digits: Digits, models: list[nn.Module]) -> float:
    """1 - Jensen-Shannon divergence (base 2) from networks that were never trained, over the classes to forget."""
    x, y = digits.test
    ref, found = digits.unlearned[0].ref, []
    assert ref is not None
    for draw in range(3):
        fresh = build_network(registry(), ref, 100 + draw, CPU)
        for k, model in enumerate(models):
            p, q = (softmax(outputs(net, x[y == k]), axis=1) for net in (model, fresh))
            found.append(1 - (jensenshannon(p, q, base=2, axis=1) ** 2).mean())
    return float(np.mean(found))


def test_every_row_forgets_its_class_and_keeps_the_others(digits: Digits) -> None:
    forgot, kept = accuracies(digits)
    x, y = digits.test
    assert (outputs(digits.original, x).argmax(1) == y.numpy()).mean() > 0.95
    assert forgot.max() <= 0.05
    assert kept.mean() >= 0.88
    assert kept.min() >= 0.80


def test_outputs_of_a_forgotten_class_come_nearer_to_those_of_random_networks(digits: Digits) -> None:
    unlearned = [restore(registry(), entry, CPU) for entry in digits.unlearned]
    assert zrf(digits, unlearned) - zrf(digits, [digits.original] * 10) >= 0.15


def test_few_gates_are_closed(digits: Digits) -> None:
    assert digits.prepared.state is not None
    gates = torch.cat([alpha.sigmoid().flatten() for alpha in digits.prepared.state.tensors.values()])
    assert len(gates) == 10 * 2 * (16 + 32)
    assert 0 < float((gates < 0.5).double().mean()) <= 0.25


def test_ten_classes_share_one_preparation_and_unlearning_costs_next_to_nothing(digits: Digits) -> None:
    assert digits.computed == ["train", "prepare", *["unlearn"] * 10]
    assert len({entry.weights_sha256 for entry in digits.unlearned}) == 10
    costs = [entry.cost.cpu_s for entry in digits.unlearned]
    assert sum(costs) / 10 < 0.05 * digits.prepared.cost.cpu_s


def test_what_comes_back_is_the_scenarios_network_with_gates_multiplied_in(digits: Digits) -> None:
    original, prepared, unlearned = digits.stages.original(digits.specs[3]), digits.prepared, digits.unlearned[3]
    assert unlearned.ref == original.ref
    assert prepared.state is not None
    assert unlearned.state is not None
    gates = {name.partition("/")[2]: alpha[3].sigmoid() for name, alpha in prepared.state.tensors.items()}
    assert set(gates) == {"weight/0", "bias/0", "weight/3", "bias/3"}
    for name, weight in original.weights.items():
        layer, _, part = name.rpartition(".")
        gate = gates.get(f"{part}/{layer}", torch.ones(len(weight)))
        assert torch.equal(unlearned.weights[name], weight * gate.reshape(-1, *[1] * (weight.ndim - 1))), name
    assert unlearned.state.meta["0"]["rows"] == [3]


@pytest.mark.parametrize("harden", [0.0, 0.9])
def test_a_stream_is_the_product_of_rows(digits: Digits, harden: float) -> None:
    (stream,) = specs(params={**PARAMETERS, "harden": harden}, requests=[forgetting(3), forgetting(5)])
    first, second = digits.stages.unlearned(stream, 0), digits.stages.unlearned(stream, 1)
    assert first.state is not None
    assert second.state is not None
    assert [entry.state.meta["0"]["rows"] for entry in (first, second)] == [[3], [3, 5]]  # type: ignore[union-attr]
    original = digits.stages.original(stream).weights
    for part in ("0.weight", "0.bias", "3.weight", "3.bias"):
        layer, _, kind = part.partition(".")
        alpha = second.state.tensors[f"0/{kind}/{layer}"]
        each = alpha[[3, 5]].sigmoid()
        gate = torch.where(each < harden, 0.0, each).prod(0).reshape(-1, *[1] * (original[part].ndim - 1))
        assert torch.allclose(second.weights[part], original[part] * gate, rtol=1e-5, atol=0), part
    baked = rebuilt(digits, second.artifacts).bake([3, 5], harden=harden)  # as one request of both would do
    for name, value in baked.state_dict().items():
        assert torch.allclose(second.weights[name], value, rtol=1e-5, atol=0), name
    assert digits.stages.computed.count("prepare") == 1


def rebuilt(digits: Digits, artifacts: Mapping[str, Any]) -> WFNet:
    original = digits.original
    net = WFNet(original, find_targets(original, (1, 8, 8)), 10)
    return net.load_tensors({name: value for name, value in artifacts.items() if isinstance(value, Tensor)})


def test_hardening_needs_no_new_preparation(digits: Digits) -> None:
    (hard,) = specs(params={**PARAMETERS, "harden": 0.5})
    before = digits.stages.computed.count("prepare")
    found = digits.stages.unlearned(hard).weights
    assert digits.stages.computed.count("prepare") == before
    alpha = digits.prepared.state.tensors["0/weight/3"][3]  # type: ignore[union-attr]
    closed = alpha.sigmoid() < 0.5
    soft = digits.unlearned[3].weights["3.weight"]
    assert 0 < int(closed.sum()) < len(closed)
    assert not found["3.weight"][closed].any()
    assert torch.equal(found["3.weight"][~closed], soft[~closed])


def test_a_class_that_is_forgotten_already_is_not_filtered_twice(digits: Digits) -> None:
    task = digits.job(0)
    method = WfNet(WfNetParams(epochs=0))
    empty = task.data.where(torch.zeros(len(task.data), dtype=torch.bool))

    def serve(model: nn.Module, state: State) -> Mapping[str, Tensor]:
        job = UnlearnJob(
            task=task.task, device=CPU, root_seed=0, phase="unlearn", builder=task.builder,
            request=Request("class", "0" * 64, classes=(3,)), forget=empty, retain=empty, validation=empty,
            model=model, state=state, recipe=Recipe(),
        )  # fmt: skip
        return {name: value.clone() for name, value in method.unlearn(job).model.state_dict().items()}

    state = method.prepare(task)
    once = serve(task.model, state)
    twice = serve(task.model, state)
    assert state.meta["rows"] == [3]
    assert all(torch.equal(value, twice[name]) for name, value in once.items())


def test_the_file_beside_the_record_rebuilds_the_network(digits: Digits, record: Record) -> None:
    path = record.folder / "artifacts.safetensors"
    told, original = read(path), digits.original
    net = load(path, original)
    baked = net.bake(told["rows"], harden=told["harden"]).state_dict()
    assert told["rows"] == [3]
    assert told["classes"] == [str(k) for k in CLASSES]
    assert {name: told["parameters"][name] for name in PARAMETERS} == PARAMETERS
    assert all(torch.equal(value, digits.unlearned[3].weights[name]) for name, value in baked.items())
    assert record.document["models"]["unlearned"][0]["sha256"] == digits.unlearned[3].weights_sha256
    assert set(load_file(path)) == {"weight/0", "bias/0", "weight/3", "bias/3"}
    best = min(look["loss"] for look in told["log"])
    assert best < told["log"][0]["loss"]
    assert record.document["warnings"] == []


def test_the_record_says_when_a_loss_was_no_finite_number(digits: Digits) -> None:
    (found,) = unlearnbench.run(
        "wfnet", scenario=SCENARIO, parameters={"wfnet.retain_weight": 1e300}, measures=["accuracy"],
        out=digits.place / "endless", store=digits.place / "store",
    )  # fmt: skip
    assert any("no finite number" in warning for warning in found.document["warnings"])
    told = json.loads(json.dumps({k: v for k, v in read(found.folder / "artifacts.safetensors").items() if k == "log"}))
    assert told == {"log": []}
    alphas = load_file(found.folder / "artifacts.safetensors").values()
    assert all(bool((alpha == 3).all()) for alpha in alphas)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_to_the_letter_the_paper_destroys_what_is_to_be_kept(digits: Digits, seed: int) -> None:
    task, (x, y) = digits.job(seed), digits.test
    net = WFNet(task.model, find_targets(task.model, (1, 8, 8)), 10)
    p = WfNetParams(strict_paper=True, epochs=4)
    untrain(net, task, p, 10.0)
    kept = [(outputs(net.bake(k), x).argmax(1) == y.numpy())[y != k].mean() for k in CLASSES]
    assert np.mean(kept) < 0.5
    assert any("strict_paper" in sentence and "saturates" in sentence for sentence in DEVIATIONS)


@pytest.mark.parametrize(("layers", "weight"), [("convolutions", 10.0), ("attention", 100.0)])
def test_the_forget_term_weighs_ten_and_a_hundred_where_attention_is_gated(layers: Any, weight: float) -> None:
    class Attentive(nn.Module):
        """A patch embedding and a self-attention."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    found = find_targets(Attentive(), (1, 8, 8), layers=layers)
    assert WfNet(WfNetParams(layers=layers))._forget_weight(found) == weight
    assert WfNet(WfNetParams(layers=layers, forget_weight=0.0))._forget_weight(found) == 0.0
