"""Area, true positives at few false ones and their intervals, against scikit-learn, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score, roc_curve

from unlearnbench_membership import roc
from unlearnbench_membership.roc import CURVE, auc, counted, estimates, tpr_at_fpr, undefined
from unlearnbench_membership.shares import balanced_accuracy, difference, share

RNG = np.random.default_rng(5)
SAMPLES = {
    "apart": (RNG.normal(1, 1, 83), RNG.normal(0, 1, 120)),
    "ties": (RNG.integers(0, 6, 200).astype(float), RNG.integers(0, 5, 150).astype(float)),
    "two values": (np.repeat([0.0, 1.0], [3, 9]), np.repeat([0.0, 1.0], [7, 2])),
    "upside down": (RNG.normal(-2, 1, 50), RNG.normal(0, 1, 60)),
    "one row each": (np.array([1.0]), np.array([2.0])),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_area_is_that_of_scikit_learn_and_of_mann_and_whitney(name: str) -> None:
    members, others = SAMPLES[name]
    y = np.repeat([1, 0], [len(members), len(others)])
    assert auc(members, others) == pytest.approx(roc_auc_score(y, np.concatenate([members, others])), abs=1e-12)
    u = mannwhitneyu(members, others).statistic
    assert auc(members, others) == pytest.approx(u / (len(members) * len(others)), abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", SAMPLES)
def test_true_positives_are_the_most_that_a_curve_of_scikit_learn_has_at_that_rate(name: str, rate: float) -> None:
    members, others = SAMPLES[name]
    y = np.repeat([1, 0], [len(members), len(others)])
    fpr, tpr, _ = roc_curve(y, np.concatenate([members, others]), drop_intermediate=False)
    assert tpr_at_fpr(members, others, rate) == tpr[fpr <= rate + 1e-12].max()


def test_an_area_by_hand() -> None:
    # Pairs: 3 > 1, 3 > 2, 2 > 1, 2 = 2, so 3.5 of 4.
    assert auc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == 3.5 / 4


def test_no_false_positive_is_allowed_where_the_rate_is_less_than_one_row() -> None:
    members, others = np.array([5.0, 4.0, 3.0, 1.0]), np.array([3.5] + [0.0] * 99)
    assert tpr_at_fpr(members, others, 0.001) == 0.5
    assert tpr_at_fpr(members, others, 0.0099) == 0.5
    assert tpr_at_fpr(members, others, 0.01) == 1.0  # the one at 3.5 is 1 % of them


def test_ties_with_a_non_member_are_not_true_positives_at_rate_zero() -> None:
    assert tpr_at_fpr(np.array([1.0, 1.0]), np.array([1.0, 0.0]), 0.1) == 0.0


def test_the_curve_has_the_two_rates_that_are_quoted_and_is_even_on_a_log_axis() -> None:
    assert [f"{rate:.3g}" for rate in CURVE].count("0.001") == 1
    assert [f"{rate:.3g}" for rate in CURVE].count("0.01") == 1
    assert len(CURVE) == 15
    assert np.allclose(np.diff(np.log10(CURVE)), 0.2)


def test_intervals_hold_their_value_and_do_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    members, others = SAMPLES["apart"]
    area, found = estimates(members, others, CURVE, np.random.default_rng(0))
    assert area.low < area.value < area.high
    assert all(point.low <= point.value <= point.high for point in found)
    monkeypatch.setattr(roc, "_CELLS", 7 * 203)
    again, _ = estimates(members, others, CURVE, np.random.default_rng(0))
    assert again.low == pytest.approx(area.low, abs=0.02)
    assert again.high == pytest.approx(area.high, abs=0.02)


def test_a_resample_draws_members_and_others_apart() -> None:
    members, others = SAMPLES["ties"]
    (drawn,) = roc._resampled(counted(members, others), 50, np.random.default_rng(1))
    assert (drawn.members.sum(-1) == len(members)).all()
    assert (drawn.others.sum(-1) == len(others)).all()
    assert drawn.auc().std() > 0


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.5), (1.0, 0.7602), (-1.0, 0.2398)])
def test_the_interval_of_the_area_covers_the_truth_about_95_times_in_100(shift: float, truth: float) -> None:
    rng, covered, runs = np.random.default_rng(11), 0, 400
    for _ in range(runs):
        area, _ = estimates(rng.normal(shift, 1, 60), rng.normal(0, 1, 60), (), rng, resamples=400)
        covered += area.low <= truth <= area.high
    assert 0.92 <= covered / runs <= 0.98


@pytest.mark.parametrize(
    ("members", "others", "status"),
    [
        ([], [], "empty split"),
        ([1.0], [], "one class"),
        ([], [1.0], "one class"),
        ([1.0, np.nan], [2.0], "non-finite"),
        ([1.0], [np.inf], "non-finite"),
        ([2.0, 2.0], [2.0], "zero variance"),
        ([2.0], [1.0], ""),
    ],
)
def test_two_samples_without_a_curve_say_why(members: list[float], others: list[float], status: str) -> None:
    assert undefined(np.array(members), np.array(others)) == status


def test_the_interval_of_a_difference_is_newcombes_published_example() -> None:
    # Newcombe (1998), table II: 56/70 against 48/80, method 10.
    found = difference(share(56, 70), share(48, 80))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_balanced_accuracy_is_half_for_an_attack_that_takes_all_rows_alike() -> None:
    found = balanced_accuracy(share(30, 100), share(15, 50))
    assert found.value == pytest.approx(0.5)
    assert found.low < 0.5 < found.high
    assert balanced_accuracy(share(9, 10), share(2, 10)).value == pytest.approx((0.9 + 0.8) / 2)
