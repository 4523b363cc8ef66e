"""Evidence whose siblings are given as outputs: for tests of measures that read ensembles."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from hand_evidence import HandEvidence, rows
from torch import Tensor, nn

from unlearnbench.api.runtime import Subject

SPLITS = ("forget", "retain", "test")


@dataclass(frozen=True)
class HandSiblings:
    """Siblings ``part`` of an ensemble; outputs [n, rows, classes] by split and subject."""

    given: dict[tuple[str, str], Tensor]
    part: range

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, part: slice) -> HandSiblings:
        return replace(self, part=self.part[part])

    def outputs(self, split: str, subject: Subject = "unlearned") -> Tensor:
        return self.given[split, subject][self.part.start : self.part.stop]

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        raise AssertionError("siblings that are given as outputs must never be asked for a model")


@dataclass(kw_only=True)
class EnsembleEvidence(HandEvidence):
    """Evidence with siblings; ``one`` are those of one original."""

    each: dict[tuple[str, str], Tensor]
    one: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def siblings(self, n: int, vary: str = "train") -> HandSiblings:
        return HandSiblings(self.each if vary == "train" else self.one, range(n))

    def about(self, subject: Subject) -> EnsembleEvidence:
        return replace(self, subject=subject)

    def shuffled(self) -> EnsembleEvidence:
        """The same with the rows of every split in reverse order."""
        data = {name: split.rows(torch.arange(len(split)).flip(0)) for name, split in self.data.items()}
        each, one = ({key: outputs.flip(1) for key, outputs in given.items()} for given in (self.each, self.one))
        return replace(self, data=data, each=each, one=one)


def drawn_ensembles(n: int, counts: tuple[int, int, int], *, shift: float = 3.0, classes: int = 3) -> EnsembleEvidence:
    """Normal outputs of n originals and unlearned models and of 2 n golds for so many forget, retain and test rows.

    Originals and unlearned models are surer of the true class of forget rows by ``shift``; both are the same models.
    """
    rng = torch.Generator().manual_seed(0)
    data, each = {}, {}
    for place, (split, count) in enumerate(zip(SPLITS, counts, strict=True)):
        y = torch.arange(count) % classes
        data[split] = rows(torch.zeros(count, 1), y, 1000 * place, classes)
        truth = torch.nn.functional.one_hot(y, classes)
        each[split, "gold"] = torch.randn(2 * n, count, classes, generator=rng) + truth
        mine = torch.randn(n, count, classes, generator=rng) + truth * (1 + shift * (split == "forget"))
        each[split, "original"] = each[split, "unlearned"] = mine
    return EnsembleEvidence(data=data, each=each)
