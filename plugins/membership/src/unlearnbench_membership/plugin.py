"""What the membership attacks declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Param, ReadingSpec, hookimpl
from unlearnbench_membership.papers import ERASURE, SHOKRI, SONG_MITTAL, STARTING_KIT, YEOM

UNLEARNBENCH_API = 1

SCORES = ("correctness", "confidence", "entropy", "modified-entropy", "probability-vector")


@dataclass(frozen=True)
class SongMittalParams:
    """How the five attacks decide."""

    attack: Annotated[
        Literal["threshold", "svc"],
        Param("A threshold per class (threshold), or SalUn's support vector classifier on one number (svc)."),
    ] = "threshold"
    limit: Annotated[
        int | None, Param("Most rows on each side of a classifier's training set; none has no limit.", ge=10)
    ] = 2000


@dataclass(frozen=True)
class UmiaParams:
    """Which rows stand for the unseen."""

    unseen: Annotated[
        Literal["test", "holdout"],
        Param("Unseen rows: the test set, as the framework has it, or the hold-out, which is like the forget set."),
    ] = "test"


@dataclass(frozen=True)
class ShokriParams:
    """How many shadows there are, and when a class has an attack network of its own."""

    shadows: Annotated[int, Param("Shadow models, an even number.", ge=2, unit="models")] = 16
    least_rows: Annotated[
        int,
        Param("A class with so many outputs for seen and as many for unseen rows has a network of its own.", ge=1),
    ] = 50

    def __post_init__(self) -> None:
        if self.shadows % 2:
            raise ValueError("shadows come in pairs: the number must be even")


def _curve(attack: str) -> tuple[ReadingSpec, ReadingSpec]:
    return (
        ReadingSpec(
            name=f"{attack}-auc",
            better="gold",
            summary="Probability that a row of the forget set looks more like a member than an unseen one.",
        ),
        ReadingSpec(
            name=f"{attack}-tpr",
            better="gold",
            summary="Share of the forget set found while at most a share fpr of the unseen rows is taken for members.",
        ),
    )


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """Five attacks; all but the last need nothing but predictions that a run makes anyway."""
    return [
        MeasureSpec(
            name="song-mittal",
            summary="Five attacks with a threshold per class: correctness, confidence, entropies, probability vector.",
            target="unlearnbench_membership.song_mittal:SongMittal",
            params=SongMittalParams,
            paper=SONG_MITTAL,
            readings=(
                ReadingSpec(
                    name="song-mittal-non-members",
                    better="gold",
                    unit="%",
                    summary="Share of the forget set that the attack takes for unseen rows.",
                ),
                ReadingSpec(
                    name="song-mittal-accuracy",
                    better="gold",
                    summary="Balanced accuracy of the attack on forget set against hold-out.",
                ),
                *_curve("song-mittal"),
                ReadingSpec(
                    name="song-mittal-own-thresholds",
                    better="gold",
                    unit="classes",
                    summary="Classes with a threshold of their own.",
                ),
            ),
        ),
        MeasureSpec(
            name="loss-attack",
            summary="The loss of the forget set against the hold-out's: the starting kit's attack, and its curve.",
            target="unlearnbench_membership.loss_attacks:LossAttack",
            paper=STARTING_KIT,
            readings=(
                ReadingSpec(
                    name="loss-attack-accuracy",
                    better="gold",
                    summary="Accuracy of a logistic regression on the loss; 0.5 where nothing can be told.",
                ),
                *_curve("loss-attack"),
            ),
        ),
        MeasureSpec(
            name="umia",
            summary="ERASURE's attack: a logistic regression on the losses of forget set and as many test rows.",
            target="unlearnbench_membership.loss_attacks:Umia",
            params=UmiaParams,
            paper=ERASURE,
            readings=(
                ReadingSpec(
                    name="umia",
                    better="gold",
                    summary="Accuracy on the rows held back, mean of five stratified splits.",
                ),
                *_curve("umia"),
            ),
        ),
        MeasureSpec(
            name="yeom",
            summary="Members are the rows whose loss is at most the mean loss of the retain set.",
            target="unlearnbench_membership.loss_attacks:Yeom",
            paper=YEOM,
            readings=(
                ReadingSpec(name="yeom-threshold", better="gold", unit="nats", summary="Mean loss on the retain set."),
                ReadingSpec(
                    name="yeom-true-positive-rate", better="gold", summary="Share of the forget set called members."
                ),
                ReadingSpec(
                    name="yeom-false-positive-rate", better="gold", summary="Share of the hold-out called members."
                ),
                ReadingSpec(
                    name="yeom-advantage",
                    better="gold",
                    summary="The difference of the two: 0 where nothing can be told.",
                ),
            ),
        ),
        MeasureSpec(
            name="shokri",
            summary="Attack networks, one per class, that learned from shadow models how seen rows look.",
            target="unlearnbench_membership.shokri:Shokri",
            params=ShokriParams,
            paper=SHOKRI,
            reads=("siblings",),
            effort="ensemble",
            readings=(
                *_curve("shokri"),
                ReadingSpec(
                    name="shokri-own-networks",
                    better="gold",
                    unit="classes",
                    summary="Classes attacked by a network of their own.",
                ),
            ),
        ),
    ]
