"""Parameters: one dataclass decides what is allowed, and everything that shows or checks it agrees."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, validators
from support import call

from unlearnbench.api.errors import PluginError, UsageError
from unlearnbench.api.params import NoParams, Param, param_fields
from unlearnbench.api.recipe import Recipe
from unlearnbench.api.specs import SPEC_TYPES
from unlearnbench.builtin.plugin import CsvParams, MembershipParams, MlpParams
from unlearnbench.identity import canonical
from unlearnbench.parameters import (
    locked_until,
    parameters_json,
    parameters_schema,
    parameters_until,
    parse_value,
    resolve_parameters,
)
from unlearnbench.registry import registry


@dataclass(frozen=True)
class Sample:
    """One parameter of every kind."""

    share: Annotated[float, Param("Open below, closed above.", gt=0, le=1)] = 0.5
    rate: Annotated[float, Param("Closed below, open above.", ge=0, lt=1)] = 0.0
    steps: Annotated[int, Param("A count.", ge=1, le=100, unit="steps")] = 10
    flag: Annotated[bool, Param("A switch.")] = False
    word: Annotated[str, Param("A text.", min_length=1)] = "a"
    choice: Annotated[Literal["left", "right"], Param("A choice.")] = "left"
    limit: Annotated[int | None, Param("A count, or none.", ge=1)] = None
    sizes: Annotated[tuple[int, ...], Param("Several.")] = (1, 2)
    pair: Annotated[tuple[float, str], Param("Exactly two.")] = (1.0, "a")
    nested: Annotated[tuple[tuple[Literal["x", "y"], ...], ...], Param("Lists of lists.")] = ()


def refusal(values: dict[str, Any], params: type[Any] = Sample) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_parameters(params, values, where="sample")
    assert caught.value.exit_code == 2
    return str(caught.value)


# -- what is allowed ---------------------------------------------------------------------------------------------------


def test_nothing_given_gives_the_defaults() -> None:
    assert resolve_parameters(Sample, {}, where="sample") == Sample()


@pytest.mark.parametrize(
    ("name", "value", "resolved"),
    [
        ("share", 1, 1.0),
        ("share", 1e-9, 1e-9),
        ("rate", 0, 0.0),
        ("steps", 100, 100),
        ("flag", True, True),
        ("word", "ü", "ü"),
        ("choice", "right", "right"),
        ("limit", 5, 5),
        ("limit", None, None),
        ("sizes", [], ()),
        ("sizes", [3, -4], (3, -4)),
        ("pair", [2, "b"], (2.0, "b")),
        ("nested", [["x"], [], ["y", "x"]], (("x",), (), ("y", "x"))),
    ],
)
def test_values_become_those_of_the_dataclass(name: str, value: Any, resolved: Any) -> None:
    found = getattr(resolve_parameters(Sample, {name: value}, where="sample"), name)
    assert found == resolved
    assert type(found) is type(resolved)


@pytest.mark.parametrize(
    ("name", "value", "place", "reason"),
    [
        ("share", 0, "share", "greater than 0"),
        ("share", 1.0001, "share", "less than or equal to 1"),
        ("share", "0.5", "share", "valid number"),
        ("share", True, "share", "valid number"),
        ("share", None, "share", "valid number"),
        ("rate", -0.1, "rate", "greater than or equal to 0"),
        ("rate", 1, "rate", "less than 1"),
        ("steps", 0, "steps", "greater than or equal to 1"),
        ("steps", 101, "steps", "less than or equal to 100"),
        ("steps", 50.0, "steps", "valid integer"),
        ("steps", "50", "steps", "valid integer"),
        ("steps", True, "steps", "valid integer"),
        ("flag", 1, "flag", "valid boolean"),
        ("flag", "true", "flag", "valid boolean"),
        ("word", "", "word", "at least 1 character"),
        ("word", 3, "word", "valid string"),
        ("choice", "up", "choice", "'left' or 'right'"),
        ("limit", 0, "limit", "greater than or equal to 1"),
        ("limit", "none", "limit", "valid integer"),
        ("sizes", 3, "sizes", "valid array"),
        ("sizes", [1, 2.5], "sizes.1", "valid integer"),
        ("pair", [1.0], "pair.1", "Field required"),
        ("pair", [1.0, "a", 2], "pair", "at most 2 items"),
        ("nested", [["x"], ["z"]], "nested.1.0", "'x' or 'y'"),
        ("share", float("nan"), "share", "nan is not allowed"),
        ("share", float("inf"), "share", "inf is not allowed"),
        ("sizes", [2**53], "sizes", "exceeds safe integer"),
        ("word", "\udcff", "word", "is not allowed"),
        ("word", object(), "word", "is not allowed"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_place(name: str, value: Any, place: str, reason: str) -> None:
    line = refusal({name: value})
    assert line.startswith(f"[bad-parameter] sample.{place}: ")
    assert reason in line
    assert line.endswith("; see `unlearnbench show sample`")
    line.encode("utf-8")


def test_an_unknown_parameter_is_answered_with_a_suggestion() -> None:
    assert refusal({"limt": 3}) == "[unknown-parameter] sample: no parameter 'limt'; did you mean limit?"
    assert refusal({"zebra": 3}, NoParams) == "[unknown-parameter] sample: no parameter 'zebra'; available: none"


# -- --set -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("0.1", 0.1), ("1e-3", 0.001), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ('"5"', "5"),
        ("sgd", "sgd"), ("", ""), ("True", "True"), ("NaN", "NaN"), ("-Infinity", "-Infinity"), ("[1,", "[1,"),
        ("05", "05"), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_a_value_of_set_is_json_where_it_is_json(text: str, value: Any) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("salun.epoch=5", "[unknown-parameter] salun: no parameter 'epoch'; did you mean epochs?"),
        ("salun.epochs=five", '[bad-parameter] salun.epochs: "five" is not allowed: Input should be a valid integer'),
        ("salun.epochs=5.0", "[bad-parameter] salun.epochs: 5.0 is not allowed: Input should be a valid integer"),
        ("salun.epochs=-1", "[bad-parameter] salun.epochs: -1 is not allowed: Input should be greater than or equal"),
        ("salun.density=1.5", "[bad-parameter] salun.density: 1.5 is not allowed: Input should be less than or equal"),
        ("salun.density=NaN", '[bad-parameter] salun.density: "NaN" is not allowed: Input should be a valid number'),
        ("salun.density=1e999", "[bad-parameter] salun.density: inf is not allowed"),
        ("salun.epochs=99999999999999999999", "[bad-parameter] salun.epochs: 99999999999999999999 is not allowed"),
        ("salun.draw=rigth", "[bad-parameter] salun.draw: \"rigth\" is not allowed: Input should be 'wrong' or 'unif"),
        ("recipe.optimizer=sdg", '[bad-parameter] recipe.optimizer: "sdg" is not allowed'),
        ("salun.epochs", "[bad-setting] --set: 'salun.epochs' has no value; write --set salun.epochs=5"),
        ("epochs=5", "[bad-setting] --set: 'epochs' is not COMPONENT.PARAMETER; write --set salun.epochs=5"),
        ("finetune.epochs=5", "[unknown-component] --set: no component 'finetune'; available: accuracy"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(setting: str, line: str) -> None:
    refused = call("run", "-u", "salun", "--set", setting, "--dry-run")
    assert refused.rc == 2
    assert refused.stdout == ""
    assert refused.stderr.startswith(f"error: {line}")
    assert refused.stderr.count("\n") == 1


def test_a_text_that_looks_like_a_number_is_written_as_its_refusal_says() -> None:
    split = ("run", "-u", "prune", "--scenario", "digits-cnn-random10/v1", "--dry-run", "--set")
    refused = call(*split, "prune.split_at=7")
    assert refused.stderr.startswith("error: [bad-parameter] prune.split_at: 7 is not allowed")
    assert """prune.split_at='"7"'""" in refused.stderr
    assert call(*split, 'prune.split_at="7"').rc == 0


def test_a_setting_reaches_the_plan() -> None:
    settings_ = ("--set", "salun.epochs=5", "--set", "cnn.channels=[4, 8]", "--set", "recipe.clip_norm=null")
    (plan,) = call("run", "-u", "salun", *settings_, "--dry-run", "--json").json()
    assert plan["spec"]["unlearner"]["params"]["epochs"] == 5
    assert plan["spec"]["model"]["params"]["channels"] == [4, 8]
    assert plan["spec"]["recipe"]["clip_norm"] is None


# -- show --------------------------------------------------------------------------------------------------------------


def test_show_lists_the_fields_of_the_dataclass_with_their_defaults(cli: Cli) -> None:
    params = registry().get("unlearner", "salun").spec.params
    shown = cli("show", "salun", plugins="salun").stdout
    section = shown.partition("\nparameters\n")[2].partition("\n\n")[0].splitlines()
    heads = [line.strip() for line in section if line.startswith("  ") and not line.startswith("   ")]
    assert [head.partition(" = ")[0] for head in heads] == [field.name for field in dataclasses.fields(params)]
    for head, field in zip(heads, param_fields(params), strict=True):
        assert head.partition(" = ")[2].startswith(json.dumps(field.default))
    assert "density = 0.5  float >0 <=1" in heads
    assert 'draw = "wrong"  wrong | uniform' in heads
    assert "      Share of the weights that may change, rounded up to a whole weight." in section


@pytest.mark.parametrize("name", ["salun", "recipe"])
def test_show_as_json_has_the_schema_that_validates(cli: Cli, name: str) -> None:
    params = Recipe if name == "recipe" else registry().get("unlearner", name).spec.params
    document = json.loads(cli("show", name, "--json", plugins="salun").stdout)
    assert document["parameters"] == json.loads(json.dumps(parameters_schema(params)))


def test_the_hint_of_a_refused_recipe_can_be_followed(cli: Cli) -> None:
    shown = cli("show", "recipe", plugins="")
    assert shown.returncode == 0
    assert all(f"  {field.name} = " in shown.stdout for field in dataclasses.fields(Recipe))


def test_two_kinds_of_one_name_are_told_apart(cli: Cli) -> None:
    assert cli("show", "accuracy", "--kind", "measure", plugins="").returncode == 0
    missing = cli("show", "accuracy", "--kind", "model", plugins="")
    assert missing.returncode == 2
    assert "no component 'accuracy'; available: cnn" in missing.stderr


# -- the schema --------------------------------------------------------------------------------------------------------


def test_every_installed_component_has_documented_parameters_with_valid_defaults() -> None:
    components = [c for kind in SPEC_TYPES for c in registry().components(kind)]
    assert len(components) > 15
    for component in components:
        params = component.spec.params
        schema = parameters_schema(params)
        Draft202012Validator.check_schema(schema)
        assert schema["additionalProperties"] is False
        assert list(schema["properties"]) == [field.name for field in param_fields(params)]
        for field in param_fields(params):
            assert schema["properties"][field.name]["description"].startswith(field.param.help)
        defaults = parameters_json(params())
        Draft202012Validator(schema).validate(defaults)
        assert resolve_parameters(params, defaults, where=component.spec.name) == params()


def strict(params: type[Any]) -> Any:
    """A validator of the schema in which 50.0 is no integer, as JSON's readers have it."""
    integer = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, v: isinstance(v, int) and not isinstance(v, bool)
    )
    return validators.extend(Draft202012Validator, type_checker=integer)(parameters_schema(params))


# Around every bound, of every type, and sometimes a list: most are wrong for most parameters.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 120),
    st.sampled_from([0.0, 1.0, 50.0, 0.5, -0.5, 1e-9, 0.9999, 1.0001]),
    st.floats(-2, 130, allow_nan=False),
    st.sampled_from(["", "a", "left", "right", "sgd", "adam", "cosine", "flip", "bf16-mixed", "5", "x", "none", "\t"]),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.lists(st.lists(SCALARS, max_size=2), max_size=2))
TYPED: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-3, 120),
    float: st.floats(-2, 130, allow_nan=False) | st.floats(0, 1) | st.integers(-1, 2),
    str: st.text(max_size=3),
    type(None): st.none(),
}


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values of a parameter's type, in and out of its range."""
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return st.sampled_from(arguments)
    if get_origin(kind) is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(of_type(arguments[0]), max_size=3)
        return st.tuples(*map(of_type, arguments)).map(list)
    return st.one_of(*map(of_type, arguments)) if arguments else TYPED[kind]


@pytest.mark.parametrize("params", [Sample, Recipe, CsvParams, MembershipParams, MlpParams])
def test_a_document_resolves_exactly_when_it_is_valid_for_the_schema(params: type[Any]) -> None:
    # One parameter at a time: then many documents are good, and every refusal has one cause.
    documents = [
        st.fixed_dictionaries({field.name: values})
        for field in param_fields(params)
        for values in (of_type(field.type), of_type(field.type), VALUES)
    ]
    validator = strict(params)
    seen = {True: 0, False: 0}

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.one_of(*documents, st.just({}), st.just({"unheard_of": 1})))
    def agrees(document: dict[str, Any]) -> None:
        valid = validator.is_valid(document)
        seen[valid] += 1
        try:
            resolved = resolve_parameters(params, document, where="sample")
        except UsageError:
            assert not valid, document
        else:
            assert valid, document
            again = parameters_json(resolved)
            assert canonical({name: again[name] for name in document}) == canonical(document)
            assert resolve_parameters(params, again, where="sample") == resolved

    agrees()
    assert min(seen.values()) > 60, seen


# -- what a component may declare --------------------------------------------------------------------------------------


def test_a_dataclass_that_cannot_be_described_is_refused() -> None:
    @dataclass
    class Thawed:
        a: Annotated[int, Param("A.")] = 1

    @dataclass(frozen=True)
    class Unmarked:
        a: int = 1

    @dataclass(frozen=True)
    class Bare:
        a: Annotated[int, Param("A.")]

    class Plain:
        pass

    # Annotations of local classes are texts; the classes stand in no module where they could be looked up.
    for local in (Thawed, Unmarked, Bare):
        local.__annotations__ = {"a": int if local is Unmarked else Annotated[int, Param("A.")]}
    for params, reason in (
        (Thawed, "must be a frozen dataclass"),
        (Unmarked, "a has no Param marker"),
        (Bare, "a has no default"),
        (Plain, "is not a dataclass"),
        (Sample(), "is not a dataclass"),
    ):
        with pytest.raises(TypeError, match=reason):
            param_fields(params)  # type: ignore[arg-type]


# -- phases ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phased:
    """Two parameters with a phase, one without."""

    shards: Annotated[int, Param("Read first.", phase="train")] = 2
    rank: Annotated[int, Param("Read before requests.", phase="prepare")] = 3
    steps: Annotated[int, Param("Read last.", phase="unlearn")] = 4
    other: Annotated[int, Param("Read somewhere.")] = 5


def test_a_phase_depends_on_its_own_and_earlier_parameters_alone() -> None:
    defined = ("prepare", "unlearn")
    assert parameters_until(Phased(), "train", defined) == {"shards": 2}
    assert parameters_until(Phased(), "prepare", defined) == {"shards": 2, "rank": 3, "other": 5}
    assert parameters_until(Phased(), "unlearn", defined) == {"shards": 2, "rank": 3, "steps": 4, "other": 5}


def test_a_parameter_of_a_later_phase_cannot_be_read() -> None:
    locked = locked_until(Phased(), "prepare", ("prepare", "unlearn"), where="unlearner phased")
    assert (locked.shards, locked.rank, locked.other) == (2, 3, 5)
    with pytest.raises(PluginError, match=r"steps is read in prepare but belongs to a later phase; mark it Param"):
        _ = locked.steps
    assert locked_until(Phased(), "unlearn", ("prepare", "unlearn"), where="x").steps == 4
