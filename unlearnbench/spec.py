"""The run spec: one scenario x unlearner x seed, completely resolved, as JSON. It determines every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from unlearnbench.api.recipe import Recipe
from unlearnbench.api.seeds import derive_seed
from unlearnbench.identity import digest
from unlearnbench.parameters import parameters_json

SCHEMA = "https://unlearnbench.org/schemas/run-spec/1.json"


@dataclass(frozen=True)
class Choice:
    """A component by name, with all its parameters. A chain is ``a+b`` with its stages' choices."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[Choice, ...] = ()

    def to_json(self) -> dict[str, Any]:
        if self.stages:
            return {"name": self.name, "stages": [stage.to_json() for stage in self.stages]}
        return {"name": self.name, "params": dict(self.params)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Choice:
        stages = tuple(cls.from_json(stage) for stage in document.get("stages", ()))
        return cls(document["name"], dict(document.get("params", {})), stages)


@dataclass(frozen=True)
class Seeds:
    """Seeds of the three places where variance enters. Gold is paired with the training seed."""

    train: int = 0
    unlearn: int = 0
    measure: int = 0

    def label(self) -> str:
        if self.train == self.unlearn == self.measure:
            return str(self.train)
        return f"{self.train}-{self.unlearn}-{self.measure}"


@dataclass(frozen=True)
class Member:
    """A run's place in an ensemble that a measure asked for: the ``index``-th of ``size``, drawn from ``seed``.

    Siblings have other seeds, all of them or with ``vary`` = ``unlearn`` that of unlearning alone. Shadows have other
    training sets as well: one half of the audit rows, shadows ``2 j`` and ``2 j + 1`` the two halves of one draw.
    """

    kind: Literal["siblings", "shadows"]
    vary: Literal["train", "unlearn"]
    seed: int
    index: int
    size: int

    @property
    def own_seed(self) -> int:
        return derive_seed(self.seed, self.kind, str(self.index)) % 2**31

    @property
    def draw(self) -> int:
        """Seed of the halves of the audit rows, which the two shadows of a pair share."""
        return derive_seed(self.seed, "halves", str(self.index // 2)) % 2**31


@dataclass(frozen=True)
class RunSpec:
    """Everything that a run depends on. Two runs with the same spec on the same machine give the same bits."""

    dataset: Choice
    model: Choice
    recipe: Recipe
    requests: tuple[Mapping[str, Any], ...]
    unlearner: Choice
    measures: tuple[Choice, ...]
    seeds: Seeds = Seeds()
    task: str = "classification"
    validation: float = 0.0
    preprocessing: tuple[Choice, ...] = ()
    checkpoint: Mapping[str, str] | None = None
    device: str = "cpu"
    threads: int = 1
    measure_every: int = 1
    """Readings are taken after every so many requests of a stream, and after the last."""
    member: Member | None = None
    scenario: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON. What a run does not use (preprocessing, an ensemble, a stream) leaves no trace in it."""
        chain = [step.to_json() for step in self.preprocessing]
        return {
            "$schema": SCHEMA,
            "scenario": self.scenario,
            "task": self.task,
            "dataset": self.dataset.to_json(),
            "model": self.model.to_json(),
            "checkpoint": dict(self.checkpoint) if self.checkpoint else None,
            "recipe": parameters_json(self.recipe),
            "validation": self.validation,
            **({"preprocessing": chain} if chain else {}),
            "requests": [dict(request) for request in self.requests],
            "unlearner": self.unlearner.to_json(),
            "measures": [measure.to_json() for measure in self.measures],
            "seeds": vars(self.seeds).copy(),
            "device": self.device,
            "threads": self.threads,
            **({"measure_every": self.measure_every} if self.measure_every > 1 else {}),
            **({"member": vars(self.member).copy()} if self.member else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> RunSpec:
        from unlearnbench.parameters import resolve_parameters

        return cls(
            dataset=Choice.from_json(document["dataset"]),
            model=Choice.from_json(document["model"]),
            recipe=resolve_parameters(Recipe, document["recipe"], where="recipe"),
            requests=tuple(document["requests"]),
            unlearner=Choice.from_json(document["unlearner"]),
            measures=tuple(Choice.from_json(measure) for measure in document["measures"]),
            seeds=Seeds(**document["seeds"]),
            task=document["task"],
            validation=document["validation"],
            preprocessing=tuple(Choice.from_json(step) for step in document.get("preprocessing", ())),
            checkpoint=document["checkpoint"],
            device=document["device"],
            threads=document["threads"],
            measure_every=document.get("measure_every", 1),
            member=Member(**document["member"]) if "member" in document else None,
            scenario=document["scenario"],
        )

    @cached_property
    def id(self) -> str:
        """sha256 of the spec. The scenario's name is not part of it: the same content is the same run."""
        document = {k: v for k, v in self.to_json().items() if k not in ("scenario", "$schema")}
        if self.checkpoint:
            document["checkpoint"] = self.checkpoint["sha256"]
        return digest(document)

    @property
    def measured_steps(self) -> tuple[int, ...]:
        """The requests after which readings are taken; gold models are trained for these alone."""
        last = len(self.requests) - 1
        return tuple(step for step in range(last + 1) if (step + 1) % self.measure_every == 0 or step == last)

    @cached_property
    def scene_key(self) -> str:
        """sha256 of the part that determines data and requests, which runs with other seeds or unlearners share."""
        document = self.to_json()
        parts = ("task", "dataset", "model", "validation", "preprocessing", "requests", "device")
        found = {part: document[part] for part in parts if part in document}
        if self.member is not None and self.member.kind == "shadows":
            found["half"] = [self.member.draw, self.member.index % 2]
        return digest(found)

    def as_member(self, member: Member) -> RunSpec:
        """This run as a member of an ensemble."""
        own = member.own_seed
        train = self.seeds.train if member.vary == "unlearn" else own
        return replace(self, seeds=Seeds(train, own, own), member=member)

    def of_which(self) -> RunSpec:
        """The run of whose ensemble this one is a member, as far as data and requests go."""
        return replace(self, member=None)

    def run_id(self) -> str:
        """Name of the run's folder: readable, unique, the same for the same spec."""
        place = (self.scenario or f"{self.dataset.name}-{self.model.name}").replace("/", "-")
        return f"{place}.{self.unlearner.name}.s{self.seeds.label()}.{self.id[:10]}"
