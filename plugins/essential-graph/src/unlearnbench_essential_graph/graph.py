"""The essential graph of a run: which channels which targets select, what is pruned, and the edges that no one needs.

A node is a channel of a layer of the window; its value for a target is +|Y| where a forgotten target selects it, -1
where a retained target does, 0 elsewhere (Xu et al. 2024, equation 4), |Y| being the number of targets. Edges join the
nodes that one target selects in a layer to those that it selects in the next, all with all. They are drawn and
exported, and made only then: no decision reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

FORMAT = "essential-graph/1"
SELECTED, PRUNED = "graph/selected/", "graph/pruned/"
"""What the names of tensors begin with; the name of a layer follows."""
SETTINGS = ("sigma", "delta", "skip_last", "score", "k", "selection", "balance", "zero_bn")
"""Parameters that the artifacts tell."""


class Node(NamedTuple):
    """A channel: positions of its layer in the window and of itself in the layer."""

    layer: int
    channel: int


class Edge(NamedTuple):
    """Two channels of consecutive layers, and the positions of the targets that select both."""

    source: Node
    target: Node
    of: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution of the window: node values [targets, channels] (int), and which channels are pruned [channels]."""

    name: str
    values: Tensor
    pruned: Tensor

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.pruned)

    @property
    def v_sum(self) -> Tensor:
        """Sum of the values over the targets [channels], int64."""
        return self.values.sum(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Graph:
    """Layers of the window, the first of the network first; ``targets`` are all, ``forgotten`` some of them, by name.

    ``settings`` are the parameters that made it, as JSON.
    """

    layers: tuple[Layer, ...]
    targets: tuple[str, ...]
    forgotten: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_forgotten(self) -> Tensor:
        """Which targets are forgotten [targets] bool."""
        return torch.tensor([name in self.forgotten for name in self.targets], dtype=torch.bool)

    def kinds(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Which channels a forgotten target selects, and which a retained one does: each [channels] bool."""
        selected, gone = layer.values != 0, self.is_forgotten
        return selected[gone].any(0), selected[~gone].any(0)

    def nodes(self) -> Iterator[Node]:
        """The channels that any target selects or that are pruned, in order."""
        for place, layer in enumerate(self.layers):
            shown = (layer.values != 0).any(0) | layer.pruned
            for channel in shown.nonzero()[:, 0].tolist():
                yield Node(place, channel)

    def joined(self, place: int, targets: Tensor) -> Tensor:
        """Edges to the next layer [channels, channels] that some of these targets [targets] bool have."""
        one, other = (self.layers[at].values[targets] != 0 for at in (place, place + 1))
        return one.float().T @ other.float() > 0

    def edges(self) -> Iterator[Edge]:
        """The edges, each once, in the order of their nodes; made one at a time, since there may be millions."""
        for place, (one, other) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            here, there = one.values != 0, other.values != 0
            for channel in here.any(0).nonzero()[:, 0].tolist():
                mine = here[:, channel]
                ends = there[mine].any(0).nonzero()[:, 0]
                shared = (there & mine[:, None])[:, ends].T.tolist()
                for end, of in zip(ends.tolist(), shared, strict=True):
                    targets = tuple(t for t, both in enumerate(of) if both)
                    yield Edge(Node(place, channel), Node(place + 1, end), targets)


def graph_from(artifacts: Mapping[str, Any]) -> Graph:
    """The graph that the unlearner left: JSON ``graph``, tensors ``graph/selected/LAYER`` and ``graph/pruned/LAYER``.

    Raises:
        ValueError: these are not the artifacts of a graph; the message says in which part.
    """
    told = artifacts.get("graph")
    if not isinstance(told, Mapping):
        raise ValueError("it holds no essential graph")
    layers, targets = _names(told.get("layers"), "layers"), _names(told.get("targets"), "targets")
    forgotten = told.get("forgotten")
    if not layers or not targets:
        raise ValueError(f"its graph has no {'targets' if layers else 'layers'}")
    if not isinstance(forgotten, list) or not all(type(t) is int and 0 <= t < len(targets) for t in forgotten):
        raise ValueError("forgotten are no positions of targets")
    settings = {name: told[name] for name in SETTINGS if name in told}
    if not all(value is None or isinstance(value, str) or _finite(value) for value in settings.values()):
        raise ValueError("its settings are no plain values")
    gone = torch.zeros(len(targets), dtype=torch.bool)
    gone[forgotten] = True
    found = tuple(_layer(artifacts, name, gone) for name in layers)
    return Graph(found, targets, tuple(targets[t] for t in sorted(set(forgotten))), settings)


def node_values(selected: Tensor, forgotten: Tensor) -> Tensor:
    """The value O of nodes [targets, channels] from who selects them, and which targets [targets] are forgotten."""
    worth = torch.where(forgotten, len(forgotten), -1)
    return selected * worth[:, None]


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _names(found: object, key: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{key} are no list of names")
    if len(set(found)) != len(found):
        raise ValueError(f"{key} name one thing twice")
    return tuple(found)


def _layer(artifacts: Mapping[str, Any], name: str, forgotten: Tensor) -> Layer:
    selected, pruned = artifacts.get(f"{SELECTED}{name}"), artifacts.get(f"{PRUNED}{name}")
    if not _marks(selected, 2) or len(selected) != len(forgotten):
        raise ValueError(f"layer {name!r} does not say what the {len(forgotten)} targets select")
    if not _marks(pruned, 1) or pruned.shape != selected.shape[1:]:
        raise ValueError(f"layer {name!r} does not say which of its {selected.shape[1]} channels are pruned")
    return Layer(name, node_values(selected.bool(), forgotten), pruned.bool())


def _marks(found: object, axes: int) -> TypeGuard[Tensor]:
    return isinstance(found, Tensor) and found.ndim == axes and found.dtype in (torch.bool, torch.uint8)


def described(graph: Graph) -> dict[str, Any]:
    """A graph in short: its layers with how many channels are selected by whom and pruned, targets and settings."""
    return {
        "format": FORMAT,
        "targets": list(graph.targets),
        "forgotten": list(graph.forgotten),
        "settings": dict(graph.settings),
        "layers": [_summary(graph, layer) for layer in graph.layers],
    }


def _summary(graph: Graph, layer: Layer) -> dict[str, Any]:
    gone, kept = graph.kinds(layer)
    return {
        "name": layer.name,
        "channels": layer.channels,
        "selected": dict(zip(graph.targets, (layer.values != 0).sum(1).tolist(), strict=True)),
        "by_forgotten": int((gone & ~kept).sum()),
        "by_retained": int((kept & ~gone).sum()),
        "by_both": int((gone & kept).sum()),
        "pruned": int(layer.pruned.sum()),
    }
