"""What every certificate states, whatever it claims: which models it is about, and where it stands in a chain."""

from __future__ import annotations

from typing import Any

from unlearnbench_verifier.findings import Finding
from unlearnbench_verifier.form import Certificate, Never, issue_digest, parse_issue
from unlearnbench_verifier.model import Model


def unseen(what: str, why: str) -> Finding:
    """A claim that could not be looked at, and why."""
    return Finding(what, f"not looked at: {why}", None)


def models(model: Model, certificate: Certificate | Never) -> list[Finding]:
    """Whether the certificate is about this model, and about the inputs that the model is for."""
    found = []
    for what, stated, is_ in (
        ("base", certificate.base, model.base),
        ("patched model", certificate.patched, model.patched),
    ):
        said = f"sha256 {is_}" if stated == is_ else f"the certificate is about {stated}, the model is {is_}"
        found.append(Finding(what, said, stated == is_))
    if found[-1].fine:
        for name in ("split_at", "low", "high"):
            stated, is_ = getattr(certificate, name), getattr(model, name)
            if stated != is_:
                said = f"{name} is {is_!r} in the model, the certificate says {stated!r}"
                return [found[0], Finding("patched model", said, False)]
    return found


def chain(certificate: Certificate | Never, previous: Any) -> Finding:
    """Whether the certificate goes on from what was issued before.

    Raises:
        Refusal: ``previous`` is no issue.
    """
    what, place = "chain", certificate.chain
    if previous is None:
        if place.step == 0:
            return Finding(what, "the first step", True)
        return unseen(what, f"step {place.step}; the issue of the step before is needed (--previous)")
    before = parse_issue(previous)
    if place.step != before.step + 1:
        return Finding(
            what, f"the certificate is of step {place.step}, given is the issue of step {before.step}", False
        )
    if place.previous != issue_digest(before):
        return Finding(what, f"the certificate goes on from another issue of step {before.step}", False)
    if certificate.base != before.base:
        return Finding(what, f"step {before.step} was about another base", False)
    return Finding(what, f"step {place.step} goes on from the issue of step {before.step}", True)
