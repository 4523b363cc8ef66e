"""What a record becomes in MLflow: flat metrics, parameters, tags and artifacts, derived from the record alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.identity import digest
from unlearnbench.tracking.labels import experiment_name, seed_label

if TYPE_CHECKING:
    from unlearnbench.record import Record

# Limits of MLflow, which cuts longer parameters silently.
MAX_PARAM = 6000
MAX_TAG = 5000
MAX_NAME = 250
MAX_DIGITS = 10
"""Of a step."""
PLOTS = (".svg", ".png")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")


@dataclass(frozen=True)
class Point:
    """A number under its flat name; of a stream, after which request."""

    name: str
    value: float
    step: int = 0


def run_metrics(record: Record) -> dict[str, float]:
    """The numbers of a record by flat name, of a stream those after its last request."""
    return {point.name: point.value for point in run_points(record)}


def run_points(record: Record) -> list[Point]:
    """The numbers of a record, by step.

    ``<subject>/<measure>.<key>`` for readings, ``gap/<measure>.<key>`` for the unlearned model's signed distance to
    gold, ``cost/<phase>/<what>`` for costs. Values that do not exist are left out, never replaced. A stream's readings
    have one name for all requests, and each request is a step; ``stream/unlearn/<what>`` and
    ``stream/train-gold/<what>`` are the costs of each.
    """
    found: dict[tuple[str, int], Point] = {}  # MLflow takes a number once for each name and step
    names = _Names()

    def take(numbers: Mapping[str, Any], *place: str, step: int = 0) -> None:
        points = [Point(names(*place, key), float(n), step) for key, n in numbers.items() if _finite(n)]
        found.update({(point.name, point.step): point for point in points})

    streamed = "stream" in record.document
    for reading in record.readings:
        step, key = _step(reading) if streamed else (0, reading["key"])
        name = f"{reading['measure']}.{key}"
        take({name: reading["value"]}, reading["subject"], step=step)
        if reading["subject"] == "unlearned":
            take({name: reading["gap"]}, "gap", step=step)
    for phase, cost in record.document["costs"].items():
        take(_costs(cost), "cost", phase)
    for served in record.document.get("stream", ()):
        take(_costs(served["cost"]), "stream", "unlearn", step=served["request"])
        if served["gold"] is not None:
            take(_costs(served["gold"]), "stream", "train-gold", step=served["request"])
    return sorted(found.values(), key=lambda point: point.step)


def _step(reading: Mapping[str, Any]) -> tuple[int, str]:
    """After which request a reading was taken, and its flat name without that."""
    step = str(reading["at"].get("request", ""))
    if not (step.isascii() and step.isdigit() and len(step) < MAX_DIGITS):
        return 0, reading["key"]
    places = [f"{name}={value}" for name, value in reading["at"].items() if name != "request"]
    return int(step), ".".join(part for part in (reading["name"], reading["split"], *places) if part)


def _costs(cost: Mapping[str, Any]) -> dict[str, Any]:
    rows = {f"rows_read.{view}": rows for view, rows in cost["rows_read"].items()}
    return {**{what: cost[what] for what in ("wall_s", "cpu_s", "peak_memory_mb")}, **rows}


def run_params(record: Record) -> tuple[dict[str, str], list[str]]:
    """What identifies a run, and the names of the values that are too long and stand there by their digest."""
    spec = record.document["spec"]
    values: dict[str, Any] = {
        "unlearner": spec["unlearner"]["name"],
        **{f"seed.{part}": seed for part, seed in spec["seeds"].items()},
        **{f"request.{step}": request for step, request in enumerate(spec["requests"])},
    }
    if spec["checkpoint"]:
        values["checkpoint"] = spec["checkpoint"]["sha256"]
    for kind in ("dataset", "model"):
        values[kind] = spec[kind]["name"]
        values.update(_flat(spec[kind], f"{kind}."))
    for position, stage in enumerate(leaves := list(_leaves(spec["unlearner"]))):
        twice = [leaf["name"] for leaf in leaves].count(stage["name"]) > 1
        values.update(_flat(stage, f"{stage['name']}-{position}." if twice else f"{stage['name']}."))
    names = _Names()
    found, long = {}, []
    for key, value in values.items():
        name, text = names(key), value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        if len(text) > MAX_PARAM:
            long.append(name)
            text = f"sha256:{digest(value)}"
        found[name] = text
    return found, long


def run_tags(record: Record) -> dict[str, str]:
    """Where a run comes from, and why readings that have no value have none."""
    document = record.document
    found = {
        "mlflow.note.content": _note(record),
        "ub.schema": document["$schema"],
        "ub.spec_id": document["spec_id"],
        "ub.status": record.status,
        "ub.unlearner": record.unlearner,
        **{f"ub.request_digest.{step}": request["digest"] for step, request in enumerate(document["requests"])},
    }
    for part in ("train", "validation", "test"):
        if document["data"][part]:
            found[f"ub.data_digest.{part}"] = document["data"][part]["digest"]
    names = _Names()
    for origin in document["components"]:
        source = f"{origin['distribution']} {origin['distribution_version']}"
        found[names(f"ub.version.{origin['kind']}.{origin['name']}")] = f"{origin['version']} ({source})"
    if missing := [name for name in document["files"] if _plain_file(record, name) is None]:
        found["ub.missing_files"] = ", ".join(missing)
    for reading in record.readings:
        if not _finite(reading["value"]):
            name = names(f"status.{reading['subject']}", f"{reading['measure']}.{reading['key']}")
            found[name] = "non-finite" if reading["value"] is not None else reading["status"]
    return {name: text if len(text) <= MAX_TAG else f"{text[:MAX_TAG]} [cut]" for name, text in found.items()}


def artifacts(record: Record) -> list[Path]:
    """``record.json``, the files that it names and the plots beside it; links and other folders are left out."""
    beside = sorted(path.name for path in record.folder.iterdir() if path.suffix in PLOTS)
    names = dict.fromkeys([record.path.name, *record.document["files"], *beside])
    return [path for name in names if (path := _plain_file(record, name))]


def _plain_file(record: Record, name: str) -> Path | None:
    """A file in the record's folder itself; records of strangers must not pull in what lies elsewhere."""
    path = record.folder / name
    return path if Path(name).name == name and path.is_file() and not path.is_symlink() else None


def _note(record: Record) -> str:
    document = record.document
    lines = [
        f"**{record.unlearner}** on {experiment_name(document)}, seed {seed_label(document)}: {record.status}",
        f"Every number here comes from the record `{document['id']}`, which is the artifact `record.json`.",
    ]
    if document["error"]:
        lines.append(f"`{document['error']['code']}` {document['error']['where']}: {document['error']['message']}")
    return "\n\n".join(lines)


class _Names:
    """Names that every MLflow store takes: parts of letters, digits and ``_ - .``, joined by slashes.

    ``=`` becomes a dot and anything else an underscore. A name that had to be cut, or that an unlike one took before,
    ends in a digest of what it stands for.
    """

    def __init__(self) -> None:
        self._taken: dict[str, tuple[str, ...]] = {}

    def __call__(self, *parts: str) -> str:
        name = "/".join(_UNSAFE.sub("_", part.replace("=", ".")) for part in parts)
        if len(name) > MAX_NAME or self._taken.setdefault(name, parts) != parts:
            name = f"{name[: MAX_NAME - 13]}-{digest(list(parts))[:12]}"
        return name


def _flat(choice: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in choice["params"].items()}


def _leaves(choice: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The links of a chain, nested chains flattened in order."""
    if "stages" not in choice:
        yield choice
    for stage in choice.get("stages", ()):
        yield from _leaves(stage)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
