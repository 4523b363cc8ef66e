"""Evidence: what a measure may read, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor, nn

from unlearnbench.api.runtime.data import View
from unlearnbench.api.runtime.jobs import Request
from unlearnbench.api.runtime.task import Task

Subject = Literal["original", "gold", "unlearned"]
SUBJECTS: tuple[Subject, ...] = ("original", "gold", "unlearned")
Better = Literal["higher", "lower", "gold"]
Vary = Literal["train", "unlearn"]
"""Whether siblings differ by all seeds, or have one original and differ by the seed of unlearning alone."""
T = TypeVar("T")


@dataclass(frozen=True)
class Reading:
    """One value of a measure.

    ``better`` says where good values lie: ``higher``, ``lower``, or ``gold`` (closest to the gold model's reading, far
    below is as bad as far above). ``n`` is the number of units behind the value, ``at`` its coordinates (class, target,
    request, ...), ``low`` and ``high`` the ends of its 95 % interval where there is one. A value that does not exist is
    None with a status that says why; never 0, never NaN.
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
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None and math.isfinite(end)]
        if self.value is None or len(ends) < 2:
            object.__setattr__(self, "low", None)
            object.__setattr__(self, "high", None)
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


@dataclass(frozen=True)
class Ensemble:
    """Further models that a measure will ask for, told before any work is done so that its price can be said.

    ``kind`` and ``vary`` are those of ``Evidence.siblings`` and ``Evidence.shadows``.
    """

    kind: Literal["siblings", "shadows"]
    originals: int = 0
    golds: int = 0
    unlearned: int = 0
    vary: Vary = "train"


@runtime_checkable
class AsksForEnsembles(Protocol):
    """A measure that needs further models."""

    def ensembles(self) -> Sequence[Ensemble]: ...


class Siblings(Protocol):
    """The same run with other seeds. Models are made when they are asked for, or read from the store."""

    def __len__(self) -> int: ...

    def outputs(self, split: str, subject: Subject = "unlearned") -> Tensor:
        """Raw outputs [n, rows, ...] of all siblings for the rows of a split, in evaluation mode."""
        ...

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        """A private copy of a sibling's model."""
        ...

    def __getitem__(self, part: slice) -> Siblings:
        """Some of them."""
        ...


class Shadows(Protocol):
    """Runs whose training sets hold different halves of the audit rows: the forget set and the hold-out.

    Shadow ``2 j`` is trained on the retain set and a random half of the audit rows, shadow ``2 j + 1`` on the retain
    set and the other half; then the unlearner forgets the half that each has seen. A shadow's gold model is trained on
    the retain set alone, with the shadow's own seed.
    """

    y: Tensor
    """Annotations [m] of the audit rows."""
    ids: Tensor
    """ids [m] of the audit rows."""
    members: Tensor
    """[n, m] bool: whether a shadow's original saw a row."""
    forgotten: Tensor
    """[m] bool: whether a row is of the run's own forget set; the others are of its hold-out."""

    def __len__(self) -> int: ...

    def outputs(self, subject: Subject = "unlearned") -> Tensor:
        """Raw outputs [n, m, ...] of all shadows for the audit rows, in evaluation mode."""
        ...

    def model(self, i: int, subject: Subject = "unlearned") -> nn.Module:
        """A private copy of a shadow's model."""
        ...


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

    def siblings(self, n: int, vary: Vary = "train") -> Siblings: ...

    def shadows(self, n: int) -> Shadows: ...

    def observe(self, phase: str, watch: Callable[[Callable[[], None]], T]) -> T: ...

    @property
    def cost(self) -> Mapping[str, PhaseCost]: ...

    @property
    def certificate(self) -> Mapping[str, Any] | None: ...

    @property
    def proof(self) -> Mapping[str, Tensor]: ...

    @property
    def artifacts(self) -> Mapping[str, Any]: ...

    def keep(self, name: str, value: Tensor) -> None: ...


class Measure(Protocol):
    """A measure's target; called once per subject."""

    def measure(self, evidence: Evidence) -> Iterable[Reading]: ...


@runtime_checkable
class Summarises(Protocol):
    """A measure with readings over all subjects, such as a mean gap; called once, after every subject was measured."""

    def summarise(self, readings: Sequence[Reading]) -> Iterable[Reading]: ...
