"""A board as JSON, CSV and Parquet: the same numbers as on its page, one line for each entry, scenario and axis."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from unlearnbench.leaderboard.board import Board, Ranking, Row
from unlearnbench.leaderboard.site.text import cell
from unlearnbench.plugins import printable
from unlearnbench.statistics import Estimate

COLUMNS = {
    "suite": "text", "division": "text", "place": "text", "submission": "text", "unlearner": "text", "level": "text",
    "retracted": "text", "flags": "text", "rank": "number", "rank_low": "number", "rank_high": "number",
    "scenario": "text", "axis": "text", "measure": "text", "key": "text", "subject": "text", "n": "count",
    "value": "number", "value_low": "number", "value_high": "number", "distance": "number", "distance_low": "number",
    "distance_high": "number", "axis_rank": "number", "layer": "count", "from_attack": "text",
}  # fmt: skip
"""Columns and what stands in them; nothing where there is none."""


def as_json(board: Board) -> bytes:
    """The whole board; of records their ids."""
    text = json.dumps(board.to_json(), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return f"{text}\n".encode()


def as_csv(board: Board) -> bytes:
    """One line for each entry, scenario and axis; text that a spreadsheet would calculate has a ' before it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines(board):
        writer.writerow([cell(line[name]) if isinstance(line.get(name), str) else line.get(name) for name in COLUMNS])
    return stream.getvalue().encode()


def as_parquet(board: Board) -> bytes:
    """The lines of the CSV file with types."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    types = {"text": pa.string(), "number": pa.float64(), "count": pa.int64()}
    table = pa.Table.from_pylist(
        list(lines(board)), schema=pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    )
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd")
    return stream.getvalue()


def lines(board: Board) -> Iterator[dict[str, Any]]:
    """The lines, in the order of the board; original and gold last."""
    for ranking in board.rankings:
        for row in ranking.rows:
            yield from _row(board, ranking, row)
    for bound in board.bounds:
        axis = board.suite.part(bound.scenario).axis(bound.axis)
        yield _text(
            suite=board.suite.name,
            scenario=bound.scenario,
            axis=bound.axis,
            measure=axis.measure,
            key=axis.key,
            subject=bound.subject,
        ) | {"n": bound.value.n, **_ends("value", bound.value)}


def _row(board: Board, ranking: Ranking, row: Row) -> Iterator[dict[str, Any]]:
    entry = row.entry
    shared: dict[str, Any] = _text(
        suite=board.suite.name,
        division=ranking.division,
        place=row.place,
        submission=entry.submission,
        unlearner=entry.unlearner,
        level=entry.level,
        retracted=entry.retracted,
        flags="; ".join(sorted({flag.code for flag in entry.flags})),
        subject="unlearned",
    ) | (_ends("rank", row.rank) if row.rank else {})
    for part in board.suite.parts:
        place = {"scenario": part.scenario, "layer": row.layers.get(part.scenario)}
        for axis in part.axes:
            reading = {"axis": axis.name, "measure": axis.measure, "key": axis.key}
            if axis.name == "cost":
                if cost := row.costs.get(part.scenario):
                    yield {**shared, **place, **reading, "n": cost.n, **_ends("value", cost)}
            elif found := row.cell(part.scenario, axis.name):
                yield {
                    **shared,
                    **place,
                    **reading,
                    "n": found.distance.n,
                    **_ends("value", found.value),
                    **_ends("distance", found.distance),
                    "axis_rank": found.rank,
                    **_text(from_attack=found.from_attack),
                }


def _ends(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _text(**values: str | None) -> dict[str, Any]:
    """Texts without control characters; none stays none."""
    return {name: None if value is None else printable(value) for name, value in values.items()}
