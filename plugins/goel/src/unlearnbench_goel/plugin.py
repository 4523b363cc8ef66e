"""What CF-k and EU-k declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, Recipe, UnlearnerSpec, hookimpl
from unlearnbench.api.recipe import Schedule

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "cf-k": {
        "comes-nearer-to-gold": "it never reads the forget set, and the frozen layers still tell its class apart",
    },
    "eu-k": {
        "zero-epochs-change-nothing": "the last layers are new before their training begins",
    },
}

K = Param("How many layers are trained, counted from the output: modules with a weight matrix or kernel.", ge=1)


@dataclass(frozen=True)
class CfKParams(Recipe):
    """The authors' training: SGD with momentum 0.9 and weight decay 5e-5, 62 epochs of batches of 64 rows, cosine."""

    k: Annotated[int, K] = 1
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 5e-5
    epochs: Annotated[int, Param("Passes over the retain set.", ge=0, unit="epochs")] = 62
    batch_size: Annotated[int, Param("Rows in a batch; the last, smaller batch is kept.", ge=1, unit="rows")] = 64
    schedule: Annotated[Schedule, Param("How the learning rate changes over the run.")] = "cosine"
    clip_norm: Annotated[float | None, Param("Largest gradient norm; none leaves gradients as they are.", gt=0)] = 10.0


@dataclass(frozen=True)
class EuKParams:
    """The training is the original's; only its length can be set."""

    k: Annotated[int, K] = 1
    epochs: Annotated[
        int | None, Param("Passes over the retain set; none: as many as the original's recipe has.", ge=0)
    ] = None


@dataclass(frozen=True)
class ConfusionParams:
    """The two classes whose labels were swapped."""

    classes: Annotated[
        tuple[str, ...], Param("The two classes, by name; none: the two labels that occur in the forget set.")
    ] = ()


LAYER_DEVIATIONS = (
    "A layer is a module with a weight matrix or kernel of its own that is no normalisation: linear, convolution, "
    "embedding, attention, graph convolution; the official code knows Conv2d, Linear and BatchNorm2d.",
    "Frozen layers do not change at all: they have no weight decay, and frozen normalisation keeps its running "
    "statistics; in the official code frozen BatchNorm goes on averaging.",
    "The paper reports k from 1 to 7; k=1 is a default of ours.",
)
CF_DEVIATIONS = (
    "The learning rate falls along one cosine to zero; the authors restart the cosine after 1, 3, 7, 15 and 31 epochs "
    "and stop at 0.005.",
    "No augmentation by default, because it depends on the data (augment=[flip, crop]); the authors' CutMix is not "
    "implemented.",
)
EU_DEVIATIONS = (
    "Normalisation met on the way to the k-th layer starts anew as well, with its statistics, since it remembers the "
    "forgotten rows; the official code makes it trainable and keeps its values.",
    "New layers come from the network's own initialisation with a seed of their own.",
)
CONFUSION_DEVIATIONS = (
    "Both errors are told for the test rows and for the forgotten rows; of the latter the true label is the other one "
    "of the two, because theirs were swapped.",
    "The errors carry exact 95 % intervals; the targeted error is a count, as in the paper, of the rows given as n.",
)

PAPER = Paper(
    title="Towards Adversarial Evaluations for Inexact Machine Unlearning",
    authors=(
        "Shashwat Goel",
        "Ameya Prabhu",
        "Amartya Sanyal",
        "Ser-Nam Lim",
        "Philip Torr",
        "Ponnurangam Kumaraguru",
    ),
    year=2022,
    venue="arXiv",
    doi="10.48550/arXiv.2201.06640",
    arxiv="2201.06640",
    bibtex="""@misc{goel2022adversarial,
  title         = {Towards Adversarial Evaluations for Inexact Machine Unlearning},
  author        = {Goel, Shashwat and Prabhu, Ameya and Sanyal, Amartya and Lim, Ser-Nam and Torr, Philip and
                   Kumaraguru, Ponnurangam},
  year          = {2022},
  eprint        = {2201.06640},
  archiveprefix = {arXiv},
  primaryclass  = {cs.LG},
}""",
    deviations=LAYER_DEVIATIONS,
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """Both serve every network whose last layers can be told, and never read the forget set."""
    cf_k = UnlearnerSpec(
        name="cf-k",
        summary="Catastrophic forgetting (CF-k): train the last k layers on the retain set, the others stay.",
        target="unlearnbench_goel.method:CfK",
        params=CfKParams,
        paper=replace(PAPER, deviations=(*LAYER_DEVIATIONS, *CF_DEVIATIONS)),
        tasks=("classification", "multi-label", "segmentation", "node-classification"),
        requests=("samples", "class", "group", "target", "nodes", "edges", "features"),
        reads=("retain",),
    )
    eu_k = replace(
        cf_k,
        name="eu-k",
        summary="Exact unlearning of the last k layers (EU-k): new ones, trained as the original was.",
        target="unlearnbench_goel.method:EuK",
        params=EuKParams,
        paper=replace(PAPER, deviations=(*LAYER_DEVIATIONS, *EU_DEVIATIONS)),
    )
    return [cf_k, eu_k]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """The interclass confusion test, for forget sets of rows of two classes with swapped labels."""
    return [
        MeasureSpec(
            name="interclass-confusion",
            summary="Errors between two classes whose labels were swapped in the forget set (Fgt-Err and IC-Err).",
            target="unlearnbench_goel.confusion:InterclassConfusion",
            params=ConfusionParams,
            paper=replace(PAPER, deviations=CONFUSION_DEVIATIONS),
            requests=("samples", "group"),
            readings=(
                ReadingSpec(
                    name="fgt-err", better="by-split-lower", unit="rows",
                    summary="rows of either class that are taken for the other",
                ),
                ReadingSpec(
                    name="ic-err", better="by-split-lower",
                    summary="share of the rows of both classes that are taken for any other class",
                ),
            ),
        )
    ]  # fmt: skip
