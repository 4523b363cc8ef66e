"""Small boards made by hand from real records, and one whose every text is an attack: for tests of the site."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from records import run_document

from unlearnbench.api.runtime import Reading
from unlearnbench.leaderboard.board import (
    Board,
    Bound,
    Cell,
    Change,
    Division,
    Entry,
    Flag,
    Ranking,
    Row,
    Statement,
)
from unlearnbench.leaderboard.submission import Level
from unlearnbench.leaderboard.suites import AXES, Suite, suite
from unlearnbench.record import Record
from unlearnbench.statistics import Estimate

SEEDS = (0, 1, 2)
SCENARIOS = ("digits-cnn-class3/v1", "digits-noisy-cnn-random10/v1")
AUTHORS = ("A. Author", "B. Author")
SALUN = {"density": 0.5, "epochs": 10, "lr": 0.01, "milestones": [3, 7], "optimizer": "sgd"}

ATTACKS = {
    "script": "<script>alert(1)</script>",
    "handler": '"><img src=x onerror=alert(2)>',
    "attribute": "' onmouseover='alert(3)' x='",
    "template": "{{ 7 * 7 }}{% for x in y %}",
    "comment": "--><svg onload=alert(4)>",
    "terminal": "\x1b[31mred\x1b[0m\x07\x9b1m",
    "bidi": "user\u202egnp.exe\u2066",
    "formula": '=HYPERLINK("https://evil.example","x")',
    "lines": "first\n=1+1\r@SUM(A1)",
    "address": "javascript:alert(5)",
    "path": "../../../etc/passwd",
    "entity": "&lt;b&gt; &amp; ]]>",
}
"""What strangers may write where text is asked for."""


def around(mean: float, room: float = 0.01, n: int = 3) -> Estimate:
    return Estimate(n, mean, room / 2, mean - room, mean + room)


NONE = Estimate(0, None, None, None, None, "no values")


def small_suite() -> Suite:
    """quick/v1 with a floor and three seeds."""
    found = suite("quick/v1")
    parts = tuple(
        replace(part, floor={"forgetting": 0.01, "utility": 0.005, "privacy": 0.02})
        for part in found.parts
        if part.scenario in SCENARIOS
    )
    return replace(found, seeds=SEEDS, parts=parts)


def runs(
    unlearner: str,
    params: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = SEEDS,
    scenarios: Sequence[str | None] = SCENARIOS,
    certificate: Mapping[str, Any] | None = None,
) -> tuple[Record, ...]:
    """Records of an unlearner; nothing lies on the disk, as with records of a submission."""
    extra = [
        Reading("probe-auc", 0.5 + 0.1 * place, 100, split="forget", at=at, subject=subject)
        for at in ({}, {"fpr": "0.01"})
        for place, subject in enumerate(("gold", "unlearned", "original"))
    ]
    chosen = {"name": unlearner, "params": dict(SALUN if params is None else params)}
    found = []
    for scenario in scenarios:
        for seed in seeds:
            document = run_document(unlearner=chosen, seeds=(seed,) * 3, scenario=scenario, extra=extra)
            document["certificate"] = certificate
            found.append(Record(document, Path("nowhere") / str(document["id"])))
    return tuple(found)


def entry(
    unlearner: str,
    *,
    submission: str = "records",
    division: Division = "oracle-free",
    level: Level = "self-reported",
    **more: Any,
) -> Entry:
    params = more.pop("params", None)
    certificate = more.pop("certificate", None)
    records = more.pop("records", None) or runs(unlearner, params, certificate=certificate)
    return Entry(
        id=f"{submission}/{unlearner}",
        submission=submission,
        unlearner=unlearner,
        division=division,
        statement=more.pop("statement", Statement()),
        created=more.pop("created", "2026-11-21T12:00:00+00:00"),
        level=level,
        rerun=more.pop("rerun", 0),
        records=records,
        **more,
    )


def row(found: Entry, place: str, distance: float, cost: float, **more: Any) -> Row:
    """A line of a board; its distances are ``distance`` times 1, 2 and 3."""
    ranked = bool(place)
    return Row(
        entry=found,
        place=place,
        rank=around(1 + 10 * distance, 0.3) if ranked else None,
        tied=more.pop("tied", ()),
        cells=tuple(
            Cell(
                scenario,
                axis,
                value=around(0.9 - distance * turn),
                distance=around(distance * turn, 0.004),
                rank=1.0 + 10 * distance if ranked else None,
                missing=more.get("missing", {}),
                from_attack=more.get("from_attack") if axis == "privacy" else None,
            )
            for scenario in more.get("scenarios", SCENARIOS)
            for turn, axis in enumerate(AXES, start=1)
        ),
        costs={scenario: around(cost, cost / 10) for scenario in more.get("scenarios", SCENARIOS)},
        layers={scenario: more.get("layer", 1) if ranked else None for scenario in SCENARIOS},
        beaten_by={scenario: more.get("beaten_by", ()) for scenario in SCENARIOS},
        why_unranked=more.get("why", ""),
    )


def bounds() -> tuple[Bound, ...]:
    return tuple(
        Bound(scenario, axis, subject, around(value))
        for scenario in SCENARIOS
        for axis in AXES
        for subject, value in (("original", 0.99), ("gold", 0.52))
    )


def small_board() -> Board:
    """Six entries in all divisions: tied, retracted, flagged, re-attacked, oracle-tuned, and a control."""
    salun = entry(
        "salun",
        submission="salun-authors",
        level="rerun",
        rerun=3,
        statement=Statement(AUTHORS, "https://arxiv.org/abs/2310.12508", "CC-BY-4.0", "none", 1, "A note."),
        flags=(Flag(SCENARIOS[0], "too-good", "is nearer to gold than a second gold"),),
    )  # fmt: skip
    scrub = entry("scrub", submission="salun-authors", level="recomputed-metrics", params={})
    finetune = entry("finetune", params={"epochs": 5, "lr": 0.02}, re_attacks=("stronger",))
    chain = entry("saliency+finetune", level="recomputed-from-weights", retracted="the seeds were wrong")
    tuned = entry("ssd", submission="tuned", division="oracle-tuned", params={"alpha": 10.0})
    control = entry("identity", division="control", params={})
    free = Ranking(
        "oracle-free",
        (
            row(salun, "1-2", 0.012, 0.5, tied=(scrub.id,)),
            row(scrub, "1-2", 0.02, 2.0, tied=(salun.id,)),
            row(finetune, "3", 0.05, 4.0, layer=2, beaten_by=(salun.id,), from_attack="stronger"),
            row(chain, "", 0.04, 1.0, why="retracted"),
        ),
        "Entries are tied where a paired test over seeds does not tell them apart.",
    )
    return Board(
        suite=small_suite(),
        official=True,
        rankings=(
            free,
            Ranking("oracle-tuned", (row(tuned, "1", 0.03, 0.2),), "One entry."),
            Ranking("control", (row(control, "", 0.4, 0.001, why="a control"),), "Controls have no rank."),
        ),
        bounds=bounds(),
        notes=("Bands and floors are those of the suite.",),
    )


def hostile_board() -> Board:
    """A board on which every text that a stranger can write is an attack; its numbers are ordinary."""
    texts = list(ATTACKS.values())
    rows = []
    for place, text in enumerate(texts):
        records = tuple(_poisoned(record, text) for record in runs("salun", {"lr": 0.01, "mode": text}))
        found = entry(
            text,
            submission=texts[place - 1],
            statement=Statement((text, *texts), ATTACKS["address"], text, text, 1, "\n".join(texts)),
            flags=(Flag(text, text, text),),
            retracted=text if place % 3 == 0 else None,
            re_attacks=(text,),
            records=records,
        )
        more = {"from_attack": text, "missing": {text: 1}, "beaten_by": (text,), "tied": (text,), "why": text}
        rows.append(row(found, "" if found.retracted else str(place + 1), 0.01 * (place + 1), 1.0, **more))
    return Board(small_suite(), True, (Ranking("oracle-free", tuple(rows), texts[0]),), bounds(), tuple(texts))


def _poisoned(record: Record, text: str) -> Record:
    """A record in which texts that a schema leaves open are an attack."""
    document = copy.deepcopy(dict(record.document))
    document["id"] = f"{text}{document['id']}"
    document["spec"]["unlearner"] = {"name": text, "params": {"lr": 0.01, "mode": text, text[:20]: text}}
    document["environment"] |= {"processor": text, "platform": text, "packages": {text: text}}
    document["certificate"] = {text: [text]}
    for reading in document["readings"]:
        if reading["measure"] == "probe":
            reading |= {"key": f"{reading['key']}{text}", "name": text, "unit": text, "verdict": text, "measure": text}
    for component in document["components"]:
        component |= {"distribution": text, "distribution_version": text}
    for models in document["models"].values():
        models[0]["sha256"] = text
    return Record(document, record.folder)


def some_changes() -> tuple[Change, ...]:
    return (
        Change("2026-11-21T12:00:00+00:00", "submission", "salun-authors", "salun, scrub on quick/v1"),
        Change("2026-11-22", "verification", "salun-authors", "rerun"),
        Change("2026-11-23", "retraction", "records/saliency+finetune", "the seeds were wrong"),
        Change("2026-11-23", "re-attack", "stronger", "attacks records"),
    )


def hostile_changes() -> tuple[Change, ...]:
    return tuple(Change("2026-11-21", "submission", text, text) for text in ATTACKS.values())
