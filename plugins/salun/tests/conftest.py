"""Jobs built by hand: what the host hands to an unlearner, over a tiny problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    Classification,
    Data,
    Meter,
    Ref,
    Request,
    State,
    Task,
    UnlearnJob,
    View,
    fit,
    generator,
)


def _no_builder(ref: Ref | None, seed: int) -> nn.Module:
    raise AssertionError("neither SalUn nor its stages build a network")


@dataclass(kw_only=True)
class Problem:
    """Rows, the positions of the forget set among them, and how to ask for them to be forgotten."""

    x: Tensor
    y: Tensor
    forget: Tensor
    outputs: int = 3
    task: Task = field(default_factory=Classification)
    meter: Meter = field(default_factory=Meter)
    locked: frozenset[str] = frozenset()

    def job(self, model: nn.Module, seed: int = 0) -> UnlearnJob:
        data = Data(self.x, self.y, torch.arange(len(self.x)) + 100, tuple(f"c{i}" for i in range(self.outputs)))
        rest = torch.tensor([i for i in range(len(self.x)) if i not in set(self.forget.tolist())], dtype=torch.int64)

        def view(name: str, index: Tensor) -> View:
            return View(data, index, name=name, meter=self.meter, locked=name in self.locked)

        return UnlearnJob(
            task=self.task,
            device=torch.device("cpu"),
            root_seed=seed,
            phase="unlearn",
            builder=_no_builder,
            request=Request("samples", "0" * 64),
            forget=view("forget", self.forget),
            retain=view("retain", rest),
            validation=view("validation", rest[:0]),
            model=model,
            state=State(),
            recipe=Recipe(),
        )


@pytest.fixture
def tiny() -> Callable[..., Problem]:
    """Make 14 rows of 4 features in 3 classes; five of them are to be forgotten unless said otherwise."""

    def make(forget: int = 5, rows: int = 14, multi_label: bool = False, dtype: torch.dtype = torch.float64) -> Problem:
        rng = torch.Generator().manual_seed(rows)
        x = torch.randn(rows, 4, generator=rng, dtype=dtype)
        y = torch.randint(3, (rows,), generator=rng)
        if multi_label:
            y = torch.randint(2, (rows, 3), generator=rng).to(dtype)
        return Problem(x=x, y=y, forget=torch.randperm(rows, generator=rng)[:forget])

    return make


@pytest.fixture
def net() -> Callable[..., nn.Module]:
    """Make a perceptron 4-6-3 with 51 weights; the same one on every call."""

    def make(dtype: torch.dtype = torch.float64) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(dtype).eval()

    return make


@pytest.fixture(scope="session")
def digits() -> tuple[nn.Module, Problem, Tensor, Tensor]:
    """The original model, its problem, and the test rows."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        (x / 16).astype(np.float32).reshape(-1, 1, 8, 8), y, test_size=0.2, stratify=y, random_state=0
    )
    labels = torch.from_numpy(y_train)
    problem = Problem(x=torch.from_numpy(x_train), y=labels, forget=(labels == 3).nonzero()[:, 0], outputs=10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    job = problem.job(model)
    train = View(
        Data(problem.x, labels, torch.arange(len(labels)), job.forget.outputs), torch.arange(len(labels)), name="train"
    )
    recipe = Recipe(optimizer="adam", lr=1e-3, weight_decay=0, epochs=30, batch_size=32)
    fit(model, job.task, train, recipe, generator(0))
    return model, problem, torch.from_numpy(x_test), torch.from_numpy(y_test)
