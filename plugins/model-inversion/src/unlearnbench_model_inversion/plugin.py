"""What model inversion declares: one measure, its parameters and its paper. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, hookimpl

UNLEARNBENCH_API = 1


@dataclass(frozen=True)
class ModelInversionParams:
    """The descent on the input."""

    cost: Annotated[
        Literal["log", "probability"],
        Param("What is made small: -ln p of the class (log), or 1 - p as in the paper (probability)."),
    ] = "log"
    start: Annotated[
        Literal["zeros", "grey"],
        Param("Where the input starts: zeros, or the middle of the data's range (grey)."),
    ] = "zeros"
    steps: Annotated[int, Param("Steps at most.", ge=1)] = 1000
    lr: Annotated[float, Param("Step size, for inputs scaled to [0, 1].", gt=0)] = 0.1
    patience: Annotated[int, Param("Steps without a smaller cost after which a class is given up.", ge=1)] = 100
    confidence: Annotated[float, Param("Probability of the class at which the descent ends.", gt=0, le=1)] = 0.99


PAPER = Paper(
    title="Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures",
    authors=("Matt Fredrikson", "Somesh Jha", "Thomas Ristenpart"),
    year=2015,
    venue="CCS",
    doi="10.1145/2810103.2813677",
    bibtex="""@inproceedings{fredrikson2015model,
  title     = {Model Inversion Attacks that Exploit Confidence Information and Basic Countermeasures},
  author    = {Fredrikson, Matt and Jha, Somesh and Ristenpart, Thomas},
  booktitle = {ACM SIGSAC Conference on Computer and Communications Security},
  pages     = {1322--1333},
  year      = {2015},
  doi       = {10.1145/2810103.2813677},
}""",
    deviations=(
        "By default -ln p is made small instead of 1 - p, whose gradient vanishes where an unlearned model gives the "
        "class no probability at all; cost=probability is the paper's.",
        "The descent ends when the class has probability 0.99; the paper's algorithm compares the cost with 0.99.",
        "At most 1,000 steps by default; the paper has 5,000.",
        "The input is confined to the range of all values of the hold-out and the step size is relative to it; the "
        "paper's pixels lie in [0, 1].",
        "How alike a reconstruction is to the forgotten rows is a Pearson correlation; in the paper people judge.",
        "Reconstructions are not processed between the steps, and no auxiliary term is added to the cost; the paper "
        "denoises them for one of its networks.",
    ),
)


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="model-inversion",
            summary="How alike inputs that the model itself takes for a forgotten class are to the forget set.",
            target="unlearnbench_model_inversion.measure:ModelInversion",
            params=ModelInversionParams,
            paper=PAPER,
            effort="models",
            readings=(
                ReadingSpec(
                    name="inversion-similarity", better="gold",
                    summary="correlation of reconstructions with the mean forget row of their class, mean over classes",
                ),
                ReadingSpec(
                    name="inversion-nearest", better="gold",
                    summary="correlation of reconstructions with the forget row most alike, mean over classes",
                ),
                ReadingSpec(
                    name="inversion-confidence", better="gold",
                    summary="probability of the class that its reconstruction reached, mean over classes",
                ),
            ),
        )
    ]  # fmt: skip
