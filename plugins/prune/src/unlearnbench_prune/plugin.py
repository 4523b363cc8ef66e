"""What PRUNE declares. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from unlearnbench.api import (
    MeasureSpec,
    ModelSpec,
    Paper,
    Param,
    ReadingSpec,
    TableColumn,
    TableSpec,
    UnlearnerSpec,
    hookimpl,
)

UNLEARNBENCH_API = 1
_OWN = {
    "memory-is-bounded": "the rows of one linear region are units x inputs numbers in double precision, many times "
    "the weights of a small network",
    "keeps-no-forgotten-row": "every request issues the certificates of all rows so far anew, and a certificate is "
    "about a row: whoever certifies keeps it",
}
UNLEARNBENCH_EXPECTED_FAILURES = {"prune": _OWN, "prune-class": _OWN}

Target = Literal["random", "second", "least"]
Gate = Literal["support", "exact", "committed"]
Multi = Literal["each", "paper", "certified"]
Attack = Literal["yeom", "shadow", "lira"]


@dataclass(frozen=True)
class PlaceParams:
    """Where forgotten rows are sent, and where that is claimed."""

    target: Annotated[
        Target,
        Param("Class that forgotten rows are sent to: random, the second best, or the least; never a label of theirs."),
    ] = "random"
    radius: Annotated[
        float | Literal["whole", "auto"],
        Param(
            "Largest difference of a feature up to which a claim is made, and up to which an exact gate acts; auto "
            "stays clear of retained rows in the same region; whole takes all of the region, which may end sooner."
        ),
    ] = "whole"
    max_radius: Annotated[float, Param("Largest radius that auto takes.", gt=0)] = 0.05
    margin: Annotated[float, Param("Least lead of the target over every other class in the region.", gt=0)] = 1e-2
    bound: Annotated[
        Literal["auto", "interval", "lp"],
        Param("How the region is bounded: by intervals, by linear programs, or by programs where intervals are loose."),
    ] = "auto"
    split_at: Annotated[
        str, Param("Module where the classifier part begins, such as fc; empty takes the whole network.")
    ] = ""
    low: Annotated[float | None, Param("Least value of a feature; none takes that of the training rows.")] = None
    high: Annotated[float | None, Param("Largest value of a feature; none takes that of the training rows.")] = None
    region_mb: Annotated[
        float,
        Param("Networks with larger linear regions are refused; a later split_at makes them small.", gt=0, unit="MB"),
    ] = 64.0


@dataclass(frozen=True)
class PruneParams(PlaceParams):
    """The paper's form; gate=exact with radius=auto and multi=each is the profile whose certificates hold."""

    gate: Annotated[
        Gate,
        Param(
            "Where a patch acts: support nets that fade out (support), the region's activation pattern (exact), or a "
            "salted hash of the pattern (committed), which does not give the region away."
        ),
    ] = "support"
    sharpness: Annotated[float, Param("lambda of the support nets; large ones stay near the region.", gt=0)] = 10.0
    multi: Annotated[
        Multi,
        Param(
            "Many rows: a patch for each region (each), clusters with the map of a representative in rounds (paper), "
            "or clusters whose map is proved for every member (certified)."
        ),
    ] = "paper"
    clusters: Annotated[int, Param("Clusters of k-means in a round.", ge=1)] = 2
    cluster_by: Annotated[
        Literal["inputs", "features"], Param("What k-means looks at: the inputs, or what reaches split_at.")
    ] = "inputs"
    rounds: Annotated[int, Param("Most rounds of clusters.", ge=1)] = 2
    unlearn_rate: Annotated[
        float, Param("Rounds end when this share of the rows is no longer predicted as labelled (delta).", gt=0, le=1)
    ] = 0.9
    patch: Annotated[
        Literal["constant", "affine-lp"],
        Param("Map of multi=each: the smallest constant, or the affine map of a linear program (small networks)."),
    ] = "constant"


@dataclass(frozen=True)
class ClassParams(PlaceParams):
    """A whole class, unseen rows of it too."""

    radius: Annotated[
        float | Literal["whole", "auto"],
        Param(
            "Largest difference of a feature up to which a claim is made; auto stays clear of retained rows in its "
            "region; whole takes all of the region, with a linear program for every pair of rows of two classes."
        ),
    ] = "auto"
    form: Annotated[
        Literal["support", "global"],
        Param("One map under the support nets of all regions of the class, or its output lowered everywhere."),
    ] = "support"
    map: Annotated[
        Literal["representative", "certified"],
        Param("The map of the row nearest to the centre of the class, or one that is proved for all of its rows."),
    ] = "certified"
    sharpness: Annotated[
        tuple[float, ...],
        Param(
            "lambda that are tried on validation rows; the least that keeps the other classes is taken.", min_length=1
        ),
    ] = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    most_drop: Annotated[
        float, Param("Most that the accuracy on other classes' validation rows may drop for it.", ge=0, le=1)
    ] = 0.05


@dataclass(frozen=True)
class PatchedParams:
    """A network and its patches."""

    base: Annotated[dict[str, Any], Param("Ref of the network underneath.")] = field(default_factory=dict)
    split_at: Annotated[str, Param("Module where the classifier part begins; empty is the whole network.")] = ""
    gate: Annotated[Gate, Param("Where a patch acts.")] = "exact"
    sharpness: Annotated[float, Param("lambda of the support nets.", gt=0)] = 10.0
    salt: Annotated[str, Param("Salt of committed patterns, in hex.")] = ""
    members: Annotated[int, Param("Regions under a patch.", ge=0)] = 0
    groups: Annotated[int, Param("Patches.", ge=0)] = 0
    affine: Annotated[bool, Param("Whether patches have slopes.")] = False
    low: Annotated[float, Param("Least value of a feature.")] = 0.0
    high: Annotated[float, Param("Largest value of a feature.")] = 1.0


@dataclass(frozen=True)
class AttackParams:
    """Which attacks are made."""

    attacks: Annotated[
        tuple[Attack, ...],
        Param("yeom (loss threshold), shadow (a network on shadow models' posteriors), lira (per row)."),
    ] = ("yeom",)
    shadows: Annotated[int, Param("Shadow models for shadow and lira; they come in pairs.", ge=2)] = 8


DEVIATIONS = (
    "The journal's text was not at hand: the method follows the abstract, the authors' proofs and their code; what "
    "those leave open is a reconstruction.",
    "The target differs from the label and from the model's prediction; the authors' differs from the label alone.",
    "The constant map is the smallest in its largest entry that leads by a margin of 0.01 on the whole region; the "
    "authors solve for bounds between -100 and 0, which comes to a constant as well, without a margin.",
    "Regions are worked out in double precision and in closed form; the authors round to single precision.",
    "Support nets have lambda 10; the authors' code has 0.1 for many rows, which sends most other rows elsewhere too.",
    "Each cluster has a target of its own that none of its rows is labelled as, later rounds see the earlier patches, "
    "and the patches are part of the state dict; the authors' code takes the first target for all clusters, leaves "
    "rows with that label as they are, linearises the bare network in every round, and saves no patch.",
    "The gates exact and committed, the radius, multi=each and multi=certified, and certificates with their verifier "
    "are not in the paper.",
    "Every row is verified again after the request and reported as certified, empirical or failed; the paper argues "
    "for progress of the rate.",
)
PAPER = Paper(
    title="PRUNE: A patching based repair framework for certifiable and privacy-robust unlearning of neural networks",
    authors=("Xuran Li", "Jingyi Wang", "Xiaohan Yuan", "Peixin Zhang"),
    year=2026,
    venue="Neural Networks",
    doi="10.1016/j.neunet.2026.108897",
    arxiv="2505.06520",
    bibtex="""@article{li2026prune,
  title   = {{PRUNE}: A patching based repair framework for certifiable and privacy-robust unlearning of neural
             networks},
  author  = {Li, Xuran and Wang, Jingyi and Yuan, Xiaohan and Zhang, Peixin},
  journal = {Neural Networks},
  volume  = {201},
  pages   = {108897},
  year    = {2026},
  doi     = {10.1016/j.neunet.2026.108897},
}""",
    deviations=DEVIATIONS,
)
CLASS_DEVIATIONS = (
    "The journal's algorithm for classes was not at hand: that all rows of a class share one map under support nets of "
    "lambda well below those of single rows is what the authors' code says of it, and the rest is a reconstruction.",
    "The map is proved for every row of the class (map=certified) or that of the row nearest to the centre.",
    "lambda is the least of seven values that costs the other classes at most 0.05 of accuracy on validation rows.",
    "form=global is no patch of the paper's but a filter on the outputs: the class is lowered by what interval bounds "
    "over the whole box ask for.",
    "Every row is verified again after the request and reported as certified, empirical or failed.",
)


@hookimpl
def unlearnbench_unlearners() -> list[UnlearnerSpec]:
    """For rows, and for a class."""
    return [
        UnlearnerSpec(
            name="prune",
            summary="PRUNE: patches that send forgotten rows to another class, with certificates for their regions.",
            target="unlearnbench_prune.method:Prune",
            params=PruneParams,
            paper=PAPER,
            inputs=("numbers",),
            reads=("forget", "retain"),
        ),
        UnlearnerSpec(
            name="prune-class",
            summary="PRUNE for a class: one patch under the support nets of all its rows, or its output lowered.",
            target="unlearnbench_prune.method:PruneClass",
            params=ClassParams,
            paper=replace(PAPER, deviations=CLASS_DEVIATIONS),
            requests=("class",),
            inputs=("numbers",),
            reads=("forget", "retain", "validation"),
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    """The network with its patches."""
    return [
        ModelSpec(
            name="prune-patched",
            summary="A network whose outputs are shifted in some of its linear regions.",
            target="unlearnbench_prune.patched:Patched",
            params=PatchedParams,
            paper=replace(PAPER, deviations=()),
            wrapper=True,
        )
    ]


def _attack(name: str) -> tuple[ReadingSpec, ...]:
    return (
        ReadingSpec(name=f"{name}-recall", better="gold", summary="share of the forget set called members"),
        ReadingSpec(name=f"{name}-auc", better="gold", summary="area under the curve; under 1/2 points the other way"),
        ReadingSpec(
            name=f"{name}-two-sided", better="lower", summary="|AUC - 1/2|: how well rows are found either way"
        ),
    )


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """What the certificates state, and attacks that look both ways."""
    measures = "unlearnbench_prune"
    return [
        MeasureSpec(
            name="prune-certificate",
            summary="Shares of the requests that are certified, redirected without a proof, or failed.",
            target=f"{measures}.measures:CertificateReadings",
            paper=replace(PAPER, deviations=()),
            reads=("certificate",),
            readings=(
                ReadingSpec(name="certified", better="higher", summary="share of the forgotten rows with a proof"),
                ReadingSpec(name="empirical", better="lower", summary="share that is redirected, without a proof"),
                ReadingSpec(name="failed", better="lower", summary="share that is still predicted as labelled"),
            ),
        ),
        MeasureSpec(
            name="two-sided-mia",
            summary="Membership attacks with recall and with |AUC - 1/2|: rows that stand out either way are found.",
            target=f"{measures}.attacks:TwoSided",
            params=AttackParams,
            paper=replace(
                PAPER, deviations=("The journal's numbers for attacks were not at hand; which are made is our choice.",)
            ),
            reads=("siblings",),
            effort="ensemble",
            readings=_attack("yeom") + _attack("shadow") + _attack("lira"),
        ),
    ]


def _column(heading: str, measure: str, reading: str, split: str, *, percent: bool = True) -> TableColumn:
    return TableColumn(
        heading=heading, measure=measure, reading=reading, split=split, scale=100 if percent else 1, digits=2
    )


@hookimpl
def unlearnbench_tables() -> list[TableSpec]:
    """The paper's comparison of methods."""
    return [
        TableSpec(
            name="prune",
            summary="The comparison of PRUNE's paper: accuracies, time and memory, with the share that is certified.",
            paper=replace(PAPER, deviations=()),
            subjects=(("original", "original"), ("gold", "retrained")),
            columns=(
                _column("A_u %", "accuracy", "accuracy", "forget"),
                _column("A_r %", "accuracy", "accuracy", "retain"),
                _column("A_test %", "accuracy", "accuracy", "test"),
                _column("certified %", "prune-certificate", "certified", "forget"),
                _column("recall %", "two-sided-mia", "yeom-recall", "forget"),
                _column("|AUC - 1/2|", "two-sided-mia", "yeom-two-sided", "forget", percent=False),
                _column("time s", "run-cost", "cpu-time", "", percent=False),
                _column("memory MB", "run-cost", "peak-memory", "", percent=False),
            ),
        )
    ]
