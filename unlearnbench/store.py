"""The store: models and states under input-addressed keys, verified whenever they are read.

An entry is a folder ``<phase>/<key[:2]>/<key>`` with safetensors and ``entry.json``. It is written under a temporary
name and renamed, so that many processes may work on one store and a crash leaves nothing half-written.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unlearnbench.api.errors import DataError, UnlearnBenchError
from unlearnbench.api.runtime import PhaseCost, Ref, State, tensors_digest
from unlearnbench.identity import file_digest
from unlearnbench.schemas import load_json

ENTRY = "entry.json"


@dataclass(frozen=True)
class Entry:
    """What a phase left: a model (ref and weights), a state, a mask, a certificate, and what it cost."""

    key: str
    inputs: Mapping[str, Any]
    cost: PhaseCost
    ref: Ref | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    state: State | None = None
    mask: Mapping[str, Tensor] | None = None
    certificate: Mapping[str, Any] | None = None
    proof: Mapping[str, Tensor] = field(default_factory=dict)
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    stages: tuple[PhaseCost, ...] = ()
    weights_sha256: str = ""


class Damaged(DataError):
    """An entry whose files do not have the content that was written."""


class Store:
    """A folder of entries. Reading gives fresh objects: changing them cannot change what is stored."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, phase: str, key: str) -> Path:
        return self.root / phase / key[:2] / key

    def get(self, phase: str, key: str) -> Entry | None:
        """Read and verify an entry; None when it is not there.

        Raises:
            Damaged: a file is missing or its sha256 is not the one that was written.
        """
        folder = self.path(phase, key)
        if not (folder / ENTRY).is_file():
            return None
        try:
            return _read(folder, key)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, UnlearnBenchError) as problem:
            raise Damaged("damaged-entry", f"{phase} entry {key[:12]}: {problem}", where="store") from problem

    def drop(self, phase: str, key: str) -> None:
        """Remove an entry."""
        shutil.rmtree(self.path(phase, key), ignore_errors=True)

    def put(self, phase: str, entry: Entry) -> None:
        """Write an entry; the first writer wins when two processes computed the same.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = self.path(phase, entry.key)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
            try:
                _write(temporary, entry)
                try:
                    temporary.rename(folder)
                except OSError:
                    if not (folder / ENTRY).is_file():
                        raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        except (OSError, SafetensorError) as problem:
            raise cannot_write(self.root, problem) from problem

    def entries(self) -> Iterator[tuple[str, Path]]:
        """Phase and folder of every entry, sorted."""
        for file in sorted(self.root.glob(f"*/*/[!.]*/{ENTRY}")):  # not what a crash left half-written
            yield file.parents[2].name, file.parent

    def verify(self) -> list[str]:
        """One line per damaged entry."""
        found = []
        for phase, folder in self.entries():
            try:
                self.get(phase, folder.name)
            except Damaged as problem:
                found.append(str(problem))
        return found

    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.stat().st_size for f in self.root.rglob("*") if f.is_file())

    def prune(self, keep_bytes: int) -> list[Path]:
        """Remove entries, least recently used first, until at most ``keep_bytes`` are left; returns what went."""
        folders = [folder for _, folder in self.entries()]
        sizes = {folder: sum(f.stat().st_size for f in folder.iterdir()) for folder in folders}
        total = sum(sizes.values())
        gone = []
        for folder in sorted(folders, key=lambda f: (f / ENTRY).stat().st_mtime):
            if total <= keep_bytes:
                break
            shutil.rmtree(folder)
            total -= sizes[folder]
            gone.append(folder)
        for leftover in self.root.glob("*/*/.tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return gone


def cannot_write(path: Path, problem: Exception) -> DataError:
    """The error for a folder that is read-only or full."""
    cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return DataError("cannot-write", cause, where=str(path), hint="choose a writable folder with --out or --store")


def _write(folder: Path, entry: Entry) -> None:
    files: dict[str, Mapping[str, Tensor]] = {}
    if entry.ref is not None:
        files["model"] = entry.weights
    if entry.state is not None:
        files["state"] = entry.state.tensors
    if entry.mask is not None:
        files["mask"] = entry.mask
    if entry.proof:
        files["proof"] = entry.proof
    kept, told = apart(entry.artifacts)
    if kept:
        files["artifacts"] = kept
    digests = {}
    for name, tensors in files.items():
        file = folder / f"{name}.safetensors"
        save_file(whole(tensors), file)
        digests[file.name] = file_digest(file)
    document = {
        "key": entry.key,
        "inputs": entry.inputs,
        "cost": _cost_json(entry.cost),
        "stages": [_cost_json(cost) for cost in entry.stages],
        "ref": entry.ref.to_json() if entry.ref else None,
        "state_meta": entry.state.meta if entry.state else None,
        "certificate": entry.certificate,
        "artifacts": told,
        "warnings": list(entry.warnings),
        "files": digests,
        "weights_sha256": tensors_digest(entry.weights) if entry.ref else "",
    }
    with (folder / ENTRY).open("w", encoding="utf-8") as stream:
        json.dump(document, stream, indent=1, sort_keys=True, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())


def apart(artifacts: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Artifacts that are tensors, and those that are JSON."""
    tensors = {name: value for name, value in artifacts.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in artifacts.items() if name not in tensors}


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: whole, and no two in one place. What is so already is not copied."""
    found: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        found[name] = plain.clone() if place in places else plain
        places.add(place)
    return found


def _read(folder: Path, key: str) -> Entry:
    document = load_json((folder / ENTRY).read_text("utf-8"), where=str(folder))
    if document["key"] != key:
        raise ValueError("the key inside is another one")
    for name, sha256 in document["files"].items():
        if file_digest(folder / name) != sha256:
            raise ValueError(f"{name} does not have the sha256 that was written")
    if os.access(folder / ENTRY, os.W_OK):  # pruning goes by last use
        os.utime(folder / ENTRY)

    def tensors(name: str) -> dict[str, Tensor]:
        return load_file(folder / f"{name}.safetensors")

    has = {Path(name).stem for name in document["files"]}
    return Entry(
        key=key,
        inputs=document["inputs"],
        cost=_cost(document["cost"]),
        stages=tuple(_cost(c) for c in document["stages"]),
        ref=Ref.from_json(document["ref"]) if document["ref"] else None,
        weights=tensors("model") if "model" in has else {},
        state=State(tensors=tensors("state"), meta=document["state_meta"]) if "state" in has else None,
        mask=tensors("mask") if "mask" in has else None,
        certificate=document["certificate"],
        proof=tensors("proof") if "proof" in has else {},
        artifacts={**document["artifacts"], **(tensors("artifacts") if "artifacts" in has else {})},
        warnings=tuple(document["warnings"]),
        weights_sha256=document["weights_sha256"],
    )


def _cost_json(cost: PhaseCost) -> dict[str, Any]:
    return {**asdict(cost), "rows_read": dict(cost.rows_read)}


def _cost(document: Mapping[str, Any]) -> PhaseCost:
    return PhaseCost(**document)
