"""What a check is: a function whose first line of documentation is a sentence of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Broken(AssertionError):
    """The contract is broken; the message says how."""


class NotApplicable(Exception):
    """The sentence says nothing about this component; the message says why."""


Check = Callable[[Any], None]
"""Takes the bench of a component; returns when the sentence holds, else raises."""


def require(holds: object, how: str) -> None:
    """Raise ``Broken`` unless the condition holds."""
    if not holds:
        raise Broken(how)


def name_of(check: Check) -> str:
    """The check's name: the function's, with dashes."""
    return check.__name__.replace("_", "-")


def sentence_of(check: Check) -> str:
    """The sentence of the contract that a check holds a plugin to."""
    return (check.__doc__ or "").strip().splitlines()[0]
