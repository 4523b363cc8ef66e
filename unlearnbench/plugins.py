"""Discovery: every plugin is loaded on its own, so that a broken one is named and costs nothing else."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from time import perf_counter
from types import ModuleType
from typing import Any

import pluggy

from unlearnbench import hookspecs
from unlearnbench.api.params import param_fields
from unlearnbench.api.specs import API_VERSION, SPEC_TYPES, Spec
from unlearnbench.api.tables import TableSpec

GROUP = "unlearnbench"
ALLOW_VARIABLE = "UNLEARNBENCH_PLUGINS"
BUILTIN = "unlearnbench"
SUPPORTED_API = range(1, API_VERSION + 1)
DEPRECATED_API: dict[int, str] = {}
"""Supported versions that a later host will refuse: which host that is, and what a plugin's author does about it."""
SLOW_S = 0.5
RETURNED: dict[str, type[Spec] | type[TableSpec]] = {**SPEC_TYPES, TableSpec.kind: TableSpec}
"""What the hook of each kind must return."""
HEAVY = ("torch", "numpy", "pandas", "sklearn", "mlflow", "scipy", "PIL")


@dataclass(frozen=True)
class Plugin:
    """One entry point: where it comes from and what it brought, or why it could not be loaded."""

    name: str
    module: str
    distribution: str = ""
    version: str = ""
    specs: tuple[Spec, ...] = ()
    tables: tuple[TableSpec, ...] = ()
    error: str = ""
    warnings: tuple[str, ...] = ()
    load_s: float = field(default=0.0, compare=False)

    @property
    def brings(self) -> list[tuple[str, str]]:
        """Kind and name of all that it brings."""
        return [(type(s).kind, s.name) for s in self.specs] + [(t.kind, t.name) for t in self.tables]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "module": self.module,
            "distribution": self.distribution,
            "version": self.version,
            "status": "broken" if self.error else "ok",
            "error": self.error,
            "warnings": list(self.warnings),
            "components": [f"{kind}:{name}" for kind, name in self.brings],
        }


def allow_list() -> set[str] | None:
    """Names of the entry points and distributions that may be loaded; None where all may."""
    allowed = os.environ.get(ALLOW_VARIABLE)
    return None if allowed is None else {name.strip() for name in allowed.split(",") if name.strip()}


@functools.cache
def load_plugins() -> tuple[Plugin, ...]:
    """Load the host's own basics and every allowed entry point, sorted by name; computed once per process.

    ``UNLEARNBENCH_PLUGINS=a,b`` allows only these entry points (or distributions), ``UNLEARNBENCH_PLUGINS=`` none.
    """
    found = [_load(EntryPoint(BUILTIN, "unlearnbench.builtin.plugin", GROUP), BUILTIN, "")]
    names = allow_list()
    seen: set[str] = set()
    for entry in sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value)):
        distribution = entry.dist.name if entry.dist else ""
        if names is not None:
            seen |= {entry.name, distribution} & names
            if not {entry.name, distribution} & names:
                continue
        found.append(_load(entry, distribution, entry.dist.version if entry.dist else ""))
    for missing in sorted((names or set()) - seen):
        error = f"named in {ALLOW_VARIABLE} but not installed"
        found.append(Plugin(missing, "", error=error))
    return tuple(found)


def _load(entry: EntryPoint, distribution: str, version: str) -> Plugin:
    started = perf_counter()
    heavy_before = {m for m in HEAVY if m in sys.modules}
    printed = io.StringIO()
    specs: tuple[Spec, ...] = ()
    tables: tuple[TableSpec, ...] = ()
    error = ""
    warnings = []
    try:
        # What a plugin prints while it loads must not end up in somebody's --json.
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            module = importlib.import_module(entry.module)
            specs, tables = _collect(module)
            if module.UNLEARNBENCH_API in DEPRECATED_API:
                api = module.UNLEARNBENCH_API
                warnings.append(f"was written for API {api}, which is deprecated: {DEPRECATED_API[api]}")
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # SystemExit too: a plugin must not end the host
        error = described(problem)
    took = perf_counter() - started
    if took > SLOW_S:
        warnings.append(f"took {took:.1f} s to load; keep the entry point's module light")
    heavy = sorted({m for m in HEAVY if m in sys.modules} - heavy_before)
    warnings += [f"imports {module} while it loads; move it to the module that does the work" for module in heavy]
    if printed.closed or printed.getvalue().strip():
        warnings.append("prints while it loads")
    name, distribution = printable(entry.name), printable(distribution)
    return Plugin(name, entry.module, distribution, version, specs, tables, error, tuple(warnings), took)


def _collect(module: ModuleType) -> tuple[tuple[Spec, ...], tuple[TableSpec, ...]]:
    api = getattr(module, "UNLEARNBENCH_API", None)
    if api is None:
        raise ValueError(f"does not say which API it was written for; add UNLEARNBENCH_API = {API_VERSION}")
    if api not in SUPPORTED_API:
        raise ValueError(f"was written for API {api!r}; this host serves {SUPPORTED_API[0]} to {SUPPORTED_API[-1]}")
    manager = pluggy.PluginManager("unlearnbench")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name=module.__name__)
    manager.check_pending()
    found: list[Spec | TableSpec] = []
    for hook, kind in hookspecs.HOOKS.items():
        for answer in getattr(manager.hook, hook)():
            found.extend(_checked(hook, kind, answer))
    if not found:
        raise ValueError("implements no hook")
    found.sort(key=lambda s: (type(s).kind, s.name))
    return tuple(s for s in found if isinstance(s, Spec)), tuple(s for s in found if isinstance(s, TableSpec))


def _checked(hook: str, kind: str, answer: object) -> Iterable[Spec | TableSpec]:
    if not isinstance(answer, Iterable) or isinstance(answer, str):
        raise TypeError(f"{hook} must return a list of specs, not {type(answer).__name__}")
    for spec in answer:
        if not isinstance(spec, RETURNED[kind]):
            raise TypeError(f"{hook} must return {RETURNED[kind].__name__} objects, not {type(spec).__name__}")
        helps = [field.param.help for field in param_fields(spec.params)] if isinstance(spec, Spec) else []
        if not all(line.isprintable() for text in _texts([spec.to_json(), helps]) for line in text.split("\n")):
            raise ValueError(f"{spec.name} has a text with control characters, which could rewrite a terminal")
        yield spec


def _texts(document: object) -> Iterator[str]:
    """Every text in a JSON document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, list | dict):
        for part in document.values() if isinstance(document, dict) else document:
            yield from _texts(part)


def printable(text: str, most: int = 500) -> str:
    """Text from a plugin in one line without control characters, which could rewrite a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]


def described(problem: BaseException) -> str:
    """What a plugin raised, in one line; even its text is the plugin's code."""
    try:
        return printable(f"{type(problem).__name__}: {problem}".strip(": "))
    except Exception:
        return type(problem).__name__
