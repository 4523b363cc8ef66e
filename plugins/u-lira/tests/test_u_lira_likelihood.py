"""Log-odds, Gaussians and likelihood ratios against sums written out, and the biases that they must not have."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from unlearnbench_u_lira.curves import area
from unlearnbench_u_lira.likelihood import (
    Undefined,
    defined_log_odds,
    exposure,
    leave_pair_out,
    log_ratios,
    most_exposed,
    rows_taken,
)


@pytest.mark.parametrize(
    ("logits", "status"),
    [
        ([[[1.0, np.nan]]], "non-finite"),
        ([[[np.inf, 0.0]]], "infinite log-odds"),
        ([[[0.0, -np.inf]]], "infinite log-odds"),
        ([[[-np.inf, -np.inf]]], "infinite log-odds"),
        ([[[3.0]]], "one class"),
    ],
)
def test_log_odds_that_are_no_number_have_a_status(logits: list[list[list[float]]], status: str) -> None:
    with pytest.raises(Undefined, match=status):
        defined_log_odds(torch.tensor(logits), torch.tensor([0]))


def test_a_class_that_is_ruled_out_does_no_harm() -> None:
    assert defined_log_odds(torch.tensor([[[1.0, 0.5, -torch.inf]]]), torch.tensor([0])).tolist() == [[0.5]]


def by_hand(phi: np.ndarray, members: np.ndarray, pseudo: float, *, left_out: Callable[[int], set[int]]) -> np.ndarray:
    """The score written as loops over models and rows, with scipy's density."""
    n, m = phi.shape

    def fits(i: int, group: np.ndarray) -> list[tuple[float, float]]:
        rest = [[phi[k, s] for k in range(n) if k not in left_out(i) and group[k, s]] for s in range(m)]
        pooled = sum((len(x) - 1) * np.var(x, ddof=1) for x in rest) / sum(len(x) - 1 for x in rest)
        return [
            (float(np.mean(x)), ((len(x) - 1) * np.var(x, ddof=1) + pseudo * pooled) / (len(x) - 1 + pseudo))
            for x in rest
        ]

    scores = np.empty((n, m))
    for i in range(n):
        seen, unseen = fits(i, members), fits(i, ~members)
        for s in range(m):
            (a, v), (b, w) = seen[s], unseen[s]
            scores[i, s] = norm.logpdf(phi[i, s], a, math.sqrt(v)) - norm.logpdf(phi[i, s], b, math.sqrt(w))
    return scores


@pytest.mark.parametrize("n", [6, 8])
def test_the_scores_are_those_of_two_loops(simulate: Callable, n: int) -> None:
    data = simulate(np.random.default_rng(1), n=n, m=7, shift=1.0)
    expected = by_hand(data.phi, data.members, 4.0, left_out=lambda i: {i, i ^ 1})
    found = log_ratios(data.phi, data.members, data.everything, 4.0)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_a_case_worked_by_hand() -> None:
    """Three models are left of each group. Values 0 1 2: mean 1, S 2; pooled v = 2 / 2; (2 + 4) / (2 + 4) = 1."""
    phi = np.array([[0.0], [10], [1], [11], [2], [12], [7], [8]])
    members = np.array([[True], [False]] * 4)
    seen, unseen = (leave_pair_out(phi, group, 4.0) for group in (members, ~members))
    assert (seen.mean[3, 0], seen.variance[3, 0]) == pytest.approx((1, 1))
    assert (unseen.mean[3, 0], unseen.variance[3, 0]) == pytest.approx((11, 1))
    scores = log_ratios(phi, members, np.ones_like(members), 4.0)
    # ln N(7; 1, 1) - ln N(7; 11, 1) = (16 - 36) / 2
    assert scores[6, 0] == pytest.approx((4**2 - 6**2) / 2)
    assert scores[7, 0] == pytest.approx((3**2 - 7**2) / 2)
    assert exposure(phi, members, 4.0)[3, 0] == pytest.approx(10)


def test_the_model_that_is_scored_and_its_complement_are_in_no_fit_of_theirs(simulate: Callable) -> None:
    data = simulate(np.random.default_rng(2), n=8, m=9)
    before = leave_pair_out(data.phi, data.members, 4.0)
    data.phi[4:6] += 100 * np.random.default_rng(0).normal(size=(2, 9))
    after = leave_pair_out(data.phi, data.members, 4.0)
    np.testing.assert_allclose(after.mean[2], before.mean[2], atol=1e-12)
    np.testing.assert_allclose(after.variance[2], before.variance[2], atol=1e-10)
    assert np.abs(after.mean[[0, 1, 3]] - before.mean[[0, 1, 3]]).min(0).max() > 1


def test_leaving_out_the_target_alone_is_biased_and_leaving_out_its_complement_too_is_not(simulate: Callable) -> None:
    plain, ours, fitted = [], [], []
    rng = np.random.default_rng(3)
    for _ in range(12):
        data = simulate(rng, n=8, m=60)
        one = by_hand(data.phi, data.members, 4.0, left_out=lambda i: {i})
        none = by_hand(data.phi, data.members, 4.0, left_out=lambda _: set())
        plain.append(area(one, data.members, data.everything))
        fitted.append(area(none, data.members, data.everything))
        ours.append(area(log_ratios(data.phi, data.members, data.everything, 4.0), data.members, data.everything))
    assert np.mean(plain) < 0.48
    assert abs(np.mean(ours) - 0.5) < 0.012
    assert np.mean(fitted) > 0.6  # scoring what was fitted finds members where there is nothing to find


def test_the_attack_reaches_the_bayes_auc_of_a_known_shift(simulate: Callable) -> None:
    for shift in (0.5, 1.0, 2.0):
        data = simulate(np.random.default_rng(4), n=200, m=200, shift=shift)
        scores = log_ratios(data.phi, data.members, data.everything, 4.0)
        assert area(scores, data.members, data.everything) == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=0.01)


def test_bits_of_right_and_wrong_see_nothing_where_log_odds_see_everything() -> None:
    """Every model is right on every row, and far more certain on rows that it saw."""
    rng = np.random.default_rng(5)
    half = rng.random((8, 50)) < 0.5
    members = np.stack([half, ~half], axis=1).reshape(16, 50)
    logits = rng.normal(size=(16, 50, 3)) + 8 * np.array([1.0, 0, 0])
    logits[..., 0] += 5 * members
    assert (logits.argmax(2) == 0).all()
    bits = (logits.argmax(2) == 0).astype(float)
    everything = np.ones_like(members)
    with pytest.raises(Undefined, match="zero variance"):
        log_ratios(bits, members, everything, 4.0)
    assert roc_auc_score(members.ravel(), bits.ravel()) == 0.5
    phi = defined_log_odds(torch.from_numpy(logits), torch.zeros(50, dtype=torch.int64))
    assert area(log_ratios(phi, members, everything, 4.0), members, everything) > 0.95


def test_a_row_without_spread_takes_the_pooled_variance_instead_of_dividing_by_zero(simulate: Callable) -> None:
    data = simulate(np.random.default_rng(6), n=8, m=20)
    data.phi[:, 3] = np.where(data.members[:, 3], 0.1, 0.7)
    fits = leave_pair_out(data.phi, data.members, 4.0)
    rest = np.delete(fits.variance, 3, axis=1).min(1)
    assert (fits.variance[:, 3] > 0).all()
    assert (fits.variance[:, 3] < rest).all()
    scores = log_ratios(data.phi, data.members, data.everything, 4.0)
    assert np.isfinite(scores).all()
    assert ((scores[:, 3] > 0) == data.members[:, 3]).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_no_spread_anywhere_is_zero_variance_also_where_means_round(value: float) -> None:
    members = np.array([[True, False], [False, True]] * 4)
    with pytest.raises(Undefined, match="zero variance"):
        log_ratios(np.full((8, 2), value), members, np.ones_like(members), 4.0)


def test_the_most_exposed_rows_are_a_rounded_up_share_and_the_same_for_both_of_a_pair() -> None:
    gap = np.array([[1.0, 5, 3, 4], [9, 1, 1, 1], [1, 1, 1, 1]])
    taken = most_exposed(gap, 0.3)
    assert taken.tolist() == [
        *2 * [[False, True, False, True]],
        *2 * [[True, True, False, False]],
        *2 * [[True, True, False, False]],
    ]
    assert [rows_taken(30, 0.1), rows_taken(31, 0.1), rows_taken(300, 0.07)] == [3, 4, 21]
