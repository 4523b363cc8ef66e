"""From rows that are to be forgotten to patches: region by region, or cluster by cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearnbench.api.runtime import UnlearnJob
from unlearnbench_prune.bounds import NoSolution, leads
from unlearnbench_prune.clusters import Cluster
from unlearnbench_prune.parts import Bound, Group, Patch, Place, Spot
from unlearnbench_prune.patches import affine_patch, constant_patch, ranked
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_prune.rounds import NO_TARGET, Rounds, certified_clusters, cluster_rounds
from unlearnbench_prune.standing import Asked, Duals, Standing
from unlearnbench_prune.survey import Survey, key_of

PAIRED = "it is left out of every cluster: it was not predicted as labelled, or the rounds ended"


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that are to be served, beside what the network makes of them."""

    asked: tuple[Asked, ...]
    patterns: Tensor
    """[n, units]"""
    outputs: Tensor
    """[n, classes]: of the network with the patches of earlier requests."""
    radii: tuple[float | None, ...]
    """How far the claim about each row goes."""

    @property
    def labels(self) -> Tensor:
        return torch.tensor([one.label for one in self.asked])

    @property
    def inputs(self) -> Tensor:
        return torch.stack([one.x for one in self.asked])

    @property
    def samples(self) -> Tensor:
        return torch.stack([one.sample for one in self.asked])

    def keys(self) -> list[bytes]:
        """What rows of one region have in common."""
        return [key_of(pattern) for pattern in self.patterns]


@dataclass(frozen=True, eq=False)
class Server:
    """What makes patches for rows: the survey of the network, the parameters, and the job's random streams."""

    job: UnlearnJob
    p: PruneParams
    survey: Survey
    standing: Standing

    def serve(self, rows: Rows) -> Standing:
        """Patches for all rows, as ``multi`` says."""
        if self.p.multi == "each":
            return self._each(rows)
        return self._paper(rows) if self.p.multi == "paper" else self._certified(rows)

    # -- a patch for each region ---------------------------------------------------------------------------------------

    def _each(self, rows: Rows) -> Standing:
        """Step by step through the regions: the rows of one share a target and a patch."""
        groups, asked = list(self.standing.groups), list(self.standing.asked)
        together: dict[bytes, list[int]] = {}
        for row, key in enumerate(rows.keys()):
            together.setdefault(key, []).append(row)
        for mine in together.values():
            try:
                target = self._target(rows, mine)
                group, proved = self.proved(rows, mine, target)
            except NoSolution as problem:
                asked += [replace(rows.asked[row], reason=problem.reason) for row in mine]
                continue
            asked += placed(rows, mine, group, len(groups), self.p.gate != "support", proved)
            groups.append(group)
        return replace(self.standing, groups=tuple(groups), asked=tuple(asked))

    def _target(self, rows: Rows, mine: Sequence[int]) -> int:
        """Neither a label nor a prediction of these rows."""
        taken = {int(rows.labels[row]) for row in mine} | {int(rows.outputs[row].argmax()) for row in mine}
        for label in self.ranked(rows)(mine[0]):
            if label not in taken:
                return label
        raise NoSolution(NO_TARGET)

    def proved(self, rows: Rows, mine: Sequence[int], target: int) -> tuple[Group, dict[int, Duals]]:
        """One patch for the places of all these rows, and the multipliers that prove it for each.

        Raises:
            NoSolution: of a place nothing can be proved.
        """
        places = {row: self.place(rows, row) for row in mine}
        if self.p.patch == "affine-lp" and len(mine) == 1:
            patch = affine_patch(places[mine[0]], target, self.p.margin)
            return Group(target, self.spots(rows, mine), patch), {}
        bounds = {row: self.leads(places[row], target) for row in mine}
        patch = constant_patch(list(bounds.values()), target, self.p.margin)
        if self.p.patch == "affine-lp":  # beside affine maps it has a slope as well
            patch = replace(patch, slope=torch.zeros_like(places[mine[0]].region.c, dtype=torch.float32))
        return Group(target, self.spots(rows, mine), patch), {row: sparse(bounds[row], target) for row in mine}

    # -- clusters ------------------------------------------------------------------------------------------------------

    def _paper(self, rows: Rows) -> Standing:
        """The paper's rounds: the map of a representative, under the support nets of all members."""

        def make(cluster: Cluster, target: int, so_far: Sequence[Group]) -> Group:
            row = cluster.representative
            place = self.place(rows, row)
            patch = constant_patch([self.leads(place, target, self._offset(rows, row, so_far))], target, self.p.margin)
            return Group(target, self.spots(rows, cluster.members), patch)

        found = cluster_rounds(
            self._points(rows),
            rows.labels,
            clusters=self.p.clusters,
            rounds=self.p.rounds,
            unlearn_rate=self.p.unlearn_rate,
            predict=lambda groups: self._outputs(rows, groups).argmax(1),
            ranked=self.ranked(rows),
            make_group=make,
        )
        groups, members = (found.groups, found.members) if self.p.gate == "support" else latest(found, rows)
        return self._joined(rows, groups, members, PAIRED, {})

    def _certified(self, rows: Rows) -> Standing:
        """Clusters whose patch is proved for every member."""
        proved: dict[int, Duals] = {}

        def make(cluster: Cluster, target: int, so_far: Sequence[Group]) -> Group:
            group, duals = self.proved(rows, cluster.members, target)
            proved.update(duals)
            return group

        found = certified_clusters(
            self._points(rows),
            rows.labels,
            rows.outputs.argmax(1),
            rows.keys(),
            clusters=self.p.clusters,
            ranked=self.ranked(rows),
            make_group=make,
        )
        return self._joined(rows, found.groups, found.members, "", proved, found.impossible)

    def _joined(
        self,
        rows: Rows,
        groups: Sequence[Group],
        members: Sequence[Sequence[int]],
        reason: str,
        proved: Mapping[int, Duals],
        without: Mapping[int, str] | None = None,
    ) -> Standing:
        """The standing with these groups, and every row either in the last group that has it or without one."""
        exact = self.p.gate != "support"
        found = {row: replace(one, reason=(without or {}).get(row, reason)) for row, one in enumerate(rows.asked)}
        for g, (group, mine) in enumerate(zip(groups, members, strict=True)):
            new = placed(rows, mine, group, len(self.standing.groups) + g, exact, proved)
            found |= dict(zip(mine, new, strict=True))
        return replace(
            self.standing,
            groups=(*self.standing.groups, *groups),
            asked=(*self.standing.asked, *(found[row] for row in range(len(rows.asked)))),
        )

    # -- what they share -----------------------------------------------------------------------------------------------

    def place(self, rows: Rows, row: int) -> Place:
        """Where the claim about a row is made."""
        radius = rows.radii[row]
        centre = None if radius is None else rows.asked[row].sample
        return self.survey.place(Spot(rows.patterns[row], centre, radius))

    def spots(self, rows: Rows, mine: Sequence[int]) -> tuple[Spot, ...]:
        """What the gate of these rows' patch keeps: each region, or each row's neighbourhood, once."""
        found: dict[tuple[bytes, bytes], Spot] = {}
        for row in mine:
            spot = spot_of(rows, row, exact=self.p.gate != "support")
            found.setdefault(identity(spot), spot)
        return tuple(found.values())

    def leads(self, place: Place, target: int, offset: Tensor | None = None) -> list[Bound]:
        """How far each class can lead over the target in a place, everything that acts there already included."""
        everywhere = self.standing.everywhere
        shift = sum((one for one in (everywhere, offset) if one is not None), torch.zeros(len(place.region.e)))
        assert isinstance(shift, Tensor)
        return leads(place, target, self.p.bound, margin=self.p.margin, added=Patch(shift.float()))

    def ranked(self, rows: Rows) -> Callable[[int], list[int]]:
        """All classes in the order in which ``target`` wants them for a row."""
        return lambda row: ranked(self.p.target, rows.outputs[row], self.job.rng("target"))

    def _points(self, rows: Rows) -> Tensor:
        points = rows.inputs if self.p.cluster_by == "inputs" else rows.samples
        return points.flatten(1).double()

    def _outputs(self, rows: Rows, groups: Sequence[Group]) -> Tensor:
        """What the network with further groups gives for the rows, on the CPU; the newest go first."""
        ahead = replace(self.standing, groups=(*reversed(groups), *self.standing.groups))
        known = ahead if ahead.asked else replace(ahead, asked=rows.asked)
        with torch.no_grad():
            found: Tensor = known.network(self.job, self.p)(rows.inputs.to(self.job.device)).cpu()
        return found

    def _offset(self, rows: Rows, row: int, groups: Sequence[Group]) -> Tensor:
        """What earlier patches add at a row; an exact gate of a newer patch keeps them out."""
        if self.p.gate != "support" or not (groups or self.standing.groups):
            return torch.zeros(rows.outputs.shape[1])
        with torch.no_grad():
            bare = self.survey.trace(rows.inputs[row : row + 1].to(self.job.device))[0].cpu()
        everywhere = self.standing.everywhere
        added = self._outputs(replace_rows(rows, row), groups)[0] - bare[0]
        return added if everywhere is None else added - everywhere


def replace_rows(rows: Rows, row: int) -> Rows:
    """One of the rows."""
    part = slice(row, row + 1)
    return Rows(rows.asked[part], rows.patterns[part], rows.outputs[part], rows.radii[part])


def spot_of(rows: Rows, row: int, *, exact: bool) -> Spot:
    """The gate of a row: its region, cut to its radius where the gate is exact."""
    radius = rows.radii[row] if exact else None
    return Spot(rows.patterns[row], None if radius is None else rows.asked[row].sample, radius)


def identity(spot: Spot) -> tuple[bytes, bytes]:
    """Spots that are the same have the same."""
    return key_of(spot.pattern), b"" if spot.centre is None else key_of(spot.centre)


def placed(
    rows: Rows, mine: Sequence[int], group: Group, number: int, exact: bool, proved: Mapping[int, Duals]
) -> list[Asked]:
    """These rows with their place in a group; claims under a support gate keep their radius themselves."""
    at = {identity(spot): k for k, spot in enumerate(group.spots)}
    return [
        replace(
            rows.asked[row],
            group=number,
            spot=at[identity(spot_of(rows, row, exact=exact))],
            reason="",
            radius=None if exact else rows.radii[row],
            duals=proved.get(row),
        )
        for row in mine
    ]


def latest(found: Rounds, rows: Rows) -> tuple[list[Group], list[list[int]]]:
    """The same groups with each region in the last of them alone, because one patch decides where a gate is exact."""
    keys = rows.keys()
    last = {keys[row]: g for g, mine in enumerate(found.members) for row in mine}
    served = sorted({row for mine in found.members for row in mine})
    kept = [(g, [row for row in served if last[keys[row]] == g]) for g in sorted(set(last.values()))]
    spots = [{identity(s): s for s in (spot_of(rows, row, exact=True) for row in mine)}.values() for _, mine in kept]
    groups = [replace(found.groups[g], spots=tuple(mine)) for (g, _), mine in zip(kept, spots, strict=True)]
    return groups, [mine for _, mine in kept]


def sparse(bounds: Sequence[Bound], target: int) -> Duals:
    """The multipliers that are not 0, for each class but the target."""
    found: dict[str, list[list[float]]] = {}
    for label, bound in enumerate(bounds):
        if label != target:
            at = bound.duals.nonzero()[:, 0].tolist()
            found[str(label)] = [[row, float(bound.duals[row])] for row in at]
    return found
