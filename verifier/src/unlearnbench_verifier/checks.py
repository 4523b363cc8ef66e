"""All that a certificate says, checked claim by claim against the model that it speaks of."""

from __future__ import annotations

from typing import Any

import numpy as np

from unlearnbench_verifier.claims import claim_of, elsewhere, interference, redirect, shown, wrong
from unlearnbench_verifier.findings import Finding, Refusal
from unlearnbench_verifier.form import (
    Certificate,
    Never,
    label_commitment,
    parse_any,
    pattern_commitment,
    sample_commitment,
)
from unlearnbench_verifier.model import WHOLE, Model, answer
from unlearnbench_verifier.network import Pattern, pattern_of
from unlearnbench_verifier.never import check_never
from unlearnbench_verifier.numbers import Ball, Exact, Floats, N, Undecided
from unlearnbench_verifier.signatures import check_signature
from unlearnbench_verifier.stated import chain, models, unseen

OWNER = "it stands in the owner's copy alone"


def check(
    model: Model,
    document: Any,
    *,
    sample: Floats | None = None,
    label: int | None = None,
    exact: bool = False,
    previous: Any = None,
) -> list[Finding]:
    """Check a certificate of either claim.

    Args:
        model: What it speaks of.
        document: The certificate, parsed from JSON.
        sample: The forgotten input of the network, flat [d]; that of an owner's copy if None.
        label: Its label; that of an owner's copy if None. A certificate of a class has no copies: both may be given.
        exact: Without any rounding; otherwise with floats, of which every error is bounded.
        previous: The issue of the step before, parsed from JSON.

    Returns:
        One finding for every claim. What cannot be looked at for want of something, or because what it rests upon is
        wrong, says so; after a model that is another one nothing comes.

    Raises:
        Refusal: floats are too small for the numbers, or ``previous`` is no issue.
    """
    try:
        certificate = parse_any(document)
    except Refusal as problem:
        return [Finding("form", str(problem), False)]
    if isinstance(certificate, Never):
        return check_never(model, certificate, document, sample=sample, label=label, exact=exact, previous=previous)
    found = [Finding("form", "a certificate of redirection", True), *models(model, certificate)]
    if any(finding.fine is False for finding in found):
        return found
    own = certificate.request
    given = own.sample if sample is None else np.asarray(sample, dtype=np.float64).reshape(-1)
    numbers: type[Ball] | type[Exact] = Exact if exact else Ball
    where, pattern = _sample(model, certificate, given)
    found += [where, _request(certificate, given), _label(certificate, label)]
    gate = _gate(model, certificate)
    found += [gate, _target(certificate, own.label if label is None else label)]
    inside = given if where.fine else None
    if exact:
        found += _region_claims(model, certificate, gate, pattern, Exact)
    else:
        found += _region_claims(model, certificate, gate, pattern, Ball)
    said = _answer(model, certificate, inside, numbers) if gate.fine else unseen("answer", "the gate is another one")
    found += [elsewhere(model), said, chain(certificate, previous)]
    return [*found, check_signature(document)]


# -- which request -----------------------------------------------------------------------------------------------------


def _pattern_at(model: Model, x: Floats) -> Pattern:
    try:
        return pattern_of(model.network, x, Ball)
    except Undecided:  # on a bend, or as near as rounding
        return pattern_of(model.network, x, Exact)


def _sample(model: Model, certificate: Certificate, x: Floats | None) -> tuple[Finding, Pattern | None]:
    """Whether the sample is where the claim is made, and the pattern of the region as far as it is known."""
    region, features = certificate.region, model.network.features
    if x is None:
        return unseen("sample", OWNER), region.pattern
    if len(x) != features:
        return Finding("sample", f"has {len(x)} numbers, the network takes {features}", False), region.pattern
    if not (np.isfinite(x).all() and model.low <= x.min() and x.max() <= model.high):
        return Finding("sample", f"is not within the box from {model.low:g} to {model.high:g}", False), region.pattern
    pattern = _pattern_at(model, x)
    if region.pattern is None:
        same = pattern_commitment(model.salt, pattern) == region.commitment
    else:
        same = np.array_equal(pattern, region.pattern)
    if not same:
        return Finding("sample", "is in another region than the certificate's", False), region.pattern
    if region.centre is not None and len(region.centre) != features:
        return Finding("sample", f"its centre has {len(region.centre)} numbers, not {features}", False), region.pattern
    if region.centre is not None and region.radius is not None and np.abs(x - region.centre).max() > region.radius:
        return Finding("sample", "is further from the centre than the radius", False), region.pattern
    if certificate.gate.member < len(model.groups) and not model.reaches(certificate.gate.member, x):
        return Finding("sample", "is further from the centre than the radius", False), region.pattern
    return Finding("sample", "is in the box and in the region", True), pattern


def _request(certificate: Certificate, x: Floats | None) -> Finding:
    """Whether the certificate is about this sample."""
    what, own = "request", certificate.request
    if x is None:
        return unseen(what, f"the sample is needed; {OWNER}")
    if own.sample is not None and not np.array_equal(own.sample, x):
        return Finding(what, "the certificate holds another sample", False)
    if own.salt is None:
        return unseen(what, f"the salt is needed; {OWNER}")
    try:
        same = sample_commitment(own.salt, x) == own.commitment
    except Refusal as problem:
        return Finding(what, str(problem), False)
    return Finding(what, "is about this sample" if same else "is about another sample", same)


def _label(certificate: Certificate, given: int | None) -> Finding:
    """Whether the certificate was made for this label."""
    what, own = "label", certificate.request
    label = own.label if given is None else given
    if label is None:
        return unseen(what, OWNER)
    if own.label is not None and own.label != label:
        return Finding(what, f"the certificate holds {own.label}, given is {label}", False)
    if own.salt is None:
        return unseen(what, f"the salt is needed; {OWNER}")
    same = label_commitment(own.salt, label) == own.label_commitment
    return Finding(what, f"is {label}" if same else f"is not {label}", same)


def _target(certificate: Certificate, label: int | None) -> Finding:
    """Whether the target is another class than the sample's own."""
    target = certificate.target
    if label is None:
        return unseen("target", f"whether {target} is the sample's own label; {OWNER}")
    return Finding("target", f"{target} is{' not' * (target != label)} the sample's own label", target != label)


# -- the patch ---------------------------------------------------------------------------------------------------------


def _gate(model: Model, certificate: Certificate) -> Finding:
    """Whether region, patch and gate are those of a member of the model."""
    what, gate, region, patch = "gate", certificate.gate, certificate.region, certificate.patch
    if (gate.kind, gate.sharpness) != (model.kind, model.sharpness):
        own, stated = (f"{kind} {'' if sharp is None else f'{sharp:g}'}".rstrip() for kind, sharp in
                       ((model.kind, model.sharpness), (gate.kind, gate.sharpness)))  # fmt: skip
        return Finding(what, f"the model's is {own}, the certificate's {stated}", False)
    k = gate.member
    if k >= len(model.groups):
        return Finding(what, f"the model has no member {k}", False)
    group = int(model.groups[k])
    radius = None if model.radii[k] >= WHOLE else float(model.radii[k])
    slope = model.slope(group)
    if region.pattern is None:
        same = model.commitments[k].tobytes().hex() == region.commitment
    else:
        same = np.array_equal(model.patterns[k], region.pattern)
    fits = {
        "group": group == gate.group,
        "pattern": same,
        # A support gate is open on all of its region: there the radius limits the claim alone.
        "radius": model.kind == "support" or radius == region.radius,
        "centre": model.kind == "support" or region.centre is None or np.array_equal(model.centres[k], region.centre),
        "shift": np.array_equal(model.shifts[group], patch.shift),
        "slope": slope is patch.slope is None
        or (slope is not None and patch.slope is not None and np.array_equal(slope, patch.slope)),
    }
    others = [name for name, fine in fits.items() if not fine]
    if others:
        return Finding(what, f"member {k} of the model has another {' and another '.join(others)}", False)
    return Finding(what, f"{model.kind}; region and patch are those of member {k}, group {group} of the model", True)


def _region_claims(
    model: Model, certificate: Certificate, gate: Finding, pattern: Pattern | None, numbers: type[N]
) -> list[Finding]:
    """Redirection, and what other patches do to it."""
    names = ("redirect", "interference")
    if not gate.fine:
        return [unseen(name, "the gate is another one") for name in names]
    if pattern is None:
        return [unseen(name, "the pattern is committed, the sample is needed") for name in names]
    try:
        claim = claim_of(model, certificate, pattern, numbers)
    except Refusal as problem:
        return [wrong("redirect", problem), unseen("interference", "there is no such region")]
    proved, excess = redirect(claim)
    if not proved.fine:
        return [proved, unseen("interference", "nothing is proved that others could undo")]
    return [proved, interference(claim, excess)]


def _answer(model: Model, certificate: Certificate, x: Floats | None, numbers: type[Ball] | type[Exact]) -> Finding:
    """What the patched model says to the sample itself, worked out from its weights."""
    what, target = "answer", certificate.target
    if x is None:
        return unseen(what, "a sample of the region is needed")
    try:
        said: Ball | Exact = answer(model, x, numbers)
    except Undecided:
        said = answer(model, x, Exact)
    lower, upper = said.lower(), said.upper()
    lead = lower[target] - max(value for output, value in enumerate(upper) if output != target)
    if lead > 0:
        return Finding(what, f"{target} to the sample, by {shown(lead)}", True)
    return Finding(what, f"to the sample, {target} does not lead: it is {shown(-lead)} behind", False)
