"""Records compared: what may stand together, what is paired, what is said, and the command that prints it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from records import run_document, sha, write
from scipy import stats
from support import WINE, assert_one_error, call, spawn

from unlearnbench.api.errors import UsageError
from unlearnbench.api.runtime import Reading
from unlearnbench.comparison import Comparison, Pair, ReadingComparison, compare, reading_keys
from unlearnbench.record import Record, content_digest

GOLD = 0.5
NEAR = (0.51, 0.48, 0.52, 0.49, 0.505, 0.485, 0.515, 0.47, 0.53, 0.5)
FAR = (0.81, 0.79, 0.85, 0.88, 0.83, 0.82, 0.9, 0.87, 0.84, 0.86)
MIDDLE = (0.6, 0.61, 0.58, 0.62, 0.59, 0.63, 0.6, 0.57, 0.64, 0.61)
Seeds = tuple[int, int, int]


def named(name: str, **params: Any) -> dict[str, Any]:
    return {"name": name, "params": params}


def document(
    unlearner: Mapping[str, Any] | str, seed: int | Seeds, value: float | None, *, status: str = "ok", **options: Any
) -> dict[str, Any]:
    """A record whose ``auc`` reads as it is told for the unlearned model, .95 for the original and .5 for gold."""
    seeds = seed if isinstance(seed, tuple) else (seed, seed, seed)
    gold = options.pop("gold", GOLD)
    auc = [
        Reading("auc", subject_value, 40, subject=subject, status=status if subject_value is None else "ok")
        for subject, subject_value in (("original", 0.95), ("gold", gold), ("unlearned", value))
    ]
    chosen = named(unlearner) if isinstance(unlearner, str) else unlearner
    return run_document(unlearner=chosen, seeds=seeds, extra=auc, **options)


def records(*documents: dict[str, Any], folder: str = "runs") -> list[Record]:
    return [Record(each, Path(folder) / each["id"]) for each in documents]


def series(unlearner: str, values: Sequence[float | None], **options: Any) -> list[Record]:
    return records(*(document(unlearner, seed, value, **options) for seed, value in enumerate(values)))


def only(found: Sequence[Record], keys: Sequence[str] = ("auc",), **options: Any) -> Comparison:
    (comparison,) = compare(found, keys, **options)
    return comparison


def auc(found: Sequence[Record], **options: Any) -> ReadingComparison:
    (reading,) = only(found, **options).readings
    return reading


def pair(reading: ReadingComparison, one: str, two: str) -> Pair:
    return next(p for p in reading.pairs if {p.first, p.second} == {one, two})


# -- estimates ---------------------------------------------------------------------------------------------------------


def test_rows_hold_means_and_signed_gaps_over_training_seeds() -> None:
    reading = auc([*series("finetune", MIDDLE), *series("salun", FAR)])
    assert [row.label for row in reading.rows] == ["original", "gold", "finetune", "salun"]
    row = reading.row("finetune")
    assert (row.seeds, row.values) == (tuple(range(10)), MIDDLE)
    assert (row.value.mean, row.value.sd) == pytest.approx((fmean(MIDDLE), stdev(MIDDLE)))
    assert row.gap.mean == pytest.approx(fmean(MIDDLE) - GOLD)
    assert row.gap.low is not None
    assert row.gap.high is not None
    assert row.gap.low < fmean(MIDDLE) - GOLD < row.gap.high
    assert reading.row("gold").gap.status == "no values"
    assert reading.row("gold").value.status == "zero variance"
    with pytest.raises(KeyError):
        reading.row("ssd")


def test_a_gap_below_gold_is_as_far_as_one_above() -> None:
    """Over-forgetting leaks too: the mean of gaps that cancel is 0, the distance is not."""
    reading = auc([*series("finetune", [0.4, 0.6] * 5), *series("salun", [0.52, 0.53] * 5)])
    row = reading.row("finetune")
    assert row.gap.mean == pytest.approx(0)
    assert row.distance.mean == pytest.approx(0.1)
    assert reading.order == ("salun", "finetune")


def test_runs_are_averaged_over_measure_seeds_then_unlearning_seeds_within_a_training_seed() -> None:
    """Two measure seeds under unlearning seed 0 count together as much as the one under unlearning seed 1."""
    found = records(
        document("salun", (0, 0, 0), 0.6), document("salun", (0, 0, 1), 0.8), document("salun", (0, 1, 0), 0.9),
        document("salun", (1, 0, 0), 0.7),
    )  # fmt: skip
    row = auc(found).row("salun")
    assert row.values == pytest.approx((0.8, 0.7))
    assert row.gaps == pytest.approx((0.3, 0.2))
    assert row.value.n == 2
    assert row.spread.measure == pytest.approx(stdev([0.6, 0.8]))
    (contender,) = only(found).contenders
    assert (contender.train_seeds, contender.unlearn_seeds, contender.measure_seeds) == ((0, 1), (0, 1), (0, 1))
    assert len(contender.runs) == 4


def test_missing_readings_are_counted_and_never_averaged_as_zero() -> None:
    values: list[float | None] = [0.6, None, 0.62, None, 0.64]
    reading = auc([*series("salun", values, status="censored"), *series("finetune", MIDDLE[:5])])
    row = reading.row("salun")
    assert row.values == tuple(values)
    assert row.value.mean == pytest.approx(0.62)
    assert row.missing == {"censored": 2}
    assert pair(reading, "salun", "finetune").n == 3
    assert "salun: 2 of 5 readings without a value (2 censored); its mean leaves them out" in reading.notes
    assert any("finetune and salun on 3" in note for note in reading.notes)


def test_a_reading_that_nobody_has_a_value_of_says_so() -> None:
    reading = auc(series("salun", [None, None, None], status="one class"))
    row = reading.row("salun")
    assert (row.value.mean, row.value.status, row.distance.n) == (None, "no values", 0)
    assert (reading.order, reading.pairs, reading.ties) == ((), (), ())
    assert reading.conclusion == "No unlearner has a value that can be compared."
    assert any("it has no mean" in note for note in reading.notes)


def test_verdicts_of_the_records_are_counted() -> None:
    found = series("salun", FAR[:3])
    for record, verdict in zip(found, ("above gold", "above gold", "like gold"), strict=True):
        own = next(r for r in record.readings if r["key"] == "auc" and r["subject"] == "unlearned")
        own["verdict"] = verdict  # type: ignore[index]
    assert auc(found).row("salun").verdicts == {"above gold": 2, "like gold": 1}


# -- tests, ties, ranks ------------------------------------------------------------------------------------------------


def test_unlearners_are_paired_by_training_seed_and_told_apart() -> None:
    reading = auc([*series("finetune", NEAR), *series("salun", FAR), *series("ssd", MIDDLE)])
    assert reading.order == ("finetune", "ssd", "salun")
    found = pair(reading, "finetune", "salun")
    differences = [abs(a - GOLD) - abs(b - GOLD) for a, b in zip(NEAR, FAR, strict=True)]
    assert (found.first, found.second, found.n) == ("finetune", "salun", 10)
    assert found.difference.mean == pytest.approx(fmean(differences))
    assert (found.p, found.smallest) == (pytest.approx(2 / 1024), 2 / 1024)
    assert found.holm == pytest.approx(3 * 2 / 1024)
    assert (found.differs, found.apart) == (True, True)
    assert (reading.decidable, reading.ties_by, reading.ties) == (True, "test", ())
    assert reading.conclusion == ("Nearest to gold is finetune (0.0155); ssd (0.105) and salun (0.345) differ from it.")


def test_ties_are_said() -> None:
    alike = [value + (0.01 if seed % 2 else -0.01) for seed, value in enumerate(MIDDLE)]
    reading = auc([*series("finetune", MIDDLE), *series("salun", alike), *series("ssd", FAR)])
    assert [set(group) for group in reading.ties] == [{"finetune", "salun"}]
    assert "tied with" in reading.conclusion
    assert "ssd (0.345) differs from it" in reading.conclusion


def test_five_seeds_cannot_decide_and_intervals_stand_in_as_an_indication() -> None:
    """The smallest p of five seeds is .0625, which is no finding at .05, however far apart two methods are."""
    reading = auc([*series("finetune", NEAR[:5]), *series("salun", FAR[:5])])
    found = pair(reading, "finetune", "salun")
    assert (found.p, found.differs, found.apart) == (pytest.approx(0.0625), False, True)
    assert (reading.decidable, reading.ties_by, reading.ties) == (False, "interval", ())
    assert "Too few seeds differ to decide" in reading.conclusion
    assert "p = 0.062 at best" in reading.conclusion
    assert "as an indication" in reading.conclusion


def test_two_seeds_claim_nothing() -> None:
    reading = auc([*series("finetune", NEAR[:2]), *series("salun", FAR[:2])])
    assert (reading.ties_by, reading.ties) == ("none", ())
    assert reading.conclusion.startswith("No interval and no test: 2 shared training seeds.")
    assert not any(p.differs or p.apart for p in reading.pairs)


def test_the_rank_test_can_be_chosen() -> None:
    found = [*series("finetune", MIDDLE), *series("salun", [v + d for v, d in zip(MIDDLE, NEAR, strict=True)])]
    assert pair(auc(found, test="wilcoxon"), "finetune", "salun").p == pytest.approx(stats.wilcoxon(NEAR).pvalue)
    assert only(found, test="wilcoxon").test == "wilcoxon"


def test_the_level_decides_what_differs() -> None:
    found = [*series("finetune", NEAR[:6]), *series("salun", FAR[:6])]
    assert pair(auc(found), "finetune", "salun").differs
    assert not pair(auc(found, confidence=0.99), "finetune", "salun").differs


def test_only_shared_seeds_are_paired_and_it_is_said() -> None:
    later = records(*(document("salun", seed, FAR[seed]) for seed in range(4, 10)))
    reading = auc([*series("finetune", NEAR[:7]), *later])
    assert pair(reading, "finetune", "salun").n == 3
    assert "only shared training seeds are paired: finetune and salun on 3" in reading.notes
    apart = auc([*series("finetune", NEAR[:3]), *later])
    found = pair(apart, "finetune", "salun")
    assert (found.n, found.p, found.holm, found.difference.status) == (0, None, None, "no values")
    assert apart.ties_by == "none"


def test_friedman_ranks_are_over_the_seeds_that_all_share() -> None:
    reading = auc([*series("finetune", NEAR), *series("salun", FAR), *series("ssd", MIDDLE[:8])])
    ranks = reading.ranks
    assert ranks is not None
    assert (ranks.n, ranks.average) == (8, {"finetune": 1.0, "ssd": 2.0, "salun": 3.0})
    assert ranks.critical_difference == pytest.approx(2.343 * math.sqrt(12 / 48), rel=1e-3)
    assert (ranks.statistic, ranks.p) == pytest.approx((16.0, stats.chi2.sf(16, 2)))
    assert [set(group) for group in ranks.ties] == [{"finetune", "ssd"}, {"ssd", "salun"}]
    assert auc([*series("finetune", NEAR), *series("salun", FAR)]).ranks is None


def test_what_gold_has_no_value_of_is_compared_by_value_in_its_direction() -> None:
    def made(name: str, values: Sequence[float]) -> list[Record]:
        return records(
            *(
                run_document(
                    unlearner=named(name), seeds=(s, s, s),
                    extra=[Reading("speed-up", value, 1, better="higher", unit="x", subject="unlearned")],
                )
                for s, value in enumerate(values)
            )
        )  # fmt: skip

    (reading,) = only([*made("salun", FAR), *made("ssd", NEAR)], ["speed-up"]).readings
    assert (reading.basis, reading.order, reading.floor) == ("value", ("salun", "ssd"), None)
    assert reading.conclusion.startswith("Highest is salun (0.845); ssd (0.5) differs")


def test_times_are_compared_by_value_although_gold_has_them_too() -> None:
    found = [*series("salun", FAR), *series("ssd", MIDDLE)]
    for record in found:
        next(m for m in record.document["measures"] if m["name"] == "probe")["timed"] = True
        for reading in record.readings:
            reading["better"] = "lower"  # type: ignore[index]
    reading = auc(found)
    assert (reading.timed, reading.basis, reading.order) == (True, "value", ("ssd", "salun"))


# -- the floor ---------------------------------------------------------------------------------------------------------


def test_the_floor_is_gold_against_another_gold_where_there_is_one() -> None:
    reading = auc([*series("retrain", NEAR), *series("salun", FAR)])
    assert reading.floor is not None
    assert reading.floor.kind == "retrain"
    assert reading.floor.distance is not None
    assert reading.floor.distance.mean == pytest.approx(fmean(abs(v - GOLD) for v in NEAR))


def test_without_it_the_floor_is_golds_own_reading() -> None:
    found = [record for seed, gold in enumerate((0.49, 0.51, 0.53))
             for record in records(document("salun", seed, 0.9, gold=gold))]  # fmt: skip
    reading = auc(found)
    assert reading.floor is not None
    assert (reading.floor.kind, reading.floor.distance) == ("gold", None)
    assert reading.floor.value.mean == pytest.approx(0.51)


def test_a_reading_that_does_not_tell_original_from_gold_is_marked() -> None:
    reading = auc(series("salun", FAR[:3], gold=0.95))
    assert "original and gold read the same: it says little about forgetting here" in reading.notes
    assert not any("says little" in note for note in auc(series("salun", FAR[:3])).notes)


# -- what may stand together -------------------------------------------------------------------------------------------


def changed(found: Sequence[Record], change: Any) -> list[Record]:
    made = []
    for record in found:
        copy = deepcopy(dict(record.document))
        change(copy)
        copy["id"] += "x"
        made.append(Record(copy, record.folder.with_name(copy["id"])))
    return made


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("data", lambda d: d["data"]["test"].update(digest=sha("other"))),
        ("requests", lambda d: d["requests"][0].update(digest=sha("other"))),
        ("model", lambda d: d["spec"]["model"]["params"].update(hidden=9)),
        ("recipe", lambda d: d["spec"]["recipe"].update(epochs=9)),
        ("preprocessing", lambda d: d["spec"].update(preprocessing=[named("scale")])),
        ("checkpoint", lambda d: d["spec"].update(checkpoint={"path": "x", "sha256": sha("weights")})),
    ],
)
def test_records_of_other_conditions_stand_apart_and_it_is_said(part: str, change: Any) -> None:
    found = compare([*series("salun", FAR[:3]), *changed(series("finetune", NEAR[:3]), change)], ["auc"])
    assert [[c.label for c in comparison.contenders] for comparison in found] in ([["salun"], ["finetune"]],
                                                                                 [["finetune"], ["salun"]])  # fmt: skip
    for comparison in found:
        assert f"other records of digits-cnn-class3/v1 stand apart: they differ in {part}" in comparison.notes
        assert "only one unlearner: nothing to compare it with but gold" in comparison.notes


def test_two_settings_of_one_method_are_two_methods() -> None:
    one = records(*(document(named("salun", density=0.5, lr=0.1), s, v) for s, v in enumerate(FAR[:3])))
    two = records(*(document(named("salun", density=0.3, lr=0.1), s, v) for s, v in enumerate(NEAR[:3])))
    reading = auc([*one, *two])
    assert reading.order == ("salun (density=0.3)", "salun (density=0.5)")
    assert reading.row("salun (density=0.5)").values == FAR[:3]


def test_two_settings_of_one_measure_are_two_readings() -> None:
    def given(step: int) -> Any:
        return lambda d: d["spec"]["measures"].append(named("probe", steps=step))

    found = [
        Record({**record.document, "id": f"{record.document['id']}-{steps}"}, Path(f"{steps}") / record.folder)
        for steps, values in ((10, FAR[:3]), (20, NEAR[:3]))
        for record in changed(series("salun", values), given(steps))
    ]
    readings = only(found).readings
    assert [(r.variant, r.row("salun").values) for r in readings] == [("steps=10", FAR[:3]), ("steps=20", NEAR[:3])]


def test_runs_that_failed_or_diverged_are_left_out_and_counted() -> None:
    found = [
        *series("salun", FAR[:3]),
        *records(document("salun", 3, 0.9, status="ok"), document("finetune", 0, 0.5)),
        *records(run_document(unlearner=named("salun"), seeds=(4, 4, 4), status="failed")),
        *records(run_document(unlearner=named("salun"), seeds=(5, 5, 5), status="diverged")),
    ]
    comparison = only(found)
    assert sorted(left.reason for left in comparison.left_out) == [
        "diverged: has weights that are not finite", "failed: ValueError: no rows",
    ]  # fmt: skip
    salun = next(c for c in comparison.contenders if c.label == "salun")
    assert (salun.train_seeds, salun.lost) == ((0, 1, 2, 3), {"failed": 1, "diverged": 1})
    assert any("salun: runs without readings that count: 1 diverged, 1 failed" in note for note in comparison.notes)


def test_a_run_in_two_folders_counts_once_and_the_newest_wins() -> None:
    old = series("salun", FAR[:3])
    newer = [document("salun", seed, 0.6, created="2026-12-24T08:00:00+00:00") for seed in range(2)]
    comparison = only([*old, *records(*newer, folder="other")])
    assert comparison.readings[0].row("salun").values == (0.6, 0.6, FAR[2])
    assert [left.path.split("/")[0] for left in comparison.left_out] == ["runs", "runs"]
    assert all("an older, different result of the run in other" in left.reason for left in comparison.left_out)
    same = only([*old, *records(*(dict(r.document) for r in old), folder="copy")])
    assert all(left.reason.startswith("the same as") for left in same.left_out)
    assert len(same.left_out) == 3


def test_the_same_file_twice_is_one_record() -> None:
    found = series("salun", FAR[:3])
    assert only([*found, *found]).left_out == ()


def test_fewer_than_five_training_seeds_are_marked_as_indicative() -> None:
    few = only([*series("salun", FAR[:4]), *series("finetune", NEAR[:5])])
    assert "indicative: fewer than 5 training seeds (salun 4)" in few.notes
    assert not any("indicative" in note for note in only(series("salun", FAR[:5])).notes)


def test_times_of_other_machines_are_marked() -> None:
    found = series("salun", FAR[:3])
    for record in found:
        next(m for m in record.document["measures"] if m["name"] == "probe")["timed"] = True
    assert not any("times do not compare" in note for note in only(found).notes)
    found[0].document["environment"]["processor"] = "another"
    assert any("times do not compare" in note for note in only(found).notes)


def test_methods_that_own_training_have_an_original_and_a_gold_of_their_own() -> None:
    own = series("sisa", MIDDLE[:3])
    for record in own:
        record.document["trainer"] = "sisa"  # type: ignore[index]
    reading = auc([*own, *series("salun", FAR[:3])])
    assert [row.label for row in reading.rows] == [
        "original", "original of sisa", "gold", "gold of sisa", "salun", "sisa",
    ]  # fmt: skip


# -- which readings ----------------------------------------------------------------------------------------------------


def test_by_default_the_readings_of_the_table_and_audits_are_compared() -> None:
    found = series("salun", FAR[:3])
    keys = lambda: [reading.key for reading in compare(found)[0].readings]  # noqa: E731
    assert keys() == ["accuracy.forget", "accuracy.retain", "accuracy.test"]
    for record in found:
        for reading in record.readings:
            if reading["key"] == "auc":
                reading["interval"] = [0.4, 0.6]  # type: ignore[index]
    assert keys() == ["accuracy.forget", "accuracy.retain", "accuracy.test", "auc"]


def test_readings_are_asked_for_by_key_name_or_with_their_measure() -> None:
    found = series("salun", FAR[:3])
    assert [r.key for r in only(found, ["accuracy"]).readings] == [
        "accuracy.forget", "accuracy.retain", "accuracy.test",
    ]  # fmt: skip
    assert [r.key for r in only(found, ["accuracy.test.class=1"]).readings] == ["accuracy.test.class=1"]
    assert [r.key for r in only(found, ["probe:auc"]).readings] == ["auc"]
    assert "accuracy.test.class=1" in reading_keys(found)
    with pytest.raises(UsageError, match=r"auk") as refused:
        compare(found, ["auk"])
    assert (refused.value.code, "did you mean auc" in refused.value.hint) == ("unknown-reading", True)


def test_of_a_stream_the_last_request_counts_unless_another_is_asked_for() -> None:
    stream = [{"kind": "class", "classes": ["3"]}] * 2
    found = records(*(run_document(unlearner=named("salun"), seeds=(s, s, s), requests=stream) for s in range(3)))
    last = only(found, ["accuracy.retain"]).readings[0].row("salun")
    first = only(found, ["accuracy.retain.request=0"]).readings[0].row("salun")
    assert last.values == pytest.approx((0.9938,) * 3)
    assert first.values == pytest.approx((0.9838,) * 3)


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with real runs: four unlearners on three training seeds."""
    folder = tmp_path_factory.mktemp("compare")
    grid = [f"-u{name}" for name in ("finetune", "identity", "retrain", "salun")]
    done = spawn("run", *WINE, *grid, "--seeds", "train=0..2", "-q", "--no-tracking", cwd=folder)
    assert (done.rc, done.stderr) == (0, "")
    return folder


def test_the_command_compares_real_runs(made: Path) -> None:
    done = spawn("compare", "runs", cwd=made)
    assert (done.rc, done.stderr) == (0, "")
    for words in (
        "wine / logistic", "indicative: fewer than 5 training seeds (finetune 3, identity 3, retrain 3, salun 3)",
        "average-gap in %", "accuracy.forget", "speed-up in x",
        "floor, gold against another gold", "Too few seeds differ to decide",
    ):  # fmt: skip
        assert words in " ".join(done.stdout.split()), words
    for name in ("original", "gold", "finetune", "identity", "retrain", "salun"):
        assert f"\n {name} " in done.stdout, name


@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_is_printed_fits_the_terminal(made: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = call("compare", made / "runs")
    assert max(len(line) for line in done.stdout.splitlines()) <= width
    assert ("─" in done.stdout) == (width > 40)
    assert "gap to gold" in done.stdout


def test_identity_is_exactly_as_far_from_gold_as_the_original(made: Path) -> None:
    (comparison,) = call("compare", made / "runs", "--json").json()
    for reading in comparison["readings"]:
        rows = {row["label"]: row for row in reading["rows"]}
        if reading["basis"] == "gap":
            assert rows["identity"]["gaps"] == rows["original"]["gaps"], reading["key"]


def test_json_is_the_same_on_every_call_and_is_what_python_gives(made: Path) -> None:
    from unlearnbench.record import find_records, read_record

    first = call("compare", made / "runs", "--json", "--reading", "average-gap")
    assert first.stdout == call("compare", made / "runs", "--json", "--reading", "average-gap").stdout
    found = compare([read_record(path) for path in find_records(made / "runs")], ["average-gap"])
    expected = json.loads(json.dumps([comparison.to_json() for comparison in found]))
    assert first.json() == expected


def test_gaps_are_those_of_the_records(made: Path) -> None:
    records_of_salun = [json.loads(path.read_text("utf-8")) for path in sorted(made.glob("runs/*.salun.*/record.json"))]
    (comparison,) = call("compare", made / "runs", "--json", "--reading", "accuracy.retain").json()
    row = next(row for row in comparison["readings"][0]["rows"] if row["label"] == "salun")
    gaps = [
        r["gap"] for d in records_of_salun for r in d["readings"]
        if (r["key"], r["subject"]) == ("accuracy.retain", "unlearned")
    ]  # fmt: skip
    assert row["gaps"] == pytest.approx(gaps)
    assert row["gap"]["mean"] == pytest.approx(fmean(gaps))


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for record in (*series("salun", FAR[:3]), *series("finetune", NEAR[:3])):
        document = dict(record.document)
        document["digest"] = content_digest(document)
        write(tmp_path / "runs", document)
    return tmp_path


def test_a_broken_record_is_named_and_the_others_are_compared(folder: Path) -> None:
    broken = min((folder / "runs").glob("*/record.json"))
    broken.write_text(broken.read_text("utf-8")[:500], "utf-8")
    done = call("compare", folder / "runs", "--reading", "auc")
    assert done.rc == 1
    assert done.stderr.count("\n") == 1
    assert str(broken) in done.stderr
    assert "salun" in done.stdout
    assert "only shared training seeds are paired" in " ".join(done.stdout.split())


def test_nothing_but_broken_records_is_an_error_a_line_each(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "record.json").write_text("{", "utf-8")
    done = call("compare", tmp_path / "runs")
    assert (done.rc, done.stdout, done.stderr.count("\n")) == (1, "", 2)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    assert_one_error(call("compare", tmp_path), 2, "no-records", str(tmp_path))


def test_a_folder_that_does_not_exist_is_refused(folder: Path) -> None:
    assert_one_error(call("compare", folder / "runs", folder / "rums"), 5, "missing-file", "rums")


def test_an_unknown_reading_is_refused_with_a_suggestion(folder: Path) -> None:
    assert_one_error(
        call("compare", folder / "runs", "--reading", "acuracy"), 2, "unknown-reading", "did you mean accuracy"
    )


@pytest.mark.parametrize("level", ["0", "1", "95", "nan", "x"])
def test_a_level_that_is_none_is_refused(folder: Path, level: str) -> None:
    done = call("compare", folder / "runs", "--confidence", level)
    assert (done.rc, done.stderr.count("\n")) == (2, 1)
    assert "--confidence" in done.stderr


def test_names_in_records_rewrite_no_terminal(folder: Path) -> None:
    for path in (folder / "runs").glob("*/record.json"):
        text = path.read_text("utf-8").replace('"finetune"', '"fine\\u001b[2Jtune [bold]x"')
        path.write_text(text, "utf-8")
    done = call("compare", folder / "runs", "--reading", "auc")
    assert done.rc in (0, 1)
    assert "\x1b" not in done.stdout + done.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from unlearnbench.cli import main\n" \
        "try: main(['compare', '--help'])\nexcept SystemExit: pass\n" \
        "print([m for m in ('torch', 'numpy', 'scipy', 'pandas', 'statsmodels') if m in sys.modules])"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
                          env=dict(os.environ))  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
