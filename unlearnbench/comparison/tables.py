"""Tables of papers from records: a block per data set and model, means over the requests of a fan-out.

A value of a block is the mean over requests (class=0 ... class=9) for each training seed, and the mean of these with
their standard deviation over training seeds. What a mean lacks is counted and said: one over other requests is not
comparable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.tables import TableColumn, TableSpec
from unlearnbench.comparison.comparable import labels, scene_parts, usable
from unlearnbench.comparison.document import LeftOut, Subject
from unlearnbench.comparison.fanout import Fan, Place, fan_of
from unlearnbench.comparison.series import Series, of_trainer
from unlearnbench.comparison.table_readings import ColumnReadings, RowKey, readings_of_columns
from unlearnbench.identity import digest
from unlearnbench.plugins import printable
from unlearnbench.record import Record, verify_document
from unlearnbench.statistics import nested_means


@dataclass(frozen=True)
class Cell:
    """One subject in one column, scaled as the column says.

    ``seeds`` holds the mean over requests by training seed, ``mean`` and ``sd`` are over these; ``sd`` needs two seeds.
    ``n`` counts the pairs of request and training seed with a value, ``without`` the runs whose reading has none.
    """

    mean: float | None
    sd: float | None
    n: int
    without: int
    seeds: Mapping[int, float]


@dataclass(frozen=True)
class TableRow:
    """A row: the original, the gold model or an unlearner by its label. ``runs`` are pairs of request and seed."""

    label: str
    subject: Subject
    cells: tuple[Cell, ...]
    runs: int
    missing: tuple[Place, ...]


@dataclass(frozen=True)
class Block:
    """The rows of one group of comparable records: the same data, model, recipe and kind of request."""

    dataset: str
    model: str
    kind: str
    requests: tuple[str, ...]
    train_seeds: tuple[int, ...]
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """What was run, in one line."""
        many = f"{len(self.requests)} requests" if len(self.requests) > 1 else self.requests[0]
        seeds = f"seed{'s' if len(self.train_seeds) > 1 else ''} {', '.join(map(str, self.train_seeds))}"
        return printable(f"{self.dataset} / {self.model} · {self.kind}: {many} · {seeds}")


@dataclass(frozen=True)
class FilledTable:
    """A paper's table with the numbers of records; ``left_out`` are those that do not count, with the reason."""

    spec: TableSpec
    blocks: tuple[Block, ...]
    left_out: tuple[LeftOut, ...]

    def to_json(self) -> dict[str, Any]:
        """The table as JSON; cells stand in the order of the columns."""
        blocks = [{**asdict(block), "title": block.title} for block in self.blocks]
        return {"table": self.spec.to_json(), "blocks": blocks, "left_out": [asdict(one) for one in self.left_out]}


def fill_table(spec: TableSpec, records: Iterable[Record]) -> FilledTable:
    """A paper's table from records.

    Raises:
        UsageError: no finished record has a reading of the table.
    """
    given = list(records)
    held, left_out = _held(given)
    blocks = []
    groups = _groups(held)
    for group in groups:
        good, lost = usable(group)
        left_out += lost
        block = _block(spec, group, good, _other_parts(group, groups)) if good else None
        if block is not None and any(cell.n or cell.without for row in block.rows for cell in row.cells):
            blocks.append(block)
        else:
            left_out += [LeftOut(str(r.path), str(r.document["id"]), "has no reading of the table") for r in good]
    if not blocks:
        measures = " ".join(f"--measure {name}" for name in dict.fromkeys(c.measure for c in spec.columns))
        which = "the record is not" if len(given) == 1 else f"none of {len(given)} records is"
        raise UsageError("no-fitting-records", f"{which} a complete run with a reading of this table",
                         where=f"table {spec.name}", hint=f"its columns are filled by {measures}")  # fmt: skip
    return FilledTable(spec, tuple(blocks), tuple(left_out))


def _held(records: Iterable[Record]) -> tuple[list[Record], list[LeftOut]]:
    """Records that say what they said when they were written, in a fixed order, and the others."""
    found, left_out = [], []
    for record in sorted(records, key=lambda record: (str(record.document["id"]), str(record.path))):
        try:
            verify_document(record)
            found.append(record)
        except DataError as problem:
            left_out.append(LeftOut(str(record.path), str(record.document["id"]), problem.message))
    return found, left_out


def _parts(record: Record) -> dict[str, Any]:
    """What the records of a block have in common: all but which requests they serve."""
    return {**scene_parts(record), "requests": [request["kind"] for request in record.document["requests"]]}


def _groups(records: Iterable[Record]) -> list[list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(digest(_parts(record)), []).append(record)
    return list(found.values())


def _place(record: Record) -> tuple[str, str]:
    spec = record.document["spec"]
    return str(spec["dataset"]["name"]), str(spec["model"]["name"])


def _other_parts(group: Sequence[Record], groups: Sequence[Sequence[Record]]) -> list[str]:
    """In which parts blocks of the same data set and model differ from this one."""
    mine, place = _parts(group[0]), _place(group[0])
    others = [_parts(other[0]) for other in groups if other is not group and _place(other[0]) == place]
    return [part for part in mine if any(other[part] != mine[part] for other in others)]


def _block(spec: TableSpec, group: Sequence[Record], good: Sequence[Record], differ: Sequence[str]) -> Block:
    """The rows of a group; ``good`` are its finished runs, the others tell which runs were meant to be."""
    fan = fan_of(group)
    records_of = _records_of_rows(spec, good)
    columns = readings_of_columns(spec.columns, records_of, good, fan)
    rows = tuple(_row(row, {fan.place(record) for record in mine}, columns, fan) for row, mine in records_of.items())
    dataset, model = _place(good[0])
    notes = [f"other blocks of {dataset} / {model} differ in {', '.join(differ)}"] if differ else []
    notes += [note for row in rows for note in _row_notes(row, spec.columns, fan)]
    notes += [note for column in columns for note in column.notes]
    notes += _hints(spec.columns, rows, good)
    return Block(
        dataset=printable(dataset),
        model=printable(model),
        kind=fan.kind,
        requests=fan.names,
        train_seeds=fan.seeds,
        rows=rows,
        notes=tuple(printable(note, 1000) for note in notes),
    )


def _records_of_rows(spec: TableSpec, good: Sequence[Record]) -> dict[RowKey, list[Record]]:
    """The records that each row is in: originals and golds by trainer, then the unlearners."""
    found: dict[RowKey, list[Record]] = {}
    trainers = sorted({str(r.document["trainer"]) for r in good}, key=lambda name: (name != "recipe", name))
    for trainer in trainers:
        mine = [record for record in good if record.document["trainer"] == trainer]
        for subject, heading in spec.subjects:
            found[printable(of_trainer(heading, trainer)), "gold" if subject == "gold" else "original"] = mine
    called = labels(good)
    for label in sorted(set(called.values())):
        found[printable(label), "unlearned"] = [record for record in good if called[str(record.path)] == label]
    return found


def _row(row: RowKey, runs: set[Place], columns: Sequence[ColumnReadings], fan: Fan) -> TableRow:
    cells = tuple(_cell(one.column, one.series.get(row, {})) for one in columns)
    return TableRow(*row, cells, len(runs), tuple(place for place in fan.places if place not in runs))


def _cell(column: TableColumn, by_request: Mapping[str, Series]) -> Cell:
    """The mean over requests for each training seed, then over training seeds."""
    values: dict[int, list[float]] = {}
    for series in by_request.values():
        for seed, value in nested_means(series.values).items():
            values.setdefault(seed, []).append(column.scale * value)
    seeds = {seed: fmean(values[seed]) for seed in sorted(values)}
    return Cell(
        mean=fmean(seeds.values()) if seeds else None,
        sd=stdev(seeds.values()) if len(seeds) > 1 else None,
        n=sum(map(len, values.values())),
        without=sum(len(series.missing) for series in by_request.values()),
        seeds=seeds,
    )


def _row_notes(row: TableRow, columns: Sequence[TableColumn], fan: Fan) -> Iterable[str]:
    """What the means of a row lack."""
    if row.missing:
        yield f"{row.label} lacks {fan.told(row.missing)}: its means are over other runs and not comparable"
    for column, cell in zip(columns, row.cells, strict=True):
        lacking = row.runs - cell.n
        unsaid = lacking - (cell.without if column.failures else 0)
        if (cell.n or cell.without) and unsaid > 0:
            yield f"{row.label} has no value of {column.heading} in {unsaid} of {row.runs} runs"


def _hints(columns: Sequence[TableColumn], rows: Sequence[TableRow], good: Sequence[Record]) -> Iterable[str]:
    """How columns would be filled that no row has anything in."""
    empty = [c for place, c in enumerate(columns) if not any(r.cells[place].n or r.cells[place].without for r in rows)]
    taken = {choice["name"] for record in good for choice in record.document["spec"]["measures"]}
    wanted = [column for column in empty if column.measure not in taken]
    if wanted:
        measures = " ".join(dict.fromkeys(f"--measure {column.measure}" for column in wanted))
        yield f"empty: {', '.join(column.heading for column in wanted)}; `{measures}` would fill {_them(wanted)}"
    for column in empty:
        if column not in wanted:
            yield f"empty: {column.heading}; measure {column.measure} took no reading {column.key} here"


def _them(columns: Sequence[TableColumn]) -> str:
    return "it" if len(columns) == 1 else "them"
