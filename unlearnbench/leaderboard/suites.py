"""Suites: the fixed lists of scenarios, seeds and measures that boards are built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.config import resolve_experiment
from unlearnbench.identity import digest
from unlearnbench.registry import Registry, unknown
from unlearnbench.schemas import load_yaml, validate
from unlearnbench.spec import RunSpec

AXES = ("forgetting", "utility", "privacy")
"""What entries are ranked by: the distance to gold on each."""

AxisName = Literal["forgetting", "utility", "privacy", "cost"]


@dataclass(frozen=True)
class Axis:
    """The reading that stands for an axis."""

    name: AxisName
    measure: str
    key: str


@dataclass(frozen=True)
class Band:
    """Where the mean over seeds of a reading must lie for original and gold models."""

    measure: str
    key: str
    original: tuple[float, float]
    gold: tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One scenario of a suite. ``floor`` is how far a second gold model is from gold, by axis."""

    scenario: str
    measures: tuple[str, ...]
    axes: tuple[Axis, ...]
    bands: tuple[Band, ...]
    floor: Mapping[str, float]

    def axis(self, name: str) -> Axis:
        """The axis of a name."""
        return next(axis for axis in self.axes if axis.name == name)


@dataclass(frozen=True)
class Suite:
    """A suite; ``sha256`` is over its whole content, which never changes."""

    name: str
    summary: str
    track: str
    released: str
    seeds: tuple[int, ...]
    settings: int
    recompute: float
    rerun: float
    controls: tuple[str, ...]
    parts: tuple[Part, ...]
    sha256: str

    def part(self, scenario: str) -> Part:
        """The part of a scenario.

        Raises:
            UsageError: the suite has no such scenario.
        """
        for part in self.parts:
            if part.scenario == scenario:
                return part
        raise unknown("scenario", scenario, [part.scenario for part in self.parts], where=f"suite {self.name}")

    def specs(self, part: Part, unlearners: Sequence[Any], registry: Registry, **choices: Any) -> list[RunSpec]:
        """The runs of unlearners on one scenario, for every seed.

        ``choices`` are those that a suite leaves open: ``set``, ``paper_parameters``, ``device``, ``threads``.

        Raises:
            UsageError: an unknown name, or a value that is not allowed.
        """
        experiment = {
            "scenario": part.scenario,
            "unlearners": list(unlearners),
            "measures": list(part.measures),
            "seeds": list(self.seeds),
            **choices,
        }
        found = resolve_experiment(experiment, registry)
        if choices.get("set"):
            _only_unlearners(found, resolve_experiment({**experiment, "set": {}}, registry), self.name)
        # Other measures than the scenario's do not make it another scenario: data, model and requests are the same.
        return [replace(spec, scenario=part.scenario) for spec in found]


def _only_unlearners(found: Sequence[RunSpec], fixed: Sequence[RunSpec], name: str) -> None:
    """Refuse runs in which settings changed anything but unlearners: they would not be those of the suite."""
    for one, other in zip(found, fixed, strict=True):
        for part in ("dataset", "model", "recipe", "measures"):
            if getattr(one, part) != getattr(other, part):
                raise UsageError("conflicting-options", f"changes {part}, which suite {name} fixes", where="--set",
                                 hint="set parameters of the unlearner only")  # fmt: skip


def suite_names() -> list[str]:
    """Names of the suites, oldest first."""
    return [found.name for found in _suites()]


def suite(name: str) -> Suite:
    """A suite by name.

    Raises:
        UsageError: unknown name.
    """
    for found in _suites():
        if found.name == name:
            return found
    raise unknown("suite", name, suite_names(), where="suite")


@cache
def _suites() -> tuple[Suite, ...]:
    found = [read_suite(path) for path in sorted(_folder().glob("*.yaml"))]
    return tuple(sorted(found, key=lambda each: (each.released, each.name)))


def _folder() -> Path:
    packaged = Path(str(files("unlearnbench"))) / "_suites"
    return packaged if packaged.is_dir() else packaged.parents[1] / "leaderboard" / "suites"


def read_suite(path: Path) -> Suite:
    """Read a suite's file.

    Raises:
        DataError: it cannot be read.
        UsageError: it is not a suite.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError("missing-file", f"cannot be read: {problem}", where=str(path)) from problem
    document = load_yaml(text, path.name)
    validate(document, "suite", where=path.name)
    names = [part["scenario"] for part in document["scenarios"]]
    if len(set(names)) != len(names):
        raise UsageError("bad-suite", "has a scenario twice", where=path.name)
    return _suite(document)


def _suite(document: Mapping[str, Any]) -> Suite:
    shared = document["profile"]["measures"]
    return Suite(
        name=document["name"],
        summary=document["summary"],
        track=document["track"],
        released=document["released"],
        seeds=tuple(document["seeds"]),
        settings=document["tuning"]["settings"],
        recompute=document["tolerances"]["recompute"],
        rerun=document["tolerances"]["rerun"],
        controls=tuple(document["controls"]),
        parts=tuple(_part(part, shared) for part in document["scenarios"]),
        sha256=digest(document),
    )


def _part(document: Mapping[str, Any], shared: Sequence[str]) -> Part:
    return Part(
        scenario=document["scenario"],
        measures=(*shared, *document.get("measures", ())),
        axes=tuple(Axis(name, **reading) for name, reading in document["axes"].items()),
        bands=tuple(
            Band(band["measure"], band["key"], tuple(band["original"]), tuple(band["gold"]))
            for band in document["bands"]
        ),
        floor=dict(document["floor"]),
    )
