"""scikit-learn's own copies of three data sets, and tables of the user's own."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import Component, Data, DataJob, Splits
from unlearnbench.builtin.plugin import CsvParams, SplitParams

Array = npt.NDArray[Any]


def _splits(
    x: Array,
    y: Array,
    names: tuple[str, ...],
    seed: int,
    *,
    test_size: float | int,
    train_size: int | None = None,
    scale: bool = False,
    columns: dict[str, tuple[Array, tuple[str, ...]]] | None = None,
) -> Splits:
    """Divide rows into stratified training and test rows; scaling is fitted on the training rows alone."""
    rows = np.arange(len(x))
    try:
        train, test = train_test_split(rows, test_size=test_size, train_size=train_size, random_state=seed, stratify=y)
    except ValueError as problem:
        raise DataError("bad-split", str(problem), hint="ask for fewer rows or drop rare classes") from problem
    train, test = np.sort(train), np.sort(test)
    if scale:
        scaler = StandardScaler().fit(x[train])
        x = scaler.transform(x)

    def part(index: Array) -> Data:
        return Data(
            x=torch.from_numpy(np.ascontiguousarray(x[index], dtype=np.float32)),
            y=torch.from_numpy(y[index].astype(np.int64)),
            ids=torch.from_numpy(index.astype(np.int64)),
            outputs=names,
            columns={k: torch.from_numpy(codes[index].astype(np.int64)) for k, (codes, _) in (columns or {}).items()},
            values={k: names for k, (_, names) in (columns or {}).items()},
        )

    return Splits(train=part(train), test=part(test))


class Digits(Component[SplitParams]):
    """Images [1, 8, 8] in [0, 1]; ids are positions in scikit-learn's copy."""

    def load(self, job: DataJob) -> Splits:
        digits = load_digits()
        names = tuple(str(n) for n in digits.target_names)
        x = (digits.images / 16).reshape(-1, 1, 8, 8)
        return _splits(x, digits.target, names, self.p.split_seed, test_size=self.p.test_fraction)


class BreastCancer(Component[SplitParams]):
    """Rows of 30 standardised numbers."""

    def load(self, job: DataJob) -> Splits:
        return _table(load_breast_cancer(), self.p)


class Wine(Component[SplitParams]):
    """Rows of 13 standardised numbers."""

    def load(self, job: DataJob) -> Splits:
        return _table(load_wine(), self.p)


def _table(bunch: Any, p: SplitParams) -> Splits:
    names = tuple(str(n) for n in bunch.target_names)
    return _splits(bunch.data, bunch.target, names, p.split_seed, test_size=p.test_fraction, scale=True)


class Csv(Component[CsvParams]):
    """A table whose inputs are numbers. Classes and groups may be any text; their values are sorted."""

    def load(self, job: DataJob) -> Splits:
        if not self.p.file:
            raise UsageError("bad-parameter", "names no file", where="csv.file", hint="--set csv.file=my.csv")
        path = job.file(self.p.file)
        frame = _read(path, self.p)
        for column in (self.p.label, *self.p.groups, *self.p.drop):
            if column not in frame:
                shown = ", ".join([str(name) for name in frame][:8])
                raise DataError(
                    "missing-column", f"no column {column!r}", where=path.name, hint=f"columns: {shown} ..."
                )
        labels = frame[self.p.label]
        if labels.isna().any():
            raise DataError("missing-values", f"{int(labels.isna().sum())} rows have no label", where=path.name,
                            hint="fill them in, or check that the file is whole")  # fmt: skip
        inputs = frame.drop(columns=[self.p.label, *self.p.groups, *self.p.drop])
        x = inputs.apply(pd.to_numeric, errors="coerce")
        if x.isna().any().any():
            column = x.columns[x.isna().any()][0]
            line = int(x[column].isna().to_numpy().argmax())
            raise DataError(
                "missing-values", f"row {line} of column {column!r} is not a number", where=path.name,
                hint="fill it in, or name the column in csv.drop or csv.groups",
            )  # fmt: skip
        codes, names = _codes(labels)
        if len(names) < 2:
            raise DataError("one-class", f"all rows have the label {names[0]!r}", where=path.name,
                            hint="name another column in csv.label")  # fmt: skip
        return _splits(
            x.to_numpy(),
            codes,
            names,
            self.p.split_seed,
            test_size=self.p.test_rows or self.p.test_fraction,
            train_size=self.p.train_rows,
            scale=self.p.scale == "standard",
            columns={group: _codes(frame[group]) for group in self.p.groups},
        )


def _codes(column: pd.Series[Any]) -> tuple[Array, tuple[str, ...]]:
    texts = column.astype(str)
    numeric = pd.to_numeric(texts, errors="coerce")
    names = sorted(texts.unique(), key=(lambda t: (float(t), t)) if not numeric.isna().any() else None)
    codes = {name: code for code, name in enumerate(names)}
    return texts.map(codes).to_numpy(), tuple(names)


def _read(path: Path, p: CsvParams) -> pd.DataFrame:
    options: dict[str, Any] = {"header": 0 if p.header else None, "sep": p.delimiter, "encoding": "utf-8"}
    try:
        if path.name.endswith((".tgz", ".tar.gz", ".tar")):
            with tarfile.open(path) as archive:
                stream = archive.extractfile(p.member)
                if stream is None:
                    raise KeyError(p.member)
                frame: pd.DataFrame = pd.read_csv(stream, **options)
        else:
            frame = pd.read_csv(path, **options)
    except KeyError as problem:
        raise DataError("missing-file", f"has no member {p.member!r}", where=path.name) from problem
    except (OSError, EOFError, tarfile.TarError, ValueError, pd.errors.ParserError) as problem:
        text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError("unreadable-file", text, where=path.name, hint="check the file and its delimiter") from problem
    frame.columns = [str(c) for c in frame.columns]
    return frame
