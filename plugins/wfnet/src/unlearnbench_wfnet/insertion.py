"""Do the gates that a row closes hold what was known of its class? Insertion and deletion (Poppi et al. 2024).

The gates of each memory matrix, those of a layer's weights and those of its biases, are ordered from the most closed to
the most open. Insertion starts from the row and opens them fully in that order; deletion starts from the original, in
which all are open, and closes them fully. Each curve is the confidence in the class, as a share of the original's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Generator, Tensor
from torch.func import functional_call

from unlearnbench_wfnet.network import Gates, WFNet

Ranks = tuple[tuple[Tensor, Tensor | None], ...]
"""For the weights and biases of each layer, the place [width] of each gate in the order, counted from 0."""
Confidence = Callable[[Sequence[Gates]], float]
"""Mean confidence in a class under gates for every layer."""


class Undefined(Exception):
    """There is no area, and the status of the reading that says why."""


def by_closedness(gates: Sequence[Gates]) -> Ranks:
    """Most closed first; gates that are alike stand in the order of their positions."""

    def ranks(gate: Tensor) -> Tensor:
        return gate.argsort(stable=True).argsort()

    return tuple((ranks(gate.weight), None if gate.bias is None else ranks(gate.bias)) for gate in gates)


def at_random(gates: Sequence[Gates], rng: Generator) -> Ranks:
    """An order of each matrix that says nothing about its gates."""

    def ranks(gate: Tensor) -> Tensor:
        return torch.randperm(len(gate), generator=rng).to(gate.device)

    return tuple((ranks(gate.weight), None if gate.bias is None else ranks(gate.bias)) for gate in gates)


def fractions(step: float) -> tuple[float, ...]:
    """Shares of the gates that are changed: 0, step, 2 step, ... and 1, to which the last step is cut."""
    steps = math.ceil(round(1 / step, 9))
    return (*(i * step for i in range(steps)), 1.0)


def changed(gates: Sequence[Gates], ranks: Ranks, fraction: float, value: float) -> list[Gates]:
    """The gates, of which this share of each matrix, rounded to whole gates, has the value; first in order first."""

    def part(gate: Tensor, rank: Tensor) -> Tensor:
        # Halves go up. Without the inner rounding 0.58 of 25 gates would be 14.499999999999998 and go down.
        many = math.floor(round(fraction * len(gate), 9) + 0.5)
        return torch.where(rank < many, value, gate)

    return [
        Gates(part(gate.weight, weight), None if gate.bias is None or bias is None else part(gate.bias, bias))
        for gate, (weight, bias) in zip(gates, ranks, strict=True)
    ]


def area(at: Sequence[float], values: Sequence[float]) -> float:
    """Area under values over fractions in [0, 1], by the trapezoid rule."""
    return float(torch.trapezoid(torch.tensor(values, dtype=torch.float64), torch.tensor(at, dtype=torch.float64)))


def areas(confidence: Confidence, row: Sequence[Gates], ranks: Ranks, step: float) -> tuple[float, float]:
    """Areas of insertion and deletion in this order.

    Raises:
        Undefined: the original has no confidence in the class, or a confidence is no number.
    """
    everything = changed(row, ranks, 1.0, 1.0)
    whole, at = confidence(everything), fractions(step)
    if whole == 0:
        raise Undefined("no confidence in the original")

    def curve(start: Sequence[Gates], value: float) -> list[float]:
        found = [confidence(changed(start, ranks, fraction, value)) / whole for fraction in at]
        if not all(map(math.isfinite, found)):
            raise Undefined("non-finite")
        return [min(max(share, 0.0), 1.0) for share in found]

    return area(at, curve(row, 1.0)), area(at, curve(everything, 0.0))


@torch.no_grad()
def mean_confidence(
    net: WFNet, gates: Sequence[Gates], batches: Iterable[Tensor], probabilities: Callable[[Tensor], Tensor], c: int
) -> float:
    """Mean probability of class ``c`` over inputs [n, ...] in batches, by the base with these gates."""
    tensors = net.filtered(gates)
    found = [probabilities(functional_call(net.base, tensors, (x,), tie_weights=False).double())[:, c] for x in batches]
    return float(torch.cat(found).mean())
