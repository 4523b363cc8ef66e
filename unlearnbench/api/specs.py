"""Specs: what a plugin says about its components before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from unlearnbench.api.params import NoParams

API_VERSION = 1
"""Version of the plugin contract. A plugin module states the one it was written for in ``UNLEARNBENCH_API``."""

TaskName = Literal["classification", "multi-label", "segmentation", "detection", "node-classification"]
RequestKind = Literal["samples", "class", "group", "target", "nodes", "edges", "features"]
UnlearnerRead = Literal["forget", "retain", "train", "validation"]
MeasureRead = Literal["original", "gold", "siblings", "cost", "certificate"]
Invariance = Literal["row-order", "batch-size"]
Direction = Literal["higher", "lower", "gold", "by-split", "by-split-lower", "by-target"]
Effort = Literal["predictions", "models", "ensemble", "repetition"]
Kind = Literal["dataset", "model", "unlearner", "measure"]

InputKind = Literal["numbers", "tokens", "graphs"]
"""What the rows of a data set are: numbers of one shape (images, tables), token ids (text), or graphs of any size."""

TASKS: tuple[str, ...] = get_args(TaskName)
REQUESTS: tuple[str, ...] = get_args(RequestKind)
INPUTS: tuple[InputKind, ...] = get_args(InputKind)
DIRECTIONS: dict[Direction, str] = {
    "higher": "higher is better",
    "lower": "lower is better",
    "gold": "gold's value is the aim",
    "by-split": "higher is better on retain and test, elsewhere gold's value is the aim",
    "by-split-lower": "lower is better on retain and test, elsewhere gold's value is the aim",
    "by-target": "higher is better for targets that stay, for forgotten ones gold's value is the aim",
}
"""Where good values of a reading lie, in words."""
EFFORTS: dict[Effort, str] = {
    "predictions": "the predictions that a run makes anyway",
    "models": "work on copies of the models",
    "ensemble": "an ensemble of further models",
    "repetition": "the phases of the run, carried out again under observation",
}
"""What a measure takes, in words."""
ITEM_REQUESTS: tuple[RequestKind, ...] = ("samples", "class", "group")

_NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*\Z")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paper:
    """Where a component comes from, and every sentence in which our implementation differs from it."""

    title: str
    authors: tuple[str, ...]
    year: int
    venue: str = ""
    doi: str = ""
    arxiv: str = ""
    bibtex: str = ""
    deviations: tuple[str, ...] = ()


def paper_json(paper: Paper) -> dict[str, Any]:
    """A paper as JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(paper).items()}


def is_name(name: object) -> bool:
    """Whether this is how components are named: lower-case words joined by ``-`` or ``.``."""
    return isinstance(name, str) and bool(_NAME.match(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A component: its name, what it does, where its code is, what it is capable of.

    ``target`` is ``"module:Class"`` and imported on first use. ``version`` changes whenever results change: it is part
    of the identity of every stored model, unlike the version of the distribution.
    """

    kind: ClassVar[Kind]

    name: str
    summary: str
    target: str
    params: type[Any] = NoParams
    version: str = "1"
    paper: Paper | None = None

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"name {self.name!r} must be lower-case words joined by '-' or '.'")
        if not isinstance(self.target, str) or not _TARGET.match(self.target):
            raise ValueError(f"target {self.target!r} of {self.name} must look like 'module:Class'")
        if not self.summary or not self.summary.isprintable():
            raise ValueError(f"{self.name} needs a summary in one printable line")
        for field in dataclasses.fields(self):
            allowed = _CLOSED_SETS.get((type(self).kind, field.name))
            value = getattr(self, field.name)
            unknown = set((value,) if isinstance(value, str) else value) - set(allowed) if allowed else set()
            if unknown:
                raise ValueError(f"{field.name} of {self.name}: {sorted(unknown)} not among {sorted(allowed or ())}")

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON (``schemas/component.json``)."""
        found: dict[str, Any] = {"kind": type(self).kind}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "params":
                value = f"{value.__module__}:{value.__qualname__}"
            elif isinstance(value, Paper):
                value = paper_json(value)
            elif isinstance(value, tuple):
                value = [dataclasses.asdict(v) if isinstance(v, ReadingSpec) else v for v in value]
            found[field.name] = value
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec(Spec):
    """A data set. ``fetchable`` says that ``unlearnbench data fetch NAME`` can download it."""

    kind: ClassVar[Kind] = "dataset"
    tasks: tuple[TaskName, ...] = ("classification",)
    inputs: tuple[InputKind, ...] = ("numbers",)
    fetchable: bool = False
    licence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec(Spec):
    """A network. ``wrapper`` marks models that only a method builds (patched nets, ensembles)."""

    kind: ClassVar[Kind] = "model"
    tasks: tuple[TaskName, ...] = ("classification",)
    inputs: tuple[InputKind, ...] = ("numbers",)
    wrapper: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlearnerSpec(Spec):
    """An unlearner: the tasks, requests and inputs that it handles and the views that it reads.

    ``stage_only`` marks what makes sense as a link of a chain alone, such as one that only returns a mask.
    ``invariant_to`` names what its result does not depend on, rounding aside; the conformance kit holds it to that.
    """

    kind: ClassVar[Kind] = "unlearner"
    tasks: tuple[TaskName, ...] = ("classification",)
    requests: tuple[RequestKind, ...] = ITEM_REQUESTS
    inputs: tuple[InputKind, ...] = INPUTS
    reads: tuple[UnlearnerRead, ...] = ("forget", "retain")
    stage_only: bool = False
    invariant_to: tuple[Invariance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingSpec:
    """A reading that a measure yields: its name, where good values lie, its unit and what it says.

    ``better`` is ``higher``, ``lower``, ``gold`` (closest to the gold model's), or ``by-split``: higher on rows that
    should stay known (retain, test), gold's value elsewhere; ``by-split-lower`` the same for losses; ``by-target``:
    higher for targets that stay, gold's value for those that are forgotten. A name that ends in ``*`` stands for all
    names that begin so: names that parameters make.
    """

    name: str
    better: Direction
    unit: str = ""
    summary: str = ""

    def __post_init__(self) -> None:
        if self.better not in DIRECTIONS:
            raise ValueError(f"better of {self.name}: {self.better!r} not among {list(DIRECTIONS)}")

    def covers(self, name: str) -> bool:
        """Whether this is the declaration of a reading of that name."""
        return name.startswith(self.name[:-1]) if self.name.endswith("*") else name == self.name

    def directions(self, split: str) -> tuple[str, ...]:
        """What a reading on a split may say about where good values lie."""
        if self.better == "by-target":
            return ("higher", "gold")
        if not self.better.startswith("by-split"):
            return (self.better,)
        known = "lower" if self.better.endswith("lower") else "higher"
        return (known,) if split in ("retain", "test", "validation") else ("gold",)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec(Spec):
    """A measure: what it needs, what it yields and what it costs. One that reads ``cost`` does not repeat in bits.

    ``effort`` says what it takes: ``predictions`` that the run makes anyway; work on copies of the subject's
    ``models``, such as training them; an ``ensemble`` of further models; or the ``repetition`` of phases under
    observation. ``shorthand`` names the parameter, a tuple of texts, that takes what stands after a colon in
    ``--measure sklearn:f1_macro@test``.
    """

    kind: ClassVar[Kind] = "measure"
    tasks: tuple[TaskName, ...] = ("classification",)
    requests: tuple[RequestKind, ...] = ITEM_REQUESTS
    reads: tuple[MeasureRead, ...] = ()
    readings: tuple[ReadingSpec, ...] = ()
    effort: Effort = "predictions"
    shorthand: str = ""


_CLOSED_SETS: dict[tuple[str, str], tuple[str, ...]] = {
    **{(kind, "tasks"): TASKS for kind in get_args(Kind)},
    **{(kind, "requests"): REQUESTS for kind in ("unlearner", "measure")},
    **{(kind, "inputs"): INPUTS for kind in ("dataset", "model", "unlearner")},
    ("unlearner", "reads"): get_args(UnlearnerRead),
    ("unlearner", "invariant_to"): get_args(Invariance),
    ("measure", "reads"): get_args(MeasureRead),
    ("measure", "effort"): tuple(EFFORTS),
}

SPEC_TYPES: dict[str, type[Spec]] = {
    "dataset": DatasetSpec,
    "model": ModelSpec,
    "unlearner": UnlearnerSpec,
    "measure": MeasureSpec,
}
