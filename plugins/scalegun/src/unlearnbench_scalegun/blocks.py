"""The step of the deep variant: conjugate gradients on each tensor's own block of the Hessian, inside a trust region.

The authors add the whole solution of every block. Their blocks are nearly singular where a network fits its data, the
solutions are longer than the weights themselves, and what the blocks share (a row of weights and the scale behind it)
is corrected once by each of them. What is done about it here, in ``mended``: a tensor's step ends where it leaves a
ball around its weights, and the balls shrink until the step of all tensors does what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from unlearnbench_scalegun.plugin import DeepParams

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss over rows from outputs [m, k] and classes [m]."""
Weights = Mapping[str, Tensor]

HALVINGS = 10
"""How often a step that does more harm than good is halved before it is dropped."""


class Rows(NamedTuple):
    """Training rows: propagated features ``z`` [m, f] and classes ``y`` [m]."""

    z: Tensor
    y: Tensor


class Solution(NamedTuple):
    """What conjugate gradients found, and whether they met a direction in which the curvature is not positive."""

    x: Tensor
    uphill: bool = False


@dataclass(frozen=True)
class Trial:
    """Weights, how far the gradient is there from where it should be, and the mean loss on the rows that are left."""

    weights: Weights
    residual: float
    loss: float


@dataclass(frozen=True)
class Mended:
    """What became of a request: the state of affairs before and after, and what the safeguard did.

    ``halvings`` belong to the step that was taken; ``taken`` is false where every step was dropped. ``uphill`` names
    the tensors whose curvature was not positive.
    """

    before: Trial
    after: Trial
    taken: bool
    halvings: int
    uphill: tuple[str, ...]


def mended(head: nn.Module, loss: Loss, old: Rows, new: Rows, p: DeepParams) -> Mended:
    """One step of every tensor p of ``head``: (H_pp + damping) x = g_old - g_new, p + x (Yi and Wei 2025, deep models).

    g_old and g_new are the gradients of the mean loss over the ``old`` and the ``new`` rows, and H_pp is the tensor's
    block of the Hessian on the new ones, all at the same weights, in evaluation mode and double precision. Where no
    row leaves this is the authors' step. Where rows leave, each mean is over its own rows: training minimises a mean
    and stops where the pull of weight decay and of an early end balances it, and that balance is to be kept.

    The residual is the norm of g - g_old with g on the new rows at the new weights: what the step is to make 0. A step
    is good if it makes the residual smaller and the loss on the new rows no more than ``rise`` larger. A step that is
    not is halved: every tensor's ball to half of what was used of it, and conjugate gradients end that much earlier. A
    good one is halved on as long as that makes the residual still smaller.

    Returns weights in double precision; ``head`` is left as it is. Takes the memory of one pass over the new rows.
    """
    twin = deepcopy(head).double().eval().requires_grad_(True)
    names, weights = zip(*twin.named_parameters(), strict=True)
    at = {name: tensor.detach() for name, tensor in twin.named_parameters()}
    _, wanted = _loss_and_gradient(twin, dict(zip(names, weights, strict=True)), loss, old)
    value, graph = _loss_and_gradient(twin, dict(zip(names, weights, strict=True)), loss, new, differentiable=True)
    rights = [(goal - slope).detach() for goal, slope in zip(wanted, graph, strict=True)]
    before = Trial(at, _norm(rights), float(value))
    best, halvings, uphill = before, 0, set[str]()
    radii = [p.trust * float(tensor.norm()) for tensor in at.values()]
    for halved in range(HALVINGS + 1):
        if not before.residual:
            break
        steps = []
        for name, tensor, slope, right, radius in zip(names, weights, graph, rights, radii, strict=True):
            found = conjugate_gradients(block(tensor, slope, p.damping), right, p.tolerance, p.iterations, radius)
            steps.append(found.x)
            uphill |= {name} if found.uphill else set()
        there = {name: tensor + step for (name, tensor), step in zip(at.items(), steps, strict=True)}
        trial = _tried(twin, there, loss, new, wanted)
        if best is not before and not trial.residual < best.residual:
            break
        if trial.residual < best.residual and trial.loss <= (1 + p.rise) * before.loss:
            best, halvings = trial, halved
        radii = [min(radius, float(step.norm())) / 2 for radius, step in zip(radii, steps, strict=True)]
    return Mended(before, best, best is not before, halvings, tuple(name for name in names if name in uphill))


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, limit: int, radius: float
) -> Solution:
    """Solve ``product(x) = right`` from 0 within a ball (Steihaug 1983).

    Iterates from 0 only grow longer, so the first that leaves the ball is cut where it does, and nothing is lost by
    going no further. Where the curvature is not positive a minimum is nowhere near: the last iterate before is kept.

    Args:
        product: a symmetric matrix, as its products with tensors of the shape of ``right``.
        right: the right-hand side.
        tolerance: of the residual's norm, relative to that of ``right``.
        limit: most iterations.
        radius: of the ball around 0.
    """
    x, residual, direction = torch.zeros_like(right), right, right
    square = residual.square().sum()
    goal = tolerance**2 * square
    for _ in range(limit):
        if square <= goal:
            break
        image = product(direction)
        curvature = (direction * image).sum()
        if not curvature > 0:
            return Solution(x, uphill=True)
        ahead = x + square / curvature * direction
        if ahead.norm() > radius:
            return Solution(_boundary(x, direction, radius))
        x, residual = ahead, residual - square / curvature * image
        now = residual.square().sum()
        direction = residual + now / square * direction
        square = now
    return Solution(x)


def _boundary(x: Tensor, direction: Tensor, radius: float) -> Tensor:
    """Where x + t direction, t >= 0, leaves the ball that x lies in."""
    along, length = (x * direction).sum(), direction.square().sum()
    room = (radius**2 - x.square().sum()).clamp(min=0)
    found: Tensor = x + ((along.square() + length * room).sqrt() - along) / length * direction
    return found


def block(tensor: Tensor, slope: Tensor, damping: float) -> Callable[[Tensor], Tensor]:
    """Products with a tensor's block of the Hessian, by differentiating its gradient ``slope`` once more."""

    def product(v: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(slope, tensor, v, retain_graph=True, materialize_grads=True)
        return found + damping * v

    return product


def _loss_and_gradient(
    twin: nn.Module, at: Weights, loss: Loss, rows: Rows, *, differentiable: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Mean loss over rows and its gradient by all tensors; ``differentiable`` keeps what the Hessian needs."""
    value = loss(functional_call(twin, dict(at), (rows.z,)), rows.y)
    slopes = torch.autograd.grad(value, list(at.values()), create_graph=differentiable, materialize_grads=True)
    return value.detach(), slopes


def _tried(twin: nn.Module, there: Weights, loss: Loss, rows: Rows, wanted: tuple[Tensor, ...]) -> Trial:
    """What the weights ``there`` come to."""
    at = {name: tensor.detach().requires_grad_(True) for name, tensor in there.items()}
    value, slopes = _loss_and_gradient(twin, at, loss, rows)
    return Trial(there, _norm([slope - goal for slope, goal in zip(slopes, wanted, strict=True)]), float(value))


def _norm(tensors: list[Tensor]) -> float:
    return sqrt(sum(float(tensor.square().sum()) for tensor in tensors))
