"""Networks: shapes, parameter counts, first weights, restoring."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hand_models import built_on_meta, interface
from torch import nn
from torchvision import models as tvm

from unlearnbench.api import UsageError
from unlearnbench_torchvision.models import Architecture, ResNet18, ResNet50, Vgg16
from unlearnbench_torchvision.params import ArchitectureParams, ResNet18Params, ResNetParams, VggParams


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def resnet18(stem: Any = "cifar") -> ResNet18:
    return ResNet18(ResNet18Params(stem=stem))


def resnet50(stem: Any = "cifar") -> ResNet50:
    return ResNet50(ResNetParams(stem=stem))


def vgg16(stem: Any = "cifar", batch_norm: bool = True) -> Vgg16:
    return Vgg16(VggParams(stem=stem, batch_norm=batch_norm))


def architecture(name: str) -> Architecture:
    return Architecture(ArchitectureParams(architecture=name))


@pytest.mark.parametrize(
    ("component", "inputs", "outputs", "parameters"),
    [
        (resnet18(), (3, 32, 32), 10, 11_173_962),
        (resnet18(), (3, 32, 32), 100, 11_220_132),
        (resnet18("imagenet"), (3, 224, 224), 1000, 11_689_512),
        (resnet50(), (3, 32, 32), 10, 23_520_842),
        (resnet50("imagenet"), (3, 224, 224), 1000, 25_557_032),
        (vgg16(), (3, 32, 32), 10, 14_728_266),
        (vgg16(batch_norm=False), (3, 32, 32), 10, 14_719_818),
        (vgg16("imagenet"), (3, 224, 224), 1000, 138_365_992),
        (vgg16("imagenet", batch_norm=False), (3, 224, 224), 1000, 138_357_544),
        (architecture("densenet121"), (3, 224, 224), 1000, 7_978_856),
    ],
)
def test_parameter_counts_are_the_published_ones(component: Any, inputs: Any, outputs: int, parameters: int) -> None:
    assert size(built_on_meta(component, inputs, outputs)) == parameters


SMALL = [
    (resnet18(), (1, 28, 28)),
    (resnet18(), (3, 9, 13)),
    (resnet18("imagenet"), (1, 28, 28)),
    (resnet50(), (3, 16, 16)),
    (resnet50("imagenet"), (1, 32, 32)),
    (vgg16(), (1, 28, 28)),
    (vgg16(), (3, 5, 17)),
    (vgg16(batch_norm=False), (3, 32, 32)),
    (architecture("mobilenet_v3_small"), (1, 28, 28)),
    (architecture("regnet_x_400mf"), (1, 32, 32)),
    (architecture("vit_b_16"), (1, 32, 32)),
    (architecture("googlenet"), (3, 32, 32)),
]


def name_of(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else "-".join(map(str, vars(value.p).values()))


@pytest.mark.parametrize(("component", "inputs"), SMALL, ids=name_of)
def test_first_weights_follow_the_global_seed_and_survive_restoring(component: Any, inputs: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = component.build(interface(inputs, 7))
    after = torch.get_rng_state()
    torch.manual_seed(0)
    twin = component.build(interface(inputs, 7))
    torch.manual_seed(1)
    other = component.build(interface(inputs, 7))
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True))
    assert not torch.equal(
        torch.cat([p.flatten() for p in net.parameters()]), nn.utils.parameters_to_vector(other.parameters())
    )
    assert net.training

    rows = torch.randn(2, *inputs)
    loss = nn.functional.cross_entropy(net(rows), torch.tensor([0, 6]))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in net.parameters())

    torch.set_rng_state(after)
    restored = built_on_meta(component, inputs, 7)
    assert torch.equal(torch.get_rng_state(), after)
    restored.load_state_dict(net.state_dict(), assign=True)
    assert not [n for n, t in (*restored.named_parameters(), *restored.named_buffers()) if t.is_meta]
    with torch.no_grad():
        assert torch.equal(restored.eval()(rows), net.eval()(rows))
        assert net(rows).shape == (2, 7)


def test_the_cifar_stem_keeps_the_resolution() -> None:
    net = built_on_meta(resnet18(), (3, 32, 32))
    seen = {}
    net.layer1.register_forward_hook(lambda module, args, out: seen.update(shape=out.shape))
    net.eval()(torch.empty(2, 3, 32, 32, device="meta"))
    assert seen["shape"] == (2, 64, 32, 32)


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "inception_v3",
        "maxvit_t",
        "mnasnet0_5",
        "mobilenet_v2",
        "regnet_y_400mf",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "squeezenet1_0",
        "swin_t",
        "swin_v2_t",
        "vgg11_bn",
        "vit_h_14",
        "wide_resnet50_2",
    ],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_family_takes_any_channels_and_classes(name: str, channels: int) -> None:
    net = built_on_meta(architecture(name), (channels, 224, 224), 5)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == channels
    assert net(torch.empty(2, channels, 224, 224, device="meta")).shape == (2, 5)
    reference = built_on_meta(architecture(name), (3, 224, 224), 5)
    assert size(net) - size(reference) == (channels - 3) * first.out_channels * first.kernel_size[0] ** 2


def test_adapted_convolutions_have_he_weights() -> None:
    torch.manual_seed(0)
    conv = resnet18("imagenet").build(interface((1, 28, 28))).conv1
    assert conv.weight.shape == (64, 1, 7, 7)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("component", "inputs", "hint"),
    [
        (vgg16("imagenet"), (3, 28, 28), "stem=cifar"),
        (architecture("alexnet"), (3, 32, 32), "image_size"),
        (architecture("inception_v3"), (3, 32, 32), "image_size"),
        (architecture("vit_b_16"), (3, 28, 28), "image_size"),
        (architecture("vit_b_16"), (3, 32, 64), "image_size"),
        (architecture("maxvit_t"), (3, 32, 32), "image_size"),
    ],
)
def test_an_image_size_that_a_network_cannot_take_is_refused(component: Any, inputs: Any, hint: str) -> None:
    with pytest.raises(UsageError, match=hint) as caught:
        built_on_meta(component, inputs)
    assert caught.value.code == "bad-model"
    assert "cannot take" in str(caught.value)


@pytest.mark.parametrize("component", [resnet18(), resnet50(), vgg16(), architecture("resnet34")])
def test_rows_that_are_not_images_are_refused(component: Any) -> None:
    with pytest.raises(UsageError, match="needs images"):
        component.build(interface((30,)))


def test_an_unknown_architecture_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean resnet34") as caught:
        architecture("resnet43").build(interface((3, 32, 32)))
    assert caught.value.where == "torchvision-model.architecture"


def test_no_weights_are_downloaded(downloads: list[str]) -> None:
    for name in tvm.list_models(module=tvm, include=["resnet18", "googlenet", "shufflenet*"]):
        built_on_meta(architecture(name), (3, 64, 64))
    assert downloads == []
