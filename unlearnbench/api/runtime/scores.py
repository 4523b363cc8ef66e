"""What several measures compute from outputs and probabilities of single rows."""

from __future__ import annotations

import torch
from torch import Tensor


def log_odds(outputs: Tensor, y: Tensor) -> Tensor:
    """``ln(p_y / (1 - p_y)) = z_y - ln(sum over k != y of exp z_k)`` of logits [..., n, c] and classes [n]: [..., n].

    The logit-scaled confidence of Carlini et al. 2022, section IV, also called margin; in nats and in float64. The
    second form loses no digits where p_y is near 0 or 1. Infinite where the logits of the class or of all others are,
    and with a single class; NaN where a logit is NaN: what then follows is the measure's to say.
    """
    z = outputs.double()
    index = y.expand(z.shape[:-1])[..., None]
    others = z.scatter(-1, index, -torch.inf).logsumexp(-1)
    return z.gather(-1, index)[..., 0] - others


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """``JS(p, q) = (KL(p || m) + KL(q || m)) / 2``, ``m = (p + q) / 2``, of the rows of two [n, c] tensors of shares.

    [n] in bits (logarithms to base 2), so within [0, 1] (Lin 1991). Classes that are given 0 add nothing; NaN where a
    share is.
    """
    mean = (p + q) / 2
    return (_kl(p, mean) + _kl(q, mean)).clamp(0, 2) / 2


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return torch.where(p == 0, 0.0, p * (p / q).log2()).sum(1)
