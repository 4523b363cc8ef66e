"""Gates on their own, against loops in numpy: no network is involved."""

from __future__ import annotations

import hashlib
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnbench_prune import gates


def found_by(lookup: gates.Lookup, patterns: Tensor, rows: Tensor) -> Tensor:
    """The first member with the pattern of each row, looked up in the table."""
    sizes = [len(keys) for keys in lookup.keys]
    hits, slots = gates.slots_of(lookup, gates.hashed(lookup, [part.double() for part in rows.split(sizes, 1)]))
    members = gates.first_fit(lookup.runs, slots, lambda at, members: (rows[hits][at] == patterns[members]).all(1))
    found = torch.full((len(rows),), -1)
    found[hits] = members
    return found


def brute_force(patterns: Tensor, rows: Tensor) -> Tensor:
    """The same by a dictionary of bytes."""
    first: dict[bytes, int] = {}
    for k, pattern in enumerate(patterns.numpy()):
        first.setdefault(pattern.tobytes(), k)
    return torch.tensor([first.get(row.tobytes(), -1) for row in rows.numpy()])


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(5)


# -- looking up --------------------------------------------------------------------------------------------------------


def test_ten_thousand_patterns_are_found_as_a_dictionary_finds_them(rng: torch.Generator) -> None:
    patterns = torch.randint(2, (10_000, 120), generator=rng, dtype=torch.uint8)
    patterns[5000:5100] = patterns[:100]
    strangers = torch.randint(2, (500, 120), generator=rng, dtype=torch.uint8)
    rows = torch.cat([patterns[torch.randperm(10_000, generator=rng)[:1500]], strangers])
    lookup = gates.lookup_of(patterns, (64, 56), gates.keys_for(120))
    found = found_by(lookup, patterns, rows)
    assert torch.equal(found, brute_force(patterns, rows))
    assert (found[:1500] >= 0).all()
    assert lookup.runs.longest == 2


def test_patterns_that_share_a_hash_are_told_apart(rng: torch.Generator) -> None:
    patterns = torch.randint(2, (300, 12), generator=rng, dtype=torch.uint8)
    rows = torch.randint(2, (400, 12), generator=rng, dtype=torch.uint8)
    lookup = gates.lookup_of(patterns, (5, 7), torch.ones(12, dtype=torch.float64))
    assert len(lookup.hashes) <= 14  # a hash is the number of ones
    assert torch.equal(found_by(lookup, patterns, rows), brute_force(patterns, rows))


def test_winners_of_windows_are_looked_up_like_sides(rng: torch.Generator) -> None:
    patterns = torch.randint(256, (200, 9), generator=rng, dtype=torch.uint8)
    rows = torch.cat([patterns[50:120], torch.randint(256, (50, 9), generator=rng, dtype=torch.uint8)])
    lookup = gates.lookup_of(patterns, (9,), gates.keys_for(9))
    assert torch.equal(found_by(lookup, patterns, rows), brute_force(patterns, rows))


@pytest.mark.parametrize("units", [1, 352, 100_000])
def test_the_largest_hash_is_exact_in_float64(units: int) -> None:
    keys = gates.keys_for(units)
    assert torch.equal(keys, keys.round())
    assert (keys >= 1).all()
    assert 255 * sum(int(key) for key in keys.tolist()) < 2**53


def test_keys_are_the_same_every_time_and_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert torch.equal(gates.keys_for(40), gates.keys_for(40))
    assert torch.equal(torch.get_rng_state(), before)


def test_so_many_units_that_no_key_is_left_are_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        gates.keys_for(2**53)


def test_without_members_nothing_is_found() -> None:
    patterns = torch.zeros(0, 4, dtype=torch.uint8)
    lookup = gates.lookup_of(patterns, (4,), gates.keys_for(4))
    assert found_by(lookup, patterns, torch.ones(3, 4, dtype=torch.uint8)).tolist() == [-1, -1, -1]


def test_the_first_member_that_fits_decides_and_keys_do_not_mix() -> None:
    runs = gates.runs_of(torch.tensor([1, 0, 1, 1]), 2)
    # Row 0 is in members 2 and 3 of key 1, row 1 in none of it, row 2 in member 1 of key 0, row 3 in the last of key 1.
    holds = torch.zeros(4, 4, dtype=torch.bool)
    for row, member in [(0, 2), (0, 3), (1, 1), (2, 1), (2, 0), (3, 3)]:
        holds[row, member] = True
    every = torch.arange(4)
    found = gates.first_fit(runs, torch.tensor([1, 1, 0, 1]), lambda rows, members: holds[every[rows], members])
    assert found.tolist() == [2, -1, 1, 3]


def test_the_boundary_of_a_box_is_inside_and_the_next_number_is_not() -> None:
    centres, radii = torch.full((4, 2), 0.5), torch.full((4,), 0.25)
    beyond = float(np.nextafter(np.float32(0.75), np.float32(1)))
    x = torch.tensor([[0.75, 0.25], [beyond, 0.5], [0.5, beyond], [float("nan"), 0.5]])
    assert gates.in_box(x, centres, radii).tolist() == [True, False, False, False]


def test_differences_that_float32_would_round_to_the_radius_are_outside() -> None:
    radius, x = torch.tensor([0.5]), torch.tensor([[float(np.float32(0.5) + np.float32(2**-24))]])
    centre = torch.tensor([[float(np.float32(2**-26))]])  # the difference is 0.5 + 3 * 2^-26
    assert x.item() - centre.item() > 0.5
    assert not gates.in_box(x, centre, radius).any()


def test_an_infinite_radius_takes_everything() -> None:
    x = torch.tensor([[1e30, -1e30]])
    assert gates.in_box(x, torch.zeros(1, 2), torch.tensor([torch.inf])).all()


# -- committed ---------------------------------------------------------------------------------------------------------


def test_a_commitment_is_the_hash_of_salt_and_pattern() -> None:
    pattern = torch.tensor([1, 0, 1, 7], dtype=torch.uint8)
    expected = hashlib.sha256(bytes.fromhex("00ffa1") + bytes([1, 0, 1, 7])).digest()
    assert bytes(gates.commitment("00ffa1", pattern).tolist()) == expected


def test_commitments_are_found_in_the_order_of_members(rng: torch.Generator) -> None:
    patterns = torch.randint(2, (60, 6), generator=rng, dtype=torch.uint8)
    rows = torch.randint(2, (80, 6), generator=rng, dtype=torch.uint8)
    table = gates.commitments_of("ab", torch.stack([gates.commitment("ab", pattern) for pattern in patterns]))
    slots = gates.committed_slots(table, rows)
    hits = slots < len(table.numbers)
    found = gates.first_fit(table.runs, slots[hits], lambda _, members: torch.ones_like(members, dtype=torch.bool))
    expected = brute_force(patterns, rows)
    assert torch.equal(hits, expected >= 0)
    assert torch.equal(found, expected[hits])
    assert 0 < int(hits.sum()) < 80


# -- support -----------------------------------------------------------------------------------------------------------


def support_of_the_card(slacks: np.ndarray, sharpness: float) -> np.ndarray:
    relu = lambda z: np.maximum(z, 0)  # noqa: E731
    return relu((relu(sharpness * slacks + 1) - relu(sharpness * slacks)).sum(-1) - slacks.shape[-1] + 1)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0, 1000.0])
def test_support_nets_are_those_of_the_paper(sharpness: float, rng: torch.Generator) -> None:
    slacks = torch.randn(50, 20, generator=rng, dtype=torch.float64) + 2
    ours = gates.support(slacks, sharpness)
    np.testing.assert_allclose(ours.numpy(), support_of_the_card(slacks.numpy(), sharpness), atol=1e-10)
    assert ours.unique().numel() > 1


@pytest.mark.parametrize("sharpness", [0.1, 3.0, 1e6])
def test_a_support_net_is_one_on_its_region_and_nothing_from_a_violation_of_one_on(sharpness: float) -> None:
    rng = np.random.default_rng(1)
    inside = rng.uniform(0, 50, (200, 15)).astype(np.float32)
    inside[:, 0] = 0  # a facet
    assert (gates.support(torch.from_numpy(inside), sharpness) == 1).all()
    slacks = rng.normal(1, 1, (2000, 15)) / sharpness
    violation = np.minimum(1, sharpness * np.maximum(0, -slacks)).sum(1)
    out = gates.support(torch.from_numpy(slacks), sharpness).numpy()
    assert (out[violation >= 1] == 0).all()
    np.testing.assert_allclose(out[violation < 1], 1 - violation[violation < 1], atol=1e-12)
    assert 100 < (violation < 1).sum() < 1900


def test_a_group_is_as_open_as_its_widest_member_and_shut_without_any() -> None:
    nets = torch.tensor([[0.2, 0.0, 0.7], [1.0, 0.5, 0.0]])
    assert torch.equal(gates.widest(nets, torch.tensor([3, 0, 3]), 4), torch.tensor([[0, 0, 0, 0.7], [0.5, 0, 0, 1.0]]))


def test_h_is_the_largest_entry_over_the_corners_of_the_box() -> None:
    rng = np.random.default_rng(2)
    shifts, slopes = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 5))
    corners = np.array(list(product([-1.0, 2.0], repeat=5)))
    expected = np.abs(shifts[:, :, None] + slopes @ corners.T).max((1, 2))
    ours = gates.largest_entries(torch.from_numpy(shifts), torch.from_numpy(slopes), -1, 2)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12)
    constant = gates.largest_entries(torch.from_numpy(shifts), torch.zeros(0, 4, 5), -1, 2)
    np.testing.assert_array_equal(constant.numpy(), np.abs(shifts).max(1))


def test_a_faded_map_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(3)
    maps, nets = rng.normal(size=(6, 3, 4)), rng.uniform(0, 1, (6, 3))
    nets[0], nets[1] = 0, 1
    h = np.abs(maps).max((0, 2))
    closing = (h * nets - h)[..., None]
    expected = np.maximum(maps + closing, 0) - np.maximum(-maps + closing, 0)
    ours = gates.faded(torch.from_numpy(maps), torch.from_numpy(nets), torch.from_numpy(h)).numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-14)
    np.testing.assert_array_equal(ours[0], 0)
    np.testing.assert_array_equal(ours[1], maps[1])


@pytest.mark.parametrize(("count", "each"), [(0, 5), (1, 5), (7, gates.CHUNK_ENTRIES // 3), (5, 2**60)])
def test_chunks_cover_everything_once_and_stay_small(count: int, each: int) -> None:
    found = list(gates.chunks(count, each))
    assert [k for part in found for k in range(count)[part]] == list(range(count))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * each <= gates.CHUNK_ENTRIES for part in found)
