"""What is zeroed, that nothing else moves, and that it stays zero."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api.runtime import generator
from unlearnbench_essential_graph.pruning import prune


class FrozenBatchNorm2d(nn.Module):
    """As torchvision's: weight, bias and statistics are buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(channels, generator=generator(3)) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + 1e-5).rsqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


def pair(conv: nn.Module, norm: nn.Module | None) -> nn.Module:
    model = nn.Sequential()
    model.add_module("conv3", conv)
    if norm is not None:
        model.add_module("bn7", norm)
    if isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.5, 1.5)
        norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model.eval()


CASES = {
    "with bias and norm": lambda: pair(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)),
    "without bias": lambda: pair(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)),
    "with a SyncBatchNorm": lambda: pair(nn.Conv2d(4, 8, 1), nn.SyncBatchNorm(8)),
    "with a frozen norm": lambda: pair(nn.Conv2d(4, 8, 3, bias=False), FrozenBatchNorm2d(8)),
    "without a norm": lambda: pair(nn.Conv2d(4, 8, 3), None),
    "depthwise": lambda: pair(nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8)),
    "grouped": lambda: pair(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)),
    "with a norm without scale": lambda: pair(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8, affine=False)),
}
DROP = torch.tensor([False, True, False, False, True, True, False, False])


def norms_of(model: nn.Module) -> dict[str, str]:
    return {"conv3": "bn7"} if getattr(getattr(model, "bn7", None), "weight", None) is not None else {}


@pytest.fixture(params=list(CASES))
def model(request: pytest.FixtureRequest) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[request.param]()


def test_only_the_pruned_channels_change_and_all_else_stays_bit_identical(model: nn.Module) -> None:
    before = copy.deepcopy(model.state_dict())
    prune(model, {"conv3": DROP}, norms_of(model), True)
    zeroed = {"conv3.weight", "conv3.bias"} | ({"bn7.weight", "bn7.bias"} if norms_of(model) else set())
    for name, value in model.state_dict().items():
        if name in zeroed:
            assert torch.equal(value[~DROP], before[name][~DROP])
            assert not value[DROP].any()
            assert before[name][DROP].any()
        else:
            assert torch.equal(value, before[name])


def test_a_pruned_channel_is_exactly_zero_and_the_others_are_as_they_were(model: nn.Module) -> None:
    if "bn7" in dict(model.named_modules()) and not norms_of(model):
        pytest.skip("a norm without scale and shift leaves a constant")
    x = torch.randn(2, model.conv3.in_channels, 6, 6, generator=generator(0))
    with torch.no_grad():
        before = model(x)
        prune(model, {"conv3": DROP}, norms_of(model), True)
        after = model(x)
    assert not after[:, DROP].any()
    torch.testing.assert_close(after[:, ~DROP], before[:, ~DROP], rtol=1e-5, atol=1e-6)


def test_the_masks_forbid_the_zeroed_entries_and_name_parameters_alone(model: nn.Module) -> None:
    mask = prune(model, {"conv3": DROP}, norms_of(model), True)
    parameters = dict(model.named_parameters())
    assert set(mask) == {name for name in parameters if name.startswith("conv3") or norms_of(model)}
    for name, free in mask.items():
        assert free.dtype == torch.bool
        assert free.shape == parameters[name].shape
        assert torch.equal(~free, DROP.view(-1, *[1] * (free.ndim - 1)).expand_as(free))


def test_zeroing_the_convolution_alone_leaves_the_constant_of_the_norm() -> None:
    """The card: beta - gamma * mu / sqrt(var + eps) instead of 0."""
    model = CASES["with bias and norm"]()
    norm = model.bn7
    expected = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()
    mask = prune(model, {"conv3": DROP}, norms_of(model), False)
    with torch.no_grad():
        out = model(torch.randn(2, 4, 6, 6, generator=generator(0)))
    found = out[:, DROP]
    torch.testing.assert_close(found, expected[DROP][None, :, None, None].expand_as(found).detach())
    assert found.abs().min() > 0
    assert set(mask) == {"conv3.weight", "conv3.bias"}


def test_a_depthwise_channel_is_a_unit_of_its_own() -> None:
    model = CASES["depthwise"]()
    x = torch.randn(1, 8, 6, 6, generator=generator(0))
    kernels = model.conv3.weight.detach().clone()
    prune(model, {"conv3": DROP}, {}, True)
    by_hand = torch.cat([F.conv2d(x[:, k : k + 1], kernels[k : k + 1] * float(not DROP[k])) for k in range(8)], dim=1)
    torch.testing.assert_close(model.conv3(x).detach(), by_hand, rtol=1e-5, atol=1e-6)


def test_layers_without_a_pruned_channel_are_not_touched_nor_masked() -> None:
    model = CASES["with bias and norm"]()
    before = copy.deepcopy(model.state_dict())
    assert prune(model, {"conv3": torch.zeros(8, dtype=torch.bool)}, norms_of(model), True) == {}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
