"""Text on pages and in files: names of files, addresses, and what a spreadsheet would take for a formula."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

NAME = 100
"""Characters of a file's name, before a digest and its ending."""
_LINK = re.compile(r"https://[A-Za-z0-9.-]+(/[\x21-\x7e]*)?\Z")
_DIGEST = re.compile(r"-x[0-9a-f]{16}\Z")
_FORMULA = re.compile(r"(\A|[\r\n])(?=\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")


def slugs(names: Iterable[str]) -> dict[str, str]:
    """A file's name for each name, of a-z, 0-9 and hyphens, all different.

    Names that would come out the same have a digest behind them, all of them, so that a name's file does not depend on
    which came first; so have those that were cut, that nothing is left of, or that look as if they had one.
    """
    short = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") for name in set(names)}
    times = Counter(short.values())
    return {
        name: words
        if times[words] == 1 and 0 < len(words) <= NAME and not _DIGEST.search(words)
        else _marked(name, words)
        for name, words in short.items()
    }


def _marked(name: str, words: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{words[:NAME].strip('-') or 'unnamed'}-x{digest}"


def link(address: str | None) -> str:
    """An address that a page may link to, or nothing: https, a plain host, no space, no control character.

    The schema of submissions asks the same; papers of plugins come without a schema.
    """
    return address if address and len(address) <= 400 and _LINK.match(address) else ""


def cell(text: str) -> str:
    """Text for a cell of a CSV file that no spreadsheet takes for a formula.

    Formulas begin with = + - @, tab or carriage return (also their full-width forms), after white space too, and in
    cells of several lines each line counts (OWASP, "CSV Injection").
    """
    return _FORMULA.sub(r"\1'", text)


def shortened(text: str, most: int = 60) -> str:
    """A text as long as a table has room for; the whole of it is to stand elsewhere."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
