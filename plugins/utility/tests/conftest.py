"""Evidence built by hand: what the host hands to a measure."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import Classification, Data, Reading, Request, Subject, View, generator

SPLITS = ("forget", "retain", "test", "holdout")
SAMPLES = Request(kind="samples", digest="")
TASK = Classification()


@dataclass(frozen=True)
class HandEvidence:
    """Labels and outputs of each split and subject, or inputs and networks that make them."""

    y_of: Mapping[str, Tensor]
    out: Mapping[str, Mapping[str, Tensor]]
    subject: Subject = "unlearned"
    x: Mapping[str, Tensor] = field(default_factory=dict)
    nets: Mapping[str, nn.Module] = field(default_factory=dict)
    ids: Mapping[str, Tensor] = field(default_factory=dict)
    request: Request = SAMPLES
    task: Classification = TASK

    def view(self, split: str) -> View:
        y = self.y_of[split]
        x = self.x.get(split, torch.zeros(len(y), 1))
        ids = self.ids.get(split, torch.arange(len(y)))
        return View(Data(x, y, ids, tuple("abc")), torch.arange(len(y)), name=split)

    def y(self, split: str) -> Tensor:
        return self.y_of[split]

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor:
        return self.out[subject or self.subject][split]

    def model(self, subject: Subject | None = None) -> nn.Module:
        return self.nets[subject or self.subject]

    def rng(self, purpose: str) -> Generator:
        return generator(zlib.crc32(purpose.encode()))


@pytest.fixture
def hand() -> type[HandEvidence]:
    return HandEvidence


@pytest.fixture
def noisy() -> Callable[..., HandEvidence]:
    """Make random evidence of three classes: 40 forget, 90 retain, 50 test and 45 hold-out rows for each subject."""

    def make(seed: int = 0, **changes: Any) -> HandEvidence:
        rng = torch.Generator().manual_seed(seed)
        sizes = dict(zip(SPLITS, (40, 90, 50, 45), strict=True))
        y = {split: torch.randint(3, (n,), generator=rng) for split, n in sizes.items()}
        out = {
            subject: {
                split: torch.randn(n, 3, generator=rng) + 2 * torch.nn.functional.one_hot(y[split], 3)
                for split, n in sizes.items()
            }
            for subject in ("original", "gold", "unlearned")
        }
        return replace(HandEvidence(y, out), **changes)

    return make


@pytest.fixture
def shuffled() -> Callable[[HandEvidence], HandEvidence]:
    """The same evidence with the rows of every split in another order, each with its id."""

    def turn(evidence: HandEvidence) -> HandEvidence:
        order = {
            split: torch.randperm(len(y), generator=torch.Generator().manual_seed(5))
            for split, y in evidence.y_of.items()
        }
        return replace(
            evidence,
            y_of={split: y[order[split]] for split, y in evidence.y_of.items()},
            out={s: {split: out[order[split]] for split, out in of.items()} for s, of in evidence.out.items()},
            x={split: x[order[split]] for split, x in evidence.x.items()},
            ids=order,
        )

    return turn


@pytest.fixture
def by_key() -> Callable[[Any, Any], dict[str, Reading]]:
    """Readings of a measure by their flat name."""

    def read(measure: Any, evidence: Any) -> dict[str, Reading]:
        return {reading.key: reading for reading in measure.measure(evidence)}

    return read
