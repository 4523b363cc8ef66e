"""idx files, packed or not, read into memory as the data sets of torchvision keep them."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from unlearnbench.api import DataError
from unlearnbench.api.runtime import DataJob, require_file
from unlearnbench_scenes.annotated import Array

_UBYTE = b"\x00\x00\x08"

MOST_BYTES = 2**28
"""What a file may hold when it is unpacked."""


def read_idx(job: DataJob, name: str, dimensions: int, hint: str) -> tuple[Array, str]:
    """Read an idx file of unsigned bytes that is there as ``name`` or ``name.gz``; the raw one wins where both are.

    Returns the array of that many dimensions, and the name of the file that was read. Nothing is written.

    Raises:
        DataError: neither file is there, or it is damaged: header and length must agree.
    """
    packed = not (Path(job.root) / name).is_file() and (Path(job.root) / f"{name}.gz").is_file()
    shown = f"{name}.gz" if packed else name
    path = require_file(job, shown, hint)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise DataError("corrupt-file", f"cannot be unpacked: {problem}", where=shown, hint=hint) from problem
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != _UBYTE + bytes([dimensions]):
        message = f"is not an idx file of bytes with {dimensions} dimensions"
        raise DataError("corrupt-file", message, where=shown, hint=hint)
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) > MOST_BYTES or len(content) != start + math.prod(shape):
        found = f"more than {MOST_BYTES}" if len(content) > MOST_BYTES else f"{len(content)}"
        message = f"has {found} bytes, its header promises {start + math.prod(shape)}"
        raise DataError("corrupt-file", message, where=shown, hint=hint)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape), shown
