"""What WF-Net and its measures declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import (
    MeasureSpec,
    Paper,
    Param,
    ReadingSpec,
    TableColumn,
    TableSpec,
    UnlearnerSpec,
    hookimpl,
)

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "wfnet": {
        "zero-epochs-change-nothing": "gates are sigmoid(3) = 0.95 at first, which scales every gated layer",
        "each-epoch-reads-the-same": "epochs are those of the preparation; unlearning itself reads no row",
    },
}

Layers = Literal["auto", "convolutions", "attention"]


@dataclass(frozen=True)
class WfNetParams:
    """The paper's untraining: SGD at learning rate 100, batches of 128, three copies of the retain half."""

    lr: Annotated[float, Param("Learning rate of plain SGD on the gates.", gt=0)] = 100.0
    batch_size: Annotated[int, Param("Rows in a batch; the first half forgets, the second retains.", ge=2)] = 128
    copies: Annotated[int, Param("Copies of each retain row, each under a row of gates of its own (chi).", ge=1)] = 3
    retain_weight: Annotated[float, Param("Weight of the retain loss (lambda 0).", ge=0)] = 1.0
    forget_weight: Annotated[
        float | None, Param("Weight of the forget term (lambda 1); none is 10, or 100 where attention is gated.", ge=0)
    ] = None
    open_weight: Annotated[float, Param("Weight of the regulariser that keeps gates open (lambda 2).", ge=0)] = 1.0
    regulariser: Annotated[
        Literal["mean", "layer-mean"],
        Param("Mean of the closed shares of all gates, or the mean over layers of each layer's mean."),
    ] = "mean"
    forget_term: Annotated[
        Literal["reciprocal", "reciprocal-of-mean", "log"],
        Param(
            "Mean of 1 / loss, 1 / mean loss, or mean of log(1 + 1 / loss), which is flatter where losses are small."
        ),
    ] = "reciprocal"
    epsilon: Annotated[float, Param("Added to a loss before its reciprocal is taken.", ge=0)] = 0.1
    clip_value: Annotated[
        float | None, Param("Largest absolute value of each entry of the gradient; none leaves them.", gt=0)
    ] = 0.005
    strict_paper: Annotated[
        bool, Param("The paper to the letter: neither epsilon nor clipping. Unstable; for comparison.")
    ] = False
    init: Annotated[float, Param("First value of every gate before the sigmoid.")] = 3.0
    epochs: Annotated[int, Param("Most passes over the training rows.", ge=0)] = 30
    evaluations: Annotated[int, Param("Looks at the validation loss in an epoch.", ge=1)] = 5
    patience: Annotated[
        int | None, Param("Looks without improvement after which untraining stops; none never stops early.", ge=1)
    ] = 10
    min_delta: Annotated[float, Param("What counts as an improvement of the validation loss.", ge=0)] = 1e-4
    validation: Annotated[
        float, Param("Share of the training rows that are kept for the validation loss.", gt=0, lt=1)
    ] = 0.1
    layers: Annotated[
        Layers,
        Param("Gated layers: convolutions, attention (query, key and value), or auto: attention where there is any."),
    ] = "auto"
    modules: Annotated[tuple[str, ...], Param("Names of the gated layers, in place of a choice by type.")] = ()
    mask_bn: Annotated[
        bool, Param("Let a closed gate silence the batch normalisation behind its convolution as well.")
    ] = False
    most_classes: Annotated[
        int, Param("More classes are refused, with the memory that their gates would take.", ge=1)
    ] = 10_000
    harden: Annotated[
        float, Param("Gates below this are exactly 0 in the model that comes back.", ge=0, le=1, phase="unlearn")
    ] = 0.0


@dataclass(frozen=True)
class RowsParams:
    """Which rows of data every row of gates is tried on."""

    per_class: Annotated[
        int | None, Param("Most test rows and most training rows of each class, drawn at random; none takes all.", ge=1)
    ] = None
    matrix: Annotated[
        bool, Param("Tell the accuracy of every row of gates on every class, not just the summaries.")
    ] = True


@dataclass(frozen=True)
class InsertionParams:
    """How finely gates are opened and closed."""

    step: Annotated[float, Param("Share of the gates of each layer that is changed in a step.", gt=0, le=0.5)] = 0.05
    random_orders: Annotated[int, Param("Random orders that the controls are averaged over.", ge=1)] = 3


@dataclass(frozen=True)
class GatesParams:
    """What counts as closed."""

    below: Annotated[tuple[float, ...], Param("A gate is closed below this; one reading for each.")] = (0.5, 0.1)


DEVIATIONS = (
    "The optimiser, which the paper does not name, is SGD without momentum or weight decay.",
    "Each loss has an epsilon of 0.1 added before its reciprocal, and gradients are clipped entry by entry at 0.005, "
    "because one confident row saturates every gate otherwise; strict_paper=true does without both, and closes half of "
    "the gates in the first steps: of digits it keeps an accuracy of 0.15 to 0.25 on the other classes.",
    "The reciprocal is taken of each row's loss and then averaged, as equation 3 has it; the text can also be read as "
    "the reciprocal of the mean (forget_term=reciprocal-of-mean), which leaves whole classes known.",
    "The regulariser, which the journal's text leaves out, is the mean over all gates of 1 - sigmoid(alpha).",
    "In attention there is one gate for each output feature of the query, key and value projections; the paper does "
    "not state the shape, and a gate for each weight would not be storable.",
    "A convolution without a bias has gates for its kernels alone.",
    "The row of a retain copy is uniform over the classes other than the row's own.",
    "Patience is counted over looks at the validation loss, five in an epoch or one after each step where there are "
    "fewer, and the best gates are restored; a loss that is no finite number ends untraining, with a warning. The "
    "validation rows are a share of the training rows, with the same draw of rows of gates at each look.",
    "The most epochs are 30; the paper does not say.",
    "The last batch of an epoch is kept if it has two rows or more.",
    "Several classes are forgotten by the product of their rows; the paper forgets one at a time.",
    "The model that comes back is a plain network with the gates multiplied into its weights.",
    "Where rows have several labels, which the paper only remarks on, the forget term is the reciprocal of the binary "
    "cross-entropy of the drawn label alone, and a retain copy gets the row of a label that it does not have.",
)
PAPER = Paper(
    title="Multi-Class Unlearning for Image Classification via Weight Filtering",
    authors=("Samuele Poppi", "Sara Sarto", "Marcella Cornia", "Lorenzo Baraldi", "Rita Cucchiara"),
    year=2024,
    venue="IEEE Intelligent Systems",
    arxiv="2304.02049",
    bibtex="""@article{poppi2024multi,
  title   = {Multi-Class Unlearning for Image Classification via Weight Filtering},
  author  = {Poppi, Samuele and Sarto, Sara and Cornia, Marcella and Baraldi, Lorenzo and Cucchiara, Rita},
  journal = {IEEE Intelligent Systems},
  year    = {2024},
}""",
    deviations=DEVIATIONS,
)
ROWS_DEVIATIONS = (
    "Accuracies are told on training and on test rows; the paper's are of training rows.",
    "The accuracy over the other classes is that of their rows together, not a mean over classes.",
)
INSERTION_DEVIATIONS = (
    "Each step changes 5 % of the gates of every layer, those of weights and those of biases each in an order of their "
    "own; the paper does not say how many.",
    "Confidence is taken on unseen rows of the class, where there are any.",
    "Confidence is divided by the original's mean confidence and cut to [0, 1].",
    "Random orders of the gates are told beside the learned one.",
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """One unlearner."""
    return [
        UnlearnerSpec(
            name="wfnet",
            summary="WF-Net: gates learned once for every class; the class's row of gates forgets it at run time.",
            target="unlearnbench_wfnet.method:WfNet",
            params=WfNetParams,
            paper=PAPER,
            tasks=("classification", "multi-label"),
            requests=("class", "target"),
            inputs=("numbers",),
            reads=("train",),
        )
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """What every row of gates does, what its gates mean, and how many are closed."""
    measures = "unlearnbench_wfnet.measures"
    return [
        MeasureSpec(
            name="wfnet-rows",
            summary="Accuracy on every class under every row of gates: the whole matrix of a WF-Net in one run.",
            target=f"{measures}:WfNetRows",
            params=RowsParams,
            paper=replace(PAPER, deviations=ROWS_DEVIATIONS),
            requests=("class",),
            reads=("original",),
            effort="models",
            readings=(
                ReadingSpec(
                    name="row-accuracy", better="gold", summary="test accuracy on a class under a row of gates"
                ),
                ReadingSpec(name="row-accuracy-train", better="gold", summary="the same on training rows"),
                ReadingSpec(name="rows-acc-r", better="higher", summary="test: mean over rows of Acc_r"),
                ReadingSpec(name="rows-acc-r-min", better="higher", summary="test: least Acc_r of a row"),
                ReadingSpec(name="rows-acc-f", better="lower", summary="test: mean over rows of Acc_f"),
                ReadingSpec(name="rows-acc-f-max", better="lower", summary="test: largest Acc_f of a row"),
                ReadingSpec(name="rows-acc-r-train", better="higher", summary="training rows: mean Acc_r"),
                ReadingSpec(name="rows-acc-r-min-train", better="higher", summary="training rows: least Acc_r"),
                ReadingSpec(name="rows-acc-f-train", better="lower", summary="training rows: mean Acc_f"),
                ReadingSpec(name="rows-acc-f-max-train", better="lower", summary="training rows: largest Acc_f"),
            ),
        ),
        MeasureSpec(
            name="insertion-deletion",
            summary="Confidence while the gates of a class are opened again, or closed in the original, in order.",
            target=f"{measures}:InsertionDeletion",
            params=InsertionParams,
            paper=replace(PAPER, deviations=INSERTION_DEVIATIONS),
            requests=("class",),
            reads=("original",),
            effort="models",
            readings=(
                ReadingSpec(name="insertion", better="higher", summary="area while gates open, most closed first"),
                ReadingSpec(name="deletion", better="lower", summary="area while gates close, most closed first"),
                ReadingSpec(name="insertion-random", better="lower", summary="the control: in random orders"),
                ReadingSpec(name="deletion-random", better="higher", summary="the control: in random orders"),
            ),
        ),
        MeasureSpec(
            name="closed-gates",
            summary="Share of the gates that are closed: of the forgotten class's row, and of all rows.",
            target=f"{measures}:ClosedGates",
            params=GatesParams,
            paper=replace(PAPER, deviations=()),
            tasks=("classification", "multi-label"),
            requests=("class", "target"),
            readings=(
                # No direction is good: a row without a closed gate forgets nothing.
                ReadingSpec(name="closed-gates", better="gold", summary="share of the row's gates below a threshold"),
                ReadingSpec(name="closed-gates-all", better="gold", summary="the same over all rows"),
            ),
        ),
    ]


def percent(heading: str, measure: str, reading: str, split: str) -> TableColumn:
    """A column of shares as the paper prints them."""
    return TableColumn(heading=heading, measure=measure, reading=reading, split=split, scale=100, digits=1)


@hookimpl
def unlearnbench_tables() -> list[TableSpec]:
    """The paper's Table 1, over the runs of a fan-out: one request for each class."""
    return [
        TableSpec(
            name="wfnet",
            summary="Table 1 of WF-Net: means over one request for each class, on training rows, then on test rows.",
            paper=replace(PAPER, deviations=()),
            subjects=(("original", "original"), ("gold", "retrained")),
            columns=(
                percent("Acc_r %", "accuracy", "accuracy", "retain"),
                percent("Acc_f %", "accuracy", "accuracy", "forget"),
                percent("ZRF %", "zrf", "zrf", "forget"),
                TableColumn(
                    heading="RT epochs",
                    measure="wfnet-relearn",
                    reading="wfnet-relearn-epochs",
                    split="forget",
                    digits=1,
                    failures=True,
                ),
                TableColumn(heading="Ins", measure="insertion-deletion", reading="insertion", split="holdout"),
                TableColumn(heading="Del", measure="insertion-deletion", reading="deletion", split="holdout"),
                percent("test Acc_r %", "accuracy", "accuracy", "test"),
                percent("test Acc_f %", "accuracy", "accuracy", "holdout"),
                percent("probe Acc_f %", "linear-probe", "probe-accuracy", "holdout"),
            ),
        )
    ]
