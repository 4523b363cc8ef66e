"""From flags, experiment files and scenarios to run specs: who wins, what is refused, and what stays the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from support import call

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.config import (
    DEFAULT_SCENARIO,
    parse_overrides,
    parse_seeds,
    read_experiment,
    resolve_experiment,
    resolve_request,
    scenario,
    scenario_names,
)
from unlearnbench.forget import parse_forget
from unlearnbench.identity import file_digest
from unlearnbench.registry import registry
from unlearnbench.spec import RunSpec, Seeds


def specs(**experiment: Any) -> list[RunSpec]:
    return resolve_experiment({"unlearners": ["identity"], **experiment}, registry())


def spec(**experiment: Any) -> RunSpec:
    (found,) = specs(**experiment)
    return found


def refusal(problem: type[UnlearnBenchError] = UsageError, **experiment: Any) -> str:
    with pytest.raises(problem) as caught:
        specs(**experiment)
    return str(caught.value)


# -- experiment files --------------------------------------------------------------------------------------------------

EXPERIMENT = {
    "scenario": "digits-cnn-class3/v1",
    "unlearners": ["salun", {"name": "finetune", "params": {"lr": 0.001, "epochs": 2}}],
    "forget": [{"kind": "samples", "fraction": 0.2, "stratified": True}, {"kind": "class", "classes": [3, "4"]}],
    "seeds": {"train": [0, 1], "unlearn": [5]},
    "recipe": {"epochs": 3, "clip_norm": None},
    "set": {"salun.density": 0.25},
}
YAML = """
# lr is 1e-3, which YAML 1.1 would read as a text
scenario: digits-cnn-class3/v1
unlearners:
  - salun
  - name: finetune
    params: {lr: 1e-3, epochs: 2}
forget:
  - {kind: samples, fraction: 0.2, stratified: true}
  - kind: class
    classes: [3, "4"]
seeds:
  train: [0, 1]
  unlearn: [5]
recipe: {epochs: 3, clip_norm: null}
set:
  salun.density: .25
"""
TOML = """
scenario = "digits-cnn-class3/v1"
unlearners = ["salun", { name = "finetune", params = { lr = 1e-3, epochs = 2 } }]
seeds = { train = [0, 1], unlearn = [5] }
recipe = { epochs = 3 }
set = { "salun.density" = 0.25 }

[[forget]]
kind = "samples"
fraction = 0.2
stratified = true

[[forget]]
kind = "class"
classes = [3, "4"]
"""


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    of_json = read_experiment(written(tmp_path, "e.json", json.dumps(EXPERIMENT)))
    of_yaml = read_experiment(written(tmp_path, "e.yaml", YAML))
    of_toml = read_experiment(written(tmp_path, "e.toml", TOML))  # TOML has no null: it is left out
    assert of_json == of_yaml == EXPERIMENT
    assert {**of_toml, "recipe": {**of_toml["recipe"], "clip_norm": None}} == EXPERIMENT
    ids = [[s.id for s in resolve_experiment(e, registry())] for e in (of_json, of_yaml, of_toml)]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == 2 * 2 * 2  # unlearners x requests x training seeds


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("e.json", '{"unlearners": ["salun"], "unlearners": []}', "[bad-json] e.json: key 'unlearners' stands twice"),
        ("e.json", '{"validation": NaN}', "[bad-json] e.json: NaN is not JSON"),
        ("e.json", '{"validation": 1e999}', "[bad-json] e.json: 1e999 is too large for a number"),
        ("e.json", "[]", "[bad-value] e.json: [] is not of type 'object'"),
        ("e.yaml", "unlearners: [salun]\nunlearners: []", "[bad-yaml] e.yaml: a key stands twice"),
        ("e.yaml", "recipe: {epochs: 1, epochs: 2}", "[bad-yaml] e.yaml: a key stands twice"),
        ("e.yaml", "unlearners: [salun", "[bad-yaml] e.yaml: while parsing a flow sequence"),
        ("e.yaml", "a: !!python/object/apply:os.getcwd []", "[bad-yaml] e.yaml: could not determine a constructor"),
        ("e.yaml", "[" * 10_000, "[bad-yaml] e.yaml: "),
        ("e.yaml", "unlearners: &a [*a]", "[bad-yaml] e.yaml: found unconstructable recursive node"),
        ("e.yaml", "", "[bad-value] e.yaml: None is not of type 'object'"),
        (
            "e.yaml",
            "unlearner: [salun]",
            "[unknown-property] e.yaml: no property 'unlearner'; did you mean unlearners?",
        ),
        ("e.yaml", "validation: .nan", "[bad-value] e.yaml.validation: nan is not of type 'number'"),
        ("e.yaml", "forget: [{kind: samples, fraction: .nan}]", "[bad-value] e.yaml.forget.0.fraction: nan is not of"),
        ("e.yaml", "scenario: 2020-01-01", "[bad-value] e.yaml.scenario: datetime.date(2020, 1, 1) is not of type"),
        ("e.toml", "validation = nan", "[bad-value] e.toml.validation: nan is not of type 'number'"),
        ("e.toml", "scenario = 1979-05-27", "[bad-value] e.toml.scenario: datetime.date(1979, 5, 27) is not of type"),
        ("e.toml", "unlearners = [", "[bad-toml] e.toml: "),
        ("e.toml", "device = 'cpu'\ndevice = 'cuda'", "[bad-toml] e.toml: Cannot overwrite a value"),
        ("e.ini", "unlearners", "[bad-file] e.ini: ends in '.ini'; use .yaml, .json or .toml"),
        ("e.json", '{"forget": [{"kind": "sample"}]}', "[unknown-value] e.json.forget.0.kind: no value 'sample'; did"),
        ("e.json", '{"device": "gpu"}', "[unknown-value] e.json.device: no value 'gpu'; "),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, name: str, content: str, line: str) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(UsageError) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_matter_of_data(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", written(tmp_path, "latin.yaml", b"unlearners: [\xe9]"), tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_experiment(path)


@pytest.mark.parametrize(
    "written_as", ["recipe: {lr: 2020-01-01}", "recipe: {lr: .inf}", "recipe: {lr: !!binary aGk=}"]
)
def test_values_that_json_does_not_know_are_no_parameters(tmp_path: Path, written_as: str) -> None:
    document = read_experiment(written(tmp_path, "e.yaml", f"unlearners: [identity]\n{written_as}"))
    with pytest.raises(UsageError, match=r"^\[bad-parameter\] recipe.lr: .* is not allowed"):
        resolve_experiment(document, registry())


# -- who wins ----------------------------------------------------------------------------------------------------------


def test_without_more_words_it_is_the_default_scenario() -> None:
    found = spec()
    assert found.scenario == DEFAULT_SCENARIO
    assert found.recipe.epochs == scenario(DEFAULT_SCENARIO)["recipe"]["epochs"] == 30
    assert found.requests == (resolve_request(scenario(DEFAULT_SCENARIO)["requests"][0]),)
    assert found.seeds == Seeds(0, 0, 0)


def test_scenario_then_experiment_then_set() -> None:
    experiment = {"recipe": {"epochs": 5, "lr": 0.5}, "model": {"name": "cnn", "params": {"hidden": 8}}}
    found = spec(**experiment, set={"recipe.lr": 0.25, "cnn.channels": [4]})
    assert (found.recipe.epochs, found.recipe.lr, found.recipe.batch_size) == (5, 0.25, 32)
    assert found.model.params == {"channels": [4], "hidden": 8}
    assert spec(model={"name": "cnn", "params": {"hidden": 8}}).model.params == {"channels": [16, 32], "hidden": 8}
    # another model does not inherit the parameters of the scenario's
    assert spec(model="mlp").model.params == {"hidden": [128]}


def test_the_scenarios_recipe_of_an_unlearner_gives_way() -> None:
    def salun(wanted: Any, **more: Any) -> dict[str, Any]:
        return dict(spec(unlearners=[wanted], **more).unlearner.params)

    assert (salun("salun")["lr"], salun("salun")["batch_size"]) == (0.01, 32)
    assert salun({"name": "salun", "params": {"lr": 0.5}})["lr"] == 0.5
    assert salun({"name": "salun", "params": {"lr": 0.5}}, set={"salun.lr": 0.25})["lr"] == 0.25
    # a run of its own has the plugin's defaults
    assert salun("salun", dataset="wine", model="mlp")["lr"] == 0.013


def test_a_run_that_differs_from_the_scenario_does_not_bear_its_name() -> None:
    name = DEFAULT_SCENARIO
    for same in ({}, {"scenario": name}, {"seeds": [7]}, {"unlearners": ["salun"]}, {"set": {"identity": 0}}):
        if "set" not in same:
            assert spec(**same).scenario == name
    for other in (
        {"recipe": {"epochs": 3}},
        {"set": {"recipe.epochs": 3}},
        {"set": {"digits.test_fraction": 0.3}},
        {"set": {"cnn.hidden": 8}},
        {"model": "mlp"},
        {"dataset": "wine"},
        {"measures": ["accuracy"]},
        {"validation": 0.1},
        {"forget": [{"kind": "class", "classes": ["1"]}]},
    ):
        assert spec(**other).scenario is None, other
    assert spec(forget=scenario(name)["requests"]).scenario == name
    assert spec(set={"recipe.epochs": 3}).run_id().startswith("digits-cnn.identity.s0.")
    assert spec().run_id().startswith("digits-cnn-random10-v1.identity.s0.")


def test_forget_fans_out_and_requests_are_a_stream() -> None:
    requests = [{"kind": "class", "classes": ["1"]}, {"kind": "class", "classes": ["2"]}]
    assert [len(s.requests) for s in specs(forget=requests)] == [1, 1]
    assert [len(s.requests) for s in specs(requests=requests)] == [2]
    assert "exclude each other" in refusal(forget=requests, requests=requests)


def test_runs_are_in_the_order_of_requests_unlearners_and_seeds() -> None:
    requests = [{"kind": "class", "classes": ["1"]}, {"kind": "class", "classes": ["2"]}]
    found = specs(unlearners=["retrain", "identity"], forget=requests, seeds=[3, 1])
    assert [(s.requests[0]["classes"][0], s.unlearner.name, s.seeds.train) for s in found] == [
        (c, u, seed) for c in "12" for u in ("retrain", "identity") for seed in (3, 1)
    ]


# -- chains ------------------------------------------------------------------------------------------------------------


def test_a_chain_gives_every_stage_its_own_parameters() -> None:
    (found,) = specs(unlearners=["saliency+finetune+finetune"], set={"finetune.epochs": 2, "finetune#3.epochs": 4})
    assert found.unlearner.name == "saliency+finetune+finetune"
    assert [stage.name for stage in found.unlearner.stages] == ["saliency", "finetune", "finetune"]
    assert [stage.params.get("epochs") for stage in found.unlearner.stages] == [None, 2, 4]
    # what the scenario says about a method holds within a chain too
    assert found.unlearner.stages[1].params["lr"] == 0.03
    named = {"name": "mine", "stages": ["saliency", {"name": "finetune", "params": {"epochs": 2}}, "finetune"]}
    (same,) = specs(unlearners=[named], set={"finetune#3.epochs": 4})
    assert same.id == found.id


def test_a_setting_for_a_stage_that_is_not_there_is_refused() -> None:
    line = refusal(unlearners=["saliency+finetune"], set={"finetune#3.epochs": 4})
    assert line.startswith("[unknown-component] --set: no component 'finetune#3'; did you mean finetune")


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("experiment", "line"),
    [
        ({"unlearners": []}, "[no-unlearner] $.unlearners: no unlearner is named; add --unlearner salun"),
        ({"scenario": "digits"}, "[unknown-scenario] $.scenario: no scenario 'digits'; "),
        ({"seeds": [-1]}, "[bad-value] $.seeds.0: -1 is less than the minimum of 0"),
        ({"seeds": [0.0]}, "[bad-value] $.seeds.0: 0.0 is not "),
        ({"seeds": [True]}, "[bad-value] $.seeds.0: True is not "),
        (
            {"forget": [{"kind": "samples", "count": 50.0}]},
            "[bad-value] $.forget.0.count: 50.0 is not of type 'integer'",
        ),
        ({"validation": 1}, "[bad-value] $.validation: 1 is "),
        ({"validation": float("nan")}, "[bad-value] $.validation: nan is not of type 'number'"),
        ({"set": {"epochs": 5}}, "[bad-setting] --set: 'epochs' is not COMPONENT.PARAMETER"),
        ({"set": {"salun.epochs": 5}}, "[unknown-component] --set: no component 'salun'; "),
        ({"set": {"recipe.epoch": 5}}, "[unknown-parameter] recipe: no parameter 'epoch'; did you mean epochs?"),
        ({"recipe": {"epochs": 5.0}}, "[bad-parameter] recipe.epochs: 5.0 is not allowed"),
        ({"checkpoint": "nowhere.safetensors"}, "[missing-file] --checkpoint: no checkpoint nowhere.safetensors"),
    ],
)
def test_an_experiment_that_cannot_be_meant_is_refused(experiment: dict[str, Any], line: str) -> None:
    problem = DataError if "checkpoint" in experiment else UsageError
    assert refusal(problem, **experiment).startswith(line)


def test_settings_are_split_at_the_last_dot() -> None:
    found = parse_overrides({"recipe.lr": 1, "v1.2-method.lr": 2, "recipe.epochs": 3})
    assert found.values == {"recipe": {"lr": 1, "epochs": 3}, "v1.2-method": {"lr": 2}}
    assert found.of("recipe", "v1.2-method") == {"lr": 2, "epochs": 3}
    for bad in ("lr", ".lr", "recipe.", "."):
        with pytest.raises(UsageError, match=r"is not COMPONENT\.PARAMETER"):
            parse_overrides({bad: 1})


# -- scenarios ---------------------------------------------------------------------------------------------------------


def test_every_scenario_resolves_to_the_run_that_it_describes() -> None:
    assert scenario_names() == sorted(scenario_names())
    for name in scenario_names():
        scene = scenario(name)
        found = spec(scenario=name)
        assert found.scenario == name
        assert found.dataset.name == scene["dataset"]["name"]
        assert found.requests == tuple(resolve_request(request) for request in scene["requests"])
        assert [measure.name for measure in found.measures] == scene["measures"]
        recipe = found.to_json()["recipe"]
        assert {key: recipe[key] for key in scene["recipe"]} == scene["recipe"]


def test_the_listing_of_scenarios_is_that_of_the_code(cli: Cli) -> None:
    listed = json.loads(cli("list", "scenarios", "--json", plugins="").stdout)
    assert [scene["name"] for scene in listed] == scenario_names()
    shown = json.loads(cli("show", DEFAULT_SCENARIO, "--json", plugins="").stdout)
    assert shown == scenario(DEFAULT_SCENARIO)


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_a_seed_seeds_everything_and_parts_combine() -> None:
    assert parse_seeds([0, 7]) == [Seeds(0, 0, 0), Seeds(7, 7, 7)]
    assert parse_seeds({"train": [0, 1], "unlearn": [2, 3]}) == [
        Seeds(0, 2, 0), Seeds(0, 3, 0), Seeds(1, 2, 0), Seeds(1, 3, 0),
    ]  # fmt: skip
    assert parse_seeds({"measure": [4]}) == [Seeds(0, 0, 4)]
    assert [s.label() for s in (Seeds(3, 3, 3), Seeds(0, 2, 0))] == ["3", "0-2-0"]


def planned_seeds(*flags: str) -> list[tuple[int, int, int]]:
    done = call("run", "-u", "identity", *flags, "--dry-run", "--json")
    assert done.rc == 0, done.stderr
    seeds = [plan["spec"]["seeds"] for plan in done.json()]
    return [(s["train"], s["unlearn"], s["measure"]) for s in seeds]


def test_seeds_of_the_command_line() -> None:
    assert planned_seeds("--seed", "3", "--seed", "1") == [(3, 3, 3), (1, 1, 1)]
    assert planned_seeds("--seed", "0..2", "--seed", "7") == [(n, n, n) for n in (0, 1, 2, 7)]
    flags = ("--seeds", "train=0,1 unlearn=2..4", "--seeds", "measure=9")
    assert planned_seeds(*flags) == [(t, u, 9) for t in (0, 1) for u in (2, 3, 4)]


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (("--seeds", "train"), "[bad-seeds] --seeds: 'train' is not PART=LIST; write train=0,1,2 or unlearn=0..4"),
        (("--seeds", "trian=0"), "[bad-seeds] --seeds: 'trian=0' is not PART=LIST"),
        (("--seeds", "train=0,x"), "[bad-seeds] --seeds: 'train=0,x' is not PART=LIST"),
        (("--seeds", "train=4..2"), "'train=4..2' is not PART=LIST"),
        (("--seeds", "train=-1"), "'train=-1' is not PART=LIST"),
        (("--seeds", "train=0,0"), "$.seeds.train: "),
        (("--seed", "0", "--seed", "0"), "$.seeds: "),
        (("--seed", "0", "--seeds", "train=1"), "[bad-seeds] --seeds: --seed and --seeds exclude each other"),
        (("--seed", "-1"), "[bad-seeds] --seed: '-1' is no seed; write --seed 3 or --seed 0..4"),
        (("--seed", "4..2"), "'4..2' is no seed"),
        (("--seed", "9007199254740992"), "is greater than the maximum of 9007199254740991"),
    ],
)
def test_bad_seeds_are_refused(flags: tuple[str, ...], answer: str) -> None:
    refused = call("run", "-u", "identity", *flags, "--dry-run")
    assert refused.rc == 2
    assert answer in refused.stderr
    assert refused.stderr.count("\n") == 1


# -- the short form of requests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("random=0.1", {"kind": "samples", "fraction": 0.1}),
        ("random=1e-2", {"kind": "samples", "fraction": 0.01}),
        ("random=50", {"kind": "samples", "count": 50}),
        ("class=3", {"kind": "class", "classes": ["3"]}),
        ("class=cat,dog", {"kind": "class", "classes": ["cat", "dog"]}),
        ("ids=1,2, 3", {"kind": "samples", "ids": [1, 2, 3]}),
        ("file=a=b.txt", {"kind": "samples", "file": "a=b.txt"}),
        ("group=person:7", {"kind": "group", "column": "person", "values": ["7"]}),
        ("group=site:north,south:east", {"kind": "group", "column": "site", "values": ["north", "south:east"]}),
        ("target=hat", {"kind": "target", "targets": ["hat"]}),
        ("edges=0.2", {"kind": "edges", "fraction": 0.2}),
        ("nodes=5", {"kind": "nodes", "count": 5}),
        ("features=20", {"kind": "features", "count": 20}),
        ("nodes=1", {"kind": "nodes", "count": 1}),
        ("edges=100:highest", {"kind": "edges", "count": 100, "degree": "highest"}),
        ("nodes=0.1:lowest", {"kind": "nodes", "fraction": 0.1, "degree": "lowest"}),
        (' {"kind": "samples", "fraction": 0.1, "seed": 3}', {"kind": "samples", "fraction": 0.1, "seed": 3}),
    ],
)
def test_the_short_form_says_the_same_as_the_long_one(text: str, request_: dict[str, Any]) -> None:
    assert parse_forget(text) == request_
    resolve_request(request_)  # and the long one is valid


@pytest.mark.parametrize("text", ["random=0", "random=1", "random=-0.1", "random=1.5", "random=nan", "random=inf"])
def test_amounts_that_are_no_share_are_refused_when_they_are_resolved(text: str) -> None:
    with pytest.raises(UsageError, match=r"^\[bad-value\] \$\.request\.fraction: "):
        resolve_request(parse_forget(text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("random", "[bad-request] --forget: 'random' is not a request; write random=0.1, random=50, class=3"),
        ("random=", "[bad-request] --forget: 'random=' is not a request"),
        ("random=a", "[bad-request] --forget: 'random=a': could not convert string to float: 'a'; write"),
        ("ids=1,b", "[bad-request] --forget: 'ids=1,b': invalid literal for int() with base 10: 'b'; write"),
        ("ids=1.5", "[bad-request] --forget: 'ids=1.5': invalid literal"),
        ("group=person", "[bad-request] --forget: 'group=person' is not a request"),
        ("klass=3", "[bad-request] --forget: 'klass=3' is not a request"),
        ("", "[bad-request] --forget: '' is not a request"),
        ('{"kind": "samples", "kind": "class"}', "[bad-json] --forget: key 'kind' stands twice"),
        ('{"kind": "samples", "fraction": NaN}', "[bad-json] --forget: NaN is not JSON"),
        ("{", "[bad-json] --forget: "),
    ],
)
def test_what_is_no_request_is_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_forget(text)
    assert str(caught.value).startswith(line)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["random=", "class=", "ids=", "group=", "target=", "nodes=", "edges=5:", "{", ""]),
    st.text(max_size=12),
)
def test_any_text_is_a_valid_request_or_refused(word: str, rest: str) -> None:
    try:
        request = resolve_request(parse_forget(word + rest))
    except UsageError:  # and nothing else
        return
    assert resolve_request(request) == request  # a resolved request is one


def test_bytes_that_are_no_text_are_refused() -> None:
    # as Python hands over what is not in the encoding of the terminal
    for text in ("class=\udcff", "file=\udcff", "group=site:\udcff", "group=\udcff:1"):
        refused = call("run", "-u", "identity", "--forget", text, "--dry-run")
        assert refused.rc == 2
        assert refused.stderr.startswith("error: [bad-value] $.forget.0.")
        assert refused.stderr.count("\n") == 1


def test_resolving_fills_in_what_was_left_out() -> None:
    assert resolve_request({"kind": "samples", "fraction": 0.1}) == {
        "kind": "samples", "fraction": 0.1, "seed": 0, "stratified": False,
    }  # fmt: skip
    assert resolve_request({"kind": "class", "classes": [3]}) == {"kind": "class", "classes": ["3"]}
    assert resolve_request({"kind": "target", "targets": ["hat"]})["as"] == "absent"
    assert resolve_request({"kind": "nodes", "count": 5}) == {"kind": "nodes", "count": 5, "seed": 0, "features": True}
    by_degree = {"kind": "edges", "count": 5, "degree": "highest"}
    assert resolve_request(by_degree) == by_degree
    with pytest.raises(UsageError, match=r"no request kind 'smaples'; did you mean samples\?"):
        resolve_request({"kind": "smaples"})


# -- through the command line ------------------------------------------------------------------------------------------


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "e.yaml", YAML)
    assert len(call("run", path, "--dry-run", "--json").json()) == 8
    flags = ("-u", "identity", "--seed", "4", "--forget", "class=9", "--set", "recipe.epochs=7")
    done = call("run", path, *flags, "--set", "salun.density=0.5", "--dry-run")
    assert done.rc == 2  # the file's setting of salun is without use now, and so is the flag's
    assert "no component 'salun'" in done.stderr
    path = written(tmp_path, "e.yaml", YAML.replace("set:\n  salun.density: .25", "set: {recipe.epochs: 2}"))
    (plan,) = call("run", path, *flags, "--dry-run", "--json").json()
    assert plan["spec"]["unlearner"]["name"] == "identity"
    assert plan["spec"]["seeds"] == {"train": 4, "unlearn": 4, "measure": 4}
    assert plan["spec"]["requests"] == [{"kind": "class", "classes": ["9"]}]
    assert plan["spec"]["recipe"]["epochs"] == 7


def test_the_command_line_and_a_file_plan_the_same_runs(cli: Cli, tmp_path: Path) -> None:
    path = written(tmp_path, "e.yaml", YAML)
    of_file = json.loads(cli("run", path, "--dry-run", "--json", plugins="salun,baselines").stdout)
    of_python = resolve_experiment(EXPERIMENT, registry())
    assert [plan["id"] for plan in of_file] == [s.run_id() for s in of_python]
    assert [plan["spec"] for plan in of_file] == [json.loads(json.dumps(s.to_json())) for s in of_python]


def test_an_experiment_file_is_validated_by_validate(tmp_path: Path) -> None:
    good = written(tmp_path, "good.yaml", YAML)
    bad = written(tmp_path, "bad.yaml", YAML.replace("epochs: 3", "epochs: three"))
    done = call("validate", good, bad, "--json")
    assert done.rc == 1
    assert [r["status"] for r in done.json()] == ["ok", "invalid"]
    assert "[bad-parameter] recipe.epochs" in done.json()[1]["error"]


def test_file_names_in_an_experiment_are_relative_to_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    written(folder, "forget.txt", "0\n3\n")
    short = "{dataset: good-blobs, model: good-linear, measures: [good-norm], recipe: {epochs: 1}, "
    path = written(folder, "e.yaml", short + "unlearners: [identity], forget: [{kind: samples, file: forget.txt}]}")
    done = cli("run", path, "--json", "--no-tracking", "--out", tmp_path / "runs", plugins="good")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["requests"][0]["forget"] == 2


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.safetensors", b"weights")
    (found,) = resolve_experiment({"unlearners": ["identity"], "checkpoint": path.name}, registry(), tmp_path)
    assert found.checkpoint == {"name": "mine.safetensors", "sha256": file_digest(path)}
    assert found.scenario is None
    other = written(tmp_path, "renamed.safetensors", b"weights")
    (renamed,) = resolve_experiment({"unlearners": ["identity"], "checkpoint": str(other)}, registry(), tmp_path)
    assert renamed.id == found.id
    assert renamed.id != spec().id
