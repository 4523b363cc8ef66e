"""From epsilons to the score, its intervals, and what two samples of one distribution get."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from unlearnbench_forgetting_score.epsilon import CAP, epsilons
from unlearnbench_forgetting_score.score import accuracy, median_interval, points


@pytest.mark.parametrize("n", [3, 16, 64, 512])
def test_points_are_those_of_the_official_buckets(n: int) -> None:
    worst, start, worth, buckets = math.ceil(math.log(n - 1)), 0.0, 1.0, []
    while start + 0.5 <= worst:
        buckets.append((start + 0.5, worth))
        start, worth = start + 0.5, worth / 2
    grid = np.concatenate([np.arange(0, 9, 0.125), [CAP]])
    expected = [next((worth for end, worth in buckets if epsilon < end), 0.0) for epsilon in grid]
    assert points(grid, n).tolist() == expected


def test_points_by_hand() -> None:
    assert points(np.array([0.0, 0.49, 0.5, 1.7, 6.99, 7.0, 50.0]), 512).tolist() == [1, 1, 0.5, 0.125, 2**-13, 0, 0]
    assert points(np.array([4.99, 5.0]), 64).tolist() == [2**-9, 0]


@pytest.mark.parametrize("n", [16, 64])
def test_models_of_one_distribution_get_far_less_than_the_full_score(n: int) -> None:
    """The largest of many attacks finds something in any two samples: this is the floor that gold has."""
    rng = np.random.default_rng(0)
    found = epsilons(rng.normal(0, 2, (n, 200)), rng.normal(0, 2, (n, 200)))
    assert 1.2 < np.median(found) < 2.5
    assert 0.07 < points(found, n).mean() < 0.25
    assert not (found == CAP).any()


def test_models_that_moved_get_less_than_the_floor() -> None:
    rng = np.random.default_rng(0)
    retrained = rng.normal(0, 1, (32, 60))
    quality = [points(epsilons(rng.normal(shift, 1, (32, 60)), retrained), 32).mean() for shift in (0, 1, 2, 6)]
    assert quality == sorted(quality, reverse=True)
    assert quality[-1] < quality[0] / 100


def test_accuracy_is_the_mean_over_models() -> None:
    z = torch.tensor([[[1.0, 0], [1, 0]], [[0, 1], [1, 0]]])
    assert accuracy(z, torch.tensor([0, 1])) == 0.25
    assert accuracy(z[:, :0], torch.tensor([], dtype=torch.int64)) is None
    assert accuracy(z * torch.nan, torch.tensor([0, 1])) is None


def test_the_interval_of_the_median_is_that_of_order_statistics() -> None:
    values = np.arange(1.0, 31)
    low, high = median_interval(values)
    assert (low, high) == (10, 21)  # the table of the sign test: n = 30, k = 10
    assert stats.binom.cdf(9, 30, 0.5) <= 0.025 < stats.binom.cdf(10, 30, 0.5)
    assert median_interval(np.arange(5.0)) == (None, None)
    assert median_interval(np.arange(6.0)) == (0, 5)


def test_the_interval_of_the_median_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    ends = [median_interval(rng.exponential(size=60)) for _ in range(300)]
    held = sum(low is not None and low <= math.log(2) <= high for low, high in ends)
    assert held >= 276  # three standard errors below 95 %
