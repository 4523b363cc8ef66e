"""The claims about all of a region at once: redirection, what other patches add there, and the inputs elsewhere.

Everything here is proved from the weights: bounds are fractions, rounded outward where they come from float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic

import numpy as np

from unlearnbench_verifier.bounds import Cut, cut, lower, upper
from unlearnbench_verifier.findings import Finding, Refusal
from unlearnbench_verifier.form import Certificate, Other
from unlearnbench_verifier.model import WHOLE, Model, extent, height
from unlearnbench_verifier.network import Affine, Pattern, affine
from unlearnbench_verifier.numbers import N

CLOSE = 1e-6
"""Share of the margin that may be missing for rounding to be the likely cause."""

Excess = Mapping[int, Fraction]
"""For every output but the target, the most that it is above the target in the region; negative where it is below."""


@dataclass(frozen=True, eq=False)
class Claim(Generic[N]):
    """A certificate whose gate is the model's, and the network on its region."""

    model: Model
    certificate: Certificate
    numbers: type[N]
    local: Affine[N]
    place: Cut[N]


def claim_of(model: Model, certificate: Certificate, pattern: Pattern, numbers: type[N]) -> Claim[N]:
    """The region of a pattern [U], cut as the certificate says, and the network on it."""
    region = certificate.region
    place = cut(
        numbers, model.network.features, certificate.low, certificate.high, centre=region.centre, radius=region.radius
    )
    return Claim(model, certificate, numbers, affine(model.network, pattern, numbers), place)


# -- redirection -------------------------------------------------------------------------------------------------------


def redirect(claim: Claim[N]) -> tuple[Finding, Excess]:
    """By how much the target leads at least on the region, as far as base and certified patch go.

    Returns:
        The finding, and what other patches may add to; empty where nothing was proved.
    """
    try:
        excess = _excess(claim)
    except Refusal as problem:
        return wrong("redirect", problem), {}
    return _judged("redirect", "on all of the region", excess, claim), excess


def _excess(claim: Claim[N]) -> dict[int, Fraction]:
    certificate = claim.certificate
    features = claim.model.network.features
    outputs = claim.local.outputs
    for shift, slope in ((certificate.patch.shift, certificate.patch.slope), (claim.model.everywhere, None)):
        linear = np.zeros((len(shift), features)) if slope is None else slope
        outputs = outputs + claim.numbers.exactly(np.concatenate([linear, shift[:, None]], axis=1))
    target = outputs[certificate.target]
    return {
        output: upper(outputs[output] - target, claim.local.rows, duals, claim.place)
        for output, duals in sorted(certificate.duals.items())
    }


def _judged(what: str, where: str, excess: Excess, claim: Claim[N]) -> Finding:
    """Whether every other output stays below the target by the margin."""
    nearest = max(excess, key=lambda output: excess[output])
    lead, margin = -excess[nearest], Fraction(claim.certificate.margin)
    said = (
        f"output {claim.certificate.target} has a lead of {shown(lead)} or more {where}, {shown(margin)} is claimed; "
        f"output {nearest} comes nearest"
    )
    if lead >= margin:
        return Finding(what, said, True)
    if lead >= margin * (1 - Fraction(CLOSE)):
        said += "; if this was checked in floats, --exact decides without rounding"
    return Finding(what, said, False)


def wrong(what: str, problem: Refusal) -> Finding:
    """What is refused because of what the certificate or the model says; all else is no finding and goes on.

    Raises:
        Refusal: the one that is given, where nothing is wrong but that it cannot be worked out.
    """
    if problem.code not in ("bad-duals", "bad-others", "bad-pattern", "empty-box"):
        raise problem
    return Finding(what, str(problem), False)


def shown(number: Fraction) -> str:
    """A fraction as people read it."""
    try:
        return f"{float(number):.9g}"
    except OverflowError:
        return f"{'-' * (number < 0)}more than 1e308"


# -- other patches -----------------------------------------------------------------------------------------------------


def interference(claim: Claim[N], excess: Excess) -> Finding:
    """Whether the target still leads with all that the patches of other groups may add."""
    model, certificate = claim.model, claim.certificate
    if model.sharpness is None:
        return _first_decides(model, certificate)
    others = [group for group in range(len(model.shifts)) if group != certificate.gate.group]
    sizes = np.bincount(model.groups, minlength=len(model.shifts)).tolist()
    try:
        openings = _openings(claim, model.sharpness)
    except Refusal as problem:
        return wrong("interference", problem)
    total = dict(excess)
    counts = {"off": 0, "partly on": 0, "not proved off": 0}
    proved: dict[int, list[Fraction]] = {}
    for member, bound in openings.items():
        proved.setdefault(int(model.groups[member]), []).append(bound)
    for group in others:
        known = proved.get(group, [])
        opening = Fraction(1) if len(known) < sizes[group] else max(known, default=Fraction(0))
        counts["off" if opening == 0 else "not proved off" if opening == 1 else "partly on"] += 1
        top, bottom = extent(model, group, claim.numbers)
        closed = height(top, bottom).lower()[()] * (1 - opening)
        up, down = top.upper(), bottom.upper()
        for output in total:
            total[output] += max(Fraction(0), up[output] - closed) + max(Fraction(0), down[certificate.target] - closed)
    if not others:
        return Finding("interference", "there is no other patch", True)
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return _judged("interference", f"with the patches of other groups ({said})", total, claim)


def _openings(claim: Claim[N], sharpness: float) -> dict[int, Fraction]:
    """How far support nets of other groups are open at most, for those that the certificate speaks of."""
    model, gate = claim.model, claim.certificate.gate
    found = {}
    for other in claim.certificate.others:
        if other.member >= len(model.groups):
            raise Refusal("bad-others", f"there is no member {other.member}")
        if model.groups[other.member] == gate.group:
            raise Refusal("bad-others", f"member {other.member} is of the certificate's own group")
        if max(other.rows) >= model.network.rows:
            raise Refusal("bad-others", f"member {other.member} has no row {max(other.rows)}")
        violated = max(Fraction(0), _violation(claim, other))
        found[other.member] = 1 - min(Fraction(1), Fraction(sharpness) * violated)
    return found


def _violation(claim: Claim[N], other: Other) -> Fraction:
    """By how much the named rows of another member's region are negative at least, all together.

    A support net closes by min(1, lambda * violation) of each row, so by min(1, lambda * sum) of several at least,
    each counted once; violations are no less than slacks with the sign turned.
    """
    rows = affine(claim.model.network, claim.model.patterns[other.member], claim.numbers).rows[list(other.rows)]
    total = rows.weighted(np.full((1, len(other.rows)), -1.0))[0]
    return lower(total, claim.local.rows, other.duals, claim.place)


def _first_decides(model: Model, certificate: Certificate) -> Finding:
    """Under gates that ask for the pattern, only a member before the certified one can take inputs away from it."""
    member, group = certificate.gate.member, certificate.gate.group
    stored = model.commitments if model.kind == "committed" else model.patterns
    same = np.flatnonzero((stored[:member] == stored[member]).all(axis=1)).tolist()
    for earlier in same:
        if model.groups[earlier] != group and _meet(model, earlier, member):
            said = f"member {earlier} of group {model.groups[earlier]} comes first on some of the region"
            return Finding("interference", said, False)
    return Finding("interference", "no other patch acts on an input with this pattern", True)


def _meet(model: Model, first: int, second: int) -> bool:
    """Whether the cubes of two members have an input of the box in common."""
    sides = [_sides(model, member) for member in (first, second)]
    return all(max(a[0], b[0]) <= min(a[1], b[1]) for a, b in zip(*sides, strict=True))


def _sides(model: Model, member: int) -> list[tuple[Fraction, Fraction]]:
    """Least and largest value of every feature that a member reaches in the box."""
    low, high = Fraction(model.low), Fraction(model.high)
    if model.radii[member] >= WHOLE:
        return [(low, high)] * model.network.features
    radius, centres = Fraction(float(model.radii[member])), map(Fraction, model.centres[member].tolist())
    return [(max(low, centre - radius), min(high, centre + radius)) for centre in centres]


# -- elsewhere ---------------------------------------------------------------------------------------------------------


def elsewhere(model: Model) -> Finding:
    """Whether inputs that no patch is meant for get what the base model says."""
    what = "rows elsewhere"
    if model.kind == "support":
        return Finding(what, "not claimed: support nets fade out beyond their regions", None)
    if model.everywhere.any():
        return Finding(what, "not claimed: every input is shifted", None)
    members = len(model.groups)
    return Finding(what, f"inputs that match none of {members} members get the base model's outputs unchanged", True)
