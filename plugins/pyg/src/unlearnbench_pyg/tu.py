"""The TU Dortmund collection, and graphs of one's own in its format: text files of numbers, lines counted from 1.

PyTorch Geometric's reader is not used. It loses a last node without edges and labels, takes damaged indices as they
are, and keeps what it read as a pickle, which it prefers to the text files ever after.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Component, DataJob, Graphs, Splits, download, one_line, require_file
from unlearnbench_pyg.plugin import TuParams
from unlearnbench_pyg.rows import Annotated, both_ways, held_out, to_splits

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Files:
    """The files ``<folder>/<name>_<part>.txt`` as tables of numbers."""

    job: DataJob
    folder: str
    name: str
    hint: str

    def path(self, part: str) -> str:
        """A file, relative to the data folder."""
        return f"{self.folder}/{self.name}_{part}.txt"

    def has(self, part: str) -> bool:
        """Whether the optional file is there."""
        return (Path(self.job.root) / self.path(part)).is_file()

    def integers(self, part: str, columns: int | None = None, lines: int | None = None) -> Tensor:
        """int64 [lines, columns]."""
        return self._table(part, np.int64, columns, lines)

    def numbers(self, part: str, lines: int) -> Tensor:
        """float32 [lines, columns], all of them finite."""
        found = self._table(part, np.float32, None, lines)
        if not bool(found.isfinite().all()):
            raise self.damaged(part, "has a number that is not finite")
        return found

    def damaged(self, part: str, what: str) -> DataError:
        """The error for a file whose content is wrong."""
        return DataError("corrupt-file", what, where=self.path(part), hint=self.hint)

    def _table(self, part: str, kind: type[np.generic], columns: int | None, lines: int | None) -> Tensor:
        path = require_file(self.job, self.path(part), self.hint)
        with one_line("corrupt-file", "is not a table of numbers", where=self.path(part), hint=self.hint):
            text = path.read_bytes().decode("ascii")
            rows = [line for line in text.splitlines() if line.strip()]
            if rows:
                table: npt.NDArray[np.generic] = np.loadtxt(rows, dtype=kind, delimiter=",", ndmin=2, comments=None)
            else:
                table = np.zeros((0, columns or 1), dtype=kind)
        if columns is not None and table.shape[1] != columns:
            raise self.damaged(part, f"has {table.shape[1]} numbers in a line, not {columns}")
        if lines is not None and len(table) != lines:
            raise self.damaged(part, f"has {len(table)} lines for {lines} nodes or graphs")
        return torch.from_numpy(table)


class Tu(Component[TuParams]):
    """Graphs whose classes are the values of ``*_graph_labels.txt``; the id of a graph is its number, less 1."""

    def load(self, job: DataJob) -> Splits:
        """Read the text files.

        Raises:
            DataError: files are missing or damaged, or there is one class only.
            UsageError: the data set's name cannot be one.
        """
        files = Files(
            job, self.folder, self.p.dataset, f"run `unlearnbench data fetch tu --set dataset={self.p.dataset}`"
        )
        y, outputs = _classes(files)
        owner = _owners(files, len(y))
        node_counts = owner.bincount(minlength=len(y))
        edges, edge_counts = _edges(files, owner, node_counts)
        test = held_out(y, self.p, files.folder)
        nodes = self._features(files, owner, ~test)
        graphs = Graphs(nodes, edges, node_counts, edge_counts)
        return to_splits(Annotated(graphs, y, torch.arange(len(y)), outputs), test)

    def fetch(self, job: DataJob) -> None:
        """Download the archive from where PyTorch Geometric takes it, unless the files are there.

        Raises:
            DataError: no connection, or no such data set.
        """
        from unlearnbench_pyg.library import TUDataset  # seconds to import, and only the address is needed

        name, folder = self.p.dataset, self.folder
        parts = ("A", "graph_indicator", "graph_labels")
        if not all((Path(job.root) / f"{folder}/{name}_{part}.txt").is_file() for part in parts):
            download(job, f"{TUDataset.url}/{name}.zip", folder, partial(_unpacked, name=name))

    @property
    def folder(self) -> str:
        """Folder of the text files below the data folder; by default as PyTorch Geometric lays it out below ``tu``."""
        if not _NAME.fullmatch(self.p.dataset):
            raise UsageError("bad-parameter", f"{self.p.dataset!r} cannot name a data set", where="tu.dataset",
                             hint="--set tu.dataset=PROTEINS")  # fmt: skip
        return self.p.folder.rstrip("/") or f"tu/{self.p.dataset}/raw"

    def _features(self, files: Files, owner: Tensor, train: Tensor) -> Tensor:
        """Node labels one-hot, then attributes [nodes, f]; 1 for each node where there is nothing else."""
        n, found = len(owner), []
        if files.has("node_labels"):
            for column in files.integers("node_labels", lines=n).T:
                _, codes = column.unique(return_inverse=True)
                found.append(torch.nn.functional.one_hot(codes).float())
        if self.p.attributes:
            found.append(_standardised(files.numbers("node_attributes", n), train[owner]))
        return torch.cat(found, 1) if found else torch.ones(n, 1)


def _classes(files: Files) -> tuple[Tensor, tuple[str, ...]]:
    values, y = files.integers("graph_labels", columns=1).flatten().unique(return_inverse=True)
    if not len(y):
        raise files.damaged("graph_labels", "is empty")
    if len(values) < 2:
        raise DataError("one-class", f"all graphs are of class {int(values[0])}", where=files.path("graph_labels"),
                        hint="choose another data set")  # fmt: skip
    return y, tuple(str(value) for value in values.tolist())


def _owners(files: Files, graphs: int) -> Tensor:
    """The graph of each node [n], from 0; nodes of a graph stand together."""
    part = "graph_indicator"
    owner = files.integers(part, columns=1).flatten() - 1
    if not len(owner) or int(owner.min()) < 0 or int(owner.max()) >= graphs:
        raise files.damaged(part, f"names a graph outside 1..{graphs}, as many as have labels")
    if bool((owner.diff() < 0).any()):
        line = int((owner.diff() < 0).nonzero()[0]) + 2
        raise files.damaged(part, f"goes back to an earlier graph in line {line}")
    empty = (owner.bincount(minlength=graphs) == 0).nonzero().flatten()
    if len(empty):
        raise files.damaged(part, f"graph {int(empty[0]) + 1} has no nodes")
    return owner


def _edges(files: Files, owner: Tensor, node_counts: Tensor) -> tuple[Tensor, Tensor]:
    """Edges [2, m] both ways between positions within their graphs, and how many of them each graph has."""
    edges = files.integers("A", columns=2).T - 1
    n = len(owner)
    outside = ((edges < 0) | (edges >= n)).any(0).nonzero().flatten()
    if len(outside):
        raise files.damaged("A", f"edge {int(outside[0]) + 1} names a node outside 1..{n}")
    across = (owner[edges[0]] != owner[edges[1]]).nonzero().flatten()
    if len(across):
        raise files.damaged("A", f"edge {int(across[0]) + 1} joins two graphs")
    edges = both_ways(edges, n)
    of = owner[edges[0]]
    return edges - (node_counts.cumsum(0) - node_counts)[of], of.bincount(minlength=len(node_counts))


def _standardised(values: Tensor, train: Tensor) -> Tensor:
    known = values[train].double()
    deviation = known.std(0, correction=0)
    return ((values - known.mean(0)) / deviation.where(deviation > 0, 1.0)).float()


def _unpacked(archive: Path, name: str) -> dict[str, bytes]:
    """The data set's text files in an archive, wherever they lie in it."""
    found = {}
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            base = member.filename.rpartition("/")[2]
            if base.startswith(f"{name}_") and base.endswith(".txt"):
                found[base] = packed.read(member)
    if not found:
        raise DataError("fetch-failed", f"the archive has no files {name}_*.txt", where=name, hint="check the name")
    return found
