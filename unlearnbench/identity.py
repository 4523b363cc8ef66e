"""Identity: canonical JSON (RFC 8785) and sha256. What is hashed is what was resolved, never a pickle or a repr."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rfc8785


def canonical(document: Any) -> bytes:
    """RFC 8785 bytes of a JSON document; refuses NaN, infinities and integers that JSON cannot carry."""
    return rfc8785.dumps(document)


def canonical_json(document: Any) -> bytes:
    """``canonical`` of what was parsed from JSON or is about to be written as JSON, in half the time.

    The encoder of the standard library sorts and writes; numbers that it writes in another way than RFC 8785 are put
    right, outside of strings. Documents with anything to escape or beyond ASCII take the usual way.
    """
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if "\\" in text or not text.isascii():
        return canonical(document)
    parts = text.split('"')
    if "N" in (outside := '"'.join(parts[::2])) or "I" in outside:  # NaN and Infinity
        return canonical(document)
    parts[::2] = _STRANGE.sub(_as_rfc8785, outside).split('"')
    return '"'.join(parts).encode()


_STRANGE = re.compile(r"(?<![-\d.])-?\d+(?:(?:\.\d+)?e[-+]\d+|\.0(?!\d)|(?<=\d{15})(?![\d.]))")
"""Numbers that the encoder may write in another way: with an exponent, whole but with a fraction, or long."""


def _as_rfc8785(found: re.Match[str]) -> str:
    return rfc8785.dumps(json.loads(found[0])).decode()


def digest(document: Any) -> str:
    """sha256 over the canonical bytes, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def short(digests: Iterable[str]) -> str:
    """One digest over several, for keys that depend on a list."""
    return digest(list(digests))
