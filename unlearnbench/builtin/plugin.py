"""Specs of the built-in components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import (
    ITEM_REQUESTS,
    DatasetSpec,
    MeasureSpec,
    ModelSpec,
    Paper,
    Param,
    ReadingSpec,
    UnlearnerSpec,
    hookimpl,
)
from unlearnbench.api.specs import REQUESTS, TASKS
from unlearnbench.builtin.target_readings import PER_TARGET

UNLEARNBENCH_API = 1
UNLEARNBENCH_EXPECTED_FAILURES = {
    "identity": dict.fromkeys(("weights-change", "comes-nearer-to-gold"), "it is the control that changes nothing"),
    "retrain": {"holds-masked-weights": "it trains from scratch; a chain refuses it after a mask"},
}
"""Sentences of the contract that are false of these components on purpose, with the reason."""


@dataclass(frozen=True)
class SplitParams:
    """How rows are divided into training and test rows."""

    test_fraction: Annotated[float, Param("Share of the rows that is kept for testing (stratified).", gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Param("Seed of the split; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class CsvParams(SplitParams):
    """A table in a text file below the data folder."""

    file: Annotated[str, Param("File below the data folder: .csv, .csv.gz, or a .tgz that holds it.")] = ""
    member: Annotated[str, Param("File inside a .tgz archive.")] = ""
    label: Annotated[str, Param("Column of the class: its name, or its position from 0 without a header.")] = "label"
    header: Annotated[bool, Param("Whether the first line names the columns.")] = True
    delimiter: Annotated[str, Param("What separates the columns.", min_length=1)] = ","
    groups: Annotated[
        tuple[str, ...], Param("Columns that requests may select by (a person, a site); not inputs.")
    ] = ()
    drop: Annotated[tuple[str, ...], Param("Columns to leave out.")] = ()
    scale: Annotated[Literal["none", "standard"], Param("Scaling of the inputs, fitted on training rows.")] = "none"
    train_rows: Annotated[int | None, Param("Training rows to draw (stratified); none takes all.", ge=1)] = None
    test_rows: Annotated[int | None, Param("Test rows to draw; none follows test_fraction.", ge=1)] = None


@dataclass(frozen=True)
class MlpParams:
    """A multi-layer perceptron."""

    hidden: Annotated[tuple[int, ...], Param("Units of the hidden layers (ReLU).")] = (128,)


@dataclass(frozen=True)
class CnnParams:
    """A small convolutional network."""

    channels: Annotated[tuple[int, ...], Param("Channels of the 3x3 convolutions, each followed by 2x2 pooling.")] = (
        16,
        32,
    )
    hidden: Annotated[int, Param("Units of the fully connected layer.", ge=1)] = 64


@dataclass(frozen=True)
class MembershipParams:
    """Options of UA, RA, TA and MIA."""

    limit: Annotated[
        int | None, Param("Most rows on each side of the attack's training set; none has no limit.", ge=10)
    ] = 2000


@dataclass(frozen=True)
class TargetParams:
    """From where a target counts as asserted, as no longer found, and as known all the same."""

    score: Annotated[float, Param("Score from which a detection counts, for recall.", ge=0, le=1)] = 0.3
    lost: Annotated[float, Param("Recall up to which a target counts as no longer found.", ge=0, le=1)] = 0.05
    known: Annotated[float, Param("AUC from which it is known all the same.", ge=0.5, le=1)] = 0.9


_SALUN = Paper(
    title="SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification and "
    "Generation",
    authors=("Chongyu Fan", "Jiancheng Liu", "Yihua Zhang", "Eric Wong", "Dennis Wei", "Sijia Liu"),
    year=2024,
    venue="ICLR",
    arxiv="2310.12508",
    bibtex="@inproceedings{fan2024salun,\n  title={{SalUn}: Empowering Machine Unlearning via Gradient-based Weight "
    "Saliency in Both Image Classification and Generation},\n  author={Fan, Chongyu and Liu, Jiancheng and Zhang, "
    "Yihua and Wong, Eric and Wei, Dennis and Liu, Sijia},\n  booktitle={International Conference on Learning "
    "Representations},\n  year={2024}\n}",
    deviations=(
        "The members on which the attack is trained are a seeded draw from the retain set, not its first rows.",
        "Each side of the attack's training set is limited to 2000 rows by default, because the cost of the kernel SVC "
        "grows with the square of the rows; limit=None lifts it.",
    ),
)


@hookimpl
def unlearnbench_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="digits",
            summary="1,797 images of handwritten digits, 8x8 (scikit-learn's copy).",
            target="unlearnbench.builtin.datasets:Digits",
            params=SplitParams,
            licence="CC BY 4.0",
        ),
        DatasetSpec(
            name="breast-cancer",
            summary="569 tumours, 30 measurements, benign or malignant (scikit-learn's copy).",
            target="unlearnbench.builtin.datasets:BreastCancer",
            params=SplitParams,
            licence="CC BY 4.0",
        ),
        DatasetSpec(
            name="wine",
            summary="178 wines, 13 measurements, 3 cultivars (scikit-learn's copy).",
            target="unlearnbench.builtin.datasets:Wine",
            params=SplitParams,
            licence="CC BY 4.0",
        ),
        DatasetSpec(
            name="csv",
            summary="A table of numbers in a CSV file of your own, with a label and optional group columns.",
            target="unlearnbench.builtin.datasets:Csv",
            params=CsvParams,
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    models = "unlearnbench.builtin.models"
    return [
        ModelSpec(
            name="logistic",
            summary="Multinomial logistic regression.",
            target=f"{models}:Logistic",
            tasks=("classification", "multi-label"),
        ),
        ModelSpec(
            name="mlp",
            summary="Multi-layer perceptron with ReLU.",
            target=f"{models}:Mlp",
            params=MlpParams,
            tasks=("classification", "multi-label"),
        ),
        ModelSpec(
            name="cnn",
            summary="Small convolutional network: 3x3 convolutions with pooling, one hidden layer.",
            target=f"{models}:Cnn",
            params=CnnParams,
            tasks=("classification", "multi-label"),
        ),
    ]


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    unlearners = "unlearnbench.builtin.unlearners"
    return [
        UnlearnerSpec(
            name="identity",
            summary="Changes nothing: the control that shows how far there is to go.",
            target=f"{unlearners}:Identity",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            reads=(),
            invariant_to=("row-order", "batch-size"),
        ),
        UnlearnerSpec(
            name="retrain",
            summary="Trains again on the retain set with a seed of its own: a second gold, the floor of every gap.",
            target=f"{unlearners}:Retrain",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            reads=("retain",),
        ),
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    measures, cost = "unlearnbench.builtin.measures", "unlearnbench.builtin.cost"
    return [
        MeasureSpec(
            name="accuracy",
            summary="The task's metrics (accuracy, loss, per class) on every split.",
            target=f"{measures}:Accuracy",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            readings=(
                ReadingSpec(name="accuracy", better="by-split", summary="Share of rows (cells) judged rightly."),
                ReadingSpec(name="loss", better="by-split-lower", summary="Mean loss of the task."),
                ReadingSpec(name="subset-accuracy", better="by-split", summary="Rows whose every label is right."),
                ReadingSpec(name="macro-f1", better="by-split", summary="Mean over the labels of F1."),
                ReadingSpec(name="recall", better="by-split", summary="Share of a label's carriers that are found."),
                ReadingSpec(name="iou", better="by-split", summary="Intersection over union of a class's pixels."),
                ReadingSpec(name="map", better="by-split", summary="Mean average precision over IoU .5 to .95 (COCO)."),
                ReadingSpec(name="map50", better="by-split", summary="Mean average precision at IoU .5."),
                ReadingSpec(name="ap50", better="by-split", summary="Average precision of a class at IoU .5."),
            ),
        ),
        MeasureSpec(
            name="ua-ra-ta-mia",
            summary="Unlearning, remaining and test accuracy, membership efficacy, and their average gap to gold.",
            target=f"{measures}:UaRaTaMia",
            params=MembershipParams,
            requests=ITEM_REQUESTS,
            reads=("gold",),
            readings=(
                ReadingSpec(name="UA", better="gold", unit="%", summary="100 less the accuracy on the forget set."),
                ReadingSpec(name="RA", better="gold", unit="%", summary="Accuracy on the retain set."),
                ReadingSpec(name="TA", better="gold", unit="%", summary="Accuracy on the test rows."),
                ReadingSpec(name="MIA", better="gold", unit="%", summary="Forget set taken for rows never seen."),
                ReadingSpec(name="average-gap", better="lower", unit="%", summary="Mean distance of the four to gold."),
            ),
            paper=_SALUN,
        ),
        MeasureSpec(
            name="agreement",
            summary="Distance of predictions to gold: Jensen-Shannon divergence (base 2) and activation distance.",
            target=f"{measures}:Agreement",
            tasks=("classification", "node-classification"),
            requests=REQUESTS,  # type: ignore[arg-type]
            reads=("gold",),
            readings=(
                ReadingSpec(name="js", better="lower", summary="Mean Jensen-Shannon divergence, in [0, 1]."),
                ReadingSpec(
                    name="activation-distance", better="lower", summary="Mean Euclidean distance of probabilities."
                ),
            ),
        ),
        MeasureSpec(
            name="per-target",
            summary="What became of each label, class of pixels or boxes, of the others in one number, and whether a "
            "forgotten one is only said no longer though it is still known.",
            target="unlearnbench.builtin.targets:PerTarget",
            params=TargetParams,
            tasks=("multi-label", "segmentation", "detection"),
            requests=("samples", "group", "target"),
            reads=("original",),
            readings=PER_TARGET,
        ),
        MeasureSpec(
            name="run-cost",
            summary="Wall and CPU time, peak memory, rows read, and the speed-up over training gold.",
            target=f"{cost}:RunCost",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            reads=("cost", "gold"),
            readings=(
                ReadingSpec(name="wall-time", better="lower", unit="s", summary="Time that passed."),
                ReadingSpec(name="cpu-time", better="lower", unit="s", summary="Time of all cores."),
                ReadingSpec(name="peak-memory", better="lower", unit="MB", summary="Peak above the start."),
                ReadingSpec(name="rows-read", better="lower", unit="rows", summary="Rows read from views."),
                ReadingSpec(name="speed-up", better="higher", unit="x", summary="CPU time of gold over its own."),
            ),
        ),
        MeasureSpec(
            name="flops",
            summary="Floating-point operations of each phase, counted in a pass of their own.",
            target=f"{cost}:Flops",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            readings=(
                ReadingSpec(name="flops", better="lower", unit="FLOP", summary="Matrix products and convolutions."),
                ReadingSpec(name="flops-saved", better="higher", unit="x", summary="FLOPs of gold over its own."),
            ),
            effort="repetition",
        ),
        MeasureSpec(
            name="energy",
            summary="Energy of each phase as codecarbon reads or estimates it, in a pass of its own.",
            target=f"{cost}:Energy",
            tasks=TASKS,  # type: ignore[arg-type]
            requests=REQUESTS,  # type: ignore[arg-type]
            reads=("cost",),
            readings=(ReadingSpec(name="energy", better="lower", unit="J", summary="Processor, memory and GPU."),),
            effort="repetition",
        ),
    ]
