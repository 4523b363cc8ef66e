"""All that a plugin's light module may import: declarations, with the standard library and pluggy only.

The module that does the work imports ``unlearnbench.api.runtime`` as well.
"""

from pluggy import HookimplMarker

from unlearnbench.api.errors import (
    CheckFailed,
    DataError,
    IncompatibleError,
    Interrupted,
    PluginError,
    UnlearnBenchError,
    UsageError,
    did_you_mean,
)
from unlearnbench.api.params import NoParams, Param, Phase
from unlearnbench.api.recipe import Recipe
from unlearnbench.api.specs import (
    API_VERSION,
    ITEM_REQUESTS,
    DatasetSpec,
    MeasureSpec,
    ModelSpec,
    Paper,
    ReadingSpec,
    Spec,
    UnlearnerSpec,
)
from unlearnbench.api.tables import TableColumn, TableSpec

hookimpl = HookimplMarker("unlearnbench")
"""Marks the functions of a plugin module that implement hooks."""

__all__ = [
    "API_VERSION",
    "ITEM_REQUESTS",
    "CheckFailed",
    "DataError",
    "DatasetSpec",
    "IncompatibleError",
    "Interrupted",
    "MeasureSpec",
    "ModelSpec",
    "NoParams",
    "Paper",
    "Param",
    "Phase",
    "PluginError",
    "ReadingSpec",
    "Recipe",
    "Spec",
    "TableColumn",
    "TableSpec",
    "UnlearnBenchError",
    "UnlearnerSpec",
    "UsageError",
    "did_you_mean",
    "hookimpl",
]
