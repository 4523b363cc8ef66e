"""The networks that the paper untrained, and their small sisters: each has gates where the paper puts them."""

from typing import Any

import pytest
import torch

from unlearnbench.api.runtime import Classification, Ref
from unlearnbench.networks import build_network
from unlearnbench.registry import registry
from unlearnbench_wfnet.method import WfNet
from unlearnbench_wfnet.plugin import WfNetParams
from unlearnbench_wfnet.targets import find_targets

SMALL, LARGE = (3, 32, 32), (3, 224, 224)
CIFAR, IMAGENET = {"stem": "cifar"}, {"stem": "imagenet"}


@pytest.mark.parametrize(
    ("name", "params", "inputs", "kind", "layers", "width"),
    [
        ("vgg16", CIFAR, SMALL, "convolution", 13, 4224),
        ("vgg16", {**CIFAR, "batch_norm": False}, SMALL, "convolution", 13, 4224),
        ("vgg16", IMAGENET, LARGE, "convolution", 13, 4224),
        ("resnet18", CIFAR, SMALL, "convolution", 20, 4800),
        ("resnet18", IMAGENET, LARGE, "convolution", 20, 4800),
        ("vit-tiny", {"patch_size": 4}, SMALL, "linear", 12, 12 * 3 * 192),
        ("vit-small", {}, LARGE, "linear", 12, 12 * 3 * 384),
        ("vit-mini", {"patch_size": 7}, (1, 28, 28), "linear", 4, 4 * 3 * 64),
        ("torchvision-model", {"architecture": "vit_b_16"}, LARGE, "attention", 12, 12 * 3 * 768),
        ("cnn", {"channels": [16, 32]}, (1, 8, 8), "convolution", 2, 48),
    ],
)
def test_a_backbone_has_gates_where_the_paper_puts_them(
    name: str, params: dict[str, Any], inputs: tuple[int, ...], kind: str, layers: int, width: int
) -> None:
    with torch.device("meta"):
        network = build_network(registry(), Ref(name, params, inputs, 10), 0, torch.device("meta"))
        found = find_targets(network, inputs)
        assert WfNet(WfNetParams()).check(network, Classification()) is None
    assert len(found) == layers
    assert sum(target.width for target in found) == width
    assert {target.kind for target in found} == {kind}
