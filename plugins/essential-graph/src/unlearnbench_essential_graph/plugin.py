"""What the essential graph declares: an unlearner, its measures, their parameters and the paper. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1

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
            "Importance of a channel: the mean gradient of the target's output by it (alpha, Grad-CAM's weight), or the "
            "mean of gradient times activation, the first-order effect of zeroing it (contribution).",
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
            "forgotten targets outvote the retained (code), or none at all.",
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
    sigma: Annotated[int, Param("Convolutions in the window, counted back from the last.", ge=1, unit="layers")] = 5
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


@dataclass(frozen=True)
class TargetInversionParams:
    """The paper's model inversion, and the picture that it makes."""

    steps: Annotated[int, Param("Steps of gradient descent on the input.", ge=1)] = 1000
    lr: Annotated[float, Param("Step size, for inputs scaled to [0, 1].", gt=0)] = 0.1


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
    deviations=(),
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
            paper=PAPER,
            tasks=("classification", "multi-label", "segmentation", "detection"),
            requests=("target", "class"),
            effort="models",
            readings=(
                ReadingSpec(name="same-target-jaccard", better="gold", summary="Mean over pairs of one target."),
                ReadingSpec(name="other-target-jaccard", better="gold", summary="Mean over pairs of two targets."),
            ),
        ),
    ]
