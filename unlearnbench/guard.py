"""What a plugin must leave as it found it: global random state, torch's flags, shared data."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from types import FrameType
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from unlearnbench.api.errors import PluginError, UnlearnBenchError
from unlearnbench.api.runtime import BudgetExceeded, Meter, PhaseCost
from unlearnbench.plugins import described

_FLAGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic algorithms": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "cudnn benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda on: setattr(torch.backends.cudnn, "benchmark", on),
    ),
}


@contextlib.contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """torch's deterministic algorithms and a fixed number of threads for the duration of a run, restored afterwards.

    The number of threads decides the order in which sums are taken, and so the last bits of every result. The
    algorithms are set through the debug mode: ``use_deterministic_algorithms`` imports torch's compiler, which takes
    seconds. Fresh memory is not filled with NaN first, as torch would by default: it costs a percent or two of small
    networks' time.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    mode, before = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # a property that torch's type hints do not know
    fill = memory.fill_uninitialized_memory
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = fill


@dataclass(frozen=True)
class _Snapshot:
    torch_state: Tensor
    numpy_state: Any
    python_state: Any
    flags: dict[str, Any]
    versions: tuple[int, ...]


def _snapshot(shared: tuple[Tensor, ...]) -> _Snapshot:
    return _Snapshot(
        torch.get_rng_state(),
        _numpy_state(),
        random.getstate(),
        {name: read() for name, (read, _) in _FLAGS.items()},
        tuple(tensor._version for tensor in shared),
    )


def _numpy_state() -> tuple[Any, bytes, int]:
    """The legacy global state, to restore and to compare."""
    state: Any = np.random.get_state()  # noqa: NPY002 - the legacy state is what is guarded
    return state, state[1].tobytes(), int(state[2])


@contextlib.contextmanager
def guarded(where: str, shared: tuple[Tensor, ...] = (), doing: str = "") -> Iterator[None]:
    """Check and restore global state around a call into a plugin; turn what it raises into a ``PluginError``.

    ``doing`` says what the plugin was about when that matters, such as a phase and its seed.

    Raises:
        PluginError: it raised, changed global random state or a flag, or wrote into shared data.
    """
    before = _snapshot(shared)
    try:
        yield
    except UnlearnBenchError as problem:
        problem.where = problem.where or where
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # SystemExit too: a plugin must not end the host
        message = f"{doing}: {described(problem)}" if doing else described(problem)
        raise PluginError("plugin-raised", message, where=where) from problem
    finally:
        changed = _differences(before, _snapshot(shared))
        _restore(before)
    if changed:
        raise PluginError(
            "broken-contract", f"changed {', '.join(changed)}", where=where,
            hint="draw from job.rng(...), wrap code that needs global state in local_rng, copy before writing",
        )  # fmt: skip


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore global random state and flags after an import: some libraries seed or switch something on the way."""
    before = _snapshot(())
    try:
        yield
    finally:
        _restore(before)


def _differences(before: _Snapshot, after: _Snapshot) -> list[str]:
    found = []
    if not torch.equal(before.torch_state, after.torch_state):
        found.append("torch's global random state")
    if before.numpy_state[1:] != after.numpy_state[1:]:
        found.append("numpy's global random state")
    if before.python_state != after.python_state:
        found.append("random's global state")
    found += [f"torch's {name}" for name, value in before.flags.items() if after.flags[name] != value]
    if before.versions != after.versions:
        found.append("shared data")
    return found


def _restore(before: _Snapshot) -> None:
    torch.set_rng_state(before.torch_state)
    np.random.set_state(before.numpy_state[0])  # noqa: NPY002 - as above
    random.setstate(before.python_state)
    for name, (read, write) in _FLAGS.items():
        if read() != before.flags[name]:
            write(before.flags[name])


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Stop code that never reads data again, where the platform can (main thread, Unix)."""
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        raise BudgetExceeded("budget-exceeded", f"ran past its budget of {seconds:g} s", hint="raise --budget")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class Clock:
    """Wall time, CPU time, peak memory and rows read of one phase; read ``cost`` after the ``with`` block."""

    def __init__(self, meter: Meter, device: torch.device) -> None:
        self._meter = meter
        self._device = device
        self.cost = PhaseCost(0, 0, 0)

    def __enter__(self) -> Clock:
        self._synchronise()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._memory = _PeakMemory()
        self._memory.start()
        self._wall, self._cpu = perf_counter(), process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self._synchronise()
        wall, cpu = perf_counter() - self._wall, process_time() - self._cpu
        peak = self._memory.stop()
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device) / 2**20
        self.cost = PhaseCost(round(wall, 6), round(cpu, 6), round(peak, 1), dict(self._meter.rows))

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class _PeakMemory(threading.Thread):
    """Samples the resident memory of the process ten times a second; ``stop`` gives the peak above the start in MiB.

    More often would cost the phase percents of its time: each sample takes the interpreter's lock from it.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.1):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def stop(self) -> float:
        self._peak = max(self._peak, self._process.memory_info().rss)
        self._done.set()
        self.join()
        return (self._peak - self._start) / 2**20


def total_cost(costs: Sequence[PhaseCost]) -> PhaseCost:
    """Several phases as one: times and rows add up, memory is the largest peak."""
    rows: Counter[str] = Counter()
    for cost in costs:
        rows.update(cost.rows_read)
    wall, cpu = sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs)
    return PhaseCost(round(wall, 6), round(cpu, 6), max(c.peak_memory_mb for c in costs), dict(rows))


def share_of(cost: PhaseCost, n: int) -> PhaseCost:
    """What one of ``n`` equal parts of a phase cost; memory was used by all of them together."""
    rows = {view: read // n for view, read in cost.rows_read.items()}
    return PhaseCost(round(cost.wall_s / n, 6), round(cost.cpu_s / n, 6), cost.peak_memory_mb, rows)
