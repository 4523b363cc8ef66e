"""Node property prediction of the Open Graph Benchmark, from its raw files.

They are converted once to arrays that later runs map into memory, so that a graph need not fit there. OGB's own reader
is not used: it keeps what it read as a pickle that torch no longer opens.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnbench.api.runtime import Component, DataJob, Splits, one_line, require_file
from unlearnbench_graphs.archives import NUMBERS, WHOLE, Npz
from unlearnbench_graphs.layout import Division, Graph, features, from_positions, numbered_classes, to_splits
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.plugin import OgbParams
from unlearnbench_graphs.rooms import Array, made_once, mapped, on_disk
from unlearnbench_graphs.scaling import scaled
from unlearnbench_graphs.tables import plain
from unlearnbench_graphs.undirected import PUBLISHED, undirected

FORMAT = b"1|"
"""Of the converted arrays; part of the name of their folder."""
PURPOSES = ("train", "valid", "test")


@dataclass(frozen=True)
class Layout:
    """How a graph is laid out: classes, the folder of its split, and whether the graph is one npz or CSV files."""

    classes: int
    split: str = "time"
    archive: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read, below the graph's folder."""
        splits = tuple(f"split/{self.split}/{purpose}.csv.gz" for purpose in PURPOSES)
        if self.archive:
            return ("raw/data.npz", "raw/node-label.npz", *splits)
        parts = ("edge", "node-feat", "node-label", "num-node-list", "num-edge-list")
        return (*(f"raw/{part}.csv.gz" for part in parts), *splits)


LAYOUTS = {
    "arxiv": Layout(classes=40),
    "products": Layout(classes=47, split="sales_ranking"),
    "papers100M": Layout(classes=172, archive=True),
}


@dataclass(frozen=True)
class Files:
    """The files of a graph, all of them there."""

    paths: dict[str, Path]
    folder: str
    hint: str

    def place(self, name: str) -> Place:
        """A file, for errors."""
        return Place(f"{self.folder}/{name}", self.hint)

    def numbers(self, name: str) -> Array:
        """A CSV file as float32 [rows, columns]; gaps are NaN."""
        return plain(self.paths[name], "number", self.place(name))

    def whole(self, name: str) -> Array:
        """A CSV file as int64 [rows, columns]."""
        return plain(self.paths[name], "whole", self.place(name))

    def key(self) -> str:
        """sha256 over the name and the sha256 of every file."""
        found = hashlib.sha256(FORMAT)
        for name, path in self.paths.items():
            with path.open("rb") as content:
                found.update(f"{name}|{hashlib.file_digest(content, 'sha256').hexdigest()}|".encode())
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Raw:
    """What the files say: edges [2, m], features [n, f], classes [n, 1]; how many nodes and edges there should be."""

    pairs: Array
    x: Array
    labels: Array
    counts: tuple[Array, Array]


class Ogb(Component[OgbParams]):
    """Papers or goods; the id of a node is its number in the files."""

    def load(self, job: DataJob) -> Splits:
        """Convert the files unless that was done before, and map the arrays into memory.

        Raises:
            DataError: files are missing or damaged.
        """
        layout, name = LAYOUTS[self.p.dataset], f"ogbn-{self.p.dataset}"
        folder = self.p.folder.rstrip("/") or f"ogb/ogbn_{self.p.dataset}"
        hint = f"get {name} from https://ogb.stanford.edu and put it there as OGB's own loader does"
        files = Files({file: require_file(job, f"{folder}/{file}", hint) for file in layout.files}, folder, hint)
        target = Path(job.scratch) / "graphs" / f"{name}-{files.key()[:32]}"
        made_once(target, lambda out: _convert(files, layout, out))
        place = Place(folder, f"remove {target}, which is made again")
        with one_line("corrupt-file", "its converted copy cannot be read", where=place.where, hint=place.hint):
            x, edges, y, *parts = (mapped(target / f"{part}.npy") for part in ("x", "edges", "y", *PURPOSES))
        if self.p.scale != "none":
            again = target.with_name(f"{target.name}-{self.p.scale}")
            made_once(again, lambda out: _flushed(scaled(x, self.p.scale, on_disk(out))))
            x = mapped(again / f"x-{self.p.scale}.npy")
        graph = Graph(x, edges, y, tuple(str(k) for k in range(layout.classes)))
        return to_splits(graph, Division(*parts), place)


def _convert(files: Files, layout: Layout, out: Path) -> None:
    """Write x, edges, y and one mask for each purpose as ``out/NAME.npy``."""
    raw = _archive(files, out) if layout.archive else _tables(files)
    source = files.place("raw/data.npz" if layout.archive else "raw/node-feat.csv.gz")
    for what, counted, found in (("nodes", raw.counts[0], len(raw.x)), ("edges", raw.counts[1], raw.pairs.shape[1])):
        if counted.flatten().tolist() != [found]:
            raise source.fault("corrupt-file", f"has {found} {what}, not {counted.flatten().tolist()[:3]}")
    n, room = len(raw.x), on_disk(out)
    x = features(raw.x, source, room)
    if x is raw.x and layout.archive:
        (out / "unpacked-node_feat.npy").rename(out / "x.npy")
    elif x is raw.x:
        np.save(out / "x.npy", x)
    _flushed(undirected(raw.pairs, n, PUBLISHED, source, room))
    labels = files.place("raw/node-label.npz" if layout.archive else "raw/node-label.csv.gz")
    if raw.labels.shape != (n, 1):
        raise labels.fault("corrupt-file", f"has {raw.labels.shape} labels for {n} nodes")
    np.save(out / "y.npy", numbered_classes(raw.labels[:, 0], layout.classes, labels))
    positions = []
    for purpose in PURPOSES:
        file = f"split/{layout.split}/{purpose}.csv.gz"
        at = files.whole(file).flatten()
        if ((at < 0) | (at >= n)).any():
            raise files.place(file).fault("corrupt-file", f"names a node outside 0 to {n - 1}")
        positions.append(at)
    division = from_positions(n, *positions)
    for purpose, mask in zip(PURPOSES, (division.train, division.validation, division.test), strict=True):
        np.save(out / f"{purpose}.npy", mask)
    for leftover in (out / "keys.npy", *out.glob("unpacked-*.npy")):
        leftover.unlink(missing_ok=True)


def _tables(files: Files) -> Raw:
    pairs = files.whole("raw/edge.csv.gz")
    if pairs.shape[1] != 2:
        raise files.place("raw/edge.csv.gz").fault("corrupt-file", f"has {pairs.shape[1]} numbers in a row, not 2")
    counts = files.whole("raw/num-node-list.csv.gz"), files.whole("raw/num-edge-list.csv.gz")
    return Raw(pairs.T, files.numbers("raw/node-feat.csv.gz"), files.numbers("raw/node-label.csv.gz"), counts)


def _archive(files: Files, out: Path) -> Raw:
    data = Npz.open(files.paths["raw/data.npz"], files.place("raw/data.npz"))
    labels = Npz.open(files.paths["raw/node-label.npz"], files.place("raw/node-label.npz"))
    pairs = data.mapped("edge_index", out, WHOLE, 2)
    if len(pairs) != 2:
        raise data.place.of("edge_index").fault("corrupt-file", f"must be of shape [2, m], not {list(pairs.shape)}")
    counts = data.array("num_nodes_list", WHOLE, 1), data.array("num_edges_list", WHOLE, 1)
    return Raw(pairs, data.mapped("node_feat", out, NUMBERS, 2), labels.array("node_label", NUMBERS, 2), counts)


def _flushed(array: Array) -> None:
    """Everything of a memory-mapped array is in its file."""
    if isinstance(array, np.memmap):
        array.flush()
