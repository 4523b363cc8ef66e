"""The packaged schemas: sound, closed, documented, and with errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from unlearnbench.api.errors import UsageError
from unlearnbench.api.specs import DatasetSpec, MeasureSpec, ModelSpec, Paper, Spec, UnlearnerSpec
from unlearnbench.config import resolve_experiment, resolve_request, scenario, scenario_names
from unlearnbench.levels import LEVELS
from unlearnbench.registry import registry
from unlearnbench.schemas import BASE, MAX_BYTES, MAX_DEPTH, load_json, schema, schema_names, validate

CLASSES = (
    "Classes whose rows are forgotten, at least one: "
    "names, or positions counted from 0 where no class is named by a number."
)

NAMES = [
    "certificate",
    "component",
    "experiment",
    "never",
    "redirect",
    "request",
    "run-record",
    "run-spec",
    "scenario",
    "submission",
    "suite",
    "verification",
]
RESOURCES = Registry().with_resources((schema(n)["$id"], Resource.from_contents(schema(n))) for n in NAMES)

# Objects whose keys are checked elsewhere: by the schema generated from a component's parameters or from Recipe, by
# parse_overrides, or not at all (a certificate is in the unlearner's own words).
FREE = {"params", "recipe", "set", "certificate"}

# Keywords under which a schema only narrows an instance that another, closed schema describes.
NARROWING = {"if", "then", "else", "not", "dependentSchemas"}


def subschemas(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every schema in a document with its path; examples, constants and narrowing schemas are not entered."""
    if not isinstance(node, dict):
        return
    yield path, node
    for key in ("properties", "$defs"):
        for name, child in node.get(key, {}).items():
            yield from subschemas(child, (*path, key, name))
    for key in ("items", "additionalProperties"):
        yield from subschemas(node.get(key), (*path, key))
    for position, child in enumerate(node.get("allOf", [])):
        assert set(child) <= NARROWING, f"{path} allOf {position} does more than choose a branch"


def all_subschemas() -> list[tuple[str, str, dict[str, Any]]]:
    return [(name, "/".join(path), node) for name in NAMES for path, node in subschemas(schema(name))]


def resolved(name: str, node: dict[str, Any]) -> dict[str, Any]:
    """A schema with the one that it refers to filled in; its own words come first."""
    if "$ref" not in node:
        return node
    found = RESOURCES.resolver(schema(name)["$id"]).lookup(node["$ref"])
    return {**found.contents, **node}


def error_of(document: Any, name: str, where: str = "") -> str:
    with pytest.raises(UsageError) as caught:
        validate(document, name, where=where)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_schemas_are_these() -> None:
    assert schema_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_schema_is_a_valid_schema_with_a_versioned_id(name: str) -> None:
    document = schema(name)
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == f"{BASE}{name}/1.json"


def test_an_unknown_schema_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"\[unknown-schema\] no schema 'requests'; did you mean request\?"):
        schema("requests")


@pytest.mark.parametrize("name", NAMES)
def test_every_property_has_title_description_and_examples(name: str) -> None:
    seen = 0
    for path, node in subschemas(schema(name)):
        if not path or path[-2:-1] in (("properties",), ("$defs",)):
            seen += 1
            full = resolved(name, node)
            for word in ("title", "description"):
                assert isinstance(full.get(word), str), f"{path} has no {word}"
                assert full[word].strip(), f"{path} has no {word}"
            assert full.get("examples"), f"{path} has no examples"
    assert seen > 5


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_valid(name: str) -> None:
    for path, node in subschemas(schema(name)):
        pointer = "/".join(part.replace("~", "~0").replace("/", "~1") for part in path)
        reference = {"$ref": f"{schema(name)['$id']}#/{pointer}" if pointer else schema(name)["$id"]}
        validator = Draft202012Validator(reference, registry=RESOURCES)
        for example in resolved(name, node).get("examples", []):
            problems = [problem.message for problem in validator.iter_errors(example)]
            assert not problems, f"{path}: {problems}"


def test_every_object_is_closed() -> None:
    for name, path, node in all_subschemas():
        kinds = node.get("type", [])
        if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
            assert "properties" not in node, f"{name} {path} has properties but is no object"
            continue
        if "properties" in node and "allOf" not in node:
            assert node.get("additionalProperties") is False, f"{name} {path} is open"
        elif isinstance(node.get("additionalProperties"), dict):
            assert "type" in resolved(name, node["additionalProperties"]), f"{name} {path} is a map of anything"
        elif path.rpartition("/")[2] not in FREE:
            branches = [branch for branch in (node, *node.get("allOf", [])) if "then" in branch]
            assert branches, f"{name} {path} is open"
            for branch in branches:
                for way in ("then", "else"):
                    target = resolved(name, branch.get(way, {"additionalProperties": False}))
                    assert target["additionalProperties"] is False, f"{name} {path} {way} is open"


def test_references_leave_a_document_by_absolute_id_only() -> None:
    text = "".join(json.dumps(schema(name)) for name in NAMES)
    targets = [part.split('"')[0] for part in text.split('"$ref": "')[1:]]
    assert len(targets) > 40
    for target in targets:
        assert target.startswith(("#/$defs/", BASE)), target


@pytest.mark.parametrize("name", ["request", "component"])
def test_a_schema_by_kind_has_a_branch_for_every_kind(name: str) -> None:
    document = schema(name)
    kinds = document["$defs"]["kind"]["enum"]
    assert [branch["if"]["properties"]["kind"]["const"] for branch in document["allOf"]] == kinds
    assert [branch["then"]["$ref"] for branch in document["allOf"]] == [f"#/$defs/{kind}" for kind in kinds]


def test_kinds_of_requests_are_those_of_the_code() -> None:
    assert schema("request")["$defs"]["kind"]["enum"] == list(LEVELS)


@pytest.mark.parametrize("name", scenario_names())
def test_built_in_scenarios_are_valid(name: str) -> None:
    document = scenario(name)
    validate(document, "scenario")
    assert error_of({**document, "sumary": ""}, "scenario") == (
        "[unknown-property] $: no property 'sumary'; did you mean summary?"
    )


def test_a_scenario_has_a_version_in_its_name() -> None:
    document = {**scenario(scenario_names()[0]), "name": "digits-cnn"}
    assert "$.name: 'digits-cnn' does not match" in error_of(document, "scenario")


# -- requests ----------------------------------------------------------------------------------------------------------

GOOD_REQUESTS = [
    {"kind": "samples", "fraction": 0.1},
    {"kind": "samples", "fraction": 0.999999, "stratified": True, "seed": 7},
    {"kind": "samples", "count": 1},
    {"kind": "samples", "ids": [0]},
    {"kind": "samples", "ids": [3, 3]},  # duplicates are the resolver's to report: it can name them
    {"kind": "samples", "file": "forget.txt"},
    {
        "kind": "samples",
        "partition": [
            {"name": "old", "rest": "young", "how": "any-of", "any": [{"column": "age", "values": [70]}, {"ids": [1]}]},
            {"name": "few", "how": "range", "of": "young", "start": 5, "stop": 9},
            {"name": "forget", "how": "concat", "of": ["old", "few"]},
        ],
    },
    {"kind": "class", "classes": ["3", 4]},
    {"kind": "group", "column": "person", "values": ["smith", 7]},
    {"kind": "target", "targets": ["hat"]},
    {"kind": "target", "targets": [0], "as": "unknown"},
    {"kind": "nodes", "ids": [4, 9]},
    {"kind": "nodes", "fraction": 0.01, "seed": 1},
    {"kind": "edges", "pairs": [[0, 633], [1, 2]]},
    {"kind": "edges", "count": 5, "seed": 1},
    {"kind": "features", "count": 5, "seed": 1},
    {"kind": "features", "ids": [4]},
    {"kind": "nodes", "count": 5, "degree": "lowest", "features": False},
    {"kind": "edges", "fraction": 0.1, "degree": "highest"},
    {"kind": "edges", "file": "edges.csv"},
]


@pytest.mark.parametrize("request_", GOOD_REQUESTS, ids=json.dumps)
def test_good_requests_are_accepted_and_stay_valid_when_resolved(request_: dict[str, Any]) -> None:
    validate(request_, "request")
    resolved = resolve_request(request_)
    validate(resolved, "request")
    assert resolve_request(resolved) == resolved
    assert error_of({**resolved, "why": "so"}, "request").startswith("[unknown-property] $: no property 'why'")


SHARE = "Share of the rows that is drawn at random: more than 0 and less than 1."
ONE_OF = "exactly one of fraction, count, ids, file or partition"
SAMPLES = {"kind": "samples"}

BAD_REQUESTS = [
    ({**SAMPLES, "fraction": 0}, f"[bad-value] $.fraction: 0 is less than or equal to the minimum of 0; {SHARE}"),
    ({**SAMPLES, "fraction": 1}, f"[bad-value] $.fraction: 1 is greater than or equal to the maximum of 1; {SHARE}"),
    ({**SAMPLES, "fraction": -1}, f"[bad-value] $.fraction: -1 is less than or equal to the minimum of 0; {SHARE}"),
    (
        {**SAMPLES, "fraction": 1.5},
        f"[bad-value] $.fraction: 1.5 is greater than or equal to the maximum of 1; {SHARE}",
    ),
    ({**SAMPLES, "fraction": "0.1"}, f"[bad-value] $.fraction: '0.1' is not of type 'number'; {SHARE}"),
    ({**SAMPLES, "fraction": True}, f"[bad-value] $.fraction: True is not of type 'number'; {SHARE}"),
    (
        {**SAMPLES, "count": 0},
        "[bad-value] $.count: 0 is less than the minimum of 1; Number of rows that are drawn at random: at least 1.",
    ),
    (
        {**SAMPLES, "count": 1.5},
        "[bad-value] $.count: 1.5 is not of type 'integer'; Number of rows that are drawn at random: at least 1.",
    ),
    ({**SAMPLES, "ids": []}, "[bad-value] $.ids: [] should be non-empty; Ids of the rows, each once, at least one."),
    (
        {**SAMPLES, "ids": [1, "2"]},
        "[bad-value] $.ids.1: '2' is not of type 'integer'; Id of a row or node, as the data set numbers them.",
    ),
    (
        {**SAMPLES, "fraction": 0.1, "seed": -1},
        "[bad-value] $.seed: -1 is less than the minimum of 0; "
        "Seed of the draw; it belongs to the request, not to the run.",
    ),
    (SAMPLES, f"[bad-value] $: 'fraction' is a required property; say which rows: {ONE_OF}"),
    (
        {**SAMPLES, "fraction": 0.1, "count": 3},
        f"[bad-value] $.count: 3 should not be valid under {{}}; leave out fraction or count: {ONE_OF} is allowed",
    ),
    (
        {**SAMPLES, "ids": [1], "file": "a"},
        f"[bad-value] $.file: 'a' should not be valid under {{}}; leave out ids or file: {ONE_OF} is allowed",
    ),
    ({**SAMPLES, "fractoin": 0.1}, "[unknown-property] $: no property 'fractoin'; did you mean fraction?"),
    ({**SAMPLES, "count": 5, "classes": ["3"]}, "[unknown-property] $: no property 'classes'; available: "
     "count, file, fraction, ids, kind, partition, seed, stratified"),
    ({"kind": "class", "classes": [3], "seed": 0}, "[unknown-property] $: no property 'seed'; "
     "available: classes, kind"),
    (
        {"kind": "class", "classes": "3"},
        f"[bad-value] $.classes: '3' is not of type 'array'; {CLASSES}",
    ),
    (
        {"kind": "class", "classes": []},
        f"[bad-value] $.classes: [] should be non-empty; {CLASSES}",
    ),
    ({"kind": "class"}, "[bad-value] $: 'classes' is a required property; All rows of some classes."),
    (
        {"kind": "group", "values": [1]},
        "[bad-value] $: 'column' is a required property; "
        "All rows that share a value of a column, such as all images of a person.",
    ),
    ({"kind": "target", "targets": [0], "as": "gone"}, "[unknown-value] $.as: no value 'gone'; "
     "available: absent, images, unknown"),
    (
        {"kind": "edges", "ids": [1], "count": 1},
        "[unknown-property] $: no property 'ids'; available: count, degree, file, fraction, kind, pairs, seed",
    ),
    ({"kind": "nodes"}, "[bad-value] $: 'fraction' is a required property; say which nodes: "
     "exactly one of fraction, count, ids or file"),
    ({"kind": "edges", "degree": "highest"}, "[bad-value] $: 'fraction' is a required property; say which edges: "
     "exactly one of fraction, count, pairs or file"),
    ({"kind": "nodes", "count": 3, "degree": "high"}, "[unknown-value] $.degree: no value 'high'; "
     "did you mean highest?"),
    ({"kind": "nodes", "count": 3, "degree": "lowest", "seed": 1}, "[bad-value] $.seed: 1 should not be valid under "
     "{}; leave out degree or seed: nothing is drawn by degree"),
    ({"kind": "features", "ids": [3], "degree": "lowest"}, "[bad-value] $.ids: [3] should not be valid under "
     "{}; leave out degree or ids: degree goes with fraction or count"),
    ({"kind": "edges", "count": 3, "features": False}, "[unknown-property] $: no property 'features'; available: "
     "count, degree, file, fraction, kind, pairs, seed"),
    ({"kind": "clas"}, "[unknown-value] $.kind: no value 'clas'; did you mean class?"),
    ({"fraction": 0.1}, "[bad-value] $: 'kind' is a required property; What is to be forgotten. "
     "The kind decides which further properties there are."),
    ([], "[bad-value] $: [] is not of type 'object'; What is to be forgotten. "
     "The kind decides which further properties there are."),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "line"), BAD_REQUESTS, ids=[json.dumps(r) for r, _ in BAD_REQUESTS])
def test_bad_requests_are_refused_in_one_line(request_: Any, line: str) -> None:
    assert error_of(request_, "request") == line


ROWS = {"partition": [{"name": "forget", "how": "class", "classes": ["3"]}]}


@pytest.mark.parametrize("kind", ["samples", "nodes", "edges", "features"])
def test_every_pair_of_ways_to_choose_is_refused(kind: str) -> None:
    named = {"edges": {"pairs": [[0, 1]]}}.get(kind, {"ids": [1]})
    ways: dict[str, Any] = {"fraction": 0.1, "count": 1, **named, "file": "a", **(ROWS if kind == "samples" else {})}
    pairs = [(a, b) for i, a in enumerate(ways) for b in list(ways)[i + 1 :]]
    assert len(pairs) == (10 if kind == "samples" else 6)
    for first, second in pairs:
        request = {"kind": kind, first: ways[first], second: ways[second]}
        assert f"leave out {first} or {second}" in error_of(request, "request")


def test_the_path_starts_where_the_document_lies() -> None:
    line = error_of({"kind": "samples", "fraction": 2}, "request", where="$.forget.0")
    assert line.startswith("[bad-value] $.forget.0.fraction: 2 is greater")


# -- experiments -------------------------------------------------------------------------------------------------------

GOOD_EXPERIMENTS: list[dict[str, Any]] = [
    {},
    {"unlearners": ["a", "a+b", {"name": "a", "params": {"x": 1}}, {"stages": ["a", {"stages": ["b", "c"]}]}]},
    {"unlearners": ["a"], "seeds": {"train": [0, 1], "measure": [2]}},
    {"unlearners": ["a"], "forget": [{"kind": "class", "classes": ["3"]}], "validation": 0, "device": "auto"},
    {"unlearners": ["a"], "requests": [{"kind": "class", "classes": ["3"]}], "set": {"a.epochs": 5}},
]

BAD_EXPERIMENTS: list[tuple[Any, str]] = [
    ({"unlearner": "a"}, "[unknown-property] $: no property 'unlearner'; did you mean unlearners?"),
    ({"unlearners": [{"name": "a", "epochs": 5}]}, "[unknown-property] $.unlearners.0: no property 'epochs'; "
     "available: name, params"),
    ({"unlearners": [{"stages": ["a"], "params": {}}]}, "[unknown-property] $.unlearners.0: no property 'params'; "
     "available: name, stages"),
    ({"unlearners": [{"stages": ["a", {"name": 3}]}]}, "[bad-value] $.unlearners.0.stages.1.name: "
     "3 is not of type 'string'; Name of the component, as `unlearnbench list` shows it."),
    ({"dataset": {"params": {}}}, "[bad-value] $.dataset: 'name' is a required property; "
     "A component by name, with parameters that differ from the defaults."),
    ({"forget": [{"kind": "samples", "fraction": 2}]}, "[bad-value] $.forget.0.fraction: "
     f"2 is greater than or equal to the maximum of 1; {SHARE}"),
    ({"seeds": [-1]}, "[bad-value] $.seeds.0: -1 is less than the minimum of 0; A seed: a whole number, at least 0."),
    ({"seeds": {"trian": [0]}}, "[unknown-property] $.seeds: no property 'trian'; did you mean train?"),
    ({"device": "gpu"}, "[unknown-value] $.device: no value 'gpu'; did you mean cpu?"),
    ({"validation": 1}, "[bad-value] $.validation: 1 is greater than or equal to the maximum of 1; "
     "Share of the training rows that is kept for validation: at least 0 and less than 1."),
]  # fmt: skip


@pytest.mark.parametrize("document", GOOD_EXPERIMENTS, ids=json.dumps)
def test_good_experiments_are_accepted(document: dict[str, Any]) -> None:
    validate(document, "experiment")
    assert error_of({**document, "why": "so"}, "experiment").startswith("[unknown-property] $: no property 'why'")


@pytest.mark.parametrize(("document", "line"), BAD_EXPERIMENTS, ids=[json.dumps(d) for d, _ in BAD_EXPERIMENTS])
def test_bad_experiments_are_refused_in_one_line(document: Any, line: str) -> None:
    assert error_of(document, "experiment") == line


@pytest.mark.parametrize("empty", ["measures", "forget", "requests", "seeds"])
def test_lists_that_would_run_nothing_are_refused(empty: str) -> None:
    assert f"$.{empty}: [] should be non-empty" in error_of({empty: []}, "experiment")


def test_a_seed_that_stands_twice_is_refused() -> None:
    assert "$.seeds: [0, 0] has non-unique elements" in error_of({"seeds": [0, 0]}, "experiment")


# -- run specs, records, components ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [[0], {"train": [1], "unlearn": [2], "measure": [3]}])
def test_resolved_specs_are_valid(seeds: Any) -> None:
    wanted = {"unlearners": ["finetune", "finetune+finetune"], "seeds": seeds}
    specs = resolve_experiment(wanted, registry())
    assert len(specs) == 2
    for spec in specs:
        document = spec.to_json()
        validate(document, "run-spec")
        del document["seeds"]["unlearn"]
        assert "'unlearn' is a required property" in error_of(document, "run-spec")


def test_a_spec_without_a_seed_is_refused() -> None:
    document = deepcopy(schema("run-spec")["examples"][0])
    del document["seeds"]["measure"]
    assert error_of(document, "run-spec").startswith("[bad-value] $.seeds: 'measure' is a required property")


@pytest.fixture
def record() -> dict[str, Any]:
    document: dict[str, Any] = deepcopy(schema("run-record")["examples"][0])
    return document


def test_a_failed_record_has_an_error_and_may_lack_models(record: dict[str, Any]) -> None:
    error = {"code": "plugin-raised", "where": "unlearner salun", "message": "ValueError: no", "hint": ""}
    record.update(
        status="failed", error=error, models={}, readings=[], controls=[], predictions=None, costs={}, stages=[]
    )
    validate(record, "run-record")
    record["error"] = None
    assert error_of(record, "run-record") == (
        "[bad-value] $.error: None is not of type 'object'; a run that is not complete says why"
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"error": {"code": "a", "where": "", "message": "", "hint": ""}}, "a complete run has no error"),
        ({"models": {}}, "'original' is a required property; a complete run has all three models"),
        ({"predictions": None}, "a complete run has predictions"),
        ({"digest": "2c26"}, "$.digest: '2c26' does not match '^[0-9a-f]{64}$'"),
        ({"id": "../run"}, "$.id: '../run' does not match"),
        ({"created": "2025-01-31 12:00"}, "$.created: '2025-01-31 12:00' does not match"),
        ({"status": "done"}, "[unknown-value] $.status: no value 'done'; available: complete, diverged, failed"),
        ({"user": "me"}, "[unknown-property] $: no property 'user'"),
    ],
    ids=lambda case: str(case)[:30],
)
def test_a_record_that_contradicts_itself_is_refused(record: dict[str, Any], change: dict[str, Any], line: str) -> None:
    validate(record, "run-record")
    assert line in error_of({**record, **change}, "run-record")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"value": "0.9"}, "$.readings.0.value: '0.9' is not of type 'number', 'null'"),
        ({"subject": ""}, "$.readings.0.subject: no value ''; available: gold, original, unlearned"),
        ({"at": {"class": 3}}, "$.readings.0.at.class: 3 is not of type 'string'"),
        ({"n": -1}, "$.readings.0.n: -1 is less than the minimum of 0"),
        ({"seed": 0}, "$.readings.0: no property 'seed'"),
    ],
    ids=lambda case: str(case)[:30],
)
def test_a_bad_reading_is_refused(record: dict[str, Any], change: dict[str, Any], line: str) -> None:
    record["readings"][0].update(change)
    assert line in error_of(record, "run-record")


def test_specs_of_all_installed_components_are_valid() -> None:
    found = [c for kind in ("dataset", "model", "unlearner", "measure") for c in registry().components(kind)]
    assert {type(component.spec).kind for component in found} == {"dataset", "model", "unlearner", "measure"}
    for component in found:
        validate(component.spec.to_json(), "component", where=component.spec.name)


@pytest.mark.parametrize("kind", [DatasetSpec, ModelSpec, UnlearnerSpec, MeasureSpec])
def test_component_describes_exactly_the_fields_of_a_spec(kind: type[Spec]) -> None:
    paper = Paper(title="A title", authors=("A. Author",), year=2020, deviations=("None of note.",))
    document = kind(name="a.b-c", summary="One line.", target="a.b:C", paper=paper).to_json()
    validate(document, "component")
    branch = schema("component")["$defs"][kind.kind]
    assert set(branch["properties"]) == set(branch["required"]) == set(document)
    assert error_of({**document, "tasks": ["regression"]}, "component").startswith("[unknown-value] $.tasks.0: ")


# -- reading JSON ------------------------------------------------------------------------------------------------------


def test_json_is_read() -> None:
    assert load_json('{"a": [1, 2.5, null, "ü"]}') == {"a": [1, 2.5, None, "ü"]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": NaN}', "[bad-json] x.json: NaN is not JSON"),
        ('{"a": Infinity}', "[bad-json] x.json: Infinity is not JSON"),
        ("[-Infinity]", "[bad-json] x.json: -Infinity is not JSON"),
        ('{"a": 1, "a": 2}', "[bad-json] x.json: key 'a' stands twice"),
        ('[{"b": {"a": 1, "a": 1}}]', "[bad-json] x.json: key 'a' stands twice"),
        ("{'a': 1}", "[bad-json] x.json: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "[bad-json] x.json: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_what_is_not_json_is_refused(text: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_json(text, where="x.json")
    assert str(caught.value) == f"{line}; write valid JSON"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_depth_is_bounded(opening: str, closing: str) -> None:
    assert load_json(opening * (MAX_DEPTH - 1) + "1" + closing * (MAX_DEPTH - 1))
    with pytest.raises(UsageError, match="is nested more than 64 levels deep"):
        load_json(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))


def test_depth_beyond_the_parser_is_refused() -> None:
    with pytest.raises(UsageError, match=r"\[bad-json\] is nested too deeply"):
        load_json("[" * 100_000)


def test_size_is_bounded() -> None:
    with pytest.raises(UsageError, match=r"\[bad-json\] x.json: is larger than 64 MiB"):
        load_json(" " * (MAX_BYTES + 1), where="x.json")
