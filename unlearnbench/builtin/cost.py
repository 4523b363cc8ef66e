"""What a run costs: time and memory of each phase, measured alone; FLOPs and energy, each in a pass of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from torch.utils.flop_counter import FlopCounterMode

from unlearnbench.api import NoParams, UsageError
from unlearnbench.api.runtime import Component, Evidence, PhaseCost, Reading

PHASES = {"original": ("train",), "gold": ("train-gold",), "unlearned": ("prepare", "unlearn")}
"""The phases that make each subject."""
JOULES = 3.6e6
"""In a kilowatt-hour."""


class RunCost(Component[NoParams]):
    """What the subject cost to make: training for original and gold, preparing and unlearning for the unlearned."""

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        parts = [evidence.cost[phase] for phase in _phases(evidence)]
        if not parts:
            yield Reading("wall-time", None, 0, better="lower", unit="s", status="not trained here")
            return
        yield Reading("wall-time", sum(p.wall_s for p in parts), 1, better="lower", unit="s")
        yield Reading("cpu-time", sum(p.cpu_s for p in parts), 1, better="lower", unit="s")
        yield Reading("peak-memory", max(p.peak_memory_mb for p in parts), 1, better="lower", unit="MB")
        yield Reading("rows-read", float(_rows(parts)), 1, better="lower", unit="rows")
        gold = evidence.cost.get("train-gold")
        spent = sum(p.cpu_s for p in parts)
        if evidence.subject == "unlearned" and gold is not None and spent > 0:
            yield Reading("speed-up", gold.cpu_s / spent, 1, better="higher", unit="x")


def _phases(evidence: Evidence) -> list[str]:
    return [phase for phase in PHASES[evidence.subject] if phase in evidence.cost]


def _rows(parts: Sequence[PhaseCost]) -> int:
    return sum(n for p in parts for n in p.rows_read.values())


class Flops(Component[NoParams]):
    """Floating-point operations of the phases that made the subject: the same on every machine.

    torch.utils.flop_counter counts matrix products and convolutions, forward and backward, while the phase is carried
    out once more; elementwise work is not counted.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        phases = _phases(evidence)
        if not phases:
            yield Reading("flops", None, 0, better="lower", unit="FLOP", status="not trained here")
            return
        spent = sum(evidence.observe(phase, counted) for phase in phases)
        yield Reading("flops", float(spent), 1, better="lower", unit="FLOP")
        if evidence.subject == "unlearned":
            gold = evidence.observe("train-gold", counted)
            status = "ok" if spent else "nothing was computed"
            ratio = gold / spent if spent else None
            yield Reading("flops-saved", ratio, 1, better="higher", unit="x", status=status)


def counted(run: Callable[[], None]) -> int:
    """Floating-point operations of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


class Energy(Component[NoParams]):
    """Energy that the phases took, as codecarbon reads it from the machine while each is carried out once more.

    Where the machine has no meter that may be read, codecarbon estimates from the processor's power rating and its
    load: good for comparing phases on one machine, not for the last joule.
    """

    def __init__(self, p: NoParams) -> None:
        super().__init__(p)
        if find_spec("codecarbon") is None:
            raise UsageError("missing-extra", "energy is measured by codecarbon, which is not installed",
                             where="measure energy", hint="pip install 'unlearnbench[energy]'")  # fmt: skip

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        phases = _phases(evidence)
        if not phases:
            yield Reading("energy", None, 0, better="lower", unit="J", status="not trained here")
            return
        yield Reading("energy", sum(evidence.observe(phase, joules) for phase in phases), 1, better="lower", unit="J")


def joules(run: Callable[[], None]) -> float:
    """Energy that a call takes, of the processor, the memory and a graphics card."""
    with _quiet():
        from codecarbon import OfflineEmissionsTracker

        # The country turns energy into emissions, which are not read.
        tracker = OfflineEmissionsTracker(
            country_iso_code="SWE", output_methods=[], allow_multiple_runs=True, measure_power_secs=1,
            tracking_mode="process", log_level="critical",
        )  # fmt: skip
        tracker.start()
        try:
            run()
        finally:
            tracker.stop()
    return float(tracker.final_emissions_data.energy_consumed) * JOULES


@contextmanager
def _quiet() -> Iterator[None]:
    """Its messages are about its own set-up."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
