"""Bounds over a box: by hand, against points of the box, balls against exact numbers, and every kind of step."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.intervals import intervals, lead
from unlearnbench_verifier.network import Network, outputs_of, read_network
from unlearnbench_verifier.numbers import Ball, Exact

BOXES = [(0.0, 1.0), (-2.0, 0.5), (0.1, 0.1000001), (3.0, 3.0)]
Tensors = dict[str, np.ndarray]


def network(inputs: list[int], outputs: int, steps: list[dict[str, Any]], tensors: Tensors) -> Network:
    """A document's network; a step takes the value before it unless it says more."""
    numbered = [{"inputs": [place], **step} for place, step in enumerate(steps)]
    document = {"format": "unlearnbench-network/1", "inputs": inputs, "outputs": outputs, "steps": numbered}
    return read_network(document, tensors)


def by_hand(bent: bool = False) -> Network:
    """x1 - x2 and 2 x1 + x2 - 1, bent, then h1 + h2, 2 h1 + h2 and -h2; bent once more if told."""
    tensors = {
        "a": np.float32([[1, -1], [2, 1]]), "b": np.float32([0, -1]), "c": np.float32([[1, 1], [2, 1], [0, -1]]),
    }  # fmt: skip
    steps = [
        {"op": "linear", "weight": "a", "bias": "b"},
        {"op": "relu"},
        {"op": "linear", "weight": "c", "bias": None},
        *[{"op": "relu"}] * bent,
    ]
    return network([2], 3, steps, tensors)


def every_step(seed: int) -> Network:
    """Convolutions with groups, strides and dilation, moments of either sign, both pools with padding, a sum."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}

    def tensor(*shape: int, positive: bool = False) -> str:
        values = rng.random(shape) + 0.1 if positive else rng.normal(size=shape)
        tensors[name := f"base.{len(tensors)}"] = values.astype(np.float32)
        return name

    plain = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    odd = {"stride": [1, 2], "dilation": [2, 1]}
    moments = {"mean": tensor(4), "variance": tensor(4, positive=True), "epsilon": 1e-5}
    steps: list[Mapping[str, Any]] = [
        {"op": "conv2d", "weight": tensor(4, 2, 3, 3), "bias": tensor(4), **plain},
        {"op": "batch_norm", "weight": tensor(4), "bias": tensor(4), **moments},
        {"op": "relu"},
        {"op": "conv2d", "weight": tensor(4, 2, 3, 3), "bias": None, **plain, "groups": 2},
        {"op": "batch_norm", "weight": None, "bias": None, **moments},
        {"op": "add", "inputs": [3, 5]},
        {"op": "leaky_relu", "slope": 0.1},
        {"op": "max_pool", "kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]},
        {"op": "conv2d", "weight": tensor(3, 4, 2, 2), "bias": tensor(3), **plain, **odd},
        {"op": "avg_pool", "kernel": [2, 3], "stride": [1, 1], "padding": [1, 0]},
        {"op": "flatten"},
    ]
    flat = 3 * 4 * 2
    steps.append({"op": "linear", "weight": tensor(4, flat), "bias": tensor(4)})
    return network([2, 5, 6], 4, [dict(step) for step in steps], tensors)


def test_ends_by_hand() -> None:
    # On [0, 1]^2: x1 - x2 in [-1, 1] and 2 x1 + x2 - 1 in [-1, 2]; bent [0, 1] and [0, 2].
    for numbers in (Ball, Exact):
        last = intervals(by_hand(), 0.0, 1.0, numbers)[-1]
        assert [float(end) for end in last.low.lower()[:, 0]] == pytest.approx([0, 0, -2], abs=1e-12)
        assert [float(end) for end in last.high.upper()[:, 0]] == pytest.approx([3, 4, 0], abs=1e-12)
    exactly = intervals(by_hand(), 0.0, 1.0, Exact)[-1]
    assert exactly.high.upper()[:, 0].tolist() == [3, 4, 0]


def test_a_lead_is_bounded_as_one_row_where_the_last_step_is_linear() -> None:
    # f0 - f1 = -h1 is at most 0, although f0 can be 3 and f1 can be 0; f1 - f2 = 2 h1 + 2 h2 is at most 6.
    assert lead(by_hand(), 0, 1, 0.0, 1.0, Exact) == 0
    assert lead(by_hand(), 1, 2, 0.0, 1.0, Exact) == 6
    assert lead(by_hand(bent=True), 0, 1, 0.0, 1.0, Exact) == 3


def test_an_output_that_is_not_there_has_no_lead() -> None:
    with pytest.raises(Refusal, match="bad-output"):
        lead(by_hand(), 0, 3, 0.0, 1.0, Ball)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("seed", range(3))
def test_no_input_of_the_box_leads_to_values_beyond_the_bounds(seed: int, box: tuple[float, float]) -> None:
    made = every_step(seed)
    rng = np.random.default_rng(seed)
    ends = intervals(made, *box, Ball)[-1]
    low, high = ends.low.lower()[:, 0], ends.high.upper()[:, 0]
    leads = {pair: lead(made, *pair, *box, Ball) for pair in itertools.permutations(range(4), 2)}
    corners = rng.integers(0, 2, (20, made.features)).astype(float)
    for share in (*corners, *rng.random((20, made.features))):
        said = outputs_of(made, np.clip(box[0] + (box[1] - box[0]) * share, *box), Exact).upper()
        assert (low <= said).all()
        assert (said <= high).all()
        assert all(said[i] - said[j] <= bound for (i, j), bound in leads.items())


@pytest.mark.parametrize("box", BOXES)
def test_balls_hold_what_exact_numbers_find_and_hardly_more(box: tuple[float, float]) -> None:
    made = every_step(5)
    for ball, exact in zip(intervals(made, *box, Ball), intervals(made, *box, Exact), strict=True):
        for end, true in ((ball.low, exact.low.upper()), (ball.high, exact.high.upper())):
            assert (end.lower() <= true).all()
            assert (true <= end.upper()).all()
        assert float((ball.high.upper() - exact.high.upper()).max()) < 1e-9
    for pair in ((0, 1), (3, 2)):
        found, true = (lead(made, *pair, *box, numbers) for numbers in (Ball, Exact))
        assert true <= found <= true + Fraction(1, 10**9)


def test_at_a_single_point_the_bounds_are_what_the_network_answers() -> None:
    made = every_step(1)
    said = outputs_of(made, np.full(made.features, 3.0), Exact).upper()
    ends = intervals(made, 3.0, 3.0, Exact)[-1]
    assert (ends.low.upper()[:, 0] == said).all()
    assert (ends.high.upper()[:, 0] == said).all()
    assert lead(made, 2, 0, 3.0, 3.0, Exact) == said[2] - said[0]


def test_bounds_of_one_linear_step_are_reached_in_corners() -> None:
    weight = np.random.default_rng(3).normal(size=(3, 5)).astype(np.float32)
    made = network([5], 3, [{"op": "linear", "weight": "w", "bias": None}], {"w": weight})
    corners = np.array(list(itertools.product((-1.0, 2.0), repeat=5)))
    rows = [[Fraction(float(value)) for value in row] for row in weight]
    exact = [[sum(Fraction(x) * w for x, w in zip(corner, row, strict=True)) for row in rows] for corner in corners]
    assert lead(made, 0, 2, -1.0, 2.0, Exact) == max(said[0] - said[2] for said in exact)
    assert intervals(made, -1.0, 2.0, Exact)[-1].high.upper()[1, 0] == max(said[1] for said in exact)


def test_numbers_that_grow_beyond_floats_are_refused_in_balls_and_worked_out_exactly() -> None:
    large = {"w": np.full((2, 2), 1e200), "v": np.full((2, 2), 1e200)}
    steps = [{"op": "linear", "weight": name, "bias": None} for name in ("w", "v")]
    made = network([2], 2, steps, large)
    with pytest.raises(Refusal, match="overflow"):
        intervals(made, 0.0, 1.0, Ball)
    assert lead(made, 0, 1, 0.0, 1.0, Exact) == 0
