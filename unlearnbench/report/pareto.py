"""Forgetting, utility and cost at once: which unlearners are beaten on all three by another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unlearnbench.comparison import Comparison, Estimate, ReadingComparison, Row
from unlearnbench.plugins import printable
from unlearnbench.report.drawing import (
    Drawing,
    Look,
    Looks,
    mean,
    name_of,
    number,
    pad,
    place_of,
    short,
    sparse,
    written,
)
from unlearnbench.report.gaps import gap_readings
from unlearnbench.report.svg import blank, colour, inline, legend, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIM = 0.35
"""Opacity of what is beaten."""


@dataclass(frozen=True)
class Contest:
    """The three readings that a front is drawn from; ``cost`` is missing where nothing was timed."""

    forgetting: ReadingComparison
    utility: ReadingComparison
    cost: ReadingComparison | None


@dataclass(frozen=True)
class Entry:
    """An unlearner in a contest. ``beaten_by`` names those at least as good in everything and better in something."""

    label: str
    forgetting: Estimate
    utility: Estimate
    cost: Estimate | None
    beaten_by: tuple[str, ...] = ()


def contests(comparison: Comparison) -> list[Contest]:
    """One contest for the strongest attack that was read, one for what the model still knows of the forget set."""
    utility = _utility(comparison)
    if utility is None:
        return []
    cost = next((r for r in comparison.readings if r.name == "cpu-time" and not place_of(r)), None)
    wanted = [r for r in gap_readings(comparison) if r.better == "gold" and r.split != utility.split]
    attacks = [r for r in wanted if r.name.endswith("auc")] or [r for r in wanted if _is_attack(r)]
    known = [r for r in wanted if r.split == "forget" and r not in attacks]
    known.sort(key=lambda r: r.name != "accuracy")
    return [Contest(found[0], utility, cost) for found in (attacks, known) if found]


def _is_attack(reading: ReadingComparison) -> bool:
    return any(row.verdicts for row in reading.rows)


def _utility(comparison: Comparison) -> ReadingComparison | None:
    """The accuracy on test, or else the first reading there with a direction of its own."""
    found = [
        r for r in comparison.readings if r.split == "test" and not place_of(r) and r.better in ("higher", "lower")
    ]
    found = [r for r in found if any(row.subject == "unlearned" and row.value.mean is not None for row in r.rows)]
    return min(found, key=lambda r: r.name != "accuracy", default=None)


def entries(contest: Contest) -> list[Entry]:
    """Every unlearner that has all readings of the contest."""
    found = []
    for row in contest.forgetting.rows:
        utility = _estimate(contest.utility, row.label)
        cost = _estimate(contest.cost, row.label)
        if row.subject != "unlearned" or row.distance.mean is None or utility is None:
            continue
        if contest.cost is None or cost is not None:
            found.append(Entry(row.label, row.distance, utility, cost))
    scores = {entry.label: _scores(entry, contest) for entry in found}
    return [
        Entry(e.label, e.forgetting, e.utility, e.cost, tuple(beating(e.label, scores))) for e in found
    ]  # fmt: skip


def beating(label: str, scores: Mapping[str, Sequence[float]]) -> Iterable[str]:
    """Those at least as low as ``label`` in every score and lower in one."""
    mine = scores[label]
    for other, theirs in scores.items():
        if theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True)):
            yield other


def _scores(entry: Entry, contest: Contest) -> tuple[float, ...]:
    """Lower is better."""
    sign = -1.0 if contest.utility.better == "higher" else 1.0
    means = [entry.forgetting.mean, sign * (entry.utility.mean or 0.0), entry.cost.mean if entry.cost else None]
    return tuple(mean for mean in means if mean is not None)


def _estimate(reading: ReadingComparison | None, label: str) -> Estimate | None:
    rows: Sequence[Row] = reading.rows if reading else ()
    return next((row.value for row in rows if row.label == label and row.value.mean is not None), None)


def draw_pareto(contest: Contest, look: Looks, name: str) -> Drawing:
    """Utility above, cost below, over the same distance to gold; what is beaten on all three is dim."""
    found = entries(contest)
    title = f"Forgetting, utility and cost, by {name_of(contest.forgetting)}"
    with style():
        panels = 2 if contest.cost else 1
        figure = blank(1.2 + 1.9 * panels + 0.12 * len(found))
        top = figure.add_subplot(panels, 1, 1)
        gold = [row.value for row in contest.utility.rows if row.subject == "gold" and row.value.mean is not None]
        for estimate in gold:
            top.plot(
                [0, 1],
                [mean(estimate)] * 2,
                ":",
                color=colour("ink"),
                label="gold",
                transform=top.get_yaxis_transform(),
            )
        for entry in found:
            _draw(top, look[entry.label], entry, entry.utility)
        _bounds(top, [e.forgetting for e in found], [*gold, *(e.utility for e in found)])
        if contest.utility.better == "lower":
            top.invert_yaxis()
        top.set_title(short(name_of(contest.utility), 44))
        low = top
        if contest.cost:
            low = figure.add_subplot(panels, 1, 2, sharex=top)
            low.set_title(f"CPU time{f', {short(contest.cost.unit, 8)}' if contest.cost.unit else ''} (logarithmic)")
            for entry in found:
                if entry.cost:
                    _draw(low, look[entry.label], entry, entry.cost)
            if all((e.cost.mean or 0) > 0 for e in found if e.cost):
                low.set_yscale("log")
                low.yaxis.set_major_formatter(sparse)
                low.yaxis.set_minor_formatter(sparse)
            top.tick_params(labelbottom=False)
        low.locator_params(axis="x", nbins=5)
        low.set_xlabel(short(f"|gap to gold|, {name_of(contest.forgetting)}", 48))
        legend(figure, top)
        svg = inline(figure, name, title, _description(found))
    better = "up" if contest.cost is None else "up in the first panel, down in the second"
    caption = (
        f"Better is left (as gold) and {better}. Strong marks are on the front; dim ones are matched or beaten in "
        "everything by another unlearner. Means over seeds decide, so look at the whiskers too."
    )
    columns = ("model", "|gap to gold|", name_of(contest.utility), "CPU time", "beaten by")
    return Drawing(title, svg, caption, columns, tuple(_line(entry) for entry in found))


def _draw(axes: Axes, mine: Look, entry: Entry, y: Estimate) -> None:
    alpha = DIM if entry.beaten_by else 1.0
    x = entry.forgetting
    if x.low is not None and x.high is not None:
        axes.plot([max(x.low, 0.0), x.high], [mean(y)] * 2, "-", color=mine.colour, alpha=alpha, linewidth=1.2)
    if y.low is not None and y.high is not None:
        axes.plot([mean(x)] * 2, [y.low, y.high], "-", color=mine.colour, alpha=alpha, linewidth=1.2)
    label = short(entry.label)
    axes.plot([mean(x)], [mean(y)], mine.mark, color=mine.colour, alpha=alpha, markersize=8, label=label)


def _bounds(axes: Axes, forgetting: Sequence[Estimate], utility: Sequence[Estimate]) -> None:
    """Limits around dots and whiskers, with gold's distance of 0 always in sight."""
    xs = [end for e in forgetting for end in (e.mean, e.high) if end is not None]
    ys = [end for e in utility for end in (e.mean, e.low, e.high) if end is not None]
    axes.set_xlim(*pad([0.0, *xs]))
    axes.set_ylim(*pad(ys, 0.15))


def _line(entry: Entry) -> tuple[str, ...]:
    cost = written(entry.cost) if entry.cost else "none"
    beaten = ", ".join(printable(label) for label in entry.beaten_by) or "on the front"
    return (printable(entry.label), written(entry.forgetting), written(entry.utility), cost, beaten)


def _description(found: Sequence[Entry]) -> str:
    """The figure in words."""
    front = [printable(entry.label) for entry in found if not entry.beaten_by]
    said = [
        f"{printable(e.label)} has a distance to gold of {number(e.forgetting.mean)} and a utility of "
        f"{number(e.utility.mean)}{f' for {number(e.cost.mean)} s' if e.cost else ''}"
        for e in found
    ]
    return f"On the front: {', '.join(front)}. {'; '.join(said)}."
