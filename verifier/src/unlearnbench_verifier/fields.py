"""Properties of a parsed JSON document, each with its path, read as what they must be or refused."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from unlearnbench_verifier.files import MOST_INTEGER
from unlearnbench_verifier.findings import Refusal

HEXADECIMAL = "bytes in hexadecimal"


@dataclass(frozen=True)
class Field:
    """A value of a document and where it stands, such as ``$.patch.slope[2][0]``."""

    value: Any
    path: str = "$"
    code: str = "bad-certificate"

    def refusal(self, message: str) -> Refusal:
        """What is wrong with it."""
        return Refusal(self.code, message, where=self.path)

    def properties(self, *names: str) -> dict[str, Field]:
        """Those of an object that has exactly these properties.

        Raises:
            Refusal: no object, one that lacks a property, or has another.
        """
        entries = self.entries()
        for name in names:
            if name not in entries:
                raise Refusal(self.code, "is missing", where=f"{self.path}.{name}")
        for name, field in entries.items():
            if name not in names:
                raise field.refusal("is no property of this")
        return entries

    def entries(self) -> dict[str, Field]:
        """Those of an object with any keys.

        Raises:
            Refusal: no object.
        """
        if not isinstance(self.value, dict):
            raise self.refusal(f"is {_kind(self.value)} and must be an object")
        if not all(isinstance(name, str) for name in self.value):
            raise self.refusal("has keys that are no text")
        return {name: Field(value, f"{self.path}.{name[:80]}", self.code) for name, value in self.value.items()}

    def items(self, least: int = 0, most: int | None = None) -> list[Field]:
        """Those of an array.

        Raises:
            Refusal: no array, or not of such a length.
        """
        if not isinstance(self.value, list):
            raise self.refusal(f"is {_kind(self.value)} and must be an array")
        if len(self.value) < least or (most is not None and len(self.value) > most):
            wanted = f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"
            raise self.refusal(f"has {len(self.value)} items and must have {wanted}")
        return [Field(value, f"{self.path}[{place}]", self.code) for place, value in enumerate(self.value)]

    def text(self, pattern: str, meaning: str) -> str:
        """A string of which all matches the pattern; ``meaning`` says it in words.

        Raises:
            Refusal: no such string.
        """
        if not isinstance(self.value, str):
            raise self.refusal(f"is {_kind(self.value)} and must be {meaning}")
        if not re.fullmatch(pattern, self.value, re.ASCII):
            raise self.refusal(f"must be {meaning}")
        return self.value

    def hexadecimal(self) -> str:
        """Bytes in lower-case hexadecimal.

        Raises:
            Refusal: no such string.
        """
        # Two digits as a group would be remembered for every repetition, which takes a hundred times the text.
        found = self.text("[0-9a-f]*", HEXADECIMAL)
        if len(found) % 2:
            raise self.refusal(f"must be {HEXADECIMAL}")
        return found

    def digest(self) -> str:
        """A sha256.

        Raises:
            Refusal: none, or one that is not in lower case.
        """
        return self.text(r"[0-9a-f]{64}", "64 hexadecimal digits in lower case")

    def check_null(self, why: str) -> None:
        """Nothing; ``why`` says why it must be.

        Raises:
            Refusal: something.
        """
        if self.value is not None:
            raise self.refusal(f"must be null {why}")

    def integer(self, least: int = 0) -> int:
        """A whole number.

        Raises:
            Refusal: none, one below ``least``, or one that readers of JSON disagree on.
        """
        if type(self.value) is not int:
            raise self.refusal(f"is {_kind(self.value)} and must be a whole number")
        if not least <= self.value <= MOST_INTEGER:
            raise self.refusal(f"must be at least {least} and at most {MOST_INTEGER}")
        return self.value

    def number(self, least: float = -math.inf, above: float = -math.inf) -> float:
        """A finite number at least ``least`` and above ``above``.

        Raises:
            Refusal: no such number.
        """
        if type(self.value) is int and abs(self.value) > MOST_INTEGER:
            raise self.refusal(f"must be at most {MOST_INTEGER} where it is a whole number")
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            raise self.refusal(f"is {_kind(self.value)} and must be a finite number")
        if self.value < least:
            raise self.refusal(f"must be at least {least:g}")
        if self.value <= above:
            raise self.refusal(f"must be above {above:g}")
        return float(self.value)

    def numbers(self, least: int = 1) -> list[float]:
        """An array of ``least`` or more finite numbers.

        Raises:
            Refusal: no such array.
        """
        return [item.number() for item in self.items(least)]


def _kind(value: Any) -> str:
    """What JSON calls a value."""
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__} of Python")
