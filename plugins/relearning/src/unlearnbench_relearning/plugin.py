"""What the measures of relearning declare. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, hookimpl
from unlearnbench.api.recipe import Optimizer

UNLEARNBENCH_API = 1

Judged = Literal["auto", "forget", "holdout"]


@dataclass(frozen=True)
class RelearnParams:
    """How a subject is trained on the forget set again; one recipe for all subjects."""

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd (momentum 0.9), adam or adamw.")] = "adam"
    lr: Annotated[float, Param("Learning rate.", gt=0)] = 1e-3
    batch_size: Annotated[int, Param("Rows in a batch; the last, smaller batch is kept.", ge=1, unit="rows")] = 64
    epochs: Annotated[int, Param("Most passes over the forget set; a longer time is censored.", ge=1)] = 50
    margin: Annotated[
        float,
        Param("The goal is the original's accuracy less this share of it, its loss plus this share of it.", ge=0, lt=1),
    ] = 0.05
    curve: Annotated[
        tuple[Annotated[int, Param("A number of steps.", ge=0)], ...],
        Param("Steps after which accuracy and loss are told; training goes on to the last of them."),
    ] = (0, 1, 2, 5, 10, 20)


@dataclass(frozen=True)
class AinParams:
    """The authors' settings: Adam, 1e-3, batches of 256 rows of the whole training set, 10 epochs, 5 %."""

    lr: Annotated[float, Param("Learning rate of Adam.", gt=0)] = 1e-3
    batch_size: Annotated[int, Param("Rows in a batch; the last, smaller batch is kept.", ge=1, unit="rows")] = 256
    epochs: Annotated[int, Param("Most passes over the training set; a longer time is censored.", ge=1)] = 10
    alpha: Annotated[float, Param("The goal is the original's accuracy less this share of it.", ge=0, lt=1)] = 0.05
    judged: Annotated[
        Judged,
        Param(
            "Rows whose accuracy is watched: holdout (unseen rows like the forget set), forget, or auto: holdout "
            "when a class is forgotten, else forget."
        ),
    ] = "auto"


@dataclass(frozen=True)
class WfnetRelearnParams:
    """The paper's 500 random samples an epoch and cap of 100 epochs, without a margin."""

    optimizer: Annotated[Optimizer, Param("Optimiser: sgd (momentum 0.9), adam or adamw.")] = "adam"
    lr: Annotated[float, Param("Learning rate.", gt=0)] = 1e-3
    batch_size: Annotated[int, Param("Rows in a batch; the last, smaller batch is kept.", ge=1, unit="rows")] = 128
    samples: Annotated[int, Param("Training rows drawn for an epoch; all, where there are fewer.", ge=1)] = 500
    epochs: Annotated[int, Param("Most epochs; a longer time is censored.", ge=1)] = 100
    margin: Annotated[float, Param("The goal is the original's accuracy less this share of it.", ge=0, lt=1)] = 0.0


GOLATKAR = Paper(
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
    deviations=(
        "Time is counted in optimiser steps, with epochs beside them; the paper counts epochs.",
        "The goal is the original's loss, and apart from it its accuracy, within a margin of 5 %, which is ours.",
        "Adam with learning rate 1e-3, batches of 64 rows and the cap of 50 epochs are ours.",
    ),
)
CHUNDAWAT = Paper(
    title="Zero-Shot Machine Unlearning",
    authors=("Vikram S. Chundawat", "Ayush K. Tarun", "Murari Mandal", "Mohan Kankanhalli"),
    year=2023,
    venue="IEEE Transactions on Information Forensics and Security",
    doi="10.1109/TIFS.2023.3265506",
    arxiv="2201.05629",
    bibtex="""@article{chundawat2023zero,
  title   = {Zero-Shot Machine Unlearning},
  author  = {Chundawat, Vikram S. and Tarun, Ayush K. and Mandal, Murari and Kankanhalli, Mohan},
  journal = {IEEE Transactions on Information Forensics and Security},
  volume  = {18},
  pages   = {2345--2354},
  year    = {2023},
  doi     = {10.1109/TIFS.2023.3265506},
}""",
    deviations=(
        "A model that is there before the first step needs 0 steps; the authors' code takes a step before it looks, so "
        "that its least time is 1.",
        "The index has no value when the gold model needs no step or does not get there in time; the authors' code "
        "divides by 1 or by the cap then.",
        "Where rows instead of a class are forgotten, the accuracy that is watched is that on the forget set, because "
        "unseen rows of the same kind do not tell such models apart.",
        "The unseen rows of the class are test rows; they are looked at and never trained on.",
    ),
)
WFNET = Paper(
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
    deviations=(
        "The paper names no optimiser for relearning; ours is Adam with learning rate 1e-3 and batches of 128 rows, "
        "for every subject.",
        "All weights are trained, none of the filters' gates: a filtered network is relearned as the plain network "
        "that it bakes into.",
        "The accuracy that is watched is that on the forget set, as the paper's own accuracies are of training rows.",
        "One forget set is one reading; the paper's mean over classes is one over runs, and a run at the cap is "
        "censored instead of counted beside the mean.",
    ),
)

_MODELS = "unlearnbench_relearning.measures"


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="relearn",
            summary="Steps until training on the forget set brings a subject back to the original; relearn curve.",
            target=f"{_MODELS}:Relearn",
            params=RelearnParams,
            paper=GOLATKAR,
            reads=("original",),
            effort="models",
            readings=(
                ReadingSpec(
                    name="relearn-steps", better="gold", unit="steps",
                    summary="optimiser steps until the original's accuracy on the forget set is reached",
                ),
                ReadingSpec(
                    name="relearn-epochs", better="gold", unit="epochs",
                    summary="the same in passes over the forget set",
                ),
                ReadingSpec(
                    name="relearn-loss-steps", better="gold", unit="steps",
                    summary="optimiser steps until the original's loss on the forget set is reached",
                ),
                ReadingSpec(
                    name="relearn-loss-epochs", better="gold", unit="epochs",
                    summary="the same in passes over the forget set",
                ),
                ReadingSpec(
                    name="relearn-cap", better="gold", unit="steps",
                    summary="steps that were allowed: what a censored time is longer than",
                ),
                ReadingSpec(
                    name="relearn-accuracy", better="gold",
                    summary="accuracy on the forget set after a number of steps",
                ),
                ReadingSpec(
                    name="relearn-loss", better="gold", unit="nats",
                    summary="mean loss on the forget set after a number of steps",
                ),
            ),
        ),
        MeasureSpec(
            name="ain",
            summary="Anamnesis index: steps to relearn the forgotten with all training rows, over those of gold.",
            target=f"{_MODELS}:Ain",
            params=AinParams,
            paper=CHUNDAWAT,
            reads=("original",),
            effort="models",
            readings=(
                ReadingSpec(
                    name="ain", better="gold",
                    summary="steps of the subject over steps of gold: 1 for gold, below 1 if something is left",
                ),
                ReadingSpec(
                    name="ain-steps", better="gold", unit="steps",
                    summary="optimiser steps until the original's accuracy is reached",
                ),
                ReadingSpec(
                    name="ain-cap", better="gold", unit="steps",
                    summary="steps that were allowed: what a censored time is longer than",
                ),
            ),
        ),
        MeasureSpec(
            name="wfnet-relearn",
            summary="WF-Net's relearn time: epochs of 500 random training rows until the original's accuracy is back.",
            target=f"{_MODELS}:WfnetRelearn",
            params=WfnetRelearnParams,
            paper=WFNET,
            reads=("original",),
            effort="models",
            readings=(
                ReadingSpec(
                    name="wfnet-relearn-epochs", better="gold", unit="epochs",
                    summary="epochs until the original's accuracy on the forget set is reached",
                ),
                ReadingSpec(
                    name="wfnet-relearn-cap", better="gold", unit="epochs",
                    summary="epochs that were allowed: what a censored time is longer than",
                ),
            ),
        ),
    ]  # fmt: skip
