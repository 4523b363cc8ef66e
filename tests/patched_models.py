"""Small patched models and their certificates, made by hand with numpy: what the verifier is given in its tests.

A perceptron 3-6-5-3 with patches from interval bounds over a cube around each point, so that no multipliers are needed.
Nothing of the verifier but its wording is used here: formulas and digests are written a second time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from unlearnbench_verifier.form import MEANS

SIZES = (3, 6, 5, 3)
BOX = (-1.0, 1.0)
SALT = bytes(range(16))
MODEL_SALT = bytes(range(100, 116))
DTYPES = {"float32": "F32", "int64": "I64", "uint8": "U8"}
NETWORK = {
    "format": "unlearnbench-network/1",
    "inputs": [3],
    "outputs": 3,
    "steps": [
        {"op": "linear", "inputs": [0], "weight": "base.0.weight", "bias": "base.0.bias"},
        {"op": "relu", "inputs": [1]},
        {"op": "linear", "inputs": [2], "weight": "base.2.weight", "bias": "base.2.bias"},
        {"op": "relu", "inputs": [3]},
        {"op": "linear", "inputs": [4], "weight": "base.4.weight", "bias": "base.4.bias"},
    ],
}


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


@dataclass(frozen=True)
class Made:
    """A patched model, and the point that each of its members was made for."""

    document: dict[str, Any]
    tensors: dict[str, np.ndarray]
    points: np.ndarray
    """[K, 3] float32"""
    labels: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def base(self) -> str:
        names = sorted(name for name in self.tensors if name.startswith("base."))
        parts = [canonical(NETWORK)]
        for name in names:
            values = self.tensors[name].astype("<f8")
            parts += [f"|{name}|{canonical(list(values.shape)).decode()}|".encode(), values.tobytes()]
        return sha(*parts)

    @property
    def patched(self) -> str:
        parts = [canonical(self.document)]
        for name in sorted(self.tensors):
            values = self.tensors[name]
            shape = canonical(list(values.shape)).decode()
            parts += [f"|{name}|{DTYPES[values.dtype.name]}|{shape}|".encode(), values.tobytes()]
        return sha(*parts)

    @property
    def kind(self) -> str:
        return str(self.document["gate"]["kind"])

    def save(self, path: Path) -> Path:
        save_file(self.tensors, path, {"unlearnbench": canonical(self.document).decode()})
        return path

    def with_tensor(self, name: str, values: Any) -> Made:
        """The same model with another tensor."""
        dtype = self.tensors[name].dtype
        return replace(self, tensors={**self.tensors, name: np.ascontiguousarray(values, dtype=dtype)})


# -- the network -------------------------------------------------------------------------------------------------------


def weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for place, (before, after) in enumerate(itertools.pairwise(SIZES)):
        found[f"base.{2 * place}.weight"] = rng.normal(size=(after, before)).astype(np.float32)
        found[f"base.{2 * place}.bias"] = (rng.normal(size=after) / 2).astype(np.float32)
    return found


def local(tensors: Mapping[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pattern [11], slacks [11, 4] and outputs [3, 4] of the region of a point; the last column is the constant."""
    value = np.hstack([np.eye(3), np.zeros((3, 1))])
    at = np.append(x.astype(np.float64), 1.0)
    pattern, rows = [], []
    for place in (0, 2, 4):
        value = tensors[f"base.{place}.weight"].astype(np.float64) @ value
        value[:, -1] += tensors[f"base.{place}.bias"]
        if place < 4:
            active = value @ at >= 0
            pattern.append(active)
            rows.append(np.where(active[:, None], value, -value))
            value = value * active[:, None]
    return np.concatenate(pattern).astype(np.uint8), np.concatenate(rows), value


def patterns_of(tensors: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Patterns [n, 11] of many points [n, 3]."""
    return np.stack([local(tensors, point)[0] for point in x])


def outputs_of(made: Made, x: np.ndarray) -> np.ndarray:
    """What the patched model answers [n, 3] to points [n, 3], as its formulas say."""
    tensors = {name: values.astype(np.float64) for name, values in made.tensors.items()}
    answers = []
    for point in x.astype(np.float64):
        at = np.append(point, 1.0)
        pattern, _, outputs = local(made.tensors, point)
        answer = outputs @ at + tensors["everywhere"]
        members = range(len(made.tensors["groups"]))
        if made.kind == "support":
            sharpness = made.document["gate"]["sharpness"]
            for group in range(len(tensors["shifts"])):
                closed = [np.minimum(1, sharpness * np.maximum(0, -held(made, k) @ at)).sum() for k in members]
                own = [1 - closed[k] for k in members if made.tensors["groups"][k] == group]
                opening = max([0.0, *own])
                m, height = mapped(made, group, point), reach(made, group)
                answer = answer + np.maximum(m + height * (opening - 1), 0) - np.maximum(-m + height * (opening - 1), 0)
        else:
            for k in members:
                near = np.abs(point - tensors["centres"][k]).max() <= tensors["radii"][k]
                if near and (pattern == local(made.tensors, made.points[k])[0]).all():
                    answer = answer + mapped(made, int(made.tensors["groups"][k]), point)
                    break
        answers.append(answer)
    return np.stack(answers)


def held(made: Made, member: int) -> np.ndarray:
    """Slacks [11, 4] of the region of a member."""
    return local(made.tensors, made.points[member])[1]


def mapped(made: Made, group: int, x: np.ndarray) -> np.ndarray:
    slopes = made.tensors["slopes"].astype(np.float64)
    shift = made.tensors["shifts"][group].astype(np.float64)
    return shift + slopes[group] @ x if len(slopes) else shift


def reach(made: Made, group: int) -> float:
    """The largest that an output of a patch can be in the box."""
    shift = made.tensors["shifts"][group].astype(np.float64)
    if not len(made.tensors["slopes"]):
        return float(np.abs(shift).max())
    wide = np.abs(made.tensors["slopes"][group].astype(np.float64)).sum(axis=1) * BOX[1]  # the box is symmetric
    return float((np.abs(shift) + wide).max())


# -- patching ----------------------------------------------------------------------------------------------------------


def patched(
    seed: int, points: Sequence[Sequence[float]], *, gate: str = "exact", radius: float | None = 0.05,
    sharpness: float = 50.0, affine: bool = False, margin: float = 0.02,
) -> Made:  # fmt: skip
    """A patch for each point, with a lead of ``margin`` over the cube around it (all of the box if None)."""
    tensors = weights(seed)
    x = np.array(points, dtype=np.float32).reshape(-1, 3)
    k = len(x)
    patterns = patterns_of(tensors, x) if k else np.zeros((0, 11), np.uint8)
    labels = [int((local(tensors, point)[2] @ np.append(point, 1.0)).argmax()) for point in x]
    targets = [(label + 1 + place % 2) % 3 for place, label in enumerate(labels)]
    slopes = (np.random.default_rng(seed).normal(size=(k, 3, 3)) / 8 * affine).astype(np.float32)
    shifts = []
    for place, point in enumerate(x):
        outputs = local(tensors, point)[2]
        outputs[:, :-1] += slopes[place]
        shifts.append(shift_for(outputs, sides(point, radius), targets[place], margin))
    committed = gate == "committed"
    document = {
        "format": "unlearnbench-patched/1",
        "network": NETWORK,
        "split_at": "",
        "gate": {
            "kind": gate,
            "sharpness": sharpness if gate == "support" else None,
            "salt": MODEL_SALT.hex() if committed else "",
        },
        "box": {"low": BOX[0], "high": BOX[1]},
    }
    hashes = [np.frombuffer(hashlib.sha256(MODEL_SALT + row.tobytes()).digest(), np.uint8) for row in patterns]
    extra = {
        "patterns": patterns if not committed else np.zeros((0, 11), np.uint8),
        "commitments": np.array(hashes if committed else [], np.uint8).reshape(-1, 32),
        "groups": np.arange(k, dtype=np.int64),
        "centres": x if radius is not None else np.zeros((k, 3), np.float32),
        "radii": np.full(k, np.inf if radius is None else radius, dtype=np.float32),
        "shifts": np.array(shifts, dtype=np.float32).reshape(k, 3),
        "slopes": slopes if affine else np.zeros((0, 3, 3), np.float32),
        "everywhere": np.zeros(3, np.float32),
    }
    return Made(document, {**tensors, **extra}, x, tuple(labels), tuple(targets))


def sides(point: np.ndarray, radius: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value of every feature; the radius is the float32 that is stored."""
    if radius is None:
        return np.full(3, BOX[0]), np.full(3, BOX[1])
    wide = float(np.float32(radius))
    return np.maximum(BOX[0], point.astype(float) - wide), np.minimum(BOX[1], point.astype(float) + wide)


def most(row: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The largest value of an affine function [4] between low and high."""
    return float(np.maximum(row[:-1] * low, row[:-1] * high).sum() + row[-1])


def shift_for(outputs: np.ndarray, box: tuple[np.ndarray, np.ndarray], target: int, margin: float) -> list[float]:
    """The smallest constant that puts the target ahead by the margin."""
    needed = [most(outputs[j] - outputs[target], *box) + margin for j in range(3)]
    half = max(0.0, *(needed[j] for j in range(3) if j != target)) / 2
    return [half if j == target else -max(0.0, needed[j] - half) for j in range(3)]


# -- certificates ------------------------------------------------------------------------------------------------------


def certificate(
    made: Made, member: int = 0, *, margin: float = 0.01, owner: bool = True, **changes: Any
) -> dict[str, Any]:
    """The certificate of a member; ``changes`` take the place of whole properties."""
    x, label = made.points[member], made.labels[member]
    radius = made.tensors["radii"][member]
    group = int(made.tensors["groups"][member])
    committed = made.kind == "committed"
    pattern = local(made.tensors, x)[0].tobytes()
    slopes = made.tensors["slopes"]
    found = {
        "$schema": "https://unlearnbench.org/schemas/redirect/1.json",
        "method": "prune",
        "claim": "redirect",
        "means": MEANS,
        "model": {"base": made.base, "patched": made.patched, "split_at": ""},
        "box": {"low": BOX[0], "high": BOX[1]},
        "request": {
            "commitment": sha(SALT, x.tobytes()),
            "label_commitment": sha(SALT, str(label).encode()),
            "salt": SALT.hex() if owner else None,
            "sample": x.astype(float).tolist() if owner else None,
            "label": label if owner else None,
        },
        "region": {
            "pattern": None if committed else pattern.hex(),
            "commitment": sha(MODEL_SALT, pattern) if committed else None,
            "radius": None if np.isinf(radius) else float(radius),
            "centre": None if np.isinf(radius) else made.tensors["centres"][member].astype(float).tolist(),
        },
        "target": made.targets[member],
        "margin": margin,
        "patch": {
            "shift": made.tensors["shifts"][group].astype(float).tolist(),
            "slope": slopes[group].astype(float).tolist() if len(slopes) else None,
        },
        "gate": {
            "kind": made.kind,
            "sharpness": made.document["gate"]["sharpness"],
            "member": member,
            "group": group,
        },
        "duals": {str(j): [] for j in range(3) if j != made.targets[member]},
        "others": [],
        "solver": "by hand",
        "chain": {"step": 0, "previous": None},
        "created": "2026-01-31T12:00:00Z",
        "signature": None,
    }
    return found | changes


def violation(made: Made, member: int, other: int, rows: Sequence[int]) -> float:
    """How negative rows of another member are together at least, over the cube of a member."""
    total = held(made, other)[list(rows)].sum(axis=0)
    return -most(total, *sides(made.points[member], float(made.tensors["radii"][member])))


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path
