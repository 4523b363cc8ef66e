"""Requests that were served: what the record says of each, and what verifies the certificates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save

from unlearnbench.api.errors import PluginError, UsageError
from unlearnbench.api.runtime import PhaseCost
from unlearnbench.schemas import BASE, validate
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import apart, whole

CERTIFICATE = f"{BASE}certificate/1.json"
"""Certificates that say they follow this schema are held to it; others are in their method's own words."""


def wrong_certificate(certificate: Any) -> str:
    """Where a certificate breaks the schema that it says it follows; empty where it does not, or follows none."""
    if not isinstance(certificate, Mapping) or certificate.get("$schema") != CERTIFICATE:
        return ""
    try:
        validate(certificate, "certificate", where="certificate")
    except UsageError as problem:
        return str(problem)
    return ""


def check_certificate(certificate: Mapping[str, Any] | None, unlearner: str) -> None:
    """Refuse a certificate that is not what it says it is, before it gets into a record.

    Raises:
        PluginError: it breaks its schema.
    """
    wrong = wrong_certificate(certificate)
    if wrong:
        raise PluginError("broken-contract", f"its certificate does not follow its schema: {wrong}",
                          where=f"unlearner {unlearner}")  # fmt: skip


def cost_json(cost: PhaseCost) -> dict[str, Any]:
    """A cost as the record keeps it."""
    return {
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "peak_memory_mb": cost.peak_memory_mb,
        "rows_read": dict(cost.rows_read),
    }


def stream_json(spec: RunSpec, stages: Stages) -> list[dict[str, Any]]:
    """Each request of a stream: what it cost, beside retraining where that was done, and its certificate."""
    measured = set(spec.measured_steps)
    found = []
    for step in range(len(spec.requests)):
        entry = stages.unlearned(spec, step)
        found.append(
            {
                "request": step,
                "cost": cost_json(entry.cost),
                "gold": cost_json(stages.gold(spec, step).cost) if step in measured else None,
                "certificate": entry.certificate,
            }
        )
    return found


def pack_proofs(spec: RunSpec, stages: Stages) -> bytes | None:
    """All weights and proofs that certificates speak about, as safetensors; None where nothing is certified.

    Names are ``original/WEIGHT``, ``REQUEST/model/WEIGHT`` and ``REQUEST/proof/NAME``.
    """
    entries = [stages.unlearned(spec, step) for step in range(len(spec.requests))]
    if all(entry.certificate is None for entry in entries):
        return None
    tensors = {f"original/{name}": weight for name, weight in stages.original(spec).weights.items()}
    for step, entry in enumerate(entries):
        tensors |= {f"{step}/model/{name}": weight for name, weight in entry.weights.items()}
        tensors |= {f"{step}/proof/{name}": tensor for name, tensor in entry.proof.items()}
    return save(whole(tensors))


def pack_artifacts(spec: RunSpec, stages: Stages) -> bytes | None:
    """What the unlearner left after the last request and measures kept, as safetensors; None where no tensor is there.

    What is JSON is the one metadata entry ``artifacts``.
    """
    tensors, told = apart(stages.unlearned(spec, len(spec.requests) - 1).artifacts)
    tensors |= stages.kept.get(spec.id, {})
    if not tensors:
        return None
    return save(whole(tensors), {"artifacts": json.dumps(told, sort_keys=True, allow_nan=False)})
