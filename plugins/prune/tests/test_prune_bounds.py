"""Bounds over a place: never below the truth, and as near to it as a linear program gets."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
import torch
from linear_regions import Array, flat, net
from scipy.optimize import linprog
from torch import Tensor

from unlearnbench_prune.bounds import (
    How,
    NoSolution,
    ensure_solved,
    interval_bound,
    leads,
    lp_bound,
    program,
    weak_duality,
)
from unlearnbench_prune.parts import Box, Patch, Place, Region
from unlearnbench_prune.patches import constant_patch
from unlearnbench_verifier.bounds import cut, upper
from unlearnbench_verifier.numbers import Ball

BOX = Box(-1.0, 1.0)


def place(seed: int, radius: float | None = None, sizes: tuple[int, ...] = (3, 7, 5, 4)) -> Place:
    """Around a random row of a random network."""
    row = np.random.default_rng(seed).uniform(-1, 1, sizes[0])
    return Place(net(sizes, seed).region(row), BOX, flat(row), radius)


def at_centre(of: Place) -> Tensor:
    """What the network answers at the centre [outputs]."""
    assert of.centre is not None
    return of.region.c @ of.centre + of.region.e


def vertices(of: Place) -> Array:
    """Every corner [n, features] of a place: where as many of its sides as there are features meet inside it."""
    low, high = (side.numpy() for side in of.bounds())
    features = len(low)
    g = np.vstack([of.region.g.numpy(), np.eye(features), -np.eye(features)])
    h = np.concatenate([of.region.h.numpy(), -low, high])
    corners = []
    for sides in map(list, combinations(range(len(g)), features)):
        if abs(np.linalg.det(g[sides])) > 1e-12:
            corner = np.linalg.solve(g[sides], -h[sides])
            if (g @ corner + h >= -1e-9).all():
                corners.append(corner)
    return np.array(corners)


def function(seed: int, features: int = 3) -> tuple[Tensor, float]:
    """A random affine function."""
    rng = np.random.default_rng(seed + 1000)
    return flat(rng.normal(size=features)), float(rng.normal())


PLACES = [(seed, radius) for seed in range(6) for radius in (None, 0.3)]


@pytest.mark.parametrize(("seed", "radius"), PLACES)
def test_the_bound_of_a_program_is_the_largest_value_at_a_corner(seed: int, radius: float | None) -> None:
    over = place(seed, radius)
    d, q = function(seed)
    truth = (vertices(over) @ d.numpy() + q).max()
    bound = lp_bound(over, d, q)
    assert truth - 1e-12 <= bound.value <= truth + 1e-6
    assert bool((bound.duals >= 0).all())
    assert bound.duals.shape == over.region.h.shape


def test_in_two_dimensions_no_point_of_a_grid_is_above_the_bound_and_one_is_near_it() -> None:
    over = place(3, sizes=(2, 8, 3))
    d, q = function(3, 2)
    axis = np.linspace(-1, 1, 801)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    inside = grid[(grid @ over.region.g.numpy().T + over.region.h.numpy() >= 0).all(1)]
    assert len(inside) > 100
    most = (inside @ d.numpy() + q).max()
    assert most <= lp_bound(over, d, q).value <= most + 0.02


@pytest.mark.parametrize(("seed", "radius"), PLACES)
def test_no_choice_of_multipliers_gives_a_bound_below_the_truth(seed: int, radius: float | None) -> None:
    over = place(seed, radius)
    d, q = function(seed)
    truth = (vertices(over) @ d.numpy() + q).max()
    rng = np.random.default_rng(seed)
    for scale in (1e-3, 0.1, 1, 100):
        duals = flat(rng.exponential(scale, len(over.region.h)) * (rng.random(len(over.region.h)) < 0.4))
        assert weak_duality(over, d, q, duals) >= truth
    assert weak_duality(over, d, q, torch.zeros_like(over.region.h)) >= truth


def test_a_negative_multiplier_is_refused() -> None:
    over = place(0)
    duals = torch.zeros_like(over.region.h)
    duals[2] = -1e-12
    with pytest.raises(ValueError, match="at least 0"):
        weak_duality(over, *function(0), duals)


@pytest.mark.parametrize(("seed", "radius"), PLACES)
def test_intervals_are_never_tighter_than_programs_and_exact_for_a_box(seed: int, radius: float | None) -> None:
    over = place(seed, radius)
    d, q = function(seed)
    interval = interval_bound(over, d, q)
    assert interval.value >= lp_bound(over, d, q).value - 1e-9
    assert not interval.duals.any()
    low, high = (side.numpy() for side in over.bounds())
    corners = np.array(list(product(*zip(low, high, strict=True))))
    assert interval.value == pytest.approx((corners @ d.numpy() + q).max(), abs=1e-7)


@pytest.mark.parametrize(("seed", "radius"), PLACES)
def test_a_bound_holds_in_exact_arithmetic_for_its_own_multipliers(seed: int, radius: float | None) -> None:
    over = place(seed, radius, (5, 9, 6, 4))
    d, q = function(seed, 5)
    bound = lp_bound(over, d, q)
    exact = Fraction(q)
    rest = [Fraction(value) for value in d.tolist()]
    for row, mu in enumerate(map(Fraction, bound.duals.tolist())):
        exact += mu * Fraction(float(over.region.h[row]))
        rest = [r + mu * Fraction(g) for r, g in zip(rest, over.region.g[row].tolist(), strict=True)]
    low, high = (list(map(Fraction, side.tolist())) for side in over.bounds())
    exact += sum(max(r * a, r * b) for r, a, b in zip(rest, low, high, strict=True))
    assert exact < Fraction(bound.value) < exact + Fraction(1, 10**6)


@pytest.mark.parametrize("radius", [None, 0.3])
def test_a_check_with_directed_rounding_comes_out_below_the_bound(radius: float | None) -> None:
    over = place(2, radius, (40, 30, 20, 4))
    d, q = function(2, 40)
    bound = lp_bound(over, d, q)
    duals = [(row, float(bound.duals[row])) for row in bound.duals.nonzero().flatten().tolist()]
    assert radius is not None or duals
    rows = torch.cat([over.region.g, over.region.h[:, None]], dim=1).numpy()
    centre = over.centre.numpy() if over.centre is not None else None
    box = cut(Ball, 40, over.box.low, over.box.high, centre=centre, radius=radius)
    checked = upper(Ball.exactly(np.append(d.numpy(), q)), Ball.exactly(rows), duals, box)
    assert Fraction(bound.value) - Fraction(1, 10**6) < checked < Fraction(bound.value)


def test_rows_that_the_box_fulfils_are_left_out_and_change_nothing() -> None:
    bare = place(4, sizes=(3, 6, 4))
    g, h = bare.region.g, bare.region.h
    d, q = -g[program(bare).kept].sum(0), 0.5
    always_g = flat(np.random.default_rng(0).normal(size=(len(h), 3)))
    always_h = always_g.abs().sum(1) + 0.1
    mixed = replace(
        bare.region,
        g=torch.stack([always_g, g], 1).flatten(0, 1),
        h=torch.stack([always_h, h], 1).flatten(),
    )
    padded = replace(bare, region=mixed)
    own = program(bare).kept
    assert program(padded).kept.tolist() == (2 * own + 1).tolist()
    assert lp_bound(padded, d, q).value == pytest.approx(lp_bound(bare, d, q).value, abs=1e-7)
    duals = lp_bound(padded, d, q).duals
    assert duals.any()
    assert not duals[::2].any()


def test_a_box_that_fulfils_every_row_needs_no_solver_and_its_interval_is_the_bound() -> None:
    over = place(1, radius=1e-6)
    assert not len(program(over).kept)
    d, q = function(1)
    assert lp_bound(over, d, q).value == interval_bound(over, d, q).value


def halves(at_least: float, at_most: float) -> Place:
    """The inputs whose first feature is between these."""
    one = torch.ones(1, dtype=torch.float64)
    region = Region(
        torch.zeros(2, dtype=torch.uint8),
        torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64),
        torch.cat([-at_least * one, at_most * one]),
        torch.eye(2, dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
    )
    return Place(region, BOX)


def test_an_empty_region_has_no_bound() -> None:
    over = halves(0.6, 0.4)
    with pytest.raises(NoSolution) as empty:
        lp_bound(over, *function(0, 2))
    assert empty.value.reason == "no input of the box is in the region"
    with pytest.raises(NoSolution):
        leads(over, 0, "lp")
    assert lp_bound(halves(0.4, 0.6), flat(np.array([1.0, 0.0])), 1.0).value == pytest.approx(1.6, abs=1e-7)


def test_a_region_outside_of_the_box_has_no_bound() -> None:
    with pytest.raises(NoSolution, match="no input of the box"):
        lp_bound(halves(1.5, 2.0), *function(0, 2))


def test_a_centre_whose_box_misses_the_inputs_has_no_bound() -> None:
    over = replace(halves(0.0, 1.0), centre=flat(np.array([1.5, 0.0])), radius=0.25)
    for bound in (interval_bound, lp_bound):
        with pytest.raises(NoSolution, match="outside the box"):
            bound(over, *function(0, 2))


def test_a_solver_that_stops_early_has_no_bound() -> None:
    over = program(place(0))
    stopped = linprog([-1.0, 2.0, 0.5], A_ub=-over.g, b_ub=over.h, bounds=over.box, options={"maxiter": 0})
    assert stopped.status not in (0, 2)
    with pytest.raises(NoSolution, match="stopped without an optimum"):
        ensure_solved(stopped)


@pytest.mark.parametrize("how", ["auto", "interval", "lp"])
def test_leads_bound_the_difference_to_the_target_of_what_the_network_answers(how: How) -> None:
    own = net((3, 7, 5, 4), 2)
    over = place(2)
    target = 1
    bounds = leads(over, target, how)
    assert bounds[target].value == -math.inf
    assert not bounds[target].duals.any()
    answers = own.outputs(vertices(over))
    most = (answers - answers[:, [target]]).max(0)
    for j in (0, 2, 3):
        assert bounds[j].value >= most[j] - 1e-12
        assert how == "interval" or bounds[j].value <= most[j] + 1e-6


def test_what_is_added_counts_as_part_of_the_network() -> None:
    over = place(5)
    rng = np.random.default_rng(5)
    patch = Patch(flat(rng.normal(size=4)).float(), flat(rng.normal(size=(4, 3))).float())
    assert patch.slope is not None
    region = replace(over.region, c=over.region.c + patch.slope.double(), e=over.region.e + patch.shift.double())
    ways: tuple[How, ...] = ("interval", "lp")
    for how in ways:
        expected = leads(replace(over, region=region), 2, how)
        found = leads(over, 2, how, added=patch)
        assert [bound.value for bound in found] == [bound.value for bound in expected]
        assert [bound.value for bound in found] != [bound.value for bound in leads(over, 2, how)]
    shifted = leads(over, 2, "lp", added=Patch(patch.shift))
    for j in (0, 1, 3):
        moved = float(patch.shift[j]) - float(patch.shift[2])
        assert shifted[j].value == pytest.approx(leads(over, 2, "lp")[j].value + moved, abs=1e-6)


@pytest.mark.parametrize(("radius", "most"), [(0.25, 2.0), (0.26, 1.4)])
def test_programs_are_for_intervals_that_ask_for_more_than_twice_what_the_centre_needs(
    radius: float, most: float
) -> None:
    # The lead is 4 x + 1: 1 at the centre 0, 1.4 where the region ends at 0.1. With the margin 2 * 1.01 is the limit.
    region = Region(
        torch.ones(1, dtype=torch.uint8),
        flat(np.array([[-1.0]])),
        flat(np.array([0.1])),
        flat(np.array([[4.0], [0.0]])),
        flat(np.array([1.0, 0.0])),
    )
    found = leads(Place(region, BOX, flat(np.zeros(1)), radius), 1, margin=0.01)
    assert found[0].value == pytest.approx(most, abs=1e-6)
    assert bool(found[0].duals.any()) == (most == 1.4)


def test_an_output_is_solved_for_where_its_interval_makes_more_of_the_patch_than_the_centre_needs() -> None:
    # Leads 4 x + 1 and x + 0.5 up to 0.1: 1.4 and 0.6 in the place, 2.2 and 0.8 in its box; the third is never ahead.
    region = Region(
        torch.ones(1, dtype=torch.uint8),
        flat(np.array([[-1.0]])),
        flat(np.array([0.1])),
        flat(np.array([[4.0], [1.0], [0.0], [1.0]])),
        flat(np.array([1.0, 0.5, 0.0, 0.0])),
    )
    found = leads(Place(region, BOX, flat(np.zeros(1)), 0.3), 2, margin=0.01)
    assert [found[j].value for j in (0, 1, 3)] == pytest.approx([1.4, 0.6, 0.3], abs=1e-6)


def test_without_a_radius_there_are_only_programs() -> None:
    over = place(0)
    assert [bound.value for bound in leads(over, 3)] == [bound.value for bound in leads(over, 3, "lp")]


def test_where_intervals_are_loose_the_patch_is_that_of_programs_and_not_all_are_solved() -> None:
    solved, skipped = 0, 0
    for seed in range(12):
        over = place(seed, 0.9, (6, 10, 8, 6))
        target = int(at_centre(over).argsort()[-2])
        mixed, intervals = leads(over, target), leads(over, target, "interval")
        if [bound.value for bound in mixed] == [bound.value for bound in intervals]:
            continue
        programs = leads(over, target, "lp")
        kept = [j for j in range(6) if j != target and mixed[j].value == intervals[j].value]
        solved += 5 - len(kept)
        skipped += len(kept)
        expected = constant_patch([programs], target, 1e-2).shift
        assert torch.equal(constant_patch([mixed], target, 1e-2).shift, expected)
        assert expected.abs().max() < constant_patch([intervals], target, 1e-2).shift.abs().max()
    assert solved > 5
    assert skipped > 0
