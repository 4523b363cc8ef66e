"""How pages are filled: everything that is put into a template is escaped and free of control characters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from unlearnbench.plugins import printable

FOLDER = Path(__file__).parent
"""What pages share: tables, and the colours of their style sheets and figures."""
LONGEST = 20_000
"""Characters of one text on a page: whoever writes more wants to fill the disk."""


def environment(folders: Sequence[Path] = (FOLDER,)) -> Environment:
    """Templates of some folders, strict and escaping whatever their names end in."""
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _plain(value: Any) -> Any:
    """Text in one line, without control characters and marks that turn the direction of reading; markup is ours."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isprintable() and len(value) <= LONGEST):
        return value
    return printable(value, LONGEST)
