"""Rows of a split as attacks read them, and the readings that all attacks share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from unlearnbench.api.runtime import Evidence, Reading, drawn_rows
from unlearnbench_membership.roc import Array, Estimate, estimates, undefined


@dataclass(frozen=True, eq=False)
class Rows:
    """Outputs [n, c] in float64, classes [n] and ids [n] of a split, sorted by id: nothing depends on their order."""

    outputs: Tensor
    y: Tensor
    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, positions: Tensor) -> Rows:
        return Rows(self.outputs[positions], self.y[positions], self.ids[positions])

    def drawn(self, n: int, rng: Generator) -> Rows:
        """``n`` of them, or all where there are no more."""
        return self.at(drawn_rows(self.ids, min(n, len(self)), rng))


def rows_of(evidence: Evidence, split: str) -> Rows:
    """The rows of a split with the subject's outputs."""
    ids = evidence.view(split).ids
    return Rows(evidence.outputs(split).double(), evidence.y(split), ids).at(ids.argsort())


def missing(*splits: Rows) -> str:
    """Why rows cannot be attacked, or nothing."""
    if not all(len(rows) for rows in splits):
        return "empty split"
    return "" if all(bool(rows.outputs.isfinite().all()) for rows in splits) else "non-finite"


def numpy_rng(rng: Generator) -> np.random.Generator:
    """A numpy stream that continues a torch one."""
    return np.random.default_rng(seed_from(rng))


def seed_from(rng: Generator) -> int:
    """A seed for what takes no generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=rng))


def array(values: Tensor) -> Array:
    """Float64 values as numpy has them."""
    found: Array = values.numpy()
    return found


def estimated(
    name: str, estimate: Estimate, n: int, *, at: Mapping[str, str] | None = None, unit: str = "", scale: float = 1
) -> Reading:
    """An estimate as a reading whose aim is gold's value."""
    value, low, high = (scale * end for end in (estimate.value, estimate.low, estimate.high))
    return Reading(name, value, n, at=at or {}, unit=unit, low=low, high=high)


def undefined_curve(
    attack: str, rates: Iterable[float], n: int, status: str, at: Mapping[str, str] | None = None
) -> Iterator[Reading]:
    """An attack's area and true positive rates that say why they have no value."""
    yield Reading(f"{attack}-auc", None, n, at=at or {}, status=status)
    for rate in rates:
        yield Reading(f"{attack}-tpr", None, n, at={**(at or {}), "fpr": f"{rate:.3g}"}, status=status)


def curve_readings(
    attack: str,
    members: Array,
    others: Array,
    rates: Sequence[float],
    rng: Generator,
    at: Mapping[str, str] | None = None,
) -> Iterator[Reading]:
    """An attack's area and its true positive rate at each false positive rate; scores are higher for members."""
    place, n = dict(at or {}), len(members) + len(others)
    status = undefined(members, others)
    if status:
        yield from undefined_curve(attack, rates, n, status, place)
        return
    area, found = estimates(members, others, rates, numpy_rng(rng))
    yield estimated(f"{attack}-auc", area, n, at=place)
    for rate, estimate in zip(rates, found, strict=True):
        yield estimated(f"{attack}-tpr", estimate, n, at={**place, "fpr": f"{rate:.3g}"})
