"""Columns of CSV and Parquet files, as pyarrow reads them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv, parquet

from unlearnbench.api.runtime import one_line
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import Array

Kind = Literal["whole", "number", "text"]
"""int64 and float32, both without gaps; or text, empty where there is none."""
SUFFIXES = (".csv", ".csv.gz", ".parquet")

_ARROW = {"whole": pa.int64(), "number": pa.float32(), "text": pa.string()}
_ONE_THREAD = {"use_threads": False}  # errors tell the row then, and processor time is what it would be


@dataclass(frozen=True)
class Table:
    """A file and the names of its columns."""

    path: Path
    place: Place
    names: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, place: Place) -> Table:
        """Look at a file, which is Parquet if its name says so and CSV otherwise.

        Raises:
            DataError: it cannot be read, or two columns have one name.
        """
        with one_line("unreadable-file", "cannot be read", where=place.where, hint=place.hint):
            if path.suffix == ".parquet":
                names = [name for name in parquet.read_schema(path).names if not name.startswith("__index_level_")]
            else:
                with csv.open_csv(str(path)) as reader:
                    names = reader.schema.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise place.fault("bad-data", f"has two columns {twice[0]!r}")
        return cls(path, place, tuple(names))

    def columns(self, kinds: Mapping[str, Kind]) -> dict[str, Array]:
        """Columns by name, each [rows].

        Raises:
            DataError: a column is not there, has gaps, or holds something else.
        """
        missing = [name for name in kinds if name not in self.names]
        if missing:
            shown = ", ".join(self.names[:8])
            raise self.place.fault("missing-column", f"no column {missing[0]!r}", hint=f"columns: {shown} ...")
        with one_line("unreadable-file", "cannot be read", where=self.place.where, hint=self.place.hint):
            if self.path.suffix == ".parquet":
                table = parquet.read_table(self.path, columns=list(kinds), **_ONE_THREAD)
            else:
                table = csv.read_csv(
                    str(self.path),
                    read_options=csv.ReadOptions(**_ONE_THREAD),
                    convert_options=csv.ConvertOptions(
                        include_columns=list(kinds), column_types={name: _ARROW[kind] for name, kind in kinds.items()}
                    ),
                )
        return {name: _array(table[name], name, kind, self.place) for name, kind in kinds.items()}


def plain(path: Path, kind: Literal["whole", "number"], place: Place) -> Array:
    """A CSV file without a header as a table [rows, columns] of int64 or float32; a gap is NaN in the latter.

    Raises:
        DataError: it is not such a file.
    """
    with one_line("unreadable-file", "is not a table of numbers", where=place.where, hint=place.hint):
        with gzip.open(path, "rt", encoding="ascii") if path.suffix == ".gz" else path.open(encoding="ascii") as text:
            width = text.readline().count(",") + 1
        table = csv.read_csv(
            str(path),
            read_options=csv.ReadOptions(autogenerate_column_names=True, **_ONE_THREAD),
            convert_options=csv.ConvertOptions(column_types={f"f{k}": _ARROW[kind] for k in range(width)}),
        )
    found = np.empty((table.num_rows, width), dtype=np.int64 if kind == "whole" else np.float32)
    for k, column in enumerate(table.columns):
        if kind == "whole" and column.null_count:
            raise place.fault("missing-values", f"row {_first_gap(column)} has a gap")
        found[:, k] = column.to_numpy()
    return found


def _array(column: Any, name: str, kind: Kind, place: Place) -> Array:
    stored = column.type
    if kind == "text":
        if pa.types.is_floating(stored):
            column = pa.chunked_array([pa.array(chunk.to_numpy(zero_copy_only=False), from_pandas=True)
                                       for chunk in column.chunks], stored)  # fmt: skip
        with one_line("bad-data", f"column {name!r} holds {stored}, not text", where=place.where, hint=place.hint):
            texts = column.cast(pa.string())
        return np.array(["" if text is None else text for text in texts.to_pylist()], dtype=np.str_)
    numbers = pa.types.is_integer(stored) or (
        kind == "number" and (pa.types.is_floating(stored) or pa.types.is_boolean(stored))
    )
    if not numbers:
        wanted = "whole numbers" if kind == "whole" else "numbers"
        raise place.fault("bad-data", f"column {name!r} holds {stored}, not {wanted}")
    if column.null_count:
        raise place.fault("missing-values", f"row {_first_gap(column)} of column {name!r} has a gap",
                          hint="fill it in")  # fmt: skip
    with np.errstate(over="ignore"):
        return np.asarray(column.to_numpy()).astype(np.int64 if kind == "whole" else np.float32)


def _first_gap(column: Any) -> int:
    return int(np.asarray(column.is_null().to_numpy(zero_copy_only=False)).argmax())
