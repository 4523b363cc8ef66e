"""What a figure of the page consists of, and how numbers and names are written in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unlearnbench.comparison import Comparison, Estimate, ReadingComparison, Row
from unlearnbench.plugins import printable
from unlearnbench.report.svg import SERIES, colour

DASHES = ("-", "--", "-.", ":")
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Drawing:
    """A figure with its heading, the words below it and its numbers as a table."""

    title: str
    svg: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Look:
    """How a series is drawn: never by colour alone."""

    colour: str
    dash: str
    mark: str
    width: float = 1.8


Looks = Mapping[str, Look]


def looks(comparison: Comparison) -> Looks:
    """A look for every subject, the same in all figures of a group."""
    rows = {row.label: row for reading in comparison.readings for row in reading.rows}
    found: dict[str, Look] = {}
    for label, row in rows.items():
        if row.subject == "gold":
            found[label] = Look(colour("ink"), "-", "*", 2.4)
        elif row.subject == "original":
            found[label] = Look(colour("muted"), "--", "X", 2.0)
    for place, label in enumerate(label for label in rows if label not in found):
        again = place // len(SERIES)
        mark = MARKS[(place + again) % len(MARKS)]  # points have no dash: a colour that comes again has another mark
        found[label] = Look(colour(SERIES[place % len(SERIES)]), DASHES[again % len(DASHES)], mark)
    return found


def name_of(reading: ReadingComparison) -> str:
    """``u-lira: auc on forget``, with what a flat name says beyond it: ``u-lira: tpr on forget, fpr=0.01``."""
    place = place_of(reading)
    whole = named(reading.measure, reading.variant, reading.name, reading.split)
    return f"{whole}, {printable(place)}" if place else whole


def named(measure: str, variant: str, name: str, split: str) -> str:
    """A reading in words; the measure's parameters where they differ between records, its name only once."""
    detail, where = f" ({variant})" if variant else "", f" on {split}" if split else ""
    return printable(f"{name}{detail}{where}" if measure == name else f"{measure}{detail}: {name}{where}")


def place_of(reading: ReadingComparison) -> str:
    """What a flat name says beyond name and split: ``fpr=0.01``. Empty for a reading about all rows."""
    prefix = ".".join(part for part in (reading.name, reading.split) if part)
    return reading.key.removeprefix(prefix).removeprefix(".")


def at(reading: ReadingComparison, axis: str) -> float | None:
    """Where a reading stands on an axis such as ``fpr`` or ``step``; None when it stands nowhere, or elsewhere too."""
    found = re.fullmatch(rf"{axis}=(\d+(?:\.\d+)?(?:e-?\d{{1,2}})?)", place_of(reading))
    return float(found[1]) if found else None


def number(value: float | None) -> str:
    """As many digits as a person reads, without an exponent where none is needed."""
    if value is None:
        return "none"
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.1e}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.4f}"


def mean(estimate: Estimate) -> float:
    """The mean as a place on an axis; what has none is not drawn."""
    return float("nan") if estimate.mean is None else estimate.mean


def interval(estimate: Estimate) -> str:
    """Both ends of the interval, or nothing."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def written(estimate: Estimate) -> str:
    """Mean and interval."""
    return f"{number(estimate.mean)} {interval(estimate)}".strip()


def verdict(row: Row, reading: ReadingComparison) -> str:
    """What the host found, in words, most seeds first: both sides of gold tell something of the forgotten rows."""
    runs = sum(row.verdicts.values())
    said = []
    for word, count in sorted(row.verdicts.items(), key=lambda item: (-item[1], item[0])):
        text = f"leaks: {word}" if reading.better == "gold" and word in ("above gold", "below gold") else word
        said.append(printable(text) if count == runs else printable(f"{text} ({count} of {runs})"))
    return ", ".join(said)


def short(text: str, length: int = 18) -> str:
    """A name for a figure: its table has the whole of it."""
    clean = printable(text)
    return clean if len(clean) <= length else f"{clean[: length - 1]}…"


def pad(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Limits of an axis around values."""
    low, high = min(values), max(values)
    room = (high - low) * share or max(abs(high), 1.0) * share
    return low - room, high + room


def sparse(value: float, _: float) -> str:
    """Labels of a logarithmic axis at 1, 2 and 5, so that they do not run into each other."""
    text = f"{value:g}"
    return text if text.strip("0.")[:1] in ("1", "2", "5") and len(text.strip("0.")) == 1 else ""
