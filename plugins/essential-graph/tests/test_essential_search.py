"""The search of sigma and delta on validation rows: against trying all settings one by one, and its tie rules."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from unlearnbench.api import DataError, IncompatibleError
from unlearnbench.api.runtime import TASKS, Data, Result, View, predict
from unlearnbench_essential_graph.plugin import EssentialGraphParams
from unlearnbench_essential_graph.searching import SCORES, Tried, _choose

P = EssentialGraphParams
Serve = Callable[..., Result]
SIGMAS, DELTAS = (1, 2, 3), (0.2, 0.4, 0.6)


def labelled_by(net: nn.Module, rows: Data) -> Data:
    """Rows whose labels are what the network says, so that it knows all there is to know."""
    with torch.no_grad():
        out = net(rows.x)
    return Data(rows.x, (out > out.median(0).values).double(), rows.ids, rows.outputs)


@pytest.fixture
def centred(net: nn.Module, rows: Data) -> nn.Module:
    """The network with outputs whose medians are 0."""
    with torch.no_grad():
        net[11].bias -= net(rows.x).median(0).values + 1e-9
    return net


def recalls(model: nn.Module, data: Data) -> list[float]:
    said = predict(model, TASKS["multi-label"], View(data, torch.arange(len(data)), name="validation")) > 0
    return [float((said[:, k] & (data.y[:, k] == 1)).sum() / (data.y[:, k] == 1).sum()) for k in range(4)]


def by_hand(serve: Serve, net: nn.Module, data: Data, target: int) -> list[Tried]:
    """Every setting as a run of its own."""
    before, found = recalls(net, data), []
    for sigma, delta in itertools.product(SIGMAS, DELTAS):
        result = serve(P(sigma=sigma, delta=delta), net, data, [target])
        after = recalls(result.model, data)
        drop = sum(before[k] - after[k] for k in range(4) if k != target) / 3
        channels = sum(result.artifacts["graph"]["pruned"].values())
        found.append(Tried(sigma, delta, channels, after[target], drop))
    return found


@pytest.mark.parametrize("bounds", [(0.6, 0.15), (0.0, 0.2), (0.0, -0.0)])
@pytest.mark.parametrize("target", [0, 2])
def test_it_finds_what_trying_every_setting_finds(
    centred: nn.Module, rows: Data, serve: Serve, target: int, bounds: tuple[float, float]
) -> None:
    data = labelled_by(centred, rows)
    expected = by_hand(serve, centred, data, target)
    p = P(search=True, search_sigma=SIGMAS, search_delta=DELTAS, search_forgotten=bounds[0], search_drop=bounds[1])
    before = copy.deepcopy(centred.state_dict())
    result = serve(p, centred, data, [target], validation=data)
    told = result.artifacts["graph"]["search"]
    for one, mine in zip(told["tried"], expected, strict=True):
        assert (one["sigma"], one["delta"], one["pruned"]) == (mine.sigma, mine.delta, mine.pruned)
        assert one["forgotten"] == pytest.approx(mine.forgotten)
        assert one["drop"] == pytest.approx(mine.drop)
    within = [one for one in expected if one.forgotten <= bounds[0] and one.drop <= bounds[1] + 1e-12]
    chosen = next(one for one in expected if {"sigma": one.sigma, "delta": one.delta} == told["chosen"])
    assert told["qualified"] == bool(within)
    if within:
        assert chosen.pruned == min(one.pruned for one in within)
    else:
        kept = [one for one in expected if one.drop <= bounds[1] + 1e-12]
        if kept:
            assert chosen.forgotten == min(one.forgotten for one in kept)
    plain = serve(P(sigma=chosen.sigma, delta=chosen.delta), centred, data, [target])
    after = result.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in plain.model.state_dict().items())
    assert any(f"chose sigma {chosen.sigma} and delta {chosen.delta:g}" in one for one in result.warnings)
    assert any("no setting of the search" in one for one in result.warnings) != bool(within)
    assert all(torch.equal(value, before[name]) for name, value in centred.state_dict().items())


def tried(*rows: tuple[int, float, int, float, float]) -> list[Tried]:
    return [Tried(*row) for row in rows]


def chosen(found: list[Tried], forgotten: float = 0.1, drop: float = 0.1) -> tuple[int, float, bool]:
    search = _choose(found, forgotten, drop)
    return search.chosen.sigma, search.chosen.delta, search.qualified


def test_the_smallest_set_within_both_bounds_wins_then_the_smaller_loss_then_the_smaller_window() -> None:
    assert chosen(tried((1, 0.5, 9, 0.0, 0.0), (2, 0.1, 5, 0.1, 0.1), (3, 0.1, 2, 0.2, 0.0))) == (2, 0.1, True)
    assert chosen(tried((1, 0.5, 5, 0.0, 0.05), (2, 0.1, 5, 0.1, 0.01))) == (2, 0.1, True)
    assert chosen(tried((2, 0.1, 5, 0.0, 0.05), (1, 0.3, 5, 0.0, 0.05), (1, 0.2, 5, 0.0, 0.05))) == (1, 0.2, True)


def test_if_none_forgets_enough_the_lowest_score_of_those_that_keep_the_others_wins() -> None:
    assert chosen(tried((1, 0.1, 3, 0.5, 0.0), (2, 0.1, 8, 0.3, 0.1), (3, 0.1, 9, 0.0, 0.4))) == (2, 0.1, False)


def test_if_none_keeps_the_others_the_least_excess_over_both_bounds_wins() -> None:
    assert chosen(tried((1, 0.1, 3, 0.9, 0.2), (2, 0.1, 8, 0.0, 0.3), (3, 0.1, 9, 0.0, 0.5))) == (2, 0.1, False)


def test_windows_that_the_network_is_too_small_for_are_passed_over(
    centred: nn.Module, rows: Data, serve: Serve
) -> None:
    data = labelled_by(centred, rows)
    p = P(search=True, search_sigma=(9, 2, 4), search_delta=(0.2,), skip_last=1)
    told = serve(p, centred, data, [0], validation=data).artifacts["graph"]
    assert [one["sigma"] for one in told["search"]["tried"]] == [2]
    assert told["layers"] == ["0", "3"]


def test_retained_targets_that_validation_does_not_show_do_not_count(
    centred: nn.Module, rows: Data, serve: Serve
) -> None:
    data = labelled_by(centred, rows)
    y = data.y.clone()
    y[:, 3] = torch.nan
    fewer = Data(data.x, y, data.ids, data.outputs)
    p = P(search=True, search_sigma=(2,), search_delta=(0.4,))
    told = serve(p, centred, data, [0], validation=fewer).artifacts["graph"]["search"]["tried"][0]
    pruned = serve(P(sigma=2, delta=0.4), centred, data, [0]).model
    before, after = recalls(centred, data), recalls(pruned, data)
    assert told["drop"] == pytest.approx(sum(before[k] - after[k] for k in (1, 2)) / 2)


@pytest.mark.parametrize("task", SCORES)
def test_every_task_that_is_served_has_a_score(task: str) -> None:
    from unlearnbench_essential_graph.plugin import unlearnbench_unlearners

    (spec,) = unlearnbench_unlearners()
    assert set(SCORES) == set(spec.tasks)
    assert task in TASKS


def test_scores_of_classes_and_pixels_are_accuracy_and_iou(net: nn.Module, rows: Data, serve: Serve) -> None:
    with torch.no_grad():
        labels = net(rows.x).argmax(1)
    labels[:4] = torch.arange(4)
    data = Data(rows.x, labels, rows.ids, rows.outputs)
    p = P(search=True, search_sigma=(3,), search_delta=(0.5,))
    result = serve(p, net, data, [int(labels[5])], task="classification", kind="class", validation=data)
    target = int(labels[5])
    said = predict(result.model, TASKS["classification"], View(data, torch.arange(len(data)), name="v")).argmax(1)
    expected = float((said == labels)[labels == target].double().mean())
    assert result.artifacts["graph"]["search"]["tried"][0]["forgotten"] == pytest.approx(expected)


def test_without_validation_rows_it_is_one_line(net: nn.Module, rows: Data, serve: Serve) -> None:
    with pytest.raises(IncompatibleError, match="needs validation rows") as caught:
        serve(P(search=True, search_sigma=(1,)), net, rows, [0])
    assert "--validation" in str(caught.value)


def test_validation_rows_without_the_target_are_one_line(net: nn.Module, rows: Data, serve: Serve) -> None:
    y = rows.y.clone()
    y[:, 1] = 0
    without: Any = Data(rows.x, y, rows.ids, rows.outputs)
    with pytest.raises(DataError, match="no validation row shows b"):
        serve(P(search=True, search_sigma=(1,)), net, rows, [1], validation=without)


@pytest.mark.parametrize(
    "p",
    [
        P(search=True, search_sigma=(4, 5)),
        P(search=True, search_sigma=()),
        P(search=True, search_sigma=(1,), search_delta=()),
    ],
)
def test_a_search_without_anything_to_try_is_one_line(net: nn.Module, rows: Data, serve: Serve, p: Any) -> None:
    with pytest.raises(IncompatibleError, match="window"):
        serve(p, net, rows, [1], validation=rows)
