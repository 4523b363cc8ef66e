"""A class that is predicted nowhere: bounds of outputs over the whole box, and the shift that lowers the class.

Intervals go through the network step by step in float64 (interval bound propagation). Rounding is paid for: every step
adds to the half-width what its sums can be off by, so that no bound is too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unlearnbench_prune.frozen import Weights
from unlearnbench_prune.parts import Box
from unlearnbench_prune.steps import (
    Add,
    AvgPool,
    BatchNorm,
    Conv2d,
    Flatten,
    LeakyRelu,
    Linear,
    MaxPool,
    Network,
    Relu,
    Step,
)

ROUNDING = 2.0**-52
"""Twice the unit roundoff of float64: n times this is more than a sum of n products can be off by, relative to the sum
of their magnitudes, for any order of summation and any n that fits a memory."""


@dataclass(frozen=True)
class Interval:
    """Least and largest value of every entry of a step's value, [1, ...] in float64."""

    low: Tensor
    high: Tensor

    @property
    def middle(self) -> Tensor:
        """Half way, up to rounding: ``reach`` makes up for it."""
        return (self.low + self.high) / 2

    @property
    def reach(self) -> Tensor:
        """How far the ends are from the middle at most."""
        return torch.maximum(self.high - self.middle, self.middle - self.low)

    @property
    def magnitude(self) -> Tensor:
        """Largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def widened(self, by: Tensor) -> Interval:
        """Both ends further out."""
        return Interval(self.low - by, self.high + by)


@dataclass(frozen=True, eq=False)
class Lowered:
    """What is added to the outputs, and why a forbidden class then never leads.

    ``beaten_by`` names, for each forbidden class, a class that stays and that leads it by the margin in the whole box;
    ``bounds`` how far it could have been ahead of that one before.
    """

    everywhere: Tensor
    """[outputs] float32: at most 0, and 0 for the classes that stay."""
    beaten_by: Mapping[int, int]
    bounds: Mapping[int, float]


def lowered(network: Network, weights: Weights, box: Box, forbidden: Sequence[int], margin: float) -> Lowered:
    """How far each forbidden class must go down so that a class that stays leads it by ``margin`` in the whole box.

    For a forbidden class c it is the least over the classes j that stay of an upper bound of f_c - f_j, and the margin:
    one j that is always ahead is enough. Rounded to float32 away from 0.

    Raises:
        ValueError: no class stays.
    """
    kept = [label for label in range(network.outputs) if label not in set(forbidden)]
    if not kept:
        raise ValueError("every class is forgotten")
    everywhere = np.zeros(network.outputs, np.float32)
    beaten_by, bounds = {}, {}
    ahead = difference_bounds(network, weights, box, forbidden, kept)
    for label, row in zip(forbidden, ahead, strict=True):
        best = int(row.argmin())
        beaten_by[label], bounds[label] = kept[best], float(row[best])
        everywhere[label] = _down(min(0.0, float(np.nextafter(-(bounds[label] + margin), -np.inf))))
    return Lowered(torch.from_numpy(everywhere), beaten_by, bounds)


def output_bounds(network: Network, weights: Weights, box: Box) -> tuple[Tensor, Tensor]:
    """Least and largest value [outputs] of each output over the box, in float64."""
    last = _intervals(network, weights, box)[-1]
    return last.low[0], last.high[0]


def difference_bounds(
    network: Network, weights: Weights, box: Box, first: Sequence[int], second: Sequence[int]
) -> Tensor:
    """Upper bounds [first, second] of f_i - f_j over the box, in float64.

    Where the last step is linear, the difference of its rows is bounded as one: what two outputs have in common
    cancels.
    """
    values = _intervals(network, weights, box)
    last = network.steps[-1]
    i, j = list(first), list(second)
    if not isinstance(last, Linear):
        high = values[-1].high[0, i][:, None] - values[-1].low[0, j][None]
        return high + ROUNDING * high.abs()
    weight, bias = _tensor(weights, last.weight), _optional(weights, last.bias)
    differences = (weight[i][:, None] - weight[j][None]).flatten(0, 1)
    constants = None if bias is None else (bias[i][:, None] - bias[j][None]).flatten()
    return _affine(values[last.inputs[0]], differences, constants).high.view(len(i), len(j))


def _intervals(network: Network, weights: Weights, box: Box) -> list[Interval]:
    """One interval for each value of the network."""
    ones = torch.ones(1, *network.inputs, dtype=torch.float64)
    values = [Interval(box.low * ones, box.high * ones)]
    for step in network.steps:
        values.append(_through(step, weights, [values[number] for number in step.inputs]))
    return values


def _through(step: Step, weights: Weights, values: Sequence[Interval]) -> Interval:
    value = values[0]
    match step:
        case Flatten():
            return Interval(value.low.flatten(1), value.high.flatten(1))
        case Linear():
            return _affine(value, _tensor(weights, step.weight), _optional(weights, step.bias))
        case Conv2d():
            return _convolved(step, weights, value)
        case BatchNorm():
            return _normalised(step, weights, value)
        case Relu():
            return Interval(value.low.relu(), value.high.relu())
        case LeakyRelu():
            bent = Interval(*(functional.leaky_relu(end, step.slope) for end in (value.low, value.high)))
            return bent.widened(ROUNDING * bent.magnitude)
        case AvgPool():
            size = (step.kernel, step.stride, step.padding)
            mean = Interval(*(functional.avg_pool2d(end, *size) for end in (value.low, value.high)))
            height, width = step.kernel
            return mean.widened(ROUNDING * (height * width + 2) * functional.avg_pool2d(value.magnitude, *size))
        case MaxPool():
            ends = (value.low, value.high)
            return Interval(*(functional.max_pool2d(end, step.kernel, step.stride, step.padding) for end in ends))
        case Add():
            other = values[1]
            total = Interval(value.low + other.low, value.high + other.high)
            return total.widened(ROUNDING * total.magnitude)
    raise NotImplementedError(f"no interval for {step.op}")


def _affine(value: Interval, weight: Tensor, bias: Tensor | None) -> Interval:
    size = functional.linear(value.magnitude, weight.abs(), None if bias is None else bias.abs())
    middle = functional.linear(value.middle, weight, bias)
    reach = functional.linear(value.reach, weight.abs())
    return _around(middle, reach, size, weight.shape[1])


def _convolved(step: Conv2d, weights: Weights, value: Interval) -> Interval:
    weight, bias = _tensor(weights, step.weight), _optional(weights, step.bias)
    how = (step.stride, step.padding, step.dilation, step.groups)
    size = functional.conv2d(value.magnitude, weight.abs(), None if bias is None else bias.abs(), *how)
    middle = functional.conv2d(value.middle, weight, bias, *how)
    reach = functional.conv2d(value.reach, weight.abs(), None, *how)
    return _around(middle, reach, size, weight[0].numel())


def _normalised(step: BatchNorm, weights: Weights, value: Interval) -> Interval:
    """Scale and shift as the network document defines them: numpy's float64, in this order."""
    mean, variance = (_tensor(weights, name).numpy() for name in (step.mean, step.variance))
    one = np.ones_like(variance)
    factor, bias = (_optional(weights, name) for name in (step.weight, step.bias))
    scale = (one if factor is None else factor.numpy()) / np.sqrt(variance + step.epsilon)
    shift = (0 * one if bias is None else bias.numpy()) - mean * scale
    shape = (1, -1) + (1,) * (value.low.dim() - 2)
    a, b = (torch.from_numpy(part).view(shape) for part in (scale, shift))
    return _around(a * value.middle + b, a.abs() * value.reach, a.abs() * value.magnitude + b.abs(), 1)


def _around(middle: Tensor, reach: Tensor, size: Tensor, terms: int) -> Interval:
    """``middle`` +- ``reach`` and all that rounding can do to sums of ``terms`` products of this total size."""
    return Interval(middle, middle).widened(reach + ROUNDING * (2 * terms + 8) * size)


def _tensor(weights: Weights, name: str) -> Tensor:
    return weights[name].double().cpu()


def _optional(weights: Weights, name: str | None) -> Tensor | None:
    return None if name is None else _tensor(weights, name)


def _down(value: float) -> np.float32:
    """The largest float32 that is not above ``value``."""
    near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))
