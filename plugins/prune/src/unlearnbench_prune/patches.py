"""Where a row is sent, and the confusion maps that send it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linprog
from torch import Generator, Tensor

from unlearnbench.api import UsageError
from unlearnbench_prune.bounds import SLACK, ensure_solved, leads, limits, program
from unlearnbench_prune.parts import Bound, Patch, Place
from unlearnbench_prune.plugin import Target

LARGEST = 20_000
"""Most (rows + features) * 3 outputs for which an affine map is solved for: the multipliers of its program, which takes
about a quarter of a minute then."""


def ranked(kind: Target, outputs: Tensor, rng: Generator) -> list[int]:
    """All classes in the order in which they are wanted as a row's target; the first that may be one is taken.

    Args:
        kind: ``random`` (each order alike), ``second`` (the best first) or ``least`` (the worst first).
        outputs: [classes] of the row; of equal ones the lower class comes first.
        rng: drawn from for ``random`` alone.
    """
    if kind == "random":
        order: list[int] = torch.randperm(len(outputs), generator=rng).tolist()
        return order
    return list(map(int, outputs.argsort(descending=kind == "second", stable=True)))


def constant_patch(bounds: Sequence[Sequence[Bound]], target: int, margin: float) -> Patch:
    """The constant map with the least largest entry after which the target leads by ``margin`` in every place.

    Raising the target by half of the largest lead and lowering the others by what is then missing balances the two.
    Rounded to float32 so that the claim holds for the rounded numbers: the target's entry up, the others' down.

    Args:
        bounds: ``leads`` over this target, for one place or several.
        target: the output that is to lead.
        margin: by how much, at least.
    """
    asked = _asked(bounds, target, margin)
    shift = torch.zeros(len(asked), dtype=torch.float32)
    shift[target] = _outward(max(0.0, float(asked.max())) / 2, torch.inf)
    return Patch(_lowered(shift, target, asked))


def affine_patch(place: Place, target: int, margin: float) -> Patch:
    """The affine map whose largest entry in ``place`` is least, among those after which the target leads by ``margin``.

    That entry is no smaller than the constant map's: where another output leads most, one of the two has to move by
    half of the lead. Elsewhere in the place the affine map may be smaller; outside it may be much larger.

    One linear program over the map, and over the multipliers that bound each of its entries and each lead in the place
    (the second form of REASSURE: Fu and Li, 2022, ICLR, "Sound and Complete Neural Network Repair with Minimality and
    Locality Guarantees"). What float32 does to its slopes is made good by its shift.

    Raises:
        UsageError: too-large: the program would be.
        NoSolution: the place is empty, or the solver stopped.
    """
    rows, features = place.region.g.shape
    size = (rows + features) * 3 * len(place.region.e)
    if size > LARGEST:
        raise UsageError(
            "too-large",
            f"an affine map of this network has a program with {size} multipliers, more than {LARGEST}",
            where="patch",
            hint="take patch=constant, or a module near the outputs as split_at",
        )
    slope, shift = _smallest_map(place, target, margin)
    bare = Patch(torch.zeros(len(shift), dtype=torch.float32), slope)
    return Patch(_lowered(shift, target, _asked([leads(place, target, "lp", added=bare)], target, margin)), slope)


def _asked(bounds: Sequence[Sequence[Bound]], target: int, margin: float) -> Tensor:
    """By how much [outputs] each output must fall against the target: its bound in the worst place and the margin.

    And by ``SLACK`` of that, so that a bound that is worked out anew with the patch on top, whose own slack is larger
    then, is still at most ``-margin``. The target's own entry is -inf.
    """
    worst = torch.tensor([[bound.value for bound in one] for one in bounds], dtype=torch.float64).amax(0)
    asked: Tensor = worst + margin
    asked += 4 * SLACK * (1 + asked.abs())
    asked[target] = -torch.inf
    return asked


def _lowered(shift: Tensor, target: int, asked: Tensor) -> Tensor:
    """``shift`` [outputs] float32 with every entry lowered, where it must be, to that of the target less ``asked``."""
    entries = [
        value if j == target else min(value, _outward(float(shift[target]) - float(asked[j]), -torch.inf))
        for j, value in enumerate(shift.tolist())
    ]
    return torch.tensor(entries, dtype=torch.float32)


def _outward(value: float, direction: float) -> float:
    """The nearest float32 on that side of ``value``."""
    rounded = np.float32(value)
    if (float(rounded) - value) * direction < 0:
        rounded = np.nextafter(rounded, np.float32(direction))
    return float(rounded)


def _smallest_map(place: Place, target: int, margin: float) -> tuple[Tensor, Tensor]:
    """Slope [outputs, features] and shift [outputs], float32, of the map that ``affine_patch`` speaks of.

    It is worked out over z = x - low in [0, wide]. A function a @ z + b is at most t there if there are mu >= 0 and
    u >= 0 with u >= a + mu @ g and b + mu @ h + u @ wide <= t: weak duality, written as rows. The functions are every
    entry of the map and its negative, at most tau, and the lead of every other output, at most -margin.
    """
    over, region = program(place), place.region
    over.solve(torch.zeros_like(region.c[0]))  # of an empty place it would prove anything
    low, high = (side.numpy() for side in limits(place))
    outputs, features = region.c.shape
    others = [j for j in range(outputs) if j != target]
    unit = np.eye(outputs)
    picks = np.vstack([unit, -unit, unit[others] - unit[target]])
    leading = np.r_[np.zeros(2 * outputs), np.ones(outputs - 1)]
    c = (leading[:, None] * picks) @ region.c.numpy()
    e = leading * (picks @ region.e.numpy() + margin) + c @ low
    each = sparse.eye_array(len(picks))
    corners = sparse.kron(each, sparse.eye_array(features))
    blocks: list[list[Any]] = [
        [sparse.kron(picks, sparse.eye_array(features)), None, None, sparse.kron(each, over.g.T), -corners],
        [
            None,
            picks,
            (leading - 1)[:, None],
            sparse.kron(each, (over.h + over.g @ low)[None]),
            sparse.kron(each, (high - low)[None]),
        ],
    ]
    table = sparse.block_array(blocks, format="csr")
    free = outputs * features + outputs + 1
    cost = np.zeros(table.shape[1])
    cost[free - 1] = 1
    found = linprog(
        cost,
        A_ub=table,
        b_ub=np.r_[-c.ravel(), -e],
        bounds=[(None, None)] * free + [(0, None)] * (len(cost) - free),
        # Many multipliers are as good as others here: interior points take seconds where the simplex takes a minute.
        method="highs-ipm",
    )
    ensure_solved(found)
    slope = torch.from_numpy(found.x[: outputs * features].reshape(outputs, features)).float()
    at_low = torch.from_numpy(found.x[outputs * features : free - 1])
    return slope, (at_low - slope.double() @ torch.from_numpy(low)).float()
