"""What the plugin declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from unlearnbench.api import Paper, Param, Recipe, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1


@dataclass(frozen=True)
class GentleParams(Recipe):
    """The optimisation of the ascent and of the repair; epochs is the most that the ascent may take."""

    lr: Annotated[float, Param("Learning rate.", gt=0)] = 0.01
    weight_decay: Annotated[float, Param("Weight decay.", ge=0)] = 0.0
    epochs: Annotated[int, Param("Most passes over the forget set.", ge=0, unit="epochs")] = 20
    batch_size: Annotated[int, Param("Rows in a batch.", ge=1, unit="rows")] = 32
    height: Annotated[
        float, Param("Forget loss at which the ascent stops, as a multiple of the loss of a uniform guess.", gt=0)
    ] = 1.0
    repair_epochs: Annotated[int, Param("Passes over the retain set afterwards.", ge=0, unit="epochs")] = 2


PAPER = Paper(
    title="Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks",
    authors=("Aditya Golatkar", "Alessandro Achille", "Stefano Soatto"),
    year=2020,
    venue="CVPR",
    arxiv="1911.04933",
    bibtex="""@inproceedings{golatkar2020eternal,
  title     = {Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks},
  author    = {Golatkar, Aditya and Achille, Alessandro and Soatto, Stefano},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2020},
}""",
    deviations=(
        "Only the paper's baseline, the negative gradient, is taken up.",
        "The ascent stops at the loss of a uniform guess; the paper runs it for a fixed number of epochs.",
        "The repair on the retain set is an addition.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    return [
        UnlearnerSpec(
            name="gentle",
            summary="Gentle ascent: climb on the forget set until it is a guess, then repair on the retain set.",
            target="unlearnbench_gentle.method:Gentle",
            params=GentleParams,
            paper=PAPER,
            requests=("samples", "class", "group"),
            reads=("forget", "retain"),
        )
    ]
