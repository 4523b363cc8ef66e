"""How long the site of 10,000 records takes and how much memory: the target is a minute and 2 GB.

    python benchmarks/leaderboard_build.py [--records 10000]

Ten boards of 200 entries with five seeds each. Records are made by hand with about as many readings of the three models
as those of quick/v1 have beside single classes and rates (which are not kept of so many records), and held as they are
when they come from files: parsed one by one, then as boards keep them.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from boards import bounds, entry, row, small_suite
from records import run_document

from unlearnbench.api.runtime import Reading
from unlearnbench.leaderboard.board import Board, Ranking
from unlearnbench.leaderboard.reading import slim
from unlearnbench.leaderboard.site import build_site
from unlearnbench.record import Record

BOARDS = 10
SEEDS = 5
READINGS = 30
SCENARIO = "digits-cnn-class3/v1"


def main() -> None:
    """Make the boards, build the site, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    wanted: int = parser.parse_args().records
    began = time.perf_counter()
    made = [_board(place, wanted // BOARDS // SEEDS) for place in range(BOARDS)]
    ready, used = time.perf_counter(), time.process_time()
    print(f"{wanted} records on {BOARDS} boards made in {ready - began:.1f} s, {_memory():.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        build_site(made, (), out)
        files = [path for path in out.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        took, busy = time.perf_counter() - ready, time.process_time() - used
        print(f"site built in {took:.1f} s ({busy:.1f} s of one core): {len(files)} files, {size / 1e6:.0f} MB")
    print(f"peak memory {_memory():.2f} GB")


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _board(place: int, entries: int) -> Board:
    suite = replace(small_suite(), name=f"synthetic-{place}/v1", seeds=tuple(range(SEEDS)))
    suite = replace(suite, parts=tuple(part for part in suite.parts if part.scenario == SCENARIO))
    chance = random.Random(place)  # noqa: S311 - numbers to draw, no secrets
    sample = run_document(extra=[
        Reading(f"probe-{number}", 0.5, 100, split="forget", subject=subject)
        for number in range(READINGS) for subject in ("gold", "original", "unlearned")
    ])  # fmt: skip
    rows = []
    for number in range(entries):
        records = tuple(_record(sample, f"method-{number}", seed, place, chance) for seed in range(SEEDS))
        found = entry(f"method-{number}", submission=f"team-{number % 40}", records=records)
        distance = chance.random() / 10
        rows.append(
            row(found, str(number + 1), distance, chance.random() * 10, layer=1 + number // 10, scenarios=(SCENARIO,))
        )
    scene = tuple(bound for bound in bounds() if bound.scenario == SCENARIO)
    return Board(suite, False, (Ranking("oracle-free", tuple(rows), "Synthetic."),), scene)


def _record(sample: dict[str, object], unlearner: str, seed: int, board: int, chance: random.Random) -> Record:
    """A record of its own; original and gold read the same in all records of a seed, as they do in runs."""
    document = json.loads(json.dumps(sample))
    document["spec"]["unlearner"]["name"] = unlearner
    document["spec"]["seeds"] = dict.fromkeys(("train", "unlearn", "measure"), seed)
    document["id"] = f"{unlearner}.s{seed}"
    for place, reading in enumerate(document["readings"]):
        reading["value"] = chance.random() if reading["subject"] == "unlearned" else (place + seed / 10 + board) / 500
    return slim(Record(document, Path("nowhere")))


if __name__ == "__main__":
    main()
