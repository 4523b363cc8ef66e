"""Gates: which member of the patched regions an input is in, and how far a support net is open.

Exact and committed gates look members up. A pattern is hashed to one number, the sum of its entries times fixed integer
keys, in float64 and below 2^53: the sum is exact whatever the order of summation, so a pattern has the same hash on
every device and in every batch. Sorted distinct hashes are searched by bisection; what has a stored hash is then
compared with the stored patterns entry by entry, so that a hash in common costs time and never a wrong answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from unlearnbench_prune.parts import WHOLE

LARGEST_SUM = 2**53 - 1
"""Whole numbers up to here are float64."""
LARGEST_ENTRY = 255
"""Of a pattern, which is uint8."""
CHUNK_ENTRIES = 2**22
"""Numbers that a loop over members has in memory at once."""

BLOCK_ENTRIES = 2**16
"""Entries of a bending step that are hashed at once: few enough to stay in a processor's cache."""

Fits = Callable[[Tensor | slice, Tensor], Tensor]
"""From rows [n], or all of them as a slice, and members [n] to whether the row is in the member [n] bool."""


def tracing() -> bool:
    """Whether TorchScript is being made of what is done: no number from a tensor may decide on what is done next."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]  # documented, not typed


@dataclass(frozen=True, eq=False)
class Runs:
    """Members by key: the members of a key stand next to each other, in their own order.

    The last run is empty; it belongs to rows without a key.
    """

    first: Tensor
    """[keys + 1] int64: where a key's members begin in ``members``"""
    count: Tensor
    """[keys + 1] int64: how many there are"""
    members: Tensor
    """[members] int64"""
    longest: int


@dataclass(frozen=True, eq=False)
class Lookup:
    """Patterns by hash. ``hashes`` [keys + 1] float64 is sorted and ends with inf, which nothing hashes to."""

    keys: tuple[Tensor, ...]
    """One [units] float64 for each bending step"""
    hashes: Tensor
    runs: Runs


def keys_for(units: int) -> Tensor:
    """Fixed keys [units] float64 of a pattern's entries: random whole numbers, as large as sums below 2^53 allow.

    Raises:
        ValueError: so many units that nothing is left for a key.
    """
    largest = LARGEST_SUM // (LARGEST_ENTRY * max(units, 1))
    if largest < 1:
        raise ValueError(f"{units} units are too many for a hash")
    rng = torch.Generator().manual_seed(0)
    return torch.randint(1, largest + 1, (units,), generator=rng).double()


def lookup_of(patterns: Tensor, sizes: Sequence[int], keys: Tensor) -> Lookup:
    """The table of stored patterns [members, units]; ``sizes`` are the units of each bending step."""
    keys = keys.to(patterns.device)
    height = max(1, CHUNK_ENTRIES // max(1, len(keys)))
    hashes = torch.cat([chunk.double() @ keys for chunk in patterns.split(height)] or [keys.new_zeros(0)])
    distinct, slots = hashes.unique(return_inverse=True)
    table = torch.cat([distinct, distinct.new_full((1,), torch.inf)])
    return Lookup(keys.split(list(sizes)), table, runs_of(slots, len(distinct)))


def runs_of(slots: Tensor, keys: int) -> Runs:
    """Runs of members that have these keys [members] int64, numbered from 0."""
    members = slots.argsort(stable=True)
    count = torch.bincount(slots, minlength=keys + 1)
    return Runs(count.cumsum(0) - count, count, members, int(count.max()))


def hashed(lookup: Lookup, sides: Iterable[Tensor]) -> Tensor:
    """Hashes [n] of patterns, whose entries come as float64 [n, units] for each bending step."""
    found: Tensor | None = None
    for side, keys in zip(sides, lookup.keys, strict=True):
        found = torch.mv(side, keys) if found is None else torch.addmv(found, side, keys)
    assert found is not None
    return found


def slots_of(lookup: Lookup, hashes: Tensor) -> tuple[Tensor, Tensor]:
    """Rows whose hash is stored, and the key of each."""
    slots = torch.searchsorted(lookup.hashes, hashes)
    rows = (lookup.hashes.index_select(0, slots) == hashes).nonzero()[:, 0]
    return rows, slots.index_select(0, rows)


def first_fit(runs: Runs, slots: Tensor, fits: Fits) -> Tensor:
    """For rows with these keys [n], each with members: the first member that the row is in, or -1 [n] int64.

    One step looks at one member of each row that is still open, so memory does not grow with the members of a key.
    """
    first = runs.first[slots]
    members = runs.members[first]
    decided = torch.where(fits(slice(None), members), members, -1)
    count = runs.count[slots] if runs.longest > 1 else slots
    for depth in range(1, runs.longest):
        rows = ((decided < 0) & (count > depth)).nonzero()[:, 0]
        if not tracing() and not rows.shape[0]:
            break
        members = runs.members[first[rows] + depth]
        decided = decided.index_put((rows,), torch.where(fits(rows, members), members, -1))
    return decided


def in_box(features: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Whether rows [n, d] are within the radius [n] of the centre [n, d] in every feature.

    Differences are taken in float64, where those of float32 numbers of like size are exact: an input on the boundary
    is inside, as in the certificate. A radius of WHOLE holds every input.
    """
    return ((features.double() - centres.double()).abs().amax(1) <= radii.double()) | (radii >= WHOLE)


# -- committed ---------------------------------------------------------------------------------------------------------


def commitment(salt: str, pattern: Tensor) -> Tensor:
    """uint8 [32]: the sha256 of a salt (hex) and a pattern [units]."""
    return torch.frombuffer(bytearray(_digests(salt, pattern[None])[0]), dtype=torch.uint8)


def _digests(salt: str, patterns: Tensor) -> list[bytes]:
    salted = hashlib.sha256(bytes.fromhex(salt))
    digests = []
    for row in patterns.to("cpu", torch.uint8).contiguous().numpy():
        found = salted.copy()
        found.update(row.data)
        digests.append(found.digest())
    return digests


@dataclass(frozen=True, eq=False)
class Commitments:
    """Members by commitment."""

    salt: str
    numbers: dict[bytes, int]
    runs: Runs


def commitments_of(salt: str, commitments: Tensor) -> Commitments:
    """The table of stored commitments [members, 32]."""
    numbers: dict[bytes, int] = {}
    stored = [row.tobytes() for row in commitments.cpu().numpy()]
    slots = [numbers.setdefault(found, len(numbers)) for found in stored]
    runs = runs_of(torch.tensor(slots, dtype=torch.int64, device=commitments.device), len(numbers))
    return Commitments(salt, numbers, runs)


def committed_slots(table: Commitments, patterns: Tensor) -> Tensor:
    """The key of each pattern [n, units], the last one where it is none that is committed to [n] int64."""
    slots = [table.numbers.get(found, len(table.numbers)) for found in _digests(table.salt, patterns)]
    return torch.tensor(slots, dtype=torch.int64, device=patterns.device)


# -- support -----------------------------------------------------------------------------------------------------------


def support(slacks: Tensor, sharpness: float) -> Tensor:
    """How far support nets are open, from slacks [..., rows]: 1 where none is negative, 0 from a violation of 1 on.

    relu(sum_r [relu(s y_r + 1) - relu(s y_r)] - rows + 1) = relu(1 - sum_r min(1, s relu(-y_r))). The right side is
    taken: it is exactly 1 inside of the region, where the left one rounds s y_r + 1.
    """
    return (1 - (sharpness * (-slacks).relu()).clamp(max=1).sum(-1)).relu()


def widest(nets: Tensor, groups: Tensor, count: int) -> Tensor:
    """The largest n_k of each group [n, count] from those of members [n, members]; 0 for a group without members."""
    out = nets.new_zeros(nets.shape[0], count)
    return out.scatter_reduce(1, groups.expand(nets.shape[0], -1), nets, "amax")


def largest_entries(shifts: Tensor, slopes: Tensor, low: float, high: float) -> Tensor:
    """H [groups]: the largest entry of a map's |slope @ x + shift| over the box, by interval arithmetic."""
    if not slopes.shape[0]:
        return shifts.abs().amax(1)
    middle, half = (high + low) / 2, (high - low) / 2
    wide = slopes.double()
    at_middle = shifts.double() + middle * wide.sum(2)
    return (at_middle.abs() + half * wide.abs().sum(2)).amax(1).to(shifts.dtype)


def faded(maps: Tensor, nets: Tensor, largest: Tensor) -> Tensor:
    """c_g [n, groups, outputs] of maps [n or 1, groups, outputs] under nets [n, groups] with H [groups]."""
    closing = (largest * nets - largest)[..., None]
    return (maps + closing).relu() - (closing - maps).relu()


def chunks(count: int, entries_each: int) -> Iterable[slice]:
    """Slices over ``count`` things so that one has at most CHUNK_ENTRIES numbers, and at least one thing."""
    size = max(1, CHUNK_ENTRIES // max(1, int(entries_each)))
    return [slice(start, end) for start, end in pairwise([*range(0, count, size), count])]
