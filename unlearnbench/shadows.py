"""Scenes of shadow runs: training sets that hold a half of the audit rows each, everything else being the same.

The audit rows are the forget set and the hold-out: rows that the run's own original saw and rows like them that it did
not. They form one pool with the retain set, so that a shadow is the run itself on a part of that pool, and what it is
asked to forget are the audit rows of its part (Hayes et al. 2024, section 4; Carlini et al. 2022, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.errors import DataError, IncompatibleError
from unlearnbench.api.runtime import Data, Splits, generator
from unlearnbench.parts import Selection
from unlearnbench.scenes import Scene


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows that shadows are made of: ``audit`` marks the audit rows, ``forgotten`` those of the forget set."""

    data: Data
    audit: Tensor
    forgotten: Tensor

    @property
    def selection(self) -> Selection:
        """The audit rows."""
        return Selection(self.data, self.audit.nonzero()[:, 0])

    def half(self, draw: int, which: int) -> Tensor:
        """[rows] bool: one of the two halves into which a draw divides the audit rows."""
        rows = self.audit.nonzero()[:, 0]
        order = rows[torch.randperm(len(rows), generator=generator(draw))]
        middle = (len(rows) + draw % 2) // 2  # the odd row falls to either half
        chosen = torch.zeros(len(self.data), dtype=torch.bool)
        chosen[order[middle:] if which else order[:middle]] = True
        return chosen

    def kept(self, draw: int, which: int) -> Tensor:
        """Positions of the rows that a shadow is trained on."""
        return (~self.audit | self.half(draw, which)).nonzero()[:, 0]


def pool_of(scene: Scene) -> Pool:
    """The pool of a run's shadows.

    Raises:
        IncompatibleError: rows of this data set cannot change places.
        DataError: the hold-out is empty, so that there is nothing to compare the forget set with.
    """
    parts = scene.parts[0].measured
    forget, retain, unseen = parts["forget"], parts["retain"], parts["holdout"]
    train, other = scene.splits.train, (scene.splits.holdout or scene.splits.test)
    if train.edges is not None or train.graphs is not other.graphs:
        raise IncompatibleError(
            "incompatible", "shadow models need rows that can change places between training set and hold-out",
            where="$.measures", hint="choose measures that read no shadows",
        )  # fmt: skip
    if not len(unseen):
        raise DataError("empty-holdout", "no unseen row is like the forget set, so nothing can be audited",
                        where="$.request", hint="keep more test rows")  # fmt: skip
    seen = torch.cat([retain.index.cpu(), forget.index.cpu()]).sort().values
    first, second = train.rows(seen), other.rows(unseen.index.cpu())
    data = replace(
        first,
        x=torch.cat([first.x, second.x]),
        y=torch.cat([first.y, second.y]),
        ids=torch.cat([first.ids, second.ids]),
        columns={name: torch.cat([column, second.columns[name]]) for name, column in first.columns.items()},
    )
    forgotten = torch.zeros(len(data), dtype=torch.bool)
    forgotten[: len(seen)] = torch.isin(seen, forget.index.cpu())
    audit = forgotten.clone()
    audit[len(seen) :] = True
    return Pool(data, audit, forgotten)


def pooled(pool: Pool, splits: Splits, request: Mapping[str, Any]) -> tuple[Splits, dict[str, Any]]:
    """The splits and the request of all shadows of a run: whoever keeps a half is asked to forget that half."""
    left = ~torch.isin(splits.test.ids, pool.data.ids)
    shadowed = replace(splits, train=pool.data, test=splits.test.rows(left.nonzero()[:, 0]))
    if request["kind"] != "samples":
        return shadowed, dict(request)
    ids = sorted(pool.data.ids[pool.audit].tolist())
    return shadowed, {"kind": "samples", "ids": ids}
