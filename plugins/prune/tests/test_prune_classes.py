"""The class form by hand: the one target, and the search for the sharpness on tables."""

from __future__ import annotations

import pytest
import torch

from unlearnbench.api.runtime import generator
from unlearnbench_prune.classes import Tried, choose_sharpness, class_target

OUTPUTS = torch.tensor([[9.0, 3.0, 2.0, 1.0], [9.0, 1.0, 2.0, 3.0], [9.0, 1.0, 4.0, 3.0], [9.0, 5.0, 1.0, 0.0]])
"""Class 0 is forgotten; second best are 1, 3, 2, 1, and the least 3, 1, 1, 3."""


def test_the_target_of_a_class_is_what_most_of_its_rows_would_be_otherwise() -> None:
    assert class_target(OUTPUTS, [0], "second", generator(0)) == 1
    assert class_target(OUTPUTS, [0, 1], "second", generator(0)) == 2  # 2, 3, 2, 2
    assert class_target(OUTPUTS, [0], "least", generator(0)) == 1  # two rows each: the lower class
    assert class_target(OUTPUTS[[0, 3, 1]], [0], "least", generator(0)) == 3


def test_a_random_target_is_any_class_that_stays_and_nothing_else() -> None:
    rng = generator(1)
    drawn = [class_target(OUTPUTS, [2, 0], "random", rng) for _ in range(200)]
    assert set(drawn) == {1, 3}
    assert 60 < drawn.count(1) < 140
    with pytest.raises(ValueError, match="every class"):
        class_target(OUTPUTS, [0, 1, 2, 3], "second", rng)


TABLE = {0.1: 0.60, 0.3: 0.80, 1.0: 0.90, 3.0: 0.93, 10.0: 0.95}


def test_the_least_sharpness_within_the_drop_is_taken_and_no_larger_one_is_tried() -> None:
    found = choose_sharpness(tuple(TABLE), TABLE.__getitem__, 0.95, 0.04)
    assert (found.sharpness, found.warning) == (3.0, "")
    assert [one.sharpness for one in found.tried] == [0.1, 0.3, 1.0, 3.0]
    assert found.tried[0] == Tried(0.1, 0.60, pytest.approx(0.35))


def test_a_drop_of_exactly_the_limit_is_allowed_although_the_difference_rounds_up() -> None:
    assert 0.95 - 0.90 > 0.05 - 1e-12
    assert 1.0 - 0.95 > 0.05  # a rounded difference, a hair above the limit
    found = choose_sharpness((0.1, 0.3), {0.1: 0.94, 0.3: 0.95}.__getitem__, 1.0, 0.05)
    assert found.sharpness == 0.3
    assert found.warning == ""


def test_candidates_are_tried_in_ascending_order_and_once_each() -> None:
    asked: list[float] = []

    def accuracy(sharpness: float) -> float:
        asked.append(sharpness)
        return TABLE[sharpness]

    assert choose_sharpness((10.0, 0.1, 3.0, 0.1), accuracy, 0.95, 0.0).sharpness == 10.0
    assert asked == [0.1, 3.0, 10.0]


def test_the_largest_is_taken_with_a_warning_where_none_is_within_the_drop() -> None:
    found = choose_sharpness(tuple(TABLE), TABLE.__getitem__, 1.0, 0.02)
    assert found.sharpness == 10.0
    assert len(found.tried) == 5
    assert found.warning == (
        "no sharpness keeps the other classes: 10, the largest, lowers their accuracy by 0.05 of 1, where 0.02 is "
        "allowed"
    )


def test_an_accuracy_that_rises_is_no_drop() -> None:
    assert choose_sharpness((0.5,), {0.5: 0.97}.__getitem__, 0.95, 0.0).warning == ""
    with pytest.raises(ValueError, match="no sharpness"):
        choose_sharpness((), TABLE.__getitem__, 1.0, 0.0)
