"""The rows of a split as measures read them: sorted by id and in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from unlearnbench.api.runtime.evidence import Evidence, Siblings, Subject
from unlearnbench.api.runtime.seeds import drawn_rows
from unlearnbench.api.runtime.task import MISSING


@dataclass(frozen=True, eq=False)
class Rows:
    """Outputs [n, c], or [models, n, c], in float64 with the annotations [n, ...] and ids [n] of their rows."""

    outputs: Tensor
    y: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def status(self) -> str:
        """``ok``, or why the outputs mean nothing: ``empty split`` or ``non-finite``."""
        if not len(self):
            return "empty split"
        return "ok" if bool(self.outputs.isfinite().all()) else "non-finite"

    def at(self, positions: Tensor) -> Rows:
        """The rows at these positions [k], in their order."""
        return Rows(self.outputs[..., positions, :], self.y[positions], self.ids[positions])

    def drawn(self, n: int, rng: Generator) -> Rows:
        """``n`` of the rows, drawn without replacement by id, or all where there are no more."""
        return self.at(drawn_rows(self.ids, min(n, len(self)), rng))


def rows_of(
    evidence: Evidence,
    split: str,
    subject: Subject | None = None,
    *,
    models: Siblings | None = None,
    labelled: bool = True,
) -> Rows:
    """The rows of a split by id, with the outputs of one model or of an ensemble.

    Sums and draws over them do not depend on the order in which the rows came. No model is asked about a split that
    has no rows.

    Args:
        evidence: what the measure was given.
        split: name of the split; its outputs have one axis besides that of the rows.
        subject: whose outputs; None is the subject that is measured.
        models: siblings to take the outputs from, [models, n, c]; None takes those of the run itself, [n, c].
        labelled: whether rows without an annotation are left out.
    """
    ids, y = evidence.view(split).ids, evidence.y(split)
    order = order_by_id(ids, y if labelled else None)
    outputs = torch.empty(0, 0)
    if len(order):
        whole = (
            evidence.outputs(split, subject) if models is None else models.outputs(split, subject or evidence.subject)
        )
        outputs = whole[..., order, :]
    return Rows(outputs.double(), y[order], ids[order])


def order_by_id(ids: Tensor, y: Tensor | None = None) -> Tensor:
    """Positions of rows in the order of their ids [n]; with annotations ``y`` [n, ...] of those that have one."""
    order = ids.argsort()
    if y is None:
        return order
    known = y[order] != MISSING
    return order[known if known.dim() == 1 else known.flatten(1).any(1)]


def status_of(*parts: Rows) -> str:
    """The status of a reading that needs several splits: that of an empty one first, then of outputs not finite."""
    found = [part.status for part in parts]
    return min(found, key=("empty split", "non-finite", "ok").index, default="ok")
