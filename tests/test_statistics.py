"""Statistics over seeds: stated coverage, uniform p-values, and the textbook's numbers by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy import stats
from statsmodels.stats.multitest import multipletests

from unlearnbench.statistics import (
    components,
    critical_difference,
    estimate,
    expanded,
    friedman,
    holm,
    nested_means,
    paired_permutation,
    smallest_p,
    tied_groups,
    wilcoxon,
)

DEMSAR = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
"""Critical values of Nemenyi's test at .05 for 2 to 10 treatments: Demsar 2006, table 5 (a)."""


# -- mean, sd, interval ------------------------------------------------------------------------------------------------


def coverage(n: int, *, skewed: bool, times: int = 400) -> float:
    rng = np.random.default_rng(n)
    draws = rng.standard_exponential((times, n)) - 1 if skewed else rng.standard_normal((times, n))
    found = [estimate(values) for values in draws]
    return sum(e.low is not None and e.high is not None and e.low <= 0 <= e.high for e in found) / times


@pytest.mark.parametrize("n", [10, 20])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_covers_the_mean_about_as_often_as_it_says(n: int, skewed: bool) -> None:
    assert 0.90 <= coverage(n, skewed=skewed) <= 0.98


def test_five_seeds_cover_nearly_as_much_as_their_range_can() -> None:
    """Without the correction for few values it would be about .82; the range itself covers .9375."""
    assert 0.87 <= coverage(5, skewed=False) <= 0.96


def test_the_interval_is_the_bca_interval_of_scipy_at_the_corrected_level() -> None:
    values = np.random.default_rng(3).standard_exponential(12)
    level = 1 - 2 * stats.norm.sf(stats.t.ppf(0.975, 11) * math.sqrt(12 / 11))
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=9999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    found = estimate(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.sd) == pytest.approx((values.mean(), np.std(values, ddof=1)))


def test_the_corrected_level_tends_to_the_stated_one() -> None:
    assert expanded(0.95, 5) > expanded(0.95, 20) > expanded(0.95, 100_000) == pytest.approx(0.95, abs=1e-4)


def test_a_skewed_sample_has_a_skewed_interval() -> None:
    values = np.random.default_rng(0).standard_exponential(15)
    found = estimate(values)
    assert found.low is not None
    assert found.high is not None
    assert found.high - values.mean() > 1.15 * (values.mean() - found.low)


def test_a_higher_level_gives_a_wider_interval_and_the_same_call_the_same_bits() -> None:
    values = np.random.default_rng(1).standard_normal(10)
    wide, narrow = estimate(values, 0.99), estimate(values, 0.8)
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low < narrow.low < narrow.high < wide.high
    assert estimate(values, 0.99) == wide


@pytest.mark.parametrize(
    ("values", "mean", "sd", "status"),
    [
        ([], None, None, "no values"),
        ([2.0], 2.0, None, "fewer than 3 values"),
        ([1.0, 3.0], 2.0, math.sqrt(2), "fewer than 3 values"),
        ([0.3, 0.1 + 0.2, 0.3], 0.3, 0.0, "zero variance"),
        ([7.0] * 5, 7.0, 0.0, "zero variance"),
    ],
)
def test_too_few_or_equal_values_have_no_interval_and_say_why(
    values: list[float], mean: float | None, sd: float | None, status: str
) -> None:
    found = estimate(values)
    assert (found.n, found.low, found.high, found.status) == (len(values), None, None, status)
    assert (found.mean, found.sd) == (pytest.approx(mean), pytest.approx(sd))


def test_one_value_that_differs_still_gives_an_interval() -> None:
    found = estimate([1.0, 1.0, 1.0, 2.0])
    assert found.status == "ok"
    assert found.low is not None
    assert found.high is not None
    assert 1.0 <= found.low < found.high <= 2.0


# -- paired tests ------------------------------------------------------------------------------------------------------


def by_enumeration(differences: list[float]) -> float:
    """Share of sign changes whose mean is at least as far from 0: exact, without scipy."""
    size = abs(sum(differences)) - 1e-12
    signs = itertools.product((-1, 1), repeat=len(differences))
    sums = [abs(sum(s * d for s, d in zip(sign, differences, strict=True))) for sign in signs]
    return sum(one >= size for one in sums) / len(sums)


@pytest.mark.parametrize("differences", [[1, 2, 3, 4, 5], [1, -2, 3, 4, 0.5, -0.1], [0, 0, 1, 2, 3], [3, 3, 3, -3]])
def test_few_seeds_are_permuted_exactly(differences: list[float]) -> None:
    assert paired_permutation(differences) == pytest.approx(by_enumeration(differences))
    assert paired_permutation([-d for d in differences]) == pytest.approx(by_enumeration(differences))


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_smallest_p_is_reached_when_all_seeds_agree(n: int) -> None:
    agreeing = list(np.random.default_rng(n).uniform(1, 2, n))
    assert smallest_p(agreeing) == 2.0 ** (1 - n)
    assert paired_permutation(agreeing) == pytest.approx(2.0 ** (1 - n))
    assert wilcoxon(agreeing) == pytest.approx(2.0 ** (1 - n))


def test_seeds_without_a_difference_do_not_count_towards_the_smallest_p() -> None:
    assert smallest_p([0, 0, 1, 2, 3]) == 0.25
    assert paired_permutation([0, 0, 1, 2, 3]) == pytest.approx(0.25)
    assert wilcoxon([0, 0, 1, 2, 3]) == pytest.approx(0.25)


def test_many_seeds_never_give_a_p_value_of_zero() -> None:
    agreeing = list(np.random.default_rng(0).uniform(1, 2, 30))
    assert paired_permutation(agreeing) == smallest_p(agreeing) == pytest.approx(2e-4)


def test_no_pairs_have_no_p_value_and_no_difference_has_one_of_1() -> None:
    assert (paired_permutation([]), wilcoxon([]), smallest_p([])) == (None, None, None)
    assert (paired_permutation([0.0, 0.0]), wilcoxon([0.0, 0.0]), smallest_p([0.0, 0.0])) == (1.0, 1.0, 1.0)
    assert (paired_permutation([4.0]), wilcoxon([4.0]), smallest_p([4.0])) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("n", [10, 24])
def test_p_values_are_uniform_under_the_null(n: int) -> None:
    """Of skewed readings too: what is exchangeable is the sign of their difference."""
    rng = np.random.default_rng(n)
    p = [paired_permutation(rng.standard_exponential(n) - rng.standard_exponential(n)) for _ in range(200)]
    assert stats.kstest(np.array(p, dtype=float), "uniform").pvalue > 0.01
    assert 0.015 <= np.mean(np.array(p, dtype=float) <= 0.05) <= 0.09


def test_the_rank_test_is_uniform_under_the_null_and_finds_a_shift() -> None:
    rng = np.random.default_rng(5)
    p = np.array([wilcoxon(rng.standard_t(2, 20)) for _ in range(300)], dtype=float)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    shifted = rng.standard_t(2, 20) + 2
    assert wilcoxon(shifted) == pytest.approx(stats.wilcoxon(shifted).pvalue)


def test_the_rank_test_is_exact_with_equal_differences() -> None:
    """Ranks of 1, 1, 2, 2, 3 are 1.5, 1.5, 3.5, 3.5, 5; the largest sums of ranks come from 2 of 32 sign changes."""
    assert wilcoxon([1.0, 1.0, 2.0, 2.0, 3.0]) == pytest.approx(2 / 32)
    # W- = 1.5 or less: none negative, or one of the two that rank 1.5; twice, for both sides.
    assert wilcoxon([-1.0, 1.0, 2.0, 2.0, 3.0]) == pytest.approx(2 * 3 / 32)


# -- Holm, Friedman, critical difference -------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    """Sorted .005, .01, .03, .04: times 4, 3, 2, 1 is .02, .03, .06, .04; none may be below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("m", [1, 2, 7, 40])
def test_holm_is_that_of_statsmodels(m: int) -> None:
    p = list(np.random.default_rng(m).uniform(0, 0.2, m).round(2))  # rounded: some are equal
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_friedman_is_that_of_scipy_with_ranks_by_hand() -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [0.1, 0.2, 0.3], [5.0, 6.0, 6.0]])
    found = friedman(scores)
    assert found.average == pytest.approx((1.0, (2 + 3 + 2 + 2.5) / 4, (3 + 2 + 3 + 2.5) / 4))
    expected = stats.friedmanchisquare(*scores.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_nemenyi_and_the_critical_difference_agree() -> None:
    rng = np.random.default_rng(2)
    scores = rng.standard_normal((12, 6)) + np.arange(6) * 0.6
    found = friedman(scores)
    ranks = np.array(found.average)
    beyond = np.abs(ranks[:, None] - ranks[None]) > critical_difference(6, 12)
    assert 0 < beyond.sum() < 30
    assert (beyond == (found.nemenyi <= 0.05)).all()
    assert found.nemenyi == pytest.approx(np.asarray(posthoc_nemenyi_friedman(scores)))


def test_treatments_that_always_tie_have_no_statistic() -> None:
    found = friedman(np.ones((4, 3)))
    assert (found.average, found.statistic, found.p) == ((2.0, 2.0, 2.0), None, None)


@pytest.mark.parametrize("shape", [(1, 3), (5, 2), (0, 4)])
def test_friedman_refuses_what_cannot_be_ranked(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="needs 2 blocks of 3"):
        friedman(np.zeros(shape))


@pytest.mark.parametrize(("treatments", "q"), list(enumerate(DEMSAR, 2)))
def test_the_critical_difference_is_that_of_demsar(treatments: int, q: float) -> None:
    blocks = 14
    expected = q * math.sqrt(treatments * (treatments + 1) / (6 * blocks))
    assert critical_difference(treatments, blocks) == pytest.approx(expected, rel=6e-4)


def test_the_critical_difference_of_demsars_example() -> None:
    """Section 3.2.2: four classifiers on 14 data sets, 1.25 at .05."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, 0.10) == pytest.approx(2.291 * math.sqrt(20 / 84), rel=1e-3)


# -- ties --------------------------------------------------------------------------------------------------------------


def groups_of(order: str, *apart: str) -> list[str]:
    """Tied groups of letters; ``apart`` are pairs that differ."""
    found = tied_groups(tuple(order), lambda one, two: one + two in apart or two + one in apart)
    return ["".join(group) for group in found]


def test_ties_overlap_and_are_as_large_as_can_be() -> None:
    assert groups_of("abc") == ["abc"]
    assert groups_of("abc", "ab") == ["ac", "bc"]
    assert groups_of("cba", "ab") == ["cb", "ca"]
    assert groups_of("abc", "ac") == ["ab", "bc"]
    assert groups_of("abcd", "ac", "ad", "bd", "bc") == ["ab", "cd"]
    assert groups_of("abcd", "ab", "ac", "ad") == ["bcd"]
    assert groups_of("abc", "ab", "bc", "ac") == []
    assert groups_of("a") == []
    assert groups_of("abcde", "ae") == ["abcd", "bcde"]


# -- nested seeds ------------------------------------------------------------------------------------------------------


def test_nested_means_by_hand() -> None:
    """Unlearning seed 0 was measured three times and seed 1 once; each counts once: (2 + 10) / 2."""
    cells = {(0, 0, 0): 1.0, (0, 0, 1): 2.0, (0, 0, 2): 3.0, (0, 1, 0): 10.0, (7, 0, 0): 4.0}
    assert nested_means(cells) == {0: 6.0, 7: 4.0}
    assert nested_means({}) == {}


def test_variance_components_by_hand() -> None:
    """Two training seeds, two unlearning seeds each, two measure seeds each.

    Cells 1, 3 | 5, 7 and 11, 13 | 15, 17: variance within cells 2, of their means (2, 6, 12, 16) within seeds 8,
    of training means (4, 14) 50. So measure 2, unlearning 8 - 2 / 2 = 7, training 50 - 8 / 2 = 46.
    """
    values = iter([1.0, 3.0, 5.0, 7.0, 11.0, 13.0, 15.0, 17.0])
    cells = {seed: next(values) for seed in itertools.product((0, 1), (0, 1), (0, 1))}
    found = components(cells)
    assert found.measure == pytest.approx(math.sqrt(2))
    assert found.unlearn == pytest.approx(math.sqrt(7))
    assert found.train == pytest.approx(math.sqrt(46))


def test_a_place_that_was_not_repeated_has_no_component() -> None:
    found = components({(seed, seed, seed): float(seed) for seed in range(5)})
    assert (found.unlearn, found.measure) == (None, None)
    assert found.train == pytest.approx(np.std(range(5), ddof=1))
    assert components({}) == components({(0, 0, 0): 1.0})
    only = components({(0, 0, 0): 1.0, (0, 0, 1): 3.0})
    assert (only.train, only.unlearn, only.measure) == (None, None, pytest.approx(math.sqrt(2)))


def test_measure_noise_is_taken_out_of_the_training_component_when_unlearning_was_not_repeated() -> None:
    cells = {(t, 0, m): 10.0 * t + m for t in (0, 1) for m in (0, 2)}
    found = components(cells)
    assert (found.measure, found.unlearn) == (pytest.approx(math.sqrt(2)), None)
    assert found.train == pytest.approx(math.sqrt(50 - 2 / 2))


def test_variance_components_are_recovered_from_simulated_seeds() -> None:
    rng = np.random.default_rng(0)
    train, unlearn = rng.normal(0, 3, 300), rng.normal(0, 2, (300, 4))
    cells = {
        (t, u, m): train[t] + unlearn[t, u] + rng.normal(0, 1)
        for t in range(300) for u in range(4) for m in range(1 + (t + u) % 3)
    }  # fmt: skip
    found = components(cells)
    assert (found.train, found.unlearn, found.measure) == pytest.approx((3, 2, 1), rel=0.1)


def test_a_component_is_never_below_zero() -> None:
    """Training means that are more alike than chance would have them."""
    cells = {(t, u, 0): float(u) for t in (0, 1, 2) for u in (0, 1)}
    assert components(cells).train == 0.0
