"""Simulated ensembles, and evidence made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Generator, Tensor


@dataclass
class Simulated:
    """Log-odds [n, m] and who saw which row."""

    phi: npt.NDArray[np.float64]
    members: npt.NDArray[np.bool_]

    @property
    def everything(self) -> npt.NDArray[np.bool_]:
        return np.ones_like(self.members)


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Simulated]:
    """Rows of very different difficulty (sd 3) on which models vary by 1; seeing a row adds ``shift``."""

    def make(rng: np.random.Generator, n: int = 16, m: int = 60, shift: float = 0.0) -> Simulated:
        half = rng.random((n // 2, m)).argsort(1) < m // 2
        members = np.stack([half, ~half], axis=1).reshape(n, m)
        phi = 3 * rng.normal(size=m) + rng.normal(size=(n, m)) + shift * members
        return Simulated(phi, members)

    return make


@dataclass
class HandShadows:
    """Shadows whose outputs are given."""

    members: Tensor
    y: Tensor
    ids: Tensor
    given: dict[str, Tensor]
    n: int

    @property
    def forgotten(self) -> Tensor:
        return torch.arange(len(self.y)) < len(self.y) // 2

    def outputs(self, subject: str = "unlearned") -> Tensor:
        return self.given[subject][: self.n]


@dataclass
class HandEvidence:
    """All that the audits read of evidence."""

    y: Tensor
    ids: Tensor
    members: Tensor
    given: dict[str, Tensor]
    subject: str = "unlearned"
    asked: list[int] = field(default_factory=list)

    def shadows(self, n: int) -> HandShadows:
        self.asked.append(n)
        return HandShadows(self.members[:n], self.y, self.ids, self.given, n)

    def rng(self, purpose: str) -> Generator:
        return Generator().manual_seed(len(purpose))

    def of(self, subject: str) -> HandEvidence:
        return HandEvidence(self.y, self.ids, self.members, self.given, subject)

    def permuted(self, order: Tensor) -> HandEvidence:
        given = {name: outputs[:, order] for name, outputs in self.given.items()}
        return HandEvidence(self.y[order], self.ids[order], self.members[:, order], given, self.subject)


@pytest.fixture(scope="session")
def evidence() -> Callable[..., Any]:
    """Evidence whose originals know the rows they saw, whose golds do not, and whose unlearned models know a little.

    Logits have four classes. The true one is ahead everywhere, so that every prediction is right.
    """

    def make(n: int = 16, m: int = 80, seed: int = 0, kept: float = 0.4) -> HandEvidence:
        rng = np.random.default_rng(seed)
        half = rng.random((n, m)).argsort(1) < m // 2  # twice as many pairs as asked for: for golds of other seeds
        members = np.stack([half, ~half], axis=1).reshape(2 * n, m)
        exposed = np.where(np.arange(m) % 4 == 0, 6.0, 1.0)  # every fourth row is memorised strongly
        y = rng.integers(4, size=m)
        level = 14 + 3 * rng.normal(size=m)

        def logits(gain: float) -> Tensor:
            found = rng.normal(size=(2 * n, m, 4))
            found[:, np.arange(m), y] += level + gain * exposed * members
            return torch.from_numpy(found)

        given = {"original": logits(1.0), "gold": logits(0.0), "unlearned": logits(kept)}
        ids = torch.from_numpy(rng.permutation(10 * m)[:m])
        return HandEvidence(torch.from_numpy(y), ids, torch.from_numpy(members), given)

    return make
