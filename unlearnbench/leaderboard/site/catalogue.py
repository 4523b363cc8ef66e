"""What is known of unlearners and measures: from the registry where they are installed, else from the records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearnbench.api.params import param_fields
from unlearnbench.api.specs import DIRECTIONS, EFFORTS, MeasureSpec, Paper
from unlearnbench.leaderboard.board import Board, Entry, Row
from unlearnbench.leaderboard.site.command import stages
from unlearnbench.leaderboard.site.text import link, shortened
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.registry import Component, registry


@dataclass(frozen=True)
class Place:
    """Where an unlearner stands on one board."""

    suite: str
    entry: Entry
    row: Row
    href: str


@dataclass(frozen=True)
class Part:
    """One method: the unlearner, or a link of a chain."""

    name: str
    summary: str
    distribution: str
    version: str
    paper: Paper | None
    addresses: tuple[str, ...]
    parameters: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class UnlearnerPage:
    """A page about an unlearner."""

    name: str
    slug: str
    summary: str
    cited: str
    entries: tuple[Place, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class MeasurePart:
    """A measure on the page about measures; ``axes`` says what it decides on which board."""

    name: str
    slug: str
    summary: str
    effort: str
    paper: Paper | None
    addresses: tuple[str, ...]
    axes: tuple[str, ...]
    readings: tuple[tuple[str, ...], ...]


def unlearner_pages(
    boards: Sequence[Board], slug_of: Mapping[str, str], href_of: Mapping[tuple[str, str], str]
) -> list[UnlearnerPage]:
    """A page for every unlearner with an entry, by name."""
    places: dict[str, list[Place]] = {}
    for board in boards:
        for row in board.rows:
            place = Place(board.suite.name, row.entry, row, href_of[board.suite.name, row.entry.id])
            places.setdefault(row.entry.unlearner, []).append(place)
    return [_unlearner_page(name, slug_of[name], found) for name, found in sorted(places.items())]


def _unlearner_page(name: str, slug: str, places: Sequence[Place]) -> UnlearnerPage:
    used: dict[str, dict[str, set[str]]] = {}
    for place in places:
        for record in place.entry.records:
            for stage in stages(record.document["spec"]["unlearner"]):
                mine = used.setdefault(str(stage["name"]), {})
                for parameter, value in stage["params"].items():
                    mine.setdefault(str(parameter), set()).add(_json(value))
    parts = tuple(_part(stage, used[stage]) for stage in sorted(used))
    only = parts[0] if len(parts) == 1 else None
    summary = only.summary if only else "A chain: what one returns, the next one goes on with." if parts else ""
    cited = f"{only.paper.authors[0]}, {only.paper.year}" if only and only.paper and only.paper.authors else ""
    return UnlearnerPage(name, slug, summary, cited, tuple(places), parts)


def _part(name: str, used: Mapping[str, set[str]]) -> Part:
    component = _installed("unlearner", name)
    if component is None:
        rows = tuple((parameter, "", _said(values), "") for parameter, values in sorted(used.items()))
        return Part(name, "", "", "", None, (), rows)
    spec, origin = component.spec, component.origin()
    fields = {field.name: field for field in param_fields(spec.params)}
    rows = tuple(
        (
            parameter,
            _json(fields[parameter].default) if parameter in fields else "",
            _said(used.get(parameter, set())),
            fields[parameter].param.help if parameter in fields else "",
        )
        for parameter in (*fields, *sorted(set(used) - set(fields)))
    )
    return Part(name, spec.summary, origin["distribution"], spec.version, spec.paper, addresses(spec.paper), rows)


def _installed(kind: str, name: str) -> Component | None:
    known = registry()
    return known.get(kind, name) if name in known.names(kind) else None


def _said(values: Iterable[str]) -> str:
    """The values that entries used, the first few of them."""
    ordered = sorted(values)
    return ", ".join(shortened(value, 40) for value in ordered[:6]) + (
        f" and {len(ordered) - 6} more" if ordered[6:] else ""
    )


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


def addresses(paper: Paper | None) -> tuple[str, ...]:
    """Where a paper is found, as far as a page may link there."""
    if paper is None:
        return ()
    found = (paper.doi and f"https://doi.org/{paper.doi}", paper.arxiv and f"https://arxiv.org/abs/{paper.arxiv}")
    return tuple(address for address in found if link(address))


def board_measures(suites: Iterable[Suite]) -> list[str]:
    """Names of all measures that suites read."""
    return sorted(
        {name for each in suites for part in each.parts for name in (*part.measures, *(a.measure for a in part.axes))}
    )


def measures(suites: Sequence[Suite], slug_of: Mapping[str, str]) -> list[MeasurePart]:
    """Every measure that suites read, by name."""
    axes: dict[str, dict[str, None]] = {}
    for each in {found.name: found for found in suites}.values():
        for part in each.parts:
            for axis in part.axes:
                said = f"{axis.key} stands for {axis.name} on {part.scenario} ({each.name})"
                axes.setdefault(axis.measure, {})[said] = None
    return [_measure(name, slug_of[name], tuple(axes.get(name, ()))) for name in board_measures(suites)]


def _measure(name: str, slug: str, axes: tuple[str, ...]) -> MeasurePart:
    component = _installed("measure", name.partition(":")[0])
    if component is None or not isinstance(component.spec, MeasureSpec):
        return MeasurePart(name, slug, "", "", None, (), axes, ())
    spec = component.spec
    rows = tuple((each.name, DIRECTIONS[each.better], each.unit, each.summary) for each in spec.readings)
    return MeasurePart(name, slug, spec.summary, EFFORTS[spec.effort], spec.paper, addresses(spec.paper), axes, rows)
