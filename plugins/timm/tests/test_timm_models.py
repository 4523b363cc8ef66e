"""Networks: shapes, timm's own structure, first weights, restoring, hooks, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from hand_models import built_on_meta, interface
from torch import nn
from torch.func import functional_call

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Ref
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry
from unlearnbench_timm.models import TimmModel, VitMini, VitSmall, VitTiny
from unlearnbench_timm.plugin import TimmModelParams, VitMiniParams, VitParams

CPU = torch.device("cpu")


def model(name: str) -> TimmModel:
    return TimmModel(TimmModelParams(architecture=name))


def tiny(patch_size: int = 16) -> VitTiny:
    return VitTiny(VitParams(patch_size=patch_size))


def small(patch_size: int = 16) -> VitSmall:
    return VitSmall(VitParams(patch_size=patch_size))


def mini(**params: Any) -> VitMini:
    return VitMini(VitMiniParams(**params))


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in net.state_dict().items()}


SMALL = [
    (model("resnet18"), (1, 28, 28)),
    (model("convnext_atto"), (3, 32, 32)),
    (model("mobilenetv3_small_050"), (1, 28, 28)),
    (model("vit_tiny_patch16_224"), (3, 32, 48)),
    (model("regnetx_002"), (3, 32, 32)),
    (tiny(4), (1, 28, 28)),
    (mini(patch_size=2), (1, 8, 8)),
    (mini(), (3, 32, 24)),
]


def name_of(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return "-".join([type(value).__name__, *map(str, vars(value.p).values())])


@pytest.mark.parametrize(("component", "inputs"), SMALL, ids=name_of)
def test_networks_train_on_small_images_and_the_seed_decides_their_first_weights(
    component: Any, inputs: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    net = component.build(interface(inputs, 7))
    torch.manual_seed(0)
    twin = component.build(interface(inputs, 7))
    torch.manual_seed(1)
    other = component.build(interface(inputs, 7))
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))
    vector = nn.utils.parameters_to_vector
    assert not torch.equal(vector(net.parameters()), vector(other.parameters()))

    out = net(torch.randn(2, *inputs))
    assert out.shape == (2, 7)
    nn.functional.cross_entropy(out, torch.tensor([0, 6])).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "params", "inputs"),
    [
        ("timm-model", {"architecture": "swin_tiny_patch4_window7_224", "pretrained": False}, (1, 32, 32)),
        ("timm-model", {"architecture": "resnet18", "pretrained": False}, (1, 28, 28)),
        ("vit-tiny", {"patch_size": 4, "pretrained": False}, (1, 28, 28)),
        ("vit-mini", {"patch_size": 2, "dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2.0}, (1, 8, 8)),
    ],
)
def test_a_stored_network_gives_the_same_bits_again(name: str, params: Any, inputs: tuple[int, ...]) -> None:
    ref = Ref(name, params, inputs, 4)
    net = build_network(registry(), ref, 5, CPU)
    again = restore_network(registry(), ref, net.state_dict(), CPU)
    rows = torch.randn(3, *inputs)
    with torch.no_grad():
        assert net(rows).shape == (3, 4)
        assert torch.equal(net(rows), again(rows))
    assert not any(t.is_meta for t in (*again.parameters(), *again.buffers()))


@pytest.mark.parametrize(
    ("component", "reference", "published"),
    [
        (tiny(), "vit_tiny_patch16_224", 5_717_416),
        (small(), "vit_small_patch16_224", 22_050_664),
        (model("vit_tiny_patch16_224.augreg_in21k"), "vit_tiny_patch16_224", 5_717_416),
    ],
)
def test_at_224_pixels_the_networks_are_timms_own(component: Any, reference: str, published: int) -> None:
    net = built_on_meta(component, (3, 224, 224), 1000)
    with torch.device("meta"):
        theirs = timm.create_model(reference)
    assert shapes(net) == shapes(theirs)
    assert size(net) == published


def test_the_same_seed_gives_vit_tiny_the_weights_and_answers_of_timms_network() -> None:
    rows = torch.randn(2, 1, 28, 28)
    torch.manual_seed(3)
    ours = tiny(7).build(interface((1, 28, 28), 5)).eval()
    torch.manual_seed(3)
    theirs = timm.create_model("vit_tiny_patch16_224", img_size=28, patch_size=7, in_chans=1, num_classes=5).eval()
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    with torch.no_grad():
        assert torch.allclose(ours(rows), theirs(rows), atol=1e-5)


def test_the_mini_transformer_has_the_weights_that_one_counts_by_hand() -> None:
    d, hidden, tokens = 64, 128, 7 * 7 + 1
    block = 2 * d * 2 + (d * 3 * d + 3 * d) + (d * d + d) + (d * hidden + hidden) + (hidden * d + d)
    expected = (16 * d + d) + d + tokens * d + 4 * block + 2 * d + (d * 10 + 10)
    net = built_on_meta(mini(), (1, 28, 28))
    assert size(net) == expected
    assert 100_000 < expected < 200_000


@pytest.mark.parametrize(
    ("component", "inputs", "blocks", "width"),
    [
        (mini(), (1, 28, 28), 4, 64),
        (tiny(), (1, 32, 32), 12, 192),
        (small(), (3, 32, 32), 12, 384),
        (model("vit_tiny_patch16_224"), (3, 32, 32), 12, 192),
    ],
)
def test_a_forward_pass_calls_every_blocks_fused_projection_as_a_linear_layer(
    component: Any, inputs: tuple[int, ...], blocks: int, width: int
) -> None:
    net = built_on_meta(component, inputs).eval()
    projections = {name: module for name, module in net.named_modules() if name.endswith("attn.qkv")}
    seen: dict[str, torch.Size] = {}
    for name, module in projections.items():
        assert type(module) is nn.Linear
        module.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out.shape}))
    net(torch.empty(2, *inputs, device="meta"))
    assert list(seen) == [f"blocks.{k}.attn.qkv" for k in range(blocks)]
    assert {shape[-1] for shape in seen.values()} == {3 * width}


def test_gating_a_projections_outputs_changes_the_answer() -> None:
    torch.manual_seed(0)
    net = mini(depth=2).build(interface((1, 28, 28))).eval()
    rows = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        plain = net(rows)
        handle = net.blocks[1].attn.qkv.register_forward_hook(lambda module, args, out: out * 0)
        assert not torch.allclose(net(rows), plain, atol=1e-4)
        handle.remove()
        assert torch.equal(net(rows), plain)


def test_the_loss_of_a_transformer_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    net = mini(dim=8, heads=2, depth=1).build(interface((1, 8, 8), 3)).double()
    rows, classes = torch.randn(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 1])
    weights = dict(net.named_parameters())
    direction = {k: torch.randn_like(v) for k, v in weights.items()}

    def gradient(at: dict[str, torch.Tensor], create_graph: bool = False) -> torch.Tensor:
        loss = nn.functional.cross_entropy(functional_call(net, at, (rows,)), classes)
        found = torch.autograd.grad(loss, list(at.values()), create_graph=create_graph)
        return torch.cat([g.flatten() for g in found])

    flat = torch.cat([d.flatten() for d in direction.values()])
    slope = gradient(weights, create_graph=True) @ flat
    product = torch.cat([g.flatten() for g in torch.autograd.grad(slope, list(weights.values()))])

    def moved(step: float) -> torch.Tensor:
        return gradient({k: (v + step * direction[k]).detach().requires_grad_() for k, v in weights.items()})

    assert torch.allclose(product, (moved(1e-5) - moved(-1e-5)) / 2e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "beit_base_patch16_224",
        "convit_tiny",
        "densenet121",
        "efficientnet_b0",
        "levit_128s",
        "mvitv2_tiny",
        "mixer_s16_224",
        "vgg11_bn",
    ],
)
def test_every_family_takes_any_channels_and_classes(name: str) -> None:
    net = built_on_meta(model(name), (4, 64, 64), 5)
    assert net(torch.empty(2, 4, 64, 64, device="meta")).shape == (2, 5)


def test_building_on_the_meta_device_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    for component, inputs in (SMALL[0], SMALL[3], SMALL[4], SMALL[-1]):
        net = built_on_meta(component, inputs)
        assert all(t.is_meta for t in net.parameters())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("component", "inputs", "hint"),
    [
        (tiny(), (1, 28, 28), "--set vit-tiny.patch_size=4"),
        (small(), (3, 32, 40), "--set vit-small.patch_size=4"),
        (mini(), (1, 30, 30), "--set vit-mini.patch_size=3"),
        (mini(), (1, 8, 9), "--set vit-mini.patch_size=1"),
        (model("vit_tiny_patch16_224"), (1, 28, 28), "image_size"),
        (model("swin_tiny_patch4_window7_224"), (1, 30, 30), "image_size"),
        (model("inception_v3"), (3, 32, 32), "299x299"),
        (model("mobilenetv5_300m_enc"), (3, 224, 224), "image_size"),
    ],
)
def test_images_that_a_network_cannot_take_are_refused_with_what_would_help(
    component: Any, inputs: Any, hint: str
) -> None:
    with pytest.raises(UsageError, match="cannot take") as caught:
        component.build(interface(inputs))
    assert caught.value.code == "bad-model"
    assert hint in caught.value.hint
    assert "x".join(map(str, inputs)) in caught.value.message


@pytest.mark.parametrize("inputs", [(1, 28, 28), (3, 32, 40), (1, 30, 30), (1, 8, 9), (3, 224, 224)])
def test_the_patch_size_that_a_refusal_names_is_taken(inputs: tuple[int, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        built_on_meta(mini(patch_size=11), inputs)
    fits = int(caught.value.hint.rpartition("=")[2])
    assert built_on_meta(mini(patch_size=fits), inputs)(torch.empty(1, *inputs, device="meta")).shape == (1, 10)


@pytest.mark.parametrize("component", [model("resnet18"), tiny(), small(), mini()])
def test_rows_that_are_not_images_are_refused(component: Any) -> None:
    with pytest.raises(UsageError, match="needs images"):
        component.build(interface((30,)))


@pytest.mark.parametrize(
    ("name", "suggestion"), [("resnet81", "resnet18"), ("resnet18.a1_in2k", "resnet18.a1_in1k"), ("ConvNext_Atto", "")]
)
def test_an_unknown_architecture_is_refused_with_a_suggestion(name: str, suggestion: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean.*{suggestion}") as caught:
        model(name).build(interface((3, 32, 32)))
    assert (caught.value.code, caught.value.where) == ("bad-parameter", "timm-model.architecture")


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dim=50 does not divide into 4 heads; --set vit-mini\.dim=52") as caught:
        mini(dim=50).build(interface((1, 28, 28)))
    assert caught.value.code == "bad-parameter"
