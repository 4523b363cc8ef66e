"""What SSD declares: one unlearner, its parameters and its papers. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
_ALPHA = "the default alpha of 10 is above |D|/|D_f| of the request, where SSD provably selects nothing, and warns"
UNLEARNBENCH_EXPECTED_FAILURES = {"ssd": {"weights-change": _ALPHA, "comes-nearer-to-gold": _ALPHA}}


@dataclass(frozen=True)
class SsdParams:
    """Which weights are dampened, and how much."""

    alpha: Annotated[
        float,
        Param("Selects weights that matter to the forget set more than alpha times as much.", gt=0, phase="unlearn"),
    ] = 10.0
    dampening: Annotated[
        float, Param("Dampening constant lambda: smaller ones dampen more.", ge=0, phase="unlearn")
    ] = 1.0
    selection: Annotated[
        Literal["fixed", "adaptive"],
        Param(
            "Alpha as it is given (fixed), or taken from the size of the forget set (adaptive, ASSD).", phase="unlearn"
        ),
    ] = "fixed"
    importance: Annotated[
        Literal["per-sample", "batch", "label-free"],
        Param(
            "Mean of squared gradients of single rows (per-sample), of batches (batch), or mean of absolute gradients "
            "of the squared norm of the outputs (label-free, LFSSD).",
            phase="prepare",
        ),
    ] = "per-sample"
    batch_size: Annotated[
        int, Param("Rows in a batch of the batch importance; others ignore it.", ge=1, unit="rows", phase="prepare")
    ] = 32


PAPER = Paper(
    title="Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening",
    authors=("Jack Foster", "Stefan Schoepf", "Alexandra Brintrup"),
    year=2024,
    venue="AAAI Conference on Artificial Intelligence",
    doi="10.1609/aaai.v38i11.29092",
    arxiv="2308.07707",
    bibtex="""@inproceedings{foster2024fast,
  title     = {Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening},
  author    = {Foster, Jack and Schoepf, Stefan and Brintrup, Alexandra},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume    = {38},
  number    = {11},
  pages     = {12043--12051},
  year      = {2024},
  doi       = {10.1609/aaai.v38i11.29092},
}""",
    deviations=(
        "Importances are means of squared gradients of single rows (importance=per-sample), as the formula says; the "
        "official code squares the gradient of each batch's mean loss, so that importances depend on the batch size "
        "and the order.",
        "With importances of single rows no weight can matter to the forget set more than |D|/|D_f| times as much as "
        "to all data, so that alpha from there on selects nothing and warns; the default of 10 was tuned for squares "
        "of batches and does not carry over.",
        "importance=batch reproduces the official form with a stated batch size, in the order of the rows' ids; the "
        "official code shuffles.",
        "selection=adaptive (ASSD, Schoepf et al. 2024, arXiv 2402.10098) takes alpha as the percentile "
        "100 - ln(1 + 100 |D_f|/|D|) of the ratios of importances, interpolated linearly, over the weights that matter "
        "to the data at all.",
        "importance=label-free (LFSSD, Foster et al. 2024, arXiv 2402.19308) is the mean over single rows of the "
        "absolute gradient of the squared norm of the outputs.",
        "A weight that does not matter to the data (I_D = 0) but to the forget set is set to 0, as the formula says; "
        "one that matters to neither stays.",
        "Multi-label data, which the paper does not treat, use the mean loss over the annotated labels of a row, "
        "segmentation that over its annotated pixels, and detection the detector's own loss of an image.",
        "Requests for targets, which the paper does not treat, take the importance to the forget set of what is "
        "annotated there: the target's cells alone where its annotations are taken away (absent, unknown), complete "
        "rows where its images are (images), which is how Xu et al. (essential graph) apply the method.",
        "Where the target's cells alone are annotated, the two importances are of different losses, so that the bound "
        "|D|/|D_f| does not hold and a given alpha means something else; importance=label-free reads no annotation and "
        "is that of complete rows in any case.",
        "Where the target's boxes alone are annotated, the importance to the forget set is that of the mean over these "
        "boxes of the negative log-probability of their class at their place, because a detector's own loss takes "
        "whatever has no box for background.",
        "importance=label-free refuses detection, where outputs for training are losses.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    return [
        UnlearnerSpec(
            name="ssd",
            summary="SSD: dampen the weights that matter much more to the forget set than to all data.",
            target="unlearnbench_ssd.method:Ssd",
            params=SsdParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "detection"),
            requests=(*ITEM_REQUESTS, "target"),
            reads=("forget", "train"),
        )
    ]
