"""The certificate: what was removed, what is claimed of the model, and every number that the claim rests on.

Fields, all JSON; numbers are finite, and one that overflows is null:

==================  ================================================================================================
``$schema``         https://unlearnbench.org/schemas/certificate/1.json
``method``          "scalegun"
``claim``           "removal": the model is like one trained on what is left, in the sense of epsilon and delta
``epsilon``         > 0
``delta``           in (0, 1); already resolved where the parameter was 0
``alpha``           standard deviation of the noise in the objective
``ridge``           lambda of the objective
``level_weights``   [L + 1] w_0, ..., w_L
``rmax``            threshold of the propagation, relative as the parameter is
``classes``         C
``rows``            training rows that are left
``served``          requests so far, this one included
``removed``         {"edges", "nodes", "features"}: how many the requests so far have named
``pooling``         "pooled", "per-class" or "joint" (see ``bounds``)
``bound``           "direct" or "paper": which bound is held against the budget
``budget``          what it is held against: C budgets where pooled, else one
``value``           what is held against it, by the weights of the model as it was handed back
``holds``           whether value <= budget
``retrained``       whether this request passed the budget, so that the model was trained from scratch
``passed``          the value that passed it, or null
``retrains``        how often that happened so far
``terms``           for each class a list [C]: "training" (gradient that training left), "accumulated" (what the steps
                    since may have added), "approximation" (what exact propagation may add), "rounding" (what double
                    precision may hide), "gradient" (as it is), "direct" = gradient + approximation + rounding,
                    "paper" = training + accumulated + approximation + rounding; and "worst_case", the paper's
                    data-independent bound as one number or null
``state``           sha256 over the training rows' features and the graph's checksum
==================  ================================================================================================

The host adds ``digests`` of data, model and proof. The proof's tensors are ``noise`` [C, F] and ``rows`` [m] (training
nodes), and where the model was trained from scratch ``noise-before`` and ``stepped`` [C, F]: the noise until then and
the weights that passed the budget. Proofs and seeds are for an auditor, who draws the noise again. It hides nothing
from those who know it: the claim speaks of whoever sees the model alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearnbench_scalegun.bounds import Terms, allowed, budget
from unlearnbench_scalegun.linear import Array
from unlearnbench_scalegun.plugin import ScaleGunParams
from unlearnbench_scalegun.standing import Standing

SCHEMA = "https://unlearnbench.org/schemas/certificate/1.json"
METHOD = "scalegun"


def resolved_delta(p: ScaleGunParams, edges: int) -> float:
    """delta, or one over the number of edges before any request."""
    return p.delta or 1 / max(edges, 2)


def limit(p: ScaleGunParams, standing: Standing) -> float:
    """What the bound is held against."""
    one = budget(p.alpha, p.epsilon, resolved_delta(p, standing.edges))
    return allowed(p.pooling, len(standing.noise), one)


@dataclass(frozen=True)
class Passed:
    """A model that passed the budget: the value, the weights after the step, and the noise it was trained with."""

    value: float
    stepped: Array
    noise: Array


def document(p: ScaleGunParams, standing: Standing, terms: Terms, passed: Passed | None) -> dict[str, Any]:
    """The certificate of a model at these terms."""
    value, most = terms.value(p.bound, p.pooling), limit(p, standing)
    per_class = ("training", "accumulated", "approximation", "rounding", "gradient", "direct", "paper")
    return {
        "$schema": SCHEMA,
        "method": METHOD,
        "claim": "removal",
        "epsilon": p.epsilon,
        "delta": resolved_delta(p, standing.edges),
        "alpha": p.alpha,
        "ridge": p.ridge,
        "level_weights": list(standing.propagation.level_weights),
        "rmax": p.rmax,
        "classes": len(standing.noise),
        "rows": len(standing.rows),
        "served": standing.served,
        "removed": dict(standing.removed),
        "pooling": p.pooling,
        "bound": p.bound,
        "budget": finite(most),
        "value": finite(value),
        "holds": value <= most,
        "retrained": passed is not None,
        "passed": finite(passed.value) if passed else None,
        "retrains": standing.retrains,
        "terms": {
            **{name: [finite(x) for x in getattr(terms, name).tolist()] for name in per_class},
            "worst_case": finite(terms.worst_case),
        },
        "state": standing.digest(),
    }


def proof(standing: Standing, passed: Passed | None) -> dict[str, Tensor]:
    """What a verifier cannot work out from data, requests and models."""
    found = {"noise": standing.noise, "rows": standing.rows}
    if passed:
        found |= {"noise-before": passed.noise, "stepped": passed.stepped}
    return {name: torch.from_numpy(np.array(array)) for name, array in found.items()}


def finite(number: float) -> float | None:
    """The number, or None where it overflowed."""
    return number if isfinite(number) else None
