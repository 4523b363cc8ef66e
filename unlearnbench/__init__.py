"""UnlearnBench evaluates machine unlearning: train, forget, compare with the gold model, keep a record that holds.

``unlearnbench.run(...)`` does what the command line does and returns the records; ``records_to_frame`` puts their
readings into a pandas data frame. Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearnbench.frames import records_to_frame as records_to_frame
    from unlearnbench.record import Record as Record
    from unlearnbench.session import run as run

__version__ = version("unlearnbench")
__all__ = ["Record", "__version__", "records_to_frame", "run"]

_LAZY = {
    "Record": "unlearnbench.record",
    "records_to_frame": "unlearnbench.frames",
    "run": "unlearnbench.session",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
