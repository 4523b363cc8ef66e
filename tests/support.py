"""The command line as a user meets it: in a process of its own, or in this one where only its answer matters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unlearnbench.cli import main

WINE = ("--dataset", "wine", "--model", "logistic")
"""The smallest real run: 142 rows, 42 weights."""
KEPT = ("PATH", "HOME", "TMPDIR", "UNLEARNBENCH_DATA")
COMMAND = (sys.executable, "-m", "unlearnbench")


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    rc: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        return json.loads(self.stdout)


def environment(**extra: str) -> dict[str, str]:
    """Nothing of the developer's own settings; one thread, so that tests do not fight for cores.

    No bytecode is written: a process that may not write large files would leave cut-off caches to everybody after it.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


def spawn(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, **options: Any) -> Done:
    """Run the command line in a fresh process."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, env=environment(**(env or {})), capture_output=True, text=True, check=False, timeout=120, **options,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def call(*arguments: str | Path) -> Done:
    """Run the command line in this process, which has torch loaded already."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ending,
    ):
        main([str(argument) for argument in arguments])
    return Done(int(ending.value.code or 0), out.getvalue(), err.getvalue())


def assert_one_error(done: Done, rc: int, code: str, *words: str) -> None:
    """Exactly one line that names code, place, what is wrong and what to do, with the documented exit code."""
    assert (done.rc, done.stderr.count("\n")) == (rc, 1), done.stderr
    assert_error(done.stderr.strip(), code, *words)


def assert_error(line: str, code: str, *words: str) -> None:
    """An error line with all its parts; ``words`` must stand in it."""
    assert re.fullmatch(rf"error: \[{code}\] \S[^;]*: \S.*; \S.*", line), line
    for word in words:
        assert word in line, line


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder with their bytes: what a refusal must leave alone."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
