"""Networks are read as their piecewise-linear steps, and run with their bends in view."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
import torchvision
from hand_models import built_on_meta, interface
from torch import Tensor, nn
from torch.nn import functional

from unlearnbench.api import IncompatibleError
from unlearnbench.builtin.models import Cnn, Mlp
from unlearnbench.builtin.plugin import CnnParams, MlpParams
from unlearnbench_prune.frozen import outputs_of, patterns_of, weights_of
from unlearnbench_prune.network import read_network, traced, why_not
from unlearnbench_timm.models import VitMini
from unlearnbench_timm.plugin import VitMiniParams

IMAGE = (3, 8, 8)
VIT = VitMini(VitMiniParams(patch_size=2, dim=16, depth=1, heads=2))


@cache
def resnet18() -> nn.Module:
    return torchvision.models.resnet18(num_classes=4)


HOSTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "mlp": (lambda: Mlp(MlpParams(hidden=(9, 7))).build(interface((5,), 4)), (5,), ""),
    "cnn": (lambda: Cnn(CnnParams(channels=(4, 3), hidden=6)).build(interface(IMAGE, 4)), IMAGE, ""),
    "cnn behind 6": (lambda: Cnn(CnnParams(channels=(4, 3), hidden=6)).build(interface(IMAGE, 4)), IMAGE, "6"),
    "resnet18 at fc": (resnet18, (3, 32, 32), "fc"),
    "resnet18 at layer4": (resnet18, (3, 32, 32), "layer4"),
    "mobilenet": (lambda: torchvision.models.mobilenet_v2(num_classes=4), (3, 32, 32), "classifier"),
    "vit-mini": (lambda: VIT.build(interface(IMAGE, 4)), IMAGE, "head"),
}


class Functional(nn.Module):
    """Every function and method that stands for a layer, and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.first(x))
        x = torch.add(functional.leaky_relu(self.second(x), 0.25), x)
        x = functional.max_pool2d(functional.avg_pool2d(x, 2, 1, 1), 3, 2)
        x = functional.dropout(functional.adaptive_avg_pool2d(x, 1), 0.5, self.training)
        x = self.flat(x)
        return self.last(x.relu())

    def flat(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), -1)


class ByFlatten(Functional):
    def flat(self, x: Tensor) -> Tensor:
        return torch.flatten(x, 1)


class ByMethod(Functional):
    def flat(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class ByShape(Functional):
    def flat(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], 4)


class Modules(nn.Module):
    """The same network of modules that overwrite their inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.leaky = nn.ReLU(inplace=True), nn.LeakyReLU(0.25, inplace=True)
        self.pools = nn.Sequential(nn.AvgPool2d(2, 1, 1), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(1), nn.Dropout())
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        out = self.leaky(self.second(x))
        out += x
        out = self.pools(out).flatten(1)
        return self.last(self.relu(out))


@pytest.mark.parametrize("name", HOSTS)
def test_logits_are_those_of_the_base_to_the_bit_and_the_steps_make_the_same_outputs(name: str) -> None:
    torch.manual_seed(0)
    build, inputs, split_at = HOSTS[name]
    base = build().eval()
    network, x = read_network(base, inputs, split_at), torch.rand(3, *inputs)
    logits, features, values = traced(base, split_at)(x)
    assert torch.equal(logits, base(x))
    assert features.shape == (3, *network.inputs)
    assert patterns_of(network, values, features).shape == (3, network.units)
    again = outputs_of(network, weights_of(base, network), features.double())
    assert (again - logits).abs().max() < 1e-5


def test_the_document_of_a_network_is_plain_json_with_the_names_of_a_patched_model() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, (2, 1), dilation=2, bias=False), nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(),
        nn.MaxPool2d(3, 2, 1), nn.Identity(), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    document = read_network(net, (1, 7, 10), "").document()
    assert json.loads(json.dumps(document)) == document == {
        "format": "unlearnbench-network/1",
        "inputs": [1, 7, 10],
        "outputs": 4,
        "steps": [
            {"op": "conv2d", "inputs": [0], "weight": "base.0.weight", "bias": None, "stride": [2, 1],
             "padding": [0, 0], "dilation": [2, 2], "groups": 1},
            {"op": "batch_norm", "inputs": [1], "mean": "base.1.running_mean", "variance": "base.1.running_var",
             "weight": "base.1.weight", "bias": "base.1.bias", "epsilon": 1e-5},
            {"op": "relu", "inputs": [2]},
            {"op": "max_pool", "inputs": [3], "kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]},
            {"op": "leaky_relu", "inputs": [4], "slope": 0.1},
            {"op": "flatten", "inputs": [5]},
            {"op": "linear", "inputs": [6], "weight": "base.8.weight", "bias": "base.8.bias"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("kind", [Functional, ByFlatten, ByMethod, ByShape])
def test_functions_and_methods_are_read_as_the_modules_that_do_the_same(kind: type[nn.Module]) -> None:
    torch.manual_seed(1)
    base, twin = kind().train(), Modules()
    twin.load_state_dict(base.state_dict())
    network = read_network(base, IMAGE)
    assert network == read_network(twin, IMAGE)
    assert base.training
    assert [step.op for step in network.steps] == [
        "conv2d", "relu", "conv2d", "leaky_relu", "add", "avg_pool", "max_pool", "avg_pool", "flatten", "relu", "linear"
    ]  # fmt: skip
    x = torch.randn(4, *IMAGE)
    plain, overwriting = traced(base)(x), traced(twin.eval())(x)
    for mine, other in zip([*plain[:2], *plain[2]], [*overwriting[:2], *overwriting[2]], strict=True):
        assert torch.equal(mine, other)
    assert (plain[2][0] < 0).any()
    assert torch.equal(plain[0], base.eval()(x))
    assert torch.equal(overwriting[0], twin(x))


class Owner(nn.Module):
    """Something that holds a base and its view, as a patched network does."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.view = traced(base, "3")


def test_a_view_adds_nothing_to_its_owner_and_copies_with_it() -> None:
    base = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    owner = Owner(base.eval())
    assert set(owner.state_dict()) == {f"base.{name}" for name in base.state_dict()}
    x = torch.randn(7, 4)
    other = copy.deepcopy(owner)
    before = owner.view(x)[0]
    with torch.no_grad():
        other.base[5].bias += 1
    assert torch.equal(owner.view(x)[0], before)
    assert torch.equal(other.view(x)[0], other.base(x))
    assert not torch.equal(other.view(x)[0], before)
    loaded = pickle.loads(pickle.dumps(other))
    loaded.base[5].bias.data.zero_()
    assert torch.equal(loaded.view(x)[0], loaded.base(x))
    other.to(torch.float64)
    assert torch.equal(other.view(x.double())[0], other.base(x.double()))
    other.load_state_dict({name: torch.ones_like(t) for name, t in owner.state_dict().items()}, assign=True)
    assert torch.equal(other.view(x)[0], other.base(x))


def test_a_network_without_weights_is_judged_as_one_with_weights() -> None:
    net = built_on_meta(VIT, IMAGE)
    assert why_not(net, "head", IMAGE) is None
    assert "layer_norm" in str(why_not(net, "blocks"))
    cnn = built_on_meta(Cnn(CnnParams(channels=(4,), hidden=6)), IMAGE)
    assert read_network(cnn, IMAGE, "") == read_network(
        Cnn(CnnParams(channels=(4,), hidden=6)).build(interface(IMAGE)), IMAGE
    )


class Wrapped(nn.Module):
    """A network whose forward pass is given."""

    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.body, self.head, self.scale = nn.Linear(4, 4), nn.Linear(4, 4), nn.Parameter(torch.ones(4))
        self.steps = forward

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        return self.steps(self, x) if mask is None else x * mask


def rectified_twice(net: Wrapped, x: Tensor) -> Tensor:
    z = net.body(x)
    return net.head(z.relu_() + z)


@pytest.mark.parametrize(
    ("net", "split_at", "inputs", "said"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.GELU()), "", None, r"it has a GELU \(1\): only piecewise-linear layers can"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), "0", None, r"a Softmax \(1\): only piecewise-linear"),
        (nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")), "", None, r"Conv2d \(0\) that pads by"),
        (nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")), "", None, "pads more on one side"),
        (nn.Sequential(nn.MaxPool2d(2, ceil_mode=True)), "", None, r"a MaxPool2d \(0\) with ceil_mode"),
        (nn.Sequential(nn.MaxPool2d(17)), "", None, "of 289 entries: a pattern names at most 256"),
        (nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=False)), "", None, r"an AvgPool2d \(0\) with"),
        (nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False)), "", None, "normalises by the batch"),
        (nn.Sequential(nn.LeakyReLU(1.5)), "", None, "slope 1.5"),
        (nn.Sequential(nn.Flatten(0)), "", None, r"a Flatten \(0\) of other than all axes of a sample"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "", None, "only piecewise-linear layers"),
        (nn.Sequential(nn.utils.spectral_norm(nn.Linear(4, 4))), "", None, r"a Linear \(0\) whose weight is computed"),
        (nn.Sequential(nn.Linear(4, 4)), "heed", None, "it has no module heed; available: 0"),
        (Wrapped(None), "haed", None, "it has no module haed; did you mean head?"),
        (Wrapped(lambda net, x: net.body(x)), "head", None, "it never calls the module head"),
        (Wrapped(lambda net, x: net.head(net.head(x))), "head", None, "calls the module of split_at more than once"),
        (Wrapped(lambda net, x: net.head(net.body(x)) + x), "head", None, "depend on what comes before split_at"),
        (Wrapped(lambda net, x: net.head(x) * net.scale), "", None, "it has a mul: only piecewise-linear"),
        (Wrapped(lambda net, x: net.head(x) + net.scale), "", None, "computes with scale, a tensor of no layer"),
        (Wrapped(lambda net, x: net.head(x) + 1), "", None, "adds something other than two values"),
        (Wrapped(lambda net, x: (net.head(x), x)), "", None, "returns something other than one tensor"),
        (Wrapped(lambda net, x: net.head(x) if x.sum() > 0 else x), "", None, "its forward pass cannot be followed"),
        (Wrapped(lambda net, x: functional.dropout(net.head(x), 0.5)), "", None, "drops outputs at random"),
        (Wrapped(rectified_twice), "", None, "overwrites a value in place that it reads again"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()), "", (2, 8, 8), "to 3x3: only sizes that divide"),
        (nn.Sequential(nn.Linear(4, 4)), "", (2, 4), "a linear of 2x4 numbers in a sample"),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), "", (3, 2, 8), "nothing is left"),
        (nn.Sequential(nn.Conv2d(3, 2, 3)), "", (3, 8, 8), "does not end in a step that makes one axis"),
        (nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4)), "1", (4,), "it does not take inputs of 4 numbers"),
    ],
)
def test_what_cannot_be_patched_is_refused_in_a_sentence(
    net: nn.Module, split_at: str, inputs: tuple[int, ...] | None, said: str
) -> None:
    reason = why_not(net, split_at, inputs)
    assert reason is not None
    with pytest.raises(IncompatibleError, match=said) as caught:
        read_network(net, inputs or (4,), split_at)
    assert reason in caught.value.message
    assert repr(split_at) in caught.value.where


def test_anything_may_stand_before_the_split() -> None:
    base = Wrapped(lambda net, x: net.head(torch.softmax(net.body(x) * net.scale, 1).sin()))
    assert why_not(base, "head", (4,)) is None
    assert why_not(base, "") is not None
    x = torch.randn(3, 4)
    logits, features, values = traced(base, "head")(x)
    assert torch.equal(logits, base(x))
    assert torch.equal(features, torch.softmax(base.body(x) * base.scale, 1).sin())
    assert values == []


def test_a_residual_around_the_split_is_read_where_it_starts_from_the_same_value() -> None:
    base = Wrapped(lambda net, x: net.head(net.body(x).relu()) + net.body(x).relu())
    assert why_not(base, "head") is not None

    def shared(net: Wrapped, x: Tensor) -> Tensor:
        hidden = net.body(x).relu()
        return net.head(hidden) + hidden

    network = read_network(Wrapped(shared), (4,), "head")
    assert [(step.op, step.inputs) for step in network.steps] == [("linear", (0,)), ("add", (1, 0))]
