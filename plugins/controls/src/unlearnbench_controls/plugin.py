"""What the controls declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import Param, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
_OURS = "it is a control made for this benchmark; nobody proposes it as a method"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "partial-retrain": {
        "names-its-paper": _OURS,
        "holds-masked-weights": "it trains from scratch; a chain refuses it after a mask",
        "comes-nearer-to-gold": "half of the class that is to be forgotten is learned again, on purpose",
    },
    "wrong-labels": {"names-its-paper": _OURS},
    "scrambled-head": {
        "names-its-paper": _OURS,
        "what-is-forgotten-stays-forgotten": "the features know it still, and a head that is trained on finds it again",
    },
}


@dataclass(frozen=True)
class PartialRetrainParams:
    """How much of the forget set stays."""

    kept: Annotated[
        float,
        Param("Share of the forget set that is trained on again: 1 is a fresh original, 0 another gold.", ge=0, le=1),
    ] = 0.5


@dataclass(frozen=True)
class RelabelParams:
    """How the model goes on training; what is not said is as in the original's recipe."""

    lr: Annotated[float | None, Param("Learning rate; none: that of the original's recipe.", gt=0)] = None
    epochs: Annotated[
        int | None,
        Param("Passes over both sets; none: as many as the original's recipe has.", ge=0, unit="epochs"),
    ] = None


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    return [
        UnlearnerSpec(
            name="partial-retrain",
            summary="Control: retrain on the retain set and a share of the forget set, which is then known to be left.",
            target="unlearnbench_controls.method:PartialRetrain",
            params=PartialRetrainParams,
            tasks=("classification", "multi-label"),
        ),
        UnlearnerSpec(
            name="wrong-labels",
            summary="Control: learn a fixed wrong label for every row of the forget set (over-unlearned).",
            target="unlearnbench_controls.method:WrongLabels",
            params=RelabelParams,
        ),
        UnlearnerSpec(
            name="scrambled-head",
            summary="Control: only the last layer unlearns, by random wrong labels; the features stay as they are.",
            target="unlearnbench_controls.method:ScrambledHead",
            params=RelabelParams,
        ),
    ]
