"""Every bound on its own: it holds wherever it is claimed to, and what the authors' code computes instead does not."""

from math import inf, log, sqrt

import numpy as np
import pytest

from unlearnbench_scalegun import bounds
from unlearnbench_scalegun.linear import Array, Problem, gradient, hessian

TRIALS = range(40)


def drawn(seed: int, rows: int = 25, features: int = 6, classes: int = 3, scale: float = 1.0) -> tuple[Array, Problem]:
    """Random weights and a random problem."""
    rng = np.random.default_rng(seed)
    z = scale * rng.normal(size=(rows, features))
    y = rng.integers(classes, size=rows)
    w = rng.normal(size=(classes, features)) * rng.choice([0.1, 1, 10])
    return w, Problem(z, y, rng.normal(size=(classes, features)), 0.01)


def test_the_budget_is_that_of_the_paper() -> None:
    assert 7 * bounds.budget(0.1, 1.0, 1e-4) == pytest.approx(0.159621, abs=1e-6)  # Cora, as the authors' code has it
    assert 6 * bounds.budget(0.1, 1.0, 1e-4) == pytest.approx(0.136818, abs=1e-6)  # Citeseer
    one = bounds.budget(0.3, 2.0, 1e-3)
    assert 1.5 * np.exp(-((0.3 * 2.0 / one) ** 2) / 2) == pytest.approx(1e-3)  # delta of Guo et al., solved for c
    assert bounds.budget(0.3, 2.0, 1e-3) == pytest.approx(0.6 / sqrt(2 * log(1500)))


def test_what_is_held_against_what_for_each_pooling() -> None:
    three = np.array([3.0, 0.0, 4.0])
    assert [bounds.pooled(how, three) for how in ("pooled", "per-class", "joint")] == [7.0, 4.0, 5.0]
    assert [bounds.allowed(how, 3, 2.0) for how in ("pooled", "per-class", "joint")] == [6.0, 2.0, 2.0]


def test_pooling_hides_a_class_that_passes_its_own_budget_and_joint_is_the_strictest() -> None:
    alone = np.array([2.5, 0.0, 0.0])
    within = {how: bounds.pooled(how, alone) <= bounds.allowed(how, 3, 1.0) for how in ("pooled", "per-class", "joint")}
    assert within == {"pooled": True, "per-class": False, "joint": False}
    even = np.array([0.9, 0.9, 0.9])
    within = {how: bounds.pooled(how, even) <= bounds.allowed(how, 3, 1.0) for how in ("pooled", "per-class", "joint")}
    assert within == {"pooled": True, "per-class": True, "joint": False}


@pytest.mark.parametrize("seed", TRIALS)
@pytest.mark.parametrize("size", [1e-6, 0.1, 30.0])
def test_the_approximation_term_bounds_what_other_features_change(seed: int, size: float) -> None:
    w, p = drawn(seed)
    rng = np.random.default_rng(seed + 1000)
    errors = size * rng.normal(size=p.z.shape) * (rng.random(p.z.shape) < 0.3)
    if seed % 2:  # all of one sign, along the weights: the worst there is
        errors = np.abs(errors) * np.sign(w[0])
    exact = p._replace(z=p.z - errors)
    changed = bounds.norms(gradient(w, *p) - gradient(w, *exact))
    rho = np.abs(errors).sum(0)
    assert (changed <= bounds.approximation(w, p.z, rho) * (1 + 1e-12)).all()


def test_signed_sums_of_errors_bound_nothing() -> None:
    w, p = drawn(0)
    errors = np.random.default_rng(1).normal(size=p.z.shape)
    errors -= errors.mean(0)  # every column cancels
    changed = bounds.norms(gradient(w, *p) - gradient(w, *p._replace(z=p.z - errors)))
    signed = bounds.approximation(w, p.z, np.abs(errors.sum(0)))
    assert (signed < 1e-10).all()
    assert (changed > 0.1).all()


@pytest.mark.parametrize("seed", TRIALS)
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_the_remainder_bounds_what_a_newton_step_leaves(seed: int, scale: float) -> None:
    w, p = drawn(seed, scale=scale)
    step = np.random.default_rng(seed + 1000).normal(size=w.shape) * 10.0 ** (-(seed % 5))
    change = gradient(w + step, *p) - gradient(w, *p)
    linear = hessian(w, p.z, p.ridge)(step, np.ones(len(w), dtype=bool))
    bound = bounds.remainder(step, p.z, bounds.spectral_norm(p.z))
    assert (bounds.norms(change - linear) <= bound + 1e-9 * scale**2 * 25).all()


def test_the_papers_remainder_needs_rows_that_are_no_longer_than_one() -> None:
    z, w, step = np.array([[40.0]]), np.array([[1.317 / 40]]), np.array([[1e-3]])  # where sigma' is steepest
    p = Problem(z, np.array([0]), np.zeros((1, 1)), 0.01)
    linear = hessian(w, z, 0.01)(step, np.ones(1, dtype=bool))
    left = float(np.abs(gradient(w + step, *p) - gradient(w, *p) - linear)[0, 0])
    papers = 0.25 * 40 * 1e-3 * 40e-3
    assert left > 1.5 * papers
    assert left <= bounds.remainder(step, z, 40.0)[0]


@pytest.mark.parametrize("shape", [(30, 8), (8, 30), (1, 5)])
def test_the_spectral_norm_is_not_below_the_true_one_as_power_iteration_is(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in shape)
        values = np.linspace(1, 0.999, min(shape))  # hard to tell apart
        z = left[:, : min(shape)] * values @ right[:, : min(shape)].T
        found = bounds.spectral_norm(z)
        assert 1 - 1e-15 <= found <= 1 + 1e-12
        v = rng.normal(size=shape[1])
        for _ in range(100):
            v = z.T @ (z @ v)
            v /= np.linalg.norm(v)
        if min(shape) > 1:
            assert np.linalg.norm(z @ v) < 1 - 1e-8


def test_the_account_of_the_spectral_norm_stays_above_it_when_rows_change_and_leave() -> None:
    w, p = drawn(0)
    ledger = bounds.Ledger.after_training(w, p)
    assert ledger.spectral == pytest.approx(np.linalg.norm(p.z, 2), rel=1e-10)
    rng = np.random.default_rng(1)
    for _ in range(10):
        other = p.z + 0.1 * rng.normal(size=p.z.shape) * (rng.random((len(p.z), 1)) < 0.3)
        moved = float(np.linalg.norm(other - p.z))
        p = p._replace(z=other[1:], y=p.y[1:])
        ledger = ledger.after_step(w, 0 * w, np.zeros(3), p, float(moved), 0.0)
        assert ledger.spectral >= np.linalg.norm(p.z, 2)


@pytest.mark.parametrize("seed", TRIALS)
def test_rounding_is_within_its_bound_and_the_bound_is_tiny(seed: int) -> None:
    w, p = drawn(seed, rows=200, scale=10.0 ** (seed % 4))
    wide = Problem(p.z.astype(np.longdouble), p.y, p.noise.astype(np.longdouble), np.longdouble(p.ridge))
    own = np.exp(-np.logaddexp(0, -(wide.z @ w.T.astype(np.longdouble))))
    own[np.arange(len(p.y)), p.y] -= 1
    exact = own.T @ wide.z + wide.ridge * len(p.z) * w + wide.noise
    off = bounds.norms((gradient(w, *p) - exact).astype(np.float64))
    bound = bounds.rounding(w, p)
    assert (off <= bound).all()
    assert (bound < 1e-9 * (1 + np.linalg.norm(p.z) ** 2 * bounds.norms(w))).all()


def test_direct_and_paper_add_up_what_they_say() -> None:
    w, p = drawn(0)
    ledger = bounds.Ledger(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.3]), 5.0)
    rho = np.full(6, 1e-3)
    terms = bounds.terms(ledger, w, p, rho, 0.0)
    around = bounds.approximation(w, p.z, rho) + bounds.rounding(w, p)
    np.testing.assert_allclose(terms.direct, bounds.norms(gradient(w, *p)) + around)
    np.testing.assert_allclose(terms.paper, np.array([1.1, 2.2, 3.3]) + around)
    assert terms.value("paper", "per-class") == pytest.approx(terms.paper.max())
    assert terms.value("direct", "pooled") == pytest.approx(terms.direct.sum())


def test_the_worst_case_is_that_of_the_theorems() -> None:
    assert bounds.paper_error(100, 3, 1e-3) == pytest.approx(0.03)
    assert bounds.worst_case_factor(50, 8, 0.01) == pytest.approx(0.25 * 8 / 0.01 + 20)
    assert bounds.influence("edges", np.array([4, 16])) == pytest.approx(2 + 1)
    assert bounds.influence("nodes", np.array([4, 16, 1])) == pytest.approx(2 + 1 + 4)
    assert bounds.influence("features", np.array([4, 16])) == pytest.approx(2 + 4)
    w, p = drawn(0)
    ledger = bounds.Ledger(np.zeros(3), np.zeros(3), 1.0).after_step(w, 0 * w, np.zeros(3), p, 0.0, 3.0)
    factor = 0.25 * 6 / 0.01 + sqrt(6 * 25)
    terms = bounds.terms(ledger, w, p, np.zeros(6), 0.5)
    assert terms.worst_case == pytest.approx(3 * factor * (0.5 + 2 * 0.25 * 6 / 25 * 3.0))


def test_a_worst_case_beyond_double_precision_is_infinite() -> None:
    w, p = drawn(0)
    ledger = bounds.Ledger(np.zeros(3), np.zeros(3), 1.0)
    assert bounds.terms(ledger, w, p._replace(ridge=1e-308), np.zeros(6), 1e10).worst_case == inf
