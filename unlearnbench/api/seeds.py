"""Seeds are derived by purpose from one root; standard library only."""

from __future__ import annotations

import hashlib


def derive_seed(root: int, *purpose: str) -> int:
    """Derive a 63-bit seed from a root seed and the name of what it is for.

    The sha256 of ``root/purpose/...`` makes streams of different purposes independent and stable across machines.
    """
    text = "/".join((str(root), *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
