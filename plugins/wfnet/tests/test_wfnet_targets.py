"""Which layers get gates."""

from __future__ import annotations

import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from unlearnbench.api import IncompatibleError, UsageError
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.targets import Target, find_targets, gate_bytes, without_targets


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(),
        nn.Linear(96, 3),
    )  # fmt: skip


CNN_TARGETS = (Target("0", "convolution", 4, bias=False, norm="1"), Target("3", "convolution", 6, bias=True))


class Attention(nn.Module):
    """Layers of given names below, all called in that order and added."""

    def __init__(self, *names: str, width: int = 4) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(4, width))

    def forward(self, x: Tensor) -> Tensor:
        return sum(child(x) for child in self.children())


class Net(nn.Module):
    """Parts by name, called one after the other in the order of ``calls``."""

    def __init__(self, calls: str, **parts: nn.Module) -> None:
        super().__init__()
        self.calls = calls.split()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.calls:
            x = self.get_submodule(name)(x)
        return x


def test_convolutions_are_listed_with_their_width_bias_and_norm() -> None:
    assert find_targets(cnn(), (1, 8, 8)) == CNN_TARGETS


def test_targets_come_in_the_order_of_their_calls() -> None:
    net = Net("b a", a=nn.Conv2d(2, 3, 1), b=nn.Conv2d(1, 2, 1))
    assert [target.name for target in find_targets(net, (1, 4, 4))] == ["b", "a"]


def test_a_layer_that_is_called_twice_is_one_target() -> None:
    net = Net("a a", a=nn.Conv2d(2, 2, 1))
    assert [target.name for target in find_targets(net, (2, 4, 4))] == ["a"]


def test_the_meta_device_gives_the_same_targets() -> None:
    with torch.device("meta"):
        assert find_targets(cnn(), (1, 8, 8)) == CNN_TARGETS
        vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=3)
    found = find_targets(vit, (3, 32, 32))
    assert len(found) == 12
    assert found[0] == Target("blocks.0.attn.qkv", "linear", 3 * 192, bias=True)


def test_a_float64_network_is_called_with_float64_rows() -> None:
    assert find_targets(cnn().double(), (1, 8, 8)) == CNN_TARGETS


def test_state_and_mode_of_every_module_are_as_they_were() -> None:
    net = cnn().train()
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    find_targets(net, (1, 8, 8))
    assert [module.training for module in net] == [True, False, True, True, True, True]
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_modes_and_hooks_are_put_back_after_rows_that_the_network_cannot_take() -> None:
    net = cnn().train()
    with pytest.raises(RuntimeError, match="expected input"):
        find_targets(net, (2, 8, 8))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_network_without_such_layers_has_no_targets() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert find_targets(net, (1, 2, 2)) == ()
    assert find_targets(nn.Flatten(), (1, 2, 2)) == ()
    assert find_targets(cnn(), (1, 8, 8), layers="attention") == ()
    assert without_targets("auto") == "it has no convolution and no attention projection to put gates on"
    assert without_targets("attention") == "it has no attention projection to put gates on"
    assert without_targets("convolutions") == "it has no convolution to put gates on"


def test_a_network_that_is_one_convolution_can_be_gated() -> None:
    net = nn.Conv2d(1, 2, 1)
    (target,) = find_targets(net, (1, 3, 3))
    assert target.names == ("weight", "bias")
    wf = WFNet(net, (target,), 2)
    x = torch.ones(1, 1, 3, 3)
    torch.testing.assert_close(wf(x, row=1), torch.tensor(3.0).sigmoid() * net(x))


@pytest.mark.parametrize(
    ("names", "gated"),
    [
        ("qkv proj", "qkv"), ("q k v proj", "q k v"), ("query key value", "query key value"),
        ("q_proj k_proj v_proj out", "q_proj k_proj v_proj"), ("to_q to_kv to_out", "to_q to_kv"), ("q kv", "q kv"),
        ("value advantage", ""), ("key", ""), ("q", ""), ("query value", ""),
    ],
)  # fmt: skip
def test_projections_are_told_by_their_names_together(names: str, gated: str) -> None:
    found = find_targets(Net("att", att=Attention(*names.split())), (5, 4), layers="attention")
    assert [target.name for target in found] == [f"att.{name}" for name in gated.split()]
    assert {target.kind for target in found} <= {"linear"}


def test_by_default_attention_comes_before_convolutions() -> None:
    net = Net("a b", a=nn.Conv2d(3, 3, 1), b=Attention("qkv"))
    for layers, names in (("auto", ["b.qkv"]), ("attention", ["b.qkv"]), ("convolutions", ["a"])):
        assert [target.name for target in find_targets(net, (3, 2, 4), layers=layers)] == names


def test_a_value_head_does_not_keep_convolutions_from_being_gated() -> None:
    net = Net("a flat value", a=nn.Conv2d(1, 2, 1), flat=nn.Flatten(), value=nn.Linear(8, 1))
    assert [target.name for target in find_targets(net, (1, 2, 2))] == ["a"]


def test_torch_vision_transformer_has_its_joint_projections_gated() -> None:
    vit = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=8, num_classes=3
    )
    name = "encoder.layers.encoder_layer_{}.self_attention"
    expected = tuple(Target(name.format(i), "attention", 36, bias=True) for i in range(2))
    assert find_targets(vit, (3, 16, 16)) == expected
    assert expected[0].names == (f"{name.format(0)}.in_proj_weight", f"{name.format(0)}.in_proj_bias")
    assert vit.get_parameter(expected[0].weight_name).shape == (36, 12)


def test_swin_of_torchvision_is_refused_for_its_projections_are_never_called() -> None:
    with torch.device("meta"):
        net = torchvision.models.swin_t()
    with pytest.raises(IncompatibleError, match=r"attn\.qkv is never called as a module"):
        find_targets(net, (3, 224, 224))


def test_an_auxiliary_head_that_is_silent_in_evaluation_is_passed_over() -> None:
    net = Net("a", a=nn.Conv2d(1, 2, 1), auxiliary=nn.Conv2d(1, 2, 1))
    assert [target.name for target in find_targets(net, (1, 4, 4))] == ["a"]
    with pytest.raises(IncompatibleError, match="auxiliary is never called"):
        find_targets(net, (1, 4, 4), modules=["a", "auxiliary"])


def test_named_modules_take_the_place_of_the_choice_by_type() -> None:
    found = find_targets(cnn(), (1, 8, 8), modules=["5", "0"])
    assert found == (CNN_TARGETS[0], Target("5", "linear", 3, bias=True))


def test_a_wrong_name_is_refused_with_those_like_it() -> None:
    net = Net("stem body", stem=nn.Conv2d(1, 2, 1), body=nn.Conv2d(2, 2, 1))
    with pytest.raises(UsageError, match=re.escape("'stm' is no convolution")) as problem:
        find_targets(net, (1, 4, 4), modules=["stm"])
    assert problem.value.code == "bad-parameter"
    assert problem.value.hint == "did you mean stem?"
    with pytest.raises(UsageError, match="there are 0, 3, 5"):
        find_targets(cnn(), (1, 8, 8), modules=["1"])


def test_cross_attention_without_a_joint_projection_is_refused() -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.att = nn.MultiheadAttention(4, 2, kdim=4, vdim=2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.att(x, x, x[..., :2])[0]

    with pytest.raises(IncompatibleError, match="attention att has no joint projection"):
        find_targets(Cross(), (3, 4))


def test_weights_that_are_computed_or_shared_cannot_be_gated() -> None:
    computed = Net("a", a=weight_norm(nn.Conv2d(1, 2, 1)))
    with pytest.raises(IncompatibleError, match="the weight of layer a is computed from others"):
        find_targets(computed, (1, 4, 4))
    shared = Net("a b", a=nn.Conv2d(2, 2, 1), b=nn.Conv2d(2, 2, 1))
    shared.b.weight = shared.a.weight
    with pytest.raises(IncompatibleError, match="the weight of layer a is used by another layer too"):
        find_targets(shared, (2, 4, 4))


@pytest.mark.parametrize(
    ("net", "norms"),
    [
        (lambda: Net("a n", a=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2)), ["n"]),
        (lambda: Net("a n a n", a=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2)), ["n"]),
        (lambda: Net("a i n", a=nn.Conv2d(2, 2, 1), i=nn.Identity(), n=nn.BatchNorm2d(2)), ["n"]),
        # Changed in place between, yet the same tensor.
        (lambda: Net("a r n", a=nn.Conv2d(2, 2, 1), r=nn.ReLU(inplace=True), n=nn.BatchNorm2d(2)), [""]),
        # One normalisation behind two layers, two behind one, and one that reads something else as well.
        (lambda: Net("a n b n", a=nn.Conv2d(2, 2, 1), b=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2)), ["", ""]),
        (lambda: Net("a n a m", a=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2), m=nn.BatchNorm2d(2)), [""]),
        (lambda: Net("n a n", a=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2)), [""]),
        (lambda: Net("a n a", a=nn.Conv2d(2, 2, 1), n=nn.BatchNorm2d(2)), [""]),
    ],
)  # fmt: skip
def test_the_norm_behind_a_layer_is_one_that_reads_all_its_outputs_and_nothing_else(net, norms) -> None:
    assert [target.norm for target in find_targets(net(), (2, 4, 4))] == norms


def test_a_norm_over_other_channels_than_a_linear_layers_features_is_not_behind_it() -> None:
    rows = Net("q n", q=nn.Linear(3, 3), n=nn.BatchNorm1d(3))
    assert find_targets(rows, (3,), modules=["q"])[0].norm == "n"
    assert find_targets(rows, (3, 3), modules=["q"])[0].norm == ""


def test_gates_of_vgg16_for_ten_classes_take_338_kilobytes() -> None:
    with torch.device("meta"):
        targets = find_targets(torchvision.models.vgg16(num_classes=10), (3, 32, 32))
    assert sum(target.width for target in targets) == 4224
    assert gate_bytes(targets, 10) == 4224 * 10 * 2 * 4 == 337_920


def test_the_size_of_gates_is_that_of_the_memory_matrices() -> None:
    wf = WFNet(cnn(), CNN_TARGETS, 7)
    assert gate_bytes(CNN_TARGETS, 7) == sum(t.numel() * t.element_size() for t in wf.tensors().values())
    assert gate_bytes(CNN_TARGETS, 7) == 7 * (4 + 6 + 6) * 4
