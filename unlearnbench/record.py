"""The record of a run: everything that was resolved, computed and read, as one validated document."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnbench.api.errors import DataError
from unlearnbench.identity import canonical_json
from unlearnbench.schemas import MAX_BYTES, read_document, validate

if TYPE_CHECKING:  # what only reads records does without torch: half a gigabyte in each process of many
    from unlearnbench.api.runtime import Reading

SCHEMA = "https://unlearnbench.org/schemas/run-record/1.json"
RECORD = "record.json"
PREDICTIONS = "predictions.npz"
PROOFS = "proofs.safetensors"
"""Weights and tensors by which certificates can be verified."""
ARTIFACTS = "artifacts.safetensors"
"""What the unlearner left to be taken away."""
SEALED_BY = "seal"
"""The property with the digest of all others, in records that keep proofs."""
MLFLOW_COPIES = "mlartifacts"
"""Folder beside the records in which MLflow keeps its copies of them."""


@dataclass(frozen=True)
class Record:
    """A run's record: the document and the folder that it lies in."""

    document: Mapping[str, Any]
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / RECORD

    @property
    def status(self) -> str:
        return str(self.document["status"])

    @property
    def unlearner(self) -> str:
        return str(self.document["spec"]["unlearner"]["name"])

    @property
    def readings(self) -> list[Mapping[str, Any]]:
        return list(self.document["readings"])

    def value(self, key: str, subject: str = "unlearned") -> float | None:
        """A reading's value by its flat name, such as ``accuracy.forget``; None when there is none.

        Raises:
            KeyError: the run has no such reading.
        """
        for reading in self.document["readings"]:
            if reading["key"] == key and reading["subject"] == subject:
                value = reading["value"]
                return None if value is None else float(value)
        raise KeyError(key)


def reading_json(reading: Reading, measure: str, gold: Mapping[str, Reading]) -> dict[str, Any]:
    """A reading as the record keeps it, with its signed gap to gold and what the intervals say of it."""
    aim = gold.get(reading.key) if reading.subject != "gold" else None
    known = aim is not None and aim.value is not None and reading.value is not None
    return {
        "measure": measure,
        "subject": reading.subject,
        "key": reading.key,
        "name": reading.name,
        "split": reading.split,
        "at": dict(sorted(reading.at.items())),
        "value": None if reading.value is None else float(reading.value),
        "gap": float(reading.value) - float(aim.value) if known else None,  # type: ignore[arg-type, union-attr]
        "interval": None if reading.low is None or reading.high is None else [float(reading.low), float(reading.high)],
        "verdict": None if aim is None else verdict(reading, aim),
        "n": reading.n,
        "better": reading.better,
        "unit": reading.unit,
        "status": reading.status,
    }


def verdict(reading: Reading, gold: Reading) -> str | None:
    """Where a reading lies as far as both intervals tell: like gold, above gold or below gold.

    The interval of the difference is recovered from the two intervals (Zou and Donner 2008, equation 9); the reading is
    like gold where it holds 0. Far below is as bad as far above: what was over-forgotten leaks too.
    """
    ends = (reading.value, reading.low, reading.high, gold.value, gold.low, gold.high)
    if any(end is None for end in ends):
        return None
    value, low, high, aim, aim_low, aim_high = (float(end) for end in ends if end is not None)
    gap = value - aim
    if gap - math.hypot(value - low, aim_high - aim) > 0:
        return "above gold"
    if gap + math.hypot(high - value, aim - aim_low) < 0:
        return "below gold"
    return "like gold"


def controls(readings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How original (the identity control) and gold bound each reading of the unlearned model.

    ``separates`` says whether the measure tells original from gold at all in this run; where it does not, the reading
    says little about forgetting.
    """
    by_place = {(r["subject"], r["measure"], r["key"]): r["value"] for r in readings}
    found = []
    for reading in readings:
        if reading["subject"] != "unlearned" or reading["at"].get("class"):
            continue
        place = (reading["measure"], reading["key"])
        original, gold = by_place.get(("original", *place)), by_place.get(("gold", *place))
        if original is None or gold is None:
            continue
        found.append(
            {
                "measure": reading["measure"],
                "key": reading["key"],
                "original": original,
                "gold": gold,
                "separates": original != gold,
            }
        )
    return found


def content_digest(document: Mapping[str, Any]) -> str:
    """sha256 over what must be the same on every repetition: no times, no costs, no environment.

    Readings of measures that read the clock, the scenario's name and a checkpoint's file name are left out.
    """
    spec = {k: v for k, v in document["spec"].items() if k not in ("scenario", "$schema", "checkpoint")}
    spec["checkpoint"] = (document["spec"]["checkpoint"] or {}).get("sha256")
    measures = {m["name"]: m["status"] for m in document["measures"] if not m["timed"]}
    readings = [r for r in document["readings"] if r["measure"] in measures]
    content = canonical_json(
        {
            "spec": spec,
            "status": document["status"],
            "data": {part: document["data"][part] for part in ("train", "validation", "test")},
            "requests": document["requests"],
            "models": {name: [m["sha256"] for m in found] for name, found in document["models"].items()},
            "predictions": document["predictions"],
            "measures": measures,
            "readings": readings,
            **{name: document[name] for name in ("proofs", "artifacts") if name in document},
        }
    )
    return hashlib.sha256(content).hexdigest()


def seal(document: Mapping[str, Any]) -> str:
    """sha256 over the whole record, with times, costs and environment; only the seal itself is left out.

    No repetition gives the same: it tells whether this very record says what it said when it was written.
    """
    return hashlib.sha256(canonical_json({k: v for k, v in document.items() if k != SEALED_BY})).hexdigest()


def write_record(folder: Path, document: Mapping[str, Any], files: Mapping[str, bytes]) -> Record:
    """Validate a record and write it with the files beside it; ``record.json`` comes last and atomically.

    Raises:
        DataError: the folder cannot be written.
        UsageError: the document is not a valid record (a bug of the host, caught before anything is written).
    """
    validate(document, "run-record", where="record")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            _write(folder / name, content)
        text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
        _write(folder / RECORD, text.encode())
    except OSError as problem:
        from unlearnbench.store import cannot_write

        raise cannot_write(folder, problem) from problem
    return Record(document, folder)


def _write(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_record(path: Path) -> Record:
    """Read and validate a record (a ``record.json`` or the folder that holds one).

    Raises:
        DataError: it cannot be read.
        UsageError: it is not valid.
    """
    path = path / RECORD if path.is_dir() else path
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise cannot_read(path, problem) from problem
    return Record(read_document(text, "run-record", where=str(path)), path.parent)


def find_records(folder: Path) -> list[Path]:
    """Every ``record.json`` below a folder, sorted; the copies that MLflow keeps there are not records of their own."""
    return sorted(path for path in folder.rglob(RECORD) if MLFLOW_COPIES not in path.relative_to(folder).parts)


def records_at(path: Path) -> list[Path]:
    """What an argument of a command means: a file itself, or every record below a folder."""
    return find_records(path) if path.is_dir() else [path]


def verify_record(record: Record) -> None:
    """Recompute what can be recomputed from a record's folder: its digest and those of the files beside it.

    Raises:
        DataError: a digest differs, or a file is missing.
    """
    verify_document(record)
    verify_file(record, PROOFS, record.document.get("proofs"))
    verify_file(record, ARTIFACTS, record.document.get("artifacts"))
    verify_predictions(record)


def verify_document(record: Record) -> None:
    """Hold a record to its own digest, and to its seal if it has one.

    Raises:
        DataError: it says something else than when it was written.
    """
    where = str(record.path)
    if content_digest(record.document) != record.document["digest"]:
        raise DataError("wrong-digest", "its digest does not match its content", where=where, hint="it was changed")
    if SEALED_BY in record.document and seal(record.document) != record.document[SEALED_BY]:
        raise DataError("wrong-digest", "its seal does not match its content", where=where, hint="it was changed")


def verify_predictions(record: Record) -> None:
    """Hold the predictions beside a record to the digest that it states, if it has any.

    Raises:
        DataError: they are missing, unreadable or others.
    """
    if record.document["predictions"] is None:
        return
    try:
        with (record.folder / PREDICTIONS).open("rb") as stream:  # np.load leaves a file that it cannot read open
            arrays = np.load(stream, allow_pickle=False)
            if not isinstance(arrays, Mapping):
                raise ValueError("holds a single array")
            found = arrays_digest(arrays)
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as problem:
        raise DataError("unreadable-file", str(problem), where=str(record.folder / PREDICTIONS)) from problem
    if found != record.document["predictions"]:
        raise DataError("wrong-digest", "predictions do not match the record", where=str(record.path))


def verify_file(record: Record, name: str, sha256: str | None) -> None:
    """Hold a file beside a record to the sha256 that the record states; None states nothing.

    Raises:
        DataError: it is missing, or another one.
    """
    path = record.folder / name
    if sha256 is None:
        return
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as problem:
        raise cannot_read(path, problem) from problem
    if found != sha256:
        raise DataError("wrong-digest", "is not the file that the record was written with", where=str(path))


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """sha256 over named arrays: names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def cannot_read(path: Path, problem: Exception) -> DataError:
    """The error for a record that is not there or not text."""
    cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return DataError("missing-file", f"cannot be read: {cause}", where=str(path))


def pack_arrays(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as compressed npz, the same bytes for the same arrays."""
    stream = io.BytesIO()
    np.savez_compressed(stream, **dict(sorted(arrays.items())))
    return stream.getvalue()
