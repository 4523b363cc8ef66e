"""Seeds by purpose: every random draw has a name, and no draw depends on another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator, Tensor

from unlearnbench.api.seeds import derive_seed as derive_seed


def generator(seed: int) -> Generator:
    """A CPU generator with this seed."""
    return torch.Generator().manual_seed(seed)


def seed_from(rng: Generator) -> int:
    """A seed in [0, 2^31 - 1), drawn from ``rng``, for what takes no generator."""
    return int(torch.randint(2**31 - 1, (1,), generator=rng))


def numpy_rng(rng: Generator) -> np.random.Generator:
    """A stream of numpy's whose seed is drawn from ``rng``."""
    return np.random.default_rng(seed_from(rng))


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


def drawn_rows(ids: Tensor, n: int, rng: Generator) -> Tensor:
    """Positions [n] of rows drawn without replacement by their ids [m], sorted by id.

    The same rows are drawn in whichever order they come, so that what is computed from them does not depend on it.

    Raises:
        ValueError: there are fewer than ``n`` rows.
    """
    if n > len(ids):
        raise ValueError(f"cannot draw {n} of {len(ids)} rows")
    drawn = torch.randperm(len(ids), generator=rng)[:n].sort().values
    return ids.argsort()[drawn]
