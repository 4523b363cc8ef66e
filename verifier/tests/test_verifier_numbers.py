"""The two number systems: exact numbers against fractions, balls against exact numbers."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.numbers import Ball, Exact, Floats, Number, Undecided

SYSTEMS = [Ball, Exact]


def wide(rng: np.random.Generator, *shape: int, decades: float = 3.0) -> Floats:
    """Floats of very different sizes, a few of them 0."""
    values = rng.normal(size=shape) * 10.0 ** rng.uniform(-decades, decades, size=shape)
    return np.where(rng.random(shape) < 0.1, 0.0, values)


def exactly(values: Number) -> list[Fraction]:
    assert isinstance(values, Exact)
    return [Fraction(value) for value in values.upper().reshape(-1)]


def assert_encloses(ball: Number, exact: Number) -> None:
    assert ball.shape == exact.shape
    low, high = ball.lower().reshape(-1), ball.upper().reshape(-1)
    for below, value, above in zip(low, exactly(exact), high, strict=True):
        assert below <= value <= above


def chain(numbers: type[Number], seed: int, decades: float) -> list[Number]:
    """Every operation, each on what the ones before it made."""
    rng = np.random.default_rng(seed)
    x = numbers.exactly(wide(rng, 6, 4, decades=decades))
    y = x.weighted(wide(rng, 5, 6, decades=decades))
    z = y + numbers.exactly(wide(rng, 5, 4, decades=decades))
    w = z * y - z[::-1] * numbers.exactly(wide(rng, 5, 1, decades=decades))
    active = w.relu()
    again = numbers.joined([active, y], axis=0).weighted(wide(rng, 3, 10, decades=decades))
    top = numbers.joined([again, -again]).largest()
    low = numbers.exactly(-np.abs(wide(rng, 4))) * numbers.exactly(0.1)
    high = low + numbers.exactly(np.abs(wide(rng, 4)))
    return [x, y, z, w, active, again, top, top.corner(low, high), again.reshaped(2, 6)[:, 1:3]]


@pytest.mark.parametrize("decades", [0.5, 6.0, 20.0])
@pytest.mark.parametrize("seed", range(8))
def test_balls_enclose_exact_numbers_after_every_operation(seed: int, decades: float) -> None:
    for ball, exact in zip(chain(Ball, seed, decades), chain(Exact, seed, decades), strict=True):
        assert_encloses(ball, exact)


def test_a_ball_is_narrow_after_a_large_matrix_product() -> None:
    rng = np.random.default_rng(0)
    ball = Ball.exactly(rng.random((700, 3))).weighted(rng.random((20, 700)))
    assert (ball.radius < 1e-12 * np.abs(ball.middle)).all()
    assert (ball.radius > 0).all()


def test_balls_enclose_exact_numbers_where_every_digit_is_lost() -> None:
    big = np.array([[1e16, 1.0, -1e16, 1e-16]])
    column = np.ones((4, 1))
    for weights in (big, big[:, ::-1], big[:, [0, 2, 1, 3]], big[:, [1, 3, 0, 2]]):
        assert_encloses(Ball.exactly(column).weighted(weights), Exact.exactly(column).weighted(weights))


TINY = [5e-324, 3e-320, 2.3e-308, 1e-200, 1e-160, 1e-154, 1.0, 1e150, 1e200]


PAIRS = [(a, b) for a, b in itertools.combinations_with_replacement(TINY, 2) if a < 1e149 / b]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_balls_enclose_exact_numbers_where_products_underflow(pair: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    a, b = np.float64(pair[0]) * np.array([[1.0, 1.5, -1.25]]), np.float64(pair[1]) * rng.uniform(0.5, 1, (3, 2))
    third = {numbers: numbers.exactly(1 / 3) * numbers.exactly(np.float64(0.1)) for numbers in SYSTEMS}
    made = {}
    for numbers in SYSTEMS:
        product = numbers.exactly(b).weighted(a)
        made[numbers] = [product, product * third[numbers], (product * product[:, ::-1]).weighted(np.array([[1e-3]]))]
        made[numbers].append((numbers.exactly(b) * third[numbers]).weighted(a))
    for ball, exact in zip(made[Ball], made[Exact], strict=True):
        assert_encloses(ball, exact)


def test_a_weight_cannot_blow_up_an_error_that_was_rounded_to_nothing() -> None:
    column = np.full((40, 1), 5e-324) * np.arange(1, 41)[:, None]
    weights = (2.0**1000) * np.random.default_rng(2).uniform(0.5, 1, (1, 40))
    assert_encloses(Ball.exactly(column).weighted(weights), Exact.exactly(column).weighted(weights))


@pytest.mark.parametrize("seed", range(5))
def test_exact_numbers_are_what_fractions_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b, w = wide(rng, 3, 4), wide(rng, 3, 4), wide(rng, 2, 3)
    fa, fb = [Fraction(value) for value in a.ravel().tolist()], [Fraction(value) for value in b.ravel().tolist()]
    left, right = Exact.exactly(a), Exact.exactly(b)
    assert exactly(left) == fa
    assert exactly(left + right) == [p + q for p, q in zip(fa, fb, strict=True)]
    assert exactly(left - right) == [p - q for p, q in zip(fa, fb, strict=True)]
    assert exactly(left * right) == [p * q for p, q in zip(fa, fb, strict=True)]
    assert exactly(left.relu()) == [max(p, Fraction(0)) for p in fa]
    assert exactly(left.largest()) == [max(fa[column::4]) for column in range(4)]
    product = [
        sum((Fraction(w[o, k]) * fa[4 * k + column] for k in range(3)), Fraction(0))
        for o in range(2)
        for column in range(4)
    ]
    assert exactly(left.weighted(w)) == product
    sparse = np.where(rng.random(a.shape) < 0.8, 0.0, a)
    dense = [
        sum((Fraction(w[o, k]) * Fraction(sparse[k, column]) for k in range(3)), Fraction(0))
        for o in range(2)
        for column in range(4)
    ]
    assert exactly(Exact.exactly(sparse).weighted(w)) == dense


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -1.5, 0.1, 5e-324, -2.3e-308, 1.7976931348623157e308, 2.0**53 - 1])
def test_exact_numbers_take_every_float_without_an_error(value: float) -> None:
    assert exactly(Exact.exactly(value)) == [Fraction(value)]
    assert exactly(Exact.exactly([value, 3.0])) == [Fraction(value), Fraction(3)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("numbers", SYSTEMS)
def test_the_corner_is_the_best_of_all_corners(numbers: type[Number], seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, low = rng.normal(size=6), rng.normal(size=6)
    high = low + rng.random(6)
    best = max(
        sum(Fraction(r) * Fraction(v) for r, v in zip(row.tolist(), corner, strict=True))
        for corner in itertools.product(*zip(low.tolist(), high.tolist(), strict=True))
    )
    found = numbers.exactly(row).corner(numbers.exactly(low), numbers.exactly(high)).upper().item()
    assert best <= found <= best + Fraction(1, 10**13)
    assert numbers is Ball or found == best


def test_the_corner_of_a_ball_counts_coefficients_whose_sign_is_open() -> None:
    open_sign = Ball(np.array([1e-20]), np.array([1e-3]))
    low, high = Ball.exactly([-100.0]), Ball.exactly([1.0])
    assert open_sign.corner(low, high).upper().item() >= Fraction(1, 1000) * 100 * (1 - Fraction(1, 10**15))


def test_wide_balls_hold_the_products_and_the_positive_parts_of_all_their_numbers() -> None:
    product = Ball(np.array([2.0, -2.0]), np.array([1.0, 1.0])) * Ball(np.array([3.0, 3.0]), np.array([1.0, 1.0]))
    assert (product.lower() <= [2, -12]).all()
    assert (product.upper() >= [12, -2]).all()
    positive = Ball(np.array([-0.25, 0.25, -2.0]), np.array([0.5, 0.5, 1.0])).relu()
    assert (positive.lower() <= 0).all()
    assert (positive.upper() >= [Fraction(1, 4), Fraction(3, 4), 0]).all()
    assert (positive.upper() <= [0.26, 0.76, 0.01]).all()


def test_the_radius_itself_is_rounded_up() -> None:
    rng = np.random.default_rng(5)
    first, second, factors = rng.random((60, 50)), rng.random((60, 50)) * 1e-9, rng.random((60, 50))
    centre = np.zeros((60, 50))
    total = Ball(centre, first) + Ball(centre, second)
    scaled = Ball(centre, first) * Ball.exactly(factors)
    row = Ball(centre, first).weighted(factors[:1, :1].repeat(60, axis=1) - 1)
    as_fractions = np.frompyfunc(Fraction, 1, 1)
    exact = as_fractions(first)
    assert (total.upper() >= exact + as_fractions(second)).all()
    assert (scaled.upper() >= exact * as_fractions(factors)).all()
    assert (row.upper() >= exact.sum(axis=0) * abs(Fraction(factors[0, 0] - 1))).all()


def test_products_that_are_lost_to_underflow_are_within_the_radius() -> None:
    for pair in [(1e-200, 1e-200), (3e-160, 7e-160), (5e-324, 0.5)]:
        assert_encloses(Ball.exactly(pair[0]) * Ball.exactly(pair[1]), Exact.exactly(pair[0]) * Exact.exactly(pair[1]))


def test_what_cannot_be_rounded_has_no_radius() -> None:
    values = Ball.exactly([0.1, -0.3, 1e-310, 0.0])
    for factor in (0.0, 1.0, -1.0):
        assert (values * Ball.exactly(factor)).radius.tolist() == [0.0] * 4
    assert (values + Ball.exactly(0.0)).radius.tolist() == [0.0] * 4
    beside_a_tiny_one = Ball(np.array([1.0, 0.0]), np.array([1e-300, 0.0])) * Ball.exactly(1e-10)
    assert beside_a_tiny_one.radius[1] == 0 < beside_a_tiny_one.radius[0]


def test_the_corner_takes_the_widest_box_that_uncertain_sides_allow() -> None:
    low, high = Ball(np.array([-1.0]), np.array([0.25])), Ball(np.array([1.0]), np.array([0.5]))
    assert Ball.exactly([2.0]).corner(low, high).upper().item() >= 3
    assert Ball.exactly([-2.0]).corner(low, high).upper().item() >= Fraction(5, 2)


# -- comparisons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_zero_counts_as_active_and_the_least_negative_number_does_not(numbers: type[Number]) -> None:
    values = numbers.exactly([0.0, -0.0, 5e-324, -5e-324, 2.0, -2.0])
    assert values.active().tolist() == [True, True, True, False, True, False]


def test_a_zero_that_is_certain_stays_certain_through_a_unit_that_is_off() -> None:
    unsure = Ball.exactly([[0.1], [0.2]]).weighted(np.array([[0.3, 0.7]]))
    assert unsure.radius[0, 0] > 0
    off = (unsure * Ball.exactly([[0.0]])).weighted(np.array([[3.3]]))
    assert off.active().all()


def test_a_ball_around_zero_is_undecided_and_the_exact_number_is_not() -> None:
    weights = np.array([[0.1, 0.2, -0.3]])
    ones = np.ones((3, 1))
    with pytest.raises(Undecided):
        Ball.exactly(ones).weighted(weights).active()
    exact = Fraction(0.1) + Fraction(0.2) - Fraction(0.3)
    assert Exact.exactly(ones).weighted(weights).active().item() is (exact >= 0)


def test_a_ball_that_reaches_down_to_zero_and_no_further_is_active() -> None:
    assert Ball(np.array([1.0]), np.array([1.0])).active().all()
    with pytest.raises(Undecided):
        Ball(np.array([-1.0]), np.array([1.0])).active()


@pytest.mark.parametrize("numbers", SYSTEMS)
def test_the_first_of_equal_values_wins_and_what_is_absent_never_does(numbers: type[Number]) -> None:
    columns = np.array([[9.0, 1.0, -3.0, 0.0], [5.0, 1.0, -2.0, 0.0], [5.0, 1.0, -2.0, 7.0]])
    present = np.array([[False, True, True, True], [True, True, True, True], [True, True, True, False]])
    assert numbers.exactly(columns).first_largest(present).tolist() == [1, 0, 1, 0]


def test_a_winner_is_undecided_only_where_it_matters() -> None:
    third = Ball(np.array([0.3, 0.3, 5.0]), np.array([1e-9, 1e-9, 0.0]))
    with pytest.raises(Undecided):
        third.first_largest(np.array([True, True, False]))
    assert third.first_largest(np.array([True, True, True])) == 2
    assert third.first_largest(np.array([False, True, False])) == 1


def test_numbers_too_large_for_floats_are_refused_by_balls_and_kept_by_exact_numbers() -> None:
    values, weights = np.full((2, 1), 1e300), np.array([[1e300, -1e300]])
    with pytest.raises(Refusal, match="overflow"):
        Ball.exactly(values).weighted(weights)
    with pytest.raises(Refusal, match="overflow"):
        Ball.exactly(values) * Ball.exactly(1e300)
    with pytest.raises(Refusal, match="overflow"):
        Ball.exactly([1e308]) + Ball.exactly([1e308])
    assert exactly(Exact.exactly(values).weighted(weights)) == [Fraction(0)]
    assert exactly(Exact.exactly([1e308]) + Exact.exactly([1e308])) == [2 * Fraction(1e308)]
