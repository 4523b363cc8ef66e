"""Jobs of forgetting a target, built by hand: what the host hands over for each way of taking a target away."""

from __future__ import annotations

import torch
from hand_jobs import Problem
from torch import Tensor, nn

from unlearnbench.api.runtime import MISSING, Data, Request, Segmentation, UnlearnJob, View, generator

WAYS = ("absent", "unknown", "images")


def target_job(problem: Problem, model: nn.Module, target: int, how: str, seed: int = 0) -> UnlearnJob:
    """``absent`` and ``unknown`` take the target's annotations out of rows that stay, ``images`` takes whole rows."""
    task, job = problem.task, problem.job(model, seed)
    carries, only = task.split_target(problem.y, target)
    forgotten, left = problem.y, problem.y
    if how != "images":
        forgotten = torch.full_like(problem.y, torch.nan if problem.y.is_floating_point() else MISSING)
        forgotten[carries] = only
        left = task.erase(problem.y, target, "absent" if how == "absent" else "unknown")
    kept = ~carries if how == "images" else task.annotated(left)

    def view(name: str, y: Tensor, rows: Tensor) -> View:
        data = Data(problem.x, y, torch.arange(len(y)) + 100, ("a", "b", "c"))
        return View(data, rows.nonzero()[:, 0], name=name, meter=problem.meter)

    job.request = Request("target", "0" * 64, targets=(target,))
    job.forget, job.retain = view("forget", forgotten, carries), view("retain", left, kept)
    return job


def carrying(problem: Problem, target: int) -> Tensor:
    """Positions of the rows that carry the target."""
    return problem.task.split_target(problem.y, target)[0].nonzero()[:, 0]


def images(n: int = 12, seed: int = 2) -> Problem:
    """Images of 6x6 pixels in double precision with masks of three classes; half of them show class 1, half class 2."""
    rng = generator(seed)
    x = torch.randn(n, 2, 6, 6, generator=rng, dtype=torch.float64)
    y = torch.zeros(n, 6, 6, dtype=torch.int64)
    y[:, 1:4, 2:5] = (torch.arange(n) % 2 + 1)[:, None, None]
    y[0, 0, :2] = MISSING
    none = torch.arange(0)
    return Problem(x=x, y=y, forget=none, validation=none, task=Segmentation())


def pixelwise(seed: int = 5) -> nn.Module:
    """A class for each pixel of ``images``: two convolutions with BatchNorm between them, in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 3, 1)
        return nn.Sequential(*layers).double().eval()
