"""Lists of ids and of edges in files of one's own, which requests name."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unlearnbench.api.errors import DataError


def ids_in(name: str, base: Path | None) -> list[int]:
    """The numbers in a file, one in a line.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    try:
        return [int(line) for line in _text(name, base).split()]
    except ValueError as problem:
        raise DataError("bad-ids", f"{problem}", where=name, hint="one whole number in a line") from problem


def pairs_in(name: str, base: Path | None) -> Tensor:
    """The pairs of numbers [k, 2] in a file, two in a line with a comma or blanks between them.

    Raises:
        DataError: it cannot be read, or holds anything else.
    """
    hint = "two whole numbers in a line and no heading, such as 3,14"
    text = _text(name, base)
    if not text.strip():
        raise DataError("empty-forget-set", "holds no edges", where=name, hint=hint)
    try:
        found = np.loadtxt(StringIO(text.replace(",", " ")), dtype=np.int64, ndmin=2, comments=None)
    except ValueError as problem:
        raise DataError("bad-ids", str(problem).partition(";")[0], where=name, hint=hint) from problem
    if found.shape[1] != 2:
        raise DataError("bad-ids", f"there are lines of {found.shape[1]} numbers", where=name, hint=hint)
    return torch.from_numpy(found)


def _text(name: str, base: Path | None) -> str:
    try:
        return ((base or Path()) / name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise DataError("missing-file", f"cannot read {name}: {cause}", where="$.request.file",
                        hint="check the path")  from problem  # fmt: skip
