"""How long ``unlearnbench leaderboard build`` takes for 10,000 records and how much memory: a minute and 2 GB.

    python benchmarks/leaderboard_build.py [--records 10000] [--keep FOLDER]

Ten scenarios, on each the same unlearners with five seeds. The records are valid run records of made-up numbers, with
the readings that the measures of quick/v1 take of three models, without those of single classes. They are made first,
which is not timed; then the whole command runs in a process of its own: reading, schema, digests, ranking, pages,
downloads. Memory is the highest sum of the resident memory of all its processes, looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

SCENARIOS = 10
SEEDS = 5
TARGET_S = 60.0
TARGET_GB = 2.0

COMMAND = """
import os, sys, time
from unlearnbench.cli import main
from unlearnbench.cli.leaderboard import show
from unlearnbench.leaderboard import ranking, site

def timed(name, function):
    def call(*arguments):
        wall, busy = time.perf_counter(), sum(os.times()[:4])
        found = function(*arguments)
        print(f"part {name} {time.perf_counter() - wall:.2f} {sum(os.times()[:4]) - busy:.2f}", file=sys.stderr)
        return found
    return call

from unlearnbench.cli.leaderboard import build
build.gather = timed("read", build.gather)
ranking.boards = timed("rank", ranking.boards)
site.build_site = timed("build", site.build_site)
main(["leaderboard", "build", sys.argv[1], "-o", sys.argv[2]])
"""
"""The command as it is typed, with a clock around each of its three parts."""


def main() -> None:
    """Make the records, run the command, print what it took beside what it may take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="folder for the records; taken as they are where it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="unlearnbench-") as folder:
        runs = options.keep or Path(folder) / "runs"
        if not runs.exists():
            _make(runs, options.records)
        _measure(runs, Path(folder) / "site", options.records)


def _measure(runs: Path, site: Path, wanted: int) -> None:
    load = os.getloadavg()[0]
    before, began = os.times(), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(runs), str(site)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        peak: list[int] = [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peak))
        watcher.start()
        said = process.stderr.read() if process.stderr else ""
    watcher.join()
    took, after = time.perf_counter() - began, os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    if process.returncode:
        sys.exit(f"the command failed with {process.returncode}:\n{said[-2000:]}")
    files = [path for path in site.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(
        f"{wanted} records, {len(files)} files, {size:.0f} MB; load average before {load:.1f} on {os.cpu_count()} cores"
    )
    for line in said.splitlines():
        if line.startswith("part "):
            _, name, wall, cpu = line.split()
            print(f"  {name:<8} {float(wall):6.1f} s wall  {float(cpu):6.1f} s CPU")
    print(f"  {'whole':<8} {took:6.1f} s wall  {busy:6.1f} s CPU  target {TARGET_S:.0f} s: {_met(took <= TARGET_S)}")
    memory = peak[0] / 1e9
    print(f"  {'memory':<8} {memory:6.2f} GB at most   target {TARGET_GB:.0f} GB: {_met(memory <= TARGET_GB)}")


def _met(holds: bool) -> str:
    return "met" if holds else "missed"


def _watch(process: int, peak: list[int]) -> None:
    """Resident memory of a process and all that it started, for as long as it lives."""
    try:
        root = psutil.Process(process)
        while root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for each in (root, *root.children(recursive=True)):
                try:
                    total += each.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        return


def _make(runs: Path, wanted: int) -> None:
    entries = max(1, wanted // SCENARIOS // SEEDS)
    jobs = [(runs, scenario, entries) for scenario in range(SCENARIOS)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(_make_scenario, jobs))


def _make_scenario(job: tuple[Path, int, int]) -> None:
    from unlearnbench.record import content_digest, controls

    runs, scenario, entries = job
    for number in range(entries):
        for seed in range(SEEDS):
            chance = random.Random(f"{scenario} {number} {seed}")  # noqa: S311 - numbers to draw, no secrets
            document = _document(scenario, number, seed)
            document["readings"] = _readings(scenario, seed, chance)
            document["controls"] = controls(document["readings"])
            document["digest"] = content_digest(document)
            folder = runs / document["id"]
            folder.mkdir(parents=True)
            text = json.dumps(document, indent=1, sort_keys=True)
            (folder / "record.json").write_text(text, "utf-8")


def _document(scenario: int, number: int, seed: int) -> dict[str, Any]:
    from records import run_document, sha

    params = {"epochs": 5 + number % 4, "lr": 0.001 * (1 + number % 7), "milestones": [], "optimizer": "sgd"}
    document = run_document(
        unlearner={"name": f"method-{number}", "params": params},
        seeds=(seed, seed, seed),
        scenario=f"synthetic-{scenario}/v1",
    )
    names = list(dict.fromkeys(measure for measure, *_ in _SHAPES))
    document["spec"]["measures"] = [{"name": name, "params": {}} for name in names]
    document["measures"] = [
        {"name": name, "timed": name == "run-cost", "status": "ok", "message": "", "cpu_s": 0.25} for name in names
    ]
    for part in ("train", "test"):  # what sets one scenario apart from another, whatever its name
        document["data"][part]["digest"] = sha(f"{part} {scenario}")
    document["environment"]["packages"] = {f"package-{place}": "1.2.3" for place in range(8)}
    return document


_SHAPES: list[tuple[str, str, str, str, str]] = [
    *((("accuracy", "accuracy", split, "", "gold")) for split in ("forget", "retain", "test", "holdout")),
    *((("accuracy", "loss", split, "", "gold")) for split in ("forget", "retain", "test", "holdout")),
    *((("ua-ra-ta-mia", name, "", "%", "gold")) for name in ("UA", "RA", "TA", "MIA", "average-gap")),
    *((("agreement", name, split, "", "lower"))
      for name in ("js", "activation-distance") for split in ("forget", "retain", "test")),
    *((("run-cost", name, "", "s", "lower"))
      for name in ("wall-time", "cpu-time", "peak-memory", "rows-read", "speed-up")),
    *((("loss-attack", name, "", "", "gold")) for name in ("loss-attack-accuracy", "loss-attack-auc")),
]  # fmt: skip
"""Measure, name, split, unit and direction of each reading; the attack has rates at fifteen thresholds, too."""
_RATES = [f"{10 ** (-3 + place / 5):.3g}" for place in range(15)]


def _readings(scenario: int, seed: int, chance: random.Random) -> list[dict[str, Any]]:
    """Readings of one run; original and gold read the same in all runs of a scenario and seed, as they do in life."""
    from unlearnbench.api.runtime import Reading
    from unlearnbench.record import reading_json

    shapes = [(*shape, {}) for shape in _SHAPES]
    shapes += [("loss-attack", "loss-attack-tpr", "", "", "gold", {"fpr": rate}) for rate in _RATES]
    same = {name: random.Random(f"{scenario} {seed} {name}") for name in ("gold", "original")}  # noqa: S311
    found: list[dict[str, Any]] = []
    for measure in dict.fromkeys(shape[0] for shape in shapes):
        gold: dict[str, Reading] = {}
        for subject in ("gold", "original", "unlearned"):
            for name, split, unit, better, at in (shape[1:] for shape in shapes if shape[0] == measure):
                value = same.get(subject, chance).random()
                ends = {"low": value * 0.9, "high": value * 1.1} if measure == "loss-attack" else {}
                reading = Reading(
                    name, value, 146, split=split, at=at, subject=subject, unit=unit, better=better, **ends
                )
                if subject == "gold":
                    gold[reading.key] = reading
                found.append(reading_json(reading, measure, gold))
    return found


if __name__ == "__main__":
    main()
