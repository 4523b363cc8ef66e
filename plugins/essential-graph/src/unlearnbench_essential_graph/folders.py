"""What a run left in its folder, read with care: both files may be anybody's, and nothing in them is executed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from unlearnbench.api import DataError, IncompatibleError
from unlearnbench_essential_graph.graph import PRUNED, SELECTED, Graph, graph_from

RECORD, ARTIFACTS = "record.json", "artifacts.safetensors"
HINT = "name the folder that a run left"
SUBJECTS = ("original", "gold", "unlearned")
INVERSION = "target-inversion"
MOST_TEXT = 64 << 20
"""Characters of JSON that are looked at."""


@dataclass
class Pictures:
    """Pictures of one target: its rows' mean, what the attack recovered from each subject, and the record's scores.

    Images are [channels, h, w] in [0, 1]; ``scores`` are values by subject and name of the reading.
    """

    mean: Tensor
    recovered: dict[str, Tensor] = field(default_factory=dict)
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)


def read_graph(run: Path) -> Graph:
    """The essential graph that a run left.

    Raises:
        DataError: files are missing or damaged.
        IncompatibleError: the run left no essential graph.
    """
    tensors, told = _artifacts(run, (SELECTED, PRUNED))
    if "graph" not in told:
        raise IncompatibleError("no-graph", "has no essential graph", where=str(_place(run, ARTIFACTS)),
                                hint="name the folder that a run of --unlearner essential-graph left")  # fmt: skip
    try:
        return graph_from({**told, **tensors})
    except ValueError as problem:
        raise DataError("wrong-artifact", str(problem)[:200], where=str(_place(run, ARTIFACTS)),
                        hint="run it again, or fetch the file again") from problem  # fmt: skip


def read_pictures(run: Path) -> dict[str, Pictures]:
    """What ``target-inversion`` kept, by target.

    Raises:
        DataError: files are missing or damaged.
        IncompatibleError: the run kept no pictures.
    """
    first = f"measures/{INVERSION}/"
    tensors, _ = _artifacts(run, (first,))
    found: dict[str, Pictures] = {}
    for subject in SUBJECTS:
        begins = f"{first}{subject}/mean/"
        for name in tensors:
            if name.startswith(begins):
                found.setdefault(name.removeprefix(begins), Pictures(tensors[name]))
        for target, pictures in found.items():
            picture = tensors.get(f"{first}{subject}/picture/{target}")
            if picture is not None:
                pictures.recovered[subject] = picture
    where = str(_place(run, ARTIFACTS))
    if not any(pictures.recovered for pictures in found.values()):
        raise IncompatibleError("no-pictures", f"has no pictures of {INVERSION}", where=where,
                                hint=f"run it with --measure {INVERSION}")  # fmt: skip
    for target, pictures in found.items():
        for image in (pictures.mean, *pictures.recovered.values()):
            drawable = image.ndim == 3 and image.is_floating_point() and image.numel() and bool(image.isfinite().all())
            if not drawable or image.shape != pictures.mean.shape:
                raise DataError("wrong-artifact", f"a picture of {target!r} is no image [channels, h, w] of numbers",
                                where=where, hint="run it again, or fetch the file again")  # fmt: skip
    _add_scores(run, found)
    return found


def _add_scores(run: Path, found: Mapping[str, Pictures]) -> None:
    readings = read_record(run).get("readings")
    try:
        for reading in readings if isinstance(readings, list) else ():
            target = reading["at"].get("target")
            if reading["measure"] == INVERSION and target in found:  # of a stream the last request, as the pictures
                value = reading["value"]
                number = float(value) if isinstance(value, int | float) else None
                found[target].scores.setdefault(str(reading["subject"]), {})[str(reading["name"])] = number
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as problem:
        raise DataError("wrong-record", "has readings that cannot be understood", where=str(_place(run, RECORD)),
                        hint=HINT) from problem  # fmt: skip


def read_record(run: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        DataError: it is not there, or no JSON object.
    """
    path = _place(run, RECORD)
    try:
        if path.stat().st_size > MOST_TEXT:
            raise DataError("wrong-record", "is larger than any record", where=str(path), hint=HINT)
        found = _parsed(path.read_text("utf-8"))
    except OSError as problem:
        raise DataError("missing-file", "is not there or cannot be read", where=str(path), hint=HINT) from problem
    except ValueError as problem:
        raise DataError("bad-json", f"is no JSON object: {str(problem)[:120]}", where=str(path), hint=HINT) from problem
    return found


def _artifacts(run: Path, begin: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors whose names begin so, and the JSON that stands beside them."""
    read_record(run)  # a folder without a record is no run's
    path = _place(run, ARTIFACTS)
    if not path.is_file():
        raise DataError("missing-file", "is not there, so the run kept neither graphs nor pictures", where=str(path),
                        hint="run --unlearner essential-graph, or --measure target-inversion")  # fmt: skip
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("artifacts", "{}")
            if len(text) > MOST_TEXT:
                raise ValueError("it says more than a run has to say")
            told = _parsed(text)
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(begin)}, told  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as problem:
        raise DataError("unreadable-file", f"cannot be read as safetensors: {str(problem)[:200]}", where=str(path),
                        hint=HINT) from problem  # fmt: skip


def _place(run: Path, name: str) -> Path:
    return (run.parent if run.suffix == ".json" else run) / name


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError for anything else."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
    except RecursionError as problem:
        raise ValueError("it is nested too deeply") from problem
    if not isinstance(found, dict):
        raise ValueError("it is something else")
    return found
