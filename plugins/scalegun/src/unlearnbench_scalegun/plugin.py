"""What ScaleGUN declares: the certified method, its deep relative without one, and the measure of certificates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import MeasureSpec, NoParams, Paper, Param, ReadingSpec, UnlearnerSpec, hookimpl

UNLEARNBENCH_API = 1

Start = Literal["exact", "push"]
Precision = Literal["float64", "float32"]
Memory = Literal["ram", "disk"]
Bound = Literal["direct", "paper"]
Pooling = Literal["pooled", "per-class", "joint"]

RMAX = Param(
    "Threshold below which a residue waits, as a share of the mean over features of the sum over nodes of |x|.",
    ge=0,
    phase="prepare",
)
START = Param("How propagation begins: exact products without residues, or the paper's push.", phase="prepare")
PRECISION = Param("Numbers of the propagation state.", phase="prepare")
MEMORY = Param("Where the propagation state lies: in memory, or in a file that is mapped.", phase="prepare")


@dataclass(frozen=True)
class PropagationParams:
    """How propagated features are kept up to date."""

    rmax: Annotated[float, RMAX] = 1e-7
    start: Annotated[Start, START] = "exact"
    precision: Annotated[Precision, PRECISION] = "float64"
    memory: Annotated[Memory, MEMORY] = "ram"


@dataclass(frozen=True)
class ScaleGunParams(PropagationParams):
    """The linear method."""

    ridge: Annotated[float, Param("lambda: weight of the squared weights in each row's loss.", gt=0)] = 1e-2
    alpha: Annotated[float, Param("Standard deviation of the noise in the objective.", gt=0)] = 0.1
    tolerance: Annotated[
        float, Param("Training stops when the gradient of every class is shorter than this.", gt=0)
    ] = 1e-10
    epsilon: Annotated[float, Param("epsilon of the certificate.", gt=0, phase="unlearn")] = 1.0
    delta: Annotated[
        float, Param("delta of the certificate; 0 is one over the number of edges.", ge=0, lt=1, phase="unlearn")
    ] = 1e-4
    bound: Annotated[
        Bound,
        Param("Which bound is held against the budget: from the gradient as it is, or summed up.", phase="unlearn"),
    ] = "direct"
    pooling: Annotated[
        Pooling,
        Param(
            "Classes together as in the paper (pooled: the sum against C budgets), each alone, or as one long vector.",
            phase="unlearn",
        ),
    ] = "pooled"


@dataclass(frozen=True)
class DeepParams(PropagationParams):
    """The deep variant, which certifies nothing."""

    damping: Annotated[float, Param("Added to the diagonal of the Hessian.", gt=0, phase="unlearn")] = 1e-4
    iterations: Annotated[
        int, Param("Most iterations of conjugate gradients for each tensor.", ge=1, phase="unlearn")
    ] = 200
    tolerance: Annotated[
        float, Param("Conjugate gradients stop when the residual is this share of the start.", gt=0, phase="unlearn")
    ] = 1e-4
    trust: Annotated[
        float,
        Param("Longest step of a tensor, as a share of its own norm; longer ones are cut.", gt=0, phase="unlearn"),
    ] = 0.1
    rise: Annotated[
        float,
        Param("Most that a step may raise the training loss on what is left, as a share of it.", ge=0, phase="unlearn"),
    ] = 0.05


PAPER = Paper(
    title="Scalable and Certifiable Graph Unlearning: Overcoming the Approximation Error Barrier",
    authors=("Lu Yi", "Zhewei Wei"),
    year=2025,
    venue="ICLR",
    arxiv="2408.09212",
    bibtex="""@inproceedings{yi2025scalable,
  title     = {Scalable and Certifiable Graph Unlearning: Overcoming the Approximation Error Barrier},
  author    = {Yi, Lu and Wei, Zhewei},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year      = {2025},
}""",
    deviations=(
        "Propagation begins with exact products, which leave no residues (start=exact); the paper pushes (start=push).",
        "A node pushes when its level is complete and its residue is above rmax then, as the paper says; the authors' "
        "code also pushes nodes whose residue was above it for a while as it was summed up.",
        "Training is Newton's method in double precision until the gradient of every class is shorter than tolerance; "
        "the authors' stops earlier, in single precision, with a gradient that their bound leaves out.",
        "The Newton step of all classes is solved by conjugate gradients and what they leave is part of the bound; the "
        "authors invert a matrix for each class.",
        "What propagation leaves out is bounded by the sums of the residues' sizes; the authors sum residues with "
        "their signs, which cancel, and that is no bound.",
        "What training left, the lengths of rows above 1 and the rounding of double precision are part of the bound, "
        "and the features' spectral norm is bounded from above; the authors leave the former out and come from below.",
        "The bound that is held against the budget is by default the gradient as it is plus what exact features could "
        "add (bound=direct); the paper's sums up what every step may have left (bound=paper).",
        "Nodes lose their features with their edges unless the request keeps them, and features alone can be "
        "forgotten; the authors' code has a driver for edges alone.",
    ),
)

DEEP_PAPER = replace(
    PAPER,
    deviations=(
        "scalegun-deep adds a part of each block's solution where the authors add all of it: conjugate gradients start "
        "from 0 and end where a tensor's step would be longer than trust times its norm, or where the curvature is not "
        "positive.",
        "scalegun-deep halves a step until it brings the gradient on what is left closer to what it was before the "
        "request, without raising the training loss by more than rise, and goes on while that helps; after ten "
        "halvings the step is dropped, with a warning. The authors take the step as it is, which can wreck a network.",
        "scalegun-deep uses the conjugate gradients of linear systems, stopped at a residual relative to the "
        "right-hand side, and double precision; the authors minimise with a general routine and an absolute tolerance.",
        "scalegun-deep adds no noise: in the authors' code it has no effect on the weights.",
        "scalegun-deep also forgets nodes and features, for which the authors' code has no driver. Where nodes leave, "
        "the gradients before and after are means over their own rows.",
        "scalegun-deep takes any network that propagates before it learns, as the recipe of the run trained it; the "
        "authors train a perceptron of two layers with 1024 units and keep the best epoch on validation nodes.",
    ),
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """The linear method owns training; the deep one takes the network that the recipe trained."""
    return [
        UnlearnerSpec(
            name="scalegun",
            summary="ScaleGUN: features kept up to date by local pushes, a Newton step, a certificate.",
            target="unlearnbench_scalegun.method:ScaleGun",
            params=ScaleGunParams,
            paper=PAPER,
            tasks=("node-classification",),
            requests=("edges", "nodes", "features"),
            inputs=("numbers",),
            reads=("forget", "retain", "train"),
        ),
        UnlearnerSpec(
            name="scalegun-deep",
            summary="ScaleGUN for a deep network on propagated features: certifies nothing.",
            target="unlearnbench_scalegun.deep:ScaleGunDeep",
            params=DeepParams,
            paper=DEEP_PAPER,
            tasks=("node-classification",),
            requests=("edges", "nodes", "features"),
            inputs=("numbers",),
            reads=("forget", "retain", "train"),
        ),
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """What the certificate states, beside the true residual."""
    return [
        MeasureSpec(
            name="scalegun-certificate",
            summary="The certificate's bound and budget, and the gradient that is really left.",
            target="unlearnbench_scalegun.measures:CertificateReadings",
            params=NoParams,
            paper=PAPER,
            tasks=("node-classification",),
            requests=("edges", "nodes", "features"),
            reads=("certificate",),
            readings=(
                ReadingSpec(
                    name="bound", better="lower", summary="Bound on the gradient that is left, held against the budget."
                ),
                ReadingSpec(name="budget", better="higher", summary="What epsilon, delta and the noise allow."),
                ReadingSpec(
                    name="true-residual", better="lower", summary="The gradient that is left, from exact propagation."
                ),
                ReadingSpec(name="within-budget", better="higher", summary="1 where the bound is within the budget."),
                ReadingSpec(
                    name="bound-holds", better="higher", summary="1 where the true residual is within the bound."
                ),
                ReadingSpec(
                    name="retrains", better="lower", unit="models", summary="How often the budget was passed so far."
                ),
            ),
        )
    ]
