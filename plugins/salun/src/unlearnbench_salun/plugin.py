"""What SalUn declares: four unlearners, their parameters and their paper. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1
_IS_A_STAGE = "it returns a mask; the stages after it change the weights"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "saliency": {
        "weights-change": _IS_A_STAGE,
        "serves-any-size": _IS_A_STAGE,
        "comes-nearer-to-gold": _IS_A_STAGE,
    },
}


@dataclass(frozen=True)
class SaliencyParams:
    """How the weights that may change are picked."""

    density: Annotated[
        float, Param("Share of the weights that may change, rounded up to a whole weight.", gt=0, le=1)
    ] = 0.5
    mask_scope: Annotated[
        Literal["global", "layer"],
        Param("Where the share is taken: over all weights together (global) or within each weight tensor (layer)."),
    ] = "global"


@dataclass(frozen=True)
class RandomLabelsParams(Recipe):
    """The optimisation: SGD with momentum 0.9 and weight decay 5e-4, 10 epochs of batches of 256 rows."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.013
    draw: Annotated[
        Literal["wrong", "uniform"],
        Param("Random labels: always different from the true one (wrong), or uniform over all, it included (uniform)."),
    ] = "wrong"
    passes: Annotated[
        Literal["alternate", "mixed"],
        Param(
            "An epoch: a pass over the forget set, then one over the retain set (alternate), or both shuffled (mixed)."
        ),
    ] = "alternate"
    retain_weight: Annotated[float, Param("Weight alpha of the loss on the retain set.", gt=0)] = 1.0


@dataclass(frozen=True)
class SalUnParams(SaliencyParams, RandomLabelsParams):
    """SalUn is both: the picked weights are trained on random labels."""


@dataclass(frozen=True)
class SalUnSoftParams(RandomLabelsParams):
    """SalUn-soft trains as SalUn does and decides while training which weights stay."""

    passes: Annotated[
        Literal["alternate", "mixed"],
        Param(
            "An epoch: a pass over the forget set, then one over the retain set (alternate), or both shuffled (mixed)."
        ),
    ] = "mixed"
    mask_ratio: Annotated[
        float, Param("Share of the weights that are put back after the first step; it falls linearly to 0.", ge=0, le=1)
    ] = 0.5


MASK_DEVIATIONS = (
    "The saliency is the sum of the gradients of all forget rows without augmentation; the official code adds up "
    "gradients of batch means over shuffled, augmented batches, so that its mask depends on the batch size and the "
    "order.",
    "Exactly ceil(density * N) weights may change, equal saliencies counted in the order of the parameters; the "
    "official code rounds down and leaves ties to an unstable sort.",
    "mask_scope=layer, which picks within each weight tensor, is an addition; the paper's threshold is global.",
)
LABEL_DEVIATIONS = (
    "Random labels always differ from the true label (draw=wrong); the official code draws uniformly over all "
    "classes, the true one included (draw=uniform).",
    "The paper writes one objective over forget and retain set; passes=alternate is the official schedule for "
    "CIFAR-10 and SVHN, passes=mixed the one for CIFAR-100 and Tiny ImageNet, and both are offered for any data.",
    "retain_weight scales the loss of retain rows in either schedule; the official code has no such weight, as if it "
    "were 1.",
    "No augmentation by default, because it depends on the data; the official code crops and flips the images of "
    "CIFAR and Tiny ImageNet (augment=[flip, crop]).",
    "A batch that consists of a single row is normalised by BatchNorm's running statistics, since one row has none "
    "of its own.",
    "Multi-label data, which the paper does not treat, get every annotated label flipped (draw=wrong) or drawn as a "
    "fair coin (draw=uniform).",
)
SALUN_DEVIATIONS = (
    "Weights outside the mask stay bit-identical: they are restored and their optimiser state is cleared after each "
    "step; the published results come from code that masked gradients only, so that weight decay and momentum moved "
    "them.",
    "The mask covers weights alone, as in the official code: BatchNorm's running statistics change.",
    "The generative variants are not implemented.",
)
SOFT_DEVIATIONS = (
    "SalUn-soft follows the official code: after each step every weight's change is soft-thresholded at the magnitude "
    "below which the share mask_ratio * (1 - step / steps) of the changes lies. The paper states it as an l1 penalty "
    "on the change with a falling weight.",
    "The change is that from the original model; the official code measures it from the weights at the start of each "
    "epoch.",
    "The share falls with every step over the whole run; the official code lets it fall once an epoch (CIFAR) or begin "
    "anew within it (SVHN).",
    "mask_ratio is 0.5 as the density of SalUn; the official command line lacks this argument, and no value is "
    "published with the code.",
    "Where no weight is to be put back nothing is thresholded; the official code fails there.",
)

PAPER = Paper(
    title=(
        "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification "
        "and Generation"
    ),
    authors=("Chongyu Fan", "Jiancheng Liu", "Yihua Zhang", "Eric Wong", "Dennis Wei", "Sijia Liu"),
    year=2024,
    venue="International Conference on Learning Representations (ICLR)",
    doi="10.48550/arXiv.2310.12508",
    arxiv="2310.12508",
    bibtex="""@inproceedings{fan2024salun,
  title     = {{SalUn}: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification
               and Generation},
  author    = {Fan, Chongyu and Liu, Jiancheng and Zhang, Yihua and Wong, Eric and Wei, Dennis and Liu, Sijia},
  booktitle = {International Conference on Learning Representations},
  year      = {2024},
  eprint    = {2310.12508},
  archiveprefix = {arXiv},
}""",
    deviations=(*MASK_DEVIATIONS, *LABEL_DEVIATIONS, *SALUN_DEVIATIONS),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """SalUn, its two halves as stages (``saliency+random-labels`` is SalUn as a chain), and its soft form."""
    return [
        UnlearnerSpec(
            name="salun",
            summary="SalUn: train the weights most salient for the forget set on random labels and the retain set.",
            target="unlearnbench_salun.method:SalUn",
            params=SalUnParams,
            version="2",
            paper=PAPER,
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        ),
        UnlearnerSpec(
            name="saliency",
            summary="Chain stage: only the weights most salient for the forget set may change in later stages.",
            target="unlearnbench_salun.method:Saliency",
            params=SaliencyParams,
            paper=replace(PAPER, deviations=MASK_DEVIATIONS),
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
            reads=("forget",),
            stage_only=True,
            invariant_to=("row-order", "batch-size"),
        ),
        UnlearnerSpec(
            name="random-labels",
            summary="Random labels (RL): train on the forget set with random labels, and on the retain set.",
            target="unlearnbench_salun.method:RandomLabels",
            params=RandomLabelsParams,
            version="2",
            paper=replace(PAPER, deviations=LABEL_DEVIATIONS),
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        ),
        UnlearnerSpec(
            name="salun-soft",
            summary="SalUn-soft: random labels; after each step the weights are drawn back, many of them all the way.",
            target="unlearnbench_salun.method:SalUnSoft",
            params=SalUnSoftParams,
            paper=replace(PAPER, deviations=(*LABEL_DEVIATIONS, *SOFT_DEVIATIONS)),
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        ),
    ]
