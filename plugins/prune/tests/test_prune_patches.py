"""Targets and confusion maps: where a row is sent, that its whole place is sent there, and how small the map is."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from linear_regions import Array, Net, flat, net
from scipy.optimize import linprog

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import generator
from unlearnbench_prune.bounds import SLACK, How, NoSolution, leads, lp_bound
from unlearnbench_prune.parts import Bound, Box, Patch, Place
from unlearnbench_prune.patches import affine_patch, constant_patch, ranked

BOX = Box(0.0, 1.0)
LOGITS = torch.tensor([0.5, 2.0, -1.0, 1.5, 0.0])


def test_second_wants_the_best_first_and_least_the_worst_and_of_equals_the_lower_class() -> None:
    outputs = torch.tensor([1.0, 3.0, -2.0, 3.0, 0.5])
    assert ranked("second", outputs, generator(0)) == [1, 3, 0, 4, 2]
    assert ranked("least", outputs, generator(0)) == [2, 4, 0, 1, 3]


def test_random_wants_each_class_first_alike_and_the_same_for_a_seed() -> None:
    rng, again = generator(3), generator(3)
    drawn = [ranked("random", LOGITS, rng) for _ in range(900)]
    assert all(sorted(order) == list(range(len(LOGITS))) for order in drawn)
    counts = torch.tensor([order[0] for order in drawn]).bincount(minlength=len(LOGITS))
    share = 900 / len(LOGITS)
    assert bool(((counts - share).abs() < 5 * share**0.5).all())
    assert [ranked("random", LOGITS, again) for _ in range(900)] == drawn


def bounds(values: list[float]) -> list[Bound]:
    return [Bound(value, torch.zeros(0)) for value in values]


def test_the_constant_map_by_hand() -> None:
    # 7.5 + 0.5 is asked of output 0: half of it each way. Output 2 asks for 5, 1 more than the target's 4; 3 for less.
    patch = constant_patch([bounds([7.5, -math.inf, 4.5, 3.0])], 1, 0.5)
    assert patch.slope is None
    assert patch.shift.dtype == torch.float32
    assert patch.shift.tolist() == pytest.approx([-4, 4, -1, 0], abs=1e-5)


def test_nothing_is_moved_where_the_target_leads_already() -> None:
    assert constant_patch([bounds([-3.0, -2.0, -math.inf])], 2, 0.5).shift.tolist() == [0, 0, 0]


def test_several_places_ask_for_the_worst_of_each_output() -> None:
    both = constant_patch([bounds([-math.inf, 6.0, 1.0]), bounds([-math.inf, 2.0, 5.0])], 0, 1.0)
    assert both.shift.tolist() == pytest.approx([3.5, -3.5, -2.5], abs=1e-5)


def smallest(asked: Array, target: int) -> float:
    """Least largest entry of any p with p_j - p_t <= -asked_j, by a linear program over p and its largest entry."""
    n = len(asked)
    others = [j for j in range(n) if j != target]
    leading = np.hstack([np.eye(n)[others] - np.eye(n)[target], np.zeros((n - 1, 1))])
    entries = np.hstack([np.vstack([np.eye(n), -np.eye(n)]), -np.ones((2 * n, 1))])
    found = linprog(
        np.eye(n + 1)[n],
        A_ub=np.vstack([leading, entries]),
        b_ub=np.concatenate([-asked[others], np.zeros(2 * n)]),
        bounds=[(None, None)] * (n + 1),
    )
    assert found.status == 0
    return float(found.fun)


@pytest.mark.parametrize("seed", range(8))
def test_no_constant_that_does_the_same_has_a_smaller_largest_entry(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, target = rng.normal(size=6) * 5 + seed - 4, seed % 6
    values[target] = -math.inf
    patch = constant_patch([bounds(values.tolist())], target, 0.25)
    assert float(patch.shift.abs().max()) == pytest.approx(smallest(values + 0.25, target), abs=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 37.0, 1e6])
def test_rounding_to_float32_keeps_the_claim_exactly(scale: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        values = rng.normal(size=5) * scale
        values[2] = -math.inf
        margin = float(rng.uniform(1e-3, 1))
        shift = [Fraction(value) for value in constant_patch([bounds(values.tolist())], 2, margin).shift.tolist()]
        assert 2 * shift[2] >= Fraction(float(values.max())) + Fraction(margin)
        for j in (0, 1, 3, 4):
            assert Fraction(float(values[j])) + shift[j] - shift[2] <= -Fraction(margin)


def test_the_claim_has_room_for_the_slack_of_a_bound_that_is_worked_out_again() -> None:
    shift = constant_patch([bounds([3.5, -math.inf, 0.0])], 1, 0.5).shift.double()
    assert 3.5 + float(shift[0] - shift[1]) + 0.5 < -SLACK * 4


def inside(place: Place, count: int, seed: int) -> Array:
    """Points [count, features] of a place, by walks along random chords from its centre."""
    rng = np.random.default_rng(seed)
    assert place.centre is not None
    low, high = (side.numpy() for side in place.bounds())
    g = np.vstack([place.region.g.numpy(), np.eye(len(low)), -np.eye(len(low))])
    h = np.concatenate([place.region.h.numpy(), -low, high])
    x, points = place.centre.numpy(), []
    for _ in range(count):
        way = rng.normal(size=len(x))
        slacks, slopes = g @ x + h, g @ way
        ends = slacks / np.where(slopes == 0, np.inf, -slopes)
        x = x + way * rng.uniform(ends[slopes > 0].max(), ends[slopes < 0].min())
        points.append(x)
    return np.array(points)


def patched(own: Net, patch: Patch, points: Array) -> Array:
    """What the network and the map on top of it answer."""
    slope = np.zeros((len(patch.shift), points.shape[1])) if patch.slope is None else patch.slope.double().numpy()
    return own.outputs(points) + points @ slope.T + patch.shift.double().numpy()


def lead(answers: Array, target: int) -> float:
    """By how much the target leads, where it does so least."""
    return float((answers[:, [target]] - np.delete(answers, target, axis=1)).min())


def largest(place: Place, patch: Patch) -> float:
    """Largest entry of the map in the place, by linear programs."""
    slope = torch.zeros_like(place.region.c) if patch.slope is None else patch.slope.double()
    ends = [
        lp_bound(place, sign * slope[i], sign * float(patch.shift[i])).value
        for i in range(len(slope))
        for sign in (1.0, -1.0)
    ]
    return max(ends)


CASES = [(seed, radius) for seed in range(4) for radius in (None, 0.2)]


def case(seed: int, radius: float | None) -> tuple[Net, Place, int]:
    own = net((6, 9, 7, 4), seed)
    row = np.random.default_rng(seed).uniform(0.1, 0.9, 6)
    place = Place(own.region(row), BOX, flat(row), radius)
    return own, place, int(own.outputs(row[None])[0].argsort()[-2])


@pytest.mark.parametrize(("seed", "radius"), CASES)
def test_a_constant_map_sends_500_points_of_the_place_to_the_target(seed: int, radius: float | None) -> None:
    own, place, target = case(seed, radius)
    patch = constant_patch([leads(place, target)], target, 0.01)
    points = inside(place, 500, seed)
    assert lead(own.outputs(points), target) < 0.01
    assert lead(patched(own, patch, points), target) >= 0.01


@pytest.mark.parametrize(("seed", "radius"), CASES)
def test_an_affine_map_does_so_too_and_is_proved_and_is_not_larger_in_the_place(
    seed: int, radius: float | None
) -> None:
    own, place, target = case(seed, radius)
    patch = affine_patch(place, target, 0.01)
    assert patch.slope is not None
    assert patch.slope.dtype == patch.shift.dtype == torch.float32
    assert lead(patched(own, patch, inside(place, 500, seed)), target) >= 0.01
    assert max(bound.value for bound in leads(place, target, "lp", added=patch)) <= -0.01
    constant = constant_patch([leads(place, target, "lp")], target, 0.01)
    assert largest(place, patch) <= largest(place, constant) + 1e-4


@pytest.mark.parametrize("how", ["auto", "interval", "lp"])
@pytest.mark.parametrize(("seed", "radius"), CASES)
def test_a_constant_map_is_proved_again_with_itself_on_top(seed: int, radius: float | None, how: How) -> None:
    _, place, target = case(seed, radius)
    patch = constant_patch([leads(place, target, how)], target, 0.01)
    proved = leads(place, target, how, added=patch)
    assert max(bound.value for bound in proved) <= -0.01


def test_an_affine_map_in_a_box_that_lies_in_the_region_needs_no_rows() -> None:
    own, place, target = case(0, 1e-4)
    patch = affine_patch(place, target, 0.01)
    assert max(bound.value for bound in leads(place, target, "interval", added=patch)) <= -0.01
    assert lead(patched(own, patch, np.asarray(place.centre)[None]), target) >= 0.01


def test_there_is_no_affine_map_of_an_empty_place() -> None:
    _, place, target = case(1, None)
    g, h = place.region.g, place.region.h
    empty = replace(place.region, g=torch.cat([g, -g[:1]]), h=torch.cat([h, -h[:1] - 0.1]))
    with pytest.raises(NoSolution, match="no input of the box is in the region"):
        affine_patch(replace(place, region=empty), target, 0.01)


def test_an_affine_map_of_a_large_network_is_refused_with_the_size_that_is_allowed() -> None:
    own = net((600, 80, 10), 0)
    row = np.full(600, 0.5)
    with pytest.raises(UsageError, match=r"too-large.*20400 multipliers, more than 20000; take patch=constant"):
        affine_patch(Place(own.region(row), BOX, flat(row)), 0, 0.01)
