"""Readings again: from submitted outputs and weights, compared field by field with what a record reports."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.leaderboard.bundle import outputs_of
from unlearnbench.leaderboard.evidence import Given, NotAvailable, SubmittedStages, spec_here, submitted_stages
from unlearnbench.leaderboard.recompute import (
    Comparison,
    Recomputed,
    compare,
    from_outputs,
    recompute,
    untimed,
    wrong_controls,
)
from unlearnbench.leaderboard.rerun import sample
from unlearnbench.leaderboard.submission import SubmittedRun
from unlearnbench.record import Record, content_digest, find_records, read_record
from unlearnbench.registry import registry
from unlearnbench.spec import Choice

TOLERANCE = 0.001
Document = dict[str, Any]


@pytest.fixture(scope="module")
def records(suite_folder: Path) -> list[Record]:
    found = [read_record(path) for path in find_records(suite_folder)]
    return [record for record in found if record.unlearner == "finetune"]


@pytest.fixture(scope="module")
def stages() -> SubmittedStages:
    return submitted_stages(registry())


@pytest.fixture(scope="module")
def found(records: list[Record], stages: SubmittedStages) -> Recomputed:
    return from_outputs(records[0].document, outputs(records[0]), stages)


def outputs(record: Record) -> dict[Any, dict[str, torch.Tensor]]:
    return {s: {k: torch.from_numpy(v) for k, v in of.items()} for s, of in outputs_of(record).items()}


@pytest.fixture
def document(records: list[Record]) -> Document:
    return copy.deepcopy(dict(records[0].document))


def reading(document: Document, key: str, subject: str = "unlearned") -> Document:
    (match,) = [r for r in document["readings"] if (r["key"], r["subject"]) == (key, subject)]
    return dict(match) and match


def wrong(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    return {each.name: each.fields for each in comparison.wrong}


# -- what is honest ---------------------------------------------------------------------------------------------------


def test_every_reading_of_predictions_comes_out_to_the_last_bit(document: Document, found: Recomputed) -> None:
    comparison = compare(document, found, TOLERANCE)
    timed = [r for r in document["readings"] if r["measure"] == "run-cost"]
    assert comparison.count("same") == len(document["readings"]) - len(timed) > 100
    assert (len(comparison.wrong), comparison.not_compared) == (0, len(timed))
    assert found.measures == {"accuracy", "ua-ra-ta-mia", "agreement", "loss-attack"}
    assert wrong_controls(document) == ""


def test_annotations_are_the_verifiers_own(records: list[Record], stages: SubmittedStages, document: Document) -> None:
    """Outputs that would be right under other annotations are wrong under those of the data."""
    turned = {s: {k: v.roll(1, dims=1) for k, v in of.items()} for s, of in outputs(records[0]).items()}
    comparison = compare(document, from_outputs(document, turned, stages), TOLERANCE)
    assert wrong(comparison)["accuracy/original/accuracy.test"] == ("value",)


@pytest.mark.parametrize(("size", "verdict"), [(0.0, "same"), (1e-4, "within"), (0.01, "outside")])
def test_the_verdict_tells_how_far_a_value_is(document: Document, found: Recomputed, size: float, verdict: str) -> None:
    target = reading(document, "loss.test")
    target["value"] += size
    target["gap"] = target["value"] - reading(document, "loss.test", "gold")["value"]
    (judged,) = [r for r in compare(document, found, TOLERANCE).readings if r.name == "accuracy/unlearned/loss.test"]
    assert judged.verdict == verdict
    assert judged.reported == target["value"]


# -- what is forged ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 9),
        ("interval", [0.2, 0.3]),
        ("interval", None),
        ("gap", 0.0123),
        ("verdict", "below gold"),
        ("status", "undefined"),
        ("better", "lower"),
        ("unit", "s"),
        ("split", "retain"),
        ("name", "auc"),
        ("at", {"class": "3"}),
        ("value", None),
    ],
)  # fmt: skip
def test_every_field_of_a_reading_is_compared(document: Document, found: Recomputed, field: str, value: Any) -> None:
    reading(document, "loss-attack-auc")[field] = value
    ((name, fields),) = wrong(compare(document, found, TOLERANCE)).items()
    assert name == "loss-attack/unlearned/loss-attack-auc"
    assert field in fields


def test_a_gold_reading_that_was_moved_spoils_the_gaps_that_follow_from_it(
    document: Document, found: Recomputed
) -> None:
    reading(document, "accuracy.test", "gold")["value"] = 0.5
    assert wrong(compare(document, found, TOLERANCE)) == {
        "accuracy/gold/accuracy.test": ("value",),
        "accuracy/original/accuracy.test": ("gap",),
        "accuracy/unlearned/accuracy.test": ("gap",),
    }


def test_a_reading_that_was_left_out_is_missing(document: Document, found: Recomputed) -> None:
    document["readings"].remove(reading(document, "loss-attack-auc"))
    (judged,) = compare(document, found, TOLERANCE).wrong
    assert (judged.verdict, judged.reported) == ("missing", None)
    assert judged.recomputed is not None


def test_a_reading_that_nothing_gives_is_missing(document: Document, found: Recomputed) -> None:
    more = {**reading(document, "accuracy.test"), "name": "accuracy", "split": "moon", "key": "accuracy.moon",
            "gap": None, "verdict": None}  # fmt: skip
    document["readings"].append(more)
    (judged,) = compare(document, found, TOLERANCE).wrong
    assert (judged.key, judged.verdict, judged.recomputed) == ("accuracy.moon", "missing", None)


def test_a_reading_that_stands_twice_is_one_too_many(document: Document, found: Recomputed) -> None:
    """Readers take the first or the last of two; both may be looked at by somebody."""
    document["readings"].insert(0, copy.deepcopy(reading(document, "accuracy.forget")))
    assert wrong(compare(document, found, TOLERANCE)) == {"accuracy/unlearned/accuracy.forget": ("key",)}


def test_readings_of_a_measure_that_the_run_does_not_have_are_missing(document: Document, found: Recomputed) -> None:
    document["readings"].append({**reading(document, "accuracy.forget"), "measure": "yeom"})
    assert "yeom/unlearned/accuracy.forget" in wrong(compare(document, found, TOLERANCE))


def test_what_is_not_compared_must_still_follow_from_the_record(document: Document, found: Recomputed) -> None:
    target = next(r for r in document["readings"] if r["measure"] == "run-cost" and r["gap"] is not None)
    target["gap"] += 1.0
    ((name, fields),) = wrong(compare(document, found, TOLERANCE)).items()
    assert name.startswith("run-cost/")
    assert fields == ("gap",)


@pytest.mark.parametrize(
    "change",
    [
        lambda o, other: o.update(unlearned=other["unlearned"]),
        lambda o, other: o.update(original=o["unlearned"], unlearned=o["original"]),
        lambda o, other: o.update(unlearned=o["gold"]),
        lambda o, other: o["unlearned"].update(test=o["unlearned"]["test"].flip(0)),
    ],
    ids=["of another run", "original for unlearned", "gold for unlearned", "rows in another order"],
)
def test_outputs_that_are_not_those_of_the_run_are_found(
    records: list[Record], stages: SubmittedStages, document: Document, change: Callable[[Any, Any], Any]
) -> None:
    mine = outputs(records[0])
    change(mine, outputs(records[1]))
    assert compare(document, from_outputs(document, mine, stages), TOLERANCE).wrong


def test_a_control_that_does_not_follow_is_named(document: Document) -> None:
    document["controls"][2]["separates"] = not document["controls"][2]["separates"]
    named = f"{document['controls'][2]['measure']}/{document['controls'][2]['key']}"
    assert wrong_controls(document) == f"controls[2] ({named})"
    del document["controls"][2:]
    assert wrong_controls(document).startswith("controls has 2 entries, not ")


# -- what a level cannot find -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cka", "weight-distance", "u-lira", "klom", "run-cost"])
def test_measures_that_need_more_than_outputs_are_not_compared(
    records: list[Record], stages: SubmittedStages, name: str
) -> None:
    from dataclasses import replace

    from unlearnbench.parameters import parameters_json, resolve_parameters

    params = parameters_json(resolve_parameters(registry().get("measure", name).spec.params, {}, where=name))
    spec = replace(spec_here(records[0].document), measures=(Choice(name, params),))
    given: Any = {subject: Given(of) for subject, of in outputs(records[0]).items()}
    again = recompute(spec, stages.under(given), ("predictions", "models", "ensemble"))
    assert (list(again.readings), again.measures) == ([], frozenset())


def test_a_submission_gives_no_phases_and_no_rows_but_those_of_its_splits(
    records: list[Record], stages: SubmittedStages
) -> None:
    spec = spec_here(records[0].document)
    given: Any = {subject: Given(of) for subject, of in outputs(records[0]).items()}
    mine = stages.under(given)
    scene = mine.scene(spec)
    with pytest.raises(NotAvailable, match="carry out again"):
        mine.again(spec, 0, "unlearn")
    with pytest.raises(NotAvailable, match="outputs for these rows"):
        mine.outputs(mine.gold(spec), scene.train, scene)
    with pytest.raises(NotAvailable, match="weights"):
        mine.network(mine.original(spec), scene.device)
    assert mine.scene(spec) is stages.scene(spec)  # data are loaded once


def test_what_measures_are_given_is_a_copy(records: list[Record], stages: SubmittedStages) -> None:
    spec = spec_here(records[0].document)
    given: Any = {subject: Given(of) for subject, of in outputs(records[0]).items()}
    mine = stages.under(given)
    scene = mine.scene(spec)
    split = scene.parts[-1].measured["test"]
    mine.outputs(mine.gold(spec), split, scene).zero_()
    assert torch.equal(mine.outputs(mine.gold(spec), split, scene), given["gold"].outputs["test"])


# -- runs that are made again -----------------------------------------------------------------------------------------


def test_untimed_readings_are_those_that_a_digest_covers(records: list[Record]) -> None:
    document = records[0].document
    again = untimed(document, registry())
    assert again.measures == {"accuracy", "ua-ra-ta-mia", "agreement", "loss-attack"}
    changed = copy.deepcopy(dict(document))
    for each in changed["readings"]:
        if each["measure"] not in again.measures:
            each["value"] = 1.0
    assert content_digest(changed) == document["digest"]


def test_a_sample_depends_on_seed_and_ids_alone(records: list[Record]) -> None:
    runs = [SubmittedRun(str(r.document["id"]), "", r, None, None) for r in records]
    drawn = [run.id for run in sample(runs, 2, 7)]
    assert drawn == [run.id for run in sample(runs[::-1], 2, 7)] == sorted(drawn)
    assert len({tuple(run.id for run in sample(runs, 2, seed)) for seed in range(20)}) > 4
    assert len(sample(runs, 99, 7)) == len(sample(runs, None, 7)) == len(runs)


def test_subjects_of_outputs_are_those_of_readings(records: list[Record]) -> None:
    assert set(outputs(records[0])) == set(SUBJECTS)
