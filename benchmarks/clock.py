"""The clock of the benchmarks: CPU time, which other processes disturb less than time on the wall."""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds that a call takes."""
    gc.collect()
    start = process_time()
    call()
    return process_time() - start
