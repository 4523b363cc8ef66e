"""Planetoid: citation networks in the eight files ``ind.NAME.*`` of Yang, Cohen and Salakhutdinov.

PyTorch Geometric's reader is not used: it executes the pickles, and keeps what it read as another one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearnbench.api.runtime import Component, DataJob, Splits, download, one_line, require_file
from unlearnbench_graphs.layout import Division, Graph, features, from_positions, numbered_classes, to_splits
from unlearnbench_graphs.pickles import read_matrix, read_neighbours
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.plugin import PlanetoidParams
from unlearnbench_graphs.rooms import Array
from unlearnbench_graphs.scaling import scaled
from unlearnbench_graphs.undirected import PUBLISHED, undirected

URL = "https://github.com/kimiyoung/planetoid/raw/master/data"
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
VALIDATION = 500


class Planetoid(Component[PlanetoidParams]):
    """Papers and who cites whom; the id of a node is its number in the files."""

    def load(self, job: DataJob) -> Splits:
        """Read the files, without executing anything of them.

        Raises:
            DataError: files are missing or damaged.
        """
        allx, ally = self._matrix(job, "allx"), self._matrix(job, "ally")
        tx, ty = self._matrix(job, "tx"), self._matrix(job, "ty")
        test = self._test_nodes(job, len(allx))
        public, place = len(self._matrix(job, "y")), self._place("test.index")
        if not (len(test) == len(tx) == len(ty) and len(allx) == len(ally) >= public + VALIDATION):
            raise place.fault("corrupt-file", "has another number of nodes than the other files")
        if allx.shape[1] != tx.shape[1] or ally.shape[1] != ty.shape[1]:
            raise self._place("tx").fault("corrupt-file", "has other columns than allx, or ty than ally")
        nodes = max(len(allx), int(test.max()) + 1)
        x, marks = np.zeros((nodes, allx.shape[1]), np.float32), np.zeros((nodes, ally.shape[1]), np.float32)
        x[: len(allx)], x[test] = allx, tx
        marks[: len(ally)], marks[test] = ally, ty
        pairs = read_neighbours(self._file(job, "graph"), self._place("graph"))
        graph = Graph(
            x=scaled(features(x, self._place("allx")), self.p.scale),
            edges=undirected(pairs, nodes, PUBLISHED, self._place("graph")),
            y=self._classes(marks),
            outputs=tuple(str(k) for k in range(marks.shape[1])),
        )
        return to_splits(graph, self._division(nodes, public, test), place)

    def fetch(self, job: DataJob) -> None:
        """Download those files that are not there, from where PyTorch Geometric takes them.

        Raises:
            DataError: no connection.
        """
        for part in PARTS:
            name = self._name(part)
            if not (Path(job.root) / self.folder / name).is_file():
                download(job, f"{URL}/{name}", self.folder, lambda arrived, name=name: {name: arrived.read_bytes()})  # type: ignore[misc]

    @property
    def folder(self) -> str:
        """Where PyTorch Geometric keeps the files, below ``planetoid``."""
        return self.p.folder.rstrip("/") or f"planetoid/{self.p.dataset}/raw"

    def _division(self, nodes: int, public: int, test: Array) -> Division:
        """20 nodes of each class come first in the files, then validation nodes; test nodes are listed."""
        validation = np.arange(public, public + VALIDATION)
        rest = np.setdiff1d(np.arange(nodes), np.concatenate([validation, test]))
        return from_positions(nodes, np.arange(public) if self.p.split == "public" else rest, validation, test)

    def _classes(self, marks: Array) -> Array:
        """Classes [n] of one-hot rows; CiteSeer's test nodes that no file describes have none."""
        place = self._place("ally")
        wrong = ~(np.isin(marks, (0, 1)).all(1) & (marks.sum(1) <= 1))
        if wrong.any():
            raise place.fault("bad-labels", f"node {int(wrong.argmax())} is not of one class")
        return numbered_classes(np.where(marks.any(1), marks.argmax(1), np.nan), marks.shape[1], place)

    def _test_nodes(self, job: DataJob, first: int) -> Array:
        place, path = self._place("test.index"), self._file(job, "test.index")
        with one_line("corrupt-file", "is not a list of nodes", where=place.where, hint=place.hint):
            test = np.array(path.read_text("ascii").split(), dtype=np.int64)
        if not len(test) or int(test.min()) < first or len(np.unique(test)) < len(test):
            raise place.fault("corrupt-file", f"must name nodes from {first} on, each once")
        return test

    def _matrix(self, job: DataJob, part: str) -> Array:
        return read_matrix(self._file(job, part), self._place(part))

    def _file(self, job: DataJob, part: str) -> Path:
        fetch = f"run `unlearnbench data fetch planetoid --set dataset={self.p.dataset}`"
        return require_file(job, f"{self.folder}/{self._name(part)}", fetch)

    def _place(self, part: str) -> Place:
        hint = f"remove it and run `unlearnbench data fetch planetoid --set dataset={self.p.dataset}`"
        return Place(f"{self.folder}/{self._name(part)}", hint)

    def _name(self, part: str) -> str:
        return f"ind.{self.p.dataset.lower()}.{part}"
