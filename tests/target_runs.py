"""Runs that forget one target of a scenario, judged without training gold: for thresholds that gold has no part in."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearnbench.api.runtime import SUBJECTS, Measure, Reading, Subject
from unlearnbench.config import combine
from unlearnbench.evidence import RunEvidence
from unlearnbench.guard import deterministic
from unlearnbench.parameters import resolve_parameters
from unlearnbench.phases import Phases
from unlearnbench.registry import registry
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Store

MEASURE = "per-target"


def kept() -> Path:
    """The store of slow tests, which outlives them: what was trained once is read the next time."""
    named = os.environ.get("UNLEARNBENCH_SLOW_STORE")
    return Path(named) if named else Path(__file__).resolve().parent.parent / "build" / "slow-store"


@functools.cache
def stages(store: Path) -> Stages:
    """As one invocation has it: data, models and predictions are shared by all that ask."""
    return Stages(registry(), Store(store), Phases(registry()))


def spec(scenario: str, target: str, unlearner: str = "essential-graph", seed: int = 0, **params: Any) -> RunSpec:
    """The run of a scenario that forgets this target instead of its own, with parameters of the unlearner."""
    choices = {
        "scenario": scenario,
        "unlearners": [unlearner],
        "forget": [{"kind": "target", "targets": target.split(",")}],
        "seeds": [seed],
    }
    settings = {f"{unlearner}.{name}": value for name, value in params.items()}
    (found,) = combine(None, choices, settings, registry()).specs
    return found


@dataclass(frozen=True)
class Judged:
    """Readings by key, such as ``target-recall.test.target=cross``, of each subject that was asked for."""

    values: Mapping[Subject, Mapping[str, float | None]]
    targets: tuple[str, ...]
    """Names of all targets."""
    forgotten: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.targets if name not in self.forgotten)

    def of(self, name: str, target: str, subject: Subject = "unlearned") -> float:
        """A reading of a target on the test rows."""
        value = self.values[subject][f"{name}.test.target={target}"]
        assert value is not None, (name, target, subject)
        return value

    def all(self, name: str, targets: Iterable[str], subject: Subject = "unlearned") -> list[float]:
        return [self.of(name, target, subject) for target in targets]


def judged(run: RunSpec, store: Path | None = None, subjects: Sequence[Subject] = SUBJECTS) -> Judged:
    """What ``per-target`` says of these subjects; gold is trained only if it is among them."""
    made = stages(store or kept())
    component = made.registry.get("measure", MEASURE)
    measure: Measure = component.cls(resolve_parameters(component.spec.params, {}, where=MEASURE))
    reads = component.spec.reads  # type: ignore[attr-defined]
    values: dict[Subject, dict[str, float | None]] = {}
    with deterministic(run.threads):
        scene = made.scene(run)
        for subject in subjects:
            readings: Iterable[Reading] = measure.measure(RunEvidence(made, run, 0, subject, MEASURE, reads))
            values[subject] = {reading.key: reading.value for reading in readings}
    names = scene.splits.train.outputs
    return Judged(values, names, tuple(names[k] for k in scene.parts[0].request.targets))
