"""Suites: what boards are built from is whole, does not change, and runs as `run --suite` says."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import assert_one_error, call

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.config import scenario, scenario_names
from unlearnbench.leaderboard.suites import AXES, Part, Suite, read_suite, suite, suite_names
from unlearnbench.measures import measures_of
from unlearnbench.parameters import parameters_json
from unlearnbench.registry import registry

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "leaderboard" / "suites"
FILES = sorted(FOLDER.glob("*.yaml"))
SUITES = [suite(name) for name in suite_names()]
PARTS = [(each, part) for each in SUITES for part in each.parts]
SPLITS = {"train", "forget", "retain", "test", "validation", "holdout"}
FIRST = "digits-cnn-class3/v1"


def named(value: object) -> str | None:
    if isinstance(value, Suite):
        return value.name.replace("/", ".")
    return value.scenario.replace("/", ".") if isinstance(value, Part) else None


# -- what lies there ---------------------------------------------------------------------------------------------------


def test_the_three_suites_are_there() -> None:
    assert {"quick/v1", "standard/v1", "vision/v1"} <= {each.name for each in SUITES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_the_file_of_a_suite_is_called_as_the_suite_is(path: Path) -> None:
    assert f"{read_suite(path).name.replace('/', '.')}.yaml" == path.name


def test_a_suite_that_was_released_is_as_it_was() -> None:
    """Whoever changes a suite changes what is on its board already; another version is another file."""
    fixed = [line.split() for line in (FOLDER / "SHA256SUMS").read_text("utf-8").splitlines()]
    assert [(each.sha256, each.name) for each in sorted(SUITES, key=lambda each: each.name)] == [
        (digest, name) for digest, name in sorted(fixed, key=lambda line: line[1])
    ]


@pytest.mark.parametrize(("whole", "part"), PARTS, ids=named)
def test_a_suite_takes_what_its_profile_has(whole: Suite, part: Part) -> None:
    base = read_base(whole)
    found = scenario(part.scenario)
    kinds = {request["kind"] for request in found["requests"]}
    wanted = {measure["name"] for measure in measures_of(base, "classification", kinds, registry())}
    assert wanted
    assert wanted <= set(part.measures)
    assert len(set(part.measures)) == len(part.measures)


def read_base(whole: Suite) -> str:
    import yaml

    text = (FOLDER / f"{whole.name.replace('/', '.')}.yaml").read_text("utf-8")
    base: str = yaml.safe_load(text)["profile"]["base"]
    return base


@pytest.mark.parametrize(("whole", "part"), PARTS, ids=named)
def test_what_a_part_is_judged_by_is_measured_in_it(whole: Suite, part: Part) -> None:
    assert part.scenario in scenario_names()
    assert {axis.name for axis in part.axes} == {*AXES, "cost"}
    for reading in (*part.axes, *part.bands):
        assert reading.measure in part.measures, reading
        declared = {each.name for each in registry().get("measure", reading.measure).spec.readings}  # type: ignore[attr-defined]
        name, _, split = reading.key.partition(".")
        assert name in declared, reading
        assert not split or split in SPLITS, reading
    for band in part.bands:
        assert band.original[0] < band.original[1]
        assert band.gold[0] < band.gold[1]
    assert set(part.floor) == set(AXES)
    assert all(distance >= 0 for distance in part.floor.values())


@pytest.mark.parametrize("whole", SUITES, ids=named)
def test_controls_are_installed_and_one_does_nothing_and_one_trains_again(whole: Suite) -> None:
    assert {"identity", "retrain"} <= set(whole.controls)
    for name in whole.controls:
        assert registry().get("unlearner", name)
    assert len(whole.seeds) >= 5


# -- files that are no suite -------------------------------------------------------------------------------------------


def spoiled(tmp_path: Path, before: str, after: str) -> Path:
    text = (FOLDER / "quick.v1.yaml").read_text("utf-8")
    assert text.count(before) >= 1
    path = tmp_path / "quick.v1.yaml"
    path.write_text(text.replace(before, after, 1), "utf-8")
    return path


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("name: quick/v1", "name: quick", "quick.v1.yaml.name"),
        ("seeds: [0,", "seeds: [0, 0,", "quick.v1.yaml.seeds"),
        ("settings: 100", "settings: 0", "quick.v1.yaml.tuning.settings"),
        ("recompute: 0.001", "recompute: 0", "quick.v1.yaml.tolerances.recompute"),
        ("forgetting: {measure", "forgetfulness: {measure", "quick.v1.yaml.scenarios"),
        ("track: classification", "track: anything", "quick.v1.yaml.track"),
        ("digits-noisy-cnn-random10/v1", FIRST, "twice"),
        ("name: quick/v1", "name: quick/v1\nname: quick/v1", "twice"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_with_its_place(before: str, after: str, where: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_suite(spoiled(tmp_path, before, after))
    assert where in str(refused.value)


def test_any_change_of_content_changes_the_digest_and_a_comment_does_not(tmp_path: Path) -> None:
    same = read_suite(spoiled(tmp_path, "name: quick/v1", "# seen\nname: quick/v1"))
    other = read_suite(spoiled(tmp_path, "rerun: 0.02", "rerun: 0.021"))
    assert same.sha256 == suite("quick/v1").sha256 != other.sha256


def test_a_suite_that_cannot_be_read_is_an_error_of_data(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_suite(tmp_path / "none.yaml")
    assert refused.value.code == "missing-file"


# -- the command line --------------------------------------------------------------------------------------------------


def test_a_suite_is_run_over_its_scenarios_and_seeds_under_their_names() -> None:
    done = call("run", "--suite", "quick/v1", "-u", "identity", "-u", "finetune", "--dry-run", "--json")
    assert done.rc == 0, done.stderr
    wanted = suite("quick/v1")
    found = [(p["spec"]["scenario"], p["spec"]["unlearner"]["name"], p["spec"]["seeds"]["train"]) for p in done.json()]
    assert sorted(found) == sorted(
        (part.scenario, name, seed)
        for part in wanted.parts
        for name in ("identity", "finetune")
        for seed in wanted.seeds
    )
    for plan in done.json():
        assert tuple(plan["measures"]) == wanted.part(plan["spec"]["scenario"]).measures


def test_one_scenario_of_a_suite_can_be_run_with_what_it_leaves_open() -> None:
    open_ = ("--set", "finetune.epochs=2", "--threads", "2")
    done = call("run", "--suite", "quick/v1", "--scenario", FIRST, "-u", "finetune", *open_, "--dry-run", "--json")
    assert done.rc == 0, done.stderr
    specs = [plan["spec"] for plan in done.json()]
    assert {spec["scenario"] for spec in specs} == {FIRST}
    assert [spec["unlearner"]["params"]["epochs"] for spec in specs] == [2] * 5
    assert {spec["threads"] for spec in specs} == {2}


@pytest.mark.parametrize(
    ("option", "named_"),
    [
        (("--dataset", "wine"), "--dataset"),
        (("--model", "logistic"), "--model"),
        (("--forget", "class=1"), "--forget"),
        (("--measure", "accuracy"), "--measure"),
        (("--profile", "smoke"), "--profile"),
        (("--seed", "7"), "--seed"),
        (("--seeds", "train=7"), "--seed"),
        (("--validation", "0.1"), "--validation"),
        (("--preprocess", "standardize"), "--preprocess"),
        (("--checkpoint", "model.safetensors"), "--checkpoint"),
        (("experiment.yaml",), "an experiment file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_suite_fixes_cannot_be_chosen_besides(option: tuple[str, ...], named_: str) -> None:
    done = call("run", "--suite", "quick/v1", "-u", "identity", *option, "--dry-run")
    assert_one_error(done, 2, "conflicting-options", "--suite", f"excludes {named_};", "a suite fixes it")


@pytest.mark.parametrize(
    ("setting", "part"),
    [("recipe.lr=0.5", "recipe"), ("digits.split_seed=1", "dataset"), ("cnn.hidden=8", "model"),
     ("ua-ra-ta-mia.limit=10", "measures")],
)  # fmt: skip
def test_parameters_that_a_suite_fixes_cannot_be_set(setting: str, part: str) -> None:
    """Another recipe is another scenario, so that its name on the record would be a lie."""
    done = call("run", "--suite", "quick/v1", "-u", "identity", "--set", setting, "--dry-run")
    assert_one_error(done, 2, "conflicting-options", "--set", part, "unlearner")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--suite", "quik/v1"), "quick/v1"),
        (("--suite", "quick"), "quick/v1"),
        (("--suite", "quick/v1", "--scenario", "digits-cnn-clas3/v1"), FIRST),
        (("--suite", "quick/v1", "--scenario", "fashion-cnn-class3/v1"), "suite quick/v1"),
    ],
)
def test_an_unknown_suite_or_scenario_is_a_line_with_those_that_there_are(
    arguments: tuple[str, ...], hint: str
) -> None:
    code = "unknown-scenario" if "--scenario" in arguments else "unknown-suite"
    assert_one_error(call("run", *arguments, "-u", "identity", "--dry-run"), 2, code, hint)


def test_a_suite_needs_an_unlearner() -> None:
    done = call("run", "--suite", "quick/v1", "--dry-run")
    assert done.rc == 2
    assert "--unlearner" in done.stderr


def test_the_parameters_of_the_paper_are_the_defaults_of_the_component() -> None:
    """A scenario has parameters of its own, found for its size; for many unlearners they are not those of the paper."""

    def parameters(*options: str) -> dict[str, object]:
        done = call("run", "--suite", "quick/v1", "--scenario", FIRST, "-u", "salun", *options, "--dry-run", "--json")
        assert done.rc == 0, done.stderr
        found: dict[str, object] = done.json()[0]["spec"]["unlearner"]["params"]
        return found

    defaults = parameters_json(registry().get("unlearner", "salun").spec.params())
    assert parameters("--paper-parameters") == defaults
    assert parameters() == {**defaults, **scenario(FIRST)["unlearners"]["salun"]["params"]}
    assert parameters() != defaults
    assert parameters("--paper-parameters", "--set", "salun.epochs=3") == {**defaults, "epochs": 3}


def test_the_list_of_suites_shows_what_each_fixes() -> None:
    listed = call("leaderboard", "suites", "--json").json()
    assert [(each["name"], each["sha256"]) for each in listed] == [(each.name, each.sha256) for each in SUITES]
    shown = call("leaderboard", "suites", "quick/v1").stdout
    for words in ("seeds 0, 1, 2, 3, 4", FIRST, "forgetting", "loss-attack: loss-attack-auc"):
        assert words in shown


# -- wheels ------------------------------------------------------------------------------------------------------------


def test_an_installed_host_has_the_suites(tmp_path: Path) -> None:
    """From a wheel alone: nothing of the checkout is beside it."""
    made = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("unlearnbench/_suites/")}
        archive.extractall(tmp_path / "installed")
    assert packed == {f"unlearnbench/_suites/{path.name}": path.read_bytes() for path in FOLDER.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", "import unlearnbench.leaderboard.suites as s; print(s.__file__, *s.suite_names())"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split()[1:] == suite_names(), done.stderr
    assert done.stdout.startswith(str(tmp_path))
