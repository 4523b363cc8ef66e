"""Streams of requests on a graph, served by the plugin's own class, for the tests of ScaleGUN."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    MISSING,
    Data,
    NodeClassification,
    PrepareJob,
    Request,
    Result,
    Served,
    State,
    TrainJob,
    UnlearnJob,
    VerifyJob,
    View,
    propagated,
)
from unlearnbench_scalegun.method import ScaleGun
from unlearnbench_scalegun.plugin import ScaleGunParams
from unlearnbench_scalegun.residual import true_residual

SGC = (0.0, 0.0, 1.0)


class Line(nn.Module):
    """The simplest network that the method serves."""

    def __init__(self, features: int, outputs: int, levels: Sequence[float], dtype: torch.dtype) -> None:
        super().__init__()
        self.level_weights = tuple(levels)
        self.head = nn.Linear(features, outputs, bias=False, dtype=dtype)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out: Tensor = self.head(propagated(x.to(self.head.weight.dtype), edges, self.level_weights))
        return out


@cache
def cora() -> Data:
    """Cora with standardised features as ScaleGUN's authors scale them; only training nodes are annotated."""
    folder = os.environ.get("UNLEARNBENCH_DATA")
    if not folder or not (Path(folder) / "cora/cora.npz").is_file():
        pytest.skip("cora/cora.npz is not below UNLEARNBENCH_DATA")
    kept = np.load(Path(folder) / "cora/cora.npz")
    x = np.zeros(tuple(kept["x_shape"]))
    x[kept["x_row"], kept["x_col"]] = kept["x_val"]
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    x /= np.linalg.norm(x, axis=1).max()
    y = torch.from_numpy(kept["y"].astype(np.int64))
    return Data(
        x=torch.from_numpy(x.astype(np.float32)),
        y=y.masked_fill(~torch.from_numpy(kept["train_mask"]), MISSING),
        ids=torch.arange(len(y)),
        outputs=tuple("abcdefg"),
        edges=torch.from_numpy(kept["edges"].T.astype(np.int64)).contiguous(),
    )


@cache
def cora_test() -> tuple[Tensor, Tensor]:
    """Test nodes of Cora, and their classes."""
    kept = np.load(Path(os.environ["UNLEARNBENCH_DATA"]) / "cora/cora.npz")
    nodes = torch.from_numpy(kept["test_mask"]).nonzero()[:, 0]
    return nodes, torch.from_numpy(kept["y"].astype(np.int64))[nodes]


def communities(seed: int = 0, n: int = 90, features: int = 6, annotated: float = 0.6) -> Data:
    """Three communities with Gaussian features around their centres, a hub, and nodes without any edge."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = torch.eye(3, features)[y] + 0.5 * torch.randn(n, features, generator=rng)
    chance = torch.where(y[:, None] == y[None], 0.12, 0.02)
    chance[0] = 0.5
    chance[:, -3:] = 0
    edges = (torch.rand(n, n, generator=rng) < chance).triu(1).nonzero().T.contiguous()
    y[torch.rand(n, generator=rng) > annotated] = MISSING
    return Data(x=x, y=y, ids=torch.arange(n), outputs=("a", "b", "c"), edges=edges)


def view(data: Data, name: str, nodes: Tensor | None = None, elements: Tensor | None = None) -> View:
    """The annotated nodes of a graph, or those of them that are among ``nodes``."""
    index = (data.y != MISSING).nonzero()[:, 0]
    if nodes is not None:
        index = index[torch.isin(index, nodes)]
    return View(data, index, name=name, elements=elements)


def edges_of(data: Data) -> Tensor:
    assert data.edges is not None
    return data.edges


def without(data: Data, kind: str, elements: Tensor, keep_features: bool = False) -> Data:
    """The graph after a request."""
    edges = edges_of(data)
    if kind == "edges":
        gone = (edges.T[:, None] == elements.T[None]).all(2).any(1)
        return replace(data, edges=edges[:, ~gone])
    nodes = elements[0]
    x, y = data.x.clone(), data.y.clone()
    if not keep_features:
        x[nodes] = 0
    if kind == "features":
        return replace(data, x=x)
    y[nodes] = MISSING
    return replace(data, x=x, y=y, edges=edges[:, ~torch.isin(edges, nodes).any(0)])


@dataclass
class Stream:
    """Training, preparation and a stream of requests; what is drawn depends on ``seed`` alone."""

    data: Data
    p: ScaleGunParams = field(default_factory=ScaleGunParams)
    levels: Sequence[float] = SGC
    dtype: torch.dtype = torch.float64
    seed: int = 0
    served: list[Served] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.method = ScaleGun(self.p)
        self.now = self.data
        trained = self.train(self.data)
        self.original = trained.model
        assert trained.state is not None
        job = PrepareJob(
            **self.common("prepare"), data=view(self.data, "train"), validation=view(self.data, "validation"),
            model=trained.model, state=trained.state,
        )  # fmt: skip
        self.state = self.method.prepare(job)
        self.model = self.copy(trained.model)
        self.rng = torch.Generator().manual_seed(self.seed)

    def common(self, phase: str) -> dict[str, Any]:
        """What all jobs have."""
        return {
            "task": NodeClassification(),
            "device": torch.device("cpu"),
            "root_seed": self.seed,
            "phase": phase,
            "builder": lambda ref, seed: self.net(),
        }

    def net(self) -> Line:
        return Line(self.data.x.shape[1], len(self.data.outputs), self.levels, self.dtype)

    def copy(self, model: nn.Module) -> nn.Module:
        found = self.net()
        found.load_state_dict({name: weight.clone() for name, weight in model.state_dict().items()}, assign=True)
        return found

    def train(self, data: Data) -> Result:
        """Original or, on the graph after, gold: with the same noise."""
        part = view(data, "train")
        return self.method.train(TrainJob(**self.common("train"), data=part, validation=part, recipe=Recipe()))

    def draw(self, kind: str, count: int) -> Tensor:
        """Random edges [2, k] or annotated nodes [1, k] of the graph as it is now."""
        pool = edges_of(self.now) if kind == "edges" else (self.now.y != MISSING).nonzero().T
        return pool[:, torch.randperm(pool.shape[1], generator=self.rng)[:count].sort().values]

    def serve(self, kind: str, elements: Tensor | int = 1, *, keep_features: bool = False) -> Served:
        """The next request; a number draws so many."""
        if isinstance(elements, int):
            elements = self.draw(kind, elements)
        after = without(self.now, kind, elements, keep_features)
        forget, retain = view(self.now, "forget", elements.unique(), elements), view(after, "retain")
        request = Request(kind=kind, digest=str(len(self.served)))
        result = self.method.unlearn(
            UnlearnJob(
                **self.common(f"unlearn/{len(self.served)}"), request=request, forget=forget, retain=retain,
                validation=retain, model=self.copy(self.model), state=self.state, recipe=Recipe(),
            )
        )  # fmt: skip
        assert result.state is not None
        assert result.certificate is not None
        self.now, self.state, self.model = after, result.state, result.model
        self.warnings = result.warnings
        self.served.append(
            Served(
                request=request, forget=forget, retain=retain, model=self.copy(result.model),
                certificate=result.certificate, proof=result.proof, root_seed=self.seed,
                phase=f"unlearn/{len(self.served)}",
            )
        )  # fmt: skip
        return self.served[-1]

    def truth(self, model: nn.Module | None = None) -> Tensor:
        """The gradients [C] that are really left, on the graph as it is now."""
        model = model or self.model
        batch = view(self.now, "retain").tensors()
        assert batch.rows is not None
        noise = self.served[-1].proof["noise"] if self.served else self.state.tensors["noise"]
        return true_residual(line(model), batch, batch.rows, batch.y, self.levels, noise, self.p.ridge)

    def verify_job(self) -> VerifyJob:
        return VerifyJob(
            **self.common("train"), data=view(self.data, "train"), model=self.original, served=tuple(self.served)
        )

    def findings(self) -> Iterator[Any]:
        return iter(self.method.verify(self.verify_job()))


def line(model: nn.Module) -> Tensor:
    """Weights [C, F] in double precision."""
    (found,) = model.parameters()
    return found.detach().double()


def copy_of(state: State) -> State:
    """A state as the store gives it back."""
    return State(tensors={name: tensor.clone() for name, tensor in state.tensors.items()}, meta=dict(state.meta))
