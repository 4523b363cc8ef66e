"""Which convolutions a graph has, in which window, and which norm belongs to which: by structure, never by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import TASKS, Data, View, generator
from unlearnbench_essential_graph.importance import importances
from unlearnbench_essential_graph.layers import convolutions, refusal, structure, too_few, window
from unlearnbench_essential_graph.tracing import Structure, observed, traced


class FrozenBatchNorm2d(nn.Module):
    """As torchvision's: all four are buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "running_var"):
            self.register_buffer(name, torch.ones(channels))
        for name in ("bias", "running_mean"):
            self.register_buffer(name, torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * self.running_var.rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class Odd(nn.Module):
    """Norms that are registered before, far from and in another order than their convolutions, with odd names."""

    def __init__(self) -> None:
        super().__init__()
        self.batchnorm3, self.bn7 = nn.BatchNorm2d(6), FrozenBatchNorm2d(4)
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 1)
        self.line, self.bn1 = nn.Linear(6, 2), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn7(self.conv1(x)))
        x = torch.relu_(self.bn1(self.conv2(x)))
        return self.line(torch.relu_(self.batchnorm3(self.conv3(x))).mean((2, 3)))


ODD = (("conv1", "conv2", "conv3"), {"conv1": "bn7", "conv2": "bn1", "conv3": "batchnorm3"})


class Block(nn.Module):
    """A residual block whose shortcut has a convolution and a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.downsample = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.relu, self.line = nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.line(self.relu(h + self.downsample(x)).amax((2, 3)))


BLOCK = (
    ("conv1", "conv2", "downsample.0"),
    {"conv1": "bn1", "conv2": "bn2", "downsample.0": "downsample.1"},
)


class Shared(nn.Module):
    """One norm reads two convolutions, another reads a sum, a third comes after a ReLU in place."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3) for _ in range(4)])
        self.both, self.sum, self.late = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.line = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three, four = (conv(x) for conv in self.convs)
        h = self.both(one) + self.both(two) + self.sum(three + 1) + self.late(torch.relu_(four))
        return self.line(h.mean((2, 3)))


SHARED: tuple[tuple[str, ...], dict[str, str]] = (("convs.0", "convs.1", "convs.2", "convs.3"), {})


class TwoReaders(nn.Module):
    """A convolution that a norm and a shortcut read: the norm is its own. Another that two norms read: neither is."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.n1, self.n2, self.n3 = (nn.BatchNorm2d(4) for _ in range(3))
        self.line = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.line((a + self.n1(a) + self.n2(b) + self.n3(b)).mean((2, 3)))


TWO_READERS = (("a", "b"), {"a": "n1"})


class Pixels(nn.Module):
    """Two heads, one of them with a kernel of 3; a 1x1 layer before them that is none; an auxiliary head, not used."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.offset = nn.Conv2d(5, 2, 3, padding=1), nn.Conv2d(5, 2, 1)
        self.body, self.mix = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1)
        self.aux = nn.Sequential(nn.Conv2d(4, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        body = self.body(x).relu()
        aux = self.aux(body)
        if self.training:
            return aux
        h = self.mix(body).relu()
        return self.head(h) + self.offset(h).sigmoid()


PIXELS: tuple[tuple[str, ...], dict[str, str]] = (("body", "mix"), {})


class Separable(nn.Module):
    """Depthwise and grouped convolutions with norms; a norm without scale and shift."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Sequential(
            nn.Conv2d(3, 6, 1, bias=False), nn.Identity(), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
            nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
            nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8, affine=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)


SEPARABLE = (("parts.0", "parts.4", "parts.7"), {"parts.0": "parts.2", "parts.4": "parts.5"})

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[tuple[str, ...], dict[str, str]]]] = {
    "odd names": (Odd, ODD),
    "residual": (Block, BLOCK),
    "shared norms": (Shared, SHARED),
    "two readers": (TwoReaders, TWO_READERS),
    "two heads": (Pixels, PIXELS),
    "depthwise": (Separable, SEPARABLE),
}


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=generator(0))


def is_(found: Structure | None, expected: tuple[tuple[str, ...], dict[str, str]]) -> bool:
    return found is not None and (found.layers, dict(found.norms)) == expected


@pytest.mark.parametrize("net", NETS)
def test_the_traced_structure_is_what_the_code_says(net: str) -> None:
    build, expected = NETS[net]
    assert is_(traced(build().eval()), expected)


@pytest.mark.parametrize("net", NETS)
def test_the_structure_of_a_real_pass_is_the_same(net: str) -> None:
    build, expected = NETS[net]
    model = build().eval()
    before = copy.deepcopy(model.state_dict())
    assert is_(observed(model, lambda: model(images()).sum()), expected)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("net", NETS)
def test_the_structure_is_known_without_weights_and_in_either_mode(net: str) -> None:
    build, expected = NETS[net]
    with torch.device("meta"):
        model = build().train()
    assert convolutions(model) == expected[0]
    assert all(module.training for module in model.modules())


class Looping(Block):
    """Control flow that depends on data, which torch.fx cannot trace."""

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().max() > 100:
            x = x / x.abs().max()
        return super().forward(x)


def test_a_network_that_cannot_be_traced_has_the_norms_that_a_pass_shows() -> None:
    model = Looping().eval()
    assert traced(model) is None
    assert structure(model) == Structure(BLOCK[0][:2], {})  # the shortcut's 1x1 layer is last: taken for a head
    rows = Data(images(6), torch.ones(6, 2), torch.arange(6), ("a", "b"))
    found = importances(model, TASKS["multi-label"], View(rows, torch.arange(6), name="train"), 1, "alpha")
    assert (found.layers, dict(found.norms)) == BLOCK


def test_tracing_leaves_no_symbols_behind_and_draws_nothing() -> None:
    class Remembers(Block):
        def forward(self, x: Tensor) -> Tensor:
            self.last = x + torch.rand(1)
            return super().forward(x)

    model = Remembers().eval()
    state = torch.get_rng_state()
    assert is_(traced(model), BLOCK)
    assert not hasattr(model, "last")
    assert torch.equal(torch.get_rng_state(), state)
    copy.deepcopy(model)


def test_a_detector_is_traced_on_its_way_to_detections() -> None:
    class Detects(Pixels):
        def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:  # type: ignore[override]
            out = super().forward(x)
            return out if y is None else out.mean((1, 2, 3)) * y.nan_to_num().sum()

    assert is_(traced(Detects().eval()), PIXELS)


def test_a_head_that_is_a_bare_weight_makes_the_convolution_before_it_a_layer() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Parameter(torch.randn(2, 4))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(self.conv(x).mean((2, 3)), self.out)

    assert convolutions(Bare()) == ("conv",)


def test_a_mere_scale_does_not_make_a_head_a_layer() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head, self.scale = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Parameter(torch.ones(2, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x)) * self.scale

    assert convolutions(Scaled()) == ("conv",)


@pytest.mark.parametrize(
    ("sigma", "skip_last", "expected"),
    [(1, 0, "e"), (5, 0, "abcde"), (2, 1, "cd"), (1, 4, "a"), (3, 2, "abc")],
)
def test_the_window_is_counted_from_the_last_that_is_not_skipped(sigma: int, skip_last: int, expected: str) -> None:
    assert window(tuple("abcde"), sigma, skip_last) == tuple(expected)


def test_a_window_that_does_not_fit_is_refused_with_both_numbers() -> None:
    for sigma, skip_last in ((6, 0), (4, 2), (1, 5)):
        with pytest.raises(IncompatibleError) as caught:
            window(tuple("abcde"), sigma, skip_last)
        assert caught.value.code == "too-few-layers"
        assert "5 convolutions" in str(caught.value)
        assert str(sigma + skip_last) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert too_few(5, 3, 2) is None


def test_convolutions_of_one_and_three_dimensions_count() -> None:
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))
    assert is_(traced(model), (("0",), {"0": "1"}))
    model = nn.Sequential(nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4), nn.Flatten(), nn.Linear(24, 2))
    assert is_(traced(model), (("0",), {"0": "1"}))


def refusals() -> dict[str, tuple[nn.Module, str]]:
    encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8)
    weighted = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), nn.Flatten(), nn.Linear(4, 2))
    return {
        "multi-head attention": (
            nn.Sequential(nn.Conv2d(3, 8, 4), encoder),
            "MultiheadAttention makes it a transformer",
        ),
        "named attention": (
            nn.Sequential(nn.Conv2d(3, 8, 4), type("WindowAttention", (nn.Module,), {})()),
            "transformer",
        ),
        "no convolutions": (nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "no convolutions"),
        "a head only": (nn.Sequential(nn.Conv2d(3, 2, 1)), "no convolutions besides prediction heads"),
        "computed weights": (weighted, "computed from other parameters"),
    }


@pytest.mark.parametrize(
    "case", ["multi-head attention", "named attention", "no convolutions", "a head only", "computed weights"]
)
def test_networks_without_a_graph_are_refused_with_a_reason(case: str) -> None:
    model, reason = refusals()[case]
    found = refusal(model)
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("net", NETS)
def test_convolutional_networks_are_not_refused(net: str) -> None:
    assert refusal(NETS[net][0]()) is None


def test_attention_over_channels_is_no_transformer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), type("ChannelAttention", (nn.Identity,), {})(), nn.Flatten(), nn.Linear(4, 2)
    )
    assert refusal(model) is None


def torchvision_net(build: Callable[[Any], nn.Module]) -> nn.Module:
    models = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        return build(models).eval()


def test_every_convolution_of_resnet_18_has_the_norm_that_torchvision_names_after_it() -> None:
    found = traced(torchvision_net(lambda models: models.resnet18()))
    assert found is not None
    assert len(found.layers) == 20
    expected = {
        name: name.replace("conv", "bn") if "conv" in name else name.replace("downsample.0", "downsample.1")
        for name in found.layers
    }
    assert dict(found.norms) == expected


def test_the_convolutions_of_deeplab_end_before_its_head_and_leave_out_the_auxiliary_one() -> None:
    class Out(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)["out"]

    net = torchvision_net(lambda models: models.segmentation.deeplabv3_resnet50(weights_backbone=None, aux_loss=True))
    layers = convolutions(Out(net))
    assert layers[-1] == "net.classifier.1"
    assert not any("aux" in name or name == "net.classifier.4" for name in layers)
    assert len(layers) == 53 + 6 + 1  # the backbone, ASPP with its pooling and projection, one before the head


def test_mobilenet_has_depthwise_layers_with_norms_and_squeezes_without() -> None:
    found = traced(torchvision_net(lambda models: models.mobilenet_v3_small()))
    assert found is not None
    without = [name for name in found.layers if name not in found.norms]
    assert without
    assert all(".fc1" in name or ".fc2" in name for name in without)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_transformers_of_torchvision_are_refused(name: str) -> None:
    found = refusal(torchvision_net(lambda models: getattr(models, name)()))
    assert found is not None
    assert "the paper limits itself to convolutional networks" in found


def test_transformers_of_timm_are_refused_and_its_residual_networks_are_not() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        assert "transformer" in str(refusal(timm.create_model("vit_tiny_patch16_224")))
        model = timm.create_model("resnet18").eval()
    assert refusal(model) is None
    found = traced(model)
    assert found is not None
    assert len(found.norms) == len(found.layers) == 20
