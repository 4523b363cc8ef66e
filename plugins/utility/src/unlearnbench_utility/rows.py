"""The rows of a split as all measures read them: labelled rows only, sorted by id, in double precision."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unlearnbench.api.runtime import MISSING, Better, Evidence, Subject

SPLITS = ("forget", "retain", "test", "holdout")
KNOWN = ("retain", "test", "validation")
"""Splits whose rows a model should do well on; elsewhere gold's value is the aim."""


@dataclass(frozen=True)
class Rows:
    """Outputs [n, c], labels [n] and ids [n]; a status other than ``ok`` says why they mean nothing."""

    out: Tensor
    y: Tensor
    ids: Tensor
    status: str

    def __len__(self) -> int:
        return len(self.y)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def log_p(self) -> Tensor:
        """Log-probabilities of the labels [n]."""
        return self.out.log_softmax(1).gather(1, self.y[:, None])[:, 0]

    @property
    def accuracy(self) -> float:
        """Share of rows whose largest output is the label's."""
        return float((self.out.argmax(1) == self.y).double().mean())


def rows(evidence: Evidence, split: str, subject: Subject | None = None) -> Rows:
    """The labelled rows of a split and what a model says about them."""
    ids, y, out = evidence.view(split).ids, evidence.y(split), evidence.outputs(split, subject).double()
    order = ids.argsort()  # sums and draws must not depend on the order in which the rows came
    order = order[y[order] != MISSING]
    out = out[order]
    status = "ok" if bool(out.isfinite().all()) else "non-finite"
    return Rows(out, y[order], ids[order], status if len(order) else "empty split")


def status_of(*parts: Rows) -> str:
    """The first status that is not ``ok``, of readings that need several splits."""
    return next((part.status for part in parts if not part.ok), "ok")


def direction(split: str, *, loss: bool = False) -> Better:
    """Where good values lie: known rows should be predicted well, the others as gold predicts them."""
    if split not in KNOWN:
        return "gold"
    return "lower" if loss else "higher"
