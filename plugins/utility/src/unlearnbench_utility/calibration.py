"""Calibration: whether the confidence of a model is the share of rows on which it is right."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from unlearnbench.api.runtime import Component, Evidence, Reading, rows_of
from unlearnbench_utility.plugin import CalibrationParams
from unlearnbench_utility.rows import SPLITS, direction


class Calibration(Component[CalibrationParams]):
    """ECE, Brier score and negative log-likelihood on the forget set, the retain set, the test rows and the hold-out.

    Low is good on retain and test rows. On the forget set gold's value is the aim: a model that forgot is unsure there.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        for split in SPLITS:
            part = rows_of(evidence, split)
            found: dict[str, float | None] = {"ece": None, "brier": None, "nll": None}
            if part.status == "ok":
                found = self._scores(part.outputs, part.y)
            for name, value in found.items():
                yield Reading(
                    name, value, len(part), better=direction(split, loss=True), split=split,
                    unit="nats" if name == "nll" else "", status=part.status,
                )  # fmt: skip

    def _scores(self, out: Tensor, y: Tensor) -> dict[str, float | None]:
        p = out.softmax(1)
        confidence, guess = p.max(1)
        return {
            "ece": expected_calibration_error(confidence, guess == y, self.p.bins),
            "brier": brier(p, y),
            "nll": nll(out, y),
        }


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int) -> float:
    """Guo et al. 2017, equation 3: sum over bins of |B| / n * |accuracy(B) - confidence(B)|.

    Bin m holds the confidences in ((m - 1) / bins, m / bins]; the first holds 0 too.
    """
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype)[1:-1]
    index = torch.searchsorted(edges, confidence.contiguous())  # the first edge that is not below: right-closed bins
    gap = torch.zeros(bins, dtype=confidence.dtype).index_add_(0, index, right.to(confidence.dtype) - confidence)
    return float(gap.abs().sum() / len(confidence))


def brier(p: Tensor, y: Tensor) -> float:
    """Mean over rows of sum_k (p_k - 1[k = y])^2, in [0, 2] (Brier 1950)."""
    hit = torch.nn.functional.one_hot(y, p.shape[1]).to(p.dtype)
    return float((p - hit).square().sum(1).mean())


def nll(out: Tensor, y: Tensor) -> float:
    """Mean of logsumexp(z) - z_y: finite for finite outputs, however sure they are."""
    return float((out.logsumexp(1) - out.gather(1, y[:, None])[:, 0]).mean())
