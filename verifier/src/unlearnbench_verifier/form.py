"""Certificates, of one request or of a class, read strictly, and what they mean.

Everything about its form can be imported from here: the values of ``certificate`` and what binds them of ``digests``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np

from unlearnbench_verifier.certificate import (
    Certificate,
    Chain,
    Duals,
    Gate,
    GateKind,
    Never,
    Numbers,
    Other,
    Patch,
    RegionClaim,
    Request,
    Signature,
)
from unlearnbench_verifier.digests import (
    Issue,
    digest,
    issue_digest,
    label_commitment,
    parse_issue,
    pattern_commitment,
    previous_step,
    sample_commitment,
    unsigned,
)
from unlearnbench_verifier.fields import Field
from unlearnbench_verifier.findings import Refusal

__all__ = [
    "MEANS", "NEVER", "NEVER_MEANS", "NEVER_SCHEMA", "SCHEMA", "Certificate", "Chain", "Duals", "Gate", "GateKind",
    "Issue", "Never", "Numbers", "Other", "Patch", "RegionClaim", "Request", "Signature", "claim_in", "digest",
    "issue_digest", "label_commitment", "parse", "parse_any", "parse_issue", "parse_never", "parse_signature",
    "pattern_commitment", "sample_commitment", "unsigned",
]  # fmt: skip

SCHEMA = "https://unlearnbench.org/schemas/redirect/1.json"

MEANS = (
    "On every input of the stated region that has its activation pattern, that of the forgotten sample, cut with the "
    "stated radius, if any, and the box, the patched model's output for the target, worked out exactly over the stored "
    "weights, exceeds every other output by at least the margin: output redirection. It says neither that the model "
    "cannot be told from one retrained without the sample, nor that the weights lost the data: the weights of the base "
    "are unchanged, and the patch stores the region or a hash of it, and with a radius it may store the sample itself."
)

NEVER = "never"
NEVER_SCHEMA = "https://unlearnbench.org/schemas/never/1.json"
NEVER_MEANS = (
    "At every input of the box the patched model's output for the stated class, worked out exactly over the stored "
    "weights, is below that of the class that beats it by at least the margin, so that the stated class is predicted "
    "nowhere in the box: a filter on the outputs. It says nothing more: neither that the model cannot be told from one "
    "retrained without the class, nor that the weights lost the data, since the weights of the base are unchanged."
)

LINE = r"[^\n\ud800-\udfff]{1,200}"
NAME = r"[^\n\ud800-\udfff]{0,200}"
SALT = r"(?:[0-9a-f]{2}){16,64}"
TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})"
OUTPUT = r"0|[1-9][0-9]{0,8}"


def parse(document: Any) -> Certificate:
    """Read a certificate of redirection strictly: no property lacks, none is besides, all shapes are alike.

    Raises:
        Refusal: ``bad-certificate``, with the JSON path of the first thing that is wrong.
    """
    top = Field(document).properties(
        "$schema", "method", "claim", "means", "model", "box", "request", "region", "target", "margin", "patch",
        "gate", "duals", "others", "solver", "chain", "created", "signature",
    )  # fmt: skip
    _check_words(top, SCHEMA, "redirect", MEANS)
    base, patched, split_at = _model(top["model"])
    low, high = _box(top["box"])
    gate = _gate(top["gate"])
    target = top["target"].integer()
    found = Certificate(
        base=base,
        patched=patched,
        split_at=split_at,
        low=low,
        high=high,
        request=_request(top["request"]),
        region=_region(top["region"], committed=gate.kind == "committed"),
        target=target,
        margin=top["margin"].number(above=0),
        patch=_patch(top["patch"]),
        gate=gate,
        duals=_duals_of_outputs(top["duals"]),
        others=_others(top["others"], gate),
        solver=top["solver"].text(LINE, "one line of at most 200 characters"),
        chain=_chain(top["chain"]),
        created=_created(top["created"]),
        signature=parse_signature(top["signature"].value),
    )
    _check_shapes(found)
    return found


def claim_in(document: Any) -> Any:
    """What a document says that it claims, whatever else is in it; None where it says nothing."""
    return document.get("claim") if isinstance(document, dict) else None


def parse_any(document: Any) -> Certificate | Never:
    """Read a certificate of either claim strictly; one of any other claim is refused as a redirection that is none.

    Raises:
        Refusal: ``bad-certificate``, with the JSON path of the first thing that is wrong.
    """
    return parse_never(document) if claim_in(document) == NEVER else parse(document)


def parse_never(document: Any) -> Never:
    """Read a certificate that a class is predicted nowhere, as strictly as ``parse`` one of redirection.

    Raises:
        Refusal: ``bad-certificate``, with the JSON path of the first thing that is wrong.
    """
    top = Field(document).properties(
        "$schema", "method", "claim", "means", "model", "box", "class", "beaten_by", "margin", "chain", "created",
        "signature",
    )  # fmt: skip
    _check_words(top, NEVER_SCHEMA, NEVER, NEVER_MEANS)
    base, patched, split_at = _model(top["model"])
    low, high = _box(top["box"])
    label, beaten_by = top["class"].integer(), top["beaten_by"].integer()
    if label == beaten_by:
        raise top["beaten_by"].refusal("must be another class than the one that it beats")
    return Never(
        base=base,
        patched=patched,
        split_at=split_at,
        low=low,
        high=high,
        label=label,
        beaten_by=beaten_by,
        margin=top["margin"].number(above=0),
        chain=_chain(top["chain"]),
        created=_created(top["created"]),
        signature=parse_signature(top["signature"].value),
    )


def _check_words(top: Mapping[str, Field], schema: str, claim: str, means: str) -> None:
    """What certificates of a claim have word by word."""
    for name, only in {"$schema": schema, "method": "prune", "claim": claim, "means": means}.items():
        if top[name].value != only:
            raise top[name].refusal(f"must be {only!r}")


def parse_signature(value: Any) -> Signature | None:
    """Read the property ``signature`` of a certificate.

    Raises:
        Refusal: ``bad-certificate``, neither null nor a signature.
    """
    if value is None:
        return None
    entries = Field(value, "$.signature").properties("algorithm", "public_key", "value")
    entries["algorithm"].text("ed25519", "'ed25519'")
    key = entries["public_key"].digest()
    return Signature(bytes.fromhex(key), bytes.fromhex(entries["value"].text(r"[0-9a-f]{128}", "128 hex digits")))


def _model(field: Field) -> tuple[str, str, str]:
    entries = field.properties("base", "patched", "split_at")
    split_at = entries["split_at"].text(NAME, "one line of at most 200 characters")
    return entries["base"].digest(), entries["patched"].digest(), split_at


def _box(field: Field) -> tuple[float, float]:
    entries = field.properties("low", "high")
    low, high = entries["low"].number(), entries["high"].number()
    if low > high:
        raise field.refusal("has its low above its high")
    return low, high


def _request(field: Field) -> Request:
    entries = field.properties("commitment", "label_commitment", "salt", "sample", "label")
    salt, sample, label = (entries[name] for name in ("salt", "sample", "label"))
    return Request(
        commitment=entries["commitment"].digest(),
        label_commitment=entries["label_commitment"].digest(),
        salt=None if salt.value is None else bytes.fromhex(salt.text(SALT, "16 to 64 bytes in hexadecimal")),
        sample=None if sample.value is None else _frozen(sample.numbers()),
        label=None if label.value is None else label.integer(),
    )


def _region(field: Field, *, committed: bool) -> RegionClaim:
    entries = field.properties("pattern", "commitment", "radius", "centre")
    pattern = commitment = radius = centre = None
    if committed:
        entries["pattern"].check_null("where the gate is committed")
        commitment = entries["commitment"].digest()
    else:
        entries["commitment"].check_null("unless the gate is committed")
        pattern = np.frombuffer(bytes.fromhex(entries["pattern"].hexadecimal()), np.uint8)
    if entries["radius"].value is None:
        entries["centre"].check_null("where there is no radius")
    else:
        radius = entries["radius"].number(above=0)
        centre = _frozen(entries["centre"].numbers())
    return RegionClaim(pattern, commitment, radius, centre)


def _patch(field: Field) -> Patch:
    entries = field.properties("shift", "slope")
    shift = entries["shift"].numbers(least=2)
    if entries["slope"].value is None:
        return Patch(_frozen(shift), None)
    rows = entries["slope"].items(least=2)
    slope = [row.numbers() for row in rows]
    for row, numbers in zip(rows, slope, strict=True):
        if len(numbers) != len(slope[0]):
            raise row.refusal(f"has {len(numbers)} numbers and the first row {len(slope[0])}")
    return Patch(_frozen(shift), _frozen(slope))


def _gate(field: Field) -> Gate:
    entries = field.properties("kind", "sharpness", "member", "group")
    kind = cast(GateKind, entries["kind"].text("support|exact|committed", "support, exact or committed"))
    sharpness = None
    if kind == "support":
        sharpness = entries["sharpness"].number(above=0)
    else:
        entries["sharpness"].check_null("unless the gate is support")
    return Gate(kind, sharpness, entries["member"].integer(), entries["group"].integer())


def _duals_of_outputs(field: Field) -> dict[int, Duals]:
    found = {}
    for name, entry in field.entries().items():
        number = Field(name, entry.path).text(OUTPUT, "named by the number of an output")
        found[int(number)] = _duals(entry)
    return found


def _duals(field: Field) -> Duals:
    pairs = []
    for item in field.items():
        row, value = item.items(least=2, most=2)
        pairs.append((row.integer(), value.number(least=0)))
    _check_once(field, [row for row, _ in pairs], "row")
    return tuple(pairs)


def _others(field: Field, gate: Gate) -> tuple[Other, ...]:
    items = field.items()
    if items and gate.kind != "support":
        raise field.refusal("must be empty unless the gate is support")
    found = []
    for item in items:
        entries = item.properties("member", "rows", "duals")
        rows = tuple(row.integer() for row in entries["rows"].items(least=1))
        _check_once(entries["rows"], rows, "row")
        found.append(Other(entries["member"].integer(), rows, _duals(entries["duals"])))
    _check_once(field, [gate.member, *(other.member for other in found)], "member")
    return tuple(found)


def _check_once(field: Field, numbers: Iterable[int], what: str) -> None:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise field.refusal(f"names {what} {number} twice")
        seen.add(number)


def _chain(field: Field) -> Chain:
    entries = field.properties("step", "previous")
    return Chain(entries["step"].integer(), previous_step(entries))


def _created(field: Field) -> str | None:
    return None if field.value is None else field.text(TIME, "a time like 2026-01-31T12:00:00Z")


def _check_shapes(found: Certificate) -> None:
    """What no schema can say: every length is that of the outputs or of the inputs, wherever these are known."""

    def check(fits: bool, path: str, message: str) -> None:
        if not fits:
            raise Refusal("bad-certificate", message, where=path)

    outputs, slope = len(found.patch.shift), found.patch.slope
    check(found.target < outputs, "$.target", f"must be one of the {outputs} outputs of the patch")
    wanted = set(range(outputs)) - {found.target}
    check(set(found.duals) == wanted, "$.duals", "must have every output but the target, and no other")
    check(slope is None or len(slope) == outputs, "$.patch.slope", f"must have one row for each of {outputs} outputs")
    lengths = {
        "$.request.sample": found.request.sample,
        "$.region.centre": found.region.centre,
        "$.patch.slope": None if slope is None else slope[0],
    }
    known = {path: len(numbers) for path, numbers in lengths.items() if numbers is not None}
    for path, length in known.items():
        first = next(iter(known))
        check(length == known[first], path, f"is of {length} inputs and {first} of {known[first]}")


def _frozen(numbers: Any) -> Numbers:
    found = np.array(numbers, dtype=np.float64)
    found.flags.writeable = False
    return found
