"""What an attack reads off a model's outputs for one row: loss, confidence, entropies, correctness.

All take float64 logits [n, c] and classes [n] and stay finite for any finite logits: probabilities are never formed
where their logarithm is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor


def loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy -ln p_y, [n]."""
    return -_of_class(logits.log_softmax(1), y)


def confidence(logits: Tensor, y: Tensor) -> Tensor:
    """Probability of the true class p_y, [n]."""
    return _of_class(logits.softmax(1), y)


def correctness(logits: Tensor, y: Tensor) -> Tensor:
    """1 where the most probable class is the true one, else 0, [n]."""
    return (logits.argmax(1) == y).double()


def entropy(logits: Tensor) -> Tensor:
    """-sum_k p_k ln p_k, [n] (Song and Mittal 2021, section 3)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def modified_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-(1 - p_y) ln p_y - sum_{k != y} p_k ln(1 - p_k), [n] (Song and Mittal 2021, section 3).

    0 for a row that is surely right, without bound for one that is surely wrong; entropy is 0 for both.
    """
    log_p, log_rest = logits.log_softmax(1), log_complement(logits)
    terms = log_p.exp() * log_rest
    others = terms.scatter(1, y[:, None], 0.0).sum(1)
    return -_of_class(log_rest, y).exp() * _of_class(log_p, y) - others


def log_complement(logits: Tensor) -> Tensor:
    """ln(1 - p_k), [n, c]: exact also where p_k rounds to 1."""
    log_p = logits.log_softmax(1)
    top = logits.argmax(1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    # p_k <= 1/2 everywhere but at the top, where 1 - p_k is what the other classes have.
    complement = (-log_p.exp().clamp(max=0.5)).log1p()
    return complement.scatter(1, top, others - logits.logsumexp(1, keepdim=True))


def _of_class(values: Tensor, y: Tensor) -> Tensor:
    return values.gather(1, y[:, None])[:, 0]
