"""The changes of the board as an Atom feed. All dates are those of the data: building again changes nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from unlearnbench.leaderboard.board import Change

BEGINNING = "2026-01-01T00:00:00Z"
"""The feed's date while nothing has changed."""
MOST = 100
"""Changes in the feed; the page has all."""


@dataclass(frozen=True)
class Item:
    """A change as the feed has it: RFC 3339 date, and an identifier that stays."""

    id: str
    updated: str
    title: str
    text: str


def latest_first(changes: Iterable[Change]) -> list[Change]:
    """Changes, the newest first; those of one time in an order that is always the same."""
    ordered = sorted(set(changes), key=lambda each: (each.kind, each.subject, each.text))
    return sorted(ordered, key=lambda each: moment(each.date), reverse=True)


def items(changes: Sequence[Change]) -> list[Item]:
    """The newest changes for the feed."""
    return [_item(change) for change in changes[:MOST]]


def _item(change: Change) -> Item:
    whole = "\n".join((change.date, change.kind, change.subject, change.text))
    digest = hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
    return Item(
        f"tag:unlearnbench.org,2026:changes/{digest[:32]}",
        moment(change.date),
        f"{change.kind}: {change.subject}",
        change.text,
    )


def moment(date: str) -> str:
    """A day or a time in UTC as RFC 3339 asks for; the beginning for anything else."""
    if re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        return f"{date}T00:00:00Z"
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)", date):
        return f"{date[:19]}Z"
    return BEGINNING
