"""Batches of two views: what one step sees of the forget and of the retain set."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime.data import Batch, View


def without(view: View, other: View) -> View:
    """The rows of ``view`` that are no rows of ``other``, told by their ids, in their order.

    A request that takes annotations away leaves the forget rows among the retain rows, with other annotations. Methods
    that treat whole rows, some to be forgotten and others to be kept, need the others. Reads no row.

    Raises:
        DataError: nothing is left.
    """
    found = view.where(~torch.isin(view.ids, other.ids))
    if len(view) and not len(found):
        raise DataError(
            "empty-retain-set", f"every {view.name} row is a {other.name} row as well, and whole rows are needed",
            where="$.request", hint="name a target that not every row shows, or take a method that reads annotations",
        )  # fmt: skip
    return found


def joined(first: Batch, second: Batch) -> Batch:
    """The rows of two batches as one batch, those of ``first`` first; rows may be graphs, not nodes of one graph."""
    x, y, ids = (torch.cat([a, b]) for a, b in zip(first[:3], second[:3], strict=True))
    if first.edges is None or second.edges is None or first.rows is None or second.rows is None:
        return Batch(x, y, ids)
    rows = torch.cat([first.rows, second.rows + len(first.y)])
    return Batch(x, y, ids, rows, torch.cat([first.edges, second.edges + len(first.x)], dim=1))


def mixed(first: View, second: View, size: int, rng: Generator) -> Iterator[tuple[Batch, int]]:
    """One pass over both views, concatenated and shuffled; the last, smaller batch is kept.

    Yields each batch with the number of its rows that are from ``first``; these come first, since no loss depends on
    the order within a batch. Graphs are read as a whole: one batch of each view.
    """
    if first.is_graph or second.is_graph:
        yield first.tensors(), len(first)
        yield second.tensors(), 0
        return
    order = torch.randperm(len(first) + len(second), generator=rng)
    for rows in order.split(size) if len(order) else ():
        ours, others = rows[rows < len(first)], rows[rows >= len(first)] - len(first)
        parts = [view.take(part.sort().values) for view, part in ((first, ours), (second, others)) if len(part)]
        yield parts[0] if len(parts) == 1 else joined(*parts), len(ours)


def paired(
    first: View, second: View, size: int, rng: Generator, *, second_size: int | None = None
) -> Iterator[tuple[Batch, Batch]]:
    """One pass over ``first``, each batch beside one of ``second``, which starts over in a new order when used up."""
    others: Iterator[Batch] = iter(())
    for batch in first.batches(size, rng):
        other = next(others, None)
        if other is None:
            others = second.batches(second_size or size, rng)
            other = next(others)
        yield batch, other
