"""The claim about a class: in all of the box another output is ahead of it, so that it is predicted nowhere there."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from unlearnbench_verifier.claims import CLOSE, shown
from unlearnbench_verifier.findings import Finding
from unlearnbench_verifier.form import Never
from unlearnbench_verifier.intervals import lead
from unlearnbench_verifier.model import Model, answer
from unlearnbench_verifier.numbers import Ball, Exact, Floats, N, Undecided
from unlearnbench_verifier.signatures import check_signature
from unlearnbench_verifier.stated import chain, models, unseen


def check_never(
    model: Model,
    certificate: Never,
    document: Any,
    *,
    sample: Floats | None,
    label: int | None,
    exact: bool,
    previous: Any,
) -> list[Finding]:
    """Check a certificate that a class is predicted nowhere.

    Args:
        model: What it speaks of.
        certificate: What it says.
        document: The same as it was read; what is signed.
        sample: An input of the network, flat [d], of which the claim is looked at as well.
        label: Class of that input: is it the one that the certificate is about?
        exact: Without any rounding; otherwise with floats, of which every error is bounded.
        previous: The issue of the step before, parsed from JSON.

    Returns:
        One finding for every claim; after a model that is another one, or does not have the outputs, nothing comes.

    Raises:
        Refusal: floats are too small for the numbers, or ``previous`` is no issue.
    """
    found = [Finding("form", "a certificate that a class is predicted nowhere", True), *models(model, certificate)]
    if any(finding.fine is False for finding in found):
        return found
    if max(certificate.label, certificate.beaten_by) >= model.network.outputs:
        return [*found, Finding("class", f"the model has {model.network.outputs} outputs", False)]
    found += [_class(certificate, label), _members(model)]
    # mypy: one call for each number system, since a type that is chosen at run time is neither.
    found.append(_never(model, certificate, Exact) if exact else _never(model, certificate, Ball))
    point = None if sample is None else np.asarray(sample, dtype=np.float64).reshape(-1)
    numbers: type[Ball] | type[Exact] = Exact if exact else Ball
    found += [_sample(model, certificate, point, numbers), chain(certificate, previous), check_signature(document)]
    return found


def _class(certificate: Never, label: int | None) -> Finding:
    """Whether the certificate is about the class of the sample that somebody asks for."""
    own = certificate.label
    if label is None:
        return Finding("class", f"{own} is the one that is predicted nowhere", True)
    return Finding("class", f"{own} is{' not' * (label != own)} the sample's own label", label == own)


def _members(model: Model) -> Finding:
    """A patch beside the shift of all outputs could raise the class in its region; with none there is none."""
    count = len(model.groups)
    if count:
        return Finding("members", f"the model has patches in {count} regions, where nothing is claimed", False)
    return Finding("members", "the model has no patch but the shift of all outputs", True)


def _never(model: Model, certificate: Never, numbers: type[N]) -> Finding:
    """By how much the other output is ahead of the class at least, over all of the box."""
    own, other = certificate.label, certificate.beaten_by
    raised = Fraction(float(model.everywhere[own])) - Fraction(float(model.everywhere[other]))
    ahead = -(lead(model.network, own, other, model.low, model.high, numbers) + raised)
    margin = Fraction(certificate.margin)
    said = f"output {other} is ahead of {own} by {shown(ahead)} or more in all of the box, {shown(margin)} is claimed"
    if ahead < margin and ahead >= margin * (1 - Fraction(CLOSE)):
        said += "; if this was checked in floats, --exact decides without rounding"
    return Finding("never", said, ahead >= margin)


def _sample(model: Model, certificate: Never, x: Floats | None, numbers: type[Ball] | type[Exact]) -> Finding:
    """What the model says to an input, worked out from its weights."""
    what, features = "sample", model.network.features
    if x is None:
        return unseen(what, "none is given, and the claim is about all inputs of the box")
    if len(x) != features:
        return Finding(what, f"has {len(x)} numbers, the network takes {features}", False)
    if not (np.isfinite(x).all() and model.low <= x.min() and x.max() <= model.high):
        return Finding(what, f"is not within the box from {model.low:g} to {model.high:g}", False)
    try:
        said: Ball | Exact = answer(model, x, numbers)
    except Undecided:
        said = answer(model, x, Exact)
    ahead = said.lower()[certificate.beaten_by] - said.upper()[certificate.label]
    text = f"output {certificate.beaten_by} is ahead of {certificate.label} there by {shown(ahead)}"
    return Finding(what, text, ahead >= 0)
