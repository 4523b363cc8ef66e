"""Specs and parameters; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from unlearnbench.api import DatasetSpec, MeasureSpec, ModelSpec, NoParams, Paper, Param, ReadingSpec, hookimpl
from unlearnbench_graphs import papers

UNLEARNBENCH_API = 1

Scale = Literal["none", "rows", "standard"]
SCALE = Param(
    "Features as they are; each node's divided by the sum of their absolute values (rows); or of mean 0 and deviation "
    "1 over all nodes, then all divided by the largest norm of a node (standard, as ScaleGUN's authors do)."
)


@dataclass(frozen=True)
class HeldOutParams:
    """How nodes are divided where nobody has done so: a draw, the rest is for training."""

    validation_nodes: Annotated[int, Param("Nodes kept for validation.", ge=0)] = 500
    test_nodes: Annotated[int, Param("Nodes kept for testing.", ge=1)] = 1000
    split_seed: Annotated[int, Param("Seed of the split; part of the scenario, not of a run.", ge=0)] = 0
    scale: Annotated[Scale, SCALE] = "none"


@dataclass(frozen=True)
class PlanetoidParams:
    """Citation networks in the files of Planetoid."""

    dataset: Annotated[Literal["Cora", "CiteSeer", "PubMed"], Param("Which network.")] = "Cora"
    split: Annotated[
        Literal["full", "public"],
        Param("Train on all nodes that are not for validation or testing (full), or on 20 of each class (public)."),
    ] = "full"
    scale: Annotated[Scale, SCALE] = "none"
    folder: Annotated[str, Param("Folder of the files below the data folder; empty is planetoid/NAME/raw.")] = ""


@dataclass(frozen=True)
class AmazonParams(HeldOutParams):
    """Goods that are bought together, in the files of Shchur et al."""

    dataset: Annotated[Literal["Photo", "Computers"], Param("Which network.")] = "Photo"
    folder: Annotated[str, Param("Folder of the file below the data folder; empty is amazon/NAME/raw.")] = ""


@dataclass(frozen=True)
class OgbParams:
    """Node property prediction of the Open Graph Benchmark, from its raw files."""

    dataset: Annotated[Literal["arxiv", "products", "papers100M"], Param("Which network.")] = "arxiv"
    scale: Annotated[Scale, SCALE] = "none"
    folder: Annotated[str, Param("Folder below the data folder; empty is ogb/ogbn_NAME.")] = ""


@dataclass(frozen=True)
class GraphFileParams(HeldOutParams):
    """A graph of your own."""

    file: Annotated[str, Param("npz with everything, or the edges as .csv, .csv.gz or .parquet.")] = ""
    nodes: Annotated[str, Param("Features, classes and splits of the nodes as .csv, .csv.gz or .parquet.")] = ""
    source: Annotated[str, Param("Column of the first node of an edge.")] = "source"
    target: Annotated[str, Param("Column of the second node of an edge.")] = "target"
    node: Annotated[str, Param("Column of a node's number; empty numbers them from 0 in order.")] = ""
    label: Annotated[str, Param("Column of the class; empty or -1 where nobody knows it.")] = "label"
    split: Annotated[
        str, Param("Column that says train, validation or test; where there is none, nodes are drawn.")
    ] = "split"
    directed: Annotated[
        Literal["error", "symmetric"],
        Param(
            "Edges that are written one way count like the others (symmetric), or are refused (error) unless every "
            "edge is written once, always from the smaller to the larger number or always the other way."
        ),
    ] = "symmetric"
    self_loops: Annotated[Literal["error", "drop"], Param("Edges from a node to itself are refused or left out.")] = (
        "error"
    )
    duplicates: Annotated[
        Literal["error", "drop"], Param("Edges written twice, the same way, are refused or counted once.")
    ] = "error"


Schedule = Literal["sgc", "decay", "average", "heterophily"]
STEPS = Param("L: how many times features are propagated.", ge=0)
SCHEDULE = Param("Weights of the levels: last only (sgc), a(1-a)^l, 1/(L+1), or (-1)^l.")
DECAY = Param("a of the schedule decay.", gt=0, lt=1)


@dataclass(frozen=True)
class SgcParams:
    """Features propagated L times, then a line."""

    steps: Annotated[int, STEPS] = 2
    schedule: Annotated[Schedule, SCHEDULE] = "sgc"
    decay: Annotated[float, DECAY] = 0.1


@dataclass(frozen=True)
class SgcMlpParams(SgcParams):
    """Features propagated L times, then layers."""

    hidden: Annotated[tuple[int, ...], Param("Units of the hidden layers.")] = (256,)
    dropout: Annotated[float, Param("Share of the hidden units that training drops.", ge=0, lt=1)] = 0.3


@dataclass(frozen=True)
class EdgeMiaParams:
    """The attack on edges."""

    pairs: Annotated[int, Param("Most pairs on each side.", ge=10)] = 2000


_PLANETOID = Paper(
    title="Revisiting Semi-Supervised Learning with Graph Embeddings",
    authors=("Zhilin Yang", "William W. Cohen", "Ruslan Salakhutdinov"),
    year=2016,
    venue="ICML",
    arxiv="1603.08861",
    deviations=(
        "Edges are undirected and there once each; loops are left out.",
        "split=full trains on all nodes that are neither for validation nor for testing; the paper trains on 20 of "
        "each class (split=public).",
        "CiteSeer's 15 nodes that no file describes have no class and features of 0; PyTorch Geometric gives them "
        "class 0 and, with split=full, trains on them.",
    ),
)
_AMAZON = Paper(
    title="Pitfalls of Graph Neural Network Evaluation",
    authors=("Oleksandr Shchur", "Maximilian Mumme", "Aleksandar Bojchevski", "Stephan Günnemann"),
    year=2018,
    venue="Relational Representation Learning Workshop, NeurIPS",
    arxiv="1811.05868",
    deviations=(
        "Edges are undirected and there once each, loops are left out, and the whole graph is used, not its largest "
        "connected component.",
        "One draw of validation and test nodes, and training on all others, takes the place of splits with 20 training "
        "nodes of each class.",
    ),
)
_OGB = Paper(
    title="Open Graph Benchmark: Datasets for Machine Learning on Graphs",
    authors=(
        "Weihua Hu",
        "Matthias Fey",
        "Marinka Zitnik",
        "Yuxiao Dong",
        "Hongyu Ren",
        "Bowen Liu",
        "Michele Catasta",
        "Jure Leskovec",
    ),
    year=2020,
    venue="NeurIPS",
    arxiv="2005.00687",
    deviations=("Edges are undirected and there once each; loops and the years of papers are left out.",),
)
_SGC = Paper(
    title="Simplifying Graph Convolutional Networks",
    authors=(
        "Felix Wu",
        "Amauri Souza",
        "Tianyi Zhang",
        "Christopher Fifty",
        "Tao Yu",
        "Kilian Q. Weinberger",
    ),
    year=2019,
    venue="ICML",
    arxiv="1902.07153",
)


@hookimpl
def unlearnbench_datasets() -> list[DatasetSpec]:
    """Graphs whose nodes are classified."""
    here = "unlearnbench_graphs"
    return [
        DatasetSpec(
            name="planetoid",
            summary="Citation networks Cora, CiteSeer and PubMed.",
            target=f"{here}.planetoid:Planetoid",
            params=PlanetoidParams,
            paper=_PLANETOID,
            tasks=("node-classification",),
            fetchable=True,
            licence="MIT",
        ),
        DatasetSpec(
            name="amazon",
            summary="Amazon's goods that are bought together: Photo and Computers.",
            target=f"{here}.amazon:Amazon",
            params=AmazonParams,
            paper=_AMAZON,
            tasks=("node-classification",),
            fetchable=True,
            licence="research use",
        ),
        DatasetSpec(
            name="ogb-nodes",
            summary="ogbn-arxiv, ogbn-products and ogbn-papers100M, from their raw files.",
            target=f"{here}.ogb:Ogb",
            params=OgbParams,
            paper=_OGB,
            tasks=("node-classification",),
            licence="ODC-BY (arxiv, papers100M), Amazon (products)",
        ),
        DatasetSpec(
            name="graph-file",
            summary="A graph of your own: npz, parquet or CSV.",
            target=f"{here}.own:GraphFile",
            params=GraphFileParams,
            tasks=("node-classification",),
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    """Networks that propagate before they learn."""
    return [
        ModelSpec(
            name="sgc",
            summary="Propagated features and a line: SGC and other generalised PageRank.",
            target="unlearnbench_graphs.networks:Sgc",
            params=SgcParams,
            paper=_SGC,
            tasks=("node-classification",),
        ),
        ModelSpec(
            name="sgc-mlp",
            summary="Propagated features and a perceptron with batch normalisation.",
            target="unlearnbench_graphs.networks:SgcMlp",
            params=SgcMlpParams,
            paper=_SGC,
            tasks=("node-classification",),
        ),
    ]


@hookimpl
def unlearnbench_measures() -> list[MeasureSpec]:
    """Attacks on edges and nodes, and how far embeddings are from gold's."""
    elements: tuple[Literal["nodes", "edges", "features"], ...] = ("nodes", "edges", "features")
    return [
        MeasureSpec(
            name="edge-mia",
            summary="Was this edge there? Forgotten edges against pairs that never were, by how alike outputs are.",
            target="unlearnbench_graphs.edges:EdgeMia",
            params=EdgeMiaParams,
            paper=papers.LINKS,
            tasks=("node-classification",),
            requests=("edges", "nodes"),
            readings=(
                ReadingSpec(
                    name="edge-mia-auc", better="gold", summary="Area under the ROC curve, forgotten against never."
                ),
            ),
        ),
        MeasureSpec(
            name="node-mia",
            summary="Was this node trained on? Forgotten nodes against test nodes, by the loss.",
            target="unlearnbench_graphs.nodes:NodeMia",
            params=NoParams,
            paper=papers.LOSS,
            tasks=("node-classification",),
            requests=elements,
            readings=(
                ReadingSpec(
                    name="node-mia-auc", better="gold", summary="Area under the ROC curve, forgotten against test."
                ),
            ),
        ),
        MeasureSpec(
            name="embedding-distance",
            summary="How far what the last layer sees is from gold's, over all nodes.",
            target="unlearnbench_graphs.embeddings:EmbeddingDistance",
            params=NoParams,
            paper=papers.ACTIVATIONS,
            tasks=("node-classification",),
            requests=elements,
            reads=("gold",),
            readings=(
                ReadingSpec(
                    name="embedding-distance", better="lower", summary="Relative Frobenius distance to gold's."
                ),
            ),
        ),
    ]
