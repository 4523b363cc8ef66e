"""Linear probes: whether a picture shows a target, by what a logistic regression learned from unseen rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Generator, Tensor

from unlearnbench.api.runtime import MISSING, numpy_rng

MOST_ROWS = 2000
"""Rows that a probe is fitted to and judged by at most, a half each."""
ITERATIONS = 300


@dataclass(frozen=True)
class Probe:
    """A probe of one label, fitted to ``rows`` rows; ``auc`` [0, 1] is its area on ``judged`` other rows.

    ``status`` and ``auc_status`` are ``ok``, or why there is none.
    """

    model: LogisticRegression | None
    column: int
    rows: int
    judged: int
    auc: float | None
    status: str = "ok"
    auc_status: str = "ok"

    def confidence(self, x: Tensor) -> float | None:
        """The probability of the label for one input, in the units of the rows; None without a probe."""
        if self.model is None:
            return None
        return float(self.model.predict_proba(x.reshape(1, -1).double().numpy())[0, self.column])


def fit_probe(x: Tensor, labels: Tensor, label: int, rng: Generator) -> Probe:
    """A probe of ``label`` among the labels [n] of rows [n, ...]; rows without a label (NaN, -100) are left out.

    At most 2,000 rows are drawn; every other one of them is kept to judge it. The rows come in a fixed order, which the
    draw depends on.
    """
    known = ~(labels.isnan() | (labels == MISSING))
    order = numpy_rng(rng).permutation(known.nonzero()[:, 0].numpy())[:MOST_ROWS]
    fitted, kept = np.sort(order[::2]), np.sort(order[1::2])
    y = labels.long().numpy()
    if not 0 < (y[fitted] == label).sum() < len(fitted):
        return Probe(None, 0, len(fitted), len(kept), None, "one class", "one class")
    rows = x.reshape(len(x), -1).double().numpy()
    model = LogisticRegression(max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its area on other rows says how good it is
        model.fit(rows[fitted], y[fitted])
    column = model.classes_.tolist().index(label)
    there = y[kept] == label
    if not 0 < there.sum() < len(kept):
        return Probe(model, column, len(fitted), len(kept), None, auc_status="one class")
    area = float(roc_auc_score(there, model.predict_proba(rows[kept])[:, column]))
    return Probe(model, column, len(fitted), len(kept), area)
