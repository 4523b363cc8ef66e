"""Evidence built by hand over models and rows: for tests of measures."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import (
    Classification,
    Data,
    PhaseCost,
    Request,
    Shadows,
    Siblings,
    Subject,
    Task,
    View,
    derive_seed,
    generator,
    predict,
)


def rows(x: Tensor, y: Tensor, first_id: int, classes: int = 3) -> Data:
    """Rows with ids that count from ``first_id``."""
    return Data(x, y, torch.arange(len(x)) + first_id, tuple(f"c{k}" for k in range(classes)))


@dataclass(kw_only=True)
class HandEvidence:
    """What a measure reads about ``subject``: ``data`` by split, ``models`` by subject, random nets from ``fresh``.

    ``raw`` gives outputs of splits by hand, for measures that only read predictions.
    """

    data: Mapping[str, Data]
    models: Mapping[str, nn.Module] = field(default_factory=dict)
    raw: Mapping[str, Tensor] = field(default_factory=dict)
    nets: Mapping[str, nn.Module] = field(default_factory=dict)
    subject: Subject = "unlearned"
    task: Task = field(default_factory=Classification)
    request: Request = field(default_factory=lambda: Request("samples", "0" * 64))
    seed: int = 0
    artifacts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(name for name, data in self.data.items() if len(data))

    def view(self, split: str) -> View:
        return View(self.data[split], torch.arange(len(self.data[split])), name=split)

    def y(self, split: str) -> Tensor:
        return self.data[split].y

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor:
        if subject is None and split in self.raw:
            return self.raw[split]
        return predict(self.models[subject or self.subject], self.task, self.view(split))

    def model(self, subject: Subject | None = None) -> nn.Module:
        return deepcopy(self.models[subject or self.subject])

    def rng(self, purpose: str) -> Generator:
        return generator(derive_seed(self.seed, purpose))

    def fresh(self, purpose: str) -> nn.Module:
        return deepcopy(self.nets[purpose])

    def siblings(self, n: int, vary: str = "train") -> Siblings:
        raise AssertionError("a measure that is tested on one run must never ask for siblings")

    def shadows(self, n: int) -> Shadows:
        raise AssertionError("a measure that is tested on one run must never ask for shadow models")

    def observe(self, phase: str, watch: Any) -> Any:
        raise AssertionError("a measure that is tested on rows and models must never observe a phase")

    @property
    def cost(self) -> Mapping[str, PhaseCost]:
        return {}

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        return None


def shuffled_rows(data: Data, seed: int = 1) -> tuple[Data, Tensor]:
    """The same rows in another order, and which position each came from."""
    order = torch.randperm(len(data), generator=generator(seed))
    return data.rows(order), order
