"""What proves the claim about a row: multipliers of its region, and which other gates are off there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearnbench_prune.bounds import NoSolution, ahead, leads, weak_duality
from unlearnbench_prune.certificate import Proof
from unlearnbench_prune.frozen import frozen_many
from unlearnbench_prune.parts import Bound, Group, Patch, Place, Spot
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_prune.separation import interference, off, reach
from unlearnbench_prune.serving import sparse
from unlearnbench_prune.standing import Asked, Duals, Standing
from unlearnbench_prune.survey import Survey


def prove(p: PruneParams, survey: Survey, standing: Standing, asked: Asked) -> Proof:
    """The proof of the claim about a row, as far as there is one: whoever checks it has the last word.

    Raises:
        NoSolution: no patch serves the row, nothing is in its place, or a solver stopped.
    """
    if asked.group < 0:
        raise NoSolution(asked.reason)
    group, place, duals = standing.groups[asked.group], claimed(p, survey, standing, asked), asked.duals
    if duals is None:
        duals = sparse(leads_after(p, standing, place, group), group.target)
    if p.gate != "support":
        return Proof(place, duals)
    room = _room(p, place, group.target, _added(standing, group), duals)
    return Proof(place, duals, _others(standing, survey, asked, place, room))


def claimed(p: PruneParams, survey: Survey, standing: Standing, asked: Asked) -> Place:
    """Where the claim about a row is made: at its spot; what limits it under a support gate is its own radius."""
    spot = standing.groups[asked.group].spots[asked.spot]
    if p.gate == "support" and asked.radius is not None:
        spot = Spot(spot.pattern, asked.sample, asked.radius)
    return survey.place(spot)


def leads_after(p: PruneParams, standing: Standing, place: Place, group: Group) -> list[Bound]:
    """How far each class may lead over the target in a place with the patch of a group on top. Raises NoSolution."""
    return leads(place, group.target, p.bound, margin=p.margin, added=_added(standing, group))


def _added(standing: Standing, group: Group) -> Patch:
    """What is added to the outputs where the patch of a group is fully on."""
    shift = group.patch.shift if standing.everywhere is None else group.patch.shift + standing.everywhere
    return Patch(shift, group.patch.slope)


def _room(p: PruneParams, place: Place, target: int, added: Patch, duals: Duals) -> Tensor:
    """By how much [outputs] other patches may raise each output over the target before the claim is lost."""
    slopes, shifts = ahead(place.region, target, added)
    room = torch.full_like(shifts, torch.inf)
    for label, pairs in duals.items():
        dense = torch.zeros_like(place.region.h)
        for row, value in pairs:
            dense[int(row)] = value
        room[int(label)] = -p.margin - weak_duality(place, slopes[int(label)], float(shifts[int(label)]), dense)
    return room


def _others(
    standing: Standing, survey: Survey, asked: Asked, place: Place, room: Tensor
) -> tuple[Mapping[str, Any], ...]:
    """The members of other groups that are proved to be off in a place, wholly or in part.

    Up to the first that takes more than there is room for: then the claim is lost, whatever the others do. The nearest
    come first. Without that, many rows would have a linear program for each pair of them, and no certificate in the
    end.
    """
    if bool((room < 0).any()):
        return ()
    centred = replace(place, centre=asked.sample)  # a point inside tells which rows are worth looking at
    target = standing.groups[asked.group].target
    heights = [float(reach(group.patch, place.box).max()) for group in standing.groups]
    most = [0.0] * len(heights)
    found: list[Mapping[str, Any]] = []
    for member, g, spot in _nearest(standing, survey, asked):
        proved = off(centred, survey.region(spot.pattern), standing.sharpness)
        if proved.nu < 1:
            at = proved.duals.nonzero()[:, 0].tolist()
            duals = [[row, float(proved.duals[row])] for row in at]
            found.append({"member": member, "rows": list(proved.rows), "duals": duals})
        if proved.nu > most[g]:
            before, now = (
                interference(nu, standing.groups[g].patch, heights[g], place.box)[:, target]
                for nu in (most[g], proved.nu)
            )
            most[g], room = proved.nu, room - (now - before)
        if bool((room < 0).any()):
            break
    return tuple(sorted(found, key=lambda one: int(one["member"])))


def _nearest(standing: Standing, survey: Survey, asked: Asked) -> list[tuple[int, int, Spot]]:
    """Members of other groups with the position of their group, by how far their rows are violated at the row."""
    spots = [(g, spot) for g, group in enumerate(standing.groups) for spot in group.spots]
    others = [(member, g, spot) for member, (g, spot) in enumerate(spots) if g != asked.group]
    if not others:
        return []
    patterns = torch.stack([spot.pattern for _, _, spot in others])
    slacks = frozen_many(survey.network, survey.weights, patterns, asked.sample.double()[None])[:, 0]
    return [others[place] for place in slacks.clamp_max(0).sum(1).argsort(descending=True, stable=True).tolist()]
