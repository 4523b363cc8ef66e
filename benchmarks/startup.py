"""Wall time of light commands above that of a bare interpreter.

``unlearnbench --help``, ``list unlearners`` and ``plugins`` must not make anybody wait: they import nothing heavy. Each
is run in a process of its own, in turn with ``python -c pass``, so that load on the machine meets all of them alike;
the difference to the bare process of the same round is taken, and the median over the rounds is judged.

    python benchmarks/startup.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
from time import perf_counter

BARE = [sys.executable, "-c", "pass"]
COMMANDS = {
    "unlearnbench --help": ["--help"],
    "unlearnbench list unlearners": ["list", "unlearners"],
    "unlearnbench plugins": ["plugins"],
}
TARGET_S = 0.35


def clocked(command: list[str]) -> float:
    """Wall seconds of a process that must succeed."""
    start = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def main() -> int:
    """Print the median time above the bare interpreter of each command; 1 when one is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds, at least 7 (default: 9)")
    rounds = max(7, parser.parse_args().rounds)
    processes = {name: [sys.executable, "-m", "unlearnbench", *arguments] for name, arguments in COMMANDS.items()}
    for command in (BARE, *processes.values()):
        clocked(command)  # writes bytecode and fills the file cache
    bare: list[float] = []
    above: dict[str, list[float]] = {name: [] for name in processes}
    for _ in range(rounds):
        bare.append(clocked(BARE))
        for name, command in processes.items():
            above[name].append(clocked(command) - bare[-1])
    print(f"python {platform.python_version()}; python -c pass: {statistics.median(bare):.3f} s")
    medians = {name: statistics.median(seconds) for name, seconds in above.items()}
    for name, median in medians.items():
        spread = f"{min(above[name]):.3f} to {max(above[name]):.3f}"
        print(f"{name:30} {median:.3f} s above it (median of {rounds}; {spread})")
    print(f"target: at most {TARGET_S} s each")
    return int(max(medians.values()) > TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
