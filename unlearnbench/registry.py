"""Components by kind and name, and the way from a spec to its class."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unlearnbench.api.errors import PluginError, UsageError, did_you_mean
from unlearnbench.api.specs import Spec
from unlearnbench.api.tables import TableSpec
from unlearnbench.plugins import Plugin, described, load_plugins


@dataclass(frozen=True)
class Component:
    """A spec and the plugin that brought it."""

    spec: Spec
    plugin: Plugin

    @functools.cached_property
    def cls(self) -> type[Any]:
        """The class behind the spec's target, imported on first use.

        Raises:
            PluginError: the target cannot be imported or is not a class.
        """
        module, _, name = self.spec.target.partition(":")
        where = f"{type(self.spec).kind} {self.spec.name}"
        hint = f"reinstall or remove {self.plugin.distribution}"
        # Here and not above: it imports torch, which only code that does the work may need.
        from unlearnbench.guard import restored

        try:
            with restored():
                found = getattr(importlib.import_module(module), name)
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # SystemExit too: a plugin must not end the host
            message = f"{self.spec.target} does not import ({described(problem)})"
            raise PluginError("plugin-broken", message, where=where, hint=hint) from problem
        if not isinstance(found, type):
            raise PluginError("plugin-broken", f"{self.spec.target} is not a class", where=where, hint=hint)
        return found

    def origin(self) -> dict[str, str]:
        """Where the component comes from, as records keep it."""
        return {
            "kind": type(self.spec).kind,
            "name": self.spec.name,
            "version": self.spec.version,
            "distribution": self.plugin.distribution,
            "distribution_version": self.plugin.version or _host_version(),
        }


@dataclass(frozen=True)
class BroughtTable:
    """A table of a paper and the plugin that brought it."""

    spec: TableSpec
    plugin: Plugin


class Registry:
    """Read-only collection of components; duplicates and broken plugins are kept as problems, not raised."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.plugins = tuple(plugins)
        by_name: dict[tuple[str, str], list[Component]] = {}
        for plugin in self.plugins:
            for spec in plugin.specs:
                by_name.setdefault((type(spec).kind, spec.name), []).append(Component(spec, plugin))
        self._components: Mapping[tuple[str, str], Component] = MappingProxyType(
            {key: found[0] for key, found in by_name.items() if len(found) == 1}
        )
        self.duplicates: Mapping[tuple[str, str], tuple[Component, ...]] = MappingProxyType(
            {key: tuple(found) for key, found in by_name.items() if len(found) > 1}
        )

        tables: dict[str, list[BroughtTable]] = {}
        for plugin in self.plugins:
            for table in plugin.tables:
                tables.setdefault(table.name, []).append(BroughtTable(table, plugin))
        self._tables: Mapping[str, BroughtTable] = MappingProxyType(
            {name: found[0] for name, found in sorted(tables.items()) if len(found) == 1}
        )
        self.duplicate_tables: Mapping[str, tuple[BroughtTable, ...]] = MappingProxyType(
            {name: tuple(found) for name, found in sorted(tables.items()) if len(found) > 1}
        )

    def names(self, kind: str) -> list[str]:
        """Names of a kind, sorted."""
        return sorted(name for k, name in self._components if k == kind)

    def components(self, kind: str) -> list[Component]:
        return [self._components[kind, name] for name in self.names(kind)]

    def get(self, kind: str, name: str, *, where: str = "") -> Component:
        """Look a component up.

        Raises:
            UsageError: unknown name, with suggestions and, if plugins are broken, their names.
            PluginError: two plugins bring the same name.
        """
        if (kind, name) in self.duplicates:
            both = " and ".join(_whose(c) for c in self.duplicates[kind, name])
            raise PluginError("duplicate-name", f"{kind} {name!r} is brought by {both}", hint="uninstall one of them")
        if (kind, name) not in self._components:
            raise unknown(kind, name, self.names(kind), where=where, hint=self._broken_hint())
        return self._components[kind, name]

    def tables(self) -> list[BroughtTable]:
        """Tables of papers, by name."""
        return list(self._tables.values())

    def table(self, name: str, *, where: str = "") -> BroughtTable:
        """Look a table of a paper up.

        Raises:
            UsageError: unknown name, with suggestions and, if plugins are broken, their names.
            PluginError: two plugins bring the same name.
        """
        if name in self.duplicate_tables:
            both = " and ".join(table.plugin.distribution for table in self.duplicate_tables[name])
            raise PluginError("duplicate-name", f"table {name!r} is brought by {both}", hint="uninstall one of them")
        if name not in self._tables:
            raise unknown("table", name, self._tables, where=where, hint=self._broken_hint())
        return self._tables[name]

    def problems(self) -> list[str]:
        """One line per broken plugin and per duplicate name."""
        lines = [f"plugin {p.name} ({p.distribution or p.module}): {p.error}" for p in self.plugins if p.error]
        for (kind, name), found in sorted(self.duplicates.items()):
            lines.append(f"{kind} {name!r} is brought by {' and '.join(_whose(c) for c in found)}; none is used")
        for name, tables in self.duplicate_tables.items():
            both = " and ".join(table.plugin.distribution for table in tables)
            lines.append(f"table {name!r} is brought by {both}; none is used")
        return lines

    def _broken_hint(self) -> str:
        broken = sorted(p.name for p in self.plugins if p.error)
        return f"plugins that did not load: {', '.join(broken)} (see `unlearnbench plugins`)" if broken else ""


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "", hint: str = "") -> UsageError:
    """The error for an unknown name: did you mean, else what there is."""
    return UsageError(
        f"unknown-{kind.replace(' ', '-')}",
        f"no {kind} {name!r}",
        where=where,
        hint="; ".join(filter(None, [did_you_mean(name, known), hint])),
    )


def _whose(component: Component) -> str:
    return f"{component.plugin.distribution} ({component.spec.target})"


def _host_version() -> str:
    from unlearnbench import __version__

    return __version__


@functools.cache
def registry() -> Registry:
    """The registry of everything that is installed and allowed; built once per process."""
    return Registry(load_plugins())
