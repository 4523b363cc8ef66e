"""A network with its activation pattern held fixed: affine in its input, with the slacks that say where it is true."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from unlearnbench.api import DataError
from unlearnbench_prune import steps
from unlearnbench_prune.gates import tracing
from unlearnbench_prune.parts import Region
from unlearnbench_prune.steps import MaxPool, Network, Step, real, windows

Weights = Mapping[str, Tensor]
"""Tensors under their names in the base's state dict, all of one dtype."""


def weights_of(base: nn.Module, network: Network, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """The tensors that ``network`` reads from ``base``, detached, in ``dtype``, on the base's device."""
    stored = base.state_dict()
    return {name: stored[name].detach().to(dtype) for name in network.tensors}


def outputs_of(network: Network, weights: Weights, x: Tensor) -> Tensor:
    """Outputs [n, outputs] at x ([n, features] or [n, *inputs]), in the dtype of x and weights."""
    return _values(network, weights, x)[-1][0]


def patterns_of(network: Network, values: Sequence[Tensor], features: Tensor) -> Tensor:
    """Patterns [n, units] uint8 from features and values as ``Traced`` gives them; any float dtype and device.

    ``features`` [n, ...] says how many there are: a network may have no bend at all.
    """
    sides = [torch.zeros(features.shape[0], 0, dtype=torch.uint8, device=features.device)]
    for number, value in zip(network.bends, values, strict=True):
        step = network.steps[number]
        # argmax takes the first of equal entries.
        side = windows(value, step).argmax(-1) if isinstance(step, MaxPool) else value >= 0
        sides.append(side.flatten(1).to(torch.uint8))
    return torch.cat(sides, 1)


def patterns_at(network: Network, weights: Weights, x: Tensor) -> Tensor:
    """Patterns [n, units] uint8 at x ([n, features] or [n, *inputs]), worked out in the dtype of x and weights."""
    values = _values(network, weights, x)
    return patterns_of(network, [values[network.steps[number].inputs[0]][0] for number in network.bends], x)


def check_patterns(network: Network, patterns: Tensor) -> None:
    """Raise ``DataError`` unless ``patterns`` [K, units] uint8 are patterns that the network can have by their form."""
    if patterns.dtype != torch.uint8 or patterns.ndim != 2 or patterns.shape[1] != network.units:
        raise _bad(f"they are {patterns.dtype} of {tuple(patterns.shape)}, not uint8 of [K, {network.units}]")
    for number, sides in _by_bend(network, patterns):
        step = network.steps[number]
        if isinstance(step, MaxPool):
            allowed = real(step, network.shapes[step.inputs[0]]).to(patterns.device)
            inside = sides < allowed.shape[1]
            units = torch.arange(len(allowed), device=patterns.device)
            fits = inside & allowed[units, torch.where(inside, sides, 0).long()]
        else:
            fits = sides <= 1
        if not bool(fits.all()):
            raise _bad(f"one has a side that the {step.op} of step {number} does not have")


def frozen(
    network: Network, weights: Weights, pattern: Tensor, x: Tensor, constant: bool = True
) -> tuple[Tensor, Tensor]:
    """Slacks [n, rows] and outputs [n, outputs] at x with ``pattern`` [units] held fixed.

    x is [n, features] or [n, *inputs], in the dtype and on the device of ``weights``. Affine in x, and differentiable;
    without ``constant`` every constant is left out, so that rows of the identity give the linear part.
    """
    slacks, outputs = _held(network, weights, pattern[None], x, constant)
    return slacks[0], outputs[0]


def frozen_many(network: Network, weights: Weights, patterns: Tensor, x: Tensor) -> Tensor:
    """Slacks [K, n, rows] at x ([n, features] or [n, *inputs]) under each of ``patterns`` [K, units].

    The number of rows does not depend on the pattern (see ``Network.rows``).
    """
    if tracing():  # blocks would make the number of samples part of the trace
        return _held(network, weights, patterns, x, True)[0]
    slacks = x.new_empty(len(patterns), len(x), network.rows)
    for members, samples, block in slack_blocks(network, weights, patterns, x):
        slacks[members, samples] = block
    return slacks


def slack_blocks(
    network: Network, weights: Weights, patterns: Tensor, x: Tensor, most: int = 2**24
) -> Iterator[tuple[slice, slice, Tensor]]:
    """``frozen_many`` in blocks of about ``most`` numbers: (slice of K, slice of n, slacks [k, n, rows]).

    For who reduces the rows at once and must not hold all of them.
    """
    if not len(patterns) or not len(x):
        return
    samples = min(len(x), max(1, most // _cost(network)))
    members = max(1, most // (_cost(network) * samples))
    for start in range(0, len(patterns), members):
        some = slice(start, min(start + members, len(patterns)))
        for first in range(0, len(x), samples):
            these = slice(first, min(first + samples, len(x)))
            yield some, these, _held(network, weights, patterns[some], x[these], True)[0]


def region_of(network: Network, weights: Weights, pattern: Tensor, most: int = 2**24) -> Region:
    """The linear region of ``pattern`` [units], in the dtype (float64) and on the device of ``weights``.

    What is held beside the region itself is about ``most`` numbers.
    """
    check_patterns(network, pattern[None])
    like = next(iter(weights.values()))
    pattern = pattern.to(like.device)
    h, e = frozen(network, weights, pattern, like.new_zeros(1, network.features))
    g = like.new_empty(network.rows, network.features)
    c = like.new_empty(network.outputs, network.features)
    size = max(1, most // _cost(network))
    for start in range(0, network.features, size):
        axes = torch.arange(start, min(start + size, network.features), device=like.device)
        x = like.new_zeros(len(axes), network.features).scatter_(1, axes[:, None], 1.0)
        slacks, outputs = frozen(network, weights, pattern, x, constant=False)
        g[:, axes], c[:, axes] = slacks.T, outputs.T
    return Region(pattern, g, h[0], c, e[0])


def _bad(problem: str) -> DataError:
    return DataError("bad-patterns", f"the patterns are not of this network: {problem}", hint="patch the model again")


def _cost(network: Network) -> int:
    """Numbers that one sample takes under one pattern."""
    windowed = (
        math.prod(step.kernel) * math.prod(network.shapes[number + 1])
        for number, step in enumerate(network.steps)
        if isinstance(step, MaxPool)
    )
    return network.rows + sum(map(math.prod, network.shapes)) + sum(windowed)


def _by_bend(network: Network, patterns: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Number of each bending step and its part [K, units of the step] of the patterns."""
    start = 0
    for number in network.bends:
        stop = start + math.prod(network.shapes[number + 1])
        yield number, patterns[:, start:stop]
        start = stop


def _values(network: Network, weights: Weights, x: Tensor) -> list[Tensor]:
    """Every value of the network [1, n, *shape] at x."""
    values = [x.reshape(1, -1, *network.inputs)]
    for step in network.steps:
        value = values[step.inputs[0]]
        match step:
            case steps.Relu():
                value = value.relu()
            case steps.LeakyRelu(_, slope):
                value = functional.leaky_relu(value, slope)
            case MaxPool():
                value = windows(value, step).amax(-1)
            case _:
                value = _affine(step, values, weights, constant=True)
        values.append(value)
    return values


def _held(network: Network, weights: Weights, patterns: Tensor, x: Tensor, constant: bool) -> tuple[Tensor, Tensor]:
    """Slacks [K, n, rows] and outputs [K, n, outputs] under each of the patterns."""
    sides = dict(_by_bend(network, patterns))
    # Up to the first bend the patterns do not matter: there is one value [1, n, ...] for all of them.
    values = [x.reshape(1, -1, *network.inputs)]
    slacks = [x.new_zeros(patterns.shape[0], x.shape[0], 0)]
    for number, step in enumerate(network.steps):
        value = values[step.inputs[0]]
        if isinstance(step, MaxPool):
            slack, value = _pooled(step, network.shapes[step.inputs[0]], value, sides[number].long())
            value = value.unflatten(-1, network.shapes[number + 1])
            slacks.append(slack)
        elif number in sides:
            active = sides[number].bool().unflatten(1, network.shapes[number + 1])[:, None]
            slacks.append(torch.where(active, value, -value).flatten(2))
            value = torch.where(active, value, step.slope * value if isinstance(step, steps.LeakyRelu) else 0.0)
        else:
            value = _affine(step, values, weights, constant)
        values.append(value)
    return torch.cat(slacks, 2), values[-1].expand(patterns.shape[0], -1, -1)


def _pooled(pool: MaxPool, shape: tuple[int, ...], value: Tensor, winners: Tensor) -> tuple[Tensor, Tensor]:
    """Leads [K, n, rows] of the winners [K, units] over the rest of their windows, and the winners [K, n, units]."""
    entries = windows(value, pool).flatten(2, 4)
    samples, _, size = entries.shape[1:]
    present = real(pool, shape).to(value.device)
    others = present & (torch.arange(size, device=value.device) != winners[..., None])
    # Every pattern leaves out one entry of a window, so that all of them have as many others.
    places = others.flatten(1).nonzero()[:, 1].view(winners.shape[0], -1)
    entries = entries.expand(winners.shape[0], -1, -1, -1)
    chosen = entries.gather(3, winners[:, None, :, None].expand(-1, samples, -1, 1)).squeeze(3)
    index = places[:, None].expand(-1, samples, -1)
    return chosen.gather(2, index // size) - entries.flatten(2).gather(2, index), chosen


def _affine(step: Step, values: Sequence[Tensor], weights: Weights, constant: bool) -> Tensor:
    """The value [k, n, *shape] of a step that does not bend."""
    value = values[step.inputs[0]]
    match step:
        case steps.Flatten():
            return value.flatten(2)
        case steps.Linear(_, weight, bias):
            return functional.linear(value, weights[weight], weights[bias] if bias and constant else None)
        case steps.Conv2d(_, weight, bias):
            flat = functional.conv2d(
                value.flatten(0, 1), weights[weight], weights[bias] if bias and constant else None,
                step.stride, step.padding, step.dilation, step.groups,
            )  # fmt: skip
            return _apart(flat, value)
        case steps.BatchNorm():
            wide = (-1, *(1 for _ in value.shape[3:]))
            scale, shift = (factor.to(value).view(wide) for factor in _scale_and_shift(step, weights))
            return value * scale + shift if constant else value * scale
        case steps.AvgPool(_, kernel, stride, padding):
            total = functional.avg_pool2d(value.flatten(0, 1), kernel, stride, padding, divisor_override=1)
            return _apart(total * (1 / math.prod(kernel)), value)
        case steps.Add(inputs):
            return values[inputs[0]] + values[inputs[1]]
    raise AssertionError(step.op)


def _apart(flat: Tensor, value: Tensor) -> Tensor:
    """Images [k * n, ...] under the first two axes of ``value`` again."""
    return flat.reshape(*value.shape[:2], *flat.shape[1:])


def _scale_and_shift(step: steps.BatchNorm, weights: Weights) -> tuple[Tensor, Tensor]:
    """What a batch norm is by definition, in float64: these operations in this order."""
    mean, variance = weights[step.mean].double(), weights[step.variance].double()
    weight = torch.ones_like(mean) if step.weight is None else weights[step.weight].double()
    bias = torch.zeros_like(mean) if step.bias is None else weights[step.bias].double()
    scale = weight / (variance + step.epsilon).sqrt()
    return scale, bias - mean * scale
