"""Evidence: what a measure may read, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from unlearnbench.api.runtime.data import View
from unlearnbench.api.runtime.jobs import Request
from unlearnbench.api.runtime.tasks import Task

Subject = Literal["original", "gold", "unlearned"]
SUBJECTS: tuple[Subject, ...] = ("original", "gold", "unlearned")
Better = Literal["higher", "lower", "gold"]


@dataclass(frozen=True)
class Reading:
    """One value of a measure.

    ``better`` says where good values lie: ``higher``, ``lower``, or ``gold`` (closest to the gold model's reading, far
    below is as bad as far above). ``n`` is the number of units behind the value, ``at`` its coordinates (class, target,
    request, ...). A value that does not exist is None with a status that says why; never 0, never NaN.
    """

    name: str
    value: float | None
    n: int
    better: Better = "gold"
    split: str = ""
    unit: str = ""
    at: Mapping[str, str] = field(default_factory=dict)
    status: str = "ok"
    subject: str = ""

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "value", None)
            object.__setattr__(self, "status", "non-finite")
        if self.value is None and self.status == "ok":
            object.__setattr__(self, "status", "undefined")

    @property
    def key(self) -> str:
        """Flat name: ``accuracy.forget.class=3``."""
        place = [f"{k}={self.at[k]}" for k in sorted(self.at)]
        return ".".join([self.name, *([self.split] if self.split else []), *place])


@dataclass(frozen=True)
class PhaseCost:
    """What one phase cost. ``rows_read`` counts rows read per view (not work); memory is the peak above the start."""

    wall_s: float
    cpu_s: float
    peak_memory_mb: float
    rows_read: Mapping[str, int] = field(default_factory=dict)


class Sibling(Protocol):
    """The same run with another seed or on a part of the training data: its models and which rows they saw."""

    kept: Tensor
    """ids [n] of the training rows that this sibling's original was trained on."""

    def model(self, subject: Subject = "unlearned") -> nn.Module: ...

    def outputs(self, view: View, subject: Subject = "unlearned") -> Tensor: ...


class Evidence(Protocol):
    """Everything a measure may read about one subject. Each item is computed once and shared by all measures.

    Splits: ``forget``, ``retain``, ``test`` (what should still be known), ``holdout`` (unseen rows matched to the
    forget set) and ``validation``.
    """

    subject: Subject
    task: Task
    request: Request

    @property
    def splits(self) -> tuple[str, ...]: ...

    def view(self, split: str) -> View: ...

    def y(self, split: str) -> Tensor: ...

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor: ...

    def model(self, subject: Subject | None = None) -> nn.Module: ...

    def rng(self, purpose: str) -> Generator: ...

    def fresh(self, purpose: str) -> nn.Module: ...

    def siblings(self, n: int, keep: float | None = None) -> Sequence[Sibling]: ...

    @property
    def cost(self) -> Mapping[str, PhaseCost]: ...

    @property
    def certificate(self) -> Mapping[str, Any] | None: ...

    @property
    def artifacts(self) -> Mapping[str, Any]: ...


class Measure(Protocol):
    """A measure's target; called once per subject."""

    def measure(self, evidence: Evidence) -> Iterable[Reading]: ...


@runtime_checkable
class Summarises(Protocol):
    """A measure with readings over all subjects, such as a mean gap; called once, after every subject was measured."""

    def summarise(self, readings: Sequence[Reading]) -> Iterable[Reading]: ...
