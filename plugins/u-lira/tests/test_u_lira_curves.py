"""ROC curves, intervals and p-values against scikit-learn, cases worked by hand, and simulation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score, roc_curve

from unlearnbench_u_lira import curves
from unlearnbench_u_lira.curves import (
    accuracy_at_zero,
    area,
    attack_curve,
    permutation_null,
    rocs,
    row_weights,
    two_sided_p,
)
from unlearnbench_u_lira.likelihood import log_ratios

LEVELS = np.array([0.01, 0.1, 0.4])


@pytest.mark.parametrize("decimals", [12, 0])
def test_areas_and_rates_are_those_of_scikit_learn_also_with_weights_and_ties(
    simulate: Callable, decimals: int
) -> None:
    rng = np.random.default_rng(0)
    data = simulate(rng, n=8, m=30, shift=1.0)
    scores, used = data.phi.round(decimals), rng.random(data.phi.shape) < 0.8
    weights = rng.integers(0, 4, size=(5, 30)).astype(float)
    labels, values = data.members[used], scores[used]
    (roc,) = rocs(scores, data.members, used, weights)
    for line, weight in enumerate(weights):
        each = np.broadcast_to(weight, used.shape)[used]
        assert roc.auc()[line] == pytest.approx(roc_auc_score(labels, values, sample_weight=each), abs=1e-12)
        fpr, tpr, _ = roc_curve(labels, values, sample_weight=each, drop_intermediate=False)
        expected = [tpr[fpr <= level + 1e-9].max() for level in LEVELS]
        np.testing.assert_allclose(roc.tpr(LEVELS)[line], expected, atol=1e-12)


def test_a_curve_worked_by_hand() -> None:
    """Members 4 3 1, others 3 2 0: of nine pairs six are won and one is tied."""
    scores, members = np.array([[4.0, 3, 1], [3, 2, 0]]), np.array([[True] * 3, [False] * 3])
    used = np.ones_like(members)
    assert area(scores, members, used) == pytest.approx(6.5 / 9)
    (roc,) = rocs(scores, members, used, np.ones((1, 3)))
    assert roc.tpr(np.array([0.0, 0.33, 1 / 3, 0.7, 1.0])).tolist() == [[1 / 3, 1 / 3, 2 / 3, 1, 1]]


def test_blocks_of_draws_change_nothing(simulate: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    data = simulate(np.random.default_rng(1), n=8, m=20, shift=1.0)
    args = (data.phi, data.members, data.everything, LEVELS, 100)
    whole = attack_curve(*args, np.random.default_rng(0))
    monkeypatch.setattr(curves, "CELLS", 1000)
    assert attack_curve(*args, np.random.default_rng(0)) == whole


def test_accuracy_counts_signs_that_agree_with_membership() -> None:
    scores, members = np.array([[1.0, -1], [-1, 2]]), np.array([[True, True], [False, False]])
    assert accuracy_at_zero(scores, members, np.ones_like(members), 100, np.random.default_rng(0)).value == 0.5
    assert accuracy_at_zero(scores, members, np.array([[True, False]] * 2), 100, np.random.default_rng(0)).value == 1


def test_a_draw_takes_rows_that_count_and_takes_them_whole() -> None:
    used = np.array([[True, False, True, True]] * 4)
    weights = row_weights(used, 50, np.random.default_rng(0))
    assert weights[0].tolist() == [1, 0, 1, 1]
    assert (weights.sum(1) == 3).all()
    assert (weights[:, 1] == 0).all()
    assert len(np.unique(weights, axis=0)) > 5


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_interval_holds_the_true_value_in_93_to_97_percent_of_simulated_audits(
    simulate: Callable, shift: float
) -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        data = simulate(rng, n=8, m=120, shift=shift)
        scores = log_ratios(data.phi, data.members, data.everything, 4.0)
        found.append(attack_curve(scores, data.members, data.everything, LEVELS, 200, rng)[0])
    truth = np.mean([auc.value for auc in found])
    assert 0.93 <= np.mean([auc.low <= truth <= auc.high for auc in found]) <= 0.97


def test_intervals_over_entries_instead_of_rows_would_be_too_narrow_where_rows_differ(simulate: Callable) -> None:
    """Half of the rows are known fully, half not at all: how many of each there are is what varies most."""
    rng = np.random.default_rng(3)
    data = simulate(rng, n=16, m=60)
    data.phi += 5 * (np.arange(60) % 2) * data.members
    scores = log_ratios(data.phi, data.members, data.everything, 4.0)
    over_rows, _ = attack_curve(scores, data.members, data.everything, LEVELS, 500, rng)
    flat = [part.reshape(1, -1) for part in (scores, data.members, data.everything)]
    over_entries, _ = attack_curve(*flat, LEVELS, 500, rng)
    assert over_rows.high - over_rows.low > 1.5 * (over_entries.high - over_entries.low)


def test_p_values_are_uniform_where_nothing_leaks(simulate: Callable) -> None:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(200):
        data = simulate(rng, n=8, m=40)
        observed, null = with_null(data, 59, rng)
        found.append(two_sided_p(observed, null))
    assert kstest(found, "uniform").pvalue > 0.05
    assert 0.01 <= np.mean(np.array(found) <= 0.05) <= 0.1


def with_null(data: object, draws: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    phi, members, used = data.phi, data.members, data.everything  # type: ignore[attr-defined]

    def attack(swapped: np.ndarray) -> float:
        return area(log_ratios(phi, swapped, used, 4.0), swapped, used)

    return attack(members), permutation_null(attack, members, draws, rng)


def test_the_null_of_a_leak_lies_around_one_half_and_the_leak_outside(simulate: Callable) -> None:
    rng = np.random.default_rng(5)
    observed, null = with_null(simulate(rng, n=16, m=150, shift=1.0), 100, rng)
    assert abs(null.mean() - 0.5) < 0.01
    assert observed > null.max() + 0.1
    assert two_sided_p(observed, null) == pytest.approx(1 / 101)


def test_a_swap_keeps_who_saw_how_many_and_makes_pairs_of_complements(simulate: Callable) -> None:
    data = simulate(np.random.default_rng(6), n=8, m=200)
    seen: list[np.ndarray] = []

    def note(swapped: np.ndarray) -> float:
        seen.append(swapped)
        return 0.5

    permutation_null(note, data.members, 20, np.random.default_rng(0))
    assert all((swapped[::2] == ~swapped[1::2]).all() for swapped in seen)
    assert np.mean([swapped[::2] != data.members[::2] for swapped in seen]) == pytest.approx(0.5, abs=0.02)


def test_far_below_one_half_is_as_unlikely_as_far_above() -> None:
    null = np.array([0.5, 0.45, 0.55, 0.52])
    assert two_sided_p(0.3, null) == two_sided_p(0.7, null) == 1 / 5
    assert two_sided_p(0.55, null) == 3 / 5
    assert two_sided_p(0.5, null) == 1
