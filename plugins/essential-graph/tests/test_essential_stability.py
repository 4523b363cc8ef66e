"""How alike instances' channels are: overlaps by hand, pairs that are pairs, and targets with channels of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import TASKS, Data, Evidence, Reading, Task, View, derive_seed, generator
from unlearnbench.parameters import resolve_parameters
from unlearnbench_essential_graph.plugin import StabilityParams
from unlearnbench_essential_graph.stability import (
    GraphStability,
    Instance,
    instances,
    jaccard,
    same_target,
    selections,
    two_targets,
)

NAMES = ("a", "b", "c")


class OwnChannels(nn.Module):
    """Target t reads channels 2 t and 2 t + 1: twice the first where the row's first pixel is high, else half."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 3, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            nn.init.ones_(cast(Tensor, self.conv.bias))
            self.head.weight.copy_(torch.arange(8) // 2 == torch.arange(3)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        first = torch.arange(8) % 2 == 0
        factor = torch.where(first, torch.where(x[:, 0, 0, :1] > 0.5, 2.0, 0.5), 1.0)
        return cast(Tensor, self.head(self.conv(x).mean((2, 3)) * factor))


@dataclass
class Unseen:
    """Evidence of test rows, and of a hold-out that repeats some of them."""

    annotations: Tensor
    network: nn.Module = field(default_factory=OwnChannels)
    task: Task = TASKS["multi-label"]
    order: Tensor | None = None
    high: Tensor | None = None

    def __post_init__(self) -> None:
        n = len(self.annotations)
        order = torch.arange(n) if self.order is None else self.order
        high = torch.zeros(n) if self.high is None else self.high
        x = torch.rand(n, 1, 4, 4, generator=generator(3)) / 2
        x[:, 0, 0, 0] = high
        data = Data(x=x[order], y=self.annotations[order], ids=1000 + order, outputs=NAMES)
        self.views = {"test": View(data, torch.arange(n), name="test")}
        self.views["holdout"] = View(data, torch.arange(0, n, 2), name="holdout")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.views)

    def view(self, split: str) -> View:
        return self.views[split]

    def y(self, split: str) -> Tensor:
        return self.views[split].tensors().y

    def model(self, subject: str | None = None) -> nn.Module:
        return self.network

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(5, purpose))


def evidence(annotations: Tensor, **parts: object) -> Evidence:
    return cast(Evidence, Unseen(annotations, **parts))  # type: ignore[arg-type]


def labels(n: int = 12) -> Tensor:
    return torch.eye(3)[torch.arange(n) % 3]


def measured(found: Evidence, **params: object) -> dict[str, Reading]:
    measure = GraphStability(resolve_parameters(StabilityParams, params, where="test"))
    return {reading.name: reading for reading in measure.measure(found)}


def test_jaccard_is_the_share_of_the_union_that_both_have() -> None:
    one, other = torch.tensor([1, 1, 1, 0, 0]).bool(), torch.tensor([0, 1, 1, 1, 0]).bool()
    assert jaccard(one, other) == 2 / 4
    assert jaccard(one, one) == 1
    assert jaccard(one, ~one) == 0
    assert np.isnan(jaccard(one & ~one, one & ~one))


def test_an_instance_selects_the_largest_share_of_each_layer() -> None:
    """The gradients of channels 2 t and 2 t + 1 are as 2 to 1; where the pixel is low, as 1/2 to 1."""
    high = torch.tensor([1.0, 0.0, 0.0, 1.0])
    found = evidence(labels(4), high=high)
    wanted = [Instance(0, 1000), Instance(1, 1001), Instance(2, 1002), Instance(0, 1003)]
    chosen = selections(found, found.model(), ("conv",), wanted, 1 / 8)
    assert [chosen[instance].nonzero()[:, 0].tolist() for instance in wanted] == [[0], [3], [5], [0]]


def test_instances_of_a_target_that_has_its_own_channels_agree_and_of_two_targets_differ() -> None:
    found = measured(evidence(labels()), delta=0.25, pairs=8)
    assert (found["same-target-jaccard"].value, found["other-target-jaccard"].value) == (1.0, 0.0)
    assert {reading.n for reading in found.values()} == {8}


def test_the_mean_over_all_pairs_is_the_one_by_hand() -> None:
    """Of two instances with a high pixel and one with a low one, one pair of three has the same channel."""
    y = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    high = torch.tensor([1.0, 1, 0, 1])
    found = measured(evidence(torch.cat([y, torch.zeros(4, 1)], 1), high=high), delta=1 / 8, pairs=10)
    assert found["same-target-jaccard"].value == pytest.approx(1 / 3)
    assert (found["same-target-jaccard"].n, found["other-target-jaccard"].n) == (3, 3)
    assert found["other-target-jaccard"].value == 0


def test_rows_in_two_splits_are_one_instance() -> None:
    found = evidence(labels(9))
    assert instances(found) == [[1000, 1003, 1006], [1001, 1004, 1007], [1002, 1005, 1008]]


@pytest.mark.parametrize("n", [3, 10, 500])
def test_pairs_are_different_pairs_of_two_rows(n: int) -> None:
    rows = [[1, 2, 3, 4], [2, 5], [9], []]
    same = same_target(rows, n, np.random.default_rng(0))
    assert len(same) == len(set(same)) == min(n, 6 + 1)
    assert all(one.target == other.target and one.row < other.row for one, other in same)
    two = two_targets(rows, n, np.random.default_rng(0))
    assert len(two) == len(set(two)) == min(n, 4 * 2 + 4 + 2 - 1)  # (2, 2) is one row, no pair
    assert all(one.target < other.target and one.row != other.row for one, other in two)
    assert all(one.row in rows[one.target] and other.row in rows[other.target] for one, other in same + two)


@pytest.mark.parametrize("rows", [[], [[]], [[7]], [[7], [7], []]])
def test_where_there_are_no_two_rows_there_are_no_pairs(rows: list[list[int]]) -> None:
    assert same_target(rows, 5, np.random.default_rng(0)) == []
    assert two_targets(rows, 5, np.random.default_rng(0)) == []


def test_no_pairs_is_a_status() -> None:
    found = measured(evidence(torch.eye(3)))
    assert (found["same-target-jaccard"].value, found["same-target-jaccard"].status) == (None, "no pairs")
    assert found["other-target-jaccard"].n == 3


def test_the_order_of_rows_changes_nothing() -> None:
    high = (torch.arange(12) % 2).float()
    plain = measured(evidence(labels(), high=high), delta=1 / 8, pairs=5)
    shuffled = measured(evidence(labels(), high=high, order=torch.randperm(12, generator=generator(1))),
                        delta=1 / 8, pairs=5)  # fmt: skip
    assert {name: reading.value for name, reading in plain.items()} == {k: r.value for k, r in shuffled.items()}
    assert 0 < cast(float, plain["same-target-jaccard"].value) < 1


@pytest.mark.parametrize(
    ("model", "params", "status"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), {}, "no convolution"),
        (OwnChannels(), {"skip_last": 1}, "too few layers"),
    ],
    ids=["linear", "skipped"],
)
def test_a_network_without_layers_to_look_at_is_a_status(
    model: nn.Module, params: dict[str, object], status: str
) -> None:
    found = measured(evidence(labels(), network=model), **params)
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, status)}


def test_a_diverged_network_is_a_status() -> None:
    model = OwnChannels()
    with torch.no_grad():
        cast(Tensor, model.conv.bias).fill_(torch.nan)
    broken = nn.Sequential(model, _Endless())
    found = measured(evidence(labels(), network=broken))
    assert {(reading.value, reading.status) for reading in found.values()} == {(None, "non-finite")}


class _Endless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x
