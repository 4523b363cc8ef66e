"""Ranking: distances to gold, seed by seed, in ranks, places and layers; found again by hand and by brute force."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import run_document
from scipy.stats import rankdata

from unlearnbench.api.runtime import Reading
from unlearnbench.leaderboard.board import AttackReading, Board, Entry, ReAttack, Row, Statement
from unlearnbench.leaderboard.pareto import layers
from unlearnbench.leaderboard.ranking import MOST_PAIRED, boards
from unlearnbench.leaderboard.submission import Level
from unlearnbench.leaderboard.suites import suite
from unlearnbench.record import Record, reading_json
from unlearnbench.statistics import critical_difference, estimate, estimates, tied_groups

QUICK = suite("quick/v1")
PLACES = [(part.scenario, axis) for part in QUICK.parts for axis in part.axes]
Gaps = Mapping[tuple[str, str], Sequence[float]]
"""Signed distance to gold by scenario and axis, for the five seeds; cost as it is."""

_document = run_document()


def record(scenario: str, seed: int, gaps: Mapping[str, float | None], *, status: str = "complete") -> Record:
    """A run whose readings are so far from gold; only what the ranking looks at differs from run to run."""
    readings = []
    for axis in QUICK.part(scenario).axes:
        gap = gaps[axis.name]
        name, _, split = axis.key.partition(".")
        gold = Reading(name, 0.5, 10, split=split, subject="gold")
        value = gap if axis.name == "cost" or gap is None else 0.5 + gap
        said = "ok" if value is not None else "diverged"
        mine = Reading(name, value, 10, split=split, subject="unlearned", status=said)
        readings += [reading_json(each, axis.measure, {gold.key: gold}) for each in (gold, mine)]
    spec = {**_document["spec"], "scenario": scenario, "seeds": dict.fromkeys(("train", "unlearn", "measure"), seed)}
    found = {**_document, "spec": spec, "id": f"{scenario}.{seed}", "readings": readings, "status": status}
    return Record(found if status == "complete" else {**found, "readings": []}, Path("runs"))


def entry(name: str, gaps: Gaps, *, division: str = "oracle-free", level: Level = "self-reported") -> Entry:
    runs = [
        record(part.scenario, seed, {axis.name: gaps[part.scenario, axis.name][seed] for axis in part.axes})
        for part in QUICK.parts
        for seed in QUICK.seeds
    ]
    return Entry(
        id=f"team/{name}", submission="team", unlearner=name, division=division, statement=Statement(),  # type: ignore[arg-type]
        created="2026-11-21T08:00:00+00:00", level=level, rerun=0, records=tuple(runs), suite=QUICK.name,
    )  # fmt: skip


def constant(name: str, distance: float, cost: float = 1.0, **options: str) -> Entry:
    """An entry that is everywhere equally far from gold."""
    gaps = {(s, axis.name): [cost if axis.name == "cost" else distance] * 5 for s, axis in PLACES}
    return entry(name, gaps, **options)  # type: ignore[arg-type]


def drawn(name: str, generator: np.random.Generator, **options: str) -> Entry:
    gaps = {(s, axis.name): np.round(generator.normal(0, 0.2, 5), 2).tolist() for s, axis in PLACES}
    gaps |= {(s, axis.name): generator.uniform(1, 9, 5).tolist() for s, axis in PLACES if axis.name == "cost"}
    return entry(name, gaps, **options)  # type: ignore[arg-type]


def board(*entries: Entry) -> Board:
    (found,) = boards(entries)
    return found


def row(found: Board, name: str) -> Row:
    return next(each for each in found.rows if each.entry.id == f"team/{name}")


def test_three_entries_are_ranked_as_by_hand() -> None:
    near, middle = constant("near", 0.1), constant("middle", -0.2)
    # In one cell of six, the far one is the nearest: (5 * 3 + 1) / 6, and the others move down.
    place = ("digits-cnn-class3/v1", "forgetting")
    gaps = {(s, axis.name): [0.3] * 5 for s, axis in PLACES} | {place: [0.0] * 5}
    found = board(near, middle, entry("far", gaps))

    assert [each.entry.unlearner for each in found.rows] == ["near", "middle", "far"]
    ranks = {each.entry.unlearner: each.rank.mean for each in found.rows if each.rank}
    assert ranks == pytest.approx({"near": (5 * 1 + 2) / 6, "middle": (5 * 2 + 3) / 6, "far": (5 * 3 + 1) / 6})
    cell = row(found, "middle").cell(*place)
    assert cell is not None
    assert cell.rank == 3.0
    assert cell.distance.mean == pytest.approx(0.2)
    assert cell.value.mean == pytest.approx(0.3)
    assert [each.place for each in found.rows] == ["1", "2", "3"]  # no seed disagrees


def test_ranks_are_those_of_a_brute_force() -> None:
    generator = np.random.default_rng(4)
    entries = [drawn(f"e{place}", generator) for place in range(7)]
    found = board(*entries)
    by_seed = np.zeros((5, 7))
    for scenario, axis in PLACES:
        if axis.name == "cost":
            continue
        gaps = [[reading_gap(each, scenario, seed, axis.measure, axis.key) for each in entries] for seed in range(5)]
        ranks = rankdata(np.round(np.abs(gaps), 12), axis=1)
        by_seed += ranks / 6
        for place, each in enumerate(entries):
            cell = row(found, each.unlearner).cell(scenario, axis.name)
            assert cell is not None
            assert cell.rank == pytest.approx(ranks[:, place].mean())
            assert cell.distance.mean == pytest.approx(np.abs(gaps)[:, place].mean())
    for place, each in enumerate(entries):
        rank = row(found, each.unlearner).rank
        assert rank is not None
        assert rank.mean == pytest.approx(by_seed[:, place].mean())
        assert rank.low == pytest.approx(estimate(by_seed[:, place]).low)


def reading_gap(each: Entry, scenario: str, seed: int, measure: str, key: str) -> float:
    [mine] = [
        reading["gap"]
        for run in each.records
        if (run.document["spec"]["scenario"], run.document["spec"]["seeds"]["train"]) == (scenario, seed)
        for reading in run.readings
        if (reading["subject"], reading["measure"], reading["key"]) == ("unlearned", measure, key)
    ]
    return float(mine)


def test_the_order_of_entries_and_records_changes_nothing() -> None:
    generator = np.random.default_rng(1)
    entries = [drawn(f"e{place}", generator) for place in range(5)] + [constant("identity", 0.4, division="control")]
    shuffled = [replace(each, records=each.records[::-1]) for each in entries]
    random.Random(3).shuffle(shuffled)
    one, other = board(*entries).to_json(), board(*shuffled).to_json()
    for found in (one, other):
        for ranking in found["rankings"]:
            for each in ranking["rows"]:
                each["runs"].sort()
    assert one == other


def test_a_control_never_changes_a_rank() -> None:
    generator = np.random.default_rng(2)
    entries = [drawn(f"e{place}", generator) for place in range(4)]
    alone, beside = board(*entries), board(*entries, constant("retrain", 0.0, cost=0.1, division="control"))
    for each in entries:
        assert row(alone, each.unlearner) == row(beside, each.unlearner)
    control = row(beside, "retrain")
    assert (control.rank, control.place) == (None, "")
    assert "control" in control.why_unranked
    assert control.cells[0].rank is None
    assert control.layers[QUICK.parts[0].scenario] is None


def test_those_who_looked_at_gold_are_ranked_apart() -> None:
    found = board(constant("honest", 0.2), constant("tuned", 0.0, division="oracle-tuned"))
    assert [(each.division, each.rows[0].place) for each in found.rankings] == [
        ("oracle-free", "1"), ("oracle-tuned", "1"),
    ]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.001, 1.0))
def test_a_worse_copy_never_ranks_better(seed: int, more: float) -> None:
    generator = np.random.default_rng(seed)
    gaps = {(s, axis.name): generator.normal(0, 0.2, 5).tolist() for s, axis in PLACES}
    worse = {place: [gap + (more if gap >= 0 else -more) for gap in found] for place, found in gaps.items()}
    found = board(entry("copy", worse), entry("first", gaps), drawn("third", generator))
    first, copy = row(found, "first"), row(found, "copy")
    assert first.rank
    assert copy.rank
    assert first.rank.mean is not None
    assert copy.rank.mean is not None
    assert first.rank.mean < copy.rank.mean
    assert int(first.place.partition("-")[0]) <= int(copy.place.partition("-")[0])


def test_equal_entries_are_tied_and_share_their_places() -> None:
    found = board(constant("a", 0.1), constant("b", -0.1), constant("c", 0.3))
    assert [(each.entry.unlearner, each.place) for each in found.rows] == [("a", "1-2"), ("b", "1-2"), ("c", "3")]
    assert row(found, "a").tied == ("team/b",)
    assert "indication" in found.rankings[0].note


def test_more_entries_than_can_be_paired_are_tied_by_the_critical_difference() -> None:
    count = MOST_PAIRED + 4
    found = board(*(constant(f"e{place:03}", 0.01 * place) for place in range(count)))
    difference = critical_difference(count, 5)
    assert "Nemenyi" in found.rankings[0].note
    near = sum(1 for other in range(1, count) if other <= difference)
    assert found.rows[0].place == f"1-{1 + near}"
    assert len(found.rows[0].tied) == near


def test_what_lacks_a_scenario_a_seed_or_was_retracted_has_no_rank() -> None:
    whole, short, other = constant("whole", 0.3), constant("short", 0.1), constant("other", 0.1)
    short = replace(short, records=short.records[:5])
    other = replace(other, records=other.records[1:])
    gone = replace(constant("gone", 0.0), retracted="a bug")
    found = board(whole, short, other, gone)
    assert [(each.entry.unlearner, each.place) for each in found.rows] == [
        ("whole", "1"), ("gone", ""), ("other", ""), ("short", ""),
    ]  # fmt: skip
    assert row(found, "short").why_unranked == "has no runs of digits-noisy-cnn-random10/v1"
    assert row(found, "other").why_unranked == "lacks seed 0 of digits-cnn-class3/v1"
    assert row(found, "gone").why_unranked == "retracted: a bug"
    assert row(found, "short").layers == {"digits-cnn-class3/v1": 1, "digits-noisy-cnn-random10/v1": None}


def test_a_run_that_came_to_nothing_ranks_last_and_is_counted() -> None:
    lost = constant("lost", 0.0)
    lost = replace(lost, records=(failed(QUICK.parts[0].scenario, 0), *lost.records[1:]))
    found = board(lost, constant("other", 0.5))
    cell = row(found, "lost").cell(QUICK.parts[0].scenario, "forgetting")
    assert cell is not None
    assert cell.missing == {"failed": 1}
    assert cell.rank == pytest.approx((2 + 1 + 1 + 1 + 1) / 5)
    assert row(found, "lost").layers[QUICK.parts[0].scenario] is None  # four seeds are not five


def failed(scenario: str, seed: int) -> Record:
    return record(scenario, seed, dict.fromkeys(("forgetting", "utility", "privacy", "cost"), 0.0), status="failed")


def attacked(each: Entry, distance: float, level: Level) -> Entry:
    scenario = QUICK.parts[0].scenario
    readings = tuple(AttackReading(scenario, seed, "u-lira", "auc", 0.5 + distance, distance) for seed in range(5))
    attack = ReAttack("breaker", "2026-12-01T00:00:00+00:00", "0" * 64, level, readings)
    return replace(each, attacks=(attack,), re_attacks=("breaker",))


def test_a_stronger_attack_lowers_an_entry_and_a_weaker_one_changes_nothing() -> None:
    target, other = constant("target", 0.1), constant("other", 0.2)
    before = board(target, other)
    after = board(attacked(target, 0.4, "self-reported"), other)
    cell = row(after, "target").cell(QUICK.parts[0].scenario, "privacy")
    assert cell is not None
    assert cell.from_attack == "breaker"
    assert cell.distance.mean == pytest.approx(0.4)
    assert cell.rank == 2.0
    assert row(after, "target").rank != row(before, "target").rank
    weaker = board(attacked(target, 0.05, "rerun"), other)
    assert row(weaker, "target").cells == row(before, "target").cells
    assert row(weaker, "target").rank == row(before, "target").rank


def test_an_attack_that_nobody_verified_moves_no_verified_entry() -> None:
    target = constant("target", 0.1, level="rerun")
    assert row(board(attacked(target, 0.4, "self-reported")), "target").cells == row(board(target), "target").cells
    cell = row(board(attacked(target, 0.4, "rerun")), "target").cell(QUICK.parts[0].scenario, "privacy")
    assert cell is not None
    assert cell.from_attack == "breaker"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_layers_are_those_of_a_brute_force(points: list[tuple[int, ...]]) -> None:
    scores = {f"e{place}": point for place, point in enumerate(points)}
    found, beaten = layers(scores)

    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    left, layer, expected = dict(scores), 0, {}
    while left:
        layer += 1
        front = [name for name in left if not any(beats(other, left[name]) for other in left.values())]
        expected |= dict.fromkeys(front, layer)
        left = {name: point for name, point in left.items() if name not in front}
    assert found == expected
    assert beaten == {
        name: tuple(sorted(o for o, other in scores.items() if beats(other, mine))) for name, mine in scores.items()
    }


def test_cost_is_part_of_the_front() -> None:
    found = board(constant("cheap", 0.2, cost=1), constant("near", 0.1, cost=5), constant("beaten", 0.2, cost=2))
    scenario = QUICK.parts[0].scenario
    assert {each.entry.unlearner: each.layers[scenario] for each in found.rows} == {"near": 1, "cheap": 1, "beaten": 2}
    assert row(found, "beaten").beaten_by[scenario] == ("team/cheap",)


def test_estimates_together_are_those_of_each_alone() -> None:
    generator = np.random.default_rng(0)
    rows = [generator.random(n).tolist() for n in (0, 1, 2, 3, 5, 5, 5, 10, 10)] + [[1.0] * 3, [1.0, 2.0, 2.0]]
    assert estimates(rows) == [estimates([each])[0] for each in rows]
    for one, other in zip(estimates(rows), map(estimate, rows), strict=True):
        assert (one.n, one.mean, one.sd, one.status) == (other.n, other.mean, other.sd, other.status)
        assert (one.low is None) == (other.low is None)
        assert one.low is None or (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-3)


def test_groups_of_many_that_are_all_tied_are_found_at_once() -> None:
    names = [f"e{place}" for place in range(60)]  # without a pivot this takes 2^60 steps
    assert tied_groups(names, lambda one, other: False) == (tuple(names),)


def trained_by_itself(each: Entry) -> Entry:
    """The same runs by a method that trains original and gold too: its gold reads 0.9 where the recipe's reads 0.5."""

    def moved(reading: Mapping[str, object]) -> dict[str, object]:
        value = reading["value"]
        return {**reading, "value": value + 0.4 if isinstance(value, float) else value}

    runs = [
        replace(run, document={**run.document, "trainer": "itself", "readings": list(map(moved, run.readings))})
        for run in each.records
    ]
    return replace(each, records=tuple(runs))


def test_what_trains_its_own_models_is_held_against_the_suites_gold_in_utility() -> None:
    exact = trained_by_itself(constant("exact", 0.0))
    alone, beside = board(exact), board(exact, constant("other", 0.1))
    for scenario in {scenario for scenario, _ in PLACES}:
        found = {axis: row(beside, "exact").cell(scenario, axis) for axis in ("forgetting", "utility", "privacy")}
        assert {axis: cell and cell.distance.mean for axis, cell in found.items()} == pytest.approx(
            {"forgetting": 0.0, "utility": 0.4, "privacy": 0.0}, abs=1e-12
        )
        own = row(alone, "exact").cell(scenario, "utility")
        assert own is not None
        assert own.distance.mean == 0.0  # nobody else's gold is there
    assert ["exact" in note and "utility" in note for note in beside.notes] == [True]
    assert alone.notes == ()
