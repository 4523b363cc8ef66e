"""What Bad Teaching declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import ITEM_REQUESTS, MeasureSpec, Paper, Param, ReadingSpec, Recipe, UnlearnerSpec, hookimpl
from unlearnbench.api.recipe import Optimizer

UNLEARNBENCH_API = 1
_ONE_STEP = "the paper's single epoch at 1e-4 is one step here: 32 rows in batches of 256"
UNLEARNBENCH_EXPECTED_FAILURES = {
    "bad-teaching": {"comes-nearer-to-gold": _ONE_STEP},
}


@dataclass(frozen=True)
class BadTeachingParams(Recipe):
    """Adam, learning rate 1e-4, 1 epoch of batches of 256 rows, 30 % of the retain set."""

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd, adam or adamw (torch.optim).")] = "adam"
    lr: Annotated[float, Param("Learning rate (the peak, for schedules that warm up).", gt=0)] = 1e-4
    weight_decay: Annotated[float, Param("Weight decay (decoupled for adamw, L2 for the others).", ge=0)] = 0.0
    epochs: Annotated[int, Param("Passes over the forget set and the share of the retain set.", ge=0)] = 1
    retain_fraction: Annotated[
        float, Param("Share of the retain set that is used, drawn once, rounded up to a whole row.", gt=0, le=1)
    ] = 0.3
    temperature: Annotated[float, Param("Temperature of the divergence from the teachers.", gt=0)] = 1.0


@dataclass(frozen=True)
class ZrfParams:
    """How many random networks stand for the bad teacher."""

    nets: Annotated[int, Param("Random networks that are averaged over; one gives no interval.", ge=1)] = 5


@dataclass(frozen=True)
class EntropyAttackParams:
    """The authors' classifier, on as many members as non-members."""

    classifier: Annotated[
        Literal["svc", "logistic"], Param("svc (C = 3, RBF, gamma = auto) or logistic regression.")
    ] = "svc"
    limit: Annotated[
        int | None, Param("Most rows on each side of the attack's training set; none has no limit.", ge=2)
    ] = 2000


PAPER = Paper(
    title="Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent Teacher",
    authors=("Vikram S. Chundawat", "Ayush K. Tarun", "Murari Mandal", "Mohan Kankanhalli"),
    year=2023,
    venue="Proceedings of the AAAI Conference on Artificial Intelligence (AAAI)",
    doi="10.1609/aaai.v37i6.25879",
    arxiv="2205.08096",
    bibtex="""@inproceedings{chundawat2023bad,
  title     = {Can Bad Teaching Induce Forgetting? {U}nlearning in Deep Networks Using an Incompetent Teacher},
  author    = {Chundawat, Vikram S. and Tarun, Ayush K. and Mandal, Murari and Kankanhalli, Mohan},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  volume    = {37},
  number    = {6},
  pages     = {7210--7217},
  year      = {2023},
  doi       = {10.1609/aaai.v37i6.25879},
}""",
    deviations=(
        "The divergence is the mean over the rows of a batch of each row's sum over the classes, as the paper writes "
        "it; the official code leaves the default of its library, which divides by the number of classes as well.",
        "The divergence is multiplied by the square of the temperature, which keeps the size of its gradient; at the "
        "paper's temperature 1 this changes nothing.",
        "The student is in training mode; the official code never sets a mode.",
        "Defaults are what the paper ran (learning rate 1e-4, 1 epoch); the official function's own are 0.01 and 10.",
        "The bad teacher is the scenario's own network with new random weights, which depend on the seed.",
        "A batch that consists of a single row is normalised by BatchNorm's running statistics, since one row has "
        "none of its own.",
        "Multi-label data, which the paper does not treat, use the mean over the labels of the divergence of each "
        "label's Bernoulli distribution.",
        "Requests for targets, which the paper does not treat, are served at the level of rows, as Xu et al. "
        "(essential graph) do: the bad teacher teaches every row that carries the target, as a whole, and the good one "
        "only rows that do not, whichever annotations the request takes away.",
        "Segmentation, which the paper does not treat, uses the mean over the pixels of the divergence of each pixel's "
        "distribution over the classes.",
    ),
)

ZRF_DEVIATIONS = (
    "The divergence is in base 2, between 0 and 1, and a mean over rows of sums over classes; the official code also "
    "divides by the number of classes, which brings every value near 1.",
    "Each half of the divergence is taken from the mean distribution, KL(p || m); the official code passes the "
    "arguments in the order of KL(m || p).",
    "Several random networks are averaged over (5 by default), with an interval; the paper has one.",
)
ATTACK_DEVIATIONS = (
    "The model is in evaluation mode; the official function never sets a mode.",
    "The attack is trained on as many retain rows as test rows, drawn at random; the official code takes all of either "
    "set, so that where one is larger its label is the safer guess.",
    "At most 2,000 rows of each set are used, because a support vector classifier's time grows with their square.",
    "The logistic regression that the official code mentions is a choice and not the default.",
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """One unlearner."""
    return [
        UnlearnerSpec(
            name="bad-teaching",
            summary="Bad Teaching: a random network teaches the forget set, the original some of the retain set.",
            target="unlearnbench_bad_teaching.method:BadTeaching",
            params=BadTeachingParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "node-classification"),
            requests=(*ITEM_REQUESTS, "target", "nodes"),
        )
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """The paper's own measure and its attack; both read predictions alone."""
    return [
        MeasureSpec(
            name="zrf",
            summary="Zero retrain forgetting: how near predictions on the forget set are to a random network's.",
            target="unlearnbench_bad_teaching.measures:Zrf",
            params=ZrfParams,
            paper=replace(PAPER, deviations=ZRF_DEVIATIONS),
            readings=(
                ReadingSpec(
                    name="zrf", better="gold",
                    summary="1 - mean Jensen-Shannon divergence (base 2) from random networks; 1 is as random as they",
                ),
            ),
        ),
        MeasureSpec(
            name="bad-teaching-mia",
            summary="Share of the forget set that an attack on the predictions' entropy takes for training rows.",
            target="unlearnbench_bad_teaching.measures:EntropyAttack",
            params=EntropyAttackParams,
            paper=replace(PAPER, deviations=ATTACK_DEVIATIONS),
            readings=(
                ReadingSpec(
                    name="bad-teaching-mia", better="gold",
                    summary="share of the forget set that is taken for members",
                ),
            ),
        ),
    ]  # fmt: skip
