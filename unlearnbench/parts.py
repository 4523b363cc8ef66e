"""Parts: what a resolved request gives to unlearners and to measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import MISSING, Data, Meter, Request, View


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows of a data object, not yet bound to a meter."""

    data: Data
    index: Tensor
    elements: Tensor | None = None

    def __len__(self) -> int:
        return len(self.index)

    def view(self, name: str, meter: Meter | None = None, *, locked: bool = False) -> View:
        return View(self.data, self.index, name=name, meter=meter, locked=locked, elements=self.elements)

    def to(self, device: torch.device) -> Selection:
        return replace(self, data=self.data.to(device), index=self.index.to(device))


@dataclass(frozen=True, eq=False)
class Taken:
    """What the requests of a stream have taken away from a graph so far: positions of nodes, and edges [2, k].

    ``features`` are nodes that stay without their features; ``edges`` include those of the nodes that are gone.
    """

    nodes: Tensor
    features: Tensor
    edges: Tensor


@dataclass(frozen=True, eq=False)
class Parts:
    """A resolved request. ``forget`` and ``retain`` are the unlearner's; ``measured`` are the splits of measures.

    ``cascade`` tells the parts that the steps of a partition made, by name and number of rows; ``taken`` what a graph
    has lost. Where a request changes a graph, ``measured`` has the validation rows too, on the graph after.
    """

    request: Request
    forget: Selection
    retain: Selection
    measured: Mapping[str, Selection] = field(default_factory=dict)
    cascade: tuple[tuple[str, int], ...] = ()
    taken: Taken | None = None


def whole(data: Data) -> Selection:
    """All rows; for graphs, the annotated nodes."""
    if data.edges is None:
        return Selection(data, torch.arange(len(data)))
    return Selection(data, (data.y != MISSING).nonzero()[:, 0])


def check_parts(forget: int, retain: int, description: Mapping[str, Any]) -> None:
    """Refuse a request that selects nothing or everything."""
    if not forget:
        raise DataError("empty-forget-set", f"selects no training row: {dict(description)}", where="$.request",
                        hint="ask for rows that are in the training data")  # fmt: skip
    if not retain:
        raise DataError("empty-retain-set", f"leaves nothing to retain: {dict(description)}", where="$.request",
                        hint="forget fewer rows")  # fmt: skip
