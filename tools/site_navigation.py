"""Navigation of the documentation site, read from docs/README.md: a page that stands in the index is in the site.

mkdocs calls ``on_config`` (``hooks`` in mkdocs.yml).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig

_LINK = re.compile(r"^- \[([^\]]+)\]\(([^)#]+\.md)\)", re.MULTILINE)
_INDEX = "README.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give mkdocs the navigation."""
    config.nav = navigation(Path(config.docs_dir))
    return config


def navigation(docs: Path) -> list[Any]:
    """The sections of the index with their pages. A page that is an index itself brings what it lists."""
    _, *sections = re.split(r"^## ", (docs / _INDEX).read_text("utf-8"), flags=re.MULTILINE)
    found: list[Any] = [{"Home": _INDEX}]
    for section in sections:
        title, _, body = section.partition("\n")
        pages = [page for label, path in _LINK.findall(body) for page in _pages(docs, label, path)]
        if len(pages) == 1:
            found.append({title: next(iter(pages[0].values()))})
        elif pages:
            found.append({title: pages})
    return found


def _pages(docs: Path, label: str, path: str) -> list[Any]:
    """A page; or, if it is an index, that page without a label of its own, and the pages that it lists."""
    page = docs / path
    if page.name != _INDEX:
        return [{label.replace("`", ""): path}]
    folder = page.parent.relative_to(docs).as_posix()
    listed = _LINK.findall(page.read_text("utf-8"))
    return [path, *({name.replace("`", ""): f"{folder}/{target}"} for name, target in listed)]
