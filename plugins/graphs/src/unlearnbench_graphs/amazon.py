"""Goods that are bought together, in the npz files of Shchur et al."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unlearnbench.api.runtime import Component, DataJob, Splits, download, require_file
from unlearnbench_graphs.archives import NUMBERS, WHOLE, Npz
from unlearnbench_graphs.layout import Graph, drawn, features, numbered_classes, to_splits
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.plugin import AmazonParams
from unlearnbench_graphs.rooms import Array
from unlearnbench_graphs.scaling import scaled
from unlearnbench_graphs.sparse import dense, positions_of_csr
from unlearnbench_graphs.undirected import PUBLISHED, undirected

URL = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"
CLASSES = {"Photo": 8, "Computers": 10}


class Amazon(Component[AmazonParams]):
    """Goods and which of them are bought together; the id of a node is its number in the file."""

    def load(self, job: DataJob) -> Splits:
        """Read the file and draw the nodes that are held out.

        Raises:
            DataError: the file is missing or damaged, or too many nodes are held out.
        """
        fetch = f"run `unlearnbench data fetch amazon --set dataset={self.p.dataset}`"
        place = Place(f"{self.folder}/{self._name}", f"remove it and {fetch}")
        archive = Npz.open(require_file(job, place.where, fetch), place)
        labels = archive.array("labels", NUMBERS, 1).astype(np.float64)
        row, column, shape = _positions(archive, "attr")
        # Words are there or not, as PyTorch Geometric has them, however often they occur.
        x = dense(row, column, archive.array("attr_data", NUMBERS, 1) > 0, shape, place.of("attr_indices"))
        first, second, (nodes, others) = _positions(archive, "adj")
        if not nodes == others == len(x) == len(labels):
            raise place.fault(
                "corrupt-file", f"has {len(x)} rows of features and {len(labels)} labels for {nodes} nodes"
            )
        graph = Graph(
            x=scaled(features(x, place), self.p.scale),
            edges=undirected(np.stack([first, second]), nodes, PUBLISHED, place.of("adj_indices")),
            y=numbered_classes(labels, CLASSES[self.p.dataset], place.of("labels")),
            outputs=tuple(str(k) for k in range(CLASSES[self.p.dataset])),
        )
        return to_splits(graph, drawn(graph.y, self.p, place), place)

    def fetch(self, job: DataJob) -> None:
        """Download the file from where PyTorch Geometric takes it, unless it is there.

        Raises:
            DataError: no connection.
        """
        if not (Path(job.root) / self.folder / self._name).is_file():
            download(job, f"{URL}/{self._name}", self.folder, lambda arrived: {self._name: arrived.read_bytes()})

    @property
    def folder(self) -> str:
        """Where the file lies below the data folder."""
        return self.p.folder.rstrip("/") or f"amazon/{self.p.dataset}/raw"

    @property
    def _name(self) -> str:
        return f"amazon_electronics_{self.p.dataset.lower()}.npz"


def _positions(archive: Npz, part: str) -> tuple[Array, Array, tuple[int, int]]:
    """Row and column [k] of the entries of a sparse matrix, and its shape."""
    sizes = archive.array(f"{part}_shape", WHOLE, 1)
    place = archive.place.of(f"{part}_indptr")
    if len(sizes) != 2 or (sizes < 1).any():
        raise place.fault("corrupt-file", "belongs to no matrix")
    shape = (int(sizes[0]), int(sizes[1]))
    indptr, indices = (archive.array(f"{part}_{name}", WHOLE, 1) for name in ("indptr", "indices"))
    return *positions_of_csr(indptr, indices, shape, place), shape
