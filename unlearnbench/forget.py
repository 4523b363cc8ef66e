"""The short form of requests on the command line."""

from __future__ import annotations

from typing import Any

from unlearnbench.api.errors import UsageError
from unlearnbench.levels import LEVELS
from unlearnbench.schemas import load_json

_SHORT = (
    "random=0.1, random=50, class=3, ids=1,2,3, file=forget.txt, group=person:7, target=hat, on graphs edges=0.01, "
    "nodes=50 or features=20:highest, or JSON"
)


def parse_forget(text: str) -> dict[str, Any]:
    """A request from the command line's short form: ``random=0.1``, ``class=3``, ``group=person:7``, ``ids=1,2``.

    On graphs ``edges=0.01``, ``nodes=50`` and ``features=1`` are drawn; ``edges=100:highest`` goes by degree.

    Raises:
        UsageError: the text has none of these forms.
    """
    if text.lstrip().startswith("{"):
        return dict(load_json(text, where="--forget"))
    word, mark, value = text.partition("=")
    try:
        if mark and value:
            if word == "random":
                return {"kind": "samples", **_amount(value)}
            if word == "class":
                return {"kind": "class", "classes": value.split(",")}
            if word == "ids":
                return {"kind": "samples", "ids": [int(i) for i in value.split(",")]}
            if word == "file":
                return {"kind": "samples", "file": value}
            if word == "group" and ":" in value:
                column, _, values = value.partition(":")
                return {"kind": "group", "column": column, "values": values.split(",")}
            if word == "target":
                return {"kind": "target", "targets": value.split(",")}
            if LEVELS.get(word) == "elements":
                number, by_degree, degree = value.partition(":")
                amount = {"count": int(number)} if number.isdigit() else _amount(number)
                return {"kind": word, **amount, **({"degree": degree} if by_degree else {})}
    except ValueError as problem:
        raise UsageError("bad-request", f"{text!r}: {problem}", where="--forget", hint=f"write {_SHORT}") from problem
    raise UsageError("bad-request", f"{text!r} is not a request", where="--forget", hint=f"write {_SHORT}")


def _amount(value: str) -> dict[str, Any]:
    """A whole number above 1 is a count, anything else a fraction (so that 1 and 0 are refused as fractions)."""
    if value.isdigit() and int(value) > 1:
        return {"count": int(value)}
    return {"fraction": float(value)}
