"""Checks bound to components, what came of them, and the way into a plugin's own tests."""

from __future__ import annotations

import functools
import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from unlearnbench.api.errors import UnlearnBenchError, UsageError
from unlearnbench.api.tables import TableSpec
from unlearnbench.guard import deterministic
from unlearnbench.plugins import Plugin, described, load_plugins
from unlearnbench.registry import Component, Registry, unknown
from unlearnbench.testing import datasets, measures, models, packaging, tables, unlearners
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Broken, Check, NotApplicable, name_of, sentence_of
from unlearnbench.testing.problems import PLUGIN as PROBLEMS
from unlearnbench.testing.tables import TableBench

Status = Literal["passed", "failed", "expected", "not-applicable"]
BY_KIND: Mapping[str, tuple[Check, ...]] = {
    "unlearner": unlearners.CHECKS,
    "measure": measures.CHECKS,
    "dataset": datasets.CHECKS,
    "model": models.CHECKS,
}
OF_TABLES: tuple[Check, ...] = (packaging.supports_this_api, packaging.loads_light, *tables.CHECKS)
EXPECTED = "UNLEARNBENCH_EXPECTED_FAILURES"
"""A plugin's light module may hold ``{component: {check: reason}}`` under this name."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check of one component."""

    component: str
    kind: str
    check: str
    sentence: str
    status: Status
    message: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


@dataclass(frozen=True)
class Bound:
    """A check bound to a component or a table. Calling it holds it to the sentence, as a test does."""

    bench: Bench | TableBench = field(repr=False)
    check: Check
    is_last: bool = False

    @property
    def id(self) -> str:
        """Component and check, as they are shown."""
        kind = f"{TableSpec.kind}-" if isinstance(self.bench, TableBench) else ""
        return f"{kind}{self.bench.spec.name}-{name_of(self.check)}"

    def outcome(self) -> Outcome:
        """Run the check. A failure that the plugin expects, with a reason, must happen."""
        # A table is data: there is no reason for which it could not be as it should.
        reasons = _expected(self.bench.component) if isinstance(self.bench, Bench) else {}
        expected = reasons.get(name_of(self.check), "")
        status: Status
        try:
            with deterministic(1):  # as in a run: another number of threads gives other bits
                self.check(self.bench)
            status, message = "passed", ""
        except NotApplicable as reason:
            status, message = "not-applicable", str(reason)
        except (Broken, UnlearnBenchError) as problem:
            status, message = "failed", str(problem)
        except Exception as problem:
            status, message = "failed", described(problem)
        if expected:
            fine = status == "failed"
            status, message = ("expected", expected) if fine else ("failed", f"expected to fail, but {status}")
        kind = type(self.bench.spec).kind
        return Outcome(self.bench.spec.name, kind, name_of(self.check), sentence_of(self.check), status, message)

    def __call__(self) -> None:
        outcome = self.outcome()
        if self.is_last and isinstance(self.bench, Bench):
            # A worker that is killed at the end of its tests leaves nothing behind.
            shutil.rmtree(self.bench.folder, ignore_errors=True)
        if outcome.status == "failed":
            raise Broken(f"{outcome.sentence} {outcome.message}")
        if outcome.status in ("expected", "not-applicable"):
            import pytest

            (pytest.xfail if outcome.status == "expected" else pytest.skip)(outcome.message)


def _expected(component: Component) -> Mapping[str, str]:
    module = importlib.import_module(component.plugin.module)
    found: Mapping[str, Mapping[str, str]] = getattr(module, EXPECTED, {})
    return found.get(component.spec.name, {})


def checks_of(distribution: str) -> Iterator[Bound]:
    """Every check of every component and table that a distribution brings.

    Raises:
        UsageError: no such distribution is installed, it does not load, or it names checks that do not exist.
    """
    plugins = [plugin for plugin in load_plugins() if distribution in (plugin.distribution, plugin.name)]
    if not plugins:
        known = {plugin.distribution for plugin in load_plugins()}
        raise unknown("distribution", distribution, known, where="check", hint="is it installed here?")
    for plugin in plugins:
        yield from checks_of_plugin(plugin, load_plugins())


def checks_of_plugin(plugin: Plugin, installed: Iterable[Plugin]) -> Iterator[Bound]:
    """Every check of every component and table of one plugin, among the plugins that are there.

    Raises:
        UsageError: it does not load, or it expects failures of checks that do not exist.
    """
    if plugin.error:
        raise UsageError("plugin-broken", plugin.error, where=plugin.name, hint="mend it, then check it again")
    registry = Registry([*installed, PROBLEMS])
    for spec in plugin.specs:
        kind = type(spec).kind
        component = registry.get(kind, spec.name)
        checks = (*packaging.CHECKS, *BY_KIND[kind])
        stray = set(_expected(component)) - {name_of(check) for check in checks}
        if stray:
            raise unknown("check", min(stray), map(name_of, checks), where=f"{plugin.module}.{EXPECTED}")
        bench = Bench(component, registry, functools.partial(_folder, plugin.distribution, kind, spec.name))
        yield from (Bound(bench, check, check is checks[-1]) for check in checks)
    for table in plugin.tables:
        brought = TableBench(registry.table(table.name), registry)
        yield from (Bound(brought, check) for check in OF_TABLES)


def _folder(*names: str) -> Path:
    """A place for the store of one component, made when it is first asked for and removed when the process ends."""
    return Path(_temporary(*names).name)


@functools.cache
def _temporary(*names: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="unlearnbench-kit-", ignore_cleanup_errors=True)


def outcomes(distribution: str) -> Iterator[Outcome]:
    """Run every check of a distribution; see ``checks_of``."""
    yield from (bound.outcome() for bound in checks_of(distribution))


def parametrize_with_checks(distribution: str) -> Callable[[Any], Any]:
    """Turn a test function with an argument ``check`` into one test for every check of a distribution."""
    import pytest

    bound = list(checks_of(distribution))
    return pytest.mark.parametrize("check", bound, ids=[one.id for one in bound])
