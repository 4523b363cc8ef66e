"""Views of a graph's nodes as arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from unlearnbench.api.runtime import Batch


def numbers(tensor: Tensor) -> NDArray[Any]:
    """A tensor as an array, without a copy where it lies in memory already."""
    found: NDArray[Any] = tensor.detach().cpu().numpy()
    return found


def edges_of(batch: Batch) -> Tensor:
    """Edges [2, m] of a graph's batch."""
    assert batch.edges is not None  # the method is declared for node classification alone
    return batch.edges


def rows_of(batch: Batch) -> Tensor:
    """The annotated nodes [m] of a graph's batch."""
    assert batch.rows is not None
    return batch.rows
