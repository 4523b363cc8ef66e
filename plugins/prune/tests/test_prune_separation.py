"""Support nets of other patches: the bound of how far they are on holds everywhere in the place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from linear_regions import Array, Net, flat, net
from scipy.optimize import linprog
from torch import Tensor

from unlearnbench_prune.bounds import weak_duality
from unlearnbench_prune.parts import Box, Patch, Place, Region
from unlearnbench_prune.separation import interference, off, reach

BOX = Box(-1.0, 1.0)
SIZES = (4, 8, 6, 3)
"""Of the networks that are drawn."""


def support(region: Region, sharpness: float, x: Array) -> Array:
    """The support net of a region at rows [n, features], as the method writes it."""
    slacks = x @ region.g.numpy().T + region.h.numpy()
    steps = np.maximum(sharpness * slacks + 1, 0) - np.maximum(sharpness * slacks, 0)
    return np.maximum(steps.sum(1) - slacks.shape[1] + 1, 0)


def pair(seed: int, radius: float | None, centred: bool = True) -> tuple[Net, Place, Region]:
    """A place around one random row of a network, and the region of another row in a different one."""
    own, rng = net(SIZES, seed), np.random.default_rng(seed)
    here = rng.uniform(-1, 1, SIZES[0])
    while True:
        other = own.region(rng.uniform(-1, 1, SIZES[0]))
        if not torch.equal(other.pattern, own.region(here).pattern):
            break
    centre = flat(here) if centred or radius is not None else None
    return own, Place(own.region(here), BOX, centre, radius), other


def inside(place: Place, seed: int) -> Array:
    """Points of the place: those of many random ones of its box that are in its region."""
    low, high = (side.numpy() for side in place.bounds())
    drawn = np.random.default_rng(seed).uniform(low, high, (40_000, len(low)))
    return drawn[(drawn @ place.region.g.numpy().T + place.region.h.numpy() >= 0).all(1)]


CASES = [(seed, radius, True) for seed in range(5) for radius in (None, 0.2)] + [
    (seed, None, False) for seed in range(5)
]


@pytest.mark.parametrize(("seed", "radius", "centred"), CASES)
@pytest.mark.parametrize("sharpness", [0.3, 3.0, 100.0])
def test_no_point_of_the_place_opens_the_gate_further(
    seed: int, radius: float | None, centred: bool, sharpness: float
) -> None:
    _, place, other = pair(seed, radius, centred)
    points = inside(place, seed)
    assert len(points) > 0
    found = off(place, other, sharpness)
    assert 0 <= found.nu <= 1
    assert support(other, sharpness, points).max() <= found.nu


@pytest.mark.parametrize(("seed", "radius", "centred"), CASES)
def test_rows_and_multipliers_prove_it_by_weak_duality(seed: int, radius: float | None, centred: bool) -> None:
    _, place, other = pair(seed, radius, centred)
    found = off(place, other, 2.0)
    assert found.duals.shape == place.region.h.shape
    assert bool((found.duals >= 0).all())
    rows = list(found.rows)
    least = -weak_duality(place, other.g[rows].sum(0), float(other.h[rows].sum()), found.duals)
    assert found.nu == 1 - min(1, 2 * max(0, least))


def least_violation(place: Place, other: Region) -> float:
    """The least sum of violations of the other's rows in the place, by a linear program over x and the violations."""
    rows, features = other.g.shape
    low, high = (side.tolist() for side in place.bounds())
    found = linprog(
        np.r_[np.zeros(features), np.ones(rows)],
        A_ub=np.block([[-other.g.numpy(), -np.eye(rows)], [-place.region.g.numpy(), np.zeros((rows, rows))]]),
        b_ub=np.r_[other.h.numpy(), place.region.h.numpy()],
        bounds=[*zip(low, high, strict=True), *[(0, None)] * rows],
    )
    assert found.status == 0
    return float(found.fun)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [None, 0.2])
def test_it_is_no_better_than_the_least_violation_allows(seed: int, radius: float | None) -> None:
    _, place, other = pair(seed, radius)
    sharpness = 1.0
    assert off(place, other, sharpness).nu >= 1 - min(1, sharpness * least_violation(place, other)) - 1e-9


def test_around_distant_rows_it_is_as_good_as_the_least_violation() -> None:
    exact = 0
    for seed in range(12):
        _, place, other = pair(seed, 0.1)
        truth = least_violation(place, other)
        if truth > 0.05:
            sharpness = 0.5 / truth
            exact += abs(off(place, other, sharpness).nu - 0.5) < 1e-4
    assert exact >= 6


def line(*slacks: tuple[float, float]) -> Region:
    """A region of one input whose slacks are g x + h."""
    rows = torch.tensor(slacks, dtype=torch.float64)
    return Region(
        torch.zeros(len(rows), dtype=torch.uint8),
        rows[:, :1],
        rows[:, 1],
        torch.eye(1, dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
    )


def middle(x: float) -> Tensor:
    return torch.tensor([x], dtype=torch.float64)


def test_on_a_line_by_hand() -> None:
    # The place is [0.25, 1]; the other region ends at -0.25, so its violation is at least half.
    place = Place(line((1.0, -0.25)), BOX, middle(0.75))
    found = off(place, line((-1.0, -0.25)), 0.8)
    assert found.rows == (0,)
    assert found.nu == pytest.approx(1 - 0.8 * 0.5, abs=1e-6)
    assert found.duals.tolist() == pytest.approx([1.0], abs=1e-9)
    assert off(place, line((-1.0, -0.25)), 2.5).nu == 0


def test_intervals_that_suffice_need_no_multipliers() -> None:
    # The box is [0.5, 1] and the region begins at 0.6: by the box alone the violation is at least 0.75.
    place = Place(line((1.0, -0.6)), BOX, middle(0.75), 0.25)
    found = off(place, line((-1.0, -0.25)), 2.0)
    assert found.nu == 0
    assert not found.duals.any()
    assert off(place, line((-1.0, -0.25)), 1.0).nu == pytest.approx(0.15, abs=1e-6)


def test_rows_that_do_harm_are_left_out() -> None:
    # Both rows of the other are negative at the centre 0.9, but the second is at 0.25 far on the other side.
    place = Place(line((1.0, -0.25)), BOX, middle(0.9))
    found = off(place, line((-1.0, -0.25), (-10.0, 8.0)), 1.0)
    assert found.rows == (0,)
    assert found.nu == pytest.approx(0.5, abs=1e-6)


def test_without_a_centre_units_on_opposite_sides_are_found() -> None:
    # The units bend at 0.25 and at -0.5; the regions differ on the first, which is 0 on the facet between them.
    place = Place(line((1.0, -0.25), (1.0, 0.5)), BOX)
    found = off(place, line((-1.0, 0.25), (1.0, 0.5)), 1.0)
    assert found.nu == 1
    both = off(Place(line((1.0, -0.25), (1.0, 0.0)), BOX), line((-1.0, 0.25), (-1.0, 0.0)), 1.0)
    assert both.rows == (0, 1)
    assert both.nu == pytest.approx(0.75, abs=1e-6)


def test_a_region_is_not_off_in_itself() -> None:
    _, place, _ = pair(0, None)
    for here in (place, replace(place, centre=None)):
        found = off(here, place.region, 10.0)
        assert found.rows == ()
        assert found.nu == 1
        assert not found.duals.any()


def patch_net(value: Array, gate: float, height: float) -> Array:
    """The patch network for a map's ``value``, as the method writes it."""
    return np.maximum(value + height * gate - height, 0) - np.maximum(-value + height * gate - height, 0)


def test_a_constant_patch_raises_no_lead_by_more_than_is_said() -> None:
    rng = np.random.default_rng(0)
    patch = Patch(flat(rng.normal(size=5)).float())
    shift = patch.shift.double().numpy()
    height = float(reach(patch, BOX).max())
    assert height == np.abs(shift).max()
    for nu in (0.0, 0.3, 0.8, 1.0):
        added = np.array([patch_net(shift, gate, height) for gate in np.linspace(0, nu, 101)])
        # Entries of a constant grow with the gate, so that the worst comes with the gate at nu, unless it is none.
        worst = np.maximum(added[:, :, None], 0).max(0) + np.maximum(-added[:, None, :], 0).max(0)
        assert interference(nu, patch, height, BOX).numpy() == pytest.approx(worst, abs=1e-12)


def test_an_affine_patch_raises_no_lead_by_more_than_is_said() -> None:
    rng = np.random.default_rng(1)
    box = Box(-0.5, 2.0)
    patch = Patch(flat(rng.normal(size=4)).float(), flat(rng.normal(size=(4, 3))).float())
    assert patch.slope is not None
    x = rng.uniform(box.low, box.high, (20_000, 3))
    values = x @ patch.slope.double().numpy().T + patch.shift.double().numpy()
    sizes = reach(patch, box)
    assert (np.abs(values).max(0) <= sizes.numpy()).all()
    assert (np.abs(values).max(0) >= 0.9 * sizes.numpy()).all()
    height = float(sizes.max())
    for nu in (0.2, 0.6, 1.0):
        most = interference(nu, patch, height, box).numpy()
        added = patch_net(values, nu, height)
        assert ((added[:, :, None] - added[:, None, :]).max(0) <= most + 1e-12).all()
    assert not interference(0.0, patch, height, box).any()
