"""Which measures a run takes: by profile, from cheap to dear, and by name with a shorthand for one parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import UsageError
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.registry import Registry, unknown
from unlearnbench.schemas import load_json

PROFILES = ("smoke", "standard", "audit", "gold")
"""From cheap to dear; each holds the measures of those before it."""


def profile(name: str) -> dict[str, Any]:
    """A profile by name: its summary, its measures, and the distributions that bring them.

    Raises:
        UsageError: unknown name.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES, where="$.profile")
    path = Path(str(files("unlearnbench"))).joinpath("profiles", f"{name}.json")
    found: dict[str, Any] = load_json(path.read_text("utf-8"), where=path.name)
    return found


def measures_of(name: str, task: str, requests: Iterable[str], registry: Registry) -> list[Mapping[str, Any]]:
    """The measures of a profile and of all cheaper ones that can judge this task and these requests.

    Raises:
        UsageError: unknown profile, or a distribution that brings one of its measures is not installed.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES, where="$.profile")
    levels = [profile(level) for level in PROFILES[: PROFILES.index(name) + 1]]
    needed = {distribution for level in levels for distribution in level["plugins"]}
    absent = sorted(needed - {plugin.distribution for plugin in registry.plugins})
    if absent:
        raise UsageError("missing-plugin", f"profile {name} needs {' and '.join(absent)}", where="--profile",
                         hint=f"pip install {' '.join(absent)}")  # fmt: skip
    wanted = [measure for level in levels for measure in level["measures"]]
    return [measure for measure in wanted if _judges(registry, measure["name"], task, requests)]


def _judges(registry: Registry, name: str, task: str, requests: Iterable[str]) -> bool:
    spec = registry.get("measure", name).spec
    assert isinstance(spec, MeasureSpec)
    return task in spec.tasks and set(requests) <= set(spec.requests)


def expand_shorthands(measures: Sequence[Any], registry: Registry) -> list[Any]:
    """``sklearn:f1_macro@test`` as the measure ``sklearn`` with its parameter; mentions of one measure are joined.

    Raises:
        UsageError: the measure takes nothing after a colon.
    """
    found: dict[str, Any] = {}
    for measure in measures:
        if not isinstance(measure, str):
            found[measure["name"]] = measure
            continue
        name, colon, text = measure.partition(":")
        if not colon:
            found.setdefault(name, measure)
            continue
        spec = registry.get("measure", name, where="$.measures").spec
        assert isinstance(spec, MeasureSpec)
        if not spec.shorthand:
            raise UsageError("bad-measure", f"{name} takes nothing after a colon", where="$.measures",
                             hint=f"write {name}, and --set {name}.PARAM=VALUE for its parameters")  # fmt: skip
        before = found.get(name)
        params = dict(before.get("params") or {}) if isinstance(before, Mapping) else {}
        values = [part.strip() for part in text.split(",") if part.strip()]
        found[name] = {"name": name, "params": {**params, spec.shorthand: [*params.get(spec.shorthand, ()), *values]}}
    return list(found.values())
