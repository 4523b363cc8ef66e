"""Epsilon against loops over every threshold and against cases worked by hand."""

import math
from itertools import product
from time import process_time

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import expit, logit

from unlearnbench_forgetting_score.epsilon import (
    CAP,
    DELTA,
    LIMIT,
    confidences,
    epsilons,
    interval_grid,
    shown,
    single_grid,
)

Array = NDArray[np.float64]
NEAR = 1e-9
"""An interval whose end is a value holds it, whichever way the end was rounded."""


def by_loops(unlearned: Array, retrained: Array) -> float:
    """Epsilon of one row, every threshold of the official definition in turn."""
    positive, negative = unlearned, retrained
    if np.median(retrained) > np.median(unlearned):
        positive, negative = retrained, unlearned
    wide, narrow = positive, negative
    if np.ptp(positive) < np.ptp(negative):
        wide, narrow = negative, positive
    if np.ptp(narrow) / np.ptp(wide) < 0.01:
        return 50.0
    both = np.concatenate([positive, negative])
    found = [
        by_definition(np.mean(negative >= threshold), np.mean(positive < threshold))
        for threshold in np.linspace(both.min(), both.max(), math.ceil(np.ptp(both) * 100))
    ]
    width = np.ptp(narrow)
    for right in np.linspace(narrow.min() + width - 2, narrow.max() + 2, 400):
        for left in np.linspace(right - width - 2, right - width + 2, 400):
            caught = (narrow >= left - NEAR) & (narrow <= right + NEAR)
            wrong = (wide >= left - NEAR) & (wide <= right + NEAR)
            found.append(by_definition(np.mean(wrong), np.mean(~caught)))
    kept = [epsilon for epsilon in found if epsilon is not None]
    return min(max(kept), 50.0)


def by_definition(fpr: float, fnr: float) -> float | None:
    if fpr == 0 and fnr == 0:
        return math.inf
    if fpr == 0 or fnr == 0:
        return None
    shown = [0.0]
    if 1 - DELTA - fpr > 0:
        shown.append(math.log(1 - DELTA - fpr) - math.log(fnr))
    if 1 - DELTA - fnr > 0:
        shown.append(math.log(1 - DELTA - fnr) - math.log(fpr))
    return max(shown)


def column(*values: float) -> Array:
    return np.array(values, dtype=np.float64)[:, None]


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.0, 1.0), (-2.0, 1.0), (0.0, 0.2), (0.5, 4.0)])
def test_epsilon_is_the_largest_over_every_threshold_of_both_families(shift: float, scale: float) -> None:
    rng = np.random.default_rng(7)
    unlearned, retrained = rng.normal(shift, scale, 5), rng.normal(0, 1, 5)
    ours = epsilons(unlearned[:, None], retrained[:, None])
    assert ours == pytest.approx(by_loops(unlearned, retrained), abs=1e-12)


def test_kinds_of_different_size_are_compared_too() -> None:
    rng = np.random.default_rng(1)
    unlearned, retrained = rng.normal(0.3, 1, 4), rng.normal(0, 1, 7)
    assert epsilons(unlearned[:, None], retrained[:, None]) == pytest.approx(by_loops(unlearned, retrained), abs=1e-12)


def test_the_grid_of_the_single_family_is_a_hundred_thresholds_in_a_unit_with_both_ends() -> None:
    found = single_grid(np.array([-1.0, 0.0]), np.array([0.5, 1.505]))
    assert len(found) == 251  # ceil(2.505 * 100)
    assert (found[0], found[-1]) == (-1.0, 1.505)
    assert np.diff(found) == pytest.approx(np.full(250, 2.505 / 250))


def test_the_grid_of_the_interval_family_is_400_right_ends_with_400_left_ends_each() -> None:
    low, high = -0.3, 1.1
    right, points = interval_grid(np.array([low, 0.4, high]))
    left = sliding_window_view(points, 400)
    assert right.shape == (400,)
    assert left.shape == (400, 400)
    assert right == pytest.approx(np.linspace(high - 2, high + 2, 400), abs=1e-12)
    for i in (0, 1, 199, 399):
        width = high - low
        assert left[i] == pytest.approx(np.linspace(right[i] - width - 2, right[i] - width + 2, 400), abs=1e-12)


def test_an_interval_finds_what_no_single_threshold_does() -> None:
    outside, inside = column(-3, -2.9, 2.9, 3), column(-0.2, -0.1, 0.1, 0.2)
    assert epsilons(outside, inside) == [CAP]  # all are told apart by [-1, 1]


def test_a_single_threshold_finds_what_no_interval_near_the_ends_does() -> None:
    """The threshold 9 gets one model of either kind wrong; intervals start within 4 of 0, so they hold what is at 5."""
    upper = column(0, 12, 13, 14, 15, 16, 17, 18, 19, 20)
    lower = column(-2, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 20.5)
    expected = [math.log((1 - DELTA - 0.1) / 0.1)]
    assert epsilons(upper, lower) == pytest.approx(expected)
    assert epsilons(lower, upper) == pytest.approx(expected)  # the kind with the larger median is the positive one


def test_where_the_grids_are_too_coarse_the_largest_over_all_values_counts() -> None:
    """All values lie between two thresholds. [4, 6] gets one of five wrong of either kind; single ones show ln 2."""
    inner, outer = (1e-4 * column(*values) for values in ((4, 4.5, 5.5, 6, 11), (0, 1, 5, 9, 10)))
    expected = [math.log((1 - DELTA - 0.2) / 0.2)]
    assert epsilons(inner, outer) == pytest.approx(expected)
    assert epsilons(outer, inner) == pytest.approx(expected)


def test_an_attack_is_judged_by_the_worse_of_its_two_log_ratios() -> None:
    # One error of 10 negatives, five of 10 positives: the larger ratio is ln(1 - d - .5) - ln(.1), not the smaller.
    assert shown(10, 10)[1, 5] == pytest.approx(math.log(0.5 - DELTA) - math.log(0.1))
    assert shown(10, 10)[1, 5] > math.log(0.9 - DELTA) - math.log(0.5)
    assert shown(10, 10)[5, 1] == shown(10, 10)[1, 5]


def test_what_an_attack_shows_is_right_for_all_numbers_of_errors() -> None:
    table = shown(3, 4)
    for fp, fn in product(range(5), range(4)):
        expected = by_definition(fp / 4, fn / 3)
        if expected is None or (fp, fn) == (4, 3):  # always wrong: neither ratio exists
            assert table[fp, fn] == -math.inf
        else:
            assert table[fp, fn] == pytest.approx(expected)


def test_thresholds_with_errors_of_one_kind_alone_are_dropped_and_without_any_are_proof() -> None:
    table = shown(8, 8)
    assert (table[0, 1:] == -math.inf).all()
    assert (table[1:, 0] == -math.inf).all()
    assert table[0, 0] == math.inf


def test_kinds_that_do_not_overlap_are_at_the_cap() -> None:
    assert epsilons(column(1, 2, 3), column(4, 5, 6)) == [CAP]
    assert epsilons(column(4, 5, 6), column(1, 2, 3)) == [CAP]


def test_a_kind_that_hardly_varies_is_at_the_cap_even_amid_the_other() -> None:
    wide = column(-5, -1, 0.001, 1, 5)
    assert epsilons(column(0, 0.001, 0.002, 0.05, 0.0999), wide) == [CAP]  # ranges: .0999 against 10
    assert epsilons(column(0, 0.001, 0.002, 0.05, 0.1001), wide) < [CAP]  # just above 1 %, and one value among them


def test_a_row_on_which_all_models_agree_to_the_last_bit_has_epsilon_0() -> None:
    assert epsilons(column(2, 2, 2), column(2, 2, 2)) == [0]
    assert epsilons(column(2, 2, 2), column(3, 3, 3)) == [CAP]


def test_a_row_without_a_usable_threshold_is_judged_with_every_value_as_a_threshold() -> None:
    # Within .005 the grid of .01 has nothing between the values; the official code stops here.
    unlearned, retrained = column(0, 0.002, 0.004), column(0.001, 0.003, 0.005)
    wider = epsilons(100 * unlearned, 100 * retrained)
    assert epsilons(unlearned, retrained) == pytest.approx(wider)
    assert 0 < float(wider[0]) < 2


def test_rows_do_not_touch_each_other_and_models_have_no_order() -> None:
    rng = np.random.default_rng(3)
    unlearned, retrained = rng.normal(0.5, 1, (8, 6)), rng.normal(0, 1, (8, 6))
    together = epsilons(unlearned, retrained)
    assert (together == [epsilons(unlearned[:, [i]], retrained[:, [i]])[0] for i in range(6)]).all()
    assert (together == epsilons(unlearned[::-1], rng.permuted(retrained, axis=0))).all()


def test_confidence_is_the_logit_of_the_probability_and_keeps_its_digits_where_that_is_1() -> None:
    z = torch.tensor([[[2.0, 0.0, -1.0], [60.0, 0.0, 0.0], [1e4, 0.0, 0.0]]])
    found = confidences(z, torch.tensor([0, 0, 1]))
    assert found[0, 0] == pytest.approx(logit(np.exp(2) / (np.exp(2) + 1 + np.exp(-1))))
    assert found[0, 1] == pytest.approx(60 - math.log(2))
    assert expit(found[0, 1]) == 1  # where a logit of the probability would be infinite
    assert found[0, 2] == -LIMIT
    assert pytest.approx(-math.log(1e-45), rel=1e-3) == LIMIT


def test_a_hundred_rows_at_64_models_take_less_than_a_second_of_one_core() -> None:
    rng = np.random.default_rng(0)
    unlearned, retrained = rng.normal(0, 2, (64, 100)), rng.normal(0, 2, (64, 100))
    start = process_time()
    epsilons(unlearned, retrained)
    assert process_time() - start < 1
