"""Records as a pandas data frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from unlearnbench.record import Record

if TYPE_CHECKING:
    import pandas as pd


def records_to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per reading, with the run that it belongs to: tidy data for groupby and plots."""
    import pandas as pd

    rows = []
    for record in records:
        spec = record.document["spec"]
        run = {
            "run": record.document["id"],
            "scenario": spec["scenario"],
            "unlearner": spec["unlearner"]["name"],
            "train_seed": spec["seeds"]["train"],
            "unlearn_seed": spec["seeds"]["unlearn"],
            "measure_seed": spec["seeds"]["measure"],
            "status": record.status,
        }
        for reading in record.readings:
            at = {f"at.{k}": v for k, v in reading["at"].items()}
            rows.append({**run, **{k: v for k, v in reading.items() if k not in ("at", "status")},
                         "reading_status": reading["status"], **at})  # fmt: skip
    return pd.DataFrame(rows)
