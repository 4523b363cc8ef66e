"""The requests of a fan-out: the same question asked of each class (or group, or sample), with each training seed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unlearnbench.identity import digest
from unlearnbench.plugins import printable
from unlearnbench.record import Record

MOST_TOLD = 12
"""Requests that a note names; of more it says how many."""
_USUAL = {"kind", "stratified", "features", "as"}
"""What goes without saying in the name of a request."""


class Place(NamedTuple):
    """Where a run stands in a fan-out: the request by its name, and the training seed."""

    request: str
    seed: int


@dataclass(frozen=True)
class Fan:
    """The requests of a group of records by the digest of their rows, and the training seeds."""

    kind: str
    requests: Mapping[str, str]
    seeds: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.requests.values())

    @property
    def places(self) -> list[Place]:
        """Every request with every training seed: the runs that a full row has."""
        return [Place(name, seed) for name in self.names for seed in self.seeds]

    def place(self, record: Record) -> Place:
        """Where a record of the group stands."""
        return Place(self.requests[_key(record)], int(record.document["spec"]["seeds"]["train"]))

    def told(self, places: Sequence[Place]) -> str:
        """Places in words: ``class=3 (seed 1), class=7``; without seeds where all of them are meant."""
        found: dict[str, list[int]] = {}
        for request, seed in places:
            found.setdefault(request, []).append(seed)
        words = []
        for request, seeds in found.items():
            some = f" (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
            words.append(request + ("" if len(seeds) == len(self.seeds) else some))
        more = len(words) - MOST_TOLD
        return ", ".join(words[:MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def fan_of(records: Iterable[Record]) -> Fan:
    """The fan-out that records are of; requests in the order of their names, ``class=10`` behind ``class=9``."""
    keys = {_key(record): record for record in records}
    words = {key: _words(record.document["spec"]["requests"]) for key, record in keys.items()}
    # Two requests may be written alike, such as ids in files; then their digests tell them apart.
    alike = {word for word in words.values() if list(words.values()).count(word) > 1}
    names = {key: f"{word}#{key[:8]}" if word in alike else word for key, word in words.items()}
    first = next(iter(keys.values()))
    seeds = {int(record.document["spec"]["seeds"]["train"]) for record in records}
    return Fan(_kind(first), dict(sorted(names.items(), key=lambda item: _natural(item[1]))), tuple(sorted(seeds)))


def _key(record: Record) -> str:
    return digest([[r["kind"], r["digest"], r["holdout_digest"]] for r in record.document["requests"]])


def _kind(record: Record) -> str:
    """``class``, or ``3 x class`` for a stream of three."""
    kinds = list(dict.fromkeys(str(request["kind"]) for request in record.document["requests"]))
    count = len(record.document["requests"])
    return ", ".join(kinds) if count == 1 else f"streams of {count} ({', '.join(kinds)})"


def _words(requests: Sequence[Mapping[str, Any]]) -> str:
    """A request as a person would write it; a stream by its first and last."""
    first, last = _one(requests[0]), _one(requests[-1])
    return printable(last if len(requests) == 1 else f"{first}...{last}", 80)


def _one(request: Mapping[str, Any]) -> str:
    if "kind" not in request:
        return "partition"
    told = {name: _written(value) for name, value in request.items() if name not in _USUAL}
    if len(told) == 1:
        return f"{request['kind']}={next(iter(told.values()))}"
    return " ".join([str(request["kind"]), *(f"{name}={value}" for name, value in told.items())])


def _written(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    return ",".join(map(str, value[:4])) + (",..." if len(value) > 4 else "")


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers in a text sort by their value."""
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(re.split(r"(\d+)", text))]
