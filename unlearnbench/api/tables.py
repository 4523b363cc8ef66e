"""Tables of papers: what a plugin says of a paper's table, so that records can be printed as the paper prints them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from unlearnbench.api.specs import Paper, is_name, paper_json

SUBJECT_ROWS = ("original", "gold")
"""Models that a table may have rows of besides the unlearners."""
RUNS = "runs"
"""Heading of the column that the host adds: how many runs stand behind a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumn:
    """A column: which reading of which measure it shows, and how it is printed.

    ``split`` and ``at`` (name and value of each coordinate, such as ``(("fpr", "0.01"),)``) are those of the reading;
    the last request of a stream goes without saying. Values are multiplied by ``scale`` (100 prints percent) and
    rounded to ``digits`` behind the point. With ``failures`` the number of runs whose reading has no value, such as a
    relearn time that was cut off, stands behind the mean in brackets.
    """

    heading: str
    measure: str
    reading: str
    split: str = ""
    at: tuple[tuple[str, str], ...] = ()
    scale: float = 1.0
    digits: int = 2
    failures: bool = False

    def __post_init__(self) -> None:
        if not _is_line(self.heading):
            raise ValueError(f"heading {self.heading!r} must be one printable line")
        if not is_name(self.measure):
            raise ValueError(f"measure {self.measure!r} of column {self.heading} is not the name of a measure")
        if not _is_line(self.reading):
            raise ValueError(f"column {self.heading} needs the name of a reading in one printable line")
        if not isinstance(self.split, str) or not self.split.isprintable():
            raise ValueError(f"split of column {self.heading} must be a printable text")
        if not _are_pairs(self.at) or len(dict(self.at)) < len(self.at):
            raise ValueError(f"at of column {self.heading} must be pairs of texts, each coordinate once")
        if "request" in dict(self.at):
            raise ValueError(f"at of column {self.heading} names a request; of streams the last one is shown")
        if not _is_number(self.scale) or not self.scale:
            raise ValueError(f"scale of column {self.heading} must be a number other than 0")
        if type(self.digits) is not int or not 0 <= self.digits <= 10:
            raise ValueError(f"digits of column {self.heading} must be a whole number from 0 to 10")
        if type(self.failures) is not bool:
            raise ValueError(f"failures of column {self.heading} must be true or false")

    @property
    def key(self) -> str:
        """The reading as it is written in messages: ``relearn.retain.step=10``."""
        return ".".join(filter(None, [self.reading, self.split, *(f"{name}={value}" for name, value in self.at)]))

    def to_json(self) -> dict[str, Any]:
        """The column as JSON."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return {**found, "at": dict(self.at)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """A table of a paper: its columns, and what the paper calls the original and the retrained (gold) model.

    ``subjects`` are pairs of ``original`` or ``gold`` and the heading of the row, in the order of the rows; the
    unlearners follow under their own names. Declaring a table computes nothing: its numbers come from records alone.
    """

    kind: ClassVar[str] = "table"

    name: str
    summary: str
    columns: tuple[TableColumn, ...]
    subjects: tuple[tuple[str, str], ...] = (("original", "original"), ("gold", "gold"))
    paper: Paper | None = None

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"name {self.name!r} must be lower-case words joined by '-' or '.'")
        if not _is_line(self.summary):
            raise ValueError(f"{self.name} needs a summary in one printable line")
        if not isinstance(self.columns, tuple) or not all(isinstance(c, TableColumn) for c in self.columns):
            raise ValueError(f"columns of {self.name} must be a tuple of TableColumn objects")
        if not self.columns:
            raise ValueError(f"{self.name} has no column")
        headings = [column.heading for column in self.columns]
        if len(set(headings)) < len(headings) or RUNS in headings:
            raise ValueError(f"columns of {self.name} must have headings of their own; {RUNS!r} is the host's")
        if not _are_pairs(self.subjects) or not all(_is_line(heading) for _, heading in self.subjects):
            raise ValueError(f"subjects of {self.name} must be pairs of a subject and a printable heading")
        for place in zip(*self.subjects, strict=True):
            if len(set(place)) < len(place):
                raise ValueError(f"subjects of {self.name} must name each model once, under a heading of its own")
        unknown = {subject for subject, _ in self.subjects} - set(SUBJECT_ROWS)
        if unknown:
            raise ValueError(f"subjects of {self.name}: {sorted(unknown)} not among {list(SUBJECT_ROWS)}")
        if self.paper is not None and not isinstance(self.paper, Paper):
            raise ValueError(f"paper of {self.name} must be a Paper")

    def to_json(self) -> dict[str, Any]:
        """The table's declaration as JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "summary": self.summary,
            "columns": [column.to_json() for column in self.columns],
            "subjects": [list(pair) for pair in self.subjects],
            "paper": None if self.paper is None else paper_json(self.paper),
        }


def _is_line(text: object) -> bool:
    return isinstance(text, str) and bool(text.strip()) and text.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_pairs(pairs: object) -> bool:
    return isinstance(pairs, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(t, str) and t.isprintable() for t in pair)
        for pair in pairs
    )
