"""The command line in one child that may not run on or dump its memory: what each attack takes is part of the test.

Run as a script it verifies one path after the other and prints a line of JSON for each: starting anew for every path
would take ten times as long as the attacks do. Peaks only grow, so the bound holds for each as it does for all.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CPU_SECONDS = 300
"""For all attacks together; one that is quadratic takes hours."""


@dataclass(frozen=True)
class Ended:
    """What verifying one path printed and took."""

    rc: int
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float


def limited(paths: Sequence[Path], cwd: Path) -> list[Ended]:
    """Verify paths in a child with a limit on its processor time; a breach ends it with a signal."""
    from support import environment

    helpers = str(Path(__file__).parents[1])
    child = subprocess.run(
        [sys.executable, __file__, *map(str, paths)],
        cwd=cwd, env=environment(PYTHONPATH=helpers), capture_output=True, text=True, check=False,
        preexec_fn=_limit, timeout=600,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr[-2000:]
    assert not child.stderr
    return [Ended(**json.loads(line)) for line in child.stdout.splitlines()]


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _verify(path: str) -> Ended:
    from support import call

    began = time.process_time()
    done = call("leaderboard", "verify", path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Ended(done.rc, done.stdout, done.stderr, time.process_time() - began, peak)


if __name__ == "__main__":
    for each in sys.argv[1:]:
        sys.stdout.write(json.dumps(asdict(_verify(each))) + "\n")
