"""Where a file is wrong, in one line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unlearnbench.api import DataError


@dataclass(frozen=True)
class Place:
    """What errors name: the file, and what a person can do about it."""

    where: str
    hint: str

    def fault(self, code: str, what: str, hint: str = "") -> DataError:
        """The error for content that is wrong."""
        return DataError(code, what, where=self.where, hint=hint or self.hint)

    def of(self, part: str) -> Place:
        """A part of the file: an array or a column."""
        return replace(self, where=f"{self.where} ({part})")
