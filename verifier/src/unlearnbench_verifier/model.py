"""A patched model in a file: what it holds, its digests, and what it answers to an input."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.fields import Field
from unlearnbench_verifier.files import TensorFile, load_json, patched_digest
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.form import pattern_commitment
from unlearnbench_verifier.network import Network, Pattern, base_digest, held, outputs_of, pattern_of, read_network
from unlearnbench_verifier.numbers import Floats, N

ENTRY = "unlearnbench"
"""Where the metadata of a file keeps the document of a patched model."""
FORMAT = "unlearnbench-patched/1"
BASE = "base."
CODE = "bad-model"
WHOLE = float(np.finfo(np.float32).max)
"""A radius that stands for all of a region: weights of a model are finite numbers."""

DTYPES: Mapping[str, str] = {
    "patterns": "U8",
    "commitments": "U8",
    "groups": "I64",
    "centres": "F32",
    "radii": "F32",
    "shifts": "F32",
    "slopes": "F32",
    "everywhere": "F32",
}
"""Tensors beside those of the base, and how they are stored."""


@dataclass(frozen=True, eq=False)
class Model:
    """A base network, and patches that act on some of its inputs.

    K members, each a region that a patch acts on; G groups, one patch each; U units, d features. Floats that are
    stored as float32 come as float64, which loses nothing.
    """

    network: Network
    base: str
    """sha256 of the base network"""
    patched: str
    """sha256 of all of the file"""
    split_at: str
    low: float
    high: float
    kind: str
    """of the gates: support, exact or committed"""
    sharpness: float | None
    """lambda of support gates"""
    salt: bytes
    """of committed patterns"""
    patterns: Pattern
    """[K, U]; [0, U] where they are committed"""
    commitments: npt.NDArray[np.uint8]
    """[K, 32]; [0, 32] unless patterns are committed"""
    groups: npt.NDArray[np.int64]
    """[K]"""
    centres: Floats
    """[K, d]"""
    radii: Floats
    """[K]; WHOLE or more where all of the region is meant"""
    shifts: Floats
    """[G, out]"""
    slopes: Floats
    """[G, out, d]; [0, out, d] where every patch is constant"""
    everywhere: Floats
    """[out]"""

    def slope(self, group: int) -> Floats | None:
        """Of the patch of a group [out, d]; None where it is constant."""
        return self.slopes[group] if len(self.slopes) else None

    def reaches(self, member: int, x: Floats) -> bool:
        """Whether an input [d] is within a member's radius."""
        radius = float(self.radii[member])
        if radius >= WHOLE:
            return True
        pairs = zip(x.tolist(), self.centres[member].tolist(), strict=True)
        return all(abs(Fraction(a) - Fraction(b)) <= Fraction(radius) for a, b in pairs)

    def twins(self, pattern: Pattern) -> list[int]:
        """Members with this pattern [U], in order."""
        if self.kind == "committed":
            known = bytes.fromhex(pattern_commitment(self.salt, pattern))
            return [k for k, commitment in enumerate(self.commitments) if commitment.tobytes() == known]
        return np.flatnonzero((self.patterns == pattern).all(axis=1)).tolist()


# -- reading -----------------------------------------------------------------------------------------------------------


def read_model(file: TensorFile) -> Model:
    """Understand a file as a patched model.

    Raises:
        Refusal: ``bad-model`` (the first thing about it that does not fit), or ``bad-network``.
        Unreadable: ``bad-json``, the document in its metadata is none.
    """
    if ENTRY not in file.metadata:
        raise Refusal(CODE, f"is no patched model: its metadata has no {ENTRY!r}", where="--model",
                      hint="give the .safetensors file that the certificates came with")  # fmt: skip
    document = load_json(file.metadata[ENTRY], where=ENTRY)
    top = Field(document, ENTRY, CODE).properties("format", "network", "split_at", "gate", "box")
    top["format"].text(re.escape(FORMAT), repr(FORMAT))
    split_at = top["split_at"].text(r"[^\n]{0,200}", "one line of at most 200 characters")
    box = top["box"].properties("low", "high")
    low, high = box["low"].number(), box["high"].number()
    if low > high:
        raise top["box"].refusal("has its low above its high")
    kind, sharpness, salt = _gate(top["gate"])
    network = read_network(document["network"], file.tensors)
    found = _tensors(file, network, committed=kind == "committed")
    return Model(
        network=network,
        base=base_digest(document["network"], file.tensors),
        patched=patched_digest(document, file),
        split_at=split_at,
        low=low,
        high=high,
        kind=kind,
        sharpness=sharpness,
        salt=salt,
        patterns=found["patterns"],
        commitments=found["commitments"],
        groups=found["groups"],
        centres=found["centres"],
        radii=found["radii"],
        shifts=found["shifts"],
        slopes=found["slopes"],
        everywhere=found["everywhere"],
    )


def _gate(field: Field) -> tuple[str, float | None, bytes]:
    """Kind, sharpness and salt."""
    entries = field.properties("kind", "sharpness", "salt")
    kind = entries["kind"].text("support|exact|committed", "support, exact or committed")
    salt = bytes.fromhex(entries["salt"].hexadecimal())
    if bool(salt) != (kind == "committed"):
        raise entries["salt"].refusal("must be there where the gate is committed, and empty where it is not")
    if kind == "support":
        return kind, entries["sharpness"].number(above=0), salt
    if entries["sharpness"].value is not None:
        raise entries["sharpness"].refusal("must be null unless the gate is support")
    return kind, None, salt


def _tensors(file: TensorFile, network: Network, *, committed: bool) -> dict[str, npt.NDArray[Any]]:
    """The tensors beside the base, each of its type and of shapes that fit each other."""
    for name in file.tensors:
        if name not in DTYPES and not name.startswith(BASE):
            raise _refused(name, "is none of a patched model")
        if "|" in name:  # it parts names, types and bytes where they are put together for a digest
            raise _refused(name, "has a | in its name")
    for name, dtype in DTYPES.items():
        if name not in file.tensors:
            raise _refused(name, "is missing")
        if file.dtypes[name] != dtype:
            raise _refused(name, f"is {file.dtypes[name]} and must be {dtype}")
    found = {name: file.tensors[name] for name in DTYPES}
    members, groups = (len(found[name]) if found[name].ndim else 0 for name in ("groups", "shifts"))
    out, d = network.outputs, network.features
    shapes = {
        "groups": (members,),
        "patterns": (0 if committed else members, network.units),
        "commitments": (members if committed else 0, 32),
        "centres": (members, d),
        "radii": (members,),
        "shifts": (groups, out),
        "slopes": (groups if len(np.atleast_1d(found["slopes"])) else 0, out, d),
        "everywhere": (out,),
    }
    for name, shape in shapes.items():
        if found[name].shape != shape:
            raise _refused(name, f"is of shape {list(found[name].shape)} and must be of {list(shape)}")
    for name in ("centres", "shifts", "slopes", "everywhere"):
        if not np.isfinite(found[name]).all():
            raise _refused(name, "has numbers that are not finite")
    if not (found["radii"] > 0).all():
        raise _refused("radii", "has a radius that is not above 0")
    if members and not 0 <= found["groups"].min() <= found["groups"].max() < groups:
        raise _refused("groups", f"names a group beyond the {groups} that there are")
    return {name: values.astype(np.float64) if DTYPES[name] == "F32" else values for name, values in found.items()}


def _refused(name: str, message: str) -> Refusal:
    return Refusal(CODE, message, where=f"tensor {name[:80]}")


# -- answering ---------------------------------------------------------------------------------------------------------


def answer(model: Model, x: Floats, numbers: type[N]) -> N:
    """What the patched model says [out] to a flat input [d] of its network.

    Raises:
        Undecided: rounding leaves open on which side of a bend the input is.
    """
    found = outputs_of(model.network, x, numbers) + numbers.exactly(model.everywhere)
    twins = model.twins(pattern_of(model.network, x, numbers))
    if model.sharpness is not None:
        inside = {int(model.groups[member]) for member in twins}
        for group in range(len(model.shifts)):
            found = found + _faded(model, group, model.sharpness, x, numbers, inside=group in inside)
        return found
    for member in twins:
        if model.reaches(member, x):
            return found + _map(model, int(model.groups[member]), x, numbers)
    return found


def extent(model: Model, group: int, numbers: type[N]) -> tuple[N, N]:
    """The largest that the patch of a group, and its opposite, can be in the box: two arrays [out]."""
    shift, slope = model.shifts[group], model.slope(group)
    top, bottom = numbers.exactly(shift), numbers.exactly(-shift)
    if slope is None:
        return top, bottom
    low, high = (numbers.exactly(np.full(slope.shape[1], value)) for value in (model.low, model.high))

    def corners(rows: Floats) -> N:
        return numbers.joined([numbers.exactly(row).corner(low, high).reshaped(1) for row in rows])

    return top + corners(slope), bottom + corners(-slope)


def height(top: N, bottom: N) -> N:
    """How large any output of a patch can be in the box, of its extent: one number, shape []."""
    return type(top).joined([top, bottom]).largest()


def _map(model: Model, group: int, x: Floats, numbers: type[N]) -> N:
    """The patch of a group at an input, where its gate is fully open: [out]."""
    shift, slope = numbers.exactly(model.shifts[group]), model.slope(group)
    return shift if slope is None else shift + numbers.exactly(x[:, None]).weighted(slope)[:, 0]


def _faded(model: Model, group: int, sharpness: float, x: Floats, numbers: type[N], *, inside: bool) -> N:
    """What the patch of a group adds under a support gate: [out]. Inside a region of its own the gate is fully open."""
    if inside:
        return _map(model, group, x, numbers)
    members = np.flatnonzero(model.groups == group)
    if not len(members):
        return numbers.exactly(np.zeros(model.network.outputs))
    opening = numbers.joined([_opening(model, k, sharpness, x, numbers) for k in members.tolist()]).largest()
    m, h = _map(model, group, x, numbers), height(*extent(model, group, numbers))
    closed = h - h * opening
    return (m - closed).relu() - (-m - closed).relu()


def _opening(model: Model, member: int, sharpness: float, x: Floats, numbers: type[N]) -> N:
    """How far the support net of a member is open, from 0 to 1: shape [1]."""
    slack = held(model.network, model.patterns[member], x, numbers).rows[:, 0]
    steep = slack * numbers.exactly(sharpness)
    one = numbers.exactly(np.ones(1))
    kept = (steep + one).relu() - steep.relu()
    rows = kept.shape[0]
    return (kept.reshaped(rows, 1).weighted(np.ones((1, rows)))[:, 0] - numbers.exactly(np.full(1, rows - 1.0))).relu()
