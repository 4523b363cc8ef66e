"""WF-Net: one preparation for all classes, a plain network back, rows remembered in a stream."""

from pathlib import Path

import pytest
import torch
from toys_support import RECIPE, images, new_stages, one_record, run_toys, toy_registry

from unlearnbench.api import IncompatibleError
from unlearnbench.config import resolve_experiment
from unlearnbench.spec import RunSpec

WELL_TRAINED = {**RECIPE, "epochs": 12}


def forget_class(name: str) -> dict[str, object]:
    return {"kind": "class", "classes": [name]}


def wfnet(*names: str) -> RunSpec:
    return images("toy-wfnet", *map(forget_class, names), model="toy-cnn", recipe=WELL_TRAINED)


def test_a_fan_out_of_ten_classes_shares_one_preparation(tmp_path: Path) -> None:
    experiment = {
        "dataset": "toy-images",
        "model": "toy-cnn",
        "recipe": WELL_TRAINED,
        "measures": ["accuracy"],
        "unlearners": ["toy-wfnet"],
        "forget": [forget_class(str(k)) for k in range(10)],
    }
    specs, stages = resolve_experiment(experiment, toy_registry()), new_stages(tmp_path)
    assert len(specs) == 10
    unlearned = {stages.unlearned(spec).weights_sha256 for spec in specs}
    assert len(unlearned) == 10
    assert stages.computed == ["train", "prepare", *["unlearn"] * 10]


def test_five_unlearning_seeds_pay_for_one_preparation(tmp_path: Path) -> None:
    seeds = [{"train": [0], "unlearn": [k]} for k in range(5)]
    stages = new_stages(tmp_path)
    for apart in seeds:
        stages.unlearned(images("toy-wfnet", forget_class("3"), model="toy-cnn", seeds=apart))
    assert stages.computed.count("prepare") == 1
    assert stages.computed.count("unlearn") == 5


def test_what_comes_back_is_the_plain_network_with_the_gates_baked_in(tmp_path: Path) -> None:
    spec, stages = wfnet("3"), new_stages(tmp_path)
    original, unlearned, (prepared,) = stages.original(spec), stages.unlearned(spec), stages.prepared(spec)
    assert unlearned.ref == original.ref
    assert set(unlearned.weights) == set(original.weights)
    assert prepared is not None
    assert prepared.state is not None
    gates = {name.removeprefix("0/"): alpha[3].sigmoid() for name, alpha in prepared.state.tensors.items()}
    assert set(gates) == {"0", "3"}
    for name, weight in original.weights.items():
        layer, _, kind = name.rpartition(".")
        if layer not in gates:
            assert torch.equal(unlearned.weights[name], weight), name
        else:
            gate = gates[layer].reshape(-1, *[1] * (weight.ndim - 1))
            assert torch.equal(unlearned.weights[name], weight * gate), f"{layer} {kind}"


def test_a_stream_multiplies_rows_and_remembers_them(tmp_path: Path) -> None:
    spec, stages = wfnet("3", "5"), new_stages(tmp_path)
    first, second, original = stages.unlearned(spec, 0), stages.unlearned(spec, 1), stages.original(spec)
    assert first.state is not None
    assert second.state is not None
    assert first.state.meta["0"]["rows"] == [3]
    assert second.state.meta["0"]["rows"] == [3, 5]
    assert second.artifacts["rows"] == [3, 5]
    alpha = second.state.tensors["0/0"]
    gates = [alpha[row].sigmoid()[:, None, None, None] for row in (3, 5)]
    assert torch.equal(second.weights["0.weight"], original.weights["0.weight"] * gates[0] * gates[1])


def test_the_gates_work(tmp_path: Path) -> None:
    record = one_record(tmp_path, wfnet("3"))
    assert record.value("accuracy.forget", "original") == 1.0
    assert (record.value("accuracy.forget") or 0) <= 0.05
    assert (record.value("accuracy.retain") or 0) >= 0.5


def test_a_network_without_convolutions_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="toy-wfnet cannot serve model toy-mlp: it has no convolutions"):
        run_toys(tmp_path, images("toy-wfnet", forget_class("3")))


def test_a_request_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="cannot handle the request 'samples'"):
        run_toys(tmp_path, images("toy-wfnet", model="toy-cnn"))
    assert not (tmp_path / "store").exists()
