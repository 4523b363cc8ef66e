"""Networks with their pattern held fixed are what autograd, finite differences and the verifier say they are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench_prune.frozen import (
    check_patterns,
    frozen,
    frozen_many,
    outputs_of,
    patterns_at,
    patterns_of,
    region_of,
    slack_blocks,
    weights_of,
)
from unlearnbench_prune.network import Network, read_network, traced
from unlearnbench_prune.parts import Region
from unlearnbench_verifier import network as strangers
from unlearnbench_verifier.numbers import Ball


class Residual(nn.Module):
    """A block with a shortcut, batch norms and a pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False)
        self.bends = nn.ModuleList([nn.ReLU(), nn.MaxPool2d(2, 1), nn.ReLU(), nn.LeakyReLU(0.3)])
        self.pool, self.last = nn.AdaptiveAvgPool2d(2), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bends[1](self.bends[0](self.stem_norm(self.stem(x))))
        out = self.bends[2](self.norm(self.conv(x)))
        x = self.bends[3](torch.add(out, x))
        return self.last(self.pool(x).flatten(1))


def dense() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 7, bias=False), nn.LeakyReLU(0.2), nn.Linear(7, 4)
    )


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(3, 6, (3, 2), (2, 1), (2, 1), dilation=(1, 2), groups=3), nn.BatchNorm2d(6), nn.LeakyReLU(0.1),
        nn.AvgPool2d(2, 1, 1), nn.MaxPool2d((2, 1)), nn.Flatten(), nn.Linear(48, 5), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "dense": (dense, (6,)),
    "images": (images, (2, 7, 6)),
    "residual": (Residual, (2, 5, 5)),
    "pooled input": (lambda: nn.Sequential(nn.MaxPool2d(2, 2, 1), nn.Flatten(), nn.Linear(6, 2)), (1, 4, 3)),
    "no bend": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), (2, 3)),
}


def opened(name: str) -> tuple[nn.Module, Network, dict[str, Tensor], Tensor]:
    """A network in float64 with moments that do something, how it is read, its weights, and inputs [n, d]."""
    torch.manual_seed(7)
    build, inputs = NETS[name]
    base = build().double().eval()
    for module in base.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 2)
    network = read_network(base, inputs)
    return base, network, weights_of(base, network), torch.randn(12, network.features, dtype=torch.float64)


BENDING = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d)


def bent(base: nn.Module, network: Network, x: Tensor) -> list[tuple[nn.Module, Tensor, torch.Size]]:
    """Each module that bends at the flat x, in order, what it is given (without the batch), and the shape it makes."""
    seen: list[tuple[nn.Module, Tensor, torch.Size]] = []
    hooks = [
        module.register_forward_hook(lambda module, given, made: seen.append((module, given[0][0], made.shape[1:])))
        for module in base.modules()
        if isinstance(module, BENDING)
    ]
    base(x.view(1, *network.inputs))
    for hook in hooks:
        hook.remove()
    return seen


def rows_by_hand(module: nn.Module, value: Tensor, made: torch.Size) -> Tensor:
    """Slacks as combinations [rows, numbers of the value] of what a module is given, written down by loops."""
    place = torch.arange(value.numel()).view(value.shape)
    unit = torch.eye(value.numel(), dtype=torch.float64)
    if not isinstance(module, nn.MaxPool2d):
        return torch.stack([row if z >= 0 else -row for row, z in zip(unit, value.flatten(), strict=True)])
    (kh, kw), (sh, sw), (ph, pw) = (
        pair if isinstance(pair, tuple) else (pair, pair)
        for pair in (module.kernel_size, module.stride, module.padding)
    )
    rows, (_, height, width) = [], value.shape
    for channel, row, column in product(*map(range, made)):
        corners = [(row * sh - ph + i, column * sw - pw + j) for i, j in product(range(kh), range(kw))]
        window = [int(place[channel, i, j]) for i, j in corners if 0 <= i < height and 0 <= j < width]
        entries = value.flatten()[window].tolist()
        winner = window[entries.index(max(entries))]
        rows += [unit[winner] - unit[other] for other in window if other != winner]
    return torch.stack(rows)


@pytest.mark.parametrize("name", NETS)
def test_regions_are_what_autograd_makes_of_the_network(name: str) -> None:
    base, network, weights, inputs = opened(name)
    jacobian = torch.autograd.functional.jacobian
    for x in inputs[:2]:
        region = region_of(network, weights, patterns_at(network, weights, x[None])[0])
        rows = [rows_by_hand(module, value.detach(), made) for module, value, made in bent(base, network, x)]
        by_hand = torch.block_diag(*rows) if rows else x.new_zeros(0, 0)
        assert len(by_hand) == network.rows == len(region.g)
        if rows:

            def given(x: Tensor) -> Tensor:
                return torch.cat([value.flatten() for _, value, _ in bent(base, network, x)])

            torch.testing.assert_close(region.g, by_hand @ jacobian(given, x), rtol=0, atol=1e-12)
            torch.testing.assert_close(region.g @ x + region.h, by_hand @ given(x), rtol=0, atol=1e-12)
            assert bool((by_hand @ given(x) >= 0).all())
        outputs = jacobian(lambda x: base(x.view(1, *network.inputs))[0], x)
        torch.testing.assert_close(region.c, outputs, rtol=0, atol=1e-12)
        torch.testing.assert_close(region.c @ x + region.e, base(x.view(1, *network.inputs))[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_slopes_are_finite_differences_of_the_frozen_network(name: str) -> None:
    _, network, weights, inputs = opened(name)
    pattern = patterns_at(network, weights, inputs[:1])[0]
    region, x = region_of(network, weights, pattern, most=1), inputs[1]
    steps = torch.eye(network.features, dtype=torch.float64)
    ahead, behind = (frozen(network, weights, pattern, x + sign * steps) for sign in (1, -1))
    torch.testing.assert_close(region.g.T, (ahead[0] - behind[0]) / 2, rtol=0, atol=1e-10)
    torch.testing.assert_close(region.c.T, (ahead[1] - behind[1]) / 2, rtol=0, atol=1e-10)


def drawn_inside(region: Region, start: Tensor, count: int) -> Tensor:
    """Points of the region: steps of random length from ``start`` in random directions."""
    ways = torch.randn(count, len(start), dtype=torch.float64)
    slopes, slacks = ways @ region.g.T, region.g @ start + region.h
    reach = torch.where(slopes < 0, slacks / -slopes, torch.inf).amin(1).clamp(max=10) if len(slacks) else torch.ones(1)
    return start + ways * (reach * torch.rand(count, dtype=torch.float64) * 0.99)[:, None]


@pytest.mark.parametrize("name", NETS)
def test_points_inside_have_the_pattern_and_the_affine_map_and_points_outside_have_a_negative_slack(name: str) -> None:
    base, network, weights, inputs = opened(name)
    pattern = patterns_at(network, weights, inputs[:1])[0]
    region = region_of(network, weights, pattern)
    inside = drawn_inside(region, inputs[0], 500)
    assert bool((patterns_at(network, weights, inside) == pattern).all())
    assert bool((inside @ region.g.T + region.h >= 0).all())
    there = base(inside.view(-1, *network.inputs))
    torch.testing.assert_close(inside @ region.c.T + region.e, there, rtol=0, atol=1e-10)
    torch.testing.assert_close(outputs_of(network, weights, inside), there, rtol=0, atol=1e-10)
    outside = inputs[0] + 4 * torch.randn(500, network.features, dtype=torch.float64)
    slacks, _ = frozen(network, weights, pattern, outside)
    same = (patterns_at(network, weights, outside) == pattern).all(1)
    assert torch.equal((slacks >= 0).all(1), same)
    assert bool(same.all()) == (network.units == 0)


def test_values_of_the_running_network_give_the_patterns_of_its_steps() -> None:
    for name in NETS:
        base, network, weights, inputs = opened(name)
        _, features, values = traced(base)(inputs.view(-1, *network.inputs))
        assert torch.equal(patterns_of(network, values, features), patterns_at(network, weights, inputs))
        check_patterns(network, patterns_at(network, weights, inputs))


def test_many_patterns_are_held_as_one_at_a_time_and_in_blocks_of_any_size() -> None:
    for name in NETS:
        base, network, weights, inputs = opened(name)
        patterns = patterns_at(network, weights, inputs[:5])
        together = frozen_many(network, weights, patterns, inputs)
        assert together.shape == (5, 12, network.rows)
        single = torch.stack([frozen(network, weights, pattern, inputs)[0] for pattern in patterns])
        torch.testing.assert_close(together, single, rtol=0, atol=1e-12)
        pieces = torch.full_like(together, torch.nan)
        for members, samples, slacks in slack_blocks(network, weights, patterns, inputs, most=3000):
            pieces[members, samples] = slacks
        torch.testing.assert_close(pieces, together, rtol=0, atol=1e-12)
        assert len(list(slack_blocks(network, weights, patterns, inputs, most=1))) == 60
        rough = frozen_many(network, weights_of(base, network, torch.float32), patterns, inputs.float())
        torch.testing.assert_close(rough, together.float(), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*")
def test_slacks_traced_at_some_inputs_are_those_of_any_number_of_inputs() -> None:
    _, network, weights, inputs = opened("images")
    patterns = patterns_at(network, weights, inputs[:4])
    script = torch.jit.trace(lambda x: frozen_many(network, weights, patterns, x), (inputs[:3],), check_trace=False)
    torch.testing.assert_close(script(inputs), frozen_many(network, weights, patterns, inputs), rtol=0, atol=1e-12)


def test_frozen_outputs_and_slacks_can_be_differentiated() -> None:
    _, network, weights, inputs = opened("images")
    pattern = patterns_at(network, weights, inputs[:1])[0]
    region, x = region_of(network, weights, pattern), inputs[1:2].clone().requires_grad_()
    slacks, outputs = frozen(network, weights, pattern, x)
    (slope,) = torch.autograd.grad(slacks.sum() + outputs[0, 1], x)
    torch.testing.assert_close(slope[0], region.g.sum(0) + region.c[1], rtol=0, atol=1e-10)


def test_zero_counts_as_active_whatever_its_sign() -> None:
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 2)).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
    network = read_network(net, (1,))
    weights, x = weights_of(net, network), torch.tensor([[0.0], [-0.0], [2.0]], dtype=torch.float64)
    assert patterns_at(network, weights, x).tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 1]]
    assert frozen(network, weights, torch.tensor([1, 0, 1], dtype=torch.uint8), x)[0].tolist() == [
        [0, 0, 0], [0, 0, 0], [2, 2, 0]
    ]  # fmt: skip


def test_the_first_largest_entry_of_a_window_wins_and_never_its_padding() -> None:
    net = nn.Sequential(nn.MaxPool2d(2, 2, 1), nn.Flatten(), nn.Linear(4, 2)).double()
    network = read_network(net, (1, 2, 2))
    weights = weights_of(net, network)
    x = torch.full((1, 1, 2, 2), -5.0, dtype=torch.float64)
    # Each of the four windows sees one pixel; it is in the corner towards the middle.
    assert patterns_at(network, weights, x).tolist() == [[3, 2, 1, 0]]
    assert network.rows == 0
    net = nn.Sequential(nn.MaxPool2d((2, 3)), nn.Flatten(), nn.Linear(1, 2)).double()
    network = read_network(net, (1, 2, 3))
    weights = weights_of(net, network)
    x = torch.tensor([[1.0, 4.0, 0.0, 4.0, 4.0, 2.0], [3.0, 3.0, 3.0, 3.0, 3.0, 3.0]], dtype=torch.float64)
    assert patterns_at(network, weights, x).tolist() == [[1], [0]]
    region = region_of(network, weights, torch.tensor([1], dtype=torch.uint8))
    assert region.g.tolist() == [
        [-1, 1, 0, 0, 0, 0], [0, 1, -1, 0, 0, 0], [0, 1, 0, -1, 0, 0], [0, 1, 0, 0, -1, 0], [0, 1, 0, 0, 0, -1]
    ]  # fmt: skip


def test_patterns_that_the_network_cannot_have_are_refused() -> None:
    _, network, weights, inputs = opened("images")
    good = patterns_at(network, weights, inputs[:2])
    first_window = 3 * 7 * 6
    for place, side in ((0, 2), (first_window, 0), (first_window, 9), (first_window, 200)):
        bad = good.clone()
        bad[1, place] = side
        with pytest.raises(DataError, match=r"a side that the (relu|max_pool) of step") as caught:
            check_patterns(network, bad)
        assert caught.value.code == "bad-patterns"
        with pytest.raises(DataError):
            region_of(network, weights, bad[1])
    for bad in (good[:, 1:], good.long(), good[0]):
        with pytest.raises(DataError, match="not uint8 of"):
            check_patterns(network, bad)


def test_a_network_without_bends_is_one_region() -> None:
    _, network, weights, inputs = opened("no bend")
    patterns = patterns_at(network, weights, inputs)
    assert patterns.shape == (12, 0)
    region = region_of(network, weights, patterns[0])
    assert torch.equal(region.c, weights["1.weight"])
    assert torch.equal(region.e, weights["1.bias"])


@pytest.mark.parametrize("name", NETS)
def test_the_verifier_reads_the_same_patterns_regions_and_maps(name: str) -> None:
    base, network, weights, inputs = opened(name)
    stored = {f"base.{key}": tensor.numpy() for key, tensor in base.state_dict().items()}
    theirs = strangers.read_network(network.document(), stored)
    assert (theirs.inputs, theirs.outputs, theirs.features, theirs.units, theirs.rows) == (
        network.inputs, network.outputs, network.features, network.units, network.rows
    )  # fmt: skip
    patterns = patterns_at(network, weights, inputs)
    for x, pattern in zip(inputs[:2], patterns, strict=False):
        assert np.array_equal(strangers.pattern_of(theirs, x.numpy(), Ball), pattern.numpy())
        region, proved = region_of(network, weights, pattern), strangers.affine(theirs, pattern.numpy(), Ball)
        for mine, ball in (
            (torch.cat([region.g, region.h[:, None]], 1), proved.rows),
            (torch.cat([region.c, region.e[:, None]], 1), proved.outputs),
        ):
            middle = (ball.lower().astype(float) + ball.upper().astype(float)) / 2
            assert mine.numpy().shape == middle.shape
            assert np.allclose(mine.numpy(), middle, rtol=0, atol=1e-11)
