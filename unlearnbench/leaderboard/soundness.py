"""Whether one run is the suite's: its spec, its components, its data. Each problem names the run and the field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from unlearnbench.api.errors import DataError, IncompatibleError, UnlearnBenchError, UsageError
from unlearnbench.identity import digest
from unlearnbench.leaderboard.submission import SubmittedRun
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.plugins import printable
from unlearnbench.registry import Component, Registry
from unlearnbench.runner import measure_spec_of, origins_of, trainer_of
from unlearnbench.spec import Choice, RunSpec

_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!]{0,40}")


def expected_spec(run: SubmittedRun, suite: Suite, registry: Registry) -> RunSpec:
    """The suite's own spec of a run, with the run's unlearner, device and threads.

    Raises:
        UsageError: the suite has no such scenario or seed, or a parameter of the unlearner is not allowed.
    """
    return Expected(suite, registry).of(run)


class Expected:
    """Specs of the suite; those of one unlearner on one scenario are resolved once for all seeds."""

    def __init__(self, suite: Suite, registry: Registry) -> None:
        self.suite, self.registry = suite, registry
        self._known: dict[str, list[RunSpec]] = {}

    def of(self, run: SubmittedRun) -> RunSpec:
        spec = run.record.document["spec"]
        choices = {name: spec[name] for name in ("device", "threads")}
        key = digest([run.scenario, spec["unlearner"], choices])
        if key not in self._known:
            part = self.suite.part(run.scenario)
            self._known[key] = self.suite.specs(part, [_wanted(spec["unlearner"])], self.registry, **choices)
        for found in self._known[key]:
            if found.seeds.train == run.seed:
                return found
        raise UsageError("foreign-run", f"seed {run.seed} is none of the suite's", where=at(run, "spec.seeds.train"),
                         hint=f"pack runs of {self.suite.name} only")  # fmt: skip


def _wanted(unlearner: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved unlearner as an experiment asks for it; a chain is known by its stages."""
    if "stages" in unlearner:
        return {"stages": [_wanted(stage) for stage in unlearner["stages"]]}
    return {"name": unlearner["name"], "params": unlearner["params"]}


def uninstalled(run: SubmittedRun, registry: Registry) -> Iterator[UnlearnBenchError]:
    """Every component that the run names is installed, in the version that gives the same results."""
    for place, said in enumerate(run.record.document["components"]):
        where = at(run, f"components[{place}]")
        component = _installed(registry, said["kind"], said["name"])
        if component is None or component.origin()["distribution"] != said["distribution"]:
            yield IncompatibleError(
                "missing-plugin",
                f"{said['kind']} {quoted(said['name'])} of {quoted(said['distribution'])} is not installed",
                where=where, hint=_install(said["distribution"]),
            )  # fmt: skip
        elif component.spec.version != said["version"]:
            yield IncompatibleError(
                "other-version", f"{said['kind']} {said['name']} has version {quoted(said['version'])} there, "
                f"and {component.spec.version} is installed", where=f"{where}.version",
                hint=_install(said["distribution"], said["distribution_version"]),
            )  # fmt: skip


def _install(distribution: str, version: str = "") -> str:
    """What to install, if it is a name that may be given to a shell: it comes from a stranger."""
    if not _DISTRIBUTION.fullmatch(distribution) or (version and not _VERSION.fullmatch(version)):
        return "and it is not the name of a distribution"
    return f"if you trust it: pip install {distribution}{f'=={version}' if version else ''}"


def _installed(registry: Registry, kind: str, name: str) -> Component | None:
    try:
        return registry.get(kind, name)
    except UnlearnBenchError:
        return None


def wrong_spec(run: SubmittedRun, expected: Expected, other_measures: bool) -> Iterator[UnlearnBenchError]:
    """The run's spec is the suite's; every field that is another one is named."""
    document = run.record.document
    try:
        wanted = expected.of(run)
        if other_measures:
            wanted = replace(wanted, measures=tuple(_measures(document["spec"], expected.registry)))
    except UnlearnBenchError as problem:
        problem.where = at(run, f"spec ({problem.where})" if problem.where else "spec")
        yield problem
        return
    odd = differing(document["spec"], wanted.to_json(), "spec")
    if odd:
        yield UsageError("other-spec", f"is not what {expected.suite.name} fixes",
                         where=at(run, odd), hint="run it with `unlearnbench run --suite`")  # fmt: skip
        return
    if document["predictions"] is not None:
        yield from _measured(run, wanted, expected.registry)


def _measures(spec: Mapping[str, Any], registry: Registry) -> Iterator[Choice]:
    """The run's own measures, with all their parameters as they must be written."""
    for choice in map(Choice.from_json, spec["measures"]):
        params = registry.get("measure", choice.name).spec.params
        yield Choice(choice.name, parameters_json(resolve_parameters(params, choice.params, where=choice.name)))


def _measured(run: SubmittedRun, spec: RunSpec, registry: Registry) -> Iterator[UnlearnBenchError]:
    """What the record says of its measures: a measure that were called timed would escape every comparison."""
    said = [(each["name"], each["timed"]) for each in run.record.document["measures"]]
    own = [(choice.name, "cost" in measure_spec_of(registry, choice).reads) for choice in spec.measures]
    if said != own:
        odd = next(
            (place for place, (a, b) in enumerate(zip(said, own, strict=False)) if a != b), min(len(said), len(own))
        )
        yield DataError("wrong-record", "does not list the measures of the run as they are",
                        where=at(run, f"measures[{odd}]"), hint="make the run again")  # fmt: skip


def wrong_origins(run: SubmittedRun, registry: Registry) -> Iterator[UnlearnBenchError]:
    """Trainer and components of the record are what the spec asks for."""
    document = run.record.document
    spec = RunSpec.from_json(document["spec"])
    # Versions of distributions may differ where those of components do not.
    said, own = (
        {"trainer": trainer, "components": [{**each, "distribution_version": ""} for each in components]}
        for trainer, components in (
            (document["trainer"], document["components"]),
            (trainer_of(spec, registry), origins_of(spec, registry)),
        )
    )
    for name in said:
        odd = differing(said[name], own[name], name)
        if odd:
            yield DataError("wrong-record", "is not what follows from the spec", where=at(run, odd),
                            hint="make the run again")  # fmt: skip


def other_data(run: SubmittedRun, own: Mapping[str, Any]) -> Iterator[UnlearnBenchError]:
    """Data and requests of the record are those of the verifier."""
    for name, mine in own.items():
        odd = differing(run.record.document[name], mine, name)
        if odd:
            yield DataError("other-data", "is not that of the verifier's own data", where=at(run, odd),
                            hint="the run saw other rows than the suite's")  # fmt: skip


def differing(mine: Any, theirs: Any, place: str) -> str:
    """The first place at which two JSON documents differ, or nothing."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        for name in sorted({*mine, *theirs}):
            if name not in mine or name not in theirs:
                return f"{place}.{quoted(name)}"
            odd = differing(mine[name], theirs[name], f"{place}.{quoted(name)}")
            if odd:
                return odd
        return ""
    if isinstance(mine, list | tuple) and isinstance(theirs, list | tuple):
        for index, (a, b) in enumerate(zip(mine, theirs, strict=False)):
            odd = differing(a, b, f"{place}[{index}]")
            if odd:
                return odd
        return "" if len(mine) == len(theirs) else f"{place}[{min(len(mine), len(theirs))}]"
    # Canonical JSON writes 30.0 as 30, so that types of numbers say nothing; but true is no 1.
    return "" if mine == theirs and isinstance(mine, bool) == isinstance(theirs, bool) else place


def at(run: SubmittedRun, field: str) -> str:
    """A field of a run's record, for a problem's place."""
    return f"{run.file}: {field}"


def quoted(text: str) -> str:
    """Text of strangers, in one line of bounded length."""
    return printable(text, 80)
