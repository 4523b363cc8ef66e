"""The splits that are measured, and what several measures read off their rows."""

from __future__ import annotations

from torch import Tensor

from unlearnbench.api.runtime import Better, Rows

SPLITS = ("forget", "retain", "test", "holdout")
KNOWN = ("retain", "test", "validation")
"""Splits whose rows a model should do well on; elsewhere gold's value is the aim."""


def log_p(rows: Rows) -> Tensor:
    """Log-probabilities of the labels [n]."""
    return rows.outputs.log_softmax(1).gather(1, rows.y[:, None])[:, 0]


def accuracy(rows: Rows) -> float:
    """Share of rows whose largest output is the label's."""
    return float((rows.outputs.argmax(1) == rows.y).double().mean())


def direction(split: str, *, loss: bool = False) -> Better:
    """Where good values lie: known rows should be predicted well, the others as gold predicts them."""
    if split not in KNOWN:
        return "gold"
    return "lower" if loss else "higher"
