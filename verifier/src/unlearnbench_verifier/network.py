"""A network and what it is on a region, in either number system: slacks and outputs as affine functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.network_document import Network, base_digest, read_network
from unlearnbench_verifier.numbers import Floats, N
from unlearnbench_verifier.steps import Bend, Pattern

__all__ = ["Affine", "Network", "Pattern", "affine", "base_digest", "held", "outputs_of", "pattern_of", "read_network"]

MOST_ENTRIES = 2**27
"""Numbers in one matrix; in float64 that is 1 GiB."""


@dataclass(frozen=True, eq=False)
class Affine(Generic[N]):
    """A region and the network on it; the last column is the constant."""

    rows: N
    """[L, d + 1], at least 0 on the region"""
    outputs: N
    """[outputs, d + 1]"""


def affine(network: Network, pattern: Pattern, numbers: type[N]) -> Affine[N]:
    """The region of a pattern and the network there, as functions of the flat input [d].

    Raises:
        Refusal: ``bad-pattern``, no pattern of this network; ``network-too-large``; ``overflow`` (balls).
    """
    columns = network.features + 1
    if max(network.rows, network.load) * columns > MOST_ENTRIES:
        said = f"has {network.rows} rows of {columns} numbers and works on {network.load * columns} at a time"
        raise Refusal("network-too-large", said, where="network", hint="split the model at a later module")
    return _on_sides(network, pattern, _first_values(network, numbers))


def held(network: Network, pattern: Pattern, x: npt.ArrayLike, numbers: type[N]) -> Affine[N]:
    """``affine`` at the flat input x [d], without working out the coefficients: [L, 1] and [outputs, 1].

    Raises:
        Refusal: as ``affine``; ``bad-input``, x does not fit.
    """
    return _on_sides(network, pattern, (_point(network, x, numbers),))


def pattern_of(network: Network, x: npt.ArrayLike, numbers: type[N]) -> Pattern:
    """The pattern [U] at the flat input x [d].

    Raises:
        Undecided: rounding errors leave a side open.
        Refusal: ``bad-input``, ``overflow``.
    """
    return _at(network, x, numbers)[0]


def outputs_of(network: Network, x: npt.ArrayLike, numbers: type[N]) -> N:
    """What the network answers [outputs] at the flat input x [d].

    Raises:
        Undecided: rounding errors leave a side open.
        Refusal: ``bad-input``, ``overflow``.
    """
    return _at(network, x, numbers)[1][:, 0]


@lru_cache(maxsize=2)
def _first_values(network: Network, numbers: type[N]) -> tuple[N | None, ...]:
    """The input as a function of itself, and the steps before the first bend: the same in every region."""
    start = np.zeros((network.features, network.features + 1))
    np.fill_diagonal(start, 1.0)
    values: list[N | None] = [numbers.exactly(start)]
    for step in network.steps:
        if isinstance(step, Bend):
            break
        values.append(step.apply(*_taken(network, values)))
    return tuple(values)


def _taken(network: Network, values: list[N | None]) -> list[N]:
    """What the next step takes; a value that no later step takes is let go of."""
    number = len(values) - 1
    given = [value for source in network.sources[number] if (value := values[source]) is not None]
    for source in (*network.sources[number], number):
        if network.last[source] <= number:
            values[source] = None
    return given


def _on_sides(network: Network, pattern: Pattern, known: Sequence[N | None]) -> Affine[N]:
    """Slacks and outputs with the pattern held fixed; ``known`` are the values of the first steps."""
    pattern = np.asarray(pattern)
    if pattern.shape != (network.units,) or pattern.dtype != np.uint8:
        said = f"has {pattern.size} units and the network {network.units}"
        raise Refusal("bad-pattern", said, where="pattern")
    values, rows, place = list(known), [], 0
    for step in network.steps[len(known) - 1 :]:
        given = _taken(network, values)
        if isinstance(step, Bend):
            sides = pattern[place : place + step.units]
            if not step.allows(sides):
                raise Refusal("bad-pattern", f"unit {place} or one after it is on no side that it has", where="pattern")
            rows.append(step.slacks(given[0], sides))
            values.append(step.bend(given[0], sides))
            place += step.units
        else:
            values.append(step.apply(*given))
    result = values[-1]
    assert result is not None
    return Affine(type(result).joined(rows or [result[:0]]), result)


def _at(network: Network, x: npt.ArrayLike, numbers: type[N]) -> tuple[Pattern, N]:
    values: list[N | None] = [_point(network, x, numbers)]
    pattern = [np.zeros(0, np.uint8)]
    for step in network.steps:
        given = _taken(network, values)
        if isinstance(step, Bend):
            pattern.append(step.decide(given[0]))
            values.append(step.bend(given[0], pattern[-1]))
        else:
            values.append(step.apply(*given))
    result = values[-1]
    assert result is not None
    return np.concatenate(pattern), result


def _point(network: Network, x: npt.ArrayLike, numbers: type[N]) -> N:
    point: Floats = np.asarray(x, np.float64)
    if point.shape != (network.features,) or not np.isfinite(point).all():
        said = f"has shape {list(point.shape)} and must be {network.features} finite numbers"
        raise Refusal("bad-input", said, where="sample")
    return numbers.exactly(point[:, None])
