"""MoleculeNet: molecules from the SMILES in its CSV files, with the features of PyTorch Geometric and rdkit."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Component, DataJob, Graphs, Splits, download, one_line, require_file
from unlearnbench_pyg.plugin import MoleculeParams
from unlearnbench_pyg.rows import Annotated, both_ways, held_out, to_splits


class Layout(NamedTuple):
    """A CSV file: its name, the column of the SMILES, and those of the targets (empty: all but ``other``)."""

    file: str
    smiles: str = "smiles"
    targets: tuple[str, ...] = ()
    other: tuple[str, ...] = ("mol_id",)


LAYOUTS = {
    "bace": Layout("bace.csv", smiles="mol", targets=("Class",)),
    "bbbp": Layout("BBBP.csv", targets=("p_np",)),
    "clintox": Layout("clintox.csv"),
    "hiv": Layout("HIV.csv", targets=("HIV_active",)),
    "muv": Layout("muv.csv"),
    "pcba": Layout("pcba.csv"),
    "sider": Layout("sider.csv"),
    "tox21": Layout("tox21.csv"),
    "toxcast": Layout("toxcast_data.csv"),
}
_WHERE = "molecule-net"


class Table(NamedTuple):
    """SMILES [n], names of the targets, and whether a molecule has them [n, t]: 0, 1, or NaN where nobody knows."""

    smiles: list[str]
    targets: tuple[str, ...]
    labels: Tensor


class Molecules(Component[MoleculeParams]):
    """Molecules; the id of one is its position in the CSV file, from 0, whatever is left out."""

    def load(self, job: DataJob) -> Splits:
        """Read the CSV file and make graphs of the molecules that are annotated.

        Raises:
            DataError: rdkit is not installed, the file is missing or damaged, or there is one class only.
            UsageError: a parameter names no target.
        """
        if importlib.util.find_spec("rdkit") is None:
            raise DataError("missing-extra", "needs rdkit to read molecules", where=_WHERE,
                            hint='pip install "unlearnbench-pyg[molecules]"')  # fmt: skip
        layout, folder = LAYOUTS[self.p.dataset], self.folder
        hint = f"run `unlearnbench data fetch {_WHERE} --set dataset={self.p.dataset}`"
        path = require_file(job, f"{folder}/{layout.file}", hint)
        table = read_table(path, layout, f"{folder}/{layout.file}", hint)
        y, outputs = self._annotations(table, f"{folder}/{layout.file}")
        rows = (~y.isnan()).any(1).nonzero().flatten() if y.is_floating_point() else (y >= 0).nonzero().flatten()
        graphs, read = self._graphs([table.smiles[i] for i in rows.tolist()], rows, f"{folder}/{layout.file}")
        rows = rows[read]
        if not y.is_floating_point() and len(y[rows].unique()) < 2:
            raise DataError("one-class", f"all molecules have the same {outputs[1]!r}", where=folder,
                            hint=f"set {_WHERE}.target to another column")  # fmt: skip
        return to_splits(Annotated(graphs, y[rows], rows, outputs), held_out(y[rows], self.p, folder))

    def fetch(self, job: DataJob) -> None:
        """Download the CSV file from where PyTorch Geometric takes it, unless it is there.

        Raises:
            DataError: no connection.
        """
        from unlearnbench_pyg.library import MoleculeNet  # seconds to import, and only the address is needed

        name = LAYOUTS[self.p.dataset].file
        if not (Path(job.root) / self.folder / name).is_file():
            source = MoleculeNet.names[self.p.dataset][1]
            packed = source.endswith(".gz")
            download(job, MoleculeNet.url.format(source), self.folder, partial(_unpacked, name=name, packed=packed))

    @property
    def folder(self) -> str:
        """Where PyTorch Geometric keeps the CSV file, below ``molecule-net``."""
        return f"{_WHERE}/{self.p.dataset}/raw"

    def _annotations(self, table: Table, where: str) -> tuple[Tensor, tuple[str, ...]]:
        """Labels [n, t] float32 of all targets; or classes [n] of one, -1 where it is not known."""
        p = self.p
        if p.task == "multi-label":
            return table.labels, table.targets
        target = p.target or (table.targets[0] if len(table.targets) == 1 else "")
        if target not in table.targets:
            what = f"no target {target!r}" if target else f"has {len(table.targets)} targets, and none is chosen"
            known = ", ".join(table.targets[:12])
            raise UsageError("bad-parameter", what, where=f"{_WHERE}.target", hint=f"targets of {where}: {known}")
        labels = table.labels[:, table.targets.index(target)]
        return labels.nan_to_num(-1).long(), (f"not {target}", target)

    def _graphs(self, smiles: list[str], rows: Tensor, where: str) -> tuple[Graphs, Tensor]:
        """Graphs of the SMILES that can be read, and which those are [n] bool."""
        from unlearnbench_pyg.library import from_smiles, x_map

        sizes = [len(values) for values in x_map.values()]
        nodes, edges, read = [], [], torch.ones(len(smiles), dtype=torch.bool)
        for i, text in enumerate(smiles):
            try:
                molecule = from_smiles(text)  # without atoms where rdkit cannot read it
            except ValueError:  # an atom has a property outside the lists of PyTorch Geometric
                molecule = None
            if molecule is None or not molecule.num_nodes:
                if self.p.unreadable == "error":
                    what = f"molecule {int(rows[i])}: {text!r} cannot be read"
                    raise DataError("unreadable-smiles", what, where=where,
                                    hint=f"--set {_WHERE}.unreadable=leave-out")  # fmt: skip
                read[i] = False
                continue
            columns = [one_hot(column, size) for column, size in zip(molecule.x.T, sizes, strict=True)]
            nodes.append(torch.cat(columns, 1).float())
            edges.append(both_ways(molecule.edge_index, molecule.num_nodes))
        if not nodes:
            raise DataError(
                "bad-data", "has no annotated molecule that can be read", where=where, hint="replace the file"
            )
        counts = (torch.tensor([len(part) for part in nodes]), torch.tensor([part.shape[1] for part in edges]))
        return Graphs(torch.cat(nodes), torch.cat(edges, 1), *counts), read


def read_table(path: Path, layout: Layout, where: str, hint: str) -> Table:
    """Read a CSV file of MoleculeNet by the names of its columns.

    Raises:
        DataError: not such a file.
    """
    with one_line("unreadable-file", "is not CSV in UTF-8", where=where, hint=hint):
        lines = [line for line in csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")) if line]
    header = lines[0] if lines else []
    targets = layout.targets or tuple(name for name in header if name not in (layout.smiles, *layout.other))
    missing = [name for name in (layout.smiles, *targets) if name not in header]
    if missing or not targets:
        raise DataError("missing-column", f"no column {(missing or ['of a target'])[0]!r}", where=where, hint=hint)
    at = [header.index(name) for name in targets]
    values = {"": float("nan"), "0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0}
    labels = []
    for k, line in enumerate(lines[1:]):
        if len(line) != len(header):
            raise DataError("unreadable-file", f"molecule {k} has {len(line)} fields, not {len(header)}", where=where,
                            hint=hint)  # fmt: skip
        strange = [line[column] for column in at if line[column] not in values]
        if strange:
            raise DataError(
                "bad-data", f"molecule {k} has the label {strange[0]!r}, not 0 or 1", where=where, hint=hint
            )
        labels.append([values[line[column]] for column in at])
    if not labels:
        raise DataError("bad-data", "has no molecules", where=where, hint=hint)
    smiles = [line[header.index(layout.smiles)] for line in lines[1:]]
    return Table(smiles, targets, torch.tensor(labels))


def _unpacked(arrived: Path, name: str, *, packed: bool) -> dict[str, bytes]:
    content = arrived.read_bytes()
    return {name: gzip.decompress(content) if packed else content}
