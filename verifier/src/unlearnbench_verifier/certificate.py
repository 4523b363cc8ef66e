"""What stands in a certificate, of one request or of a class, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

GateKind = Literal["support", "exact", "committed"]
Numbers = np.ndarray[Any, np.dtype[np.float64]]
Duals = tuple[tuple[int, float], ...]
"""Pairs (row of the region, multiplier >= 0), each row once; rows that are not named have 0."""


@dataclass(frozen=True, eq=False)
class Request:
    """Which sample was to be forgotten. ``salt``, ``sample`` and ``label`` stand in the owner's copy only."""

    commitment: str
    label_commitment: str
    salt: bytes | None
    sample: Numbers | None
    """[d], the network's input."""
    label: int | None


@dataclass(frozen=True, eq=False)
class RegionClaim:
    """Where the claim holds: the region of a pattern, cut with a cube around ``centre`` where there is a radius."""

    pattern: np.ndarray[Any, np.dtype[np.uint8]] | None
    """[U]; None where the gate is committed."""
    commitment: str | None
    """Of the pattern; None unless the gate is committed."""
    radius: float | None
    """Above 0, in units of the input; None: the whole region."""
    centre: Numbers | None
    """[d]; None where there is no radius."""


@dataclass(frozen=True, eq=False)
class Patch:
    """What is added to the outputs on the region."""

    shift: Numbers
    """[out]"""
    slope: Numbers | None
    """[out, d]; None: the patch is constant."""


@dataclass(frozen=True)
class Gate:
    """By what the patch is switched on, and where it stands in the patched model."""

    kind: GateKind
    sharpness: float | None
    """lambda, above 0; None unless the kind is support."""
    member: int
    group: int


@dataclass(frozen=True)
class Other:
    """Proof that a member of another group is off, or partly off, on the region."""

    member: int
    rows: tuple[int, ...]
    """Of that member's region, whose violation is added up."""
    duals: Duals
    """Over the rows of the certified region."""


@dataclass(frozen=True)
class Chain:
    """Which step of a stream of requests this is; ``previous`` is the issue digest of the step before."""

    step: int
    previous: str | None


@dataclass(frozen=True)
class Signature:
    """ed25519 over the certificate without it."""

    public_key: bytes
    value: bytes


@dataclass(frozen=True, eq=False)
class Certificate:
    """What a certificate says. Every shape fits the others; whether it fits the model is for the checks."""

    base: str
    patched: str
    split_at: str
    low: float
    high: float
    request: Request
    region: RegionClaim
    target: int
    margin: float
    patch: Patch
    gate: Gate
    duals: Mapping[int, Duals]
    """For every output but the target."""
    others: tuple[Other, ...]
    solver: str
    chain: Chain
    created: str | None
    signature: Signature | None


@dataclass(frozen=True)
class Never:
    """What a certificate says that a class is predicted nowhere; whether it fits the model is for the checks."""

    base: str
    patched: str
    split_at: str
    low: float
    high: float
    label: int
    """The class."""
    beaten_by: int
    """The output that is ahead of it everywhere."""
    margin: float
    chain: Chain
    created: str | None
    signature: Signature | None
