"""One-against-rest logistic regression: its derivatives, its Newton steps and its optimum."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from unlearnbench.api.errors import UsageError
from unlearnbench_scalegun.linear import (
    Array,
    Problem,
    Rows,
    conjugate_gradients,
    gradient,
    hessian,
    left_over,
    newton_step,
    pulls,
    train,
)


def problem(rows: int = 40, features: int = 7, classes: int = 3, ridge: float = 0.05, seed: int = 0) -> Problem:
    """Random rows with every class among them."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    z = rng.normal(size=(rows, features)) + np.eye(classes, features)[y]
    return Problem(z, y, 0.3 * rng.normal(size=(classes, features)), ridge)


def weights(p: Problem, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=p.noise.shape)


def loss(w: Array, p: Problem) -> Array:
    """The objective of each class [C], written as in the paper: signs, a sum over rows, a linear term."""
    found = []
    for k, own in enumerate(w):
        sign = np.where(p.y == k, 1.0, -1.0)
        rows = np.logaddexp(0, -sign * (p.z @ own)) + p.ridge / 2 * own @ own
        found.append(rows.sum() + p.noise[k] @ own)
    return np.array(found)


def dense_hessian(w: Array, p: Problem, k: int) -> Array:
    s = 1 / (1 + np.exp(-(p.z @ w[k])))
    return p.z.T @ np.diag(s * (1 - s)) @ p.z + p.ridge * len(p.z) * np.eye(p.z.shape[1])


def test_the_gradient_is_that_of_the_objective() -> None:
    p = problem()
    w, h = weights(p), 1e-5
    found = gradient(w, *p)
    for j in range(w.shape[1]):
        shift = np.zeros_like(w)
        shift[:, j] = h
        slope = (loss(w + shift, p) - loss(w - shift, p)) / (2 * h)
        np.testing.assert_allclose(found[:, j], slope, atol=1e-7)


def test_hessian_products_are_those_of_the_dense_hessian_and_of_the_gradient() -> None:
    p = problem()
    w, v, h = weights(p), weights(p, 2), 1e-5
    found = hessian(w, p.z, p.ridge)(v, np.ones(3, dtype=bool))
    for k in range(3):
        np.testing.assert_allclose(found[k], dense_hessian(w, p, k) @ v[k], rtol=1e-12)
    slope = (gradient(w + h * v, *p) - gradient(w - h * v, *p)) / (2 * h)
    np.testing.assert_allclose(found, slope, atol=1e-6)


def test_products_of_some_classes_use_the_curvature_of_those_classes() -> None:
    p = problem()
    w, v = weights(p), weights(p, 2)
    product = hessian(w, p.z, p.ridge)
    some = np.array([True, False, True])
    np.testing.assert_allclose(product(v[some], some), product(v, np.ones(3, dtype=bool))[some], rtol=1e-13)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 1.0])
def test_a_newton_step_is_the_dense_solution(ridge: float) -> None:
    p = problem(rows=60, features=20, classes=4, ridge=ridge)
    w, right = weights(p), weights(p, 3)
    found = newton_step(w, p.z, p.ridge, right)
    said = left_over(w, p.z, p.ridge, right, found)
    for k in range(4):
        exact = np.linalg.solve(dense_hessian(w, p, k), right[k])
        assert np.linalg.norm(found[k] - exact) <= 1e-10 * np.linalg.norm(exact)
        left = np.linalg.norm(right[k] - dense_hessian(w, p, k) @ found[k])
        assert said[k] == pytest.approx(left, rel=0.5, abs=1e-13)
        assert left <= 1e-11 * np.linalg.norm(right[k])


def test_conjugate_gradients_stop_for_each_class_by_itself() -> None:
    p = problem(features=20)
    right = weights(p, 3) * np.array([[1.0], [0.0], [1e6]])
    product, asked = hessian(weights(p), p.z, p.ridge), []

    def counted(v: Array, classes: Rows) -> Array:
        asked.append(classes.copy())
        return product(v, classes)

    found = conjugate_gradients(counted, right, np.array([1e-12, 1e-12, 0.1]), limit=100)
    times = np.sum(asked, axis=0)
    assert times[1] == 0  # nothing to solve
    assert 0 < times[2] < times[0]
    assert not found[1].any()
    left = np.linalg.norm(right - product(found, np.ones(3, dtype=bool)), axis=1)
    assert left[0] < 1e-11 * np.linalg.norm(right[0])
    assert left[2] < 0.11 * np.linalg.norm(right[2])


def test_a_step_that_ran_out_of_iterations_says_what_is_left() -> None:
    p = problem(features=20)
    product, right = hessian(weights(p), p.z, p.ridge), weights(p, 3)
    rough = conjugate_gradients(product, right, np.full(3, 1e-12), limit=2)
    left = np.linalg.norm(right - product(rough, np.ones(3, dtype=bool)), axis=1)
    assert (left > 1e-6 * np.linalg.norm(right, axis=1)).all()
    loose = newton_step(weights(p), p.z, p.ridge, right, 0.3)
    said = left_over(weights(p), p.z, p.ridge, right, loose)
    assert (said > 1e-6 * np.linalg.norm(right, axis=1)).any()
    assert (said <= 0.31 * np.linalg.norm(right, axis=1)).all()


def test_pulls_stay_between_minus_one_and_one_for_scores_that_overflow() -> None:
    z = np.array([[1e6], [-1e6]])
    found = pulls(np.array([[1.0], [-1.0]]), z, np.array([0, 1]))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_array_equal(pulls(np.array([[1.0], [-1.0]]), z, np.array([1, 0])), [[1, -1], [-1, 1]])


def test_training_ends_at_the_optimum_that_sklearn_finds_on_digits() -> None:
    x, y = load_digits(return_X_y=True)
    z, ridge = x / np.linalg.norm(x, axis=1).max(), 1e-3
    w = train(z, y, np.zeros((10, 64)), ridge, 1e-10)
    assert np.linalg.norm(gradient(w, z, y, np.zeros((10, 64)), ridge), axis=1).max() < 1e-10
    for k in (0, 8):
        peer = LogisticRegression(C=1 / (ridge * len(z)), fit_intercept=False, tol=1e-10, max_iter=5000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its tolerance is out of its reach, not of interest here
            peer.fit(z, y == k)
        np.testing.assert_allclose(w[k], peer.coef_[0], atol=1e-4 * np.abs(peer.coef_).max())


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
def test_training_converges_whatever_the_ridge_and_however_far_the_start(ridge: float) -> None:
    p = problem(ridge=ridge)
    p = p._replace(z=20 * p.z, noise=50 * p.noise)
    w = train(*p, 1e-9)
    assert np.linalg.norm(gradient(w, *p), axis=1).max() < 1e-9
    for seed in range(3):
        aside = w + 1e-2 * np.random.default_rng(seed).normal(size=w.shape)
        assert (loss(aside, p) > loss(w, p)).all()


def test_noise_moves_the_optimum_and_cancels_in_the_difference_of_two_gradients() -> None:
    p = problem()
    assert not np.allclose(train(*p, 1e-10), train(*p._replace(noise=0 * p.noise), 1e-10), atol=1e-3)
    w = weights(p)
    fewer = p._replace(z=p.z[1:], y=p.y[1:])
    with_noise = gradient(w, *p) - gradient(w, *fewer)
    without = gradient(w, *p._replace(noise=0 * p.noise)) - gradient(w, *fewer._replace(noise=0 * p.noise))
    np.testing.assert_allclose(with_noise, without, atol=1e-12)


def test_a_tolerance_out_of_reach_is_refused_in_one_line() -> None:
    p = problem()
    with pytest.raises(UsageError) as caught:
        train(*p, 1e-30)
    assert caught.value.code == "not-converged"
    assert "\n" not in str(caught.value)
    reachable = float(str(caught.value.hint).split("tolerance to ")[1].split(" ")[0])
    train(*p, reachable)
