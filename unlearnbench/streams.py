"""Streams of requests in short: ``100x1``, or a file of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.schemas import load_json, load_yaml

COUNTED = re.compile(r"([1-9]\d*)x([1-9]\d*)\Z")
MOST = 100_000
"""Requests of a stream; each has a place in the record."""
LISTED = {"edges": "pairs", "nodes": "ids", "features": "ids", "samples": "ids"}
"""Where a request lists what it is for, by its kind."""
_HINT = (
    "write --requests 100x1, or name a file: .yaml or .json with a list of requests, .csv or .txt with one in a line"
)


def stream_of(text: str, like: Mapping[str, Any], base: Path | None = None) -> list[dict[str, Any]]:
    """Requests from ``COUNTxSIZE``, or from a file; ``like`` is a request of the kind that is meant.

    Of the first form, each request is drawn from what those before left, with a seed of its own. A line of a text file
    is one request: two numbers, the ends of an edge, or the id of a node or a row.

    Raises:
        UsageError: neither, or requests like this one cannot be counted out.
        DataError: the file cannot be read.
    """
    counted = COUNTED.match(text)
    if counted:
        return _counted(int(counted[1]), int(counted[2]), like)
    path = (base or Path()) / text
    try:
        content = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else "is not text"
        raise DataError("missing-file", f"cannot read {text}: {cause}", where="--requests", hint=_HINT) from problem
    if path.suffix in (".csv", ".txt"):
        return _lines(content, path.name, like)
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise UsageError("bad-file", f"ends in {path.suffix!r}", where=path.name, hint=_HINT)
    found = load_json(content, where=path.name) if path.suffix == ".json" else load_yaml(content, path.name)
    if not isinstance(found, list) or not found or not all(isinstance(request, dict) for request in found):
        raise UsageError("bad-request", "is not a list of requests", where=path.name, hint=_HINT)
    return found


def _counted(count: int, size: int, like: Mapping[str, Any]) -> list[dict[str, Any]]:
    if count > MOST:
        raise UsageError("bad-request", f"{count} requests are too many", where="--requests",
                         hint=f"at most {MOST} in a stream")  # fmt: skip
    kind = like.get("kind")
    listed = [key for key in ("ids", "pairs", "file", "partition") if key in like]
    if kind not in LISTED or listed:
        what = f"a request for {kind}" if kind not in LISTED else f"a request with {listed[0]}"
        raise UsageError("bad-request", f"{what} cannot be repeated", where="--requests",
                         hint="repeat a request that draws: --forget random=0.1 or edges=1")  # fmt: skip
    drawn = {key: value for key, value in like.items() if key not in ("count", "fraction", "seed")}
    if "degree" in drawn:
        return [{**drawn, "count": size} for _ in range(count)]
    first = int(like.get("seed", 0))
    return [{**drawn, "count": size, "seed": first + k} for k in range(count)]


def _lines(content: str, where: str, like: Mapping[str, Any]) -> list[dict[str, Any]]:
    kind = str(like.get("kind"))
    wanted = 2 if kind == "edges" else 1
    same = {"features": like["features"]} if kind == "nodes" and "features" in like else {}
    found: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.replace(",", " ").split()
        if kind not in LISTED or len(fields) != wanted or not all(field.isdecimal() for field in fields):
            what = "two numbers, the ends of an edge" if wanted == 2 else "one number, an id"
            raise DataError("bad-ids", f"line {number}: {line.strip()[:60]!r} is not {what}", where=where, hint=_HINT)
        element = [int(field) for field in fields]
        found.append({"kind": kind, **same, LISTED[kind]: [element] if wanted == 2 else element})
    if not found:
        raise DataError("bad-ids", "has no line", where=where, hint=_HINT)
    return found
