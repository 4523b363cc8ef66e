"""Completeness and weight distance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unlearnbench.api import NoParams
from unlearnbench_utility.agreement import Completeness, WeightDistance, relative_distance, same_class, weights
from unlearnbench_utility.plugin import WeightDistanceParams


def net(seed: int = 0, hidden: int = 5) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3))


def test_completeness_by_hand_and_by_numpy() -> None:
    one = torch.tensor([[2.0, 1, 0], [0, 1, 0], [0, 0, 9], [5, 4, 0]])
    other = torch.tensor([[9.0, 8, 0], [1, 0, 0], [0, 1, 2], [0, 4, 5]])
    assert same_class(one, other) == 0.5
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.randn(200, 7, generator=rng) for _ in range(2))
    assert same_class(one, other) == np.mean(one.numpy().argmax(1) == other.numpy().argmax(1))


def test_labels_play_no_part_in_completeness(noisy: Any, by_key: Any) -> None:
    plain, relabelled = noisy(), noisy()
    relabelled.y_of["test"][:] = -100
    assert by_key(Completeness(NoParams()), plain) == by_key(Completeness(NoParams()), relabelled)


def test_gold_is_complete_and_a_split_without_rows_or_numbers_has_a_status(noisy: Any, by_key: Any) -> None:
    evidence = noisy(subject="gold")
    assert {r.value for r in by_key(Completeness(NoParams()), evidence).values()} == {1.0}
    evidence.out["gold"]["test"], evidence.y_of["test"] = torch.empty(0, 3), torch.empty(0, dtype=torch.int64)
    evidence.out["gold"]["retain"][0, 0] = math.nan
    found = by_key(Completeness(NoParams()), evidence)
    assert (found["completeness.test"].value, found["completeness.test"].status) == (None, "empty split")
    assert (found["completeness.retain"].value, found["completeness.retain"].status) == (None, "non-finite")


def test_weight_distance_by_hand_is_global_and_not_a_mean_over_tensors() -> None:
    one = {"a": torch.tensor([3.0]), "b": torch.tensor([0.0, 0.0])}
    other = {"a": torch.tensor([0.0]), "b": torch.tensor([0.0, 4.0])}
    value, status = relative_distance(one, other)
    assert (value, status) == (5 / 4, "ok")
    per_tensor_mean = (3 + 4) / 2
    assert value != per_tensor_mean


def test_weight_distance_is_numpys(noisy: Any, by_key: Any) -> None:
    nets = {"original": net(0), "gold": net(1), "unlearned": net(2)}
    found = by_key(WeightDistance(WeightDistanceParams()), noisy(nets=nets))
    flat = {s: np.concatenate([p.detach().double().numpy().ravel() for p in m.parameters()]) for s, m in nets.items()}
    for subject in ("original", "gold"):
        expected = np.linalg.norm(flat["unlearned"] - flat[subject]) / np.linalg.norm(flat[subject])
        reading = found[f"distance-to-{subject}"]
        assert reading.value == pytest.approx(expected, rel=1e-12)
        assert reading.n == len(flat[subject]) == 53


def test_buffers_are_no_weights() -> None:
    moved = net()
    moved[1].running_mean.fill_(7.0)
    assert relative_distance(weights(moved), weights(net())) == (0.0, "ok")


def test_shared_weights_count_once() -> None:
    one = nn.Linear(3, 3)
    assert list(weights(nn.Sequential(one, one))) == ["0.weight", "0.bias"]


def test_layers_are_told_apart_where_wanted(noisy: Any, by_key: Any) -> None:
    changed = net(0)
    with torch.no_grad():
        changed[3].weight.mul_(2)
        changed[3].bias.mul_(2)
    nets = {"original": net(0), "gold": net(1), "unlearned": changed}
    found = by_key(WeightDistance(WeightDistanceParams(by_layer=True)), noisy(nets=nets))
    per_layer = {key: r.value for key, r in found.items() if key.startswith("distance-to-original.")}
    assert per_layer == {f"distance-to-original.layer={i}": (1.0 if i == 3 else 0.0) for i in (0, 1, 3)}


def test_other_architectures_and_nets_of_zeros_have_a_status(noisy: Any, by_key: Any) -> None:
    zeros = net(0)
    with torch.no_grad():
        for p in zeros.parameters():
            p.zero_()
    found = by_key(
        WeightDistance(WeightDistanceParams(by_layer=True)),
        noisy(nets={"original": net(hidden=6), "gold": zeros, "unlearned": net()}),
    )
    assert {r.status for key, r in found.items() if "original" in key} == {"different architectures"}
    assert (found["distance-to-gold"].value, found["distance-to-gold"].status) == (None, "zero norm")
    other = nn.Sequential(net(), nn.Linear(3, 3))
    found = by_key(WeightDistance(WeightDistanceParams()), noisy(nets=dict.fromkeys(("original", "gold"), net())
                                                                | {"unlearned": other}))  # fmt: skip
    assert found["distance-to-gold"].status == "different architectures"
