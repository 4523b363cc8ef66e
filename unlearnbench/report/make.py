"""From records to the file."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from unlearnbench.api.errors import DataError
from unlearnbench.comparison import compare, grouped, reading_keys
from unlearnbench.record import Record
from unlearnbench.report.heat_maps import heat_maps
from unlearnbench.report.over_stream import stream_figures
from unlearnbench.report.page import render

_DETAIL = re.compile(r"\.(class|target|row|epoch|request)=")
"""Places of readings that are too many for a page; rows, classes and earlier requests of a stream have figures."""


def make_report(records: Sequence[Record]) -> str:
    """The page about all records, the same text for the same records."""
    keys = [key for key in reading_keys(records) if not _DETAIL.search(key)]
    groups = grouped(records)
    return render(compare(records, keys), [stream_figures(group) for group in groups], heat_maps(groups))


def write_report(page: str, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        DataError: it cannot be written there.
    """
    try:
        handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
                stream.write(page)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as problem:
        cause = problem.strerror or str(problem)
        hint = "choose another file with -o, in a folder that is there and can be written"
        raise DataError("cannot-write", cause, where=str(path), hint=hint) from problem
