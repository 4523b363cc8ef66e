"""Named arrays of strangers: safetensors whose header is checked, in bounded memory, before anything is made of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as as_arrays

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.plugins import printable
from unlearnbench.schemas import load_json

if TYPE_CHECKING:
    from torch import Tensor

MOST_HEADER_BYTES = 2**20
MOST_NAME = 256
MOST_AXES = 8
BITS = {"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "I64": 64, "I32": 32, "U8": 8, "BOOL": 8}
OUTPUTS = frozenset({"F16", "F32"})
"""Kinds of numbers that outputs of models may have."""
WEIGHTS = frozenset(BITS)
_OTHERS = re.compile(rb"\x80[\x00-\x05]|PK\x03\x04|\x1f\x8b|\x93NUMPY")


def read_tensors(data: bytes, where: str, *, most: int, kinds: frozenset[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Arrays by name from the bytes of a safetensors file with at most ``most`` of them; they cannot be written to.

    Raises:
        DataError: it is no safetensors file, or has what is not allowed.
    """
    _check_header(data, where, most, kinds)
    try:
        return dict(as_arrays.load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise _refused(printable(str(problem)), where) from problem


def read_weights(data: bytes, where: str, *, most: int) -> dict[str, Tensor]:
    """A network's weights and buffers by name.

    Raises:
        DataError: as ``read_tensors``.
    """
    from safetensors import torch as as_weights

    _check_header(data, where, most, WEIGHTS)
    try:
        return dict(as_weights.load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as problem:
        raise _refused(printable(str(problem)), where) from problem


def write_tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """Arrays as safetensors: the same bytes for the same arrays, no metadata."""
    return bytes(as_arrays.save({name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}))


def _check_header(data: bytes, where: str, most: int, kinds: frozenset[str]) -> None:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not length or length > len(data) - 8 or data[8:9] != b"{":
        seems = "a pickle, an archive or an npy file" if _OTHERS.match(data) else "something else"
        raise _refused(f"is no safetensors file; by its first bytes it is {seems}", where)
    if length > MOST_HEADER_BYTES:
        raise _refused(f"has a header of more than {MOST_HEADER_BYTES >> 20} MiB", where)
    try:
        header = load_json(data[8 : 8 + length].decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise _refused("its header is not text", where) from problem
    except UsageError as problem:
        raise _refused(f"its header {printable(problem.message)}", where) from problem
    if len(header) > most:
        raise _refused(f"has {len(header)} arrays; {most} are allowed", where)
    end = 0
    for name, tensor in sorted(header.items(), key=_place):
        end = _checked_end(name, tensor, end, where, kinds)
    if end != len(data) - 8 - length:
        raise _refused(f"describes {end} bytes and has {len(data) - 8 - length}", where)


def _place(item: tuple[str, Any]) -> tuple[int, int]:
    """Where an array begins and ends; what does not say so comes first, and is refused there."""
    match item[1]:
        case {"data_offsets": [int(begin), int(end)]}:
            return begin, end
    return -1, -1


def _checked_end(name: str, tensor: Any, begin: int, where: str, kinds: frozenset[str]) -> int:
    """The end of an array that begins where the one before it ended.

    Raises:
        DataError: it does not, or its description is not one of an array.
    """
    label = f"array {printable(name)[:60]!r}"
    if not name or len(name) > MOST_NAME or not name.isprintable() or name == "__metadata__":
        raise _refused(f"{label} has a name that is not allowed", where)
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise _refused(f"{label} is not described by dtype, shape and data_offsets", where)
    kind, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(kind, str) or kind not in kinds:
        raise _refused(f"{label} is of kind {printable(str(kind))[:20]}, not {', '.join(sorted(kinds))}", where)
    if not _are_counts(shape) or len(shape) > MOST_AXES or not _are_counts(offsets) or len(offsets) != 2:
        raise _refused(f"{label} has no shape or place", where)
    if offsets[0] != begin:
        raise _refused(f"{label} overlaps another, or leaves a gap", where)
    if offsets[1] - begin != math.prod(shape) * BITS[kind] // 8:
        raise _refused(f"{label} has other bytes than its shape needs", where)
    return int(offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48 for value in values
    )


def _refused(message: str, where: str) -> DataError:
    return DataError("bad-tensors", message, where=where, hint="write it with: unlearnbench leaderboard bundle")
