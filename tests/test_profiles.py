"""Profiles: how much evidence to take by one word, what they hold, what they cost, and what they are refused for."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import WINE, Done, assert_one_error, call, spawn

from unlearnbench.api import UsageError
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.config import resolve_experiment
from unlearnbench.measures import PROFILES, expand_shorthands, measures_of, profile
from unlearnbench.plugins import Plugin
from unlearnbench.registry import Registry, registry
from unlearnbench.schemas import load_json
from unlearnbench.spec import RunSpec

SAMPLES = {"kind": "samples", "fraction": 0.1}
CLASS = {"kind": "class", "classes": ["3"]}


def names(level: str, task: str = "classification", kinds: tuple[str, ...] = ("samples",)) -> list[str]:
    return [str(measure["name"]) for measure in measures_of(level, task, kinds, registry())]


def specs(**experiment: Any) -> list[RunSpec]:
    return resolve_experiment({"unlearners": ["identity"], **experiment}, registry())


def taken(spec: RunSpec) -> list[str]:
    return [choice.name for choice in spec.measures]


# -- what they hold ----------------------------------------------------------------------------------------------------


def test_every_profile_is_a_file_and_every_file_a_profile() -> None:
    folder = Path(str(files("unlearnbench"))) / "profiles"
    assert sorted(path.stem for path in folder.glob("*.json")) == sorted(PROFILES)
    for path in folder.glob("*.json"):
        found = load_json(path.read_text("utf-8"), where=path.name)
        assert profile(path.stem) == found
        assert set(found) == {"summary", "plugins", "measures"}
        assert found["summary"].endswith(".")


@pytest.mark.parametrize("level", PROFILES)
def test_every_measure_of_a_profile_exists_and_its_plugin_is_listed(level: str) -> None:
    found = profile(level)
    brought = {registry().get("measure", m["name"]).plugin.distribution for m in found["measures"]}
    assert brought - {"unlearnbench"} == set(found["plugins"])
    resolved = specs(measures=found["measures"])[0]  # parameters, where a profile sets some, are the measure's own
    assert taken(resolved) == [measure["name"] for measure in found["measures"]]


def test_each_profile_holds_the_cheaper_ones_and_nothing_twice() -> None:
    held = [names(level) for level in PROFILES]
    for cheaper, dearer in pairwise(held):
        assert dearer[: len(cheaper)] == cheaper
        assert len(dearer) > len(cheaper)
    assert len(set(held[-1])) == len(held[-1])


def test_only_the_dear_profiles_train_further_models() -> None:
    def efforts(level: str) -> set[str]:
        found = [registry().get("measure", measure["name"]).spec for measure in profile(level)["measures"]]
        return {spec.effort for spec in found if isinstance(spec, MeasureSpec)}

    assert efforts("smoke") == {"predictions"}
    assert "ensemble" not in efforts("standard")
    assert "ensemble" in efforts("audit")
    assert "ensemble" in efforts("gold")


# -- what of them is taken ---------------------------------------------------------------------------------------------


def narrowed(name: str, **change: Any) -> Registry:
    """What is installed, but one measure judges less."""

    def changed(plugin: Plugin) -> Plugin:
        return replace(plugin, specs=tuple(replace(s, **change) if s.name == name else s for s in plugin.specs))

    return Registry([changed(plugin) for plugin in registry().plugins])


def test_a_class_request_drops_measures_that_judge_samples_only() -> None:
    components = narrowed("umia", requests=("samples",))

    def found(*kinds: str) -> list[str]:
        return [m["name"] for m in measures_of("standard", "classification", kinds, components)]

    assert "umia" in found("samples")
    assert [name for name in found("samples") if name not in found("class")] == ["umia"]
    assert found("samples", "class") == found("class")  # it must judge every request of the run
    (spec,) = resolve_experiment({"unlearners": ["identity"], "forget": [CLASS], "profile": "standard"}, components)
    assert taken(spec) == found("class")


def test_another_task_drops_measures_that_cannot_judge_it() -> None:
    assert names("smoke", "node-classification", ("nodes",)) == ["accuracy", "agreement", "run-cost"]
    assert names("smoke", "segmentation") == ["accuracy", "run-cost"]


def test_a_measure_besides_a_profile_is_added_to_it() -> None:
    (spec,) = specs(profile="smoke", measures=["zrf", "accuracy"])
    assert taken(spec) == [*names("smoke"), "zrf"]
    (alone,) = specs(measures=["zrf"])
    assert taken(alone) == ["zrf"]


def test_parameters_of_a_profiles_measure_can_be_set() -> None:
    (spec,) = specs(profile="audit", set={"u-lira.shadows": 8})
    shadows = {choice.name: choice.params.get("shadows") for choice in spec.measures if "shadows" in choice.params}
    assert shadows == {"u-lira": 8, "vulnerable-samples": 16, "shokri": 16}
    (named,) = specs(profile="standard", measures=[{"name": "zrf", "params": {"nets": 2}}])
    assert taken(named) == names("standard")
    assert {choice.name: choice.params for choice in named.measures}["zrf"]["nets"] == 2


def test_a_run_with_a_profile_keeps_the_scenarios_name_and_one_with_measures_of_its_own_does_not() -> None:
    scenario = "digits-cnn-class3/v1"
    by_level = {level: specs(scenario=scenario, profile=level)[0] for level in PROFILES}
    assert {spec.scenario for spec in by_level.values()} == {scenario}
    assert len({spec.id for spec in by_level.values()}) == len(PROFILES)
    assert specs(scenario=scenario, measures=["accuracy"])[0].scenario is None
    assert specs(scenario=scenario, profile="smoke", recipe={"lr": 0.5})[0].scenario is None
    assert specs(scenario=scenario, profile="smoke", set={"cnn.hidden": 63})[0].scenario is None


# -- shorthands --------------------------------------------------------------------------------------------------------


def test_what_stands_after_a_colon_fills_the_measures_parameter() -> None:
    assert expand_shorthands(["accuracy", "sklearn:f1_macro@test"], registry()) == [
        "accuracy",
        {"name": "sklearn", "params": {"metrics": ["f1_macro@test"]}},
    ]


@pytest.mark.parametrize(
    "said",
    [
        ["sklearn:f1_macro@test,accuracy@retain"],
        ["sklearn:f1_macro@test", "sklearn:accuracy@retain"],
        ["sklearn", "sklearn: f1_macro@test , accuracy@retain,"],
        ["sklearn:f1_macro@test", "sklearn:accuracy@retain", "sklearn"],
        [{"name": "sklearn", "params": {"metrics": ["f1_macro@test"]}}, "sklearn:accuracy@retain"],
    ],
    ids=["a list", "twice", "after the bare name", "before it", "after parameters"],
)
def test_mentions_of_one_measure_are_joined(said: list[Any]) -> None:
    (found,) = expand_shorthands(said, registry())
    assert found == {"name": "sklearn", "params": {"metrics": ["f1_macro@test", "accuracy@retain"]}}


def test_a_shorthand_leaves_what_was_written_alone() -> None:
    written = {"name": "sklearn", "params": {"metrics": ["f1_macro@test"]}}
    for _ in range(2):
        expand_shorthands([written, "sklearn:accuracy@retain"], registry())
    assert written == {"name": "sklearn", "params": {"metrics": ["f1_macro@test"]}}


def test_a_shorthand_adds_to_the_measure_of_a_profile() -> None:
    (spec,) = specs(profile="standard", measures=["sklearn:f1_macro@test"])
    assert taken(spec) == names("standard")
    assert {choice.name: choice.params for choice in spec.measures}["sklearn"] == {"metrics": ["f1_macro@test"]}


def test_measures_without_a_shorthand_take_nothing_after_a_colon() -> None:
    with pytest.raises(UsageError, match="accuracy takes nothing after a colon") as found:
        expand_shorthands(["accuracy:test"], registry())
    assert found.value.code == "bad-measure"


# -- on the command line -----------------------------------------------------------------------------------------------


def refused(folder: Path, *arguments: str | Path) -> Done:
    """A command that must not leave anything behind."""
    done = call("run", *WINE, "-u", "identity", "--no-tracking", "--out", folder / "runs", *arguments)
    assert not (folder / "runs").exists()
    return done


def test_an_unknown_profile_is_one_line(tmp_path: Path) -> None:
    assert_one_error(refused(tmp_path, "--profile", "audits"), 2, "usage", "--profile", "smoke")
    for ask in (lambda: specs(profile="audits"), lambda: profile("audits"), lambda: names("audits")):
        with pytest.raises(UsageError, match="did you mean audit") as found:
            ask()
        assert found.value.exit_code == 2


def test_text_after_a_colon_is_one_line_where_a_measure_takes_none(tmp_path: Path) -> None:
    done = refused(tmp_path, "--measure", "accuracy:test")
    assert_one_error(done, 2, "bad-measure", "accuracy takes nothing after a colon", "--set accuracy.PARAM=VALUE")
    assert_one_error(refused(tmp_path, "--measure", "f1:test"), 2, "unknown-measure", "'f1'")


def test_a_profile_whose_plugins_are_not_there_says_what_to_install(tmp_path: Path) -> None:
    there = {"UNLEARNBENCH_PLUGINS": "unlearnbench-u-lira,unlearnbench-utility"}
    arguments = ("run", *WINE, "-u", "identity", "--no-tracking", "--dry-run", "--profile")
    done = spawn(*arguments, "audit", cwd=tmp_path, env=there)
    absent = ["unlearnbench-bad-teaching", "unlearnbench-membership", "unlearnbench-relearning"]
    assert_one_error(done, 2, "missing-plugin", f"profile audit needs {' and '.join(absent)}")
    assert done.stderr.endswith(f"; pip install {' '.join(absent)}\n")
    assert spawn(*arguments, "smoke", cwd=tmp_path, env=there).rc == 0  # it needs nothing but the host


def test_the_price_is_told_before_the_work(tmp_path: Path) -> None:
    small = ("--set", "recipe.epochs=1", "--set", "u-lira.shadows=6", "--measure", "u-lira")
    said = "price: the measures ask for 6 original + 6 gold + 6 unlearned models besides those of the runs"
    plan = refused(tmp_path, *small, "--dry-run")
    assert (plan.rc, plan.stderr) == (0, f"{said}\n")
    assert "price" not in plan.stdout
    cut = tmp_path / "runs"
    done = call("run", *WINE, "-u", "identity", "--no-tracking", "--out", cut, *small)
    assert done.rc == 0
    assert done.stderr.startswith(f"{said}: about 1 s of training (less what is stored), and the unlearning\n")
    assert done.stderr.count("price:") == 1
    quiet = call("run", *WINE, "-u", "identity", "--no-tracking", "--out", cut, *small, "--quiet")
    assert (quiet.rc, quiet.stdout, quiet.stderr) == (0, "", "")


def test_the_price_comes_before_any_model_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlearnbench.stages import Stages

    def stopped(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stages, "_made", stopped)
    done = refused(tmp_path, "--measure", "u-lira", "--set", "recipe.epochs=1")
    assert done.rc == 6
    price, interrupted = done.stderr.splitlines()
    assert price.startswith("price: the measures ask for 16 original + 16 gold + 16 unlearned models")
    assert interrupted.startswith("error: [interrupted]")


def test_measures_without_further_models_have_no_price(tmp_path: Path) -> None:
    done = refused(tmp_path, "--profile", "standard", "--dry-run")
    assert (done.rc, done.stderr) == (0, "")


def test_a_checkpoint_cannot_be_audited(tmp_path: Path) -> None:
    save_file({"1.weight": torch.zeros(3, 13), "1.bias": torch.zeros(3)}, tmp_path / "own.safetensors")
    brought = ("--checkpoint", tmp_path / "own.safetensors")
    for more in ((), ("--dry-run",)):
        done = refused(tmp_path, "--profile", "audit", *brought, *more)
        assert_one_error(done, 3, "incompatible", "brought as a checkpoint", "leave the measure out")
    assert refused(tmp_path, "--profile", "standard", *brought, "--dry-run").rc == 0


def test_a_stream_cannot_be_audited(tmp_path: Path) -> None:
    stream = tmp_path / "stream.json"
    stream.write_text('{"requests": [{"kind": "samples", "count": 5}, {"kind": "samples", "count": 5, "seed": 1}]}')
    for more in ((), ("--dry-run",)):
        done = refused(tmp_path, stream, "--profile", "audit", *more)
        assert_one_error(done, 3, "incompatible", "one request, not a stream")
    assert refused(tmp_path, stream, "--profile", "standard", "--dry-run").rc == 0


def test_every_measure_of_the_repository_says_what_it_yields() -> None:
    specs = [component.spec for component in registry().components("measure")]
    ours = [spec for spec in specs if spec.target.startswith("unlearnbench")]
    assert len(ours) > 25
    silent = [spec.name for spec in ours if not spec.readings or not all(r.summary for r in spec.readings)]
    assert not silent
