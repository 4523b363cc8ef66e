"""Errors that a person can act on: one line, a code, a place, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

LISTED_CHARACTERS = 240
"""What the names of a hint may take of a line."""


class UnlearnBenchError(Exception):
    """A failure with a stable code and a documented exit status.

    ``code`` names the kind of failure (``bad-parameter``), ``where`` the place (a JSON path, a file, a plugin),
    ``hint`` what to do about it. ``str()`` is the one line that the command line prints.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"; {self.hint}" if self.hint else ""
        return " ".join(f"[{self.code}] {place}{self.message}{advice}".split())

    def to_json(self) -> dict[str, str]:
        """The same error as JSON, for ``--json`` output and records."""
        return {"code": self.code, "where": self.where, "message": self.message, "hint": self.hint}


class CheckFailed(UnlearnBenchError):
    """The work was done, but something about it is not right (a diverged run, a refused log entry)."""

    exit_code = 1


class UsageError(UnlearnBenchError):
    """What was asked for cannot be understood: an unknown name, a value of the wrong type or out of range."""

    exit_code = 2


class IncompatibleError(UnlearnBenchError):
    """Every part is known, but they do not go together; the planner refuses before any work is done."""

    exit_code = 3


class PluginError(UnlearnBenchError):
    """A plugin broke its contract: it does not load, raises, hangs, or touches what is not its own."""

    exit_code = 4

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "report it to its maintainers") -> None:
        super().__init__(code, message, where=where, hint=hint)


class DataError(UnlearnBenchError):
    """Files that cannot be read, do not have the promised content, or cannot be written."""

    exit_code = 5


class Interrupted(UnlearnBenchError):
    """Stopped by the user; finished stages are in the store and the same command resumes."""

    exit_code = 6


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """A hint for a name that is none of the known ones: those like it, else ``otherwise``, else all there are.

    Like it are those that are spelled nearly so, else those that begin so.
    """
    folded = {one.lower(): one for one in sorted(known)}
    close = [folded[one] for one in difflib.get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
    if not close and name:
        close = [full for one, full in folded.items() if one.startswith(name.lower())][:3]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"available: {_listed(list(folded.values()))}"


def _listed(names: list[str]) -> str:
    """Names as far as a line can hold them beside what else it says."""
    shown = names
    while len(", ".join(shown)) > LISTED_CHARACTERS:
        shown = shown[:-1]
    more = len(names) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more} more" if more else "")
