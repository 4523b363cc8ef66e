"""Identity: canonical JSON (RFC 8785) and sha256. What is hashed is what was resolved, never a pickle or a repr."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rfc8785


def canonical(document: Any) -> bytes:
    """RFC 8785 bytes of a JSON document; refuses NaN, infinities and integers that JSON cannot carry."""
    return rfc8785.dumps(document)


def digest(document: Any) -> str:
    """sha256 over the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tensors_digest(tensors: Mapping[str, Any]) -> str:
    """sha256 over named tensors: names, types, shapes and bytes, independent of their order."""
    import torch

    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def short(digests: Iterable[str]) -> str:
    """One digest over several, for keys that depend on a list."""
    return digest(list(digests))
