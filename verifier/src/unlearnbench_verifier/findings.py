"""What a check says, and what stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Finding:
    """One claim and what came of it; ``fine`` is None where it was not looked at, and ``said`` says why."""

    what: str
    said: str
    fine: bool | None


class Refusal(Exception):
    """A question that cannot be looked into: one line with a code, a place and what to do."""

    exit_code: ClassVar[int] = 2

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


class Unreadable(Refusal):
    """A file that is not there, or does not hold what it should."""

    exit_code: ClassVar[int] = 5
