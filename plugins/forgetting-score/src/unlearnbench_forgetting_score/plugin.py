"""What the forgetting score declares: one measure, its parameters and its paper. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, hookimpl

UNLEARNBENCH_API = 1


@dataclass(frozen=True)
class ForgettingScoreParams:
    """How many models, and what the unlearned ones start from."""

    n: Annotated[int, Param("Models of each kind; twice as many gold models are trained.", ge=3)] = 64
    originals: Annotated[
        Literal["each", "one"],
        Param("Each unlearned model from an original of its own (each), or all from the run's (one: the competition)."),
    ] = "each"


PAPER = Paper(
    title="Are we making progress in unlearning? Findings from the first NeurIPS unlearning competition",
    authors=(
        "Eleni Triantafillou", "Peter Kairouz", "Fabian Pedregosa", "Jamie Hayes", "Meghdad Kurmanji", "Kairan Zhao",
        "Vincent Dumoulin", "Julio Jacques Junior", "Ioannis Mitliagkas", "Jun Wan", "Lisheng Sun Hosoya",
        "Sergio Escalera", "Gintare Karolina Dziugaite", "Peter Triantafillou", "Isabelle Guyon",
    ),
    year=2024,
    arxiv="2406.09073",
    bibtex="""@article{triantafillou2024making,
  title   = {Are we making progress in unlearning? Findings from the first {NeurIPS} unlearning competition},
  author  = {Triantafillou, Eleni and Kairouz, Peter and Pedregosa, Fabian and Hayes, Jamie and Kurmanji, Meghdad
             and Zhao, Kairan and Dumoulin, Vincent and Jacques Junior, Julio and Mitliagkas, Ioannis and Wan, Jun
             and Sun Hosoya, Lisheng and Escalera, Sergio and Dziugaite, Gintare Karolina and Triantafillou, Peter
             and Guyon, Isabelle},
  journal = {arXiv preprint arXiv:2406.09073},
  year    = {2024},
}""",
    deviations=(
        "By default 64 models of each kind; the competition has 512, and with fewer the largest epsilon that earns "
        "points is smaller (ceil(ln(n - 1)) is 5 at 64 and 7 at 512).",
        "By default each unlearned model starts from an original of its own; originals=one is the competition, in "
        "which all start from one original and only the seed of unlearning differs.",
        "The interval family has exactly 400 right and 400 left thresholds; rounding gives the official code 400 or "
        "401 right ones.",
        "The single-threshold family is placed in double precision; the official code rounds its thresholds to single "
        "precision.",
        "A row for which the grid keeps no threshold, because what tells its values apart is smaller than a step, is "
        "judged with every value as a threshold; the official code stops there, at an assertion about an array that "
        "current numpy refuses for any other row as well.",
        "A row on which all models of both kinds agree to the last bit has epsilon 0; the official code divides 0 by "
        "0.",
        "Confidences are computed from logits in double precision and clipped to +-103.6, the range to which the "
        "official code's 1e-45 inside the logarithms confines them.",
        "The score is not set to 0 when unlearning takes too long, as the competition did; the cost of a run is "
        "measured beside it.",
    ),
)  # fmt: skip


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="forgetting-score",
            summary="NeurIPS 2023 competition: can unlearned models be told from retrained ones, row by row.",
            target="unlearnbench_forgetting_score.measure:ForgettingScore",
            params=ForgettingScoreParams,
            paper=PAPER,
            reads=("siblings",),
            effort="ensemble",
            readings=(
                ReadingSpec(
                    name="forgetting-quality", better="gold",
                    summary="F: mean over forget rows of the points for their epsilon; gold's value is the floor",
                ),
                ReadingSpec(
                    name="final-score", better="gold",
                    summary="F times the accuracies on retain and test rows relative to retrained models",
                ),
                ReadingSpec(name="epsilon", better="gold", unit="nats", summary="median over forget rows of epsilon"),
                ReadingSpec(
                    name="at-cap", better="gold",
                    summary="share of forget rows on which the two kinds of models are separated (epsilon 50)",
                ),
            ),
        )
    ]  # fmt: skip
