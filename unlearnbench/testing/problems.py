"""Tiny data sets and networks, one pair or more for each task: what the kit runs plugins on. Light, like any plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unlearnbench.api import DatasetSpec, ModelSpec, Spec
from unlearnbench.plugins import Plugin

_HERE = "unlearnbench.testing.problem_parts"
_BOXES = "unlearnbench.testing.problem_boxes"

SPECS: tuple[Spec, ...] = (
    DatasetSpec(name="kit-rows", summary="Three clouds of points.", target=f"{_HERE}:Rows"),
    DatasetSpec(name="kit-images", summary="Three noisy patterns.", target=f"{_HERE}:Images"),
    DatasetSpec(name="kit-labels", summary="Three marks.", target=f"{_HERE}:Labels", tasks=("multi-label",)),
    DatasetSpec(name="kit-pixels", summary="Coloured squares.", target=f"{_HERE}:Pixels", tasks=("segmentation",)),
    DatasetSpec(name="kit-boxes", summary="Squares to be found.", target=f"{_BOXES}:Boxes", tasks=("detection",)),
    DatasetSpec(
        name="kit-graph", summary="Three communities.", target=f"{_HERE}:Graph", tasks=("node-classification",)
    ),
    DatasetSpec(name="kit-tokens", summary="Short texts.", target=f"{_HERE}:Tokens", inputs=("tokens",)),
    DatasetSpec(
        name="kit-graphs", summary="Rings, stars, loose nodes.", target=f"{_HERE}:SmallGraphs", inputs=("graphs",)
    ),
    ModelSpec(
        name="kit-mlp", summary="One hidden layer.", target=f"{_HERE}:Mlp", tasks=("classification", "multi-label")
    ),
    ModelSpec(
        name="kit-convnet",
        summary="A convolution with BatchNorm and dropout: everything that has a state or draws.",
        target=f"{_HERE}:ConvNet",
        tasks=("classification", "multi-label"),
    ),
    ModelSpec(
        name="kit-deepnet",
        summary="Six convolutions.",
        target=f"{_HERE}:DeepNet",
        tasks=("classification", "multi-label"),
    ),
    ModelSpec(name="kit-deep-segnet", summary="Six more.", target=f"{_HERE}:DeepSegNet", tasks=("segmentation",)),
    ModelSpec(name="kit-deep-detector", summary="And six.", target=f"{_BOXES}:DeepDetector", tasks=("detection",)),
    ModelSpec(name="kit-segnet", summary="A class per pixel.", target=f"{_HERE}:SegNet", tasks=("segmentation",)),
    ModelSpec(name="kit-detector", summary="A cell per pixel.", target=f"{_BOXES}:Detector", tasks=("detection",)),
    ModelSpec(
        name="kit-sgc", summary="Propagation, then a line.", target=f"{_HERE}:Sgc", tasks=("node-classification",)
    ),
    ModelSpec(
        name="kit-decoupled",
        summary="Two propagations, then a line without an offset.",
        target=f"{_HERE}:Decoupled",
        tasks=("node-classification",),
    ),
    ModelSpec(name="kit-bag", summary="Mean embedding.", target=f"{_HERE}:BagOfTokens", inputs=("tokens",)),
    ModelSpec(name="kit-graphnet", summary="One propagation.", target=f"{_HERE}:GraphNet", inputs=("graphs",)),
)
PLUGIN = Plugin("kit", "unlearnbench.testing.problems", "unlearnbench", "", SPECS)


@dataclass(frozen=True)
class Problem:
    """A data set and a network for it."""

    dataset: str
    model: str


# In the order in which they are tried: an unlearner may refuse a network, with a reason.
PROBLEMS: dict[str, tuple[Problem, ...]] = {
    "classification": (
        Problem("kit-images", "kit-convnet"),
        Problem("kit-rows", "kit-mlp"),
        Problem("kit-images", "kit-deepnet"),
    ),
    "multi-label": (
        Problem("kit-labels", "kit-convnet"),
        Problem("kit-labels", "kit-mlp"),
        Problem("kit-labels", "kit-deepnet"),
    ),
    "segmentation": (Problem("kit-pixels", "kit-segnet"), Problem("kit-pixels", "kit-deep-segnet")),
    "detection": (Problem("kit-boxes", "kit-detector"), Problem("kit-boxes", "kit-deep-detector")),
    "node-classification": (Problem("kit-graph", "kit-sgc"), Problem("kit-graph", "kit-decoupled")),
}
KINDS: dict[str, Problem] = {
    "numbers": Problem("kit-rows", "kit-mlp"),
    "tokens": Problem("kit-tokens", "kit-bag"),
    "graphs": Problem("kit-graphs", "kit-graphnet"),
}
"""Classification, by the kind of its inputs."""
REQUESTS: dict[str, dict[str, Any]] = {
    "samples": {"kind": "samples", "count": 7, "seed": 0},
    "class": {"kind": "class", "classes": ["b"]},
    "group": {"kind": "group", "column": "person", "values": [2]},
    "target": {"kind": "target", "targets": ["b"]},
    "nodes": {"kind": "nodes", "count": 4, "seed": 0},
    "edges": {"kind": "edges", "count": 5, "seed": 0},
    "features": {"kind": "features", "count": 5, "seed": 0},
}
NEXT: dict[str, dict[str, Any]] = {
    "samples": {"kind": "samples", "count": 5, "seed": 1},
    "class": {"kind": "class", "classes": ["c"]},
    "group": {"kind": "group", "column": "person", "values": [3]},
    "target": {"kind": "target", "targets": ["c"]},
    "nodes": {"kind": "nodes", "count": 3, "seed": 1},
    "edges": {"kind": "edges", "count": 4, "seed": 1},
    "features": {"kind": "features", "count": 4, "seed": 1},
}
"""The second request of a stream, by the kind of the first."""
ELEMENTS = ("nodes", "edges", "features")


def possible(task: str, request: str) -> bool:
    """Whether a request of this kind can be made of the task's data at all."""
    if task == "node-classification":
        return request in (*ELEMENTS, "class", "samples")
    if request in ELEMENTS:
        return False
    return request != ("class" if task in ("multi-label", "segmentation", "detection") else "target")
