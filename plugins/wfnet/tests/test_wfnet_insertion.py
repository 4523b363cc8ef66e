"""Insertion and deletion: orders, curves and areas against numpy and against counting by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
import torch
from hand_evidence import HandEvidence, rows, shuffled_rows
from torch import Tensor, nn

from unlearnbench.api.runtime import Data, Reading, Request, generator
from unlearnbench_wfnet.artifact import describe
from unlearnbench_wfnet.insertion import Undefined, area, areas, at_random, by_closedness, changed, fractions
from unlearnbench_wfnet.measures import InsertionDeletion
from unlearnbench_wfnet.network import Gates, WFNet
from unlearnbench_wfnet.plugin import InsertionParams, unlearnbench_measures
from unlearnbench_wfnet.targets import find_targets

NAMES = ("insertion", "deletion", "insertion-random", "deletion-random")


def layer(weight: Sequence[float], bias: Sequence[float] | None = None) -> Gates:
    return Gates(torch.tensor(weight), None if bias is None else torch.tensor(bias))


# -- orders and steps -------------------------------------------------------------------------------------------------


def test_the_most_closed_gate_comes_first_weights_and_biases_of_a_layer_each_in_an_order_of_their_own() -> None:
    (weight, bias), (other, none) = by_closedness([layer([0.9, 0.1, 0.5], [0.2, 0.3, 0.1]), layer([0.4, 0.2])])
    assert weight.tolist() == [2, 0, 1]
    assert bias is not None
    assert bias.tolist() == [1, 2, 0]
    assert other.tolist() == [1, 0]
    assert none is None


def test_gates_that_are_alike_stand_in_the_order_of_their_positions() -> None:
    gate = torch.ones(1000).index_fill(0, torch.tensor([700, 30]), 0.5)
    ranks = by_closedness([Gates(gate, None)])[0][0]
    expected = [30, 700, *(i for i in range(1000) if i not in (30, 700))]
    assert ranks.argsort().tolist() == expected


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0.5, [0, 0.5, 1]),
        (0.3, [0, 0.3, 0.6, 0.9, 1]),
        (0.05, [i / 20 for i in range(21)]),
        (1 / 3, [0, 1 / 3, 2 / 3, 1]),
        (0.1, [i / 10 for i in range(11)]),
    ],
)
def test_steps_go_from_nothing_to_everything_and_the_last_one_is_cut(step: float, expected: list[float]) -> None:
    assert fractions(step) == pytest.approx(expected)
    assert fractions(step)[-1] == 1


def test_a_share_of_each_matrix_is_changed_first_in_order_first_and_the_rest_stays() -> None:
    gates = [layer([0.9, 0.1, 0.5, 0.7], [0.2, 0.3, 0.1, 0.4]), layer([0.4, 0.2])]
    half = changed(gates, by_closedness(gates), 0.5, 1.0)
    assert half[0].weight.tolist() == pytest.approx([0.9, 1, 1, 0.7])
    assert half[0].bias is not None
    assert half[0].bias.tolist() == pytest.approx([1, 0.3, 1, 0.4])
    assert half[1].weight.tolist() == pytest.approx([0.4, 1])
    assert half[1].bias is None
    assert gates[0].weight.tolist() == pytest.approx([0.9, 0.1, 0.5, 0.7])  # not changed in place


@pytest.mark.parametrize("width", [1, 2, 3, 7, 10, 16, 25, 33, 64])
@pytest.mark.parametrize("steps", [20, 50])
def test_shares_are_rounded_to_whole_gates_and_none_is_left_at_the_end(width: int, steps: int) -> None:
    gates = [Gates(torch.full((width,), 0.5), None)]
    many = [int(changed(gates, by_closedness(gates), f, 1.0)[0].weight.eq(1).sum()) for f in fractions(1 / steps)]
    assert many[0] == 0
    assert many[-1] == width
    exact = [(2 * i * width + steps) // (2 * steps) for i in range(steps + 1)]  # halves up, in whole numbers
    assert many == exact


# -- areas ------------------------------------------------------------------------------------------------------------


def test_the_area_is_the_trapezoid_rule_over_fractions() -> None:
    at, values = fractions(0.3), [0.0, 0.5, 0.25, 1.0, 0.75]
    by_hand = 0.3 * 0.25 + 0.3 * 0.375 + 0.3 * 0.625 + 0.1 * 0.875
    assert area(at, values) == pytest.approx(by_hand)
    assert area(at, values) == pytest.approx(float(np.trapezoid(values, at)))


def test_areas_of_a_confidence_that_hangs_on_one_gate_are_where_its_place_in_the_order_is() -> None:
    def first_gate(gates: Sequence[Gates]) -> float:
        return float(gates[0].weight[3])

    row = [Gates(torch.full((10,), 0.5).index_fill(0, torch.tensor([3]), 0.0), None)]
    # Most closed, it is changed in the first of ten steps: 0, 1, 1, ... and 1, 0, 0, ...
    assert areas(first_gate, row, by_closedness(row), 0.1) == pytest.approx((0.95, 0.05))
    row = [Gates(torch.full((10,), 0.5).index_fill(0, torch.tensor([3]), 0.8), None)]
    # Least closed, it is changed last; until then insertion has what the row leaves of it.
    assert areas(first_gate, row, by_closedness(row), 0.1) == pytest.approx((0.81, 0.95))


def test_random_orders_have_the_area_that_is_expected_of_them() -> None:
    """One of 20 gates decides; its place is uniform over 20 steps, so that the mean area is a half."""
    row = [Gates(torch.zeros(20), None)]
    rng = generator(0)

    def one_gate(gates: Sequence[Gates]) -> float:
        return float(gates[0].weight[5])

    found = [areas(one_gate, row, at_random(row, rng), 0.05) for _ in range(400)]
    # The standard deviation of a uniform place is 0.288, of the mean of 400 it is 0.0144: four of those.
    for curve in zip(*found, strict=True):
        assert fmean(curve) == pytest.approx(0.5, abs=0.058)
        assert len(set(curve)) == 20


def test_a_confidence_above_the_originals_counts_as_the_originals() -> None:
    def inverse(gates: Sequence[Gates]) -> float:
        return 1.5 - float(gates[0].weight.mean())

    row = [Gates(torch.zeros(4), None)]
    assert areas(inverse, row, by_closedness(row), 0.25) == (1.0, 1.0)


def test_without_confidence_of_the_original_or_with_one_that_is_no_number_there_is_no_area() -> None:
    row = [Gates(torch.zeros(4), None)]
    with pytest.raises(Undefined, match="no confidence in the original"):
        areas(lambda gates: 0.0, row, by_closedness(row), 0.25)
    with pytest.raises(Undefined, match="non-finite"):
        areas(lambda gates: float("nan"), row, by_closedness(row), 0.25)
    with pytest.raises(Undefined, match="non-finite"):
        areas(lambda gates: 1.0 if gates[0].weight.all() else float("inf"), row, by_closedness(row), 0.25)


# -- the measure ------------------------------------------------------------------------------------------------------

CHANNELS, HIDDEN, CLASSES = 4, 10, 3


def small(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(CHANNELS, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, 7, 1, bias=False), nn.Flatten(),
            nn.Linear(7, CLASSES),
        ).eval()  # fmt: skip


BASE = small()
NET = WFNet(BASE, find_targets(BASE, (CHANNELS, 1, 1)), CLASSES)
with torch.no_grad():
    for memory in (*NET.alpha_weight, *NET.alpha_bias):
        memory.copy_(2 * torch.randn(memory.shape, generator=generator(1)))


def some(n: int, first_id: int, seed: int) -> Data:
    rng = generator(seed)
    x = torch.randn(n, CHANNELS, 1, 1, generator=rng)
    return rows(x, torch.randint(CLASSES, (n,), generator=rng), first_id)


RUN = HandEvidence(
    data={name: some(30, 1000 * i, i) for i, name in enumerate(("forget", "retain", "test", "holdout"))},
    models={"original": BASE, "unlearned": NET.bake(1), "gold": BASE},
    request=Request("class", "0" * 64, classes=(1,)),
    artifacts=describe(NET, ["c0", "c1", "c2"], rows=[1], harden=0.0, parameters={}, log=[]),
)


def measured(run: HandEvidence = RUN, **params: object) -> dict[str, Reading]:
    found = list(InsertionDeletion(InsertionParams(**params)).measure(run))  # type: ignore[arg-type]
    assert [reading.name for reading in found] == list(NAMES)
    return {reading.name: reading for reading in found}


def values(run: HandEvidence = RUN, **params: object) -> list[float | None]:
    return [reading.value for reading in measured(run, **params).values()]


def sigmoid(alpha: Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-alpha.detach().double().numpy()))


def by_brute_force(c: int, x: Tensor, step: float) -> tuple[float, float]:
    """Insertion and deletion from the formulas, with numpy alone, one gate after the other."""
    weights = {name: t.detach().double().numpy() for name, t in BASE.state_dict().items()}
    inputs = x.flatten(1).double().numpy()
    alphas = [NET.alpha_weight[0][c], NET.alpha_bias[0][c], NET.alpha_weight[1][c]]
    row = [sigmoid(alpha) for alpha in alphas]
    orders = [sorted(range(len(gate)), key=lambda i, gate=gate: (gate[i], i)) for gate in row]  # type: ignore[misc]

    def confidence(gates: list[np.ndarray]) -> float:
        hidden = inputs @ (gates[0][:, None] * weights["0.weight"][:, :, 0, 0]).T + gates[1] * weights["0.bias"]
        hidden = np.maximum(hidden, 0) @ (gates[2][:, None] * weights["2.weight"][:, :, 0, 0]).T
        logits = hidden @ weights["4.weight"].T + weights["4.bias"]
        exp = np.exp(logits - logits.max(1, keepdims=True))
        return float((exp / exp.sum(1, keepdims=True))[:, c].mean())

    def curve(start: list[np.ndarray], value: float) -> float:
        found = []
        for i in range(round(1 / step) + 1):
            gates = [gate.copy() for gate in start]
            for gate, order in zip(gates, orders, strict=True):
                for position in order[: int(i * step * len(gate) + 0.5 + 1e-9)]:
                    gate[position] = value
            found.append(min(1.0, confidence(gates) / whole))
        return float(np.trapezoid(found, dx=step))

    ones = [np.ones_like(gate) for gate in row]
    whole = confidence(ones)
    return curve(row, 1.0), curve(ones, 0.0)


@pytest.mark.parametrize(("c", "step"), [(0, 0.05), (1, 0.05), (2, 0.25)])
def test_insertion_and_deletion_are_what_the_formulas_give(c: int, step: float) -> None:
    run = replace(RUN, request=replace(RUN.request, classes=(c,)))
    x = RUN.data["holdout"].x[RUN.data["holdout"].y == c]
    assert values(run, step=step)[:2] == pytest.approx(by_brute_force(c, x, step), rel=1e-5)


def test_several_classes_are_averaged_each_under_a_row_of_its_own() -> None:
    run = replace(RUN, request=replace(RUN.request, classes=(0, 2)))
    alone = [values(replace(RUN, request=replace(RUN.request, classes=(c,)))) for c in (0, 2)]
    found = measured(run)
    assert [reading.value for reading in found.values()] == pytest.approx(np.mean(np.array(alone), axis=0))
    assert found["insertion"].n == int((RUN.data["holdout"].y != 1).sum())


def test_rows_are_the_holdouts_and_the_forget_sets_where_a_class_has_none_there() -> None:
    found = measured()
    assert {reading.split for reading in found.values()} == {"holdout"}
    assert {reading.n for reading in found.values()} == {int((RUN.data["holdout"].y == 1).sum())}
    without = RUN.data["holdout"].rows((RUN.data["holdout"].y != 1).nonzero()[:, 0])
    run = replace(RUN, data={**RUN.data, "holdout": without})
    forget = RUN.data["forget"].x[RUN.data["forget"].y == 1]
    assert {reading.split for reading in measured(run).values()} == {"forget"}
    assert values(run)[:2] == pytest.approx(by_brute_force(1, forget, 0.05), rel=1e-5)
    both = measured(replace(run, request=replace(RUN.request, classes=(0, 1))))
    assert {reading.split for reading in both.values()} == {"forget"}


def test_a_class_without_any_row_has_a_status() -> None:
    nothing = {name: data.rows((data.y != 1).nonzero()[:, 0]) for name, data in RUN.data.items()}
    for reading in measured(replace(RUN, data=nothing)).values():
        assert (reading.value, reading.status, reading.n) == (None, "empty split", 0)


def test_controls_are_the_same_orders_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (values(replace(RUN, seed=seed), random_orders=2) for seed in (4, 4, 5))
    assert first == again
    assert first[:2] == other[:2]
    assert first[2:] != other[2:]


def test_more_random_orders_come_to_a_mean_between_the_extremes_of_single_ones() -> None:
    single = [values(replace(RUN, seed=seed), random_orders=1, step=0.25)[2:] for seed in range(30)]
    mean = values(random_orders=30, step=0.25)[2:]
    for k in range(2):
        drawn = [float(one[k] or 0) for one in single]
        assert min(drawn) < float(mean[k] or 0) < max(drawn)
        assert mean[k] == pytest.approx(fmean(drawn), abs=4 * float(np.std(drawn)) / np.sqrt(15))


def test_the_order_of_the_rows_does_not_matter() -> None:
    mixed = {name: shuffled_rows(data)[0] for name, data in RUN.data.items()}
    assert values(replace(RUN, data=mixed)) == values()


def test_what_has_no_gates_has_a_status() -> None:
    for run in (replace(RUN, artifacts={}), replace(RUN, subject="gold"), replace(RUN, subject="original")):
        for reading in measured(run).values():
            assert (reading.value, reading.status, reading.n) == (None, "no gates", 0)


def test_a_class_that_the_original_never_gives_any_probability_has_a_status() -> None:
    sure = small()
    with torch.no_grad():
        sure[4].bias.copy_(torch.tensor([0.0, -1e4, 0.0]))  # type: ignore[union-attr, operator]
    net = WFNet(sure, NET.targets, CLASSES)
    artifacts = describe(net, ["c0", "c1", "c2"], rows=[1], harden=0.0, parameters={}, log=[])
    run = replace(RUN, models={**RUN.models, "original": sure}, artifacts=artifacts)
    assert {(r.value, r.status) for r in measured(run).values()} == {(None, "no confidence in the original")}


def test_inputs_that_are_no_numbers_are_a_status() -> None:
    x = torch.full_like(RUN.data["holdout"].x, torch.nan)
    run = replace(RUN, data={**RUN.data, "holdout": replace(RUN.data["holdout"], x=x)})
    assert {(r.value, r.status) for r in measured(run).values()} == {(None, "non-finite")}


def test_every_reading_is_declared_with_its_direction() -> None:
    spec = next(spec for spec in unlearnbench_measures() if spec.name == "insertion-deletion")
    declared = {(reading.name, reading.better) for reading in spec.readings}
    for run in (RUN, replace(RUN, subject="gold")):
        assert {(reading.name, reading.better) for reading in measured(run).values()} == declared
