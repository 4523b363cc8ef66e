"""The guard around plugins: what they raise is named, what they change is undone, time and memory are measured."""

from __future__ import annotations

import mmap
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import PluginError, UsageError
from unlearnbench.api.runtime import Meter, PhaseCost
from unlearnbench.guard import Clock, deterministic, guarded, restored, time_limit, total_cost

CPU = torch.device("cpu")
Change = Callable[[], Any]
CHANGES: dict[str, Change] = {
    "torch's global random state": lambda: torch.rand(1),
    "numpy's global random state": lambda: np.random.rand(),  # noqa: NPY002 - it is what is guarded
    "random's global state": random.random,
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's gradient mode": lambda: torch.set_grad_enabled(False),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's deterministic algorithms": lambda: torch.set_deterministic_debug_mode("error"),
    "torch's cudnn benchmark": lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
}


def state() -> tuple[Any, ...]:
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state(legacy=False)),  # noqa: NPY002
        random.getstate(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.backends.cudnn.benchmark,
    )


def seed_and_raise() -> None:
    torch.manual_seed(3)
    raise ValueError("no rows")


def draw_twice() -> None:
    random.random()
    torch.rand(1)


def never_return() -> None:
    while True:
        pass


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_global_state_is_named_and_undone(what: str) -> None:
    before = state()
    with pytest.raises(PluginError, match=f"changed {what}") as caught, guarded("unlearner x"):
        CHANGES[what]()
    assert (caught.value.code, caught.value.where) == ("broken-contract", "unlearner x")
    assert state() == before


def test_several_changes_are_all_named() -> None:
    with pytest.raises(PluginError) as caught, guarded("unlearner x"):
        draw_twice()
    assert "torch's global random state, random's global state" in caught.value.message


def test_state_is_restored_also_when_the_plugin_raises() -> None:
    before = state()
    with pytest.raises(PluginError, match="ValueError: no rows") as caught, guarded("unlearner x"):
        seed_and_raise()
    assert caught.value.code == "plugin-raised"
    assert state() == before


def test_a_write_into_shared_data_is_named() -> None:
    shared, own = torch.ones(3), torch.ones(3)
    with guarded("measure x", (shared,)):
        own.add_(1)
        shared.sum()
    with pytest.raises(PluginError, match="changed shared data"), guarded("measure x", (shared,)):
        shared[0] = 5


def test_a_plugin_cannot_end_the_process_but_a_user_can() -> None:
    with pytest.raises(PluginError, match="SystemExit"), guarded("unlearner x"):
        raise SystemExit(0)
    with pytest.raises(KeyboardInterrupt), guarded("unlearner x"):
        raise KeyboardInterrupt


def test_an_error_of_the_host_keeps_its_code_and_gets_a_place() -> None:
    with pytest.raises(UsageError) as caught, guarded("dataset x"):
        raise UsageError("bad-parameter", "is odd")
    assert (caught.value.code, caught.value.where) == ("bad-parameter", "dataset x")
    with pytest.raises(UsageError) as caught, guarded("dataset x"):
        raise UsageError("bad-parameter", "is odd", where="x.rows")
    assert caught.value.where == "x.rows"


@pytest.mark.parametrize("what", ["torch's global random state", "torch's default dtype"])
def test_an_import_may_change_state_but_it_is_put_back(what: str) -> None:
    before = state()
    with restored():
        CHANGES[what]()
        assert state() != before
    assert state() == before


def test_runs_are_deterministic_and_the_flags_come_back() -> None:
    before = state()
    threads = torch.get_num_threads() + 1
    with deterministic(threads):
        assert torch.get_num_threads() == threads
        assert torch.get_deterministic_debug_mode() == 1
        assert not torch.backends.cudnn.benchmark
    assert state() == before


def test_a_time_limit_stops_code_that_never_returns() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    started = time.perf_counter()
    with pytest.raises(PluginError) as caught, time_limit(0.1):
        never_return()
    assert (caught.value.code, caught.value.exit_code) == ("budget-exceeded", 4)
    assert 0.1 <= time.perf_counter() - started < 2
    assert signal.getsignal(signal.SIGALRM) is handler


def test_work_within_its_limit_is_left_alone_and_no_alarm_is_left() -> None:
    with time_limit(0.1):
        pass
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    time.sleep(0.15)


def test_outside_the_main_thread_there_is_no_alarm_to_set() -> None:
    reached: list[str] = []

    def work() -> None:
        with time_limit(0.01):
            reached.append("inside")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == ["inside"]


def test_the_clock_measures_time_memory_and_rows() -> None:
    meter = Meter()
    size = 200 * 2**20
    # Mapped, because an allocator may serve any size from memory that the process has already.
    with Clock(meter, CPU) as clock, mmap.mmap(-1, size) as block:
        meter.rows["retain"] += 7
        block[::4096] = b"x" * (size // 4096)
        time.sleep(0.3)
    with Clock(Meter(), CPU) as idle:
        pass
    assert 0.2 <= clock.cost.wall_s < 5
    assert clock.cost.cpu_s < clock.cost.wall_s
    assert 150 < clock.cost.peak_memory_mb < 1000
    assert clock.cost.rows_read == {"retain": 7}
    assert idle.cost.wall_s < 0.2
    assert idle.cost.rows_read == {}


def test_phases_add_up_and_memory_is_the_largest() -> None:
    total = total_cost([PhaseCost(1, 2, 30, {"retain": 5}), PhaseCost(0.5, 1, 20, {"retain": 1, "forget": 2})])
    assert total == PhaseCost(1.5, 3, 30, {"retain": 6, "forget": 2})
