"""Records written by hand, as the runner writes them: for tests of what reads records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlearnbench.api.runtime import Reading
from unlearnbench.record import PREDICTIONS, RECORD, SCHEMA, Record, content_digest, controls, pack_arrays, reading_json
from unlearnbench.spec import SCHEMA as SPEC_SCHEMA

INVOCATION = "0123456789abcdef" * 2
ROWS = {"forget": 146, "retain": 1291, "test": 323}
ACCURACY = {
    "original": {"forget": 0.9931, "retain": 0.9930, "test": 0.9783},
    "gold": {"forget": 0.0, "retain": 0.9899, "test": 0.9814},
    "unlearned": {"forget": 0.0137, "retain": 0.9938, "test": 0.9659},
}
SALUN = {"name": "salun", "params": {"density": 0.5, "epochs": 10, "lr": 0.01, "milestones": [], "optimizer": "sgd"}}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def run_document(
    *,
    unlearner: Mapping[str, Any] = SALUN,
    seeds: tuple[int, int, int] = (0, 0, 0),
    scenario: str | None = "digits-cnn-class3/v1",
    requests: Sequence[Mapping[str, Any]] = ({"kind": "class", "classes": ["3"]},),
    status: str = "complete",
    invocation: str = INVOCATION,
    created: str = "2026-11-21T08:00:00+00:00",
    extra: Sequence[Reading] = (),
) -> dict[str, Any]:
    """The document of a run; ``extra`` are readings of measure ``probe`` beside the usual accuracies."""
    spec = _spec(unlearner, seeds, scenario, requests)
    label = str(seeds[0]) if len(set(seeds)) == 1 else "-".join(map(str, seeds))
    spec_id = sha(json.dumps(spec, sort_keys=True))
    readings = [] if status == "failed" else _readings(len(requests), extra)
    finished = status != "failed"
    document = {
        "$schema": SCHEMA,
        "id": f"{(scenario or 'digits-cnn').replace('/', '-')}.{unlearner['name']}.s{label}.{spec_id[:10]}",
        "spec_id": spec_id,
        "invocation": invocation,
        "created": created,
        "status": status,
        "error": None if status == "complete" else _error(status),
        "spec": spec,
        "trainer": "recipe",
        "components": _components(unlearner),
        "data": {
            "train": {"digest": sha("train"), "rows": 1437},
            "validation": None,
            "test": {"digest": sha("test"), "rows": 360},
            "files": {},
        },
        "requests": [
            {
                "kind": request["kind"],
                "digest": sha(f"request {step}"),
                "forget": ROWS["forget"],
                "retain": ROWS["retain"],
                "holdout": 37,
                "holdout_digest": sha(f"holdout {step}"),
            }
            for step, request in enumerate(requests)
        ],
        "models": {s: [_model(s, unlearner["name"], label)] for s in ACCURACY} if finished else {},
        "readings": readings,
        "controls": controls(readings),
        "predictions": sha(f"predictions {unlearner['name']} {label}") if finished else None,
        "certificate": None,
        "costs": _costs() if finished else {},
        "stages": [_costs()["unlearn"]] if finished else [],
        "environment": {
            "python": "3.11.7",
            "platform": "Linux x86_64",
            "processor": "a processor",
            "cores": 2,
            "threads": 2,
            "device": "cpu",
            "packages": {"torch": "2.15.0"},
        },
        "warnings": [],
        "events": [],
        "files": [PREDICTIONS] if finished else [],
        "measures": [
            {"name": name, "timed": name == "run-cost", "status": "ok", "message": "", "cpu_s": 0.25}
            for name in dict.fromkeys(reading["measure"] for reading in readings)
        ],
    }
    document["digest"] = content_digest(document)
    return document


def write(out: Path, document: Mapping[str, Any]) -> Record:
    """Put a record and its predictions below ``out``, without looking at the document."""
    folder = out / document["id"]
    folder.mkdir(parents=True)
    for name in document["files"]:
        (folder / name).write_bytes(pack_arrays({"forget/ids": np.arange(3)}))
    (folder / RECORD).write_text(json.dumps(document), "utf-8")
    return Record(document, folder)


def _spec(unlearner: Any, seeds: tuple[int, int, int], scenario: str | None, requests: Any) -> dict[str, Any]:
    return {
        "$schema": SPEC_SCHEMA,
        "scenario": scenario,
        "task": "classification",
        "dataset": {"name": "digits", "params": {"split_seed": 0, "test_fraction": 0.2}},
        "model": {"name": "cnn", "params": {"channels": [16, 32], "hidden": 64}},
        "checkpoint": None,
        "recipe": {"optimizer": "adam", "lr": 0.001, "epochs": 30, "batch_size": 32},
        "validation": 0.0,
        "requests": [dict(request) for request in requests],
        "unlearner": dict(unlearner),
        "measures": [{"name": "accuracy", "params": {}}, {"name": "run-cost", "params": {}}],
        "seeds": dict(zip(("train", "unlearn", "measure"), seeds, strict=True)),
        "device": "cpu",
        "threads": 1,
    }


def _readings(requests: int, extra: Sequence[Reading]) -> list[dict[str, Any]]:
    found = []
    for step in range(requests):
        at = {"request": str(step)} if requests > 1 else {}
        for subject, accuracy in ACCURACY.items():
            for split, value in accuracy.items():
                # Earlier requests of a stream read a little lower, so that a mix-up of steps shows.
                reached = value - 0.01 * (requests - 1 - step) if value > 0.5 else value
                found.append(Reading("accuracy", reached, ROWS[split], split=split, at=at, subject=subject))
            found.append(Reading("accuracy", 0.9, 40, split="test", at={"class": "1", **at}, subject=subject))
    gold = {r.key: r for r in found if r.subject == "gold"}
    rows = [reading_json(reading, "accuracy", gold) for reading in found]
    gold = {r.key: r for r in extra if r.subject == "gold"}
    return rows + [reading_json(reading, "probe", gold) for reading in extra]


def _components(unlearner: Mapping[str, Any]) -> list[dict[str, str]]:
    kinds = [("dataset", "digits"), ("model", "cnn")]
    kinds += [("unlearner", stage["name"]) for stage in unlearner.get("stages", [unlearner])]
    kinds += [("measure", "accuracy"), ("measure", "run-cost")]
    return [
        {
            "kind": kind,
            "name": name,
            "version": "1",
            "distribution": "unlearnbench-salun" if kind == "unlearner" else "unlearnbench",
            "distribution_version": "0.1.0",
        }
        for kind, name in kinds
    ]


def _model(subject: str, unlearner: str, label: str) -> dict[str, Any]:
    return {
        "key": sha(f"key {subject} {unlearner} {label}"),
        "sha256": sha(f"weights {subject} {unlearner} {label}"),
        "ref": {"name": "cnn", "inputs": [1, 8, 8], "outputs": 10, "params": {"channels": [16, 32], "hidden": 64}},
        "parameters": 13706,
        "finite": True,
    }


def _costs() -> dict[str, dict[str, Any]]:
    return {
        "train": {"wall_s": 3.7, "cpu_s": 2.4, "peak_memory_mb": 0.1, "rows_read": {"train": 43110}},
        "train-gold": {"wall_s": 1.7, "cpu_s": 1.7, "peak_memory_mb": 0.1, "rows_read": {"train": 38730}},
        "unlearn": {"wall_s": 0.6, "cpu_s": 0.6, "peak_memory_mb": 2.0, "rows_read": {"forget": 1606, "retain": 12910}},
    }


def _error(status: str) -> dict[str, str]:
    if status == "diverged":
        return {"code": "diverged", "where": "run", "message": "has weights that are not finite", "hint": ""}
    return {"code": "plugin-raised", "where": "unlearner salun", "message": "ValueError: no rows", "hint": ""}
