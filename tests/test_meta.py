"""Measuring the measures: the scores on readings made by hand, the search, and the command from end to end."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import run_document
from support import assert_one_error, call

from unlearnbench.api.runtime import Reading
from unlearnbench.cli.meta import markdown, shown
from unlearnbench.meta import BANK, Entry, Meta, Point, Score, score
from unlearnbench.meta.bank import Tuned, tune
from unlearnbench.meta.bench import scores_of
from unlearnbench.record import Record
from unlearnbench.registry import registry

SHARES = ("kept 100 %", "kept 75 %", "kept 50 %", "kept 25 %", "kept 0 %")
GOLD = 0.5


def points(
    values: Mapping[str, Sequence[float]], half: float | None = None, gold: float = GOLD
) -> dict[str, dict[int, Point]]:
    """Points of entries by seed, with symmetric intervals if there are any."""
    return {
        label: {
            seed: Point(value, value - gold, *((value - half, value + half, abs(value - gold) <= half) if half else ()))
            for seed, value in enumerate(of_seeds)
        }
        for label, of_seeds in values.items()
    }


def ladder(*values: float, **others: float) -> dict[str, Sequence[float]]:
    return {
        **{label: (value,) for label, value in zip(SHARES, values, strict=True)},
        **{k: (v,) for k, v in others.items()},
    }


def scored(at: Mapping[str, Mapping[int, Point]]) -> Score:
    return score("attack", "auc", at, BANK, 1.5)


# -- order -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "tau"),
    [
        ((0.99, 0.87, 0.75, 0.63, 0.50), 1.0),
        ((0.50, 0.63, 0.75, 0.87, 0.99), -1.0),
        ((0.01, 0.13, 0.25, 0.37, 0.50), 1.0),  # far below gold is as far as far above
        ((0.99, 0.75, 0.87, 0.63, 0.50), 0.8),  # one of ten pairs is the wrong way round
        ((0.90, 0.10, 0.75, 0.63, 0.50), (9 - 0) / math.sqrt(10 * 9)),  # two equally far: tau-b
    ],
)
def test_tau_is_that_of_the_distance_from_gold_with_the_kept_share(values: tuple[float, ...], tau: float) -> None:
    assert scored(points(ladder(*values))).tau == pytest.approx(tau)


def test_a_reading_that_is_always_the_same_has_no_order() -> None:
    found = scored(points(ladder(1, 1, 1, 1, 1), gold=1.0))
    assert (found.tau, found.noise, found.finds) == (None, None, None)


def test_tau_is_the_mean_over_seeds_that_have_every_entry() -> None:
    at = points({label: (v, 1 - v, 0.7) for label, v in zip(SHARES, (0.99, 0.87, 0.75, 0.63, 0.5), strict=True)})
    del at["kept 50 %"][1]
    at["kept 25 %"][2] = Point(0.9, 0.4)
    # Seed 1 lacks an entry; of seed 2 only the four pairs with 25 % are untied, two of each sign.
    assert scored(at).tau == pytest.approx((1.0 + (1 - 3) / math.sqrt(10 * 4)) / 2)


def test_without_one_of_the_shares_nothing_is_said_of_the_order() -> None:
    found = scored(points(dict.fromkeys(SHARES[:4], (0.9,))))
    assert (found.tau, found.apart, found.finds) == (None, None, None)


@pytest.mark.parametrize(("half", "steps"), [(0.05, 4), (0.059, 4), (0.061, 2), (0.2, 0)])
def test_neighbours_are_apart_if_their_intervals_do_not_overlap(half: float, steps: int) -> None:
    found = scored(points(ladder(1.0, 0.87, 0.75, 0.63, 0.50), half)).apart
    assert found is not None
    assert (found.steps, found.of, found.intervals) == (steps, 4, "rows")


def test_neighbours_in_the_wrong_order_are_not_apart_however_narrow_the_intervals() -> None:
    below = scored(points(ladder(0.0, 0.13, 0.25, 0.37, 0.50), 0.01)).apart
    mixed = scored(points(ladder(0.99, 0.75, 0.87, 0.63, 0.50), 0.01)).apart
    assert below is not None
    assert mixed is not None
    assert (below.steps, mixed.steps) == (4, 3)


def test_readings_without_intervals_have_students_over_seeds() -> None:
    values = {label: (v - 0.01, v, v + 0.01) for label, v in zip(SHARES, (0.9, 0.8, 0.7, 0.66, 0.5), strict=True)}
    found = scored(points(values)).apart
    # t(0.975, 2) = 4.303, sd = 0.01, three seeds: +- 0.0248, so 0.70 and 0.66 overlap.
    assert found is not None
    assert (found.steps, found.of, found.intervals) == (3, 4, "seeds")
    assert scored(points({label: of[:1] for label, of in values.items()})).apart is None


# -- what is told from gold --------------------------------------------------------------------------------------------


def told(mine: Sequence[float], golds: Sequence[float], half: float | None = None) -> bool | None:
    values = dict.fromkeys(SHARES, golds) | {"tuned salun": mine}
    return scored(points(values, half)).told["tuned salun"]


def test_what_is_told_is_farther_with_every_seed_than_gold_from_gold_with_any() -> None:
    assert told((0.60, 0.58), (0.51, 0.45)) is True
    assert told((0.40, 0.42), (0.51, 0.45)) is True
    assert told((0.90, 0.54), (0.51, 0.45)) is False
    assert told((0.50, 0.50), (0.50, 0.50)) is False


def test_what_its_intervals_hold_for_gold_is_not_told() -> None:
    assert told((0.60, 0.58), (0.51, 0.49), half=0.05) is True
    assert told((0.60, 0.58), (0.51, 0.49), half=0.09) is False


def test_one_seed_without_intervals_tells_nothing() -> None:
    assert told((0.9,), (0.51,)) is None
    assert told((0.9,), (0.51,), half=0.02) is True


def test_the_smallest_share_that_is_told_is_found() -> None:
    noisy = {"kept 100 %": (0.9, 0.9), "kept 75 %": (0.8, 0.8), "kept 50 %": (0.7, 0.7)}
    found = scored(points({**noisy, "kept 25 %": (0.53, 0.60), "kept 0 %": (0.54, 0.48)}))
    assert found.finds == 0.5
    assert found.told["kept 25 %"] is False
    assert "kept 0 %" not in found.told


def test_noise_is_the_pooled_deviation_over_seeds_as_a_part_of_the_way_to_the_original() -> None:
    rng = np.random.default_rng(0)
    values = {label: rng.normal(v, 0.03, 4) for label, v in zip(SHARES, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)}
    pooled = math.sqrt(np.mean([np.var(of, ddof=1) for of in values.values()]))
    expected = pooled / (np.mean(values["kept 100 %"]) - GOLD)
    assert scored(points({k: v.tolist() for k, v in values.items()})).noise == pytest.approx(expected)
    assert scored(points(ladder(0.9, 0.8, 0.7, 0.6, 0.5))).noise is None


def test_what_catches_more_comes_first_then_what_orders_better() -> None:
    values = {label: (v, v) for label, v in zip(SHARES, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)}
    catches = scored(points({**values, "tuned salun": (0.9, 0.9)}))
    misses = scored(points({**values, "tuned salun": (0.5, 0.5)}))
    disorders = scored(points({**values, "kept 75 %": (0.95, 0.95), "tuned salun": (0.9, 0.9)}))
    assert sorted([misses, disorders, catches], key=lambda one: one.rank) == [catches, disorders, misses]


# -- from records ------------------------------------------------------------------------------------------------------


def record(value: float, seed: int) -> Record:
    at = ({}, {"fpr": "0.01"}, {"fpr": "0.1"}, {"class": "3"}, {"rows": "clean"})
    extra = [
        Reading("auc", v, 9, at=place, subject=subject, low=v - 0.02, high=v + 0.02)
        for place in at
        for subject, v in (("original", 0.9), ("gold", GOLD), ("unlearned", value))
    ]
    document: dict[str, Any] = run_document(seeds=(seed,) * 3, extra=extra)
    for reading in document["readings"]:
        if reading["measure"] == "probe":
            reading["measure"] = "loss-attack"
    document["measures"] = [{"name": name, "cpu_s": 2.0 + seed} for name in ("accuracy", "loss-attack")]
    return Record(document, Path("nowhere"))


def test_readings_are_taken_from_records_but_for_single_classes_and_points_of_curves() -> None:
    values = {
        "kept 100 %": 0.9,
        "kept 75 %": 0.8,
        "kept 50 %": 0.7,
        "kept 25 %": 0.6,
        "kept 0 %": 0.5,
        "tuned salun": 0.51,
    }
    made = [(label, record(value, seed)) for label, value in values.items() for seed in (0, 1)]
    found = {one.key: one for one in scores_of(made, BANK, registry()) if one.measure == "loss-attack"}
    assert set(found) == {"auc", "auc.fpr=0.01", "auc.rows=clean"}
    best = found["auc"]
    assert (best.finds, best.told["tuned salun"], best.told["kept 25 %"]) == (0.25, False, True)
    assert best.tau == pytest.approx(1.0)
    assert best.apart is not None
    assert (best.apart.steps, best.apart.of) == (8, 8)
    assert best.cpu_s == 2.5
    assert best.values["tuned salun"] == pytest.approx(0.51)
    assert best.values["wrong labels"] is None


# -- the search --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [1e-4, 1e-3, 1.1e-2])
def test_the_search_ends_where_the_reading_is_chance(start: float) -> None:
    """The reading falls with the logarithm of the learning rate and is 0.5 at 1e-3."""
    found = tune(lambda lr: 0.5 - 0.1 * math.log(lr / 1e-3), start)
    assert found is not None
    assert abs(found.reading - 0.5) <= 0.02
    assert found.reading == pytest.approx(0.5 - 0.1 * math.log(found.lr / 1e-3))


def test_a_reading_that_never_gets_there_ends_the_search_at_its_best() -> None:
    tried: list[float] = []

    def read(lr: float) -> float:
        tried.append(lr)
        return 0.875 - lr / 64

    assert tune(read, 1.0, doublings=3) == Tuned(8.0, 0.75)
    assert tried == [1.0, 2.0, 4.0, 8.0]


def test_nothing_to_read_is_nothing_to_tune() -> None:
    assert tune(lambda lr: None, 1.0) is None
    assert tune(lambda lr: 0.9 if lr < 2 else None, 1.0) == Tuned(1.0, 0.9)


# -- the document ------------------------------------------------------------------------------------------------------


def test_the_markdown_table_has_a_row_for_each_reading_and_as_many_cells_as_headings() -> None:
    found = Meta(
        "s/v1", (0, 1), BANK, {"tuned salun": Tuned(0.001, 0.497)}, (scored(points(ladder(0.9, 0.8, 0.7, 0.6, 0.5))),)
    )
    lines = markdown(found, every=True).splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert lines[0] == "s/v1 · 9 models of known truth · seeds 0 1"
    assert len({row.count("|") for row in rows}) == 1
    assert rows[2].startswith("| `attack: auc` | 0.900 0.800 0.700 0.600 0.500 | 1.00 | - | - |")
    assert "- tuned salun: learning rate 0.001, where the loss attack reads 0.497" in lines


def test_a_measure_is_shown_by_its_best_reading_unless_all_are_asked_for() -> None:
    steady = {label: (v, v) for label, v in zip(SHARES, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)}
    best, other = (score("attack", key, points(steady), BANK, 1.0) for key in ("auc", "tpr"))
    found = Meta("s/v1", (0, 1), BANK, {}, (best, other, score("accuracy", "accuracy", points(steady), BANK, 1.0)))
    assert [one.key for one in shown(found, every=False)] == ["auc", "accuracy"]
    assert shown(found, every=True) == list(found.scores)
    assert "--every-reading" in markdown(found, every=False)
    assert "--every-reading" not in markdown(found, every=True)


def test_the_bank_reaches_from_everything_to_nothing_and_holds_what_is_hidden() -> None:
    assert [entry.kept for entry in BANK[:5]] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert {entry.flaw for entry in BANK[5:]} == {"damaged", "hidden"}
    assert [entry.unlearner for entry in BANK if entry.tuned] == ["random-labels", "salun"]
    assert Entry("x", "salun", {"density": 0.3}).choice(lr=0.1)["params"] == {"density": 0.3, "lr": 0.1}


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_runs_the_bank_and_prints_writes_and_says_as_json_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = (
        "--scenario",
        "digits-cnn-random10/v1",
        "--measure",
        "accuracy",
        "--measure",
        "loss-attack",
        "--seed",
        "0",
    )
    from unlearnbench import config

    real = config.scenario

    def short(name: str) -> dict[str, Any]:
        found = real(name)
        return {**found, "recipe": {**found["recipe"], "epochs": 1}, "unlearners": {}}

    monkeypatch.setattr(config, "scenario", short)  # the whole way on networks that are trained for one epoch
    done = call("meta", *recipe, "-o", "table.md", "--every-reading", "--json")
    document = done.json()
    assert done.rc == 0, done.stderr
    assert "tuned salun: learning rate" in done.stderr
    assert document["seeds"] == [0]
    assert {one["measure"] for one in document["scores"]} == {"accuracy", "loss-attack"}
    (attack,) = [one for one in document["scores"] if one["key"] == "loss-attack-auc"]
    assert set(attack["values"]) == {entry.label for entry in BANK}
    assert None not in attack["values"].values()
    tuned = {entry["label"]: entry["tuned"] for entry in document["bank"] if entry["tuned"]}
    assert attack["values"]["tuned salun"] == pytest.approx(tuned["tuned salun"]["reading"])
    assert len(list((tmp_path / "runs-meta" / "bank").glob("*/record.json"))) == len(BANK)
    assert "| `loss-attack: loss-attack-auc` |" in (tmp_path / "table.md").read_text("utf-8")


def test_a_narrow_terminal_gets_a_block_for_each_reading(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from unlearnbench.cli.meta import _print

    found = Meta("s/v1", (0,), BANK, {}, (scored(points(ladder(0.9, 0.8, 0.7, 0.6, 0.5), 0.02)),))
    monkeypatch.setenv("COLUMNS", "70")
    _print(found, every=True)
    narrow = capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    _print(found, every=True)
    wide = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 70
    assert re.search(r"^  tau +1.00$", narrow, re.MULTILINE)
    assert "0.900 0.800 0.700 0.600 0.500" in narrow
    (row,) = [line for line in wide.splitlines() if "attack: auc" in line]
    assert "0.900 0.800 0.700 0.600 0.500   1.00     4/4    25 %" in row


@pytest.mark.parametrize(
    ("arguments", "rc", "code", "words"),
    [
        (("--measure", "lossattack"), 2, "unknown-measure", "did you mean"),
        (("--scenario", "location30"), 2, "unknown-scenario", "location30-mlp-random10/v1"),
        (("--scenario", "digits-cnn-class3/v1"), 3, "incompatible", "forgets samples"),
        (("--measure", "run-cost"), 2, "bad-measure", "name measures of forgetting"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line_before_any_work(
    arguments: tuple[str, ...], rc: int, code: str, words: str, tmp_path: Path
) -> None:
    assert_one_error(call("meta", *arguments, "--out", tmp_path / "out"), rc, code, words)
    assert list(tmp_path.iterdir()) == []


def test_a_plugin_of_the_bank_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearnbench.meta import bench
    from unlearnbench.registry import Registry

    others = [p for p in registry().plugins if p.distribution != "unlearnbench-controls"]
    monkeypatch.setattr(bench, "registry", lambda: Registry(others))
    assert_one_error(call("meta", "--out", tmp_path / "out"), 2, "missing-plugin", "pip install unlearnbench-controls")
