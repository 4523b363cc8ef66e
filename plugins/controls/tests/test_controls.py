"""The controls against derivations in numpy, and what they leave, which is known."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_jobs import Momentum, Problem, backward, bits, cross_entropy_delta, logits, perceptron, stream, tiny, weights
from scenario_runs import run_scenario
from torch import nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Classification, Data, View, drawn_rows
from unlearnbench_controls.method import PartialRetrain, ScrambledHead, WrongLabels, layers
from unlearnbench_controls.plugin import PartialRetrainParams, RelabelParams

LOCATIONS = "location30-mlp-random10/v1"
RECIPE = Recipe(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, epochs=3, batch_size=4)


def job_of(problem: Problem, model: nn.Module, seed: int = 5) -> Any:
    job = problem.job(model, seed)
    job.recipe = RECIPE
    return job


def arrays(problem: Problem) -> tuple[np.ndarray, ...]:
    return problem.x.numpy(), problem.y.numpy(), problem.forget.numpy(), problem.retain.numpy()


def train_by_hand(w: list[np.ndarray], x: np.ndarray, y: np.ndarray, rows: np.ndarray) -> None:
    """Three epochs of the recipe over some rows, in the order that the stream "order" draws."""
    sgd, order = Momentum(w, RECIPE), stream(5, "order")
    for _ in range(3):
        shuffled = torch.randperm(len(rows), generator=order).numpy()
        for start in range(0, len(rows), 4):
            batch = rows[shuffled[start : start + 4]]
            sgd.step(backward(w, x[batch], cross_entropy_delta(w, x[batch], y[batch])))


def assert_same_weights(model: nn.Module, expected: list[np.ndarray]) -> None:
    for value, derived in zip(weights(model), expected, strict=True):
        np.testing.assert_allclose(value, derived, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
def test_partial_retraining_equals_the_derivation_in_numpy(kept: float) -> None:
    """A fresh network, the recipe of the original, one shuffled pass over kept and retain rows in every epoch."""
    problem = tiny()
    problem.builder = lambda: perceptron(3)
    x, y, forget, retain = arrays(problem)
    job = job_of(problem, perceptron())
    found = PartialRetrain(PartialRetrainParams(kept=kept)).unlearn(job).model
    mine = drawn_rows(problem.forget + 100, round(kept * 5), stream(5, "kept")).numpy()
    w = weights(perceptron(3))
    train_by_hand(w, x, y, np.concatenate([forget[mine], retain]))
    assert_same_weights(found, w)
    assert not found.training


def test_the_rows_that_are_kept_do_not_depend_on_the_order_of_the_forget_set() -> None:
    drawn = []
    for order in (torch.arange(5), torch.tensor([3, 1, 4, 0, 2])):
        ids = torch.tensor([40, 10, 30, 20, 50])[order]
        drawn.append(set(ids[drawn_rows(ids, 2, stream(0, "kept"))].tolist()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("rows", "kept", "expected"), [(10, 0.25, 3), (10, 0.75, 8), (1, 0.5, 1), (1, 0.4, 0)])
def test_a_share_is_rounded_to_whole_rows(rows: int, kept: float, expected: int) -> None:
    problem = tiny(forget=rows, retain=7)
    problem.builder = perceptron
    PartialRetrain(PartialRetrainParams(kept=kept)).unlearn(job_of(problem, perceptron()))
    assert problem.meter.rows == {"retain": 3 * 7, **({"forget": 3 * expected} if expected else {})}


def test_wrong_labels_equal_the_derivation_in_numpy() -> None:
    """One wrong label for each row, drawn in the order of the ids, the same in every epoch."""
    problem = tiny()
    x, y, forget, retain = arrays(problem)
    by_id = np.sort(forget)
    shift = torch.randint(1, 3, (5,), generator=stream(5, "labels")).numpy()
    y = y.copy()
    y[by_id] = (y[by_id] + shift) % 3
    w = weights(perceptron())
    train_by_hand(w, x, y, np.concatenate([forget, retain]))
    assert_same_weights(WrongLabels(RelabelParams()).unlearn(job_of(problem, perceptron())).model, w)


def test_a_model_that_is_still_right_on_the_forget_set_is_said_to_be() -> None:
    problem = tiny()
    model = perceptron()
    problem.y = torch.tensor(logits(weights(model), problem.x.numpy()).argmax(1))
    result = WrongLabels(RelabelParams(epochs=0)).unlearn(job_of(problem, model))
    assert result.warnings == ("wrong-labels left 100% of the forget set right, which is no less than chance",)
    learnt = WrongLabels(RelabelParams(epochs=400)).unlearn(job_of(problem, perceptron()))
    assert learnt.warnings == ()


def test_a_scrambled_head_equals_the_derivation_in_numpy_and_its_features_stay() -> None:
    """Each batch of the retain set beside one of the forget set, which starts over; labels anew whenever seen."""
    problem = tiny()
    x, y, forget, retain = arrays(problem)
    w = weights(perceptron())
    before = [v.copy() for v in w]
    sgd, order, labels = Momentum(w[2:], RECIPE), stream(5, "order"), stream(5, "labels")

    def batches(rows: np.ndarray) -> list[np.ndarray]:
        shuffled = rows[torch.randperm(len(rows), generator=order).numpy()]
        return [shuffled[i : i + 4] for i in range(0, len(rows), 4)]

    for _ in range(3):
        others: list[np.ndarray] = []
        for batch in batches(retain):
            others = others or batches(forget)
            other = others.pop(0)
            shift = torch.randint(1, 3, (len(other),), generator=labels).numpy()
            steps = [
                backward(w, x[rows], cross_entropy_delta(w, x[rows], target))[2:]
                for rows, target in ((batch, y[batch]), (other, (y[other] + shift) % 3))
            ]
            sgd.step([a + b for a, b in zip(*steps, strict=True)])
    model = ScrambledHead(RelabelParams()).unlearn(job_of(problem, perceptron())).model
    assert_same_weights(model, w)
    found = weights(model)
    assert all(np.array_equal(a, b) for a, b in zip(found[:2], before[:2], strict=True))
    assert not np.allclose(found[2], before[2])


def test_statistics_and_dropout_below_a_scrambled_head_stay_as_they_are() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double().eval()
    below = copy.deepcopy(net[:2])
    found = ScrambledHead(RelabelParams()).unlearn(job_of(tiny(), net)).model
    assert bits(found[:2]) == bits(below)
    assert all(p.requires_grad for p in found.parameters())


def test_a_network_without_features_is_refused_with_the_reason() -> None:
    head = ScrambledHead(RelabelParams())
    assert head.check(nn.Linear(4, 3), Classification()) == "it has 1 layer with weights, so no features below"
    assert head.check(perceptron(), Classification()) is None
    assert len(layers(perceptron())) == 2


def test_learning_rate_and_epochs_take_the_place_of_the_recipes() -> None:
    def trained(**params: Any) -> bytes:
        return bits(WrongLabels(RelabelParams(**params)).unlearn(job_of(tiny(), perceptron())).model)

    assert trained(lr=0.1, epochs=3) == trained()
    assert len({trained(), trained(lr=0.2), trained(epochs=2)}) == 3


def test_a_forget_set_of_one_row_is_learnt_wrong() -> None:
    data = Data(torch.eye(4, dtype=torch.float64), torch.tensor([0, 1, 2, 0]), torch.arange(4), ("a", "b", "c"))
    problem = Problem(x=data.x, y=data.y, forget=torch.tensor([2]), validation=torch.tensor([], dtype=torch.long))
    model = WrongLabels(RelabelParams(epochs=300)).unlearn(job_of(problem, perceptron())).model
    view = View(data, torch.arange(4), name="all")
    right = Classification().outputs(model, view.tensors()).argmax(1) == data.y
    assert right.tolist() == [True, True, False, True]


@pytest.mark.skipif("UNLEARNBENCH_DATA" not in os.environ, reason="Location-30 lies in the folder UNLEARNBENCH_DATA")
def test_on_location_30_each_leaves_what_it_says(tmp_path: Path) -> None:
    loss = {}
    for kept in (0.0, 0.5, 1.0):
        loss[kept] = run_scenario("partial-retrain", LOCATIONS, {"kept": kept}, tmp_path).value("loss.forget") or 0.0
    assert loss[0.0] > 1.4 * loss[0.5] > 2 * loss[1.0]
    wrong = run_scenario("wrong-labels", LOCATIONS, {}, tmp_path)
    assert wrong.value("accuracy.forget") == 0.0
    assert (wrong.value("accuracy.retain") or 0) > 0.99
    head = run_scenario("scrambled-head", LOCATIONS, {"lr": 0.01}, tmp_path)
    assert (head.value("accuracy.forget") or 1) < 0.75 < (head.value("accuracy.forget", "original") or 0)
