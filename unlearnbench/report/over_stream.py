"""A stream over its requests: accuracy, what is certified, and CPU time of each request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from unlearnbench.comparison.comparable import labels, usable
from unlearnbench.comparison.series import Seed, of_trainer
from unlearnbench.plugins import printable
from unlearnbench.record import Record
from unlearnbench.report.drawing import Drawing, Look, Looks, number, short
from unlearnbench.report.svg import blank, colour, inline, legend, style
from unlearnbench.statistics import nested_means
from unlearnbench.stream_rows import ServedRow, evenly, stream_rows
from unlearnbench.tracking.stream_plot import MARKED, RESIDUAL, tidy

MOST_PLACES = 12
"""Requests in the table below a figure."""
PLAIN = Look(colour("muted"), "-", "")
"""Of a subject that no reading of the page is about."""
DASHES = {"bound": "-", RESIDUAL: "", "budget": ":"}
"""A line between residuals would cross the bound where nothing was measured."""

_ACCURACY = "Accuracy on test over the stream"
_CERTIFICATE = "Certificate over the stream"
_TIME = "CPU seconds per request"
_CAPTIONS = {
    _ACCURACY: "After every measured request, the unlearned models beside gold, trained anew on what is left then.",
    _CERTIFICATE: (
        "A bound must stay below its budget, and what is really left below the bound. The axis is logarithmic; what is "
        "0 has no place on it."
    ),
    _TIME: (
        "What serving a request took; gold is what training anew took instead. The axis is logarithmic; what is 0 has "
        "no place on it."
    ),
}


_UNITS = {
    _ACCURACY: "accuracy",
    _CERTIFICATE: "bound and what is left (logarithmic)",
    _TIME: "CPU seconds (logarithmic)",
}


@dataclass(frozen=True)
class Strand:
    """One line: whose look it has, what it is beyond that, its values by request and seeds."""

    label: str
    what: str
    values: dict[int, dict[Seed, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.label}: {self.what}" if self.what else self.label

    @property
    def points(self) -> dict[int, float]:
        """Means over training seeds, by request."""
        return {request: fmean(nested_means(found).values()) for request, found in sorted(self.values.items())}

    @property
    def seeds(self) -> int:
        return len({seed[0] for found in self.values.values() for seed in found})


@dataclass(frozen=True)
class OverStream:
    """A figure: its heading and its lines."""

    title: str
    strands: tuple[Strand, ...]


def stream_figures(group: Sequence[Record]) -> tuple[OverStream, ...]:
    """What there is to draw of the streams of one scenario's records; nothing where they are no streams."""
    called = labels(group)
    found: dict[str, dict[tuple[str, str], Strand]] = {}
    for record in usable(group)[0]:
        seeds = record.document["spec"]["seeds"]
        trainer = str(record.document["trainer"])
        for row in stream_rows(record.document):
            for title, subject, what, value in _numbers(row):
                label = called[str(record.path)] if subject == "unlearned" else of_trainer(subject, trainer)
                strand = found.setdefault(title, {}).setdefault((label, what), Strand(label, what))
                seed = (seeds["train"], seeds["unlearn"] if subject == "unlearned" else 0, seeds["measure"])
                strand.values.setdefault(row.request, {}).setdefault(seed, value)
    return tuple(OverStream(title, tuple(found[title].values())) for title in _CAPTIONS if title in found)


def _numbers(row: ServedRow) -> Iterator[tuple[str, str, str, float]]:
    """Figure, subject, what beyond the subject, value."""
    for subject in ("original", "gold", "unlearned"):
        if (subject, "test") in row.accuracy:
            yield _ACCURACY, subject, "", row.accuracy[subject, "test"]
    certified = {"bound": row.bound, RESIDUAL: row.residual, "budget": row.budget}
    yield from ((_CERTIFICATE, "unlearned", what, value) for what, value in certified.items() if value is not None)
    if row.gold_cpu_s is not None:
        yield _TIME, "gold", "", row.gold_cpu_s
    yield _TIME, "unlearned", "", row.cpu_s


def draw_stream(figure: OverStream, look: Looks, name: str) -> Drawing:
    """One line for each strand, means over seeds."""
    log = figure.title != _ACCURACY
    with style():
        columns = 1 if figure.title == _CERTIFICATE else 2  # its names are long
        drawn = blank(2.9 + 0.27 * len(figure.strands) / columns)
        axes = drawn.add_subplot()
        if log:
            axes.set_yscale("log")
        for strand in figure.strands:
            points = {x: y for x, y in strand.points.items() if y > 0 or not log}
            mine = look.get(strand.label, PLAIN)
            axes.plot(
                list(points), list(points.values()), linestyle=DASHES.get(strand.what, mine.dash), color=mine.colour,
                marker=_mark(strand, mine, len(points)), linewidth=mine.width, markersize=4,
                label=short(strand.name, 30),
            )  # fmt: skip
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("request")
        axes.set_title(_UNITS[figure.title])
        tidy(axes)
        legend(drawn, axes, columns)
        svg = inline(drawn, name, figure.title, _description(figure))
    return Drawing(figure.title, svg, f"Means over seeds. {_CAPTIONS[figure.title]}", *_table(figure))


def _mark(strand: Strand, mine: Look, points: int) -> str:
    if strand.what == RESIDUAL:
        return "v"
    return mine.mark if points <= MARKED and strand.what != "budget" else ""


def _table(figure: OverStream) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    every = sorted({request for strand in figure.strands for request in strand.values})
    places = sorted({every[0], every[-1], *evenly(every[1:-1], MOST_PLACES - 2)})
    rows = []
    for strand in figure.strands:
        points = strand.points
        cells = (number(points[request]) if request in points else "none" for request in places)
        rows.append((printable(strand.name), *cells, str(strand.seeds)))
    return ("model", *(f"request {request}" for request in places), "seeds"), tuple(rows)


def _description(figure: OverStream) -> str:
    """The figure in words: where every line begins and ends."""
    said = []
    for strand in figure.strands:
        points = list(strand.points.items())
        (first, start), (last, end) = points[0], points[-1]
        said.append(f"{printable(strand.name)} {number(start)} at request {first} and {number(end)} at {last}")
    return f"{figure.title}, mean over seeds: {'; '.join(said)}."
