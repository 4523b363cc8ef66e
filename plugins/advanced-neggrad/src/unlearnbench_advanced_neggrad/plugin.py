"""What Advanced NegGrad declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
_TWO_STEPS = "the default two epochs are two steps of plain SGD at 0.001 here"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "advanced-neggrad": {"comes-nearer-to-gold": _TWO_STEPS},
}


@dataclass(frozen=True)
class AdvancedNegGradParams(Recipe):
    """Plain SGD, 2 epochs of batches of 64 rows, without a limit on the forget loss."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.001
    momentum: Annotated[float, Param("Momentum of sgd; the others ignore it.", ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 0.0
    epochs: Annotated[int, Param("Passes over the retain set.", ge=0, unit="epochs")] = 2
    batch_size: Annotated[int, Param("Rows in a batch of either set.", ge=1, unit="rows")] = 64
    forget_cap: Annotated[
        float | None,
        Param("Loss from which on a forget row is left alone (4.6 = 1 % for its class); none: no limit.", gt=0),
    ] = None


PAPER = Paper(
    title=("Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition Systems"),
    authors=("Dasol Choi", "Dongbin Na"),
    year=2023,
    venue="arXiv preprint",
    doi="10.48550/arXiv.2311.02240",
    arxiv="2311.02240",
    bibtex="""@misc{choi2023towards,
  title         = {Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition
                   Systems},
  author        = {Choi, Dasol and Na, Dongbin},
  year          = {2023},
  eprint        = {2311.02240},
  archiveprefix = {arXiv},
  primaryclass  = {cs.CV},
}""",
    deviations=(
        "Defaults are those of published code for the paper's benchmarks: plain SGD, learning rate 0.001, 2 epochs, "
        "batches of 64 rows.",
        "forget_cap is an addition: the loss of each forget row counts up to the cap, so that a row that is forgotten "
        "pulls no further. Without it (the default, the paper's form) the objective has no lower bound.",
        "An epoch is a pass over the retain set, beside which the forget set starts over in a new order whenever it "
        "is used up; some published code stops with the shorter of the two.",
        "Batches of every size are used; published code skips those that are not full, and with them a forget set "
        "smaller than a batch.",
        "Each batch has a forward pass of its own, so that BatchNorm never mixes the two sets; a step in which either "
        "batch is a single row normalises by the running statistics, since one row has none of its own.",
        "No augmentation by default, because it depends on the data.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """One unlearner, capped or not."""
    return [
        UnlearnerSpec(
            name="advanced-neggrad",
            summary="Advanced NegGrad: descend on the retain set and ascend on the forget set in one step.",
            target="unlearnbench_advanced_neggrad.method:AdvancedNegGrad",
            params=AdvancedNegGradParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        )
    ]
