"""Bad input gets one clear line, or a warning that a reader of the record sees; never a traceback."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from unlearnbench.api import DataError, IncompatibleError, UsageError
from unlearnbench.api.runtime import TASKS, Data, Result
from unlearnbench.parameters import resolve_parameters
from unlearnbench_essential_graph.method import EssentialGraph
from unlearnbench_essential_graph.plugin import EssentialGraphParams

P = EssentialGraphParams
Serve = Callable[..., Result]


def without(rows: Data, target: int) -> Data:
    y = rows.y.clone()
    y[:, target] = 0
    return Data(rows.x, y, rows.ids, rows.outputs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("delta", 0), ("delta", 1), ("delta", math.nan), ("delta", -0.1), ("sigma", 0), ("skip_last", -1),
     ("instances", 0), ("balance", "fair"), ("selection", "all"), ("score", "beta"), ("recovery_epochs", -1),
     ("recovery_lr", 0)],
)  # fmt: skip
def test_values_out_of_range_are_refused_before_any_work(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_parameters(EssentialGraphParams, {name: value}, where="essential-graph")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("sigma", "skip_last"), [(4, 0), (2, 2), (1, 3)])
def test_a_window_beyond_the_network_is_refused_with_both_numbers(net: nn.Module, sigma: int, skip_last: int) -> None:
    reason = EssentialGraph(P(sigma=sigma, skip_last=skip_last)).check(net, TASKS["multi-label"])
    assert reason is not None
    assert str(sigma) in reason
    assert "3 convolutions" in reason
    assert EssentialGraph(P(sigma=3)).check(net, TASKS["multi-label"]) is None


def test_a_window_that_only_a_pass_shows_to_be_too_large_is_one_line(rows: Data, serve: Serve) -> None:
    class Hidden(nn.Module):
        """Nothing flows back to the first convolution, which structure cannot tell."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.line = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(self.second(self.first(x).detach()).mean((2, 3)))

    model = Hidden().double()
    assert EssentialGraph(P(sigma=2)).check(model, TASKS["multi-label"]) is None
    with pytest.raises(IncompatibleError, match="sigma is 2, and it has 1 convolution ") as caught:
        serve(P(sigma=2), model, rows, [0])
    assert caught.value.code == "too-few-layers"


def test_a_search_is_refused_only_if_its_smallest_window_does_not_fit(net: nn.Module) -> None:
    task = TASKS["multi-label"]
    assert EssentialGraph(P(sigma=9, search=True, search_sigma=(8, 3))).check(net, task) is None
    assert EssentialGraph(P(sigma=1, search=True, search_sigma=(8, 4))).check(net, task) is not None


def test_networks_without_convolutions_and_transformers_are_refused() -> None:
    task, graph = TASKS["classification"], EssentialGraph(P(sigma=1))
    assert "no convolutions" in str(graph.check(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), task))
    vision = nn.Sequential(nn.Conv2d(3, 8, 4), nn.TransformerEncoderLayer(8, 2, 8))
    assert "the paper limits itself to convolutional networks" in str(graph.check(vision, task))


def test_a_target_that_no_row_shows_cannot_be_forgotten(net: nn.Module, rows: Data, serve: Serve) -> None:
    with pytest.raises(DataError, match="no training row shows c") as caught:
        serve(P(sigma=2), net, without(rows, 2), [2])
    assert caught.value.code == "no-instance"
    assert "\n" not in str(caught.value)


def test_a_retained_target_without_an_instance_is_told(net: nn.Module, rows: Data, serve: Serve) -> None:
    result = serve(P(sigma=2, delta=0.35), net, without(rows, 2), [0])
    assert result.warnings == ("no training row shows c: no vote protects what is retained of it",)
    assert not result.artifacts["graph/selected/6"][2].any()
    everything = serve(P(sigma=2, delta=0.35), net, rows, [0])
    assert everything.warnings == ()


def test_a_target_that_all_rows_show_is_served(net: nn.Module, rows: Data, serve: Serve) -> None:
    y = rows.y.clone()
    y[:, 1] = 1
    result = serve(P(sigma=3, delta=0.35, instances=5), net, Data(rows.x, y, rows.ids, rows.outputs), [1])
    assert sum(result.artifacts["graph"]["pruned"].values()) > 0


def test_nothing_pruned_is_told_and_leaves_the_original(net: nn.Module, rows: Data, serve: Serve) -> None:
    with torch.no_grad():  # all targets are one, so that every channel is needed
        net[11].weight.copy_(net[11].weight[:1].expand(4, -1))
    y = torch.ones_like(rows.y)
    result = serve(P(sigma=3), net, Data(rows.x, y, rows.ids, rows.outputs), [0])
    assert result.warnings == ("no channel was pruned: the model is the original",)
    assert not result.mask
    after = result.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in net.state_dict().items())
    assert result.artifacts["graph"]["pruned"] == {"0": 0, "3": 0, "6": 0}


def test_all_targets_at_once_are_served_though_nobody_is_left_to_vote(net: nn.Module, rows: Data, serve: Serve) -> None:
    for selection in ("vote", "contrast"):
        result = serve(P(sigma=2, delta=0.35, selection=selection), net, rows, [0, 1, 2, 3])  # type: ignore[arg-type]
        assert sum(result.artifacts["graph"]["pruned"].values()) > 0
