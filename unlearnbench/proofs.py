"""The tensors by which certificates are verified, read from the file beside a record, which may be anybody's.

The file is mapped: a header that promises more than there is, places that overlap and numbers of unknown kinds are
refused by safetensors itself, and a tensor takes memory once it is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unlearnbench.plugins import printable

ORIGINAL = "original/"
_SERVED = re.compile(r"(0|[1-9]\d{0,5})/(model|proof)/(.+)", re.ASCII | re.DOTALL)

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Proofs:
    """Weights of the original, and weights and proof after each request."""

    original: Tensors
    models: tuple[Tensors, ...]
    proofs: tuple[Tensors, ...]


def read_proofs(path: Path, requests: int) -> Proofs | str:
    """Everything in a proofs file of a run with so many requests, or what is wrong with the file."""
    original: Tensors = {}
    models: tuple[Tensors, ...] = tuple({} for _ in range(requests))
    proofs: tuple[Tensors, ...] = tuple({} for _ in range(requests))
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            for name in names:
                place = _SERVED.fullmatch(name)
                if name.startswith(ORIGINAL):
                    original[name.removeprefix(ORIGINAL)] = file.get_tensor(name)
                elif place and int(place[1]) < requests:
                    of = models if place[2] == "model" else proofs
                    of[int(place[1])][place[3]] = file.get_tensor(name)
                else:
                    return f"{printable(name)[:60]!r} is the name of nothing in this run"
    except (SafetensorError, OSError, ValueError, RuntimeError) as problem:
        return f"cannot be read as safetensors: {printable(str(problem))}"
    return Proofs(original, models, proofs)
