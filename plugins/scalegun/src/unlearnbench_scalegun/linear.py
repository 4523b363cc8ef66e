"""One-against-rest logistic regression with a noisy objective, for all classes at once, in double precision.

Class k has y_ik = +1 on rows of class k and -1 on the others, and minimises (Guo et al. 2020; Chien et al. 2023)

    L_k(w) = sum over the m rows of [-log sigma(y_ik w.z_i) + ridge / 2 |w|^2] + noise_k . w.

Arrays: weights ``w`` and ``noise`` [C, F], rows ``z`` [m, F], classes ``y`` [m] in 0..C-1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from unlearnbench.api.errors import UsageError

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Product = Callable[[Array, Array], Array]
"""Hessian-vector products: vectors [k, F] of the classes that a mask [C] selects, to vectors [k, F]."""

NEWTON_STEPS = 100
SHORTEST = 2.0**-30
"""Shortest share of a Newton step that the line search tries."""
DECREASE = 1e-4
"""Share of the decrease that a Newton step promises which the line search asks for."""
CG_TOLERANCE = 1e-13
"""Relative residual at which conjugate gradients stop: near what double precision can tell."""


class Problem(NamedTuple):
    """What an objective is made of: ``gradient(w, *problem)``."""

    z: Array
    y: Rows
    noise: Array
    ridge: float


def pulls(w: Array, z: Array, y: Rows) -> Array:
    """Derivatives [m, C] of each row's loss by its score w.z: (sigma(y w.z) - 1) y, all between -1 and 1."""
    found: Array = expit(z @ w.T)
    found[np.arange(len(y)), y] -= 1  # sigma(s) for the other classes, sigma(s) - 1 for the row's own
    return found


def gradient(w: Array, z: Array, y: Rows, noise: Array, ridge: float) -> Array:
    """Gradients [C, F] of all classes' objectives."""
    found: Array = pulls(w, z, y).T @ z + (ridge * len(z)) * w + noise
    return found


def hessian(w: Array, z: Array, ridge: float) -> Product:
    """Products with the classes' Hessians Z^T diag(s (1 - s)) Z + ridge m I at ``w``; no F x F matrix is ever made."""
    scores: Array = expit(z @ w.T)
    curvature = (scores * (1 - scores)).T
    shrink = ridge * len(z)

    def product(v: Array, classes: Array) -> Array:
        found: Array = ((v @ z.T) * curvature[classes]) @ z + shrink * v
        return found

    return product


def conjugate_gradients(product: Product, right: Array, tolerance: Array, limit: int) -> Array:
    """Solve the systems of all classes side by side; a class leaves when its residual is within its own tolerance.

    Args:
        product: the matrices, symmetric and positive definite.
        right: right-hand sides [C, F].
        tolerance: [C], of the residual's norm relative to that of the right-hand side.
        limit: most iterations; what is left then is for the caller to see.
    """
    found = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    square = (residual**2).sum(1)
    goal = tolerance**2 * square
    going = square > goal
    for _ in range(limit):
        if not going.any():
            break
        along = direction[going]
        image = product(along, going)
        length = square[going] / (along * image).sum(1)
        found[going] += length[:, None] * along
        residual[going] -= length[:, None] * image
        now = (residual[going] ** 2).sum(1)
        direction[going] = residual[going] + (now / square[going])[:, None] * along
        square[going] = now
        going &= square > goal
    return found


def newton_step(w: Array, z: Array, ridge: float, right: Array, tolerance: float | Array = CG_TOLERANCE) -> Array:
    """H(w)^-1 right, [C, F], for all classes at once, up to ``left_over``."""
    goals = np.broadcast_to(np.asarray(tolerance, dtype=np.float64), len(w))
    return conjugate_gradients(hessian(w, z, ridge), right, goals, limit=10 * w.shape[1] + 10)


def left_over(w: Array, z: Array, ridge: float, right: Array, step: Array) -> Array:
    """Norms [C] of right - H(w) step: of any step, whatever a solver believes it has reached."""
    image = hessian(w, z, ridge)(step, np.ones(len(w), dtype=np.bool_))
    found: Array = np.linalg.norm(right - image, axis=1)
    return found


def train(z: Array, y: Rows, noise: Array, ridge: float, tolerance: float) -> Array:
    """The minimisers [C, F]: Newton's method from 0 until every class's gradient is shorter than ``tolerance``.

    The line search looks at the gradient's norm, which a Newton step decreases wherever it starts as the objective is
    strongly convex, and which can be told apart long after the loss itself cannot.

    Raises:
        UsageError: double precision does not reach the tolerance on these rows.
    """
    w = np.zeros_like(noise)
    slope = gradient(w, z, y, noise, ridge)
    norm = np.linalg.norm(slope, axis=1)
    for _ in range(NEWTON_STEPS):
        if (norm < tolerance).all():
            return w
        # A gradient that is nearly 0 deserves an exact step: this makes convergence quadratic.
        goals = np.clip(norm, CG_TOLERANCE, 0.1)
        step = newton_step(w, z, ridge, -slope, goals)
        share = np.where(norm < tolerance, 0.0, 1.0)
        while True:
            ahead = w + share[:, None] * step
            there = gradient(ahead, z, y, noise, ridge)
            length = np.linalg.norm(there, axis=1)
            too_long = (share > 0) & (length > (1 - DECREASE * share) * norm)
            if not too_long.any():
                break
            share = np.where(too_long, np.where(share > SHORTEST, share / 2, 0.0), share)
        if not share.any():
            break
        w, slope, norm = ahead, there, length
    if (norm < tolerance).all():
        return w
    worst = int(norm.argmax())
    raise UsageError(
        "not-converged",
        f"training left a gradient of {norm[worst]:.2g} in class {worst}, and tolerance is {tolerance:g}",
        where="unlearner scalegun",
        hint=f"set tolerance to {2 * norm[worst]:.1g} or more, or a larger ridge",
    )
