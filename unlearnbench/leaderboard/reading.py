"""Reading thousands of records: each checked as if it came alone, and kept as small as boards need it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
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
LEFT_OUT = "readings_left_out"
"""How many readings are not kept, in the document of a record that is one of many."""

_SHARED = ("data", "requests", "components", "environment")
"""Parts that are the same in many records; in memory they stand once."""
_OWN = ("id", "digest", "spec_id", "created", "status", "trainer", "certificate")
_VARYING = ("value", "gap", "interval", "verdict")
"""What differs between readings of one name; the rest of a reading is the same in all records of a scenario."""
_TOGETHER = 32

_known: dict[bytes, Any] = {}


def read_all(paths: Sequence[Path]) -> tuple[list[Record], list[UnlearnBenchError]]:
    """Valid records, slim, and what is wrong with the others; several processes read where there are many."""
    found: list[Record | Problem] = []
    if len(paths) <= FEW:
        for path in paths:
            one = _checked(path)
            found.append(slim(one) if isinstance(one, Record) else one)
    else:
        workers = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        chunks = [paths[start : start + _TOGETHER] for start in range(0, len(paths), _TOGETHER)]
        seen: dict[bytes, Any] = {}
        # A fork of a process in which torch has threads may hang; a new interpreter cannot.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for chunk, packages in zip(chunks, pool.map(_packed, chunks), strict=True):
                for path, package in zip(chunk, packages, strict=True):
                    found.append(package if len(package) == 2 else _unpacked(package, path, seen))
    problems = [each[0](**each[1]) for each in found if not isinstance(each, Record)]
    return [each for each in found if isinstance(each, Record)], problems


Problem = tuple[type[UnlearnBenchError], dict[str, str]]
"""What is wrong, in a form that goes from one process to another."""


def _checked(path: Path) -> Record | Problem:
    try:
        record = read_record(path)
        if content_digest(record.document) != record.document["digest"]:
            raise DataError("wrong-digest", "its digest does not match its content", where=str(path),
                            hint="it was changed")  # fmt: skip
        return record
    except UnlearnBenchError as problem:
        return type(problem), problem.to_json()
    except ValueError as problem:  # integers that JSON can hold and RFC 8785 cannot
        return DataError, DataError("bad-value", str(problem), where=str(path)).to_json()


Package = tuple[
    tuple[Any, ...], tuple[str, ...], dict[str, int], dict[str, list[tuple[int, str]]], list[tuple[str, Any]], int
]
"""What boards need of a record, as it goes from one process to another.

Its own values; the JSON of parts that it shares with others, the spec without its seeds last; seeds; size and digest of
models; readings; how many of these were left out. Readings come in groups: the JSON of original's or gold's, or the
JSON of what is the same in all records with the values of this one.
"""


def _packed(paths: Sequence[Path]) -> list[Package | Problem]:
    """Records, checked and packed; a text that several have is one object, which is sent once."""
    texts: dict[str, str] = {}

    def text_of(value: Any) -> str:
        text = json.dumps(value)
        return texts.setdefault(text, text)

    found: list[Package | Problem] = []
    for path in paths:
        one = _checked(path)
        if not isinstance(one, Record):
            found.append(one)
            continue
        document = one.document
        spec = {name: value for name, value in document["spec"].items() if name != "seeds"}
        kept = [each for each in document["readings"] if DETAILS.isdisjoint(each["at"])]
        groups: list[tuple[str, Any]] = []
        for (subject, _), group in groupby(kept, key=lambda each: (each["subject"], each["measure"])):
            readings = list(group)
            if subject != "unlearned":  # the same for all unlearners of a seed
                groups.append((text_of(readings), None))
                continue
            heads = [{name: value for name, value in each.items() if name not in _VARYING} for each in readings]
            groups.append((text_of(heads), [tuple(each[name] for name in _VARYING) for each in readings]))
        models = {
            subject: [(each["parameters"], each["sha256"]) for each in models]
            for subject, models in document["models"].items()
        }
        own = tuple(document[name] for name in _OWN)
        shared = tuple(text_of(part) for part in (*(document[name] for name in _SHARED), spec))
        left_out = len(document["readings"]) - len(kept)
        found.append((own, shared, document["spec"]["seeds"], models, groups, left_out))
    return found


def _unpacked(package: Package, path: Path, seen: dict[bytes, Any]) -> Record:
    own, shared, seeds, models, groups, left_out = package
    *parts, spec = (_parsed(text, seen) for text in shared)
    document = {
        **dict(zip(_OWN, own, strict=True)),
        **dict(zip(_SHARED, parts, strict=True)),
        "spec": {**spec, "seeds": seeds},
        "models": {
            subject: [{"parameters": count, "sha256": sha256} for count, sha256 in found]
            for subject, found in models.items()
        },
        "readings": [reading for text, values in groups for reading in _readings(_parsed(text, seen), values)],
        LEFT_OUT: left_out,
    }
    return Record(document, path if path.is_dir() else path.parent)


def _readings(heads: Sequence[Mapping[str, Any]], values: Sequence[tuple[Any, ...]] | None) -> Iterator[Any]:
    if values is None:
        yield from heads
        return
    for head, (value, gap, interval, verdict) in zip(heads, values, strict=True):
        yield {**head, "value": value, "gap": gap, "interval": interval, "verdict": verdict}


def _parsed(text: str, seen: dict[bytes, Any]) -> Any:
    """What a text stands for, the same object each time; found by a digest, as a text may be long."""
    key = hashlib.sha256(text.encode()).digest()
    if key not in seen:
        seen[key] = json.loads(text)
    return seen[key]


def left_out(records: Iterable[Record]) -> int:
    """How many readings of records are not kept because there are so many records."""
    return sum(record.document.get(LEFT_OUT, 0) for record in records)


def slim(record: Record) -> Record:
    """The record as boards keep it, with the digest of the whole one: equal parts of records stand in memory once.

    ``controls`` is empty; ``record.controls`` makes them of the readings.
    """
    document = dict(record.document)
    # Original and gold are the same for all unlearners of a seed.
    document["readings"] = [each if each["subject"] == "unlearned" else _shared(each) for each in document["readings"]]
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
