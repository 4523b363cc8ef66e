"""The pages: what is on each, put into templates that escape all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from unlearnbench import __version__
from unlearnbench.leaderboard.board import Board, Change, Entry, Ranking, Row
from unlearnbench.leaderboard.history import RECORDS
from unlearnbench.leaderboard.site.catalogue import board_measures, measures, unlearner_pages
from unlearnbench.leaderboard.site.entry import MOST_NAMED, Bounds, bounds_of, entry_values
from unlearnbench.leaderboard.site.feed import BEGINNING, items
from unlearnbench.leaderboard.site.figures import Drawings, figures_of
from unlearnbench.leaderboard.site.text import link, shortened, slugs
from unlearnbench.leaderboard.site.words import ACCESSES, DIVISIONS, LEVEL_WORDS
from unlearnbench.leaderboard.submission import LEVELS
from unlearnbench.leaderboard.suites import Part, Suite, suite, suite_names
from unlearnbench.plugins import printable
from unlearnbench.report.drawing import Drawing, interval, number
from unlearnbench.report.templates import FOLDER, environment

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""The content security policy: nothing inline, nothing from elsewhere, also for pages read from files."""


@dataclass(frozen=True)
class Listed:
    """A change with the page that it is about, if there is one."""

    date: str
    kind: str
    subject: str
    text: str
    href: str


class Pages:
    """All pages of a site; made once, so that names of files agree and templates are compiled once."""

    def __init__(self, boards: Sequence[Board], changes: Sequence[Change]) -> None:
        self.boards = boards
        self._changes = changes
        self._suites = self._fixed()
        names = {board.suite.name for board in boards} | {each.name for each in self._suites}
        self.slug_of_board = slugs(names)
        self._slug_of_unlearner = slugs(row.entry.unlearner for board in boards for row in board.rows)
        places = {(b.suite.name, row.entry.id): f"{b.suite.name}\0{row.entry.id}" for b in boards for row in b.rows}
        files = slugs(places.values())
        self._href_of_entry = {place: f"entries/{files[name]}.html" for place, name in places.items()}
        self._slug_of_measure = slugs(board_measures([*(board.suite for board in boards), *self._suites]))
        self._environment = self._ready()

    def _fixed(self) -> list[Suite]:
        """Suites that are installed, then those of boards made elsewhere."""
        installed = [suite(name) for name in suite_names()]
        known = {each.name for each in installed}
        return installed + [b.suite for b in self.boards if b.official and b.suite.name not in known]

    def _ready(self) -> Environment:
        made = environment((Path(__file__).parent / "templates", FOLDER))
        made.globals.update(
            policy=POLICY,
            version=__version__,
            levels=LEVEL_WORDS,
            level_of=LEVELS.index,
            divisions=DIVISIONS,
            accesses=ACCESSES,
            axes_of=lambda part: [axis.name for axis in part.axes if axis.name != "cost"],
            records=RECORDS,
            most_named=MOST_NAMED,
            number=number,
            interval=interval,
            link=link,
            shortened=lambda text, most=60: shortened(printable(text, 20_000), most),
            line_of=lambda text: Markup.escape("".join(c if c.isprintable() else " " for c in text)[:500]),
            paragraphs=lambda text: [line for line in text.splitlines() if line.strip()],
            short_number=lambda value: f"{value:.1f}".removesuffix(".0"),
            sortable=lambda value: "" if value is None else repr(float(value)),
            searched=_searched,
            flag_codes=lambda entry: sorted({flag.code for flag in entry.flags}),
            entered=lambda board: [row for row in board.rows if row.entry.division != "control"],
            first_of=_first,
            axis_rows=_axis_rows,
            band_rows=_band_rows,
            slug_of_board=self.slug_of_board,
            slug_of_unlearner=self._slug_of_unlearner,
            slug_of_measure=self._slug_of_measure,
            href_of_entry=self._href_of_entry,
        )
        return made

    def _page(self, template: str, section: str, root: str = "", **values: Any) -> bytes:
        text = self._environment.get_template(template).render(root=root, section=section, **values)
        return text.encode("utf-8", "replace")

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Every page with its path."""
        listed = [self._listed(change) for change in self._changes]
        yield "index.html", self._page("index.html", "Boards", boards=self.boards, changes=listed)
        yield "changes.html", self._page("changes.html", "Changes", changes=listed)
        yield "feed.xml", self._page("feed.xml", "", items=items(self._changes), beginning=BEGINNING)
        found = measures([*(board.suite for board in self.boards), *self._suites], self._slug_of_measure)
        yield "measures.html", self._page("measures.html", "Measures", measures=found)
        yield (
            "suites.html",
            self._page("suites.html", "Suites", suites=self._suites, board_names={b.suite.name for b in self.boards}),
        )
        yield from self._unlearners()
        with figures_of(self.boards, self.slug_of_board) as drawn:
            for board in self.boards:
                bounds = bounds_of(board)
                for row in board.rows:
                    yield self._href_of_entry[board.suite.name, row.entry.id], self._entry(board, row, bounds)
            for board in self.boards:
                slug = self.slug_of_board[board.suite.name]
                yield f"boards/{slug}.html", self._board(board, drawn(board))

    def _listed(self, change: Change) -> Listed:
        """A change; its link is to the only entry that it is about, or to the first of a submission."""
        for board in self.boards:
            for row in board.rows:
                if change.subject in (row.entry.id, row.entry.submission):
                    href = self._href_of_entry[board.suite.name, row.entry.id]
                    return Listed(change.date, change.kind, change.subject, change.text, href)
        return Listed(change.date, change.kind, change.subject, change.text, "")

    def _unlearners(self) -> Iterator[tuple[str, bytes]]:
        found = unlearner_pages(self.boards, self._slug_of_unlearner, self._href_of_entry)
        yield "unlearners.html", self._page("unlearners.html", "Unlearners", pages=found)
        for page in found:
            yield f"unlearners/{page.slug}.html", self._page("unlearner.html", "Unlearners", "../", page=page)

    def _board(self, board: Board, drawn: Drawings) -> bytes:
        values = bounds_of(board)
        bounds = [
            (part.scenario, axis.name, f"{axis.key} ({axis.measure})",
             values.get((part.scenario, axis.name, "original"), ""), values.get((part.scenario, axis.name, "gold"), ""),
             number(part.floor[axis.name]) if axis.name in part.floor else "")
            for part in board.suite.parts for axis in part.axes
            if (part.scenario, axis.name, "gold") in values or (part.scenario, axis.name, "original") in values
        ]  # fmt: skip
        return self._page(
            "board.html",
            "Boards",
            "../",
            board=board,
            bounds=bounds,
            groups=[(heading, [_marked(each) for each in drawings]) for heading, drawings in drawn],
            unlearners=sorted({row.entry.unlearner for row in board.rows}),
            slug_of_scenario=slugs(part.scenario for part in board.suite.parts),
            unit_of_cost=_unit_of_cost(board),
        )

    def _entry(self, board: Board, row: Row, bounds: Bounds) -> bytes:
        values = entry_values(board, row, bounds)
        return self._page("entry.html", "Boards", "../", board=board, row=row, **values)


def _marked(drawing: Drawing) -> dict[str, Any]:
    # The drawing was serialised by ElementTree, which escapes every text in it.
    return {**vars(drawing), "svg": Markup(drawing.svg)}  # noqa: S704


def _searched(entry: Entry) -> str:
    """What the filter of a board looks through."""
    words = (entry.label, entry.submission, *entry.statement.authors, *(flag.code for flag in entry.flags))
    return shortened(printable(" ".join((*words, "retracted" if entry.retracted else ""))).lower(), 400)


def _first(ranking: Ranking) -> list[Row]:
    """Those on the first place: several where they are not told apart."""
    return [row for row in ranking.rows if row.place == "1" or row.place.startswith("1-")][:6]


def _unit_of_cost(board: Board) -> str:
    axes = {(axis.measure, axis.key) for part in board.suite.parts for axis in part.axes if axis.name == "cost"}
    units = {
        str(reading["unit"])
        for row in board.rows[:1] for record in row.entry.records for reading in record.readings
        if (reading["measure"], reading["key"]) in axes
    }  # fmt: skip
    return f", {units.pop()}" if len(units) == 1 and units != {""} else ""


def _axis_rows(part: Part) -> list[tuple[str, ...]]:
    return [
        (axis.name, axis.key, axis.measure, number(part.floor[axis.name]) if axis.name in part.floor else "")
        for axis in part.axes
    ]


def _band_rows(part: Part) -> list[tuple[str, ...]]:
    return [(band.key, band.measure, _ends(band.original), _ends(band.gold)) for band in part.bands]


def _ends(ends: tuple[float, float]) -> str:
    return f"[{number(ends[0])}, {number(ends[1])}]"
