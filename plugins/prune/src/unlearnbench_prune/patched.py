"""A network whose outputs are shifted in some of its linear regions: an ordinary module, patches in its state dict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import BuildJob, Component, Ref
from unlearnbench_prune import gates
from unlearnbench_prune.frozen import check_patterns, frozen_many, patterns_of, weights_of
from unlearnbench_prune.network import Network, Traced, read_network, traced
from unlearnbench_prune.parts import WHOLE
from unlearnbench_prune.plugin import Gate, PatchedParams
from unlearnbench_prune.steps import MaxPool

_WATCHED: dict[Gate, tuple[str, ...]] = {
    "exact": ("everywhere", "radii", "patterns"),
    "committed": ("everywhere", "radii", "commitments"),
    "support": ("everywhere", "radii", "patterns", "shifts", "slopes"),
}
"""What the tables of a gate are made from."""


@dataclass(frozen=True, eq=False)
class _Tables:
    """What is worked out from buffers once, and the buffers and their versions that it was worked out from."""

    made_from: tuple[tuple[Tensor, int], ...]
    shifted: bool
    """Whether outputs are shifted everywhere"""
    boxed: bool
    """Whether a box cuts any member"""
    lookup: gates.Lookup | None = None
    commitments: gates.Commitments | None = None
    largest: Tensor | None = None


def _version(buffer: Tensor) -> int:
    return -1 if buffer.is_inference() else buffer._version


class PatchedNet(nn.Module):
    """``base`` with patches: K members (regions, perhaps cut by boxes), each of one of G groups (patches).

    M(x) = base(x) + ``everywhere`` + the patches whose gates are open at x. The buffers are the file format of a
    patched model. Tables for fast lookup are made from them when they are first needed and again after any change, be
    it by ``load_state_dict``, by ``to`` or in place; they are in neither the state dict nor a copy.

    The base answers as in evaluation mode even while ``training`` is set: a patch belongs to a region of the network
    that is evaluated, and dropout or batch statistics would move rows over its borders.
    """

    patterns: Tensor
    """[K, units] uint8; [0, units] where they are committed to"""
    commitments: Tensor
    """[K, 32] uint8: sha256 of salt and pattern; else [0, 32]"""
    groups: Tensor
    """[K] int64"""
    centres: Tensor
    """[K, features]"""
    radii: Tensor
    """[K]; WHOLE takes the whole region. Support nets are not cut by it."""
    shifts: Tensor
    """[G, outputs]"""
    slopes: Tensor
    """[G, outputs, features]; [0, outputs, features] where maps are constant"""
    everywhere: Tensor
    """[outputs]"""

    def __init__(self, base: nn.Module, inputs: tuple[int, ...], outputs: int, p: PatchedParams) -> None:
        super().__init__()
        self.base = base.eval()
        self.p = p
        self.network: Network = read_network(base, inputs, p.split_at)
        # A network without a bend has one region, whose pattern has no entries: one step of none.
        self._sizes = [prod(self.network.shapes[step + 1]) for step in self.network.bends] or [0]
        self._has_windows = any(isinstance(self.network.steps[step], MaxPool) for step in self.network.bends)
        features, committed, k, g = self.network.features, p.gate == "committed", p.members, p.groups
        byte, number = torch.uint8, torch.int64
        self.register_buffer("patterns", torch.zeros(0 if committed else k, self.network.units, dtype=byte))
        self.register_buffer("commitments", torch.zeros(k if committed else 0, 32, dtype=byte))
        self.register_buffer("groups", torch.zeros(k, dtype=number))
        self.register_buffer("centres", torch.zeros(k, features))
        self.register_buffer("radii", torch.full((k,), WHOLE))
        self.register_buffer("shifts", torch.zeros(g, outputs))
        self.register_buffer("slopes", torch.zeros(g if p.affine else 0, outputs, features))
        self.register_buffer("everywhere", torch.zeros(outputs))
        self._traced: Traced | None = None
        self._made: _Tables | None = None

    def __getstate__(self) -> dict[str, object]:
        # A copy has modules of its own to trace and buffers of its own to make tables from.
        return {**self.__dict__, "_traced": None, "_made": None}

    def train(self, mode: bool = True) -> PatchedNet:
        """Set the mode; the base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [n, outputs] at inputs of the base [n, ...].

        Rows that an exact or a committed gate does not match come out of the base untouched, bit for bit, unless
        outputs are shifted everywhere.
        """
        out, features, bends = self._run(x)
        tables = self._tables()
        if tables.shifted:
            out = out + self.everywhere
        if not self.p.members:
            return out
        if self.p.gate == "support":
            return out + self._fading(features, self._opening(features, tables), tables)
        rows, members = self._matches(features, bends, tables)
        if not gates.tracing() and not rows.shape[0]:
            return out
        chosen = self.groups[members]
        patches = self.shifts[chosen]
        if self.p.affine:
            patches = patches + torch.bmm(self.slopes[chosen], features[rows][..., None])[..., 0]
        return out.index_add(0, rows, patches.to(out.dtype))

    def members_at(self, x: Tensor) -> Tensor:
        """The member [n] int64 that decides at each input, -1 where there is none. Exact and committed gates only."""
        _, features, bends = self._run(x)
        found = torch.full((x.shape[0],), -1, device=features.device)
        if self.p.members:
            rows, members = self._matches(features, bends, self._tables())
            found[rows] = members
        return found

    def opening(self, x: Tensor) -> Tensor:
        """How far [n, groups] the support nets are open at each input, from 0 to 1. Support gates only."""
        _, features, _ = self._run(x)
        return self._opening(features, self._tables())

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Outputs of the base, the flat features [n, features] and the values at the bending steps."""
        if self._traced is None:
            self._traced = traced(self.base, self.p.split_at)
        out, features, bends = self._traced(x)
        return out, features.flatten(1), bends

    # -- exact and committed -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _matches(self, features: Tensor, bends: list[Tensor], tables: _Tables) -> tuple[Tensor, Tensor]:
        """Rows in a member, and the first member that each is in."""
        if tables.lookup is not None:
            runs = tables.lookup.runs
            rows, slots = gates.slots_of(tables.lookup, self._hashes(features, bends, tables.lookup))
        else:
            assert tables.commitments is not None
            runs = tables.commitments.runs
            slots = gates.committed_slots(tables.commitments, patterns_of(self.network, bends, features))
            rows = (slots < len(tables.commitments.numbers)).nonzero()[:, 0]
            slots = slots[rows]
        if not gates.tracing() and not rows.shape[0]:
            return rows, rows
        near = features[rows]
        patterns = patterns_of(self.network, [value[rows] for value in bends], near) if tables.lookup else None

        def fits(some: Tensor | slice, members: Tensor) -> Tensor:
            if patterns is not None:
                same = (patterns[some] == self.patterns[members]).all(1)
            else:
                same = torch.ones_like(members, dtype=torch.bool)  # as sure as hashes are
            if not tables.boxed:
                return same
            return same & gates.in_box(near[some], self.centres[members], self.radii[members])

        members = gates.first_fit(runs, slots, fits)
        found = (members >= 0).nonzero()[:, 0]
        return rows[found], members[found]

    def _hashes(self, features: Tensor, bends: list[Tensor], lookup: gates.Lookup) -> Tensor:
        """Hashes [n] of the patterns, worked out in blocks of rows."""
        size = max(1, gates.BLOCK_ENTRIES // max(1, *self._sizes))
        if gates.tracing() or features.shape[0] <= size:
            return gates.hashed(lookup, self._sides(features, bends))
        blocks = zip(features.split(size), *(value.split(size) for value in bends), strict=True)
        return torch.cat([gates.hashed(lookup, self._sides(rows, values)) for rows, *values in blocks])

    def _sides(self, features: Tensor, bends: list[Tensor]) -> Iterator[Tensor]:
        """The entries of patterns, a float64 [n, units] for each bending step."""
        if self._has_windows or not bends:
            for part in patterns_of(self.network, bends, features).split(self._sizes, 1):
                yield part.double()
            return
        for value in bends:
            yield _active(value if value.ndim == 2 else value.flatten(1))

    # -- support -------------------------------------------------------------------------------------------------------

    def _opening(self, features: Tensor, tables: _Tables) -> Tensor:
        """n_g [n, groups]: of each group the net that is open the widest."""
        weights = weights_of(self.base, self.network, features.dtype)
        nets = [
            gates.support(frozen_many(self.network, weights, self.patterns[part], features), self.p.sharpness).T
            for part in gates.chunks(self.p.members, features.shape[0] * self.network.rows)
        ]
        return gates.widest(torch.cat(nets, 1), self.groups, self.p.groups)

    def _fading(self, features: Tensor, nets: Tensor, tables: _Tables) -> Tensor:
        """The sum [n, outputs] of the patches as far as their nets are open."""
        assert tables.largest is not None
        found = features.new_zeros(features.shape[0], self.everywhere.shape[0])
        for part in gates.chunks(self.p.groups, features.shape[0] * self.everywhere.shape[0]):
            maps = self.shifts[None, part]
            if self.p.affine:
                maps = maps + torch.einsum("god,nd->ngo", self.slopes[part], features)
            found = found + gates.faded(maps, nets[:, part], tables.largest[part]).sum(1)
        return found

    # -- tables --------------------------------------------------------------------------------------------------------

    def _tables(self) -> _Tables:
        made = self._made
        watched = [self._buffers[name] for name in _WATCHED[self.p.gate]]
        if made is not None:
            for (buffer, version), now in zip(made.made_from, watched, strict=True):
                if buffer is not now or _version(buffer) != version:
                    break
            else:
                return made
        self._made = self._make(tuple((buffer, _version(buffer)) for buffer in watched if buffer is not None))
        return self._made

    @torch.no_grad()
    def _make(self, made_from: tuple[tuple[Tensor, int], ...]) -> _Tables:
        shifted, boxed = bool(self.everywhere.any()), bool((self.radii < WHOLE).any())
        if not self.p.members:
            return _Tables(made_from, shifted, boxed)
        if self.p.gate == "exact":
            keys = gates.keys_for(self.network.units)
            return _Tables(made_from, shifted, boxed, lookup=gates.lookup_of(self.patterns, self._sizes, keys))
        if self.p.gate == "committed":
            return _Tables(made_from, shifted, boxed, commitments=gates.commitments_of(self.p.salt, self.commitments))
        check_patterns(self.network, self.patterns)
        largest = gates.largest_entries(self.shifts, self.slopes, self.p.low, self.p.high)
        return _Tables(made_from, shifted, boxed, largest=largest)


def _active(value: Tensor) -> Tensor:
    """1 where a pre-activation is at least 0, else 0, in float64."""
    if gates.tracing():
        return value.ge(0).double()
    # Compared into the result: comparing and converting takes three times as long.
    return torch.ge(value, 0, out=torch.empty(value.shape, dtype=torch.float64, device=value.device))


class Patched(Component[PatchedParams]):
    """The base is built from the ref among the parameters."""

    def build(self, job: BuildJob) -> nn.Module:
        return PatchedNet(job.build(Ref.from_json(self.p.base)), job.inputs, job.outputs, self.p)
