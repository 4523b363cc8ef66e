"""Likelihood ratios: log-odds of the true class, Gaussians per row, scores of models that the fits have not seen.

Arrays are [n, m]: n shadow models in pairs (2 j, 2 j + 1), m audit rows. In a pair one model has seen a row and the
other has not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from unlearnbench.api.runtime import log_odds

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ROUNDING = 1e-12
"""A standard deviation below this share of the largest log-odds is rounding, not spread."""


class Undefined(Exception):
    """The attack has no value; the message is the status of its readings."""


@dataclass(frozen=True)
class Gaussians:
    """Means and variances [n / 2, m]: for every pair the fits from all other pairs."""

    mean: Floats
    variance: Floats


def defined_log_odds(logits: Tensor, y: Tensor) -> Floats:
    """Log-odds [n, m] of the true class (Carlini et al. 2022, section IV; used by Hayes et al.) of logits [n, m, c].

    Raises:
        Undefined: one class, logits that are not numbers, or infinite log-odds.
    """
    if logits.shape[2] < 2:
        raise Undefined("one class")
    if bool(logits.isnan().any()):
        raise Undefined("non-finite")
    phi = log_odds(logits, y)
    if not bool(phi.isfinite().all()):
        raise Undefined("infinite log-odds")
    found: Floats = phi.cpu().numpy()
    return found


def leave_pair_out(phi: Floats, group: Bools, pseudo: float) -> Gaussians:
    """Fit a Gaussian to every row over the models of ``group`` [n, m], once without each pair.

    With ``k`` models left of the group, their mean ``a`` and sum of squares ``S`` around it, the variance of a row is
    ``(S + pseudo * v) / (k - 1 + pseudo)``; ``v`` is the pooled one, ``sum S / sum (k - 1)`` over all rows. So no
    variance is below ``pseudo * v / (k - 1 + pseudo)``.

    Raises:
        Undefined: no row varies.
    """
    others = 1.0 - np.repeat(np.eye(len(phi) // 2), 2, axis=1)
    centre = np.where(group, phi, 0.0).sum(0) / np.maximum(group.sum(0), 1)
    centred = np.where(group, phi - centre, 0.0)  # sums around a nearby point can be taken apart without loss
    k = others @ group
    total = others @ centred
    squares = np.maximum(others @ centred**2 - total**2 / k, 0.0)
    pooled = squares.sum(1, keepdims=True) / (k - 1).sum(1, keepdims=True)
    if (pooled <= (ROUNDING * np.abs(phi).max()) ** 2).any():
        raise Undefined("zero variance")
    return Gaussians(centre + total / k, (squares + pseudo * pooled) / (k - 1 + pseudo))


def log_ratios(phi: Floats, members: Bools, used: Bools, pseudo: float) -> Floats:
    """``ln N(phi; seen) - ln N(phi; never seen)`` of every model and row, [n, m].

    Model ``i`` is scored by fits from all models but itself and its complement ``i ^ 1``. Leaving out ``i`` alone takes
    a value from the group that it belongs to and none from the other; each row is in half of the models, so the attack
    would read the remaining counts and means against the truth, and guess worse than chance where nothing is to be
    found.

    Args:
        phi: log-odds.
        members: whether a model saw a row.
        used: entries to fit; scores elsewhere have no meaning.
        pseudo: observations that the pooled variance counts for.
    """
    seen, unseen = (leave_pair_out(phi, group & used, pseudo) for group in (members, ~members))
    return _log_density(phi, seen) - _log_density(phi, unseen)


def exposure(phi: Floats, members: Bools, pseudo: float) -> Floats:
    """How far apart models that saw a row are from those that did not, without each pair: [n / 2, m].

    ``|mean seen - mean unseen| / sqrt((variance seen + variance unseen) / 2)``, a sensitivity index d'.
    """
    seen, unseen = (leave_pair_out(phi, group, pseudo) for group in (members, ~members))
    return np.asarray(np.abs(seen.mean - unseen.mean) / np.sqrt((seen.variance + unseen.variance) / 2))


def most_exposed(gap: Floats, share: float) -> Bools:
    """Whether a row is among the ``ceil(share * m)`` of largest gap: [n, m] from [n / 2, m], both of a pair alike."""
    taken = np.zeros(gap.shape, dtype=np.bool_)
    order = np.argsort(-gap, axis=1, kind="stable")[:, : rows_taken(gap.shape[1], share)]
    np.put_along_axis(taken, order, True, axis=1)
    return np.repeat(taken, 2, axis=0)


def rows_taken(m: int, share: float) -> int:
    """``ceil(share * m)``, where 0.1 of 30 are 3."""
    return int(np.ceil(share * m - 1e-9))


def _log_density(phi: Floats, fits: Gaussians) -> Floats:
    """``ln N(phi; mean, variance)`` without its constant, which the ratio does not have."""
    mean, variance = (np.repeat(part, 2, axis=0) for part in (fits.mean, fits.variance))
    return np.asarray(-0.5 * (np.log(variance) + (phi - mean) ** 2 / variance))
