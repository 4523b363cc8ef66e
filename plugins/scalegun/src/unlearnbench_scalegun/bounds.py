"""How far a model may be from the optimum of its objective on exact propagated features, and how far it is allowed to.

If the gradient of class k's objective at the model's weights is no longer than ``budget`` = alpha epsilon /
sqrt(2 ln(1.5 / delta)), with noise N(0, alpha^2) in the objective, class k alone is (epsilon, delta)-certified (Guo et
al. 2020, Theorem 3). What is held against it says for what the certificate speaks:

* ``pooled``, as in the paper: the sum over C classes against C budgets. A class may pass its own budget as long as
  others stay below theirs; the whole model is (C epsilon, delta)-certified, as the sum is above the joint length.
* ``per-class``: each class against its own. Each class is (epsilon, delta)-certified; the whole model is
  (sqrt(C) epsilon, delta)-certified.
* ``joint``: the length of all classes' gradients as one vector against one budget. The only one of the three that says
  of the whole model that it is (epsilon, delta)-certified.

Two bounds on each class's gradient. ``direct`` is the gradient as it is, on the features that are kept, plus what
exact features could add. ``paper`` never looks at the gradient: what training left, what each step since may have left
(its second-order remainder and what conjugate gradients did not solve), plus what exact features could add. Where they
differ from the authors' bound, that was no bound: they leave out what training left, sum residues with their signs, and
take it that no row is longer than 1.

Double precision is part of both: ``rounding`` is what the computed gradient may differ from the true one of the same
numbers, once for the method and once for whoever computes it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, log, sqrt

import numpy as np

from unlearnbench_scalegun.linear import Array, Problem, Rows, gradient
from unlearnbench_scalegun.plugin import Bound, Pooling

GAMMA1 = 0.25
"""Lipschitz constant of sigma: the slope of a row's pull by its score."""
GAMMA2 = 0.25
"""Lipschitz constant of sigma' (1 / (6 sqrt 3) in truth; the paper's value, kept for comparison)."""
UNIT = float(np.finfo(np.float64).eps) / 2


def budget(alpha: float, epsilon: float, delta: float) -> float:
    """The longest gradient that noise of deviation alpha hides: alpha epsilon / sqrt(2 ln(1.5 / delta))."""
    return alpha * epsilon / sqrt(2 * log(1.5 / delta))


def allowed(pooling: Pooling, classes: int, one: float) -> float:
    """What ``pooled`` is held against, ``one`` being the budget of one gradient."""
    return classes * one if pooling == "pooled" else one


def pooled(pooling: Pooling, bounds: Array) -> float:
    """The bounds [C] of all classes as the number that is held against the budget."""
    if pooling == "pooled":
        return float(bounds.sum())
    return float(bounds.max() if pooling == "per-class" else np.linalg.norm(bounds))


def norms(rows: Array) -> Array:
    """Euclidean norm of each row."""
    found: Array = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return found


def longest(z: Array) -> float:
    """max over training rows of |z_i|; 0 without rows."""
    return float(norms(z).max(initial=0.0))


def approximation(w: Array, z: Array, rho: Array) -> Array:
    """Most by which exact features change each class's gradient, [C]: (1 + gamma1 |w_k| max_i |zhat_i|) |rho|.

    ``z`` are the kept features zhat of the training rows and ``rho`` [F] bounds the sum over all nodes of
    |zhat_ij - z_ij| for each column j. With e_i = zhat_i - z_i and psi the pull, |psi| <= 1 and |psi'| <= gamma1,

        sum_i psi(w.zhat_i) zhat_i - psi(w.z_i) z_i = sum_i psi(w.z_i) e_i + sum_i (psi(w.zhat_i) - psi(w.z_i)) zhat_i.

    Column j of the first sum is at most sum_i |e_ij| <= rho_j. The second is at most max_i |zhat_i| times gamma1 times
    sum_i |w.e_i| <= sum_j |w_j| rho_j <= |w| |rho|. Only rows that are there in full, the kept ones, are measured.
    """
    found: Array = (1 + GAMMA1 * norms(w) * longest(z)) * float(np.linalg.norm(rho))
    return found


def rounding(w: Array, problem: Problem, step: Array | None = None) -> Array:
    """Most by which gradients [C] computed twice in double precision, in any order of summation, differ from the truth.

    A sum of n products is off by at most n u / (1 - n u) times the sum of their absolute values, u = 2^-53. The pulls
    are at most 1 and inherit the error of their scores through gamma1. A ``step`` adds
    the error of its product with the Hessian.
    """
    z, _, noise, ridge = problem
    terms = (sum(z.shape) + 8) * UNIT
    size = float(np.linalg.norm(z))
    decay = ridge * len(z)
    found: Array = sqrt(len(z)) * size * (1 + GAMMA1 * norms(w) * longest(z)) + decay * norms(w) + norms(noise)
    if step is not None:
        found = found + (GAMMA1 * size**2 + decay) * norms(step)
    return 2 * terms / (1 - terms) * found


def remainder(step: Array, z: Array, spectral: float) -> Array:
    """The second-order remainder of a Newton step [C], at most gamma2 |Z| max(1, max_i |z_i|) |dw_k| |Z dw_k|.

    H(w) dw differs from the change of the gradient by Z^T diag(sigma'(xi_i) - sigma'(s_i)) Z dw, and the entries of the
    diagonal are at most gamma2 |z_i.dw| <= gamma2 |z_i| |dw|. The paper takes |z_i| <= 1, which a hub need not keep.
    """
    found: Array = GAMMA2 * spectral * max(1.0, longest(z)) * norms(step) * norms((z @ step.T).T)
    return found


def spectral_norm(z: Array) -> float:
    """The largest singular value from an eigenvalue of the smaller Gram matrix, rounded up.

    Power iteration, as in the authors' code, comes from below and gives no bound.
    """
    gram = z.T @ z if z.shape[0] > z.shape[1] else z @ z.T
    if not gram.size:
        return 0.0
    largest = float(np.linalg.eigvalsh(gram)[-1])
    return sqrt(max(largest, 0.0) + 4 * sum(z.shape) * UNIT * float(np.einsum("ij,ij->", z, z)))


@dataclass(frozen=True)
class Ledger:
    """What a stream of requests has to carry along for the bounds that are not read off the model.

    ``training`` [C] is the gradient that training left, ``accumulated`` [C] what the steps since may have added,
    ``spectral`` a bound on |Zhat|: exact when training ended, since then larger by the Frobenius norm of every change.
    ``worst`` is the sum of the paper's worst-case terms since training.
    """

    training: Array
    accumulated: Array
    spectral: float
    worst: float = 0.0

    @classmethod
    def after_training(cls, w: Array, problem: Problem) -> Ledger:
        """A new account for weights that were just trained."""
        left = norms(gradient(w, *problem))
        return cls(left, np.zeros(len(w)), spectral_norm(problem.z))

    def after_step(
        self, w: Array, step: Array, left: Array, problem: Problem, moved: float, influence: float
    ) -> Ledger:
        """The account after a request.

        Args:
            w: weights before the step.
            step: the change of the weights.
            left: norms [C] of what the step left of its right-hand side.
            problem: the rows after the request.
            moved: Frobenius norm of the change of the rows. Rows that leave only make |Zhat| smaller.
            influence: ``influence`` of what was removed.
        """
        spectral = self.spectral + moved
        more = remainder(step, problem.z, spectral) + left + rounding(w, problem, step)
        rows, features = problem.z.shape
        worst = worst_case_factor(rows, features, problem.ridge) * 2 * GAMMA1 * features / max(rows, 1) * influence
        return Ledger(self.training, self.accumulated + more, spectral, self.worst + worst)


@dataclass(frozen=True)
class Terms:
    """All terms of a certificate, for each class [C]; ``worst_case`` is one number, infinite where it overflows."""

    training: Array
    accumulated: Array
    approximation: Array
    rounding: Array
    gradient: Array
    worst_case: float

    @property
    def direct(self) -> Array:
        """From the gradient as it is."""
        return self.gradient + self.approximation + self.rounding

    @property
    def paper(self) -> Array:
        """From what was added up since training."""
        return self.training + self.accumulated + self.approximation + self.rounding

    def value(self, bound: Bound, pooling: Pooling) -> float:
        """The number that is held against the budget."""
        return pooled(pooling, self.direct if bound == "direct" else self.paper)


def terms(ledger: Ledger, w: Array, problem: Problem, rho: Array, epsilon1: float) -> Terms:
    """Every term at weights ``w``; ``rho`` is the propagation's error bound [F], ``epsilon1`` that of the paper."""
    rows, features = problem.z.shape
    worst = len(w) * (worst_case_factor(rows, features, problem.ridge) * epsilon1 + ledger.worst)
    return Terms(
        training=ledger.training,
        accumulated=ledger.accumulated,
        approximation=approximation(w, problem.z, rho),
        rounding=rounding(w, problem),
        gradient=norms(gradient(w, *problem)),
        worst_case=worst if isfinite(worst) else inf,
    )


# -- the paper's worst-case bounds (Theorems 4.2 to 4.4): vacuous in practice, stated for comparison ------------------


def paper_error(nodes: int, levels: int, threshold: float) -> float:
    """epsilon_1 = sqrt(n) (L + 1) rmax: the authors' bound on a column's error; ``levels`` are L + 1."""
    return sqrt(nodes) * levels * threshold


def worst_case_factor(rows: int, features: int, ridge: float) -> float:
    """M = gamma1 F / ridge + sqrt(F m), with the constants c and c1 of the paper at 1 as in the authors' code."""
    return GAMMA1 * features / ridge + sqrt(features * rows)


def influence(kind: str, degrees: Rows) -> float:
    """What a request adds to the worst case, by the degrees (with the self-loop) of the nodes it is about.

    Edges: 4 / sqrt(d) over both ends of each edge. Nodes: the same over each node and its neighbours. Features:
    sqrt(d) over the nodes.
    """
    d = degrees.astype(np.float64)
    return float(np.sqrt(d).sum() if kind == "features" else (4 / np.sqrt(d)).sum())
