"""How an entry is run again: the commands, quoted for a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.config import resolve_experiment, scenario_names
from unlearnbench.leaderboard.board import Board, Entry
from unlearnbench.parameters import parse_value
from unlearnbench.record import Record
from unlearnbench.registry import registry


def commands(board: Board, entry: Entry) -> tuple[str, ...]:
    """What runs all of the entry again: one command where all scenarios have the same setting, else one for each.

    Parameters are given where they are not what the scenario would take. Empty where no command can say it: records
    of no scenario have a spec and nothing shorter.
    """
    first: dict[str, Record] = {}
    for record in entry.records:
        first.setdefault(str(record.document["spec"]["scenario"] or ""), record)
    if not first or (not board.official and not set(first) <= set(scenario_names())):
        return ()
    options = {scenario: tuple(_options(scenario, record)) for scenario, record in first.items()}
    if board.official and len(set(options.values())) == 1 and len(first) == len(board.suite.parts):
        return (_line(["--suite", board.suite.name, *next(iter(options.values()))]),)
    if board.official:
        return tuple(_line(["--suite", board.suite.name, "--scenario", s, *mine]) for s, mine in options.items())
    return tuple(_line(["--scenario", s, *_choices(entry, s), *mine]) for s, mine in options.items())


def _line(words: Sequence[str]) -> str:
    return " ".join(["unlearnbench run", *map(shlex.quote, words)])


def _choices(entry: Entry, scenario: str) -> list[str]:
    """What a suite would fix: measures and seeds."""
    mine = [record.document["spec"] for record in entry.records if record.document["spec"]["scenario"] == scenario]
    found = []
    for measure in mine[0]["measures"]:
        found += ["--measure", str(measure["name"])]
    for seed in sorted({int(spec["seeds"]["train"]) for spec in mine}):
        found += ["--seed", str(seed)]
    return found


def _options(scenario: str, record: Record) -> list[str]:
    spec = record.document["spec"]
    name = str(spec["unlearner"]["name"])
    found = ["--unlearner", name]
    usual = _usual(scenario, name)
    for place, stage in enumerate(stages(spec["unlearner"]), start=1):
        marked = f"{stage['name']}#{place}" if "stages" in spec["unlearner"] else str(stage["name"])
        for parameter, value in sorted(stage["params"].items()):
            if usual is None or usual.get((place, parameter), ...) != value:
                found += ["--set", f"{marked}.{parameter}={_value(value)}"]
    found += ["--device", str(spec["device"])] if spec["device"] != "cpu" else []
    return found + (["--threads", str(spec["threads"])] if spec["threads"] != 1 else [])


@cache
def _usual(scenario: str, unlearner: str) -> Mapping[tuple[int, str], Any] | None:
    """Parameters as the scenario would set them, or None where that is not known here, as without the plugin."""
    try:
        spec = resolve_experiment({"scenario": scenario, "unlearners": [unlearner]}, registry())[0].to_json()
    except UnlearnBenchError:
        return None
    return {
        (place, name): value
        for place, stage in enumerate(stages(spec["unlearner"]), start=1)
        for name, value in stage["params"].items()
    }


def stages(unlearner: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The links of a chain, or the one unlearner."""
    found: Sequence[Mapping[str, Any]] = unlearner.get("stages") or [unlearner]
    return found


def _value(value: Any) -> str:
    """A value as ``--set`` reads it; text that it would take for something else, or that cannot be seen, as JSON."""
    if isinstance(value, str) and value.isprintable() and parse_value(value) == value:
        return value
    return json.dumps(value, allow_nan=False, sort_keys=True)
