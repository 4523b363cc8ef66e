"""Requests for targets: fine-tuning with the target masked, random labels for the target alone or for whole rows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hand_jobs import Problem, perceptron, tiny
from hand_targets import WAYS, carrying, target_job
from torch import Tensor, nn

from unlearnbench.api.runtime import Detection, MultiLabel, derive_seed, generator, padded_boxes, recalls
from unlearnbench.testing.problem_boxes import CellDetector
from unlearnbench_baselines.method import Finetune, SuccessiveRandomLabels
from unlearnbench_baselines.plugin import FinetuneParams, SuccessiveRandomLabelsParams

TARGET = 1
TUNING = FinetuneParams(optimizer="adam", lr=0.05, weight_decay=0, epochs=30, batch_size=8)


def labels() -> Problem:
    problem = tiny(5, 12, multi_label=True)
    problem.y[0, 2] = torch.nan
    return problem


class Seen(MultiLabel):
    """Remembers the labels that were trained on."""

    def __init__(self) -> None:
        self.y: list[Tensor] = []

    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        self.y.append(y.clone())
        return super().loss(out, y, smoothing)


def sorted_rows(y: Tensor) -> list[list[float]]:
    return sorted(y.nan_to_num(-1).tolist())


@pytest.mark.parametrize("passes", ["alternate", "mixed"])
@pytest.mark.parametrize("how", WAYS)
def test_random_labels_are_drawn_for_what_is_to_be_forgotten_and_nothing_else(how: str, passes: Any) -> None:
    """By hand: what every label of an epoch must be. ``wrong`` turns each annotated one round."""
    problem = labels()
    problem.task = seen = Seen()
    y, rows = problem.y, carrying(problem, TARGET)
    if how == "images":
        forgotten, kept = 1 - y[rows], y[[i for i in range(len(y)) if i not in rows]]
    else:
        forgotten = torch.full_like(y[rows], torch.nan)
        forgotten[:, TARGET] = 0  # they were 1
        kept = y.clone()
        kept[:, TARGET] = 0 if how == "absent" else torch.nan
    p = SuccessiveRandomLabelsParams(epochs=1, batch_size=4, passes=passes)
    SuccessiveRandomLabels(p).unlearn(target_job(problem, perceptron(), TARGET, how))
    assert sorted_rows(torch.cat(seen.y)) == sorted_rows(torch.cat([forgotten, kept]))


def test_uniform_labels_leave_every_cell_alone_that_is_not_the_targets() -> None:
    problem = labels()
    problem.task = seen = Seen()
    p = SuccessiveRandomLabelsParams(epochs=20, batch_size=64, draw="uniform")
    SuccessiveRandomLabels(p).unlearn(target_job(problem, perceptron(), TARGET, "unknown"))
    drawn = torch.cat(seen.y[::2])
    assert bool(drawn[:, [0, 2]].isnan().all())
    assert 0.3 < float(drawn[:, TARGET].mean()) < 0.7


@pytest.mark.parametrize("how", WAYS)
def test_finetuning_trains_on_what_the_request_leaves(how: str) -> None:
    problem = labels()
    problem.task = seen = Seen()
    Finetune(FinetuneParams(epochs=1, batch_size=4)).unlearn(target_job(problem, perceptron(), TARGET, how))
    kept = problem.y.clone()
    if how == "images":
        kept = kept[[i for i in range(len(kept)) if i not in carrying(problem, TARGET)]]
    else:
        kept[:, TARGET] = 0 if how == "absent" else torch.nan
    assert sorted_rows(torch.cat(seen.y)) == sorted_rows(kept)


def detector() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return CellDetector(3, 3).double().eval()


def boxes() -> Problem:
    """Bright squares, each in the channel of its class; one image is empty."""
    rng, found = generator(derive_seed(0, "boxes")), []
    x = 0.2 * torch.randn(24, 3, 8, 8, generator=rng, dtype=torch.float64)
    for row in range(24):
        drawn = [] if row == 0 else [[1, 1, 4, 4, row % 3], [5, 4, 8, 7, (row + 1) % 3]]
        for left, top, right, bottom, label in drawn:
            x[row, label, top:bottom, left:right] += 2
        found.append(torch.tensor(drawn, dtype=torch.float32).reshape(-1, 5))
    none = torch.arange(0)
    return Problem(x=x, y=padded_boxes(found).double(), forget=none, validation=none, task=Detection())


def asserted(problem: Problem, model: nn.Module) -> list[float]:
    """Recall of each class."""
    with torch.no_grad():
        return [value or 0.0 for value in recalls(model(problem.x), problem.y, 3)]


def test_a_detector_that_is_tuned_without_the_targets_boxes_finds_the_others_alone() -> None:
    problem, original = boxes(), detector()
    Finetune(TUNING).unlearn(problem.job(original))
    assert min(asserted(problem, original)) >= 0.8
    for how in ("absent", "images"):
        tuned = Finetune(TUNING).unlearn(target_job(problem, deepcopy(original), TARGET, how)).model
        assert not tuned.training
        first, target, last = asserted(problem, tuned)
        assert min(first, last) >= 0.8
        assert target <= 0.1
