"""Bounds over a whole box: between which numbers every value of a network stays, in either number system.

The two ends of every number are worked out step by step from the ends of what it is made of (interval bound
propagation). Exact numbers give the ends themselves, balls hold them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Generic

import numpy as np

from unlearnbench_verifier.bounds import cut
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.network import Network
from unlearnbench_verifier.numbers import Floats, N
from unlearnbench_verifier.steps import Bend, Convolution, Linear, MaxPool, Relu, Scale, Smooth


@dataclass(frozen=True, eq=False)
class Interval(Generic[N]):
    """Between which numbers each of a value lies; a value is [numbers of the value, 1], as at a point."""

    low: N
    high: N


def intervals(network: Network, low: float, high: float, numbers: type[N]) -> list[Interval[N]]:
    """One for each value of the network, of inputs [d] from ``low`` to ``high``.

    Raises:
        Refusal: ``overflow`` (balls).
    """
    place = cut(numbers, network.features, low, high)
    values = [Interval(place.low[:, None], place.high[:, None])]
    for step, inputs in zip(network.steps, network.sources, strict=True):
        values.append(_through(step, [values[number] for number in inputs]))
    return values


def lead(network: Network, first: int, second: int, low: float, high: float, numbers: type[N]) -> Fraction:
    """At least the largest lead of output ``first`` over output ``second`` at inputs [d] from ``low`` to ``high``.

    Where the last step is linear, the difference of its rows is bounded as one: what both outputs have in common
    cancels.

    Raises:
        Refusal: ``bad-output``, there is no such output; ``overflow`` (balls).
    """
    if max(first, second) >= network.outputs:
        raise Refusal("bad-output", f"the network has no output {max(first, second)}")
    values = intervals(network, low, high, numbers)
    last = network.steps[-1]
    if not isinstance(last, Linear):
        return Fraction((values[-1].high[first] - values[-1].low[second]).upper().item())
    given = values[network.sources[-1][0]]
    row = numbers.exactly(last.weight[first]) - numbers.exactly(last.weight[second])
    bound = row.corner(given.low[:, 0], given.high[:, 0])
    if last.bias is not None:
        bound = bound + numbers.exactly(last.bias[first]) - numbers.exactly(last.bias[second])
    return Fraction(bound.upper().item())


def _through(step: Smooth | Bend, given: list[Interval[N]]) -> Interval[N]:
    """What a step makes of all that its inputs can be."""
    ends = [value.low for value in given], [value.high for value in given]
    match step:
        case Linear() | Convolution():
            return _weighing(replace(step, weight=_positive(step.weight)), replace(step, bias=None,
                             weight=-_positive(-step.weight)), given[0])  # fmt: skip
        case Scale():
            none = np.zeros_like(step.shift)
            return _weighing(replace(step, scale=_positive(step.scale)), replace(step, shift=none,
                             scale=-_positive(-step.scale)), given[0])  # fmt: skip
        case Relu():
            return Interval(*(_bent(end[0], step.slope) for end in ends))
        case MaxPool():
            return Interval(*(_pooled(end[0], step) for end in ends))
        case Smooth():  # all others are sums with weights that are not negative
            return Interval(*(step.apply(*end) for end in ends))
    raise NotImplementedError(type(step).__name__)


def _weighing(rising: Smooth, falling: Smooth, value: Interval[N]) -> Interval[N]:
    """A step in two parts, whose weights are not negative and not positive: the latter makes least of what is most."""
    low = rising.apply(value.low) + falling.apply(value.high)
    high = rising.apply(value.high) + falling.apply(value.low)
    return Interval(low, high)


def _positive(weights: Floats) -> Floats:
    return np.maximum(weights, 0.0)


def _bent(end: N, slope: float) -> N:
    """A (leaky) relu, which rises everywhere."""
    found = end.relu()
    if not slope:
        return found
    return found - (-end).relu() * type(end).exactly(np.full(1, slope))


def _pooled(end: N, step: MaxPool) -> N:
    """The largest of each window, of which padding is no part: another position takes its place."""
    places = np.where(step.places < 0, step.places.max(axis=0), step.places)
    return end[places].largest()
