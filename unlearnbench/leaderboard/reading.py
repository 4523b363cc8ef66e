"""Reading thousands of records: each checked as if it came alone, and kept as small as boards need it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import DataError, UnlearnBenchError
from unlearnbench.identity import canonical_json
from unlearnbench.record import Record, content_digest, read_record

FEW = 2_000
"""Up to so many records are read by this process, and kept with all readings.

Above, others help, which takes seconds to start; and what is about single classes, thresholds or steps is not kept: it
is most of a record.
"""
DETAILS = frozenset({"class", "fpr", "target", "step", "epoch"})

_SHARED = ("data", "requests", "components", "environment")
"""Parts that are the same in many records; in memory they stand once."""

_known: dict[bytes, Any] = {}


def read_all(paths: Sequence[Path]) -> tuple[list[Record], list[UnlearnBenchError]]:
    """Valid records, slim, and what is wrong with the others; several processes read where there are many."""
    detailed = len(paths) <= FEW
    if len(paths) <= FEW:
        found = [_checked(path, detailed=detailed) for path in paths]
    else:
        workers = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        # A fork of a process in which torch has threads may hang; a new interpreter cannot.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            found = []
            for one in pool.map(partial(_checked, detailed=detailed), paths, chunksize=32):
                found.append(slim(one) if isinstance(one, Record) else one)
    problems = [each[0](**each[1]) for each in found if not isinstance(each, Record)]
    return [each for each in found if isinstance(each, Record)], problems


Problem = tuple[type[UnlearnBenchError], dict[str, str]]
"""What is wrong, in a form that goes from one process to another."""


def _checked(path: Path, *, detailed: bool) -> Record | Problem:
    try:
        record = read_record(path)
        if content_digest(record.document) != record.document["digest"]:
            raise DataError("wrong-digest", "its digest does not match its content", where=str(path),
                            hint="it was changed")  # fmt: skip
        return slim(record, detailed=detailed)
    except UnlearnBenchError as problem:
        return type(problem), problem.to_json()
    except ValueError as problem:  # integers that JSON can hold and RFC 8785 cannot
        return DataError, DataError("bad-value", str(problem), where=str(path)).to_json()


def slim(record: Record, *, detailed: bool = True) -> Record:
    """The record as boards keep it, with the digest of the whole one: equal parts of records stand in memory once.

    ``controls`` is empty; ``record.controls`` makes them of the readings.
    """
    document = dict(record.document)
    readings = [each for each in document["readings"] if detailed or DETAILS.isdisjoint(each["at"])]
    # Original and gold are the same for all unlearners of a seed.
    document["readings"] = [each if each["subject"] == "unlearned" else _shared(each) for each in readings]
    document["controls"] = []
    for part in _SHARED:
        document[part] = _shared(document[part])
    document["spec"] = {
        name: _shared(value) if isinstance(value, dict | list) else value for name, value in document["spec"].items()
    }
    return Record(document, record.folder)


def _shared(value: Any) -> Any:
    if len(_known) >= 200_000:  # records that share nothing are not kept for ever
        _known.clear()
    return _known.setdefault(canonical_json(value), value)
