"""The contract of a paper's table: it is a declaration, and the readings that its columns name are there."""

from __future__ import annotations

import json
from dataclasses import dataclass

from unlearnbench.api.specs import MeasureSpec
from unlearnbench.api.tables import TableSpec
from unlearnbench.registry import BroughtTable, Registry
from unlearnbench.testing.contract import Check, NotApplicable, require


@dataclass(frozen=True)
class TableBench:
    """A table and the components that are installed beside it."""

    component: BroughtTable
    registry: Registry

    @property
    def spec(self) -> TableSpec:
        return self.component.spec


def table_is_a_document(bench: TableBench) -> None:
    """The table goes to JSON and back unchanged."""
    document = bench.spec.to_json()
    require(json.loads(json.dumps(document, allow_nan=False)) == document, "JSON changes it")


def names_readings_that_exist(bench: TableBench) -> None:
    """Every column names a reading that its measure declares, where the measure is installed."""
    looked_at = 0
    for column in bench.spec.columns:
        if column.measure not in bench.registry.names("measure"):
            continue
        measure = bench.registry.get("measure", column.measure).spec
        assert isinstance(measure, MeasureSpec)
        looked_at += 1
        declared = [reading.name for reading in measure.readings]
        found = any(reading.covers(column.reading) for reading in measure.readings)
        require(found, f"{column.heading}: {column.measure} declares {', '.join(declared)}, not {column.reading}")
    if not looked_at:
        raise NotApplicable("none of its measures is installed")


CHECKS: tuple[Check, ...] = (table_is_a_document, names_readings_that_exist)
