"""What the plugin declares: two unlearners, their parameters and their paper. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "neggrad": {
        "comes-nearer-to-gold": "five steps of ascent at learning rate 1e-4 forget nothing of forty rows",
    },
    "fisher-forgetting": {
        "comes-nearer-to-gold": "resetting one row of the output layer moves the tiny network's rows too little",
    },
}


@dataclass(frozen=True)
class NegGradParams(Recipe):
    """Ascent by SGD with momentum 0.9 and weight decay 5e-4, 5 epochs of batches of 256 rows."""

    lr: Annotated[float, Param("Learning rate; it collapses abruptly above what the data bear.", gt=0)] = 1e-4
    epochs: Annotated[int, Param("Passes over the forget set.", ge=0, unit="epochs")] = 5
    stop_accuracy: Annotated[
        float | None, Param("Stop after the epoch that brings the accuracy on the forget set down to this.", ge=0, le=1)
    ] = None


@dataclass(frozen=True)
class FisherParams:
    """The noise, and what it is measured on."""

    alpha: Annotated[float, Param("Variance of the noise over the inverse of the Fisher diagonal.", ge=0)] = 1e-6
    form: Annotated[
        Literal["auto", "general"],
        Param("A class request also resets the class's row of the output layer (auto), or has noise alone (general)."),
    ] = "auto"
    rows: Annotated[
        int | None, Param("Rows of the retain set, drawn at random, for the Fisher diagonal; none takes all.", ge=1)
    ] = None


NEGGRAD_DEVIATIONS = (
    "Negative gradient is a baseline that the paper gives no schedule for; the defaults (learning rate 1e-4, 5 epochs, "
    "batches of 256 rows, momentum 0.9, weight decay 5e-4) are those of later comparisons for class requests.",
    "The ascent is on the forget set alone, an epoch is one pass over it, and the loss is neither clipped nor capped "
    "(clip_norm limits the gradient).",
    "stop_accuracy, which ends the ascent once the forget set is forgotten, is an addition.",
    "A batch that consists of a single row is normalised by BatchNorm's running statistics, since one row has none "
    "of its own.",
)
FISHER_DEVIATIONS = (
    "The variance is that of the authors' code, alpha * min(1 / (F + 1e-8), 1e3) averaged over the input dimension of "
    "a weight, capped at 1e2 in the output layer, times 10 in the output layer and in vectors; the paper derives a "
    "variance proportional to F^(-1/2).",
    "The Fisher diagonal is the mean over rows of the expectation of squared gradients of single rows, whatever the "
    "batch size; later re-implementations square the gradient of a batch.",
    "The output layer is the last linear layer or convolution with one row per class; the authors' code takes every "
    "tensor whose first dimension happens to be the number of classes.",
    "The class form sets the class's row of the output layer to noise of variance 1e-4 around 0; the authors' code "
    "multiplies this variance by 10 after it was set.",
    "form=general leaves out the class's row for a class request as well; requests for rows or groups are always "
    "served by the general form.",
    "rows limits the retain rows by a random draw; the authors' code uses all of them.",
    "Multi-label data, which the paper does not treat, have independent labels: the expectation is over one coin per "
    "label.",
    "Noise is added to weights alone: BatchNorm's running statistics stay.",
)

PAPER = Paper(
    title="Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks",
    authors=("Aditya Golatkar", "Alessandro Achille", "Stefano Soatto"),
    year=2020,
    venue="IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    doi="10.1109/CVPR42600.2020.00932",
    arxiv="1911.04933",
    bibtex="""@inproceedings{golatkar2020eternal,
  title     = {Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks},
  author    = {Golatkar, Aditya and Achille, Alessandro and Soatto, Stefano},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages     = {9301--9309},
  year      = {2020},
  doi       = {10.1109/CVPR42600.2020.00932},
}""",
    deviations=(*NEGGRAD_DEVIATIONS, *FISHER_DEVIATIONS),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    return [
        UnlearnerSpec(
            name="neggrad",
            summary="Negative gradient (NegGrad): ascend the loss of the forget set, and nothing else.",
            target="unlearnbench_golatkar.method:NegGrad",
            params=NegGradParams,
            paper=replace(PAPER, deviations=NEGGRAD_DEVIATIONS),
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
            reads=("forget",),
        ),
        UnlearnerSpec(
            name="fisher-forgetting",
            summary="Fisher forgetting: noise on the weights, the more the less the retain set depends on them.",
            target="unlearnbench_golatkar.method:FisherForgetting",
            params=FisherParams,
            paper=replace(PAPER, deviations=FISHER_DEVIATIONS),
            tasks=("classification", "multi-label"),
            reads=("retain",),
        ),
    ]
