"""What a certificate states, beside the gradient that is really left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Better, Component, Evidence, Reading
from unlearnbench_scalegun.bounds import pooled
from unlearnbench_scalegun.certificate import METHOD
from unlearnbench_scalegun.model import decoupled
from unlearnbench_scalegun.residual import true_residual
from unlearnbench_scalegun.views import numbers, rows_of

NO_CERTIFICATE = "no-certificate"
UNITS = {"retrains": "models"}
NAMES: Mapping[str, Better] = {
    "bound": "lower",
    "budget": "higher",
    "true-residual": "lower",
    "within-budget": "higher",
    "bound-holds": "higher",
    "retrains": "lower",
}


class CertificateReadings(Component[NoParams]):
    """A subject without a certificate of ScaleGUN has readings without a value, which say so."""

    def measure(self, evidence: Evidence) -> Iterator[Reading]:
        certificate = evidence.certificate
        if certificate is None or certificate.get("method") != METHOD:
            for name, better in NAMES.items():
                yield Reading(name, None, 0, better, unit=UNITS.get(name, ""), status=NO_CERTIFICATE)
            return
        stated = certificate["terms"][certificate["bound"]]
        true = remaining(evidence, certificate)
        holds = all(bound is None or real <= bound for real, bound in zip(true.tolist(), stated, strict=True))
        values: dict[str, float | None] = {
            "bound": certificate["value"],
            "budget": certificate["budget"],
            "true-residual": pooled(certificate["pooling"], numbers(true)),
            "within-budget": float(certificate["holds"]),
            "bound-holds": float(holds),
            "retrains": float(certificate["retrains"]),
        }
        for name, better in NAMES.items():
            status = "ok" if values[name] is not None else "non-finite"
            yield Reading(name, values[name], certificate["rows"], better, unit=UNITS.get(name, ""), status=status)


def remaining(evidence: Evidence, certificate: Mapping[str, Any]) -> Tensor:
    """The gradients' norms [C] on exact features of the graph after the request, over the rows that were trained on.

    A measured retain split lacks the ends of removed edges, which are training rows still; so rows come from the proof.
    """
    proof = evidence.proof
    retain, forget = evidence.view("retain").tensors(), evidence.view("forget").tensors()
    nodes = torch.cat([rows_of(retain), rows_of(forget)])
    classes = torch.cat([retain.y, forget.y])
    rows = proof["rows"]
    order = nodes.argsort()
    y = classes[order[torch.searchsorted(nodes[order], rows)]]
    model = decoupled(evidence.model())
    assert isinstance(model.head.weight, Tensor)
    return true_residual(model.head.weight, retain, rows, y, model.level_weights, proof["noise"], certificate["ridge"])
