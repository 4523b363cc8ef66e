"""The requests of a stream as a record tells of them, one row each, and what all of them come to.

Table, plot and report draw these rows. Certificates are any JSON object that a method likes: of them only numbers under
known names are taken, and what a record does not have is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

SPLITS = ("test", "retain")
RESIDUAL = "true-residual"
"""The reading that is held against a certificate's bound."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class ServedRow:
    """One request: its position from 0, what it was for, accuracies by subject and split, certificate and CPU seconds.

    ``cpu_s`` is what serving it took, ``gold_cpu_s`` what training anew took, None where no gold model was trained.
    """

    request: int
    kind: str
    elements: int
    accuracy: Mapping[tuple[str, str], float]
    bound: float | None
    budget: float | None
    residual: float | None
    retrained: bool
    cpu_s: float
    gold_cpu_s: float | None

    @property
    def times_cheaper(self) -> float | None:
        """CPU seconds of training anew over those of serving the request."""
        return _ratio(self.gold_cpu_s, self.cpu_s)


@dataclass(frozen=True)
class StreamSummary:
    """What a stream comes to. None stands for what no request has.

    ``before`` is the test accuracy of the original, ``after`` that of the unlearned model after the last request;
    ``change`` the largest difference to ``before`` on the way. ``violations`` counts requests whose bound is above the
    budget, ``passed`` those whose true residual is above the bound. ``cpu_s`` is the mean over all requests,
    ``times_cheaper`` the sum of CPU seconds of training anew over that of serving, both over measured requests.
    """

    before: float | None
    after: float | None
    change: float | None
    certified: int
    violations: int
    retrains: int
    compared: int
    passed: int
    cpu_s: float
    times_cheaper: float | None


def stream_rows(document: Mapping[str, Any]) -> tuple[ServedRow, ...]:
    """The requests of a record's stream in order; none for a record of a single request."""
    accuracy: dict[int, dict[tuple[str, str], float]] = {}
    residuals: dict[int, float] = {}
    for reading in document["readings"]:
        step, value = _only_request(reading["at"]), _number(reading["value"])
        if step is None or value is None:
            continue
        if reading["name"] == "accuracy" and reading["split"] in SPLITS:
            accuracy.setdefault(step, {}).setdefault((reading["subject"], reading["split"]), value)
        elif reading["name"] == RESIDUAL and reading["subject"] == "unlearned":
            residuals.setdefault(step, value)
    served = zip(document.get("stream", ()), document["requests"], strict=False)
    return tuple(
        _row(one, request, accuracy.get(one["request"], {}), residuals.get(one["request"])) for one, request in served
    )


def summary(rows: Sequence[ServedRow]) -> StreamSummary:
    """What the rows of a stream come to; there is at least one."""
    originals = [row.accuracy["original", "test"] for row in rows if ("original", "test") in row.accuracy]
    reached = [row.accuracy["unlearned", "test"] for row in rows if ("unlearned", "test") in row.accuracy]
    before = originals[0] if originals else None
    certified = [(row.bound, row.budget) for row in rows if row.bound is not None and row.budget is not None]
    compared = [(row.residual, row.bound) for row in rows if row.residual is not None and row.bound is not None]
    beside = [(row.gold_cpu_s, row.cpu_s) for row in rows if row.gold_cpu_s is not None]
    return StreamSummary(
        before=before,
        after=reached[-1] if reached else None,
        change=None if before is None or not reached else max(abs(value - before) for value in reached),
        certified=len(certified),
        violations=sum(bound > budget for bound, budget in certified),
        retrains=sum(row.retrained for row in rows),
        compared=len(compared),
        passed=sum(residual > bound for residual, bound in compared),
        cpu_s=fmean(row.cpu_s for row in rows),
        times_cheaper=_ratio(sum(gold for gold, _ in beside), sum(own for _, own in beside)) if beside else None,
    )


def chosen_rows(rows: Sequence[ServedRow], most: int) -> list[ServedRow]:
    """At most ``most`` rows: the first, the last, retrains, and evenly spaced ones, measured ones where there are."""
    if len(rows) <= most:
        return list(rows)
    found = {rows[0].request: rows[0], rows[-1].request: rows[-1]}
    measured = [row for row in rows if row.accuracy or row.residual is not None]
    for pool in ([row for row in rows if row.retrained], measured, rows):
        left = [row for row in pool if row.request not in found]
        found.update({row.request: row for row in evenly(left, most - len(found))})
    return [found[request] for request in sorted(found)]


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items, in order and evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[(2 * place + 1) * len(items) // (2 * most)] for place in range(most)]


def _row(
    one: Mapping[str, Any],
    request: Mapping[str, Any],
    accuracy: Mapping[tuple[str, str], float],
    residual: float | None,
) -> ServedRow:
    certificate = one["certificate"] or {}
    return ServedRow(
        request=one["request"],
        kind=request["kind"],
        elements=request.get("elements", request["forget"]),
        accuracy=accuracy,
        bound=_number(certificate.get("value")),
        budget=_number(certificate.get("budget")),
        residual=residual,
        retrained=certificate.get("retrained") is True,
        cpu_s=float(one["cost"]["cpu_s"]),
        gold_cpu_s=None if one["gold"] is None else float(one["gold"]["cpu_s"]),
    )


def _only_request(at: Mapping[str, str]) -> int | None:
    """After which request a reading was taken; None for one that is about a class or a rate besides."""
    text = at.get("request", "") if len(at) == 1 else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and math.isfinite(value) else None  # type: ignore[arg-type]


def _ratio(gold: float | None, own: float) -> float | None:
    return gold / own if gold is not None and own > 0 else None


def means(values: Iterable[float | None]) -> float | None:
    """The mean of those that are there."""
    found = [value for value in values if value is not None]
    return fmean(found) if found else None
