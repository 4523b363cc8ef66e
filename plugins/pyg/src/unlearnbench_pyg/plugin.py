"""Specs and parameters; imports nothing but the standard library and ``unlearnbench.api``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from unlearnbench.api import DatasetSpec, ModelSpec, Paper, Param, hookimpl

UNLEARNBENCH_API = 1

MoleculeSet = Literal["bace", "bbbp", "clintox", "hiv", "muv", "pcba", "sider", "tox21", "toxcast"]


@dataclass(frozen=True)
class SplitParams:
    """How graphs are divided, as no such data set comes divided."""

    test_fraction: Annotated[
        float, Param("Share of the graphs kept for testing (stratified by class, seeded).", gt=0, lt=1)
    ] = 0.2
    split_seed: Annotated[int, Param("Seed of the split; part of the scenario, not of a run.", ge=0)] = 0


@dataclass(frozen=True)
class TuParams(SplitParams):
    """A data set in the text format of the TU Dortmund collection."""

    dataset: Annotated[str, Param("Name as the files have it before the first _: MUTAG, PROTEINS, ENZYMES, ...")] = (
        "MUTAG"
    )
    folder: Annotated[str, Param("Folder of the files below the data folder; empty is tu/NAME/raw.")] = ""
    attributes: Annotated[
        bool,
        Param("Use the continuous node attributes too, with mean 0 and deviation 1 over nodes of training graphs."),
    ] = False


@dataclass(frozen=True)
class MoleculeParams(SplitParams):
    """A classification data set of MoleculeNet."""

    dataset: Annotated[
        MoleculeSet, Param("Which data set; those of MoleculeNet that are regressions are left out.")
    ] = "bbbp"
    task: Annotated[
        Literal["classification", "multi-label"],
        Param("One target as two classes, or all targets as labels; molecules lack some labels."),
    ] = "classification"
    target: Annotated[
        str, Param("Column of the classes, for classification; needed where there is more than one target.")
    ] = ""
    unreadable: Annotated[
        Literal["error", "leave-out"],
        Param("What becomes of SMILES that rdkit cannot read: they are refused, or their molecules left out."),
    ] = "error"


@dataclass(frozen=True)
class GcnParams:
    """Graph convolutions and the mean of the nodes."""

    hidden: Annotated[int, Param("Numbers that stand for a node in each layer.", ge=1)] = 64
    layers: Annotated[int, Param("Graph convolutions, each followed by ReLU.", ge=1)] = 3
    dropout: Annotated[
        float, Param("Share of a graph's numbers that training drops before the last line.", ge=0, lt=1)
    ] = 0.0


@dataclass(frozen=True)
class GinParams:
    """Graph isomorphism network with sums."""

    hidden: Annotated[int, Param("Numbers that stand for a node in each layer.", ge=1)] = 32
    layers: Annotated[int, Param("Steps of propagation; the paper counts the input as a layer as well.", ge=1)] = 4
    dropout: Annotated[float, Param("Share of the votes of each layer that training drops.", ge=0, lt=1)] = 0.5
    train_eps: Annotated[
        bool, Param("Learn the weight of a node's own numbers (GIN-epsilon) or leave it 1 (GIN-0).")
    ] = False


@dataclass(frozen=True)
class NodeGcnParams:
    """Graph convolutions, the last of which gives the classes of nodes."""

    hidden: Annotated[int, Param("Numbers that stand for a node in each layer but the last.", ge=1)] = 16
    layers: Annotated[int, Param("Graph convolutions.", ge=1)] = 2
    dropout: Annotated[float, Param("Share of what goes into each convolution that training drops.", ge=0, lt=1)] = 0.5


@dataclass(frozen=True)
class NodeGatParams:
    """Graph attention, the last layer of which gives the classes of nodes."""

    hidden: Annotated[int, Param("Numbers that stand for a node in each head of each layer but the last.", ge=1)] = 8
    heads: Annotated[int, Param("Heads of each layer but the last, side by side.", ge=1)] = 8
    last_heads: Annotated[int, Param("Heads of the last layer, whose mean is taken.", ge=1)] = 1
    layers: Annotated[int, Param("Layers of attention.", ge=1)] = 2
    dropout: Annotated[
        float, Param("Share of what goes into each layer, and of its attention, that training drops.", ge=0, lt=1)
    ] = 0.6


_TU = Paper(
    title="TUDataset: A collection of benchmark datasets for learning with graphs",
    authors=(
        "Christopher Morris",
        "Nils M. Kriege",
        "Franka Bause",
        "Kristian Kersting",
        "Petra Mutzel",
        "Marion Neumann",
    ),
    year=2020,
    venue="ICML Workshop on Graph Representation Learning and Beyond",
    arxiv="2007.08663",
    deviations=(
        "Edges go both ways and once each; loops and what is written on edges (labels, attributes) are left out.",
        "Nodes without edges stay nodes of their graph, also behind the last node that has one, and graphs without "
        "edges stay graphs.",
        "A node without labels and used attributes has the feature 1.",
        "One stratified split takes the place of cross-validation.",
    ),
)
_MOLECULES = Paper(
    title="MoleculeNet: a benchmark for molecular machine learning",
    authors=(
        "Zhenqin Wu",
        "Bharath Ramsundar",
        "Evan N. Feinberg",
        "Joseph Gomes",
        "Caleb Geniesse",
        "Aneesh S. Pappu",
        "Karl Leswing",
        "Vijay Pande",
    ),
    year=2018,
    venue="Chemical Science",
    doi="10.1039/C7SC02664A",
    arxiv="1703.00564",
    deviations=(
        "A stratified random split takes the place of the scaffold split that is recommended for some of the sets.",
        "Features of an atom are the nine of PyTorch Geometric's from_smiles, each one-hot; bonds are edges both ways "
        "without features.",
    ),
)
_GCN = Paper(
    title="Semi-Supervised Classification with Graph Convolutional Networks",
    authors=("Thomas N. Kipf", "Max Welling"),
    year=2017,
    venue="ICLR",
    arxiv="1609.02907",
    deviations=("The paper classifies nodes; here a graph is the mean of its nodes, followed by a linear layer.",),
)
_NODE_GCN = replace(
    _GCN,
    deviations=("Weight decay is the recipe's and so that of all layers; the paper's is that of the first alone.",),
)
_GAT = Paper(
    title="Graph Attention Networks",
    authors=(
        "Petar Veličković",
        "Guillem Cucurull",
        "Arantxa Casanova",
        "Adriana Romero",
        "Pietro Liò",
        "Yoshua Bengio",
    ),
    year=2018,
    venue="ICLR",
    arxiv="1710.10903",
)
_GIN = Paper(
    title="How Powerful are Graph Neural Networks?",
    authors=("Keyulu Xu", "Weihua Hu", "Jure Leskovec", "Stefanie Jegelka"),
    year=2019,
    venue="ICLR",
    arxiv="1810.00826",
)


@hookimpl
def unlearnbench_datasets() -> list[DatasetSpec]:
    return [
        DatasetSpec(
            name="tu",
            summary="Graphs of the TU Dortmund collection (MUTAG, PROTEINS, ENZYMES, ...), or your own in its format.",
            target="unlearnbench_pyg.tu:Tu",
            params=TuParams,
            inputs=("graphs",),
            fetchable=True,
            paper=_TU,
        ),
        DatasetSpec(
            name="molecule-net",
            summary="Molecules of MoleculeNet (BBBP, BACE, HIV, Tox21, ...) from their SMILES; needs rdkit.",
            target="unlearnbench_pyg.molecules:Molecules",
            params=MoleculeParams,
            tasks=("classification", "multi-label"),
            inputs=("graphs",),
            fetchable=True,
            paper=_MOLECULES,
        ),
    ]


@hookimpl
def unlearnbench_models() -> list[ModelSpec]:
    return [
        ModelSpec(
            name="gcn",
            summary="Graph convolutional network for whole graphs.",
            target="unlearnbench_pyg.models:Gcn",
            params=GcnParams,
            tasks=("classification", "multi-label"),
            inputs=("graphs",),
            paper=_GCN,
        ),
        ModelSpec(
            name="gin",
            summary="Graph isomorphism network for whole graphs.",
            target="unlearnbench_pyg.models:Gin",
            params=GinParams,
            tasks=("classification", "multi-label"),
            inputs=("graphs",),
            paper=_GIN,
        ),
        ModelSpec(
            name="node-gcn",
            summary="Graph convolutional network for the nodes of a graph.",
            target="unlearnbench_pyg.nodes:NodeGcn",
            params=NodeGcnParams,
            tasks=("node-classification",),
            paper=_NODE_GCN,
        ),
        ModelSpec(
            name="node-gat",
            summary="Graph attention network for the nodes of a graph.",
            target="unlearnbench_pyg.nodes:NodeGat",
            params=NodeGatParams,
            tasks=("node-classification",),
            paper=_GAT,
        ),
    ]
