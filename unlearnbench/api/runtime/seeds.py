"""Seeds by purpose: every random draw has a name, and no draw depends on another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


def derive_seed(root: int, *purpose: str) -> int:
    """Derive a 63-bit seed from a root seed and the name of what it is for.

    The sha256 of ``root/purpose/...`` makes streams of different purposes independent and stable across machines.
    """
    text = "/".join((str(root), *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int) -> Generator:
    """A CPU generator with this seed."""
    return torch.Generator().manual_seed(seed)


@contextmanager
def local_rng(rng: Generator) -> Iterator[None]:
    """Let code that draws from torch's global state (dropout, layer initialisation) draw from ``rng`` instead.

    The global state is seeded from ``rng`` on entry and restored on exit, so nothing leaks to the host.
    """
    seed = int(torch.randint(2**62, (1,), generator=rng, device="cpu"))
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
