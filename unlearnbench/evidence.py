"""What measures read: models, predictions and costs of one run, each computed once and shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Generator, Tensor, nn

from unlearnbench.api.errors import PluginError
from unlearnbench.api.runtime import PhaseCost, Request, Subject, Task, View, derive_seed, generator
from unlearnbench.guard import total_cost
from unlearnbench.networks import build_network
from unlearnbench.parts import Parts, Selection
from unlearnbench.scenes import Scene
from unlearnbench.spec import RunSpec, Seeds, Subset
from unlearnbench.stages import Stages
from unlearnbench.store import Entry


@dataclass
class RunEvidence:
    """Evidence about one subject after request ``step``. Everything is on the CPU; models are private copies."""

    stages: Stages
    spec: RunSpec
    step: int
    subject: Subject
    measure: str
    reads: Sequence[str]

    @property
    def _scene(self) -> Scene:
        return self.stages.scene(self.spec)

    @property
    def _parts(self) -> Parts:
        return self._scene.parts[self.step]

    @property
    def task(self) -> Task:
        return self._scene.task

    @property
    def request(self) -> Request:
        return self._parts.request

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have rows."""
        return tuple(name for name in ("forget", "retain", "test", "holdout") if len(self._parts.measured[name]))

    def _selection(self, split: str) -> Selection:
        if split == "validation":
            return self._scene.validation
        return self._parts.measured[split]

    def view(self, split: str) -> View:
        """The rows of a split."""
        return self._selection(split).view(split)

    def y(self, split: str) -> Tensor:
        """Annotations of a split, in order."""
        selection = self._selection(split)
        return selection.data.y[selection.index].cpu()

    def _entry(self, subject: Subject | None) -> Entry:
        subject = subject or self.subject
        if subject != self.subject and subject not in self.reads:
            raise PluginError(
                "undeclared-read", f"reads {subject} without declaring it", where=f"measure {self.measure}",
                hint=f"add {subject!r} to reads",
            )  # fmt: skip
        return entry_of(self.stages, self.spec, subject, self.step)

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor:
        """Raw outputs for the rows of a split, computed in evaluation mode, once for all measures."""
        return self.stages.outputs(self._entry(subject), self._selection(split), self._scene)

    def model(self, subject: Subject | None = None) -> nn.Module:
        """A private copy of the model."""
        return self.stages.network(self._entry(subject), self._scene.device)

    def rng(self, purpose: str) -> Generator:
        """A stream for a purpose, the same for every subject."""
        return generator(self._seed(purpose))

    def fresh(self, purpose: str) -> nn.Module:
        """A randomly initialised network of the scenario's model."""
        return build_network(self.stages.registry, self._scene.ref, self._seed(f"fresh/{purpose}"), self._scene.device)

    def _seed(self, purpose: str) -> int:
        return derive_seed(self.spec.seeds.measure, "measure", self.measure, purpose)

    def siblings(self, n: int, keep: float | None = None) -> Sequence[RunSibling]:
        """The same run with ``n`` other seeds, each on a share ``keep`` of the training rows if given.

        With ``keep`` siblings come in pairs: the second of a pair takes the complement of the first one's rows.
        """
        if "siblings" not in self.reads:
            raise PluginError("undeclared-read", "reads siblings without declaring it", where=f"measure {self.measure}")
        found = []
        for i in range(n):
            seed = derive_seed(self.spec.seeds.measure, "sibling", str(i)) % 2**31
            subset = None if keep is None else Subset(keep, i // 2, complement=bool(i % 2))
            spec = replace(self.spec, seeds=Seeds(seed, seed, seed), subset=subset)
            found.append(RunSibling(self.stages, spec, self.step))
        return found

    @property
    def cost(self) -> Mapping[str, PhaseCost]:
        """Costs by phase: train, train-gold, prepare, unlearn."""
        return run_costs(self.stages, self.spec, self.step)

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        return self._entry(None).certificate

    @property
    def artifacts(self) -> Mapping[str, Any]:
        return self._entry(None).artifacts


@dataclass
class RunSibling:
    """The models of a sibling, made when they are asked for."""

    stages: Stages
    spec: RunSpec
    step: int

    @property
    def kept(self) -> Tensor:
        """ids of the training rows that this sibling's original saw."""
        return self.stages.scene(self.spec).train.view("train").ids

    def model(self, subject: Subject = "unlearned") -> nn.Module:
        entry = entry_of(self.stages, self.spec, subject, self.step)
        return self.stages.network(entry, self.stages.scene(self.spec).device)

    def outputs(self, view: View, subject: Subject = "unlearned") -> Tensor:
        scene = self.stages.scene(self.spec)
        entry = entry_of(self.stages, self.spec, subject, self.step)
        return self.stages.outputs(entry, Selection(view._data, view._index), scene)


def entry_of(stages: Stages, spec: RunSpec, subject: Subject, step: int) -> Entry:
    """The stored model of a subject."""
    makers: dict[str, Callable[[], Entry]] = {
        "original": lambda: stages.original(spec),
        "gold": lambda: stages.gold(spec, step),
        "unlearned": lambda: stages.unlearned(spec, step),
    }
    return makers[subject]()


def run_costs(stages: Stages, spec: RunSpec, step: int) -> dict[str, PhaseCost]:
    """What each phase of a run cost when it was computed, whether now or by an earlier run."""
    found = {} if spec.checkpoint else {"train": stages.original(spec).cost}
    found["train-gold"] = stages.gold(spec, step).cost
    prepared = [entry.cost for entry in stages.prepared(spec) if entry]
    if prepared:
        found["prepare"] = total_cost(prepared)
    found["unlearn"] = stages.unlearned(spec, step).cost
    return found
