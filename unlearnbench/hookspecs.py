"""The hooks. Each returns a list of specs; nothing heavy may be imported to answer it."""

from __future__ import annotations

from collections.abc import Iterable

from pluggy import HookspecMarker

from unlearnbench.api import DatasetSpec, MeasureSpec, ModelSpec, TableSpec, UnlearnerSpec

hookspec = HookspecMarker("unlearnbench")


@hookspec
def unlearnbench_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Data sets. The target is built with its parameters; ``load(job)`` returns ``Splits``."""


@hookspec
def unlearnbench_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Networks, and the wrappers that methods put around them. ``build(job)`` returns a module."""


@hookspec
def unlearnbench_unlearners() -> Iterable[UnlearnerSpec]:  # type: ignore[empty-body]
    """Unlearners. ``unlearn(job)`` is required; ``train``, ``prepare`` and ``check`` are optional."""


@hookspec
def unlearnbench_measures() -> Iterable[MeasureSpec]:  # type: ignore[empty-body]
    """Measures. ``measure(evidence)`` yields readings and is called once per subject."""


@hookspec
def unlearnbench_tables() -> Iterable[TableSpec]:  # type: ignore[empty-body]
    """Tables of papers. Columns name readings of measures; ``unlearnbench report --table NAME`` prints records so."""


HOOKS: dict[str, str] = {
    "unlearnbench_datasets": "dataset",
    "unlearnbench_models": "model",
    "unlearnbench_unlearners": "unlearner",
    "unlearnbench_measures": "measure",
    "unlearnbench_tables": "table",
}
"""Which kind of component each hook returns; a table is none, but is declared in the same way."""
