"""What measures read: models, predictions and costs of one run, each computed once and shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.errors import PluginError
from unlearnbench.api.runtime import PhaseCost, Request, Subject, Task, Vary, View, derive_seed, generator
from unlearnbench.guard import total_cost
from unlearnbench.networks import build_network
from unlearnbench.parts import Parts, Selection
from unlearnbench.scenes import Scene
from unlearnbench.shadows import Pool
from unlearnbench.spec import Member, RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry

T = TypeVar("T")


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
            return self._parts.measured.get(split, self._scene.validation)
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

    def siblings(self, n: int, vary: Vary = "train") -> RunSiblings:
        """The same run with ``n`` other seeds; with ``vary`` = ``unlearn`` they share this run's original."""
        self._reads_siblings()
        return RunSiblings(self.stages, self._members("siblings", n, vary), self.step, self._selection)

    def shadows(self, n: int) -> RunShadows:
        """Runs that saw different halves of the audit rows; ``n`` is even, since they come in pairs."""
        self._reads_siblings()
        if n < 2 or n % 2:
            raise PluginError("broken-contract", f"asks for {n} shadows", where=f"measure {self.measure}",
                              hint="shadows come in pairs")  # fmt: skip
        return RunShadows(self.stages, self._members("shadows", n, "train"), self.stages.pool(self.spec))

    def _reads_siblings(self) -> None:
        if "siblings" not in self.reads:
            raise PluginError("undeclared-read", "reads siblings without declaring it", where=f"measure {self.measure}")

    def _members(self, kind: Literal["siblings", "shadows"], n: int, vary: Vary) -> tuple[RunSpec, ...]:
        return members_of(self.spec, kind, n, vary)

    def observe(self, phase: str, watch: Callable[[Callable[[], None]], T]) -> T:
        """What ``watch`` returns of a phase that is carried out again, once for each measure and phase.

        ``watch`` gets a function that carries the phase out; its result is thrown away. Whatever is attached to the
        process meanwhile cannot spoil the times and results of the run itself.
        """
        key, again = self.stages.again(self.spec, self.step, phase)
        place = (self.measure, key)
        if place not in self.stages.observed:
            self.stages.observed[place] = watch(lambda: (again(), None)[1])
        found: T = self.stages.observed[place]
        return found

    @property
    def cost(self) -> Mapping[str, PhaseCost]:
        """Costs by phase: train, train-gold, prepare, unlearn."""
        return run_costs(self.stages, self.spec, self.step)

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        return self._entry(None).certificate

    @property
    def proof(self) -> Mapping[str, Tensor]:
        """Tensors that a verifier of the certificate needs."""
        return self._entry(None).proof

    @property
    def artifacts(self) -> Mapping[str, Any]:
        return self._entry(None).artifacts

    def keep(self, name: str, value: Tensor) -> None:
        """Keep a tensor beside the record, in ``artifacts.safetensors`` as ``measures/MEASURE/SUBJECT/NAME``."""
        place = f"measures/{self.measure}/{self.subject}/{name}"
        self.stages.kept.setdefault(self.spec.id, {})[place] = value.detach().cpu().clone()


def members_of(
    spec: RunSpec, kind: Literal["siblings", "shadows"], n: int, vary: Vary = "train"
) -> tuple[RunSpec, ...]:
    """The runs of an ensemble, which the run's seed of measuring determines."""
    return tuple(spec.as_member(Member(kind, vary, spec.seeds.measure, i, n)) for i in range(n))


@dataclass(frozen=True)
class RunSiblings:
    """Siblings of a run; models are made, or read from the store, when they are asked for."""

    stages: Stages
    specs: tuple[RunSpec, ...]
    step: int
    selection: Callable[[str], Selection]
    """The rows of a split, in the order in which the run that asks has them."""

    def __len__(self) -> int:
        return len(self.specs)

    def __getitem__(self, part: slice) -> RunSiblings:
        return replace(self, specs=self.specs[part])

    def outputs(self, split: str, subject: Subject = "unlearned") -> Tensor:
        """Raw outputs [n, rows, ...] for the rows of a split."""
        return torch.stack([self._outputs(spec, split, subject) for spec in self.specs])

    def _outputs(self, spec: RunSpec, split: str, subject: Subject) -> Tensor:
        entry = entry_of(self.stages, spec, subject, self.step)
        return self.stages.outputs(entry, self.selection(split), self.stages.scene(spec))

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        """A private copy of a sibling's model."""
        spec = self.specs[i]
        return self.stages.network(entry_of(self.stages, spec, subject, self.step), self.stages.scene(spec).device)


@dataclass(frozen=True)
class RunShadows:
    """Shadows of a run; models are made, or read from the store, when they are asked for."""

    stages: Stages
    specs: tuple[RunSpec, ...]
    pool: Pool

    def __len__(self) -> int:
        return len(self.specs)

    @property
    def y(self) -> Tensor:
        return self.pool.data.y[self.pool.audit]

    @property
    def ids(self) -> Tensor:
        return self.pool.data.ids[self.pool.audit]

    @property
    def forgotten(self) -> Tensor:
        return self.pool.forgotten[self.pool.audit]

    @property
    def members(self) -> Tensor:
        halves = [self.pool.half(s.member.draw, s.member.index % 2) for s in self.specs if s.member]
        return torch.stack(halves)[:, self.pool.audit]

    def outputs(self, subject: Subject = "unlearned") -> Tensor:
        """Raw outputs [n, m, ...] for the audit rows."""
        device = self.stages.scene(self.specs[0]).device
        audit = self.pool.selection.to(device)
        found = []
        for spec in self.specs:
            entry = entry_of(self.stages, spec, subject, 0)
            found.append(self.stages.outputs(entry, audit, self.stages.scene(spec)))
        return torch.stack(found)

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        """A private copy of a shadow's model."""
        spec = self.specs[i]
        return self.stages.network(entry_of(self.stages, spec, subject, 0), self.stages.scene(spec).device)


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
