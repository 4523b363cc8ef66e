"""What is read from strangers' files, within limits, and how documents and tensors are put into bytes for a digest."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unlearnbench_verifier.findings import Unreadable

MOST_BYTES = 64 * 2**20
"""Of a JSON document."""
MOST_HEADER = 16 * 2**20
"""Bytes of the header of a tensor file; that of a network of ten thousand layers has a quarter of it."""
MOST_NUMBERS = 2**28
"""In one sample."""
MOST_DEPTH = 64
"""Levels of a JSON document."""
MOST_VALUES = 4_000_000
"""In a JSON document; each takes many times the bytes that it has in the file."""
MOST_INTEGER = 2**53 - 1
"""The largest whole number that every reader of JSON takes for the same."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}
"""What a tensor file may hold, and how it is stored; numpy has no bfloat16, so its bits are read as whole numbers."""


@dataclass(frozen=True, eq=False)
class TensorFile:
    """What a safetensors file holds. BF16 comes as float32, which loses nothing."""

    tensors: Mapping[str, np.ndarray[Any, Any]]
    dtypes: Mapping[str, str]
    """Of each tensor, as the file says it: F32, U8, ..."""
    metadata: Mapping[str, str]

    def raw(self, name: str) -> bytes:
        """The little-endian bytes of a tensor as they stand in the file."""
        values, dtype = self.tensors[name], self.dtypes[name]
        if dtype == "BF16":
            return (np.ascontiguousarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
        return values.astype(DTYPES[dtype], copy=False).tobytes()


def read_bytes(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """All of a file.

    Raises:
        Unreadable: no such file, or more than ``most_bytes``, found before it is read.
    """
    with _opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > most_bytes:
            raise Unreadable("too-large", f"has {size} bytes, more than the {most_bytes} allowed", where=str(path))
        return handle.read(most_bytes)


# -- JSON --------------------------------------------------------------------------------------------------------------


def read_json(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Any:
    """Read a JSON document from a file.

    Raises:
        Unreadable: no such file, more than ``most_bytes`` (found before it is read), or what ``load_json`` refuses.
    """
    return load_json(read_bytes(path, most_bytes), where=str(path))


def load_json(content: str | bytes, *, where: str = "") -> Any:
    """Parse JSON strictly: UTF-8, each key once, bounded depth, finite numbers, integers that every reader agrees on.

    Raises:
        Unreadable: ``bad-json``, with what is wrong.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        _check_extent(text)
        document = json.loads(
            text, parse_constant=_constant, parse_float=_finite, parse_int=_integer, object_pairs_hook=_unique
        )
        if re.search(r"\\u[dD][89a-fA-F]", text):
            canonical(document)  # half of a surrogate pair is no character
    except UnicodeError:
        raise Unreadable("bad-json", "is not UTF-8 text", where=where) from None
    except json.JSONDecodeError as problem:
        message = f"is not JSON, or only a part of it: {problem.msg} at line {problem.lineno} column {problem.colno}"
        raise Unreadable("bad-json", message, where=where) from None
    except ValueError as problem:
        raise Unreadable("bad-json", str(problem), where=where) from None
    return document


def _check_extent(text: str) -> None:
    """Refuse too many levels or values before parsing, which recurses; right for as far as a parser could get."""
    plain = text.replace("\\\\", "").replace('\\"', "")
    outside = "".join(plain.split('"')[::2])
    if sum(map(outside.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"has more than {MOST_VALUES} values")
    brackets = np.frombuffer(outside.encode("utf-8", "replace").translate(None, _NO_BRACKETS), dtype=np.uint8)
    steps = np.where((brackets == ord("[")) | (brackets == ord("{")), 1, -1)
    if np.cumsum(steps).max(initial=0) > MOST_DEPTH:
        raise ValueError(f"is nested more than {MOST_DEPTH} levels deep")


_NO_BRACKETS = bytes(code for code in range(256) if chr(code) not in "[]{}")


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _integer(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MOST_INTEGER:
        raise ValueError(f"{text[:40]} is too large for a whole number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"key {name[:80]!r} stands twice")
        found[name] = value
    return found


# -- tensors -----------------------------------------------------------------------------------------------------------


def read_tensors(path: str | os.PathLike[str]) -> TensorFile:
    """Read a safetensors file: every tensor within the file, none over another, no byte that belongs to none.

    Raises:
        Unreadable: no such file, or ``bad-tensors`` with what is wrong and the tensor that it is wrong with.
    """
    where = str(path)
    with _opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        length = int.from_bytes(handle.read(8), "little") if size >= 8 else -1
        if length < 0 or length > min(MOST_HEADER, size - 8):
            said = "is shorter than its header says" if length <= MOST_HEADER else f"has a header of {length} bytes"
            raise Unreadable("bad-tensors", said, where=where, hint="give a safetensors file")
        header = load_json(handle.read(length), where=where)
        body = memoryview(handle.read())
    if not isinstance(header, dict):
        raise Unreadable("bad-tensors", "has a header that is no object", where=where)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Unreadable("bad-tensors", "has metadata that is not text", where=where)
    spans: list[tuple[int, int, str]] = []
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, entry in header.items():
        start, end = _span(name, entry, len(body), where)
        spans.append((start, end, name))
        tensors[name] = _tensor(name, entry, body[start:end], where)
    _check_no_gaps(spans, len(body), where)
    return TensorFile(tensors, {name: entry["dtype"] for name, entry in header.items()}, metadata)


def _span(name: str, entry: Any, size: int, where: str) -> tuple[int, int]:
    """Where the bytes of a tensor are, after every doubt about its entry in the header."""

    def refuse(message: str) -> Unreadable:
        return Unreadable("bad-tensors", f"tensor {name[:80]!r} {message}", where=where)

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise refuse("needs dtype, shape and data_offsets, and nothing else")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
        raise refuse(f"is {str(entry['dtype'])[:20]!r}, which is none of {', '.join(DTYPES)}")
    if not _are_counts(shape) or len(shape) > 32:
        raise refuse("has a shape that is none")
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size:
        raise refuse("does not lie within the file")
    start, end = offsets
    if math.prod(shape) * DTYPES[entry["dtype"]].itemsize != end - start:
        raise refuse(f"has {end - start} bytes, which do not make {entry['dtype']} of shape {shape}")
    return start, end


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _tensor(name: str, entry: Mapping[str, Any], content: memoryview, where: str) -> np.ndarray[Any, Any]:
    dtype = entry["dtype"]
    if dtype == "BOOL" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
        raise Unreadable("bad-tensors", f"tensor {name[:80]!r} has truth values beside 0 and 1", where=where)
    values = np.frombuffer(content, DTYPES[dtype])
    if dtype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
        values.flags.writeable = False
    try:
        return values.reshape(entry["shape"])
    except ValueError:  # nothing in it, and more of the other dimensions than there are addresses
        message = f"tensor {name[:80]!r} has a shape that is none: {entry['shape']}"
        raise Unreadable("bad-tensors", message, where=where) from None


def _check_no_gaps(spans: Iterable[tuple[int, int, str]], size: int, where: str) -> None:
    reached = 0
    for start, end, name in sorted(spans):
        if start != reached:
            said = "lies over another" if start < reached else "leaves bytes before it that belong to none"
            raise Unreadable("bad-tensors", f"tensor {name[:80]!r} {said}", where=where)
        reached = end
    if reached != size:
        raise Unreadable("bad-tensors", f"ends with {size - reached} bytes that belong to no tensor", where=where)


# -- samples -----------------------------------------------------------------------------------------------------------


def read_sample(path: str | os.PathLike[str]) -> np.ndarray[Any, Any]:
    """One sample from a .npy file of float32 or float64 of any shape, as float32 [d].

    Raises:
        Unreadable: no such file, not such an array, or a number that is not finite as float32.
    """
    with _opened(path):
        pass
    try:
        # Mapped, so that a header which promises terabytes is held against the length of the file and not allocated.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError, SyntaxError) as problem:
        raise Unreadable("bad-sample", f"is no .npy array: {problem}", where=str(path)) from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise Unreadable("bad-sample", "holds several arrays", where=str(path), hint="give one array as .npy")
    if found.dtype.kind != "f" or found.dtype.itemsize not in (4, 8) or not 0 < found.size <= MOST_NUMBERS:
        said = f"holds {found.dtype} of shape {list(found.shape)}"
        raise Unreadable("bad-sample", said, where=str(path), hint="give one sample as float32")
    with np.errstate(over="ignore"):
        sample = np.array(found, dtype="<f4").reshape(-1)
    if not np.isfinite(sample).all():
        raise Unreadable("bad-sample", "holds numbers that are not finite", where=str(path))
    return sample


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file; not a folder, a pipe or a device, which could hold up or never end."""
    try:
        if not Path(path).is_file():
            raise Unreadable("no-file", "is no file", where=str(path), hint="give the path of a file")
        return Path(path).open("rb")
    except (OSError, ValueError) as problem:
        raise Unreadable("no-file", f"cannot be read: {problem}", where=str(path)) from None


# -- digests -----------------------------------------------------------------------------------------------------------


def canonical(document: Any) -> bytes:
    """The one form of a JSON document that digests and signatures are made over.

    Raises:
        ValueError: a number that is not finite, or half of a surrogate pair.
        TypeError: what JSON does not have.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def sha256(*parts: bytes) -> str:
    """Digest of these bytes one after the other, in hex."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def json_digest(document: Any) -> str:
    """Digest of a JSON document."""
    return sha256(canonical(document))


def patched_digest(metadata: Mapping[str, Any], file: TensorFile) -> str:
    """Digest of a patched model: the document in the file's metadata, and every tensor as it is stored."""
    parts = [canonical(metadata)]
    for name in sorted(file.tensors):
        shape = canonical(list(file.tensors[name].shape)).decode()
        parts += [f"|{name}|{file.dtypes[name]}|{shape}|".encode(), file.raw(name)]
    return sha256(*parts)
