"""A graph of one's own: an npz archive, or a table of edges and one of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Component, DataJob, Splits
from unlearnbench_graphs.archives import NUMBERS, WHOLE, Npz
from unlearnbench_graphs.layout import Division, Graph, drawn, features, named_classes, to_splits
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.plugin import GraphFileParams
from unlearnbench_graphs.rooms import Array
from unlearnbench_graphs.scaling import scaled
from unlearnbench_graphs.sparse import dense
from unlearnbench_graphs.tables import SUFFIXES, Kind, Table
from unlearnbench_graphs.undirected import Rules, undirected

PURPOSES = ("train", "validation", "test")
_HINT = "mend the file, or write it again"


@dataclass(frozen=True, eq=False)
class Raw:
    """What files say: edges [2, m], features [n, f], what names the classes [n], and who is for what, if they do."""

    pairs: Array
    x: Array
    classes: Array
    division: Division | None
    edges_place: Place
    nodes_place: Place


class GraphFile(Component[GraphFileParams]):
    """A graph whose nodes are numbered from 0; a node's number is its id."""

    def load(self, job: DataJob) -> Splits:
        """Read the files.

        Raises:
            UsageError: no file is named, or one of a kind that is not known.
            DataError: a file is missing, damaged, or holds no undirected graph with features and classes.
        """
        raw = self._archive(job) if self.p.file.endswith(".npz") else self._tables(job)
        place, n = raw.nodes_place, len(raw.x)
        x = features(raw.x, place)
        if len(raw.classes) != n:
            raise place.fault("bad-data", f"has {len(raw.classes)} classes for {n} nodes")
        rules = Rules(self.p.directed, self.p.self_loops, self.p.duplicates)
        edges = undirected(raw.pairs, n, rules, raw.edges_place)
        y, outputs = named_classes(raw.classes, place)
        division = raw.division or drawn(y, self.p, place)
        return to_splits(Graph(scaled(x, self.p.scale), edges, y, outputs), division, place)

    def _archive(self, job: DataJob) -> Raw:
        if self.p.nodes:
            raise _parameter("nodes", "is for tables of edges; an npz holds the nodes as well", "leave it out")
        archive = Npz.open(job.file(self.p.file), Place(Path(self.p.file).name, _HINT))
        if "edges" in archive.names:
            edges, axis = "edges", 1
        else:
            edges, axis = "edge_index", 0
        pairs = archive.array(edges, WHOLE, 2)
        if pairs.shape[axis] != 2:
            wanted = "[m, 2]" if axis else "[2, m]"
            raise archive.place.of(edges).fault("bad-data", f"must be of shape {wanted}, not {list(pairs.shape)}")
        x = archive.array("x", NUMBERS, 2) if "x" in archive.names or "x_row" not in archive.names else _sparse(archive)
        return Raw(
            pairs=pairs.T if axis else pairs,
            x=x,
            classes=archive.array("y", NUMBERS, 1),
            division=_masks(archive, len(x)),
            edges_place=archive.place.of(edges),
            nodes_place=archive.place,
        )

    def _tables(self, job: DataJob) -> Raw:
        edges, nodes = self._table(job, "file"), self._table(job, "nodes")
        ends = edges.columns({self.p.source: "whole", self.p.target: "whole"})
        if self.p.source == self.p.target:
            raise _parameter("target", "is the column of the source, too", "name two columns")
        roles: dict[str, Kind] = {self.p.label: "text"}
        if self.p.node:
            roles[self.p.node] = "whole"
        divided = bool(self.p.split) and (self.p.split in nodes.names or self.p.split != GraphFileParams().split)
        if divided:
            roles[self.p.split] = "text"
        numbers: dict[str, Kind] = {name: "number" for name in nodes.names if name not in roles}
        if not numbers:
            raise nodes.place.fault(
                "bad-data", "has no column of features", hint="each column without a role is a feature"
            )
        found = nodes.columns({**roles, **numbers})
        order = _order(found[self.p.node], nodes.place) if self.p.node else slice(None)
        return Raw(
            pairs=np.stack([ends[self.p.source], ends[self.p.target]]),
            x=np.stack([found[name] for name in numbers], axis=1)[order],
            classes=found[self.p.label][order],
            division=_purposes(found[self.p.split][order], nodes.place) if divided else None,
            edges_place=edges.place,
            nodes_place=nodes.place,
        )

    def _table(self, job: DataJob, parameter: str) -> Table:
        name = str(getattr(self.p, parameter))
        if not name:
            raise _parameter(parameter, "names no file", f"--set graph-file.{parameter}={parameter}.csv")
        kinds = SUFFIXES if parameter == "nodes" else (".npz", *SUFFIXES)
        if not name.endswith(SUFFIXES):
            raise _parameter(parameter, f"{Path(name).name!r} is of no known kind", f"name a file {', '.join(kinds)}")
        return Table.open(job.file(name), Place(Path(name).name, _HINT))


def _parameter(name: str, what: str, hint: str) -> UsageError:
    return UsageError("bad-parameter", what, where=f"graph-file.{name}", hint=hint)


def _sparse(archive: Npz) -> Array:
    """Features of ``x_row``, ``x_col``, ``x_val`` [k] and ``x_shape`` [2]."""
    row, column = archive.array("x_row", WHOLE, 1), archive.array("x_col", WHOLE, 1)
    values, shape = archive.array("x_val", NUMBERS, 1), archive.array("x_shape", WHOLE, 1)
    place = archive.place.of("x_row, x_col, x_val")
    if len(shape) != 2 or (shape < 1).any():
        raise place.fault("bad-data", "x_shape must be the numbers of nodes and of features")
    return dense(row, column, values, (int(shape[0]), int(shape[1])), place)


def _masks(archive: Npz, n: int) -> Division | None:
    """The masks of the archive, if it has any; without that of validation no node is for it."""
    names = {"train": "train_mask", "validation": "val_mask", "test": "test_mask"}
    if not any(name in archive.names for name in names.values()):
        return None
    masks = {}
    for purpose, name in names.items():
        if purpose == "validation" and name not in archive.names:
            masks[purpose] = np.zeros(n, dtype=bool)
            continue
        mask = archive.array(name, WHOLE, 1)
        if len(mask) != n or not np.isin(mask, (0, 1)).all():
            raise archive.place.of(name).fault("bad-data", f"must be true or false for each of {n} nodes")
        masks[purpose] = mask.astype(bool)
    return Division(**masks)


def _purposes(texts: Array, place: Place) -> Division:
    unknown = ~np.isin(texts, ("", *PURPOSES))
    if unknown.any():
        node = int(unknown.argmax())
        raise place.fault(
            "bad-data", f"node {node} is for {str(texts[node])!r}", hint="write train, validation, test or nothing"
        )
    return Division(*(texts == purpose for purpose in PURPOSES))


def _order(numbers: Array, place: Place) -> Array:
    """Rows in the order of their nodes' numbers, which must be all from 0 on."""
    n = len(numbers)
    outside = (numbers < 0) | (numbers >= n)
    if outside.any():
        row = int(outside.argmax())
        raise place.fault("bad-data", f"row {row} is node {numbers[row]}, and {n} nodes are 0 to {n - 1}",
                          hint="number the nodes from 0")  # fmt: skip
    twice = np.bincount(numbers, minlength=n) > 1
    if twice.any():
        raise place.fault(
            "duplicate-ids", f"node {int(twice.argmax())} is there more than once", hint="keep one of them"
        )
    return np.argsort(numbers)
