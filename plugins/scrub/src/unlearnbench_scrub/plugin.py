"""What the paper of SCRUB brings: three unlearners and their parameters. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from unlearnbench.api import ITEM_REQUESTS, Paper, Param, Recipe, UnlearnerSpec, hookimpl
from unlearnbench.api.recipe import Optimizer, Schedule

UNLEARNBENCH_API = 1
_STARTS_FLAT = "the divergence from the teacher is flat at the start, and three small batches move it too little to see"
_TINY_WEIGHT = "the default alpha leaves the forget loss a ten-thousandth of the weight, too little for ten steps"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "scrub": {"comes-nearer-to-gold": _STARTS_FLAT},
    "scrub-r": {"comes-nearer-to-gold": _STARTS_FLAT},
    "neggrad-plus": {"comes-nearer-to-gold": _TINY_WEIGHT},
}


@dataclass(frozen=True)
class ScrubParams(Recipe):
    """The small-scale notebook: Adam, 10 epochs, three of them with a max epoch, the rate cut after 5, 8 and 9."""

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd, adam or adamw (torch.optim).")] = "adam"
    lr: Annotated[float, Param("Learning rate of max and min steps.", gt=0)] = 5e-4
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 0.1
    epochs: Annotated[int, Param("Min epochs: passes over the retain set.", ge=0, unit="epochs")] = 10
    batch_size: Annotated[int, Param("Retain rows in a batch of a min epoch.", ge=1, unit="rows")] = 32
    schedule: Annotated[Schedule, Param("How the learning rate changes, from one epoch to the next.")] = "multistep"
    milestones: Annotated[
        tuple[int, ...], Param("Epochs after which multistep multiplies the learning rate by gamma.")
    ] = (5, 8, 9)
    msteps: Annotated[
        int, Param("The first msteps epochs begin with a max epoch: a pass over the forget set.", ge=0, unit="epochs")
    ] = 3
    forget_batch_size: Annotated[int, Param("Forget rows in a batch of a max epoch.", ge=1, unit="rows")] = 64
    kl_weight: Annotated[
        float, Param("The paper's alpha: weight of the divergence from the teacher in min epochs.", ge=0)
    ] = 0.5
    loss_weight: Annotated[float, Param("The paper's gamma: weight of the task's loss in min epochs.", ge=0)] = 1.0
    temperature: Annotated[float, Param("Temperature of the divergence, in max and min epochs.", gt=0)] = 2.0
    clip_norm: Annotated[
        float | None, Param("Largest gradient norm, also in max epochs, whose loss has no bound; none: no limit.", gt=0)
    ] = None


@dataclass(frozen=True)
class NegGradPlusParams(Recipe):
    """The large-scale notebook: SGD, learning rate 0.01, 10 epochs of batches of 128 rows, alpha 0.9999."""

    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 0.01
    epochs: Annotated[int, Param("Passes over the retain set.", ge=0, unit="epochs")] = 10
    batch_size: Annotated[int, Param("Rows in a batch of either set.", ge=1, unit="rows")] = 128
    alpha: Annotated[
        float, Param("Weight of the retain loss; 1 - alpha is the weight of the forget loss.", ge=0, le=1)
    ] = 0.9999


SCRUB_DEVIATIONS = (
    "Defaults are those of the authors' notebook for small data; for their large scale set optimizer=sgd, "
    "weight_decay=5e-4, kl_weight=0.001, loss_weight=0.99, temperature=4, msteps=2, epochs=3, batch_size=128, "
    "forget_batch_size=32, milestones=[3, 5, 9].",
    "Parameters have other names because a recipe has a gamma of its own: alpha is kl_weight, gamma is loss_weight.",
    "The parameter-smoothing term of the official code is left out: it compares the student with itself and is zero.",
    "clip_norm (none by default, as in the official code) limits the gradients of all steps; the loss of a max epoch "
    "has no bound.",
    "A batch that consists of a single row is normalised by BatchNorm's running statistics, since one row has none "
    "of its own.",
    "Multi-label data, which the paper does not treat, use the mean over the labels of the divergence of each "
    "label's Bernoulli distribution.",
)
REWIND_DEVIATIONS = (
    "The reference error is the final model's error in each class of the validation rows, averaged with the class "
    "shares of the forget set; the paper draws validation rows with that class distribution, which is the same in "
    "expectation and noisier.",
    "Classes of the forget set without validation rows are left out of the average and named in a warning.",
    "Of several checkpoints that are equally close to the reference error the latest is returned, whose retain set "
    "was repaired longest.",
    "Validation rows must be there (--validation 0.1 keeps a tenth of the training rows); they are kept from the "
    "original and from gold as well.",
)
NEGGRAD_DEVIATIONS = (
    "Defaults are those of the authors' notebook for large data; alpha depends strongly on data and learning rate.",
    "An epoch is a pass over the retain set, beside which the forget set starts over in a new order whenever it is "
    "used up; the official code repeats its first order.",
    "A step in which either batch is a single row normalises by BatchNorm's running statistics, since one row has "
    "none of its own.",
    "Multi-label data, which the paper does not treat, use the binary cross-entropy for both terms.",
)

PAPER = Paper(
    title="Towards Unbounded Machine Unlearning",
    authors=("Meghdad Kurmanji", "Peter Triantafillou", "Jamie Hayes", "Eleni Triantafillou"),
    year=2023,
    venue="Advances in Neural Information Processing Systems (NeurIPS)",
    doi="10.48550/arXiv.2302.09880",
    arxiv="2302.09880",
    bibtex="""@inproceedings{kurmanji2023towards,
  title     = {Towards Unbounded Machine Unlearning},
  author    = {Kurmanji, Meghdad and Triantafillou, Peter and Hayes, Jamie and Triantafillou, Eleni},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023},
  eprint    = {2302.09880},
  archiveprefix = {arXiv},
}""",
    deviations=SCRUB_DEVIATIONS,
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """SCRUB, SCRUB with rewinding, and the paper's baseline NegGrad+."""
    return [
        UnlearnerSpec(
            name="scrub",
            summary="SCRUB: leave the original as a teacher on the forget set, stay with it on the retain set.",
            target="unlearnbench_scrub.method:Scrub",
            params=ScrubParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        ),
        UnlearnerSpec(
            name="scrub-r",
            summary="SCRUB+R: SCRUB, rewound to the epoch whose forget error is that of unseen rows.",
            target="unlearnbench_scrub.method:ScrubR",
            params=ScrubParams,
            paper=replace(PAPER, deviations=(*SCRUB_DEVIATIONS[:-1], *REWIND_DEVIATIONS)),
            reads=("forget", "retain", "validation"),
        ),
        UnlearnerSpec(
            name="neggrad-plus",
            summary="NegGrad+: descend on the retain set and ascend on the forget set, weighted by alpha.",
            target="unlearnbench_scrub.method:NegGradPlus",
            params=NegGradPlusParams,
            paper=replace(PAPER, deviations=NEGGRAD_DEVIATIONS),
            tasks=("classification", "multi-label", "node-classification"),
            requests=(*ITEM_REQUESTS, "nodes"),
        ),
    ]
