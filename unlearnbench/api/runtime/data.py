"""Data are columns; views are the only way to read them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from unlearnbench.api.errors import DataError, PluginError
from unlearnbench.api.runtime.graphs import Graphs

BLOCK_BYTES = 16 * 2**20
"""Memory of the rows that a view gathers at once."""


class Batch(NamedTuple):
    """Rows that are processed together.

    For the nodes of a graph ``x`` holds all nodes (the computation is transductive), ``rows`` the positions of the
    annotated nodes that ``y`` and ``ids`` belong to, and ``edges`` the graph. Where each row is a graph, ``x`` holds
    the nodes of all graphs of the batch, ``rows`` the position in the batch of each node's graph, and ``edges`` all
    edges.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    rows: Tensor | None = None
    edges: Tensor | None = None


class _Column:
    """A tensor and its digest, which all data that share the tensor work out at most once."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    @cached_property
    def digest(self) -> bytes:
        found = hashlib.sha256()
        _hash_into(found, self.tensor)
        return found.digest()


def _hash_into(found: hashlib._Hash, tensor: Tensor) -> None:
    tensor = tensor.detach().cpu().contiguous()
    found.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")


@dataclass(frozen=True, eq=False)
class Data:
    """One split of a data set, immutable and in memory.

    ``x`` [n, ...] inputs, ``y`` [n, ...] annotations (missing ones are NaN for multi-label, -100 for classes of pixels
    and nodes), ``ids`` [n] int64, unique over all splits. ``outputs`` names the classes or targets. ``columns`` are
    further integer columns (a person, a site); ``values`` names their codes. ``edges`` [2, m] with u < v make the rows
    nodes of one graph. With ``graphs`` each row is a graph: ``x`` [n] int64 are their positions there.
    """

    x: Tensor
    y: Tensor
    ids: Tensor
    outputs: tuple[str, ...]
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edges: Tensor | None = None
    graphs: Graphs | None = None

    def __post_init__(self) -> None:
        lengths = {"y": len(self.y), "ids": len(self.ids), **{k: len(v) for k, v in self.columns.items()}}
        wrong = {k: n for k, n in lengths.items() if n != len(self.x)}
        if wrong:
            raise DataError("bad-data", f"x has {len(self.x)} rows but {wrong}")
        if self.ids.dtype != torch.int64 or len(self.ids.unique()) != len(self.ids):
            raise DataError("bad-data", "ids must be unique 64-bit integers")
        if self.graphs is not None and not bool(((self.x >= 0) & (self.x < len(self.graphs))).all()):
            raise DataError("bad-data", "x must be positions of graphs")

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        tensors = {"x": self.x, "y": self.y, "ids": self.ids, **{f"column:{k}": v for k, v in self.columns.items()}}
        if self.edges is not None:
            tensors["edges"] = self.edges
        if self.graphs is not None:
            tensors |= self.graphs.tensors()
        return {name: _Column(tensor) for name, tensor in tensors.items()}

    @cached_property
    def _digest(self) -> str:
        found = hashlib.sha256()
        for name, column in sorted(self._columns.items()):
            found.update(f"{name}|{column.tensor.dtype}|{tuple(column.tensor.shape)}|".encode())
            if self.edges is None:
                _hash_into(found, column.tensor)
            else:  # over digests: the graphs of a long stream of requests share most of their columns
                found.update(column.digest)
        found.update("|".join(self.outputs).encode())
        return found.hexdigest()

    def digest(self) -> str:
        """sha256 over every column, its type and its shape; computed once."""
        return self._digest

    def take(self, index: Tensor) -> Batch:
        """The rows at these positions as a batch."""
        if self.graphs is not None:
            nodes, edges, owner = self.graphs.pick(self.x[index])
            return Batch(nodes, self.y[index], self.ids[index], owner, edges)
        if self.edges is not None:
            return Batch(self.x, self.y[index], self.ids[index], index, self.edges)
        return Batch(self.x[index], self.y[index], self.ids[index])

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row as a model sees it; of one node, where rows are graphs."""
        return tuple((self.x if self.graphs is None else self.graphs.nodes).shape[1:])

    def rows(self, index: Tensor) -> Data:
        """The rows at these positions as data of their own (not for graphs, whose rows need each other)."""
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            ids=self.ids[index],
            columns={k: v[index] for k, v in self.columns.items()},
        )

    def changed(self, *, x: Tensor | None = None, y: Tensor | None = None, edges: Tensor | None = None) -> Data:
        """The same nodes with other features, annotations or edges.

        All other columns are shared, and neither checked nor hashed again: this costs what is new.
        """
        new = {name: _Column(t) for name, t in (("x", x), ("y", y), ("edges", edges)) if t is not None}
        return self._with(new)

    def on_graph_of(self, other: Data) -> Data:
        """These annotations on the features and edges of other data about the same nodes."""
        return self._with({name: other._columns[name] for name in ("x", "edges")})

    def _with(self, new: Mapping[str, _Column]) -> Data:
        if any(name != "edges" and len(column.tensor) != len(self) for name, column in new.items()):
            raise DataError("bad-data", f"there are {len(self)} nodes, and one row for each is needed")
        found = copy(self)  # not built anew: its ids are as unique as they were
        found.__dict__.pop("_digest", None)
        found.__dict__.update({name: column.tensor for name, column in new.items()})
        found.__dict__["_columns"] = {**self._columns, **new}
        return found

    def to(self, device: torch.device) -> Data:
        """The same data on a device; itself when it is there already. Columns stay: only requests read them."""
        if self.x.device == device:
            return self
        moved = replace(
            self,
            x=self.x.to(device),
            y=self.y.to(device),
            ids=self.ids.to(device),
            edges=None if self.edges is None else self.edges.to(device),
            graphs=None if self.graphs is None else self.graphs.to(device),
        )
        moved.__dict__["_digest"] = self.digest()
        return moved


@dataclass(frozen=True)
class Splits:
    """What a data set hands over: sets of rows that never mix.

    ``holdout`` are unseen rows with the training rows' own faults, such as wrong labels, which clean test rows do not
    have: what attacks compare forgotten rows with. Without it the hold-out comes out of the test rows.
    """

    train: Data
    test: Data
    validation: Data | None = None
    holdout: Data | None = None


class BudgetExceeded(PluginError):
    """A phase ran longer than its budget."""


@dataclass
class Meter:
    """Counts the rows that a phase reads and stops it when its time is over. The host owns it."""

    deadline: float | None = None
    on_rows: Callable[[int], None] | None = None
    rows: Counter[str] = field(default_factory=Counter)

    def tick(self, view: str, rows: int) -> None:
        self.rows[view] += rows
        if self.deadline is not None and perf_counter() > self.deadline:
            raise BudgetExceeded("budget-exceeded", "ran past its time budget", hint="raise --budget or lower its cost")
        if self.on_rows is not None:
            self.on_rows(rows)


class View:
    """Rows of one data set that a phase may read, under a name (``forget``, ``retain``, ...).

    Length, ids and output names are metadata and always readable; reading rows of a locked view raises, and every row
    that is read is counted.
    """

    def __init__(
        self,
        data: Data,
        index: Tensor,
        *,
        name: str,
        meter: Meter | None = None,
        locked: bool = False,
        elements: Tensor | None = None,
    ) -> None:
        self._data = data
        self._index = index
        self._meter = meter or Meter()
        self._locked = locked
        self.name = name
        self.elements = elements
        """What a request on a graph is about, by positions of nodes; None elsewhere.

        For unlearners, the edges [2, k] or the nodes [1, k] that this request takes away; the rows are the annotated
        nodes among them. For measures, the hold-out and the forget set have pairs of nodes [2, k]: all edges that were
        taken away so far, and as many pairs that were never edges.
        """

    def __len__(self) -> int:
        return len(self._index)

    @property
    def ids(self) -> Tensor:
        """Row ids [n] on the CPU."""
        return self._data.ids[self._index].cpu()

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the classes or targets."""
        return self._data.outputs

    @property
    def is_graph(self) -> bool:
        """Whether the rows are nodes of one graph, which is always read as a whole."""
        return self._data.edges is not None

    @property
    def has_graphs(self) -> bool:
        """Whether each row is a graph of its own."""
        return self._data.graphs is not None

    def digest(self) -> str:
        """sha256 of the data, the selected rows and the elements: what a stored model is keyed by."""
        found = hashlib.sha256(self._data.digest().encode())
        found.update(self._index.cpu().numpy().tobytes())
        if self.elements is not None:
            found.update(b"elements" + self.elements.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def batches(self, size: int, rng: Generator | None = None) -> Iterator[Batch]:
        """Yield all rows once in batches of ``size``; the last, smaller batch is kept.

        ``rng`` shuffles (one draw a call: pass the same generator each epoch to get a new order each epoch); without
        it rows come in order. A graph is one batch.
        """
        self._check()
        if size < 1:
            raise ValueError(f"batch size must be at least 1, not {size}")
        if self.is_graph:
            yield self.tensors()
            return
        index = self._index
        if rng is not None:
            index = index[torch.randperm(len(index), generator=rng).to(index.device)]
        if self._data.graphs is not None:
            for rows in index.split(size) if len(index) else ():
                self._meter.tick(self.name, len(rows))
                yield self._data.take(rows)
            return
        # Rows are gathered in blocks of many batches: indexing once costs less than indexing for every small batch.
        batch_bytes = max(1, size * self._data.x.nbytes // max(1, len(self._data)))
        for block in index.split(size * max(1, BLOCK_BYTES // batch_bytes)) if len(index) else ():
            x, y, ids, *_ = self._data.take(block)
            for part in zip(x.split(size), y.split(size), ids.split(size), strict=True):
                self._meter.tick(self.name, len(part[0]))
                yield Batch(*part)

    def tensors(self) -> Batch:
        """All rows as one batch, in order."""
        self._check()
        self._meter.tick(self.name, len(self._index))
        return self._data.take(self._index)

    def take(self, positions: Tensor) -> Batch:
        """The rows at these positions of the view as one batch, in this order."""
        self._check()
        self._meter.tick(self.name, len(positions))
        return self._data.take(self._index[positions.to(self._index.device)])

    def where(self, keep: Tensor) -> View:
        """The view of the rows for which the boolean mask ``keep`` [n] is true (or at the given positions)."""
        return View(
            self._data,
            self._index[keep.to(self._index.device)],
            name=self.name,
            meter=self._meter,
            locked=self._locked,
            elements=self.elements,
        )

    def _check(self) -> None:
        if self._locked:
            raise PluginError(
                "undeclared-read", f"the {self.name} view is not declared in reads", hint=f"add {self.name!r} to reads"
            )
