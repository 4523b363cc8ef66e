"""``leaderboard verify``: levels, tampered copies, the report, exit codes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from submissions import edited, edited_reading, edited_record, read, record_file, run_of, tampered, write
from support import Done, assert_one_error, call, spawn

from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.tensors import read_tensors, write_tensors
from unlearnbench.schemas import validate

pytestmark = pytest.mark.usefixtures("measured_once")

Change = Callable[[Path], None]


def verified(path: Path, *arguments: str | Path) -> Done:
    return call("leaderboard", "verify", path, *arguments)


def narrowed(small_submission: Path, change: Change, to: Path) -> Path:
    """A tampered copy of the finetune runs alone, so that there is half as much to recompute."""

    def both(folder: Path) -> None:
        document = read(folder / SUBMISSION)
        document["runs"] = [run for run in document["runs"] if ".finetune." in run["id"]]
        kept = {run["record"] for run in document["runs"]}
        kept |= {name for run in document["runs"] for kind in ("predictions", "weights") for name in run[kind].values()}
        for path in folder.glob("*/*"):
            if path.relative_to(folder).as_posix() not in kept:
                path.unlink()
        write(folder / SUBMISSION, document)
        change(folder)

    return tampered(small_submission, both, to)


def in_outputs(subject: str, edit: Callable[[dict[str, Any]], None], seed: int = 0) -> Change:
    """A change of the arrays of one model of a finetune run."""

    def change(folder: Path) -> None:
        path = folder / run_of(folder, "finetune", seed)["predictions"][subject]
        arrays = read_tensors(path.read_bytes(), "here", most=9, kinds=frozenset({"F16", "F32"}))
        own = {name: np.array(array) for name, array in arrays.items()}
        edit(own)
        path.write_bytes(write_tensors(own))

    return change


def in_runs(edit: Callable[[dict[int, dict[str, Any]]], None]) -> Change:
    """A change of what ``submission.json`` says of the finetune runs, by seed."""

    def change(folder: Path) -> None:
        document = read(folder / SUBMISSION)
        files = {record_file(folder, "finetune", seed): seed for seed in range(5)}
        edit({files[run["record"]]: run for run in document["runs"] if run["record"] in files})
        write(folder / SUBMISSION, document)

    return change


def swapped(runs: dict[int, dict[str, Any]], kind: str) -> None:
    """The unlearned models of two runs change places."""
    mine, theirs = runs[0][kind], runs[1][kind]
    mine["unlearned"], theirs["unlearned"] = theirs["unlearned"], mine["unlearned"]


# -- what is honest ---------------------------------------------------------------------------------------------------


def test_an_honest_submission_holds_at_every_level_and_its_runs_come_out_to_the_bit(
    small_submission: Path, tmp_path: Path
) -> None:
    """In a process of its own, as a maintainer does it."""
    report = tmp_path / "reports" / "small.json"
    done = spawn(
        "leaderboard", "verify", small_submission, "--level", "rerun", "--sample", "1", "--seed", "7",
        "--report", report, cwd=tmp_path,
    )  # fmt: skip
    assert (done.rc, done.stderr) == (0, ""), done.stderr
    document = json.loads(report.read_text("utf-8"))
    validate(document, "verification")
    assert (document["level"], document["passed"], document["problems"]) == ("rerun", True, [])
    levels = {check["level"]: check for check in document["checks"]}
    assert [check["status"] for check in levels.values()] == ["passed"] * 3
    assert levels["rerun"]["same"] == levels["rerun"]["readings"] > 100
    assert levels["recomputed-from-weights"]["same"] == levels["recomputed-from-weights"]["readings"]
    assert document["sample"]["seed"] == 7
    (run,) = document["sample"]["runs"]
    assert f"{run} (rerun, digest of the record identical)" in done.stdout
    assert done.stdout.splitlines()[-1] == "small on quick/v1: rerun holds"
    assert sorted(entry["rerun"] for entry in document["entries"]) == [0, 1]
    for entry in document["entries"]:  # what no run of was made again has not shown that it can be
        assert entry["level"] == ("rerun" if entry["rerun"] else "recomputed-from-weights")


def test_without_weights_a_rerun_still_counts_and_recomputing_from_them_does_not(
    small_submission: Path, tmp_path: Path
) -> None:
    def without(folder: Path) -> None:
        shutil.rmtree(folder / "weights")
        in_runs(lambda runs: [run.update(weights=None) for run in runs.values()] and None)(folder)

    copy = narrowed(small_submission, without, tmp_path / "copy")
    done = verified(copy, "--level", "rerun", "--sample", "1", "--seed", "1", "--json")
    assert (done.rc, done.json()["level"]) == (0, "rerun"), done.stderr
    assert [check["status"] for check in done.json()["checks"]] == ["passed", "not possible", "passed"]
    done = verified(copy, "--level", "recomputed-from-weights")
    assert_one_error(done, 1, "no-weights", ": weights")
    assert done.stdout.splitlines()[-1].endswith("does not hold; what holds is recomputed-metrics")


# -- what is forged, from readings to models --------------------------------------------------------------------------

FORGED: dict[str, tuple[Change, str, str]] = {
    "a value": (
        edited_reading("finetune", 0, "accuracy.test", 0.999), "wrong-reading",
        "readings[accuracy/unlearned/accuracy.test].value",
    ),
    "a gold value": (
        edited_reading("finetune", 1, "accuracy.test", 0.96, subject="gold"), "wrong-reading",
        "readings[accuracy/gold/accuracy.test].value",
    ),
    "a control": (
        edited_record("finetune", 0, "controls", 0, "gold", value=0.77), "wrong-control", "controls[0] (accuracy/",
    ),
    "outputs of another run": (in_runs(lambda runs: swapped(runs, "predictions")), "wrong-reading", "/unlearned/"),
    "original and unlearned swapped": (
        in_runs(lambda r: r[0].update(predictions={
            **r[0]["predictions"], "original": r[0]["predictions"]["unlearned"],
            "unlearned": r[0]["predictions"]["original"],
        })), "wrong-reading", "/original/",
    ),
    "rows in another order": (
        in_outputs("unlearned", lambda a: a.update(test=a["test"][::-1].copy())), "wrong-reading",
        "/unlearned/accuracy.test",
    ),
    "a row too few": (
        in_outputs("gold", lambda a: a.update(test=a["test"][:-1])), "bad-predictions", "test has 322 rows",
    ),
    "a split too few": (in_outputs("gold", lambda a: a.pop("retain")), "bad-predictions", "retain has 0 rows"),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
def test_what_was_forged_is_named(small_submission: Path, tmp_path: Path, what: str) -> None:
    change, code, place = FORGED[what]
    done = verified(narrowed(small_submission, change, tmp_path / "copy"))
    lines = done.stderr.splitlines()
    assert done.rc in (1, 5), done.stderr
    assert any(line.startswith(f"error: [{code}] ") and place in line and ".finetune." in line for line in lines), lines


def test_a_forged_reading_is_shown_with_both_values(small_submission: Path, tmp_path: Path) -> None:
    copy = narrowed(small_submission, edited_reading("finetune", 0, "accuracy.test", 0.999), tmp_path / "copy")
    done = verified(copy)
    (row,) = [line.split() for line in done.stdout.splitlines() if "unlearned accuracy: accuracy.test " in line]
    assert row[3] == "0.999"
    assert 0.9 < float(row[4]) < 0.99
    assert row[5:] == ["outside", "(value)"]
    document = verified(copy, "--json").json()
    assert (document["passed"], document["level"]) == (False, "self-reported")
    assert {r["key"] for r in document["readings"] if r["verdict"] == "outside"} == {"accuracy.test"}


def test_weights_that_do_not_give_the_outputs_are_found(small_submission: Path, tmp_path: Path) -> None:
    """Weights of another seed, of which the record was made to speak: outputs alone cannot tell."""

    def other(folder: Path) -> None:
        in_runs(lambda runs: swapped(runs, "weights"))(folder)
        models = [read(folder / record_file(folder, "finetune", seed))["models"]["unlearned"] for seed in (0, 1)]
        for seed in (0, 1):
            edited_record("finetune", seed, "models", "unlearned", value=models[1 - seed])(folder)

    copy = narrowed(small_submission, other, tmp_path / "copy")
    assert verified(copy).rc == 0
    done = verified(copy, "--level", "recomputed-from-weights")
    assert done.rc == 1
    assert "error: [wrong-outputs]" in done.stderr
    assert "unlearned of run digits-cnn-class3-v1.finetune.s0" in done.stderr


def test_a_network_that_is_not_the_specs_is_not_even_built(small_submission: Path, tmp_path: Path) -> None:
    change = edited_record("finetune", 0, "models", "unlearned", 0, "ref", "params", "hidden", value=10**12)
    done = verified(narrowed(small_submission, change, tmp_path / "copy"), "--level", "recomputed-from-weights")
    assert done.rc == 1
    assert "[wrong-weights]" in done.stderr
    assert "models.unlearned.ref" in done.stderr


# -- what else is wrong, and how it is said ---------------------------------------------------------------------------


def test_a_run_of_another_spec_is_not_looked_at_any_further(small_submission: Path, tmp_path: Path) -> None:
    copy = narrowed(
        small_submission, edited_record("finetune", 2, "spec", "recipe", "lr", value=0.5), tmp_path / "copy"
    )
    done = verified(copy, "--level", "rerun")
    assert_one_error(done, 1, "other-spec", "spec.recipe.lr", ".finetune.s2.")
    assert "0 runs" in done.stdout


def test_a_plugin_that_is_not_installed_ends_with_3(small_submission: Path, tmp_path: Path) -> None:
    def foreign(folder: Path) -> None:
        edited_record("finetune", 0, "components", 2, "distribution", value="unlearnbench-sorcery")(folder)
        document = read(folder / SUBMISSION)
        document["plugins"].append(
            {"distribution": "unlearnbench-sorcery", "version": document["plugins"][0]["version"]}
        )
        write(folder / SUBMISSION, document)

    done = verified(narrowed(small_submission, foreign, tmp_path / "copy"))
    assert_one_error(done, 3, "missing-plugin", "components[2]", "pip install unlearnbench-sorcery")


def test_a_suite_that_this_version_does_not_know_ends_with_a_problem(small_submission: Path, tmp_path: Path) -> None:
    change = edited(SUBMISSION, "suite", "name", value="quick/v99")
    done = verified(tampered(small_submission, change, tmp_path / "copy"))
    assert_one_error(done, 1, "unknown-suite", "quick/v99")


def test_at_most_twenty_problems_are_printed_and_all_are_in_the_report(small_submission: Path, tmp_path: Path) -> None:
    def every(folder: Path) -> None:
        for seed in range(5):
            document = read(folder / record_file(folder, "finetune", seed))
            for reading in document["readings"]:
                if reading["measure"] == "accuracy":
                    reading["n"] += 1
            write(folder / record_file(folder, "finetune", seed), document)

    copy = narrowed(small_submission, every, tmp_path / "copy")
    done = verified(copy, "--report", tmp_path / "report.json")
    document = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert len(document["problems"]) == 55  # ten of each run by name, and how many more
    assert done.stderr.count("\n") == 21
    assert done.stderr.splitlines()[-1] == "error: and 35 more problems (--json has them all)"
    assert "readings[accuracy/original/accuracy.forget].n" in document["problems"][0]["where"]
    assert done.stdout.count("outside (n)") <= 40
    assert "more that differ (--all-readings shows all)" in done.stdout


def test_all_readings_are_shown_on_request_and_fit_a_narrow_terminal(
    small_submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = verified(narrowed(small_submission, lambda folder: None, tmp_path / "copy"), "--all-readings")
    assert done.rc == 0
    rows = [line for line in done.stdout.splitlines() if line.endswith((" same", " within"))]
    assert len(rows) > 500
    assert max(map(len, rows)) <= 60


def test_what_cannot_be_read_ends_with_5(tmp_path: Path) -> None:
    assert_one_error(verified(tmp_path / "nothing"), 5, "missing-file", "nothing")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--sample", "2"), "bad-sample"), (("--level", "rerun", "--seed", "3"), "bad-sample")],
)
def test_options_that_would_do_nothing_are_refused(
    small_submission: Path, arguments: tuple[str, ...], code: str
) -> None:
    assert_one_error(verified(small_submission, *arguments), 2, code, arguments[-2])


def test_a_signature_is_looked_for_where_a_key_is_given(small_submission: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("no key")
    done = verified(narrowed(small_submission, lambda f: None, tmp_path / "copy"), "--public-key", tmp_path / "key.pub")
    assert_one_error(done, 1, "missing-file", "there is no signature")


def test_a_zip_is_verified_like_its_folder(small_submission: Path, tmp_path: Path) -> None:
    copy = narrowed(small_submission, lambda folder: None, tmp_path / "copy")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", copy)
    mine, theirs = (verified(Path(path), "--json").json() for path in (copy, packed))
    assert mine["passed"]
    assert {**mine, "created": ""} == {**theirs, "created": ""}
    assert mine["entries"] == [{"unlearner": "finetune", "level": "recomputed-metrics", "runs": 5, "rerun": 0}]
    assert [(check["runs"], check["outside"], check["missing"]) for check in theirs["checks"]] == [(5, 0, 0)]
