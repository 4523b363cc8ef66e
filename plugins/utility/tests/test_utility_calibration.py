"""Calibration against torchmetrics and scikit-learn, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from unlearnbench_utility.calibration import Calibration, brier, expected_calibration_error, nll
from unlearnbench_utility.plugin import CalibrationParams


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and labels of 500 rows of 4 classes."""
    rng = torch.Generator().manual_seed(0)
    return 2 * torch.randn(500, 4, generator=rng, dtype=torch.float64), torch.randint(4, (500,), generator=rng)


@pytest.mark.parametrize("bins", [1, 15, 40])
def test_ece_is_that_of_torchmetrics_and_of_a_plain_loop(drawn: tuple[torch.Tensor, torch.Tensor], bins: int) -> None:
    out, y = drawn
    confidence, guess = out.softmax(1).max(1)
    found = expected_calibration_error(confidence, guess == y, bins)
    assert found == pytest.approx(float(multiclass_calibration_error(out.softmax(1), y, 4, n_bins=bins)), abs=1e-6)
    c, right, total = confidence.numpy(), (guess == y).numpy(), 0.0
    for m in range(bins):
        inside = (c > m / bins) & (c <= (m + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - c[inside].mean())
    assert found == pytest.approx(total, abs=1e-12)


def test_ece_by_hand() -> None:
    """(0, 1/2] holds .4 (wrong) and .5 (right), the edge included; (1/2, 1] holds .9 (right) and .8 (wrong)."""
    confidence = torch.tensor([0.4, 0.5, 0.9, 0.8], dtype=torch.float64)
    right = torch.tensor([False, True, True, False])
    assert expected_calibration_error(confidence, right, 2) == pytest.approx((0.1 + 0.7) / 4)


def test_sure_and_right_is_calibrated_sure_and_wrong_is_not() -> None:
    sure = torch.ones(8, dtype=torch.float64)
    assert expected_calibration_error(sure, torch.ones(8, dtype=torch.bool), 15) == 0
    assert expected_calibration_error(sure, torch.zeros(8, dtype=torch.bool), 15) == 1


def test_brier_and_nll_are_scikit_learns(drawn: tuple[torch.Tensor, torch.Tensor]) -> None:
    out, y = drawn
    p = out.softmax(1).numpy()
    assert brier(out.softmax(1), y) == pytest.approx(np.mean((p - np.eye(4)[y.numpy()]) ** 2) * 4)
    assert brier(out.softmax(1), y) == pytest.approx(
        brier_score_loss(y.numpy(), p, labels=range(4), scale_by_half=False)
    )
    assert nll(out, y) == pytest.approx(log_loss(y.numpy(), p, labels=range(4)))


def test_brier_and_nll_by_hand() -> None:
    p = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 2])
    assert brier(p, y) == pytest.approx((0.25 + 2 * 0.0625 + 2) / 2)
    assert nll(p[:1].log(), y[:1]) == pytest.approx(math.log(2))


def test_probabilities_that_round_to_0_leave_the_nll_exact() -> None:
    assert nll(torch.tensor([[0.0, 2000.0]], dtype=torch.float64), torch.tensor([0])) == 2000


def test_known_rows_should_be_low_and_the_others_as_golds(noisy: Callable[..., Any], by_key: Any) -> None:
    found = by_key(Calibration(CalibrationParams()), noisy())
    assert {key: r.better for key, r in found.items()} == {
        f"{name}.{split}": "lower" if split in ("retain", "test") else "gold"
        for split in ("forget", "retain", "test", "holdout")
        for name in ("ece", "brier", "nll")
    }
    assert found["nll.test"].value == nll(noisy().outputs("test").double(), noisy().y("test"))
    assert (found["nll.test"].unit, found["ece.test"].unit, found["nll.test"].n) == ("nats", "", 50)


def test_order_of_rows_changes_no_bit(noisy: Any, shuffled: Any, by_key: Any) -> None:
    measure = Calibration(CalibrationParams())
    assert by_key(measure, noisy()) == by_key(measure, shuffled(noisy()))
