"""Requests on graphs: nodes, edges and node features. All subjects are judged on the graph after the request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, Data, Request, Splits, derive_seed, generator, tensors_digest
from unlearnbench.graph_selectors import choose_edges, choose_nodes, never_edges
from unlearnbench.identity import digest
from unlearnbench.parts import Parts, Selection, Taken, whole


def resolve_elements(
    description: Mapping[str, Any], splits: Splits, previous: Parts | None, base: Path | None
) -> Parts:
    """Resolve a request for nodes, edges or features, after the requests on the graph that were served before.

    The unlearner's forget view holds the annotated nodes that the request touches, on the graph before, with the
    removed edges or nodes as ``elements``; its retain view is the graph after. Tensors that the request leaves as they
    are, it shares with the graph before.

    Raises:
        UsageError: the data are no graph.
        DataError: what is named is not there, or is named twice; nothing would be left to retain or to test.
    """
    before = previous.retain.data if previous else splits.train
    if before.edges is None:
        raise UsageError("bad-request", f"{description['kind']} needs a graph", where="$.request.kind")
    taken = previous.taken if previous and previous.taken else _nothing(before.edges)
    kind = description["kind"]
    take = {"edges": _edges, "nodes": _nodes, "features": _features}[kind]
    after, elements, taken = take(description, before, taken, base)
    units = _among(whole(before).index, elements, len(before))
    earlier = previous.measured["forget"].index if previous else units[:0]
    identity = {"kind": kind, "features": description.get("features", True), "data": before.digest()}
    return Parts(
        request=Request(kind=kind, digest=digest({**identity, "elements": tensors_digest({"elements": elements})})),
        forget=Selection(before, units, elements),
        retain=Selection(after, whole(after).index),
        measured=_measured(description, splits, after, torch.cat([earlier, units]), taken),
        taken=taken,
    )


def _measured(
    description: Mapping[str, Any], splits: Splits, after: Data, forgotten: Tensor, taken: Taken
) -> dict[str, Selection]:
    """What measures read: the graph after, with the annotations that were there when training began."""
    n = len(after)
    train, test = splits.train.on_graph_of(after), splits.test.on_graph_of(after)
    rows, test_rows = whole(train).index, _without(whole(test).index, taken.nodes, n)
    if not len(test_rows):
        raise DataError("empty-holdout", "takes every test node away", where="$.request", hint="leave some of them")
    forget = _among(rows, forgotten, n)
    rng = generator(derive_seed(int(description.get("seed", 0)), "request", "never-edges"))
    assert splits.train.edges is not None
    never = never_edges(splits.train.edges, n, taken.edges.shape[1], rng)
    measured = {
        "forget": Selection(train, forget, taken.edges),
        "retain": Selection(train, _without(rows, forget, n)),
        "test": Selection(test, test_rows),
        "holdout": Selection(test, test_rows[: len(forget)], never),
    }
    if splits.validation is not None:
        validation = splits.validation.on_graph_of(after)
        measured["validation"] = Selection(validation, _without(whole(validation).index, taken.nodes, n))
    return measured


def _nothing(edges: Tensor) -> Taken:
    return Taken(nodes=edges.new_empty(0), features=edges.new_empty(0), edges=edges[:, :0])


def _edges(description: Mapping[str, Any], data: Data, taken: Taken, base: Path | None) -> tuple[Data, Tensor, Taken]:
    assert data.edges is not None
    gone = choose_edges(description, data, base)
    removed = data.edges[:, gone]
    so_far = torch.cat([taken.edges, removed], 1)
    return data.changed(edges=data.edges[:, ~gone]), removed, Taken(taken.nodes, taken.features, so_far)


def _nodes(description: Mapping[str, Any], data: Data, taken: Taken, base: Path | None) -> tuple[Data, Tensor, Taken]:
    """Annotation and edges of the nodes go, and their features unless the request leaves these."""
    assert data.edges is not None
    nodes = choose_nodes(description, data, taken.nodes, base)
    chosen = _mask(nodes, len(data))
    gone = chosen[data.edges[0]] | chosen[data.edges[1]]
    y = data.y.masked_fill(chosen, MISSING)
    after = data.changed(
        x=_zeroed(data.x, nodes) if description.get("features", True) else None, y=y, edges=data.edges[:, ~gone]
    )
    if not len(whole(after).index):
        raise DataError("empty-retain-set", "takes every annotated node away", where="$.request",
                        hint="forget fewer nodes")  # fmt: skip
    so_far = torch.cat([taken.edges, data.edges[:, gone]], 1)
    return after, nodes[None], Taken(torch.cat([taken.nodes, nodes]), taken.features, so_far)


def _features(
    description: Mapping[str, Any], data: Data, taken: Taken, base: Path | None
) -> tuple[Data, Tensor, Taken]:
    """Features of the nodes go; annotations and edges stay."""
    nodes = choose_nodes(description, data, torch.cat([taken.nodes, taken.features]), base)
    features = torch.cat([taken.features, nodes])
    if not len(_without(whole(data).index, features, len(data))):
        raise DataError("empty-retain-set", "takes the features of every annotated node away", where="$.request",
                        hint="forget fewer features")  # fmt: skip
    return data.changed(x=_zeroed(data.x, nodes)), nodes[None], Taken(taken.nodes, features, taken.edges)


def _zeroed(x: Tensor, nodes: Tensor) -> Tensor:
    x = x.clone()
    x[nodes] = 0
    return x


def _mask(nodes: Tensor, total: int) -> Tensor:
    mask = torch.zeros(total, dtype=torch.bool)
    mask[nodes.flatten()] = True
    return mask


def _among(rows: Tensor, nodes: Tensor, total: int) -> Tensor:
    return rows[_mask(nodes, total)[rows]]


def _without(rows: Tensor, nodes: Tensor, total: int) -> Tensor:
    return rows[~_mask(nodes, total)[rows]]
