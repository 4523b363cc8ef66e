"""The essential graph as JSON, in the node-link form that networkx and d3 read.

One object with

* ``directed`` true, ``multigraph`` false, ``graph`` an object: ``format`` "essential-graph/1", ``targets`` all names,
  ``forgotten`` some of them, ``settings`` the parameters, ``layers`` a list of objects with ``name``, ``channels``,
  ``selected`` (number by target), ``by_forgotten``, ``by_retained``, ``by_both`` and ``pruned`` (numbers of channels);
* ``nodes``, the channels that any target selects or that are pruned: ``id`` "LAYER/CHANNEL", ``layer``, ``channel``
  from 0, ``values`` the value O by target where it is not 0, ``v_sum`` their sum, ``pruned``; channels that are not
  named have value 0 for every target;
* ``edges``, complete between the nodes that one target selects in consecutive layers: ``source`` and ``target`` are ids
  of nodes, ``of`` names the targets that select both. Empty where edges were not asked for.

``networkx.node_link_graph(json.load(file), edges="edges")`` reads it. Nodes and edges are written one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from unlearnbench_essential_graph.graph import Edge, Graph, Node, described


def write_json(graph: Graph, file: TextIO, *, edges: bool = True) -> tuple[int, int]:
    """Write a graph to an open file; returns the number of nodes and of edges."""
    head = json.dumps(described(graph), allow_nan=False)
    file.write('{"directed": true, "multigraph": false,\n"graph": ' + head)
    nodes = _write_list(file, "nodes", (_node(graph, node) for node in graph.nodes()))
    found = _write_list(file, "edges", (_edge(graph, edge) for edge in graph.edges()) if edges else ())
    file.write("}\n")
    return nodes, found


def _write_list(file: TextIO, name: str, items: Iterable[dict[str, Any]]) -> int:
    file.write(f',\n"{name}": [')
    count = 0
    for count, line in enumerate(_lines(items), 1):
        file.write((",\n" if count > 1 else "\n") + line)
    file.write("]")
    return count


def _lines(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (json.dumps(item) for item in items)


def identity(graph: Graph, node: Node) -> str:
    """The id of a node."""
    return f"{graph.layers[node.layer].name}/{node.channel}"


def _node(graph: Graph, node: Node) -> dict[str, Any]:
    layer = graph.layers[node.layer]
    values = layer.values[:, node.channel].tolist()
    return {
        "id": identity(graph, node),
        "layer": layer.name,
        "channel": node.channel,
        "values": {name: value for name, value in zip(graph.targets, values, strict=True) if value},
        "v_sum": sum(values),
        "pruned": bool(layer.pruned[node.channel]),
    }


def _edge(graph: Graph, edge: Edge) -> dict[str, Any]:
    ends = {"source": identity(graph, edge.source), "target": identity(graph, edge.target)}
    return {**ends, "of": [graph.targets[t] for t in edge.of]}
