"""A paper's table as text: in cells for people, and as CSV, LaTeX or HTML through pandas."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.api.errors import UsageError
from unlearnbench.api.tables import RUNS, TableColumn
from unlearnbench.comparison.tables import Block, Cell, FilledTable, TableRow

if TYPE_CHECKING:
    import pandas as pd


def cell_text(column: TableColumn, cell: Cell) -> str:
    """Mean, standard deviation over training seeds, and in brackets how many runs have no value."""
    if cell.mean is None and not cell.without:
        return ""
    text = "-" if cell.mean is None else f"{cell.mean:.{column.digits}f}"
    if cell.sd is not None:
        text += f" ±{cell.sd:.{column.digits}f}"
    return f"{text} ({cell.without})" if column.failures else text


def runs_text(row: TableRow) -> str:
    """How many runs stand behind a row: ``30``, or ``28 of 30``."""
    return f"{row.runs} of {row.runs + len(row.missing)}" if row.missing else str(row.runs)


def headings(table: FilledTable) -> list[str]:
    """The headings of a block's columns, besides the labels of its rows."""
    return [*(column.heading for column in table.spec.columns), RUNS]


def cells(table: FilledTable, row: TableRow) -> list[str]:
    """The texts of a row."""
    return [*(cell_text(c, cell) for c, cell in zip(table.spec.columns, row.cells, strict=True)), runs_text(row)]


def format_of(path: Path) -> Callable[[FilledTable, Sequence[str]], str]:
    """How a file of this name is written, from the table and the captions of its blocks.

    Raises:
        UsageError: the name ends in none of .csv, .tex and .html.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError("bad-output", "a table is written as .csv, .tex or .html", where=str(path),
                         hint="end the name of the file after -o in one of the three")  # fmt: skip
    return _FORMATS[path.suffix.lower()]


def to_csv(table: FilledTable, captions: Sequence[str]) -> str:
    """Numbers for programs: a line for each row of each block, with mean, deviation and failures in columns apart."""
    import pandas as pd

    lines = [[block.title, *_numbers(table, row)] for block in table.blocks for row in block.rows]
    return pd.DataFrame(lines, columns=_number_headings(table)).to_csv(index=False, lineterminator="\n")


def _number_headings(table: FilledTable) -> list[str]:
    found = ["block", "row", "subject"]
    for column in table.spec.columns:
        found += [column.heading, f"{column.heading} sd"]
        found += [f"{column.heading} failures"] if column.failures else []
    return [*found, RUNS, "runs missing"]


def _numbers(table: FilledTable, row: TableRow) -> list[Any]:
    found: list[Any] = [row.label, row.subject]
    for column, cell in zip(table.spec.columns, row.cells, strict=True):
        found += [cell.mean, cell.sd]
        found += [cell.without if cell.n or cell.without else None] if column.failures else []
    return [*found, row.runs, len(row.missing)]


def to_latex(table: FilledTable, captions: Sequence[str]) -> str:
    """A tabular for each block (it needs booktabs), with caption and notes in comments above it."""
    parts = []
    for caption, block in zip(captions, table.blocks, strict=True):
        comments = [f"% {line}" for line in (caption, *block.notes)]
        parts.append("\n".join([*comments, _frame(table, block).to_latex(escape=True).replace("±", r"$\pm$")]))
    return "\n".join(parts)


def to_html(table: FilledTable, captions: Sequence[str]) -> str:
    """A page with a table for each block, which loads nothing from elsewhere."""
    head = '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">'
    parts = [head, f"<title>{html.escape(table.spec.name)}</title>"]
    for caption, block in zip(captions, table.blocks, strict=True):
        notes = [f"<p>{html.escape(note)}</p>" for note in block.notes]
        parts += [f"<h2>{html.escape(caption)}</h2>", _frame(table, block).to_html(border=0), *notes]
    return "\n".join([*parts, "</html>\n"])


_FORMATS: Mapping[str, Callable[[FilledTable, Sequence[str]], str]] = {
    ".csv": to_csv,
    ".tex": to_latex,
    ".html": to_html,
}


def _frame(table: FilledTable, block: Block) -> pd.DataFrame:
    import pandas as pd

    labels = [row.label for row in block.rows]
    return pd.DataFrame([cells(table, row) for row in block.rows], columns=headings(table), index=labels)
