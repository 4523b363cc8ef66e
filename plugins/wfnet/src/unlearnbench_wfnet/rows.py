"""What every row of gates does to every class: counts of right predictions, and the paper's Acc_r and Acc_f of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from unlearnbench.api.runtime import MISSING, drawn_rows

Share = float | None
"""A share of rows of data, or None where there were none."""


@dataclass(frozen=True)
class Counts:
    """Right predictions ``hits`` [rows of gates, classes] among ``totals`` [classes], the rows of data of each class.

    ``finite`` says for each row of gates whether its outputs were numbers; nothing follows from its counts if not.
    """

    hits: Tensor
    totals: Tensor
    finite: tuple[bool, ...]

    def acc_r(self) -> list[Share]:
        """For each row c the accuracy over the data of all classes but c, taken together."""
        others = self.totals.sum() - self.totals
        return _shares(self.hits.sum(1) - self.hits.diagonal(), others)

    def acc_f(self) -> list[Share]:
        """For each row c the accuracy on the data of class c."""
        return _shares(self.hits.diagonal(), self.totals)

    def for_every_row(self) -> Counts:
        """Counts of one network without gates, as if each of as many rows as there are classes had left it as it is."""
        classes = len(self.totals)
        return replace(self, hits=self.hits.expand(classes, classes), finite=self.finite * classes)


def counted(outputs: Iterable[Tensor], y: Tensor, classes: int) -> Counts:
    """Counts over data of classes ``y`` [n], from the outputs [n, classes] under one row of gates after the other."""
    hits, finite = [], []
    for out in outputs:
        hits.append(torch.bincount(y[out.argmax(1) == y], minlength=classes))
        finite.append(bool(out.isfinite().all()))
    return Counts(torch.stack(hits), torch.bincount(y, minlength=classes), tuple(finite))


def chosen_ids(ids: Tensor, y: Tensor, per_class: int | None, rng: Generator) -> Tensor:
    """ids of the labelled rows of data, or of at most ``per_class`` of each class, drawn whatever their order is."""
    if per_class is None:
        return ids[y != MISSING]
    found = [ids[:0]]
    for k in y[y != MISSING].unique():
        own = ids[y == k]
        found.append(own[drawn_rows(own, min(per_class, len(own)), rng)])
    return torch.cat(found)


def _shares(hits: Tensor, n: Tensor) -> list[Share]:
    return [int(right) / int(of) if of else None for right, of in zip(hits, n, strict=True)]
