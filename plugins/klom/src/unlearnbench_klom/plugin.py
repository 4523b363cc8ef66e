"""What KLoM declares: one measure, its parameters and its paper. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import MeasureSpec, Paper, Param, ReadingSpec, hookimpl

UNLEARNBENCH_API = 1


@dataclass(frozen=True)
class KlomParams:
    """How many models, and how finely their margins are counted."""

    n: Annotated[int, Param("Models of each kind; twice as many gold models are trained.", ge=2)] = 64
    bins: Annotated[int, Param("Equal bins of a row's histograms.", ge=2)] = 20


PAPER = Paper(
    title="Attribute-to-Delete: Machine Unlearning via Datamodel Matching",
    authors=(
        "Kristian Georgiev", "Roy Rinberg", "Sung Min Park", "Shivam Garg", "Andrew Ilyas", "Aleksander Madry",
        "Seth Neel",
    ),
    year=2025,
    venue="ICLR",
    arxiv="2410.23232",
    bibtex="""@inproceedings{georgiev2025attribute,
  title     = {Attribute-to-Delete: Machine Unlearning via Datamodel Matching},
  author    = {Georgiev, Kristian and Rinberg, Roy and Park, Sung Min and Garg, Shivam and Ilyas, Andrew
               and Madry, Aleksander and Neel, Seth},
  booktitle = {International Conference on Learning Representations},
  year      = {2025},
}""",
    deviations=(
        "The largest margin is counted in the last bin; the authors' code puts it into a bin of its own past the last "
        "edge and loses it.",
        "The two ensembles may differ in size; the authors' benchmark refuses that.",
        "By default 64 models of each kind; the paper has 100, and the floor falls as the number grows.",
        "The share of oracles in a bin is floored at 1e-5 and not normalised again; an earlier version of the authors' "
        "code normalises, which changes the value by less than 2e-4.",
        "Test rows stand where the paper has validation rows.",
    ),
)  # fmt: skip


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    return [
        MeasureSpec(
            name="klom",
            summary="How far margins under unlearned models are from those under models that never saw the forget set.",
            target="unlearnbench_klom.measure:Klom",
            params=KlomParams,
            paper=PAPER,
            reads=("siblings",),
            effort="ensemble",
            readings=(
                ReadingSpec(
                    name="klom", better="gold", unit="nats",
                    summary="mean over rows of the divergence; gold's value (golds against golds) is the floor",
                ),
                ReadingSpec(
                    name="klom-p95", better="gold", unit="nats",
                    summary="95th percentile over rows of the divergence",
                ),
            ),
        )
    ]  # fmt: skip
