"""Runs of named scenarios, for the behaviour tests of plugins."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import unlearnbench
from unlearnbench import Record

CLASS, LOCATIONS = "digits-cnn-class3/v1", "location30-mlp-random10/v1"
"""A class of digits is forgotten; a tenth of Location-30, whose rows the original has memorised."""


def run_scenario(
    unlearner: str, scenario: str, params: Mapping[str, Any], out: Path, *, validation: float | None = None
) -> Record:
    """The record of an unlearner with seed 0, with these parameters in place of the scenario's."""
    return _run(
        unlearner,
        scenario=scenario,
        parameters={f"{unlearner}.{name}": value for name, value in params.items()},
        validation=validation,
        out=out,
    )


def measured(
    unlearner: str,
    scenario: str,
    measures: Sequence[str],
    out: Path,
    params: Mapping[str, Any] | None = None,
    *,
    store: Path | None = None,
) -> Record:
    """The record of an unlearner with seed 0 and these measures; parameters of components by ``component.name``.

    The test is skipped where the data of the scenario are not there.
    """
    if scenario.startswith("location30") and not os.environ.get("UNLEARNBENCH_DATA"):
        pytest.skip("UNLEARNBENCH_DATA does not say where Location-30 is")
    return _run(unlearner, scenario=scenario, measures=list(measures), parameters=params or {}, out=out, store=store)


def known(record: Record, key: str, subject: str = "unlearned") -> float:
    """A value that must be there."""
    value = record.value(key, subject)
    assert value is not None
    return value


def _run(unlearner: str, *, out: Path, store: Path | None = None, **options: Any) -> Record:
    (record,) = unlearnbench.run(unlearner, out=out, store=store or shared_store(out), **options)
    assert record.status == "complete"
    return record


def shared_store(folder: Path) -> Path:
    """One store for all tests of a session, so that originals and gold models are trained once.

    ``folder`` is any temporary folder of pytest. The folders of a session's processes lie side by side, and a store
    may be used by many processes at once. A process without siblings has a store of its own.
    """
    for place in folder.parents:
        if place.name.startswith("popen-gw"):
            return place.parent / "scenarios"
    return Path(_own().name)


@functools.cache
def _own() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="unlearnbench-scenarios-", ignore_cleanup_errors=True)
