"""Requests on graphs: nodes, edges and node features. All subjects are judged on the graph after the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, Data, Request, Splits, derive_seed, generator
from unlearnbench.identity import digest
from unlearnbench.parts import Parts, Selection, check_parts, whole


def resolve_elements(description: Mapping[str, Any], splits: Splits, previous: Parts | None) -> Parts:
    """Resolve a request for nodes, edges or features.

    The unlearner's forget view holds the annotated nodes that the request touches, on the graph before, with the
    removed edges or nodes as ``elements``; its retain view is the graph after.
    """
    before = previous.retain.data if previous else splits.train
    if before.edges is None:
        raise UsageError("bad-request", f"{description['kind']} needs a graph", where="$.request.kind")
    kind = description["kind"]
    if kind == "edges":
        after, touched, elements = _edges(description, before)
    elif kind == "nodes":
        after, touched, elements = _nodes(description, before)
    else:
        after, touched, elements = _features(description, before)
    annotated = whole(before).index
    units = annotated[torch.isin(annotated, touched)]
    left = whole(after).index
    check_parts(len(touched), len(left), description)
    request = Request(kind=kind, digest=digest({"elements": elements.tolist(), "data": before.digest()}))
    # Judged on the graph after, with the annotations that were there when training began.
    on_graph_after = replace(after, y=splits.train.y)
    earlier = previous.measured["forget"].index if previous else units[:0]
    forgotten = torch.cat([earlier, units]).unique()
    everything = whole(splits.train).index
    test = replace(splits.test, edges=after.edges, x=after.x)
    test_rows = whole(splits.test).index
    measured = {
        "forget": Selection(on_graph_after, forgotten),
        "retain": Selection(on_graph_after, everything[~torch.isin(everything, forgotten)]),
        "test": Selection(test, test_rows),
        "holdout": Selection(test, test_rows[: len(forgotten)]),
    }
    return Parts(request, Selection(before, units, elements), Selection(after, left), measured)


def _number(description: Mapping[str, Any], total: int) -> int:
    n = description["count"] if "count" in description else max(1, round(description["fraction"] * total))
    if n >= total:
        raise DataError("empty-retain-set", f"asks for {n} of {total} {description['kind']}", where="$.request")
    return int(n)


def _draw(description: Mapping[str, Any], total: int) -> Tensor:
    rng = generator(derive_seed(int(description.get("seed", 0)), "request", str(description["kind"])))
    return torch.randperm(total, generator=rng)[: _number(description, total)].sort().values


def _named_nodes(description: Mapping[str, Any], data: Data) -> Tensor:
    if "ids" in description:
        wanted = torch.tensor(description["ids"])
        unknown = wanted[~torch.isin(wanted, data.ids)]
        if len(unknown):
            raise DataError("unknown-ids", f"{unknown[:5].tolist()} are not ids of nodes", where="$.request.ids")
        return torch.isin(data.ids, wanted).nonzero()[:, 0]
    annotated = whole(data).index
    return annotated[_draw(description, len(annotated))]


def _edges(description: Mapping[str, Any], data: Data) -> tuple[Data, Tensor, Tensor]:
    assert data.edges is not None
    if "pairs" in description:
        wanted = torch.tensor(description["pairs"]).sort(1).values
        same = (data.edges.T[:, None] == wanted[None]).all(2)
        if not same.any(0).all():
            absent = wanted[~same.any(0)][:5].tolist()
            raise DataError("unknown-edges", f"{absent} are not edges of the graph", where="$.request.pairs")
        gone = same.any(1)
    else:
        gone = torch.zeros(data.edges.shape[1], dtype=torch.bool)
        gone[_draw(description, data.edges.shape[1])] = True
    removed = data.edges[:, gone]
    return replace(data, edges=data.edges[:, ~gone]), removed.unique(), removed


def _nodes(description: Mapping[str, Any], data: Data) -> tuple[Data, Tensor, Tensor]:
    assert data.edges is not None
    nodes = _named_nodes(description, data)
    gone = torch.isin(data.edges, nodes).any(0)
    y = data.y.clone()
    y[nodes] = MISSING
    x = data.x.clone()
    x[nodes] = 0  # a node that is forgotten takes its features along
    return replace(data, x=x, y=y, edges=data.edges[:, ~gone]), nodes, nodes[None]


def _features(description: Mapping[str, Any], data: Data) -> tuple[Data, Tensor, Tensor]:
    nodes = _named_nodes(description, data)
    x = data.x.clone()
    x[nodes] = 0
    return replace(data, x=x), nodes, nodes[None]
