"""Requests as they come: rows that are new, rows that a patch serves already, and whole classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import UnlearnJob
from unlearnbench_prune.bounds import NoSolution
from unlearnbench_prune.classes import choose_sharpness, class_target
from unlearnbench_prune.clusters import clusters_of
from unlearnbench_prune.everywhere import lowered
from unlearnbench_prune.parts import Group, Spot
from unlearnbench_prune.patches import constant_patch
from unlearnbench_prune.plugin import ClassParams, PruneParams
from unlearnbench_prune.proving import claimed, leads_after
from unlearnbench_prune.serving import Rows, Server, placed, sparse
from unlearnbench_prune.standing import Asked, Duals, Standing
from unlearnbench_prune.survey import ROWS, Survey, free_radius, inside, key_of, neighbours

NO_ROOM = "a retained row in its region has the same features"
SPARE = 1e-3
"""Share of the margin that a class is lowered by besides: what the verifier's own rounding may take from its bounds."""


@dataclass(frozen=True, eq=False)
class Request:
    """A request at work: which of its rows are new, and what the network makes of them."""

    job: UnlearnJob
    p: PruneParams
    survey: Survey
    standing: Standing

    def new(self) -> tuple[list[Asked], list[str]]:
        """Rows that were not asked for before, as the network behind split_at sees them, and warnings."""
        x, y, ids, *_ = self.job.forget.tensors()
        features = self.survey.features(x)
        inside(features, self.survey.box, ids.cpu())
        before = {one.id for one in self.standing.asked}
        rows = zip(ids.tolist(), y.tolist(), x.cpu(), features, strict=True)
        fresh = [(number, label, row, sample) for number, label, row, sample in rows if number not in before]
        salts = torch.randint(256, (len(fresh), 16), generator=self.job.rng("salts")).tolist()
        new = [
            Asked(id=number, label=label, x=row, sample=sample, salt=bytes(salt).hex())
            for (number, label, row, sample), salt in zip(fresh, salts, strict=True)
        ]
        again = len(ids) - len(new)
        return new, [f"{again} of the rows were asked for before; their patches stay"] if again else []

    def patterns(self, asked: list[Asked]) -> Tensor:
        """[n, units]: the regions that rows are in."""
        if not asked:
            return torch.zeros(0, self.survey.network.units, dtype=torch.uint8)
        return self.survey.patterns(torch.stack([one.sample for one in asked]))

    def rows(self, standing: Standing, asked: list[Asked]) -> tuple[Standing, Rows | None]:
        """Rows that are to be served, beside what the network with the patches that stand makes of them.

        Rows without room for a claim are not served: the standing has them, with the reason.
        """
        patterns = self.patterns(asked)
        radii = self._radii(asked, patterns)
        roomy = [row for row, radius in enumerate(radii) if radius != 0]
        crowded = [replace(one, reason=NO_ROOM) for one, radius in zip(asked, radii, strict=True) if radius == 0]
        standing = replace(standing, asked=(*standing.asked, *crowded))
        if not roomy:
            return standing, None
        asked = [asked[row] for row in roomy]
        inputs = torch.stack([one.x for one in asked]).to(self.job.device)
        with torch.no_grad():
            known = standing if standing.asked else replace(standing, asked=tuple(asked))
            outputs = known.network(self.job, self.p)(inputs).cpu()
        return standing, Rows(tuple(asked), patterns[roomy], outputs, tuple(radii[row] for row in roomy))

    def _radii(self, asked: list[Asked], patterns: Tensor) -> tuple[float | None, ...]:
        """How far the claim about each row goes."""
        if self.p.radius == "auto":
            near = neighbours(self.survey, self.job.retain, patterns)
            pairs = zip(asked, patterns, strict=True)
            return tuple(free_radius(one.sample, near.get(key_of(p)), self.p.max_radius) for one, p in pairs)
        return (None if self.p.radius == "whole" else float(torch.tensor(self.p.radius)),) * len(asked)


# -- rows --------------------------------------------------------------------------------------------------------------


def forget_rows(request: Request) -> tuple[Standing, list[str]]:
    """The standing with patches for all rows that are asked for, and warnings.

    A row that an earlier patch sends elsewhere already shares it. Where it sends the row to its own label, or stops
    short of it, the whole region is served anew: the rows that it served, and the new ones.
    """
    new, warnings = request.new()
    served, rest = _attached(request, new)
    standing = request.standing
    for pattern in {key_of(pattern): pattern for pattern in request.patterns(rest)}.values():
        standing, freed = standing.apart(pattern)
        rest += freed
    standing = replace(standing, asked=(*standing.asked, *served))
    if rest:
        standing, rows = request.rows(standing, rest)
        if rows is not None:
            standing = Server(request.job, request.p, request.survey, standing).serve(rows)
    order = {one.id: place for place, one in enumerate((*request.standing.asked, *new))}
    return replace(standing, asked=tuple(sorted(standing.asked, key=lambda one: order[one.id]))), warnings


def _attached(request: Request, new: list[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Rows that an earlier patch sends elsewhere already, with their place under it; and the others."""
    served: list[Asked] = []
    rest: list[Asked] = []
    groups = request.standing.groups
    spots = [(g, k, spot) for g, group in enumerate(groups) for k, spot in enumerate(group.spots)]
    for one, pattern in zip(new, request.patterns(new), strict=True):
        mine = [(g, k) for g, k, spot in spots if torch.equal(spot.pattern, pattern) and covers(spot, one.sample)]
        mine = mine if all(groups[g].target != one.label for g, _ in mine) else []
        known = _known(request, replace(one, group=mine[0][0], spot=mine[0][1])) if mine else None
        if known is None:
            rest.append(one)
        else:
            served.append(known)
    return served, rest


def _known(request: Request, asked: Asked) -> Asked | None:
    """A row under an earlier patch, with the multipliers that prove it; None where the patch stops short of it."""
    p, standing = request.p, request.standing
    group = standing.groups[asked.group]
    asked = replace(asked, radius=_claimed(p))
    try:
        found = leads_after(p, standing, claimed(p, request.survey, standing, asked), group)
    except NoSolution:
        return None
    proved = all(bound.value <= -p.margin for bound in found)
    return replace(asked, duals=sparse(found, group.target)) if proved else None


def _claimed(p: PruneParams) -> float | None:
    """How far the claim about a row under an earlier patch goes; an exact gate has it at the spot."""
    if p.gate != "support" or p.radius == "whole":
        return None
    return float(torch.tensor(p.max_radius if p.radius == "auto" else p.radius))


# -- a class -----------------------------------------------------------------------------------------------------------


def forget_class(request: Request, p: ClassParams) -> tuple[Standing, list[str]]:
    """One target and one map for all rows of a class, under the support nets of all their regions.

    The support nets are as wide as the other classes' validation rows allow; those of a later class have the sharpness
    that there is.
    """
    new, warnings = request.new()
    if not new:
        return request.standing, warnings
    standing, rows = request.rows(request.standing, new)
    if rows is None:
        return standing, warnings
    forgotten = {one.label for one in standing.asked} | set(request.job.request.classes)
    if len(forgotten) >= request.survey.network.outputs:
        raise _no_class_left("every class is to be forgotten, and its rows must be sent to one")
    target = class_target(rows.outputs, sorted(forgotten), p.target, request.job.rng("target"))
    try:
        group, proved = _class_group(Server(request.job, request.p, request.survey, standing), rows, target, p)
    except NoSolution as problem:
        return replace(standing, asked=(*standing.asked, *_with_reason(rows, problem.reason))), warnings
    asked = placed(rows, range(len(rows.asked)), group, len(standing.groups), False, proved)
    standing = replace(standing, groups=(*standing.groups, group), asked=(*standing.asked, *asked))
    if request.standing.groups:
        return standing, warnings
    chosen = choose_sharpness(
        sorted(p.sharpness),
        lambda sharpness: _kept(request, replace(standing, sharpness=sharpness)),
        _kept(request, request.standing),
        p.most_drop,
    )
    return replace(standing, sharpness=chosen.sharpness), [*warnings, *([chosen.warning] if chosen.warning else [])]


def _class_group(server: Server, rows: Rows, target: int, p: ClassParams) -> tuple[Group, dict[int, Duals]]:
    """The patch of a class under the support nets of all its regions, and what proves it for its rows."""
    every = range(len(rows.asked))
    if p.map == "certified":
        return server.proved(rows, every, target)
    (cluster,) = clusters_of(rows.samples.double(), 1)
    bounds = server.leads(server.place(rows, cluster.representative), target)
    return Group(target, server.spots(rows, every), constant_patch([bounds], target, p.margin)), {}


def _with_reason(rows: Rows, reason: str) -> list[Asked]:
    return [replace(one, reason=reason) for one in rows.asked]


def _no_class_left(what: str) -> IncompatibleError:
    return IncompatibleError(
        "no-class-left", what, where="request", hint="leave at least one class that is not forgotten"
    )


def _kept(request: Request, standing: Standing) -> float:
    """Accuracy on the validation rows of other classes."""
    model = standing.network(request.job, request.p) if standing.groups else request.survey.base
    forgotten = torch.tensor(request.job.request.classes, device=request.job.device)
    right = count = 0
    with torch.no_grad():
        for x, y, *_ in request.job.validation.batches(ROWS):
            others = ~torch.isin(y, forgotten)
            right += int((model(x)[others].argmax(1) == y[others]).sum())
            count += int(others.sum())
    return right / max(count, 1)


def lower_class(request: Request, p: ClassParams) -> tuple[Standing, list[str]]:
    """The standing with the outputs of the requested classes lowered everywhere.

    Raises:
        IncompatibleError: no class would stay.
    """
    new, warnings = request.new()
    forbidden = tuple(dict.fromkeys((*request.standing.forbidden, *request.job.request.classes)))
    if len(forbidden) >= request.survey.network.outputs:
        raise _no_class_left("every class is to be predicted nowhere, and one must be predicted")
    margin = p.margin * (1 + SPARE)
    found = lowered(request.survey.network, request.survey.weights, request.survey.box, forbidden, margin)
    standing = replace(
        request.standing,
        forbidden=forbidden,
        beaten_by=tuple(found.beaten_by[label] for label in forbidden),
        everywhere=found.everywhere,
        asked=(*request.standing.asked, *new),
    )
    return standing, warnings


def covers(spot: Spot, sample: Tensor) -> bool:
    """Whether a spot's box holds a row."""
    if spot.centre is None or spot.radius is None:
        return True
    return bool((sample - spot.centre).abs().amax() <= spot.radius)
