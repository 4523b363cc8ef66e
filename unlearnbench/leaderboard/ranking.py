"""Entries ranked: by distance to gold on every axis of every scenario, seed by seed, with intervals and ties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import numpy.typing as npt

from unlearnbench.comparison.contest import contest
from unlearnbench.leaderboard.board import Board, Bound, Cell, Division, Entry, Ranking, Row
from unlearnbench.leaderboard.lines import (
    Line,
    Place,
    bound_values,
    held_against,
    lines_of,
    part_of,
    train_seed,
    trains_itself,
)
from unlearnbench.leaderboard.made_up import made_up
from unlearnbench.leaderboard.pareto import layers
from unlearnbench.leaderboard.reading import FEW, left_out
from unlearnbench.leaderboard.suites import AXES, Suite, suite, suite_names
from unlearnbench.statistics import Estimate, critical_difference, estimates

DIVISIONS: tuple[Division, ...] = ("oracle-free", "oracle-tuned", "control")
CONFIDENCE = 0.95
MOST_PAIRED = 60
"""Up to so many entries every pair is compared; above, an interval for each of their pairs would take minutes."""

_DIGITS = 12
"""Equal readings may differ in their last bits; they share a rank."""

Values = tuple[float, ...]
Lines = Mapping[Place, Line]


def boards(entries: Iterable[Entry]) -> tuple[Board, ...]:
    """A board for every suite that has entries, in the order of the suites; then those that are made up, by name."""
    by_suite: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.id):
        by_suite.setdefault(entry.suite, []).append(entry)
    official = [name for name in suite_names() if name in by_suite]
    found = [_board(suite(name), by_suite[name], official=True) for name in official]
    others = sorted(set(by_suite) - set(official))
    return (*found, *(_board(made_up(name, by_suite[name]), by_suite[name], official=False) for name in others))


def _board(rules: Suite, entries: Sequence[Entry], *, official: bool) -> Board:
    values = bound_values(entries, rules, official)
    lines = {entry.id: lines_of(entry, rules, official) for entry in entries}
    recipe = [entry for entry in entries if not trains_itself(entry)]
    themselves = [entry for entry in entries if trains_itself(entry)] if recipe else []
    gold = {scenario: seeds for (scenario, axis, of), seeds in values.items() if (axis, of) == ("utility", "gold")}
    for entry in themselves:
        lines[entry.id] = held_against(lines[entry.id], gold)
    why = {entry.id: _why_unranked(entry, rules, official) for entry in entries}
    rankings = [
        _ranking(division, [entry for entry in entries if entry.division == division], lines, why, rules)
        for division in DIVISIONS
    ]
    means = estimates([list(seeds.values()) for seeds in values.values()])
    bounds = [
        Bound(scenario, axis, "original" if subject == "original" else "gold", mean)
        for (scenario, axis, subject), mean in zip(values, means, strict=True)
        if mean.n
    ]
    notes = (
        [] if official else ["no suite: made up of records of one scenario, with the axes that they have readings for"]
    )
    if themselves:
        names = ", ".join(sorted({entry.unlearner for entry in themselves}))
        notes.append(f"{names}: trains original and gold itself; utility is the distance to the recipe's gold models")
    if left_out(record for entry in entries for record in entry.records):
        notes.append(
            f"more than {FEW:,} records: readings of single classes, thresholds and steps are in the records, not here"
        )
    return Board(rules, official, tuple(each for each in rankings if each.rows), tuple(bounds), tuple(notes))


def _why_unranked(entry: Entry, rules: Suite, official: bool) -> str:
    if entry.retracted is not None:
        return f"retracted: {entry.retracted}"
    if entry.division == "control":
        return "a control: it bounds the board"
    seeds: dict[str, set[int]] = {}
    for record in entry.records:
        part = part_of(record, rules, official)
        if part is not None:
            seeds.setdefault(part.scenario, set()).add(train_seed(record))
    for part in rules.parts:
        if part.scenario not in seeds:
            return f"has no runs of {part.scenario}"
        if lacking := sorted(set(rules.seeds) - seeds[part.scenario]):
            return f"lacks seed {', '.join(map(str, lacking))} of {part.scenario}"
    return "" if _ranked_places(rules) else "no axis has readings"


def _ranked_places(rules: Suite) -> list[Place]:
    return [(part.scenario, name) for part in rules.parts for name in AXES if any(a.name == name for a in part.axes)]


@dataclass(frozen=True)
class _Ranks:
    """Ranks of the entries that are ranked: by place the mean over seeds, and for every entry one for each seed."""

    names: tuple[str, ...]
    cells: Mapping[Place, npt.NDArray[np.float64]]
    by_seed: npt.NDArray[np.float64]


def _ranks(names: Sequence[str], lines: Mapping[str, Lines], rules: Suite) -> _Ranks:
    from scipy.stats import rankdata

    found = {}
    for place in _ranked_places(rules):
        distances = [[lines[name][place].distances.get(seed, np.inf) for name in names] for seed in rules.seeds]
        found[place] = rankdata(np.round(np.array(distances), _DIGITS), axis=1)
    by_seed = np.mean(list(found.values()), axis=0)
    return _Ranks(tuple(names), {place: ranks.mean(axis=0) for place, ranks in found.items()}, by_seed)


def _ranking(
    division: Division, entries: Sequence[Entry], lines: Mapping[str, Lines], why: Mapping[str, str], rules: Suite
) -> Ranking:
    names = [entry.id for entry in entries if not why[entry.id]]
    ranks = _ranks(names, lines, rules) if names else None
    means = _means(entries, lines, ranks, rules)
    front = _fronts(entries, lines, rules)
    tied, note = _ties(ranks, rules) if ranks else ({}, "nothing is ranked")
    order = sorted(names, key=lambda name: (_rank(ranks, name), name))
    rows = {
        entry.id: Row(
            entry=entry,
            place="",
            rank=means[_values(ranks, entry.id)] if entry.id in names else None,
            tied=tuple(other for other in order if other in tied.get(entry.id, ())),
            cells=_cells(entry, lines[entry.id], means, ranks),
            costs={s: means[_of(line.values)] for (s, axis), line in lines[entry.id].items() if axis == "cost"},
            layers={part.scenario: front[part.scenario][0].get(entry.id) for part in rules.parts},
            beaten_by={part.scenario: front[part.scenario][1].get(entry.id, ()) for part in rules.parts},
            why_unranked=why[entry.id],
        )
        for entry in entries
    }
    ranked = tuple(
        replace(rows[name], place=_place(place, order, tied[name])) for place, name in enumerate(order)
    )  # fmt: skip
    return Ranking(division, ranked + tuple(row for name, row in sorted(rows.items()) if name not in names), note)


def _rank(ranks: _Ranks | None, name: str) -> float:
    return round(fmean(_values(ranks, name)), _DIGITS)


def _values(ranks: _Ranks | None, name: str) -> Values:
    assert ranks is not None
    return tuple(float(rank) for rank in ranks.by_seed[:, ranks.names.index(name)])


def _of(seeds: Mapping[int, float]) -> Values:
    return tuple(value for _, value in sorted(seeds.items()))


def _means(
    entries: Sequence[Entry], lines: Mapping[str, Lines], ranks: _Ranks | None, rules: Suite
) -> dict[Values, Estimate]:
    """Estimates of all that the rows show, taken together."""
    wanted: dict[Values, None] = {}
    for entry in entries:
        for line in lines[entry.id].values():
            wanted |= dict.fromkeys((_of(line.values), _of(line.distances)))
    for name in ranks.names if ranks else ():
        wanted[_values(ranks, name)] = None
    return dict(zip(wanted, estimates(list(wanted), CONFIDENCE), strict=True))


def _cells(entry: Entry, lines: Lines, means: Mapping[Values, Estimate], ranks: _Ranks | None) -> tuple[Cell, ...]:
    at = ranks.names.index(entry.id) if ranks and entry.id in ranks.names else None
    return tuple(
        Cell(
            scenario=scenario,
            axis=axis,
            value=means[_of(line.values)],
            distance=means[_of(line.distances)],
            rank=None if ranks is None or at is None else float(ranks.cells[scenario, axis][at]),
            missing=dict(sorted(Counter(line.missing.values()).items())),
            from_attack=line.from_attack,
        )
        for (scenario, axis), line in lines.items()
        if axis in AXES
    )


Front = tuple[dict[str, int], dict[str, tuple[str, ...]]]


def _fronts(entries: Sequence[Entry], lines: Mapping[str, Lines], rules: Suite) -> dict[str, Front]:
    """Layers by scenario, of entries with a value for every seed of every axis; controls bound, they do not race."""
    racing = [entry for entry in entries if entry.division != "control" and entry.retracted is None]
    found = {}
    for part in rules.parts:
        scores = {}
        for entry in racing:
            mine = [lines[entry.id].get((part.scenario, axis.name)) for axis in part.axes]
            found_all = [line for line in mine if line is not None and set(rules.seeds) <= set(line.distances)]
            if mine and len(found_all) == len(mine):
                scores[entry.id] = [round(fmean(_of(line.distances)), _DIGITS) for line in found_all]
        found[part.scenario] = layers(scores)
    return found


def _ties(ranks: _Ranks, rules: Suite) -> tuple[dict[str, frozenset[str]], str]:
    """With whom each entry is tied, and how that was decided, in a sentence."""
    names, seeds = ranks.names, len(rules.seeds)
    everybody = {name: frozenset(names) - {name} for name in names}
    if len(names) == 1:
        return everybody, "one entry: there is nothing to rank it against"
    if seeds < 3:
        return everybody, f"{seeds} seed{'s' * (seeds > 1)}: too few to tell entries apart, so all are tied"
    if len(names) > MOST_PAIRED:
        return _ties_by_ranks(ranks, seeds)
    scores = {name: dict(zip(rules.seeds, _values(ranks, name), strict=True)) for name in names}
    outcome = contest(scores, CONFIDENCE, "permutation")
    apart: dict[str, set[str]] = {name: set() for name in names}
    for pair in outcome.pairs:
        if pair.differs if outcome.ties_by == "test" else pair.apart:
            apart[pair.first].add(pair.second)
            apart[pair.second].add(pair.first)
    how = (
        f"tied where a paired permutation test over {seeds} seeds, corrected by Holm, does not tell ranks apart"
        if outcome.ties_by == "test"
        else f"tied where the 95 % interval of the paired difference of ranks holds 0; with {seeds} seeds no test of "
        f"so many pairs can be significant, so take it as an indication"
    )
    return {name: everybody[name] - apart[name] for name in names}, how


def _ties_by_ranks(ranks: _Ranks, seeds: int) -> tuple[dict[str, frozenset[str]], str]:
    from scipy.stats import rankdata

    average = rankdata(np.round(ranks.by_seed, _DIGITS), axis=1).mean(axis=0)
    difference = critical_difference(len(ranks.names), seeds, 1 - CONFIDENCE)
    near = np.abs(average[:, None] - average[None, :]) <= difference
    names = np.array(ranks.names, dtype=object)
    found = {
        name: frozenset(str(other) for other in names[near[place]]) - {name} for place, name in enumerate(ranks.names)
    }
    how = (
        f"more than {MOST_PAIRED} entries: tied where average ranks over {seeds} seeds lie within the critical "
        f"difference {difference:.1f} of Nemenyi's test, which is wide for so many; take it as an indication"
    )
    return found, how


def _place(position: int, order: Sequence[str], tied: frozenset[str]) -> str:
    """The places that an entry may have: behind those that are surely better, before those that are surely worse."""
    first = 1 + sum(other not in tied for other in order[:position])
    last = len(order) - sum(other not in tied for other in order[position + 1 :])
    return str(first) if first == last else f"{first}-{last}"
