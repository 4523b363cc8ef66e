"""Progress on the error stream while long work goes on; nothing when nobody watches."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from unlearnbench.api.errors import UnlearnBenchError


def watched() -> bool:
    """Whether a person looks at the error stream."""
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"


@contextmanager
def progress_bar(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """A bar over rows read; without a total it counts them."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as bar:
        task = bar.add_task(label, total=total or None)
        yield lambda rows: bar.advance(task, rows)


def warn(problem: UnlearnBenchError | str) -> None:
    """One line on the error stream."""
    print(f"warning: {problem}", file=sys.stderr)
