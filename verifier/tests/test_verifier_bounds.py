"""Weak duality: bounds against a solver, against brute force and by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from unlearnbench_verifier.bounds import cut, lower, upper
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.network import affine, pattern_of, read_network
from unlearnbench_verifier.numbers import Ball, Exact, Number

SYSTEMS = [Ball, Exact]


def random_problem(seed: int, rows: int = 12, features: int = 6):
    """An affine function, rows that are at least 0 at one point of the unit box, and that point."""
    rng = np.random.default_rng(seed)
    point = rng.random(features)
    g = rng.normal(size=(rows, features))
    h = rng.random(rows) * 0.3 - g @ point
    return rng.normal(size=features + 1), np.column_stack([g, h]), point


def solved(row, rows, low, high):
    """The largest value of the row by a solver, and its multipliers."""
    found = linprog(-row[:-1], A_ub=-rows[:, :-1], b_ub=rows[:, -1], bounds=np.column_stack([low, high]))
    assert found.status == 0
    return -found.fun + row[-1], [(k, -value) for k, value in enumerate(found.ineqlin.marginals) if value < -1e-12]


@pytest.mark.parametrize("numbers", SYSTEMS)
@pytest.mark.parametrize("seed", range(10))
def test_the_multipliers_of_a_solver_give_its_optimum(numbers: type[Number], seed: int) -> None:
    row, rows, _ = random_problem(seed)
    optimum, duals = solved(row, rows, np.zeros(6), np.ones(6))
    assert duals
    place = cut(numbers, 6, 0.0, 1.0)
    bound = upper(numbers.exactly(row), numbers.exactly(rows), duals, place)
    assert optimum - 1e-9 <= bound <= optimum + 1e-9
    least, duals = solved(-row, rows, np.zeros(6), np.ones(6))
    bound = lower(numbers.exactly(row), numbers.exactly(rows), duals, place)
    assert -least - 1e-9 <= bound <= -least + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_any_multipliers_give_a_bound_and_balls_never_one_below_the_exact_one(seed: int) -> None:
    row, rows, point = random_problem(seed, features=2)
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 201)] * 2), axis=-1).reshape(-1, 2)
    inside = np.vstack([point, grid[(grid @ rows[:, :2].T + rows[:, 2] >= 0).all(axis=1)]])
    values = inside @ row[:2] + row[2]
    for _ in range(10):
        duals = [(int(k), float(rng.exponential())) for k in rng.choice(12, size=4, replace=False)]
        bounds = {}
        for numbers in SYSTEMS:
            given = numbers.exactly(row), numbers.exactly(rows), duals, cut(numbers, 2, 0.0, 1.0)
            bounds[numbers] = lower(*given), upper(*given)
        assert bounds[Exact][0] <= values.min() + 1e-12
        assert values.max() - 1e-12 <= bounds[Exact][1]
        assert bounds[Ball][0] <= bounds[Exact][0] <= bounds[Exact][1] <= bounds[Ball][1]
        assert bounds[Ball][1] - bounds[Exact][1] < 1e-12


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_a_bound_by_hand(numbers: type[Number]) -> None:
    # Largest 3x + y + 1/4 where 1 - x - y >= 0 in the unit box: 13/4 at (1, 0). With multiplier 2: x - y + 9/4 in the
    # box, so 13/4 again; with multiplier 4: -x - 3y + 17/4, so 17/4; without one 17/4.
    row, rows = numbers.exactly([3.0, 1.0, 0.25]), numbers.exactly([[-1.0, -1.0, 1.0]])
    place = cut(numbers, 2, 0.0, 1.0)
    near = Fraction(1, 10**14)
    for duals, bound in [([(0, 2.0)], 13), ([(0, 4.0)], 17), ([], 17), ([(0, 1.5), (0, 0.5)], 13)]:
        assert 0 <= upper(row, rows, duals, place) - Fraction(bound, 4) <= (near if numbers is Ball else 0)


@pytest.mark.parametrize("numbers", SYSTEMS)
@pytest.mark.parametrize(
    "duals", [[(0, -1e-300)], [(0, float("nan"))], [(0, float("inf"))], [(-1, 1.0)], [(12, 1.0)]], ids=str
)
def test_multipliers_that_prove_nothing_are_refused(numbers: type[Number], duals: list[tuple[int, float]]) -> None:
    row, rows, _ = random_problem(0)
    with pytest.raises(Refusal, match="bad-duals"):
        upper(numbers.exactly(row), numbers.exactly(rows), duals, cut(numbers, 6, 0.0, 1.0))


def test_a_box_around_a_centre_is_exact_or_wider_where_floats_cannot_hold_its_sides() -> None:
    centre = np.array([0.1, 0.7, 1e-12], np.float32)
    radius = float(np.float32(0.3))
    exact, ball = (cut(numbers, 3, 0.0, 1.0, centre=centre, radius=radius) for numbers in SYSTEMS[::-1])
    low = [max(Fraction(float(value)) - Fraction(radius), Fraction(0)) for value in centre]
    high = [min(Fraction(float(value)) + Fraction(radius), Fraction(1)) for value in centre]
    assert exact.low.upper().tolist() == low
    assert exact.high.upper().tolist() == high
    assert all(ball.low.lower() <= low)
    assert all(ball.high.upper() >= high)
    # The bound uses those wider sides: 1e-12 + 0.3 needs more digits than a float has.
    row = np.array([0.0, 0.0, 1.0, 0.0])
    bounds = [
        upper(numbers.exactly(row), numbers.exactly(row[None]), [], place)
        for numbers, place in zip(SYSTEMS, (ball, exact), strict=True)
    ]
    assert bounds[1] == high[2] != float(high[2])
    assert bounds[1] <= bounds[0] <= bounds[1] + Fraction(1, 10**15)


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_an_infinite_radius_leaves_the_whole_box(numbers: type[Number]) -> None:
    whole = cut(numbers, 2, -1.0, 2.0, centre=np.zeros(2), radius=float("inf"))
    assert [whole.low.lower().tolist(), whole.high.upper().tolist()] == [[-1, -1], [2, 2]]


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_a_place_without_points_is_refused(numbers: type[Number]) -> None:
    with pytest.raises(Refusal, match="empty-box"):
        cut(numbers, 2, 0.0, 1.0, centre=np.array([0.5, 1.2]), radius=0.1)
    with pytest.raises(Refusal, match="empty-box"):
        cut(numbers, 2, 1.0, 0.0)
    touching = cut(numbers, 1, 0.0, 1.0, centre=np.array([1.25]), radius=0.25)
    assert touching.high.upper().item() >= 1 >= touching.low.lower().item()
    for centre, radius in [(None, 0.1), (np.zeros(3), 0.1), (np.array([np.nan, 0]), 0.1), (np.zeros(2), -0.1)]:
        with pytest.raises(Refusal, match="bad-input"):
            cut(numbers, 2, 0.0, 1.0, centre=centre, radius=radius)


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_a_bound_of_a_network_holds_at_the_points_of_its_region_and_is_reached(numbers: type[Number]) -> None:
    rng = np.random.default_rng(3)
    tensors = {
        "base.a": rng.normal(size=(8, 5)).astype("f4"),
        "base.b": rng.normal(size=8).astype("f4"),
        "base.c": rng.normal(size=(3, 8)).astype("f4"),
    }
    steps = [
        {"op": "linear", "inputs": [0], "weight": "base.a", "bias": "base.b"},
        {"op": "relu", "inputs": [1]},
        {"op": "linear", "inputs": [2], "weight": "base.c", "bias": None},
    ]
    document = {"format": "unlearnbench-network/1", "inputs": [5], "outputs": 3, "steps": steps}
    network = read_network(document, tensors)
    x = rng.random(5).astype("f4").astype("f8")
    found = affine(network, pattern_of(network, x, numbers), numbers)
    rows, outputs = (values.upper().astype(float) for values in (found.rows, found.outputs))
    optimum, duals = solved(outputs[1] - outputs[0], rows, np.maximum(x - 0.4, 0), np.minimum(x + 0.4, 1))
    place = cut(numbers, 5, 0.0, 1.0, centre=x, radius=0.4)
    bound = upper(found.outputs[1] - found.outputs[0], found.rows, duals, place)
    assert optimum - 1e-9 <= bound <= optimum + 1e-9
    points = np.clip(x + rng.uniform(-0.4, 0.4, (2000, 5)), 0, 1)
    hidden = points @ tensors["base.a"].T.astype("f8") + tensors["base.b"]
    same = ((hidden >= 0) == (x @ tensors["base.a"].T + tensors["base.b"] >= 0)).all(axis=1)
    gaps = (np.maximum(hidden, 0) @ tensors["base.c"].T.astype("f8"))[same]
    assert same.sum() > 10
    assert (gaps[:, 1] - gaps[:, 0]).max() <= float(bound) + 1e-9
