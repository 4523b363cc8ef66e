"""The page: what is said and drawn of every scenario, put into the template, which escapes all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from unlearnbench import __version__
from unlearnbench.comparison import Comparison, Contender, ReadingComparison, Row
from unlearnbench.plugins import printable
from unlearnbench.report.curves import draw_relearn, draw_roc, relearn_curves, roc_curves
from unlearnbench.report.drawing import Drawing, interval, looks, name_of, number, place_of, verdict
from unlearnbench.report.gaps import MOST, draw_gaps, gap_readings
from unlearnbench.report.heat_map_drawing import draw_heat_map
from unlearnbench.report.heat_maps import FanOut, HeatMap, HeatMaps
from unlearnbench.report.over_stream import OverStream, draw_stream
from unlearnbench.report.pareto import contests, draw_pareto, entries
from unlearnbench.report.templates import environment

DIRECTIONS = {"gold": "aim: gold's value", "higher": "higher is better", "lower": "lower is better"}

CONTENDERS = ("unlearner", "runs", "training seeds", "parameters", "came to nothing")
NO_GAPS = "No figure: no unlearner has a reading that gold has too.", "--measure accuracy"
NO_FRONT = (
    "No figure: it needs a reading on the forget set whose aim is gold's value, and one on test with a direction.",
    "--measure accuracy --measure run-cost",
)
NO_ROC = "No figure: no reading is a true positive rate at a false positive rate.", "--profile audit"
NO_RELEARN = "No figure: no reading follows the steps of relearning.", "--profile audit"


@dataclass(frozen=True)
class Figure:
    """A drawing with the place of its own on the page; the drawing is our markup, all else is text."""

    title: str
    svg: Markup
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Part:
    """Figures of one kind, what else there is to say, and what to run to have them."""

    title: str
    figures: tuple[Figure, ...]
    more: str
    option: str


@dataclass(frozen=True)
class Cell:
    """One subject under one reading."""

    value: str
    interval: str
    gap: str
    verdict: str
    tone: str


NOTHING = Cell("", "", "", "", "")


@dataclass(frozen=True)
class Line:
    """One reading of all subjects."""

    name: str
    detail: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Group:
    """All of the page about one scenario."""

    id: str
    title: str
    facts: tuple[str, ...]
    notes: tuple[str, ...]
    contender_columns: tuple[str, ...]
    contenders: tuple[tuple[str, ...], ...]
    subjects: tuple[str, ...]
    lines: tuple[Line, ...]
    places: tuple[Line, ...]
    findings: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


def render(comparisons: Sequence[Comparison], streams: Sequence[Sequence[OverStream]], maps: HeatMaps) -> str:
    """The page as HTML that needs nothing but itself.

    ``streams`` are the figures of each comparison's stream, ``maps`` those of rows and classes.
    """
    every = zip(comparisons, streams, maps.by_group, strict=True)
    groups = [_group(*each, f"s{place}") for place, each in enumerate(every, start=1)]
    across = [_across(each, f"across{place}") for place, each in enumerate(maps.fan_outs, start=1)]
    template = environment().get_template("page.html")
    return template.render(groups=groups, across=across, version=__version__)


def _group(comparison: Comparison, stream: Sequence[OverStream], maps: Sequence[HeatMap], name: str) -> Group:
    subjects = tuple(dict.fromkeys(row.label for reading in comparison.readings for row in reading.rows))
    lines = [(reading, _line(reading, subjects)) for reading in comparison.readings]
    findings = [(name_of(r), printable(r.conclusion)) for r in comparison.readings if r.conclusion and not place_of(r)]
    lost = any(each.lost for each in comparison.contenders)
    left_out = [printable(f"left out: {each.path}: {each.reason}") for each in comparison.left_out]
    return Group(
        id=name,
        title=printable(comparison.title),
        facts=_facts(comparison),
        notes=(*map(printable, comparison.notes), *left_out),
        contender_columns=CONTENDERS if lost else CONTENDERS[:-1],
        contenders=tuple(_contender(each)[: len(CONTENDERS) if lost else -1] for each in comparison.contenders),
        subjects=tuple(map(printable, subjects)),
        lines=tuple(line for reading, line in lines if not place_of(reading)),
        places=tuple(line for reading, line in lines if place_of(reading)),
        findings=tuple(findings),
        parts=(
            *_over_the_stream(comparison, stream, name),
            *_parts(comparison, name),
            *_rows_and_classes(maps, "Rows and classes", name),
        ),
    )


def _facts(comparison: Comparison) -> tuple[str, ...]:
    seeds = ", ".join(map(str, comparison.train_seeds))
    return (
        printable(f"data set {comparison.dataset}, model {comparison.model}"),
        f"training seed{'s' if len(comparison.train_seeds) != 1 else ''} {seeds}",
        f"{100 * comparison.confidence:g} % intervals of the mean over training seeds",
        f"pairs of unlearners compared by a {comparison.test} test, Holm's correction",
    )


def _contender(each: Contender) -> tuple[str, ...]:
    parameters = ", ".join(f"{name}={value}" for name, value in sorted(each.params.items()))
    lost = ", ".join(f"{count} {status}" for status, count in sorted(each.lost.items()))
    seeds = ", ".join(map(str, each.train_seeds))
    return tuple(map(printable, (each.label, str(len(each.runs)), seeds, parameters, lost)))


def _line(reading: ReadingComparison, subjects: Sequence[str]) -> Line:
    rows = {row.label: row for row in reading.rows}
    unit = f"{reading.unit}; " if reading.unit else ""
    detail = printable(f"{unit}{DIRECTIONS.get(reading.better, reading.better)}")
    cells = tuple(_cell(rows[label], reading) if label in rows else NOTHING for label in subjects)
    return Line(name_of(reading), detail, cells)


def _cell(row: Row, reading: ReadingComparison) -> Cell:
    missing = ", ".join(f"{count} {status}" for status, count in sorted(row.missing.items()))
    value = number(row.value.mean) if row.value.mean is not None else f"none ({missing or row.value.status})"
    if missing and row.value.mean is not None:
        value = f"{value} ({missing})"
    gap = "" if reading.basis != "gap" or row.subject == "gold" or row.gap.mean is None else f"{row.gap.mean:+.3g}"
    said = verdict(row, reading)
    tone = "leak" if said.startswith("leaks") else "mixed" if "leaks" in said else "fine"
    return Cell(printable(value), interval(row.value), gap, said, tone)


def _over_the_stream(comparison: Comparison, stream: Sequence[OverStream], name: str) -> tuple[Part, ...]:
    """One part of the page where there is a stream, none elsewhere."""
    look = looks(comparison)
    figures = tuple(_figure(draw_stream(each, look, f"{name}-stream{i}")) for i, each in enumerate(stream))
    more = "All other figures and tables are about the models after the last request."
    return (Part("Over the stream", figures, more, ""),) if figures else ()


def _across(fan_out: FanOut, name: str) -> Part:
    """What several scenarios together show: of each, the row of the class that it forgets."""
    (part,) = _rows_and_classes(fan_out.maps, f"Rows and classes, {printable(fan_out.title)}", name)
    return part


def _rows_and_classes(maps: Sequence[HeatMap], title: str, name: str) -> tuple[Part, ...]:
    """One part of the page where there are heat maps, none elsewhere."""
    figures = tuple(_figure(draw_heat_map(each, f"{name}-rows{i}")) for i, each in enumerate(maps))
    return (Part(title, figures, "", ""),) if figures else ()


def _parts(comparison: Comparison, name: str) -> tuple[Part, ...]:
    look = looks(comparison)
    gaps, roc, relearn = gap_readings(comparison), roc_curves(comparison), relearn_curves(comparison)
    fronts = [contest for contest in contests(comparison) if entries(contest)]
    more = f"{len(gaps) - MOST} more readings are in the table below." if len(gaps) > MOST else ""
    kinds: tuple[tuple[str, Iterable[Drawing], str, tuple[str, str]], ...] = (
        ("Gap to gold", (draw_gaps(r, look, f"{name}-gap{i}") for i, r in enumerate(gaps[:MOST])), more, NO_GAPS),
        ("Forgetting, utility, cost", (draw_pareto(c, look, f"{name}-front{i}") for i, c in enumerate(fronts)),
         "", NO_FRONT),
        ("Attacks", (draw_roc(c, look, f"{name}-roc{i}") for i, c in enumerate(roc)), "", NO_ROC),
        ("Relearning", (draw_relearn(c, look, f"{name}-relearn{i}") for i, c in enumerate(relearn)), "", NO_RELEARN),
    )  # fmt: skip
    parts = []
    for title, drawings, after, instead in kinds:
        figures = tuple(_figure(drawing) for drawing in drawings)
        parts.append(Part(title, figures, after, "") if figures else Part(title, (), *instead))
    return tuple(parts)


def _figure(drawing: Drawing) -> Figure:
    svg = Markup(drawing.svg)  # noqa: S704 - serialised by ElementTree, which escapes every text in it
    return Figure(drawing.title, svg, drawing.caption, drawing.columns, drawing.rows)
