"""The graph as an object and as JSON: node values, edges and counts by hand, and artifacts that are none."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch

from unlearnbench_essential_graph.exporting import write_json
from unlearnbench_essential_graph.graph import Edge, Graph, Node, described, graph_from

SELECTED = {
    "first": [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    "second": [[0, 1, 0], [1, 1, 0], [0, 0, 1]],
    "third": [[1, 0], [1, 1], [0, 1]],
}
"""What cat, dog and bird select; the cat is forgotten."""
PRUNED = {"first": [1, 0, 0, 0], "second": [0, 0, 0], "third": [0, 0]}


def artifacts(**changes: Any) -> dict[str, Any]:
    told = {
        "layers": list(SELECTED), "targets": ["cat", "dog", "bird"], "forgotten": [0], "sigma": 3, "delta": 0.3,
        "score": "alpha", "search": None,
    }  # fmt: skip
    found: dict[str, Any] = {"graph": told | changes}
    for name in SELECTED:
        found[f"graph/selected/{name}"] = torch.tensor(SELECTED[name], dtype=torch.bool)
        found[f"graph/pruned/{name}"] = torch.tensor(PRUNED[name], dtype=torch.bool)
    return found


@pytest.fixture
def graph() -> Graph:
    return graph_from(artifacts())


def exported(graph: Graph, *, edges: bool = True) -> tuple[dict[str, Any], tuple[int, int]]:
    file = io.StringIO()
    counts = write_json(graph, file, edges=edges)
    found: dict[str, Any] = json.loads(file.getvalue())
    return found, counts


def test_a_node_is_worth_the_number_of_targets_where_forgotten_and_minus_one_where_retained(graph: Graph) -> None:
    assert graph.layers[0].values.tolist() == [[3, 3, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0]]
    assert graph.layers[0].v_sum.tolist() == [3, 2, -1, 0]
    assert graph.layers[1].v_sum.tolist() == [-1, 2, -1]
    assert graph.forgotten == ("cat",)
    assert graph.settings == {"sigma": 3, "delta": 0.3, "score": "alpha"}


def test_edges_join_what_one_target_selects_in_consecutive_layers(graph: Graph) -> None:
    first = [
        Edge(Node(0, 0), Node(1, 1), (0,)), Edge(Node(0, 1), Node(1, 0), (1,)), Edge(Node(0, 1), Node(1, 1), (0, 1)),
        Edge(Node(0, 2), Node(1, 2), (2,)),
    ]  # fmt: skip
    # cat: 1 x 1; dog: 2 x 2, one of which the cat has as well; bird: 1 x 1.
    second = [
        Edge(Node(1, 0), Node(2, 0), (1,)), Edge(Node(1, 0), Node(2, 1), (1,)), Edge(Node(1, 1), Node(2, 0), (0, 1)),
        Edge(Node(1, 1), Node(2, 1), (1,)), Edge(Node(1, 2), Node(2, 1), (2,)),
    ]  # fmt: skip
    assert list(graph.edges()) == first + second


def test_edges_are_counted_like_products_of_selections_where_targets_share_nothing() -> None:
    torch.manual_seed(0)
    own = torch.arange(12) % 3
    layers = {name: own.roll(shift)[None] == torch.arange(3)[:, None] for name, shift in (("a", 0), ("b", 1), ("c", 5))}
    found = artifacts(layers=list(layers))
    for name, selected in layers.items():
        found[f"graph/selected/{name}"], found[f"graph/pruned/{name}"] = selected, torch.zeros(12, dtype=torch.bool)
    assert len(list(graph_from(found).edges())) == 2 * 3 * 4 * 4


def test_edges_are_made_one_at_a_time() -> None:
    """A complete graph of 2 x 4,000 channels has 16 million edges; asking for three of them makes three."""
    many = torch.ones(1, 4000, dtype=torch.bool)
    found: dict[str, Any] = {"graph": {"layers": ["a", "b"], "targets": ["t"], "forgotten": [0]}}
    for name in "ab":
        found[f"graph/selected/{name}"], found[f"graph/pruned/{name}"] = many, many[0]
    edges = graph_from(found).edges()
    assert isinstance(edges, Iterator)
    assert [edge.target.channel for edge in islice(edges, 3)] == [0, 1, 2]


def test_joined_says_the_same_as_the_edges(graph: Graph) -> None:
    for targets in (torch.tensor([True, False, False]), torch.tensor([False, True, True])):
        for place in (0, 1):
            wanted = {t for t, use in enumerate(targets.tolist()) if use}
            pairs = [
                [e.source.channel, e.target.channel] for e in graph.edges() if e.source[0] == place and wanted & {*e.of}
            ]
            assert graph.joined(place, targets).nonzero().tolist() == pairs


def test_json_has_every_selected_node_with_its_values_and_every_edge(graph: Graph) -> None:
    found, counts = exported(graph)
    assert counts == (len(found["nodes"]), len(found["edges"])) == (8, 9)
    assert found["nodes"][:2] == [
        {"id": "first/0", "layer": "first", "channel": 0, "values": {"cat": 3}, "v_sum": 3, "pruned": True},
        {"id": "first/1", "layer": "first", "channel": 1, "values": {"cat": 3, "dog": -1}, "v_sum": 2, "pruned": False},
    ]
    assert found["edges"][2] == {"source": "first/1", "target": "second/1", "of": ["cat", "dog"]}
    ids = {node["id"] for node in found["nodes"]}
    assert all({edge["source"], edge["target"]} <= ids for edge in found["edges"])
    assert found["graph"]["layers"][0] == {
        "name": "first", "channels": 4, "selected": {"cat": 2, "dog": 1, "bird": 1}, "by_forgotten": 1,
        "by_retained": 1, "by_both": 1, "pruned": 1,
    }  # fmt: skip


def test_json_without_edges_says_everything_that_was_decided_by(graph: Graph) -> None:
    whole, _ = exported(graph)
    bare, counts = exported(graph, edges=False)
    assert counts == (8, 0)
    assert bare == whole | {"edges": []}


def test_a_pruned_channel_that_no_target_selects_any_more_is_a_node() -> None:
    found = artifacts()
    found["graph/pruned/first"] = torch.tensor([0, 0, 0, 1], dtype=torch.uint8)
    nodes = exported(graph_from(found))[0]["nodes"]
    assert {"id": "first/3", "layer": "first", "channel": 3, "values": {}, "v_sum": 0, "pruned": True} in nodes


def test_a_summary_counts_channels_by_who_selects_them(graph: Graph) -> None:
    counts = [[layer[k] for k in ("by_forgotten", "by_retained", "by_both")] for layer in described(graph)["layers"]]
    assert counts == [[1, 1, 1], [0, 2, 1], [0, 1, 1]]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"graph": []}, "holds no essential graph"),
        ({"graph": {}}, "layers are no list of names"),
        ({"layers": []}, "no layers"),
        ({"targets": []}, "no targets"),
        ({"targets": ["a", "a", "b"]}, "targets name one thing twice"),
        ({"targets": ["a", "b"]}, "layer 'first' does not say what the 2 targets select"),
        ({"layers": ["first", "fourth"]}, "layer 'fourth' does not say what the 3 targets select"),
        ({"forgotten": [3]}, "forgotten are no positions of targets"),
        ({"forgotten": [-1]}, "forgotten are no positions of targets"),
        ({"forgotten": [True]}, "forgotten are no positions of targets"),
        ({"forgotten": "cat"}, "forgotten are no positions of targets"),
        ({"sigma": [1]}, "its settings are no plain values"),
        ({"delta": float("inf")}, "its settings are no plain values"),
        ({"graph/pruned/second": torch.zeros(4, dtype=torch.bool)}, "which of its 3 channels are pruned"),
        ({"graph/pruned/second": torch.zeros(3)}, "which of its 3 channels are pruned"),
        ({"graph/selected/third": torch.zeros(3, 2)}, "layer 'third' does not say"),
        ({"graph/selected/third": torch.zeros(3, dtype=torch.bool)}, "layer 'third' does not say"),
    ],
    ids=str,
)
def test_artifacts_that_are_no_graph_are_named(changes: dict[str, Any], words: str) -> None:
    whole = {name: value for name, value in changes.items() if name.startswith("graph")}
    found = artifacts(**{name: value for name, value in changes.items() if name not in whole}) | whole
    with pytest.raises(ValueError, match=words):
        graph_from(found)
