"""The file that a WF-Net is kept in: what it holds, which network it goes with, and whatever else may be in it."""

from __future__ import annotations

import json
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from unlearnbench.api import DataError
from unlearnbench_wfnet.artifact import describe, gates_of, load, network_from, read, save
from unlearnbench_wfnet.network import WFNet, filtered_tensors
from unlearnbench_wfnet.targets import find_targets

CLASSES = ["cat", "dog", "ship"]
LOG = [{"step": 5, "loss": 2.5, "retain": 0.5, "forget": 0.1, "closed": 0.25}, {"step": 10, "closed": 0.5}]


def base_net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.Flatten(), nn.Linear(80, 3)
    ).eval()


def trained(base: nn.Module, *, mask_bn: bool = False) -> WFNet:
    net = WFNet(base, find_targets(base, (1, 8, 8)), len(CLASSES), mask_bn=mask_bn)
    torch.manual_seed(7)
    with torch.no_grad():
        for alpha in (*net.alpha_weight, *net.alpha_bias):
            alpha.normal_(1.0, 3.0)
    return net


def told(net: WFNet, **other: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "rows": [1],
        "harden": 0.25,
        "parameters": {"lr": 100.0, "modules": []},
        "log": LOG,
        **other,
    }
    return describe(net, CLASSES, **said)


def forged(path: Path, artifacts: dict[str, Any]) -> Path:
    """A file of any content, by which nobody has looked at it before it was written."""
    tensors = {name: value for name, value in artifacts.items() if isinstance(value, torch.Tensor)}
    text = json.dumps({name: value for name, value in artifacts.items() if name not in tensors})
    path.write_bytes(to_bytes(tensors, {"artifacts": text}))
    return path


@pytest.mark.parametrize("mask_bn", [False, True])
def test_a_file_gives_back_gates_names_log_and_the_same_answers(tmp_path: Path, mask_bn: bool) -> None:
    base = base_net()
    net = trained(base, mask_bn=mask_bn)
    save(tmp_path / "gates.safetensors", told(net))
    found = read(tmp_path / "gates.safetensors")
    assert found["classes"] == CLASSES
    assert found["log"] == LOG
    assert found["parameters"] == {"lr": 100.0, "modules": []}
    assert (found["rows"], found["harden"], found["mask_bn"]) == ([1], 0.25, mask_bn)
    assert [layer["name"] for layer in found["layers"]] == ["0", "3"]
    again = load(tmp_path / "gates.safetensors", base_net())
    assert again.targets == net.targets
    assert again.mask_bn is mask_bn
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert all(torch.equal(again(x, row=row), net(x, row=row)) for row in range(3))
    assert {name: value.tolist() for name, value in again.tensors().items()} == {
        name: value.tolist() for name, value in net.tensors().items()
    }


def test_the_file_takes_two_floats_for_each_class_and_channel_and_a_header(tmp_path: Path) -> None:
    path = tmp_path / "gates.safetensors"
    save(path, told(trained(base_net())))
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size - header == 2 * len(CLASSES) * (6 + 5) * 4
    assert header < 2000


def test_a_file_holds_nothing_of_the_network_but_its_digest(tmp_path: Path) -> None:
    save(tmp_path / "gates.safetensors", told(trained(base_net())))
    with safe_open(tmp_path / "gates.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["bias/0", "bias/3", "weight/0", "weight/3"]
        assert list(file.metadata()) == ["artifacts"]


def test_a_network_of_which_one_bit_differs_is_refused() -> None:
    artifacts = told(trained(base_net()))
    other = base_net()
    with torch.no_grad():
        other[5].weight.view(torch.int32)[0, 0] ^= 1
    with pytest.raises(DataError, match="not the network that the gates were made for") as refused:
        network_from(other, artifacts)
    assert refused.value.code == "wrong-base"
    assert network_from(base_net(), artifacts).classes == 3


@pytest.mark.parametrize("other", [nn.Sequential(nn.Conv2d(1, 6, 3)), nn.Linear(4, 3), base_net(1)])
def test_another_network_is_refused(other: nn.Module) -> None:
    with pytest.raises(DataError) as refused:
        network_from(other, told(trained(base_net())))
    assert refused.value.code == "wrong-base"


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"name": "1"}, "no convolution of this name"),
        ({"name": "nowhere"}, "no convolution of this name"),
        ({"kind": "attention"}, "no attention of this name"),
        ({"width": 4}, "does not have 4 outputs"),
        ({"bias": False}, "a bias, for which are no gates"),
        ({"norm": "4"}, "no batch normalisation '4' reads it"),
        ({"norm": "gone"}, "no batch normalisation 'gone' reads it"),
    ],
)
def test_layers_that_are_not_those_of_the_base_are_refused(change: dict[str, Any], because: str) -> None:
    base = base_net()
    artifacts = told(trained(base, mask_bn=True))
    layer = {**artifacts["layers"][0], **change}
    artifacts = {name: value for name, value in artifacts.items() if name not in ("weight/0", "bias/0")}
    artifacts["layers"] = [layer, artifacts["layers"][1]]
    parts = ["weight", "bias"] if layer["bias"] else ["weight"]
    artifacts |= {f"{part}/{layer['name']}": torch.zeros(3, layer["width"]) for part in parts}
    with pytest.raises(DataError, match=because) as refused:
        network_from(base, artifacts)
    assert refused.value.code == "wrong-artifact"


NAN = torch.full((3, 6), float("nan"))
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": "wf-net/9"}, "format 'wf-net/9' is not known"),
    "no format": ({"format": None}, "is not what a WF-Net leaves"),
    "no digest": ({"base": "12"}, "base is no sha256"),
    "a digest that is a list": ({"base": ["0" * 64]}, "base is no sha256"),
    "classes that are a text": ({"classes": "abc"}, "classes are no list of names"),
    "classes that are numbers": ({"classes": [1, 2, 3]}, "classes are no list of names"),
    "two classes of one name": ({"classes": ["cat", "cat", "dog"]}, "two classes have one name"),
    "a row of no class": ({"rows": [3]}, "rows are no positions of classes"),
    "a row that is true": ({"rows": [True]}, "rows are no positions of classes"),
    "harden above 1": ({"harden": 2}, "harden is no number from 0 to 1"),
    "harden beyond floats": ({"harden": 10**400}, "harden is no number from 0 to 1"),
    "mask_bn as a number": ({"mask_bn": 1}, "mask_bn is neither true nor false"),
    "parameters as a list": ({"parameters": []}, "parameters are no object"),
    "a log of texts": ({"log": [{"loss": "low"}]}, "log is no list of objects of numbers"),
    "no layers": ({"layers": []}, "layers are no list of layers"),
    "layers as an object": ({"layers": {}}, "layers are no list of layers"),
    "half a layer": ({"layers": [{"name": "0"}]}, "layer 0 is not told by"),
    "an unknown kind": (
        {"layers": [{"name": "0", "kind": "magic", "width": 6, "bias": True, "norm": ""}]},
        "layer 0 is no layer that can be gated",
    ),
    "a width that is true": (
        {"layers": [{"name": "0", "kind": "linear", "width": True, "bias": True, "norm": ""}]},
        "width of layer 0 is no int",
    ),
    "a layer twice": (
        {"layers": [{"name": "0", "kind": "linear", "width": 6, "bias": True, "norm": ""}] * 2},
        "two layers have one name",
    ),
    "an integer tensor": (
        {"weight/0": torch.zeros(3, 6, dtype=torch.int64)},
        "'weight/0' has no numbers of shape 3 x 6",
    ),
    "another shape": ({"weight/0": torch.zeros(6, 3)}, "'weight/0' has no numbers of shape 3 x 6"),
    "another number of classes": ({"bias/3": torch.zeros(2, 5)}, "'bias/3' has no numbers of shape 3 x 5"),
    "what is not a number": ({"weight/0": NAN}, "'weight/0' holds what is not a number"),
    "a tensor of no layer": ({"weight/9": torch.zeros(3, 6)}, "tensor 'weight/9' belongs to no layer"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_part_that_is_not_as_it_must_be_is_refused_in_one_line_in_memory_and_in_a_file(
    tmp_path: Path, name: str
) -> None:
    change, because = BAD[name]
    artifacts = {**told(trained(base_net())), **change}
    with pytest.raises(DataError) as in_memory:
        network_from(base_net(), artifacts)
    with pytest.raises(DataError) as in_file:
        read(forged(tmp_path / "f.safetensors", artifacts))
    for refused in (in_memory.value, in_file.value):
        assert refused.code == "wrong-artifact"
        assert because in str(refused)
    with pytest.raises(DataError):
        save(tmp_path / "new.safetensors", artifacts)
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("name", ["base", "layers", "classes", "rows", "log", "weight/0", "bias/3"])
def test_a_part_that_is_missing_is_named(tmp_path: Path, name: str) -> None:
    artifacts = told(trained(base_net()))
    del artifacts[name]
    with pytest.raises(DataError, match=f"{name}'? is missing") as refused:
        read(forged(tmp_path / "f.safetensors", artifacts))
    assert refused.value.code == "wrong-artifact"


def metadata_only(metadata: dict[str, str] | None) -> bytes:
    return to_bytes({"weight/0": torch.zeros(3, 6)}, metadata)


FILES = {
    "empty": (b"", "unreadable-file"),
    "a pickle": (pickle.dumps({"weight": [1, 2]}), "unreadable-file"),
    "a header that promises much": ((10**15).to_bytes(8, "little") + b"{}", "unreadable-file"),
    "no metadata": (metadata_only(None), "wrong-artifact"),
    "other metadata": (metadata_only({"format": "pt"}), "wrong-artifact"),
    "no JSON": (metadata_only({"artifacts": "{"}), "wrong-artifact"),
    "NaN in JSON": (metadata_only({"artifacts": '{"harden": NaN}'}), "wrong-artifact"),
    "a list": (metadata_only({"artifacts": "[]"}), "wrong-artifact"),
    "a JSON tower": (metadata_only({"artifacts": "[" * 100_000}), "wrong-artifact"),
    "a name that is text and tensor": (metadata_only({"artifacts": '{"weight/0": 1}'}), "wrong-artifact"),
    "a number of many digits": (metadata_only({"artifacts": '{"harden": ' + "9" * 5000 + "}"}), "wrong-artifact"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_artifact_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, code = FILES[name]
    (tmp_path / "f.safetensors").write_bytes(content)
    with pytest.raises(DataError) as refused:
        read(tmp_path / "f.safetensors")
    assert refused.value.code == code
    assert len(str(refused.value)) < 600
    assert str(tmp_path / "f.safetensors") in str(refused.value)


def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    save(tmp_path / "whole.safetensors", told(trained(base_net())))
    content = (tmp_path / "whole.safetensors").read_bytes()
    for end in (4, 8, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:end])
        with pytest.raises(DataError) as refused:
            read(tmp_path / "cut.safetensors")
        assert refused.value.code == "unreadable-file"


def test_what_is_no_file_is_said_not_to_be_there(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(DataError) as refused:
            read(path)
        assert refused.value.code == "missing-file"


def test_saving_replaces_a_file_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "gates.safetensors"
    path.write_text("old")
    save(path, told(trained(base_net())))
    assert read(path)["classes"] == CLASSES
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError) as refused:
        save(tmp_path / "nowhere" / "gates.safetensors", told(trained(base_net())))
    assert refused.value.code == "cannot-write"


def test_what_is_said_of_a_network_does_not_change_with_it() -> None:
    net = trained(base_net())
    found = told(net)
    before = found["weight/0"].clone()
    with torch.no_grad():
        net.alpha_weight[0].zero_()
    assert torch.equal(found["weight/0"], before)


@pytest.mark.parametrize("mask_bn", [False, True])
def test_gates_without_the_network_bake_what_the_network_bakes(mask_bn: bool) -> None:
    base = base_net()
    net = trained(base, mask_bn=mask_bn)
    gates = gates_of(told(net), [0, 2, 0], 0.5)
    tensors = base.state_dict()
    by_tensors = {**tensors, **filtered_tensors(tensors, net.targets, gates, mask_bn=mask_bn)}
    by_network = net.bake([0, 2], harden=0.5).state_dict()
    assert set(by_tensors) == set(by_network)
    assert all(torch.equal(by_tensors[name], by_network[name]) for name in by_network)
    assert any((gate.weight == 0).any() for gate in gates)
