"""The readings that all attacks share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import Generator, Tensor

from unlearnbench.api.runtime import Reading, numpy_rng
from unlearnbench_membership.roc import Array, Estimate, estimates, undefined


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
