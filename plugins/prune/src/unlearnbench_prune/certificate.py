"""Certificates as documents: of rows that are redirected, of classes that are predicted nowhere, of a whole request.

Their forms are ``redirect/1.json``, ``never/1.json``, and ``certificate/1.json`` with the same two claims.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor

from unlearnbench_prune.parts import Place
from unlearnbench_prune.plugin import PruneParams
from unlearnbench_prune.standing import Asked, Duals, Standing
from unlearnbench_verifier.form import (
    MEANS,
    NEVER,
    NEVER_MEANS,
    NEVER_SCHEMA,
    SCHEMA,
    label_commitment,
    pattern_commitment,
    sample_commitment,
)

RECORD_SCHEMA = "https://unlearnbench.org/schemas/certificate/1.json"
METHOD = "prune"
CLAIM = "redirect"
CLAIMS = (CLAIM, NEVER)
GLOBAL = "class-global"
"""The form of a request whose classes were lowered everywhere."""


@dataclass(frozen=True)
class Digests:
    """Of the network underneath, of the model with its patches, and of what was issued at the step before."""

    base: str
    patched: str
    previous: str | None


@dataclass(frozen=True, eq=False)
class Proof:
    """What proves the claim about a row: where it is made, the multipliers, and which other gates are off there."""

    place: Place
    duals: Duals
    others: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What came of a row: certified, empirical (redirected, but without a proof) or failed, and why."""

    status: str
    reason: str = ""


def commitments(standing: Standing) -> list[str]:
    """What stands for each row that was asked for, in order; its salt opens it."""
    return [sample_commitment(bytes.fromhex(one.salt), one.sample.numpy()) for one in standing.asked]


def redirect_document(
    p: PruneParams, standing: Standing, asked: Asked, proof: Proof, digests: Digests
) -> dict[str, Any]:
    """The owner's copy of the certificate of one row: it names the row, its label and the salt."""
    salt, pattern = bytes.fromhex(asked.salt), proof.place.region.pattern.numpy()
    committed, group = p.gate == "committed", standing.groups[asked.group]
    centre = proof.place.centre if proof.place.radius is not None else None
    assert standing.box is not None
    return {
        "$schema": SCHEMA,
        "method": METHOD,
        "claim": CLAIM,
        "means": MEANS,
        "model": {"base": digests.base, "patched": digests.patched, "split_at": p.split_at},
        "box": {"low": standing.box.low, "high": standing.box.high},
        "request": {
            "commitment": sample_commitment(salt, asked.sample.numpy()),
            "label_commitment": label_commitment(salt, asked.label),
            "salt": asked.salt,
            "sample": numbers(asked.sample),
            "label": asked.label,
        },
        "region": {
            "pattern": None if committed else pattern.tobytes().hex(),
            "commitment": pattern_commitment(bytes.fromhex(standing.salt), pattern) if committed else None,
            "radius": proof.place.radius,
            "centre": None if centre is None else numbers(centre),
        },
        "target": group.target,
        "margin": p.margin,
        "patch": {
            "shift": numbers(group.patch.shift),
            "slope": None if group.patch.slope is None else [numbers(row) for row in group.patch.slope],
        },
        "gate": {
            "kind": p.gate,
            "sharpness": standing.sharpness if p.gate == "support" else None,
            "member": standing.member(asked),
            "group": asked.group,
        },
        "duals": dict(proof.duals),
        "others": list(proof.others),
        "solver": solver(proof.duals),
        "chain": {"step": standing.step, "previous": digests.previous},
        "created": None,
        "signature": None,
    }


def never_document(p: PruneParams, standing: Standing, label: int, beaten_by: int, digests: Digests) -> dict[str, Any]:
    """The certificate that a class is predicted nowhere in the box; it holds no secret."""
    assert standing.box is not None
    return {
        "$schema": NEVER_SCHEMA,
        "method": METHOD,
        "claim": NEVER,
        "means": NEVER_MEANS,
        "model": {"base": digests.base, "patched": digests.patched, "split_at": p.split_at},
        "box": {"low": standing.box.low, "high": standing.box.high},
        "class": label,
        "beaten_by": beaten_by,
        "margin": p.margin,
        "chain": {"step": standing.step, "previous": digests.previous},
        "created": None,
        "signature": None,
    }


def record_document(
    p: PruneParams,
    standing: Standing,
    form: str,
    verdicts: Sequence[Verdict],
    certificates: Sequence[str],
    issue: str,
    digests: Digests,
) -> dict[str, Any]:
    """The certificate of the record: how many rows are certified, which are not and why."""
    statuses = [verdict.status for verdict in verdicts]
    without = len(statuses) - statuses.count("certified")
    assert standing.box is not None
    return {
        "$schema": RECORD_SCHEMA,
        "method": METHOD,
        "claim": NEVER if form == GLOBAL else CLAIM,
        "means": NEVER_MEANS if form == GLOBAL else MEANS,
        "served": standing.step + 1,
        "budget": 0,
        "value": without,
        "holds": without == 0,
        "margin": p.margin,
        "gate": {"kind": p.gate, "sharpness": standing.sharpness if p.gate == "support" else None},
        "radius": None if p.radius == "whole" else p.radius,
        "multi": p.multi,
        "form": form,
        "rows": len(statuses),
        "certified": statuses.count("certified"),
        "empirical": statuses.count("empirical"),
        "failed": statuses.count("failed"),
        "base": digests.base,
        "patched": digests.patched,
        "split_at": p.split_at,
        "box": {"low": standing.box.low, "high": standing.box.high},
        "certificates": list(certificates),
        "issue": issue,
        "previous": digests.previous,
        "uncertified": [
            {"row": asked.id, "status": verdict.status, "reason": verdict.reason}
            for asked, verdict in zip(standing.asked, verdicts, strict=True)
            if verdict.status != "certified"
        ],
    }


def public_copy(document: Mapping[str, Any]) -> dict[str, Any]:
    """A certificate without what only the owner of the row knows; one of a class has nothing of that kind."""
    if "request" not in document:
        return dict(document)
    return {**document, "request": {**document["request"], "salt": None, "sample": None, "label": None}}


def solver(duals: Duals) -> str:
    """Who found the multipliers."""
    return f"HiGHS (scipy {version('scipy')})" if any(duals.values()) else "intervals"


def numbers(row: Tensor) -> list[float]:
    """A row of numbers as JSON; float32 values are themselves in double precision."""
    return [float(value) for value in row.tolist()]
