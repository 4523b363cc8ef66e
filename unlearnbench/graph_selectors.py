"""Nodes and edges of a graph by what they are: named, by degree, or drawn; and pairs of nodes that are no edges.

Pairs (u, v) of n nodes are found by their keys u n + v, so that a choice costs O(m log k) for k of m edges at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import Data, derive_seed, generator
from unlearnbench.listed import ids_in, pairs_in
from unlearnbench.parts import whole
from unlearnbench.selectors import REQUEST, amount

SHOWN = 5
"""How many ids or pairs an error names."""


def choose_nodes(description: Mapping[str, Any], data: Data, gone: Tensor, base: Path | None) -> Tensor:
    """Positions of the nodes that a request for nodes or features chooses, in ascending order.

    Nodes that are named may be any of the graph but those that are ``gone`` (positions); draws and degrees choose
    among the annotated ones.

    Raises:
        DataError: an id is not there, or not any more, or is named twice; there are fewer nodes than asked for.
    """
    left = torch.ones(len(data), dtype=torch.bool)
    left[gone] = False
    if "ids" in description or "file" in description:
        return _named_nodes(description, data, left, base)
    pool = whole(data).index
    pool = pool[left[pool]]
    if "degree" in description:
        n = _number(description, len(pool))
        return pool[_extreme(_degrees(data)[pool], _ranks(data.ids)[pool], n, description["degree"])]
    return pool[_draw(description, len(pool))]


def choose_edges(description: Mapping[str, Any], data: Data, base: Path | None) -> Tensor:
    """Which edges [m] a request for edges chooses.

    Raises:
        DataError: a pair is no edge, or not any more, or is named twice; there are fewer edges than asked for.
    """
    assert data.edges is not None
    m = data.edges.shape[1]
    chosen = torch.zeros(m, dtype=torch.bool)
    if "file" in description:
        return _named_edges(pairs_in(description["file"], base), data, description["file"])
    if "pairs" in description:
        return _named_edges(torch.tensor(description["pairs"]), data, f"{REQUEST}.pairs")
    if "degree" in description:
        n = _number(description, m)
        ranks = _ranks(data.ids)[data.edges].sort(0).values
        degrees = _degrees(data)[data.edges].sum(0)
        chosen[_extreme(degrees, _keys(ranks, len(data)), n, description["degree"])] = True
    else:
        chosen[_draw(description, m)] = True
    return chosen


def never_edges(edges: Tensor, nodes: int, wanted: int, rng: Generator) -> Tensor:
    """Distinct pairs u < v [2, k] of ``nodes`` nodes that are not in ``edges`` [2, m], drawn evenly, in order.

    k is ``wanted``, or the number of such pairs where there are fewer.
    """
    m, pairs = edges.shape[1], nodes * (nodes - 1) // 2
    known = _keys(edges, nodes)
    if pairs <= 4 * (m + wanted):  # so few that all can be looked at
        free = _keys(torch.triu_indices(nodes, nodes, 1), nodes)
        free = free[~torch.isin(free, known)]
        found = free[torch.randperm(len(free), generator=rng)[:wanted]]
    else:  # at least three draws in four hit neither an edge nor what was drawn before
        found = known[:0]
        while len(found) < wanted:
            drawn = torch.randint(nodes, (2, 2 * (wanted - len(found)) + 16), generator=rng).sort(0).values
            fresh = torch.cat([found, _keys(drawn[:, drawn[0] != drawn[1]], nodes)]).unique()
            fresh = fresh[~torch.isin(fresh, found)]
            edge = torch.zeros(len(fresh), dtype=torch.bool)
            edge[_places(known, fresh)[0]] = True
            fresh = fresh[~edge]
            found = torch.cat([found, fresh[torch.randperm(len(fresh), generator=rng)]])[:wanted]
    found = found.sort().values
    return torch.stack([found // nodes, found % nodes])


def _named_nodes(description: Mapping[str, Any], data: Data, left: Tensor, base: Path | None) -> Tensor:
    where = description.get("file", f"{REQUEST}.ids")
    listed = ids_in(description["file"], base) if "file" in description else description["ids"]
    try:
        wanted = torch.from_numpy(np.array(listed, dtype=np.int64))
    except OverflowError as problem:
        raise DataError("unknown-ids", "a number is too large for an id", where=where) from problem
    if not len(wanted):
        raise DataError("empty-forget-set", "holds no ids", where=where, hint="one whole number in a line")
    positions = _positions(wanted, data, where)
    absent = wanted[~left[positions]]
    if len(absent):
        raise DataError("unknown-ids", f"{_some(absent)} were taken away by an earlier request", where=where)
    values, counts = wanted.unique(return_counts=True)
    if len(values) < len(wanted):
        raise DataError("duplicate-ids", f"{_some(values[counts > 1])} are named more than once", where=where)
    return positions.sort().values


def _named_edges(wanted: Tensor, data: Data, where: str) -> Tensor:
    """Which edges [m] the pairs of ids [k, 2] are."""
    assert data.edges is not None
    n = len(data)
    loops = wanted[wanted[:, 0] == wanted[:, 1]]
    if len(loops):
        raise DataError("self-loops", f"{_some(loops)} lead from a node to itself", where=where)
    keys, order = _keys(_positions(wanted.flatten(), data, where).view(-1, 2).sort(1).values.T, n).sort()
    again = order[1:][keys[1:] == keys[:-1]]
    if len(again):
        raise DataError("duplicate-edges", f"{_some(wanted[again])} are named more than once", where=where,
                        hint="[3, 14] and [14, 3] are the same edge")  # fmt: skip
    place, hit = _places(_keys(data.edges, n), keys)
    absent = torch.ones(len(keys), dtype=torch.bool)
    absent[place] = False
    if absent.any():
        raise DataError("unknown-edges", f"{_some(wanted[order[absent]])} are not edges of the graph", where=where,
                        hint="what an earlier request took away is not there any more")  # fmt: skip
    return hit


def _keys(pairs: Tensor, nodes: int) -> Tensor:
    return pairs[0] * nodes + pairs[1]


def _places(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Where in ``wanted`` (ascending) the keys among it stand, and which keys [m] are among it."""
    if not len(wanted):
        return wanted, torch.zeros(len(keys), dtype=torch.bool)
    place = torch.searchsorted(wanted, keys).clamp_(max=len(wanted) - 1)
    hit = wanted[place] == keys
    return place[hit], hit


def _positions(wanted: Tensor, data: Data, where: str) -> Tensor:
    """Positions of the nodes with these ids."""
    order = _order(data.ids)
    ids = data.ids[order]
    place = torch.searchsorted(ids, wanted).clamp_(max=len(ids) - 1)
    unknown = wanted[ids[place] != wanted]
    if len(unknown):
        span = f"which lie in {int(ids[0])} to {int(ids[-1])}"
        raise DataError("unknown-ids", f"{_some(unknown)} are not ids of nodes, {span}", where=where)
    return order[place]


def _order(ids: Tensor) -> Tensor:
    """Positions by ascending id; most data have them so, and then nothing is sorted."""
    return torch.arange(len(ids)) if bool((ids[1:] > ids[:-1]).all()) else ids.argsort()


def _ranks(ids: Tensor) -> Tensor:
    """Rank of each node's id [n]."""
    ranks = torch.empty_like(ids)
    ranks[_order(ids)] = torch.arange(len(ids))
    return ranks


def _degrees(data: Data) -> Tensor:
    assert data.edges is not None
    return torch.bincount(data.edges.flatten(), minlength=len(data))


def _extreme(scores: Tensor, ties: Tensor, n: int, which: str) -> Tensor:
    """Positions of the ``n`` highest or lowest scores in ascending order; of equal scores, the lowest of ``ties``."""
    low = -scores if which == "highest" else scores
    last = low.kthvalue(n).values
    sure, equal = (low < last).nonzero()[:, 0], (low == last).nonzero()[:, 0]
    first = ties[equal].topk(n - len(sure), largest=False).indices
    return torch.cat([sure, equal[first]]).sort().values


def _draw(description: Mapping[str, Any], total: int) -> Tensor:
    n = _number(description, total)
    rng = generator(derive_seed(int(description.get("seed", 0)), "request", str(description["kind"])))
    return torch.randperm(total, generator=rng)[:n].sort().values


def _number(description: Mapping[str, Any], total: int) -> int:
    kind = description["kind"]
    if not total:
        raise DataError("empty-forget-set", f"there are no {kind} left to forget", where=REQUEST)
    n = amount(description, total)
    if n > total:
        raise DataError("empty-retain-set", f"asks for {n} of {total} {kind}", where=REQUEST,
                        hint=f"forget fewer {kind}")  # fmt: skip
    return n


def _some(values: Tensor) -> str:
    return str(values[:SHOWN].tolist())
