"""Bounds over the whole box: by hand, against samples and corners, with every step, and what they forbid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import generator, local_rng
from unlearnbench_prune.everywhere import difference_bounds, lowered, output_bounds
from unlearnbench_prune.parts import Box
from unlearnbench_prune.steps import (
    Add,
    AvgPool,
    BatchNorm,
    Conv2d,
    Flatten,
    LeakyRelu,
    Linear,
    MaxPool,
    Network,
    Relu,
    Shape,
    Step,
)

UNIT = Box(0.0, 1.0)
CLASSES = 4


def exactly(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


SMALL = Network(
    (Linear((0,), "1.weight", "1.bias"), Relu((1,)), Linear((2,), "2.weight", None)), ((2,), (2,), (2,), (3,))
)
SMALL_WEIGHTS = {
    "1.weight": exactly([[1, -1], [2, 1]]),
    "1.bias": exactly([[0, -1]])[0],
    "2.weight": exactly([[1, 1], [2, 1], [0, -1]]),
}


def test_two_layers_by_hand() -> None:
    # x in [0, 1]^2: x1 - x2 in [-1, 1], 2 x1 + x2 - 1 in [-1, 2]; after the bend [0, 1] and [0, 2].
    low, high = output_bounds(SMALL, SMALL_WEIGHTS, UNIT)
    assert low.tolist() == pytest.approx([0, 0, -2], abs=1e-13)
    assert high.tolist() == pytest.approx([3, 4, 0], abs=1e-13)


def test_differences_are_bounded_as_one_row() -> None:
    # f_0 - f_1 = -h_1 in [-1, 0], although the outputs alone allow 3 - 0; f_1 - f_2 = 2 h_1 + 2 h_2.
    found = difference_bounds(SMALL, SMALL_WEIGHTS, UNIT, [0, 1], [1, 2])
    assert found.flatten().tolist() == pytest.approx([0, 5, 0, 6], abs=1e-13)
    bent = Network((*SMALL.steps, Relu((3,))), (*SMALL.shapes, (3,)))
    apart = difference_bounds(bent, SMALL_WEIGHTS, UNIT, [0], [1])
    assert apart.item() == pytest.approx(3, abs=1e-13)


def test_a_class_goes_down_by_what_the_best_of_the_others_needs() -> None:
    # f_1 - f_0 = h_1 <= 1, f_1 - f_2 <= 6: class 0 is the cheaper one to stay behind.
    found = lowered(SMALL, SMALL_WEIGHTS, UNIT, [1], 0.25)
    assert found.beaten_by == {1: 0}
    assert found.bounds[1] == pytest.approx(1, abs=1e-13)
    assert found.everywhere.dtype == torch.float32
    assert found.everywhere.tolist() == pytest.approx([0, -1.25, 0], abs=1e-6)
    both = lowered(SMALL, SMALL_WEIGHTS, UNIT, [1, 0], 0.25)
    assert both.beaten_by == {1: 2, 0: 2}  # a class that is forgotten itself beats nothing
    assert both.everywhere.tolist() == pytest.approx([-5.25, -6.25, 0], abs=1e-6)


def test_a_class_that_never_leads_by_far_stays_as_it_is() -> None:
    weights = {"1.weight": exactly([[0, 0], [1, 1]]), "1.bias": exactly([[-9, 0]])[0]}
    network = Network((Linear((0,), "1.weight", "1.bias"),), ((2,), (2,)))
    found = lowered(network, weights, UNIT, [0], 0.01)
    assert found.bounds[0] == pytest.approx(-9, abs=1e-13)
    assert found.everywhere.tolist() == [0, 0]


@pytest.mark.parametrize("bound", [1 / 3, 0.1, 1e-30, 12345678.9, 1.0])
def test_shifts_are_rounded_away_from_zero(bound: float) -> None:
    weights = {"w": torch.zeros(2, 1, dtype=torch.float64), "b": exactly([[bound, 0]])[0]}
    network = Network((Linear((0,), "w", "b"),), ((1,), (2,)))
    shift = float(lowered(network, weights, UNIT, [0], 0.01).everywhere[0])
    assert shift <= -(bound + 0.01)
    nearer = float(np.nextafter(np.float32(shift), np.float32(0)))
    assert nearer > -(bound + 0.01) * (1 + 1e-12) - 1e-13


def test_forgetting_every_class_is_refused() -> None:
    with pytest.raises(ValueError, match="every class"):
        lowered(SMALL, SMALL_WEIGHTS, UNIT, [0, 1, 2], 0.01)


class Dense(nn.Module):
    """Two bends and a leaky one."""

    network = Network(
        (
            Linear((0,), "a.weight", "a.bias"),
            LeakyRelu((1,), 0.1),
            Linear((2,), "b.weight", "b.bias"),
            Relu((3,)),
            Linear((4,), "c.weight", "c.bias"),
        ),
        ((5,), (8,), (8,), (8,), (8,), (CLASSES,)),
    )

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.c(self.b(nn.functional.leaky_relu(self.a(x), 0.1)).relu())
        return found


class Images(nn.Module):
    """Every step for images: convolutions with strides, dilation and groups, moments, pools, a residual sum."""

    network = Network(
        (
            Conv2d((0,), "first.weight", "first.bias", (2, 1), (1, 2), (1, 1), 1),
            BatchNorm((1,), "norm.running_mean", "norm.running_var", "norm.weight", "norm.bias", 1e-5),
            Relu((2,)),
            Conv2d((3,), "second.weight", None, (1, 1), (2, 2), (2, 2), 2),
            BatchNorm((4,), "bare.running_mean", "bare.running_var", None, None, 1e-3),
            Add((5, 3)),
            MaxPool((6,), (2, 3), (2, 2), (1, 1)),
            AvgPool((7,), (2, 2), (1, 1), (1, 0)),
            Flatten((8,)),
            Linear((9,), "last.weight", "last.bias"),
        ),
        (
            (2, 6, 5),
            (4, 3, 7),
            (4, 3, 7),
            (4, 3, 7),
            (4, 3, 7),
            (4, 3, 7),
            (4, 3, 7),
            (4, 2, 4),
            (4, 3, 3),
            (36,),
            (4,),
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(1, 2))
        self.norm, self.bare = nn.BatchNorm2d(4), nn.BatchNorm2d(4, eps=1e-3, affine=False)
        self.second = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2, bias=False)
        self.last = nn.Linear(36, CLASSES)
        for norm in (self.norm, self.bare):
            norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.2
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = nn.functional.max_pool2d(self.bare(self.second(x)) + x, (2, 3), 2, 1)
        x = nn.functional.avg_pool2d(x, 2, 1, (1, 0))
        found: Tensor = self.last(x.flatten(1))
        return found


def made(kind: type[nn.Module], seed: int) -> nn.Module:
    with local_rng(generator(seed)):
        return kind().double().eval()


def points(shape: Shape, box: Box, seed: int) -> Tensor:
    """Rows within the box and in its corners, where affine parts are largest."""
    drawn = torch.rand(2000, *shape, dtype=torch.float64, generator=generator(seed))
    drawn[1000:] = (drawn[1000:] < 0.5).double()
    return box.low + (box.high - box.low) * drawn


@pytest.mark.parametrize("kind", [Dense, Images])
@pytest.mark.parametrize(
    ("seed", "box"), [(0, UNIT), (1, Box(-2.0, 0.5)), (2, Box(0.25, 0.2500001)), (3, Box(3.0, 3.0))]
)
def test_no_row_of_the_box_is_ever_outside_the_bounds(kind: type[Dense] | type[Images], seed: int, box: Box) -> None:
    model, network = made(kind, seed), kind.network
    weights = dict(model.state_dict())
    low, high = output_bounds(network, weights, box)
    ahead = difference_bounds(network, weights, box, range(CLASSES), range(CLASSES))
    with torch.no_grad():
        found = model(points(network.inputs, box, seed))
    assert bool((found >= low).all())
    assert bool((found <= high).all())
    assert bool((found[:, :, None] - found[:, None] <= ahead).all())
    assert bool((ahead.diagonal() < 1e-9).all())
    assert bool((ahead <= high[:, None] - low[None] + 1e-9).all())
    if box.high - box.low < 1e-6:  # hardly a box: the bounds are the outputs
        assert bool((high - low < 1e-4).all())
        assert torch.allclose((high + low) / 2, found[0], atol=1e-4)


def test_bounds_of_one_affine_layer_are_reached_in_corners() -> None:
    weight = torch.randn(CLASSES, 6, dtype=torch.float64, generator=generator(5))
    network = Network((Linear((0,), "w", None),), ((6,), (CLASSES,)))
    corners = exactly(list(product((-1.0, 2.0), repeat=6)))
    ahead = difference_bounds(network, {"w": weight}, Box(-1.0, 2.0), range(CLASSES), range(CLASSES))
    outputs = corners @ weight.T
    assert torch.allclose(ahead, (outputs[:, :, None] - outputs[:, None]).amax(0), atol=1e-12)


def steps_alone() -> list[tuple[Step, dict[str, Tensor]]]:
    moments = {"m": exactly([[3.0]])[0], "v": exactly([[0.0]])[0]}
    return [
        (AvgPool((0,), (1, 3), (1, 1), (0, 0)), {}),
        (BatchNorm((0,), "m", "v", None, None, 1e-5), moments),
        (LeakyRelu((0,), 0.1), {}),
    ]


@pytest.mark.parametrize(("step", "weights"), steps_alone(), ids=lambda part: type(part).__name__)
def test_rounding_never_makes_a_bound_too_small(step: Step, weights: dict[str, Tensor]) -> None:
    """A box that is one point: what exact arithmetic gives there must lie within, however the step was rounded."""
    at = -0.1
    network = Network((step,), ((1, 1, 3), (1, 1, 1 if isinstance(step, AvgPool) else 3)))
    low, high = output_bounds(network, weights, Box(at, at))
    x = Fraction(at)
    if isinstance(step, AvgPool):
        exact = 3 * x * Fraction(1 / 3)
    elif isinstance(step, BatchNorm):
        scale = 1.0 / math.sqrt(0.0 + 1e-5)
        exact = Fraction(scale) * x + Fraction(0.0 - 3.0 * scale)
    else:
        exact = Fraction(0.1) * x
    assert all(Fraction(end) <= exact for end in low.flatten().tolist())
    assert all(exact <= Fraction(end) for end in high.flatten().tolist())
    assert float((high - low).max()) < 1e-9


@pytest.mark.parametrize("kind", [Dense, Images])
def test_forgotten_classes_lose_to_a_class_that_stays_everywhere_in_the_box(kind: type[Dense] | type[Images]) -> None:
    model, network, margin = made(kind, 7), kind.network, 0.05
    weights = dict(model.state_dict())
    with torch.no_grad():
        before = model(points(network.inputs, UNIT, 8))
    forbidden = [int(before.argmax(1).mode().values), int(before.argmin(1).mode().values)]
    found = lowered(network, weights, UNIT, forbidden, margin)
    after = before + found.everywhere
    assert bool(torch.isin(before.argmax(1), torch.tensor(forbidden)).any())
    assert not bool(torch.isin(after.argmax(1), torch.tensor(forbidden)).any())
    for label, winner in found.beaten_by.items():
        assert winner not in forbidden
        assert bool((after[:, winner] - after[:, label] >= margin).all())
    kept = [label for label in range(CLASSES) if label not in forbidden]
    assert bool((found.everywhere[kept] == 0).all())
