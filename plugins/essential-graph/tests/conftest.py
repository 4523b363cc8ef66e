"""What several test files need: jobs for an unlearner that was prepared, and scenes that a small network learns."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    TASKS,
    Data,
    PrepareJob,
    Request,
    Result,
    State,
    UnlearnJob,
    View,
    generator,
)
from unlearnbench_essential_graph.method import EssentialGraph
from unlearnbench_essential_graph.plugin import EssentialGraphParams

CPU = torch.device("cpu")


def view(data: Data, name: str, rows: Any = None) -> View:
    return View(data, torch.arange(len(data)) if rows is None else torch.as_tensor(rows), name=name)


def serve(
    p: EssentialGraphParams,
    model: nn.Module,
    data: Data,
    forget: list[int],
    *,
    task: str = "multi-label",
    state: State | None = None,
    validation: Data | None = None,
    recipe: Recipe | None = None,
    kind: str = "target",
) -> Result:
    """Prepare (unless a state is given) and serve one request on a copy of the model."""
    model, unlearner = copy.deepcopy(model), EssentialGraph(p)
    shared: dict[str, Any] = {"task": TASKS[task], "device": CPU, "root_seed": 0, "builder": lambda ref, seed: model}
    held = view(data, "validation", []) if validation is None else view(validation, "validation")
    if state is None:
        state = unlearner.prepare(
            PrepareJob(
                **shared,
                phase="prepare",
                data=view(data, "train"),
                validation=held,
                model=copy.deepcopy(model),
                state=State(),
            )
        )
    asked = {"classes" if kind == "class" else "targets": tuple(forget)}
    return unlearner.unlearn(
        UnlearnJob(
            **shared,
            phase="unlearn",
            request=Request(kind, "0" * 64, **asked),
            forget=View(data, torch.arange(0), name="forget", locked=True),
            retain=view(data, "retain"),
            validation=held,
            model=model,
            state=State(tensors=dict(state.tensors), meta=copy.deepcopy(state.meta)),
            recipe=recipe or Recipe(lr=0.1, batch_size=8),
        )
    )


@pytest.fixture(name="serve")
def _serve() -> Callable[..., Result]:
    return serve


def random_net(widths: tuple[int, ...] = (6, 8, 10), outputs: int = 4, seed: int = 0) -> nn.Module:
    """Convolutions with BatchNorm and ReLU in place, a linear layer; in double, with statistics of their own."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        before = 2
        for width in widths:
            norm = nn.BatchNorm2d(width)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            layers += [nn.Conv2d(before, width, 3, padding=1), norm, nn.ReLU(inplace=True)]
            before = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)]
    return nn.Sequential(*layers).double().eval()


def random_rows(n: int = 24, targets: int = 4, seed: int = 1) -> Data:
    rng = generator(seed)
    x = torch.randn(n, 2, 6, 5, generator=rng, dtype=torch.float64)
    y = torch.randint(2, (n, targets), generator=rng).double()
    return Data(x, y, torch.arange(n), tuple("abcdefgh"[:targets]))


@pytest.fixture
def net() -> nn.Module:
    return random_net()


@pytest.fixture
def rows() -> Data:
    return random_rows()
