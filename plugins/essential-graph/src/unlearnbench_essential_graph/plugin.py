"""What the essential graph declares: an unlearner, its measures, their parameters and the paper. Imports no torch."""

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
    "essential-graph": {
        "holds-its-own-mask": "the mask holds the channels that it has just set to zero, not what they were",
        "zero-epochs-change-nothing": "the epochs are those of the recovery; without any it prunes all the same",
        "reads-what-it-declares": "the retain set is read for recovery and validation rows for the search, both off by "
        "default",
    }
}

Score = Literal["alpha", "contribution"]
Selection = Literal["vote", "contrast"]
Balance = Literal["strict", "code", "none"]


@dataclass(frozen=True)
class EssentialGraphParams:
    """Which channels are essential to a target, and which of them are pruned."""

    instances: Annotated[
        int,
        Param("Rows of the training data that show a target, the first in order, over which its graph is taken (K).",
              ge=1, unit="rows", phase="prepare"),
    ] = 1  # fmt: skip
    score: Annotated[
        Score,
        Param(
            "Importance of a channel: the mean gradient of the target's output by it (alpha, Grad-CAM's weight), or "
            "the mean of gradient times activation, the first-order effect of zeroing it (contribution).",
            phase="prepare",
        ),
    ] = "alpha"
    sigma: Annotated[
        int, Param("Convolutions in the window, counted back from the last.", ge=1, unit="layers", phase="unlearn")
    ] = 5
    skip_last: Annotated[
        int, Param("Last convolutions that stay out of the window; prediction heads always do.", ge=0, phase="unlearn")
    ] = 0
    delta: Annotated[
        float, Param("Share of a layer's channels that a target selects.", gt=0, lt=1, phase="unlearn")
    ] = 0.1
    selection: Annotated[
        Selection,
        Param(
            "How channels are chosen: each target selects its share and the votes are balanced (vote), or the share "
            "whose scaled importance exceeds that to every retained target by most (contrast).",
            phase="unlearn",
        ),
    ] = "vote"
    balance: Annotated[
        Balance,
        Param(
            "Votes that keep a channel: of any retained target (strict), as the published code counts them, where two "
            "forgotten targets outvote the retained (code), or none at all; read by selection=vote alone.",
            phase="unlearn",
        ),
    ] = "strict"
    zero_bn: Annotated[
        bool,
        Param("Whether the BatchNorm after a pruned channel is zeroed too, so that the channel is 0.", phase="unlearn"),
    ] = True
    recovery_epochs: Annotated[
        int, Param("Epochs of fine-tuning on the retain set with pruned channels held at 0.", ge=0, phase="unlearn")
    ] = 0
    recovery_lr: Annotated[
        float, Param("Learning rate of the recovery as a share of the recipe's.", gt=0, phase="unlearn")
    ] = 0.1
    search: Annotated[
        bool,
        Param(
            "Whether sigma and delta are searched on validation rows: the smallest pruned set that forgets the targets "
            "and keeps the others.",
            phase="unlearn",
        ),
    ] = False
    search_sigma: Annotated[tuple[int, ...], Param("Windows that the search tries.", phase="unlearn")] = (
        1,
        2,
        3,
        4,
        5,
        6,
    )
    search_delta: Annotated[tuple[float, ...], Param("Shares that the search tries.", phase="unlearn")] = (
        0.05,
        0.1,
        0.15,
        0.2,
        0.25,
        0.3,
        0.4,
    )
    search_forgotten: Annotated[
        float, Param("Score of a forgotten target at most (recall; IoU of pixels).", ge=0, le=1, phase="unlearn")
    ] = 0.02
    search_drop: Annotated[
        float, Param("Mean loss of the retained targets' score at most.", ge=0, le=1, phase="unlearn")
    ] = 0.02


@dataclass(frozen=True)
class StabilityParams:
    """How alike the channels are that single instances select."""

    pairs: Annotated[int, Param("Pairs of instances that are drawn of each kind.", ge=1, unit="pairs")] = 10
    sigma: Annotated[
        int,
        Param("Convolutions in the window, counted back from the last, or all of fewer.", ge=1, unit="layers"),
    ] = 5
    skip_last: Annotated[int, Param("Last convolutions that stay out of the window.", ge=0)] = 0
    delta: Annotated[float, Param("Share of a layer's channels that an instance selects.", gt=0, lt=1)] = 0.2


@dataclass(frozen=True)
class TargetMiaParams:
    """The paper's membership attack with shadow models."""

    shadows: Annotated[int, Param("Shadow models that the attack learns from; an even number.", ge=2)] = 20
    epochs: Annotated[int, Param("Epochs of the attack network.", ge=1, unit="epochs")] = 50
    batch_size: Annotated[int, Param("Rows in a batch of the attack network.", ge=1, unit="rows")] = 64
    lr: Annotated[float, Param("Learning rate of the attack network (Adam).", gt=0)] = 1e-3
    top: Annotated[
        int | None, Param("Largest outputs that the attack sees, sorted; none takes all in their order.", ge=1)
    ] = None

    def __post_init__(self) -> None:
        if self.shadows % 2:
            raise ValueError("shadows come in pairs: the number must be even")


@dataclass(frozen=True)
class TargetInversionParams:
    """The paper's model inversion, and the picture that it makes."""

    steps: Annotated[int, Param("Steps of gradient descent on the input.", ge=1)] = 1000
    lr: Annotated[float, Param("Step size, for inputs scaled to [0, 1].", gt=0)] = 0.1
    cost: Annotated[
        Literal["probability", "log"],
        Param("What is made small: 1 - p of the target (probability), vanishing gradient at p = 0, or -ln p (log)."),
    ] = "probability"


PAPER = Paper(
    title="Towards Efficient Target-Level Machine Unlearning Based on Essential Graph",
    authors=("Heng Xu", "Tianqing Zhu", "Lefeng Zhang", "Wanlei Zhou", "Wei Zhao"),
    year=2024,
    venue="arXiv",
    arxiv="2406.10954",
    bibtex="""@article{xu2024towards,
  title         = {Towards Efficient Target-Level Machine Unlearning Based on Essential Graph},
  author        = {Xu, Heng and Zhu, Tianqing and Zhang, Lefeng and Zhou, Wanlei and Zhao, Wei},
  year          = {2024},
  eprint        = {2406.10954},
  archivePrefix = {arXiv},
}""",
    deviations=(
        "The window holds exactly sigma convolutions: the text has the layers L - sigma to L, which are sigma + 1, "
        "and the published code takes five for sigma 5 and always leaves out the last convolution, which here is "
        "the choice of skip_last (1 for its CelebA network, and 1 for its deeplab, whose head is never in the window).",
        "Prediction heads, convolutions that the output does not depend on and transposed convolutions are never "
        "pruned; the order is that of the modules, as in the code, also where branches are parallel.",
        "Y_t is the target's logit instead of its probability, so that the gradient does not vanish where the "
        "network is sure; channels of one instance are ordered alike for labels (one sigmoid each), but not for "
        "classes, whose softmax depends on all logits.",
        "For segmentation Y_t is the probability of the target summed over the pixels annotated with it, for "
        "detection the log-probability of its class summed over its boxes, at their places; the paper names "
        "neither.",
        "One backward pass gives the gradients of all layers, where the paper takes one a layer; the values are the "
        "same.",
        "The instance is the first row of the run's training part that carries the target, where the paper takes "
        "the first image file; more instances (K) are our addition, each scaled to L1 norm 1 in a layer, then "
        "averaged.",
        "A target selects at least one channel of a layer, takes the first of equal ones (the code then selects "
        "fewer) and selects nothing in a layer that its output does not depend on.",
        "With several forgotten targets balance=strict prunes what any of them and no retained target selects. The "
        "paper's v_sum == |Y| would spare what two forgotten targets share, and its code prunes that even if "
        "retained targets need it, which is balance=code; for one target all three are the same.",
        "All outputs of the task that have an instance vote, the background of pixels too, where the paper "
        "considers two to four attributes.",
        "The BatchNorm of a convolution is found by what reads its output, where the code matches parts of names; "
        "one that reads anything else as well is left alone.",
        "The edges of the graph decide nothing, neither here nor in the published code; they are made for drawings "
        "and exports only.",
        "Recovery trains with the original recipe at a tenth of its learning rate while pruned channels are held at "
        "zero; the paper gives neither optimiser nor rate, and does not say that pruned channels are held. "
        "By default there is none, where the paper recovers for five epochs before its membership attack and for one "
        "before its inversion.",
        "In a stream of requests the targets forgotten before count as forgotten, and their channels stay pruned.",
        "The scores contribution and contrast and the search of sigma and delta on validation rows are our additions.",
    ),
)

STABILITY_DEVIATIONS = (
    "The paper shows for two instances that the same channels are chosen; here the Jaccard overlap of ten pairs of one "
    "target and of ten pairs of two is the figure, over rows that no model has seen.",
)
TABLE_DEVIATIONS = (
    "The paper's figure is the recall on images in which all considered attributes are positive; here it is the recall "
    "on all images that show the target, and AUC and balanced accuracy stand beside it.",
)
MIA_DEVIATIONS = (
    "The attack network is trained for 50 epochs with Adam and a learning rate of 0.001; the paper does not say how.",
    "Shadow models are trained as the original is, on the retain set and random halves of the forget set and the "
    "hold-out, in pairs; the paper trains 20 for 10 epochs with a batch of 64 and does not say on which rows.",
    "Beside recall stand the false positive rate, the area and the advantage on unseen rows of the forgotten target: "
    "an attack that takes every row for a member has recall 1 too.",
    "The attack serves multi-label networks and requests for samples and groups as well.",
)
INVERSION_DEVIATIONS = (
    "The paper shows pictures and gives no settings: 1,000 steps of size 0.1 from zeros, in units in which the values "
    "of unseen rows have the range [0, 1], are ours, and so are all scores.",
    "Of all inputs on the way the one with the highest probability is kept, as in Fredrikson et al. 2015; they "
    "also stop early, and here all steps are made.",
    "Multi-label networks are attacked as well, by the probability of the one target.",
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    return [
        UnlearnerSpec(
            name="essential-graph",
            summary="Zeroes the channels that a forgotten target needs most and no retained target does.",
            target="unlearnbench_essential_graph.method:EssentialGraph",
            params=EssentialGraphParams,
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "detection"),
            requests=("target", "class"),
            inputs=("numbers",),
            reads=("train", "retain", "validation"),
        )
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="graph-stability",
            summary="How alike the essential channels of two instances are, of one target and of two (Jaccard).",
            target="unlearnbench_essential_graph.stability:GraphStability",
            params=StabilityParams,
            paper=replace(PAPER, deviations=STABILITY_DEVIATIONS),
            tasks=("classification", "multi-label", "segmentation", "detection"),
            requests=("target", "class"),
            effort="models",
            readings=(
                ReadingSpec(name="same-target-jaccard", better="gold", summary="Mean over pairs of one target."),
                ReadingSpec(name="other-target-jaccard", better="gold", summary="Mean over pairs of two targets."),
            ),
        ),
        MeasureSpec(
            name="target-mia",
            summary="The paper's membership attack with shadow models: its recall, and two-sided figures beside it.",
            target="unlearnbench_essential_graph.mia:TargetMia",
            params=TargetMiaParams,
            paper=replace(PAPER, deviations=MIA_DEVIATIONS),
            tasks=("classification", "multi-label"),
            requests=("target", "class", "samples", "group"),
            reads=("siblings",),
            effort="ensemble",
            readings=tuple(
                ReadingSpec(name=f"target-mia-{name}", better="gold", summary=summary)
                for name, summary in (
                    ("recall", "share of the forget set that is taken for seen: the paper's figure"),
                    ("fpr", "share of unseen rows that are taken for seen"),
                    ("auc", "area: how often a forgotten row looks more seen than an unseen one"),
                    ("two-sided-auc", "max(AUC, 1 - AUC): how well forgotten and unseen rows are told apart"),
                    ("advantage", "distance of recall and false positive rate"),
                )
            ),
        ),
        MeasureSpec(
            name="target-inversion",
            summary="The picture of a forgotten target that the model itself gives away, and what it shows.",
            target="unlearnbench_essential_graph.inversion:TargetInversion",
            params=TargetInversionParams,
            paper=replace(PAPER, deviations=INVERSION_DEVIATIONS),
            tasks=("classification", "multi-label"),
            requests=("target", "class"),
            effort="models",
            readings=tuple(
                ReadingSpec(name=f"target-inversion-{name}", better="gold", summary=summary)
                for name, summary in (
                    ("ssim", "structural similarity of the picture with the mean of the target's rows"),
                    ("probe", "probability of the target by a linear probe of pixels that looks at the picture"),
                    ("probe-auc", "area of that probe on unseen rows; near 1/2 its word is worth nothing"),
                    ("reached", "the model's own probability of the target for the picture"),
                    ("moved", "root mean square of the picture, which began at 0; 0 says that the attack never moved"),
                )
            ),
        ),
    ]


@hookimpl
def unlearnbench_tables() -> list[TableSpec]:
    """The paper's comparison of methods, with what its recall leaves out."""
    columns = (
        ("forgotten recall %", "per-target", "forgotten-recall", 100.0, 2),
        ("forgotten AUC", "per-target", "forgotten-auc", 1.0, 3),
        ("at a new threshold %", "per-target", "forgotten-recalibrated-recall", 100.0, 2),
        ("forgotten IoU", "per-target", "forgotten-iou", 1.0, 3),
        ("forgotten AP50", "per-target", "forgotten-ap50", 1.0, 3),
        ("others' recall %", "per-target", "others-mean-recall", 100.0, 2),
        ("others' bal acc %", "per-target", "others-mean-balanced-accuracy", 100.0, 2),
        ("others' IoU kept", "per-target", "others-mean-relative-iou", 1.0, 3),
        ("others' AP50 lost", "per-target", "others-mean-ap50-drop", 1.0, 3),
        ("time s", "run-cost", "wall-time", 1.0, 2),
    )
    return [
        TableSpec(
            name="essential-graph",
            summary="The comparison of the essential graph's paper (recall of targets, time), with AUC beside recall.",
            paper=replace(PAPER, deviations=TABLE_DEVIATIONS),
            subjects=(("original", "original"), ("gold", "retrained")),
            columns=tuple(
                TableColumn(
                    heading=heading, measure=measure, reading=reading, scale=scale, digits=digits,
                    split="test" if measure == "per-target" else "",
                )
                for heading, measure, reading, scale, digits in columns
            ),
        )
    ]  # fmt: skip
