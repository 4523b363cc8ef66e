"""Certificates are read strictly, as their JSON Schema has them, and what binds them cannot be moved."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from unlearnbench.api.errors import UsageError
from unlearnbench.schemas import schema, validate
from unlearnbench_verifier.files import load_json
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.form import (
    MEANS,
    SCHEMA,
    Issue,
    digest,
    issue_digest,
    label_commitment,
    parse,
    parse_issue,
    pattern_commitment,
    sample_commitment,
    unsigned,
)

Path = tuple[str | int, ...]
Document = dict[str, Any]

HEX = "ab" * 32
SIGNATURE = {"algorithm": "ed25519", "public_key": HEX, "value": HEX * 2}


def example() -> Document:
    (found,) = schema("redirect")["examples"]
    document: Document = deepcopy(found)
    return document


def signed() -> Document:
    """Everything that can stand there does: a slope, a signature, a step before."""
    document = example()
    document["patch"]["slope"] = [[0.5, 0.0], [0.0, 1], [-0.5, 0.25]]
    return {**document, "signature": SIGNATURE, "chain": {"step": 3, "previous": HEX}}


def committed() -> Document:
    """What others get: commitments alone, and a whole region."""
    document = example()
    document["request"] |= {"salt": None, "sample": None, "label": None}
    document["region"] = {"pattern": None, "commitment": HEX, "radius": None, "centre": None}
    document["gate"] = {"kind": "committed", "sharpness": None, "member": 0, "group": 0}
    return {**document, "others": [], "created": None}


def exact() -> Document:
    document = example()
    document["gate"] |= {"kind": "exact", "sharpness": None}
    return {**document, "others": []}


VARIANTS: list[Callable[[], Document]] = [example, signed, committed, exact]


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value in a document but its root."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(document: Any, path: Path) -> Any:
    for key in path:
        document = document[key]
    return document


def shown(path: Path) -> str:
    return "$" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def with_value(document: Document, path: Path, value: Any) -> Document:
    changed = deepcopy(document)
    at(changed, path[:-1])[path[-1]] = deepcopy(value)
    return changed


def without(document: Document, path: Path) -> Document:
    changed = deepcopy(document)
    del at(changed, path[:-1])[path[-1]]
    return changed


def refusal_of(document: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        parse(document)
    assert caught.value.code == "bad-certificate"
    assert caught.value.exit_code == 2
    return caught.value


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_certificate_is_read_as_what_it_says() -> None:
    found = parse(signed())
    assert (found.base, found.patched, found.split_at) == tuple(signed()["model"].values())
    assert (found.low, found.high, found.target, found.margin) == (0.0, 1.0, 0, 0.01)
    assert found.request.salt == bytes.fromhex(signed()["request"]["salt"])
    assert found.request.sample is not None
    assert found.request.sample.tolist() == [0.25, 0.5]
    assert found.request.label == 2
    assert found.region.pattern is not None
    assert found.region.pattern.dtype == np.uint8
    assert found.region.pattern.tolist() == [1, 0, 1]
    assert found.region.centre is not None
    assert (found.region.radius, found.region.centre.tolist()) == (0.05, [0.25, 0.5])
    assert found.patch.shift.tolist() == [1.5, -0.25, -1.0]
    assert found.patch.slope is not None
    assert found.patch.slope.dtype == np.float64
    assert found.patch.slope.tolist() == [[0.5, 0.0], [0.0, 1.0], [-0.5, 0.25]]
    assert (found.gate.kind, found.gate.sharpness, found.gate.member, found.gate.group) == ("support", 100.0, 0, 0)
    assert found.duals == {1: ((0, 0.125), (2, 1.5)), 2: ()}
    assert [(other.member, other.rows, other.duals) for other in found.others] == [(1, (0, 2), ((1, 0.5),))]
    assert (found.chain.step, found.chain.previous) == (3, HEX)
    assert found.signature is not None
    assert found.signature.value == bytes.fromhex(HEX * 2)
    hidden = parse(committed())
    assert hidden.request.sample is hidden.request.salt is hidden.request.label is None
    assert (hidden.region.pattern, hidden.region.commitment, hidden.region.radius) == (None, HEX, None)
    assert hidden.gate.sharpness is hidden.chain.previous is hidden.signature is hidden.created is None
    assert hidden.patch.slope is None


def test_what_was_read_cannot_be_changed() -> None:
    found = parse(signed())
    for numbers in (found.patch.shift, found.patch.slope, found.region.pattern, found.region.centre):
        assert numbers is not None
        with pytest.raises(ValueError, match="read-only"):
            numbers[...] = 0


def test_the_meaning_says_what_is_not_claimed_and_is_that_of_the_schema() -> None:
    assert schema("redirect")["properties"]["means"]["const"] == MEANS
    assert schema("redirect")["$id"] == SCHEMA
    for said in ("output redirection", "neither", "retrained", "unchanged", "region"):
        assert said in MEANS
    assert "\n" not in MEANS


# -- refusing ----------------------------------------------------------------------------------------------------------

NAMED = sorted({(make, path) for make in VARIANTS for path in places(make()) if isinstance(path[-1], str)}, key=str)


@pytest.mark.parametrize(("make", "path"), NAMED, ids=[f"{make.__name__}{shown(path)}" for make, path in NAMED])
def test_a_property_that_is_missing_is_refused_with_its_path(make: Callable[[], Document], path: Path) -> None:
    parse(make())
    expected = "$.duals" if path[0] == "duals" and len(path) > 1 else shown(path)
    assert refusal_of(without(make(), path)).where == expected


@pytest.mark.parametrize("make", VARIANTS)
def test_a_value_of_a_wrong_type_is_refused_with_its_path(make: Callable[[], Document]) -> None:
    document = make()
    for path in places(document):
        assert refusal_of(with_value(document, path, True)).where == shown(path)


@pytest.mark.parametrize("make", VARIANTS)
def test_a_property_that_is_none_is_refused_with_its_path(make: Callable[[], Document]) -> None:
    document = make()
    for path in [(), *places(document)]:
        if isinstance(at(document, path), dict):
            assert refusal_of(with_value(document, (*path, "also"), 1)).where == f"{shown(path)}.also"


@pytest.mark.parametrize("document", [None, [], "x", 7, [example()]])
def test_what_is_no_object_is_refused(document: Any) -> None:
    assert refusal_of(document).where == "$"


def test_keys_of_python_that_json_does_not_have_are_refused() -> None:
    assert refusal_of({**example(), "duals": {1: [], 2: []}}).where == "$.duals"


def change(*path: str | int, to: Any) -> Callable[[Document], Document]:
    return lambda document: with_value(document, path, to)


LENGTHS = [
    (change("target", to=3), "$.target", "must be one of the 3 outputs"),
    (change("target", to=1), "$.duals", "must have every output but the target"),
    (change("duals", "0", to=[]), "$.duals", "must have every output but the target"),
    (change("patch", "shift", to=[1, 2, 3, 4]), "$.duals", "must have every output but the target"),
    (change("patch", "slope", to=[[1, 2], [3, 4]]), "$.patch.slope", "must have one row for each of 3 outputs"),
    (change("patch", "slope", 2, to=[1]), "$.patch.slope[2]", "has 1 numbers and the first row 2"),
    (change("patch", "slope", to=[[1]] * 3), "$.patch.slope", "is of 1 inputs and $.request.sample of 2"),
    (change("region", "centre", to=[1, 2, 3]), "$.region.centre", "is of 3 inputs and $.request.sample of 2"),
    (change("box", "low", to=1.5), "$.box", "has its low above its high"),
    (change("duals", "1", 1, 0, to=0), "$.duals.1", "names row 0 twice"),
    (change("others", 0, "rows", to=[2, 2]), "$.others[0].rows", "names row 2 twice"),
    (change("others", 0, "duals", to=[[1, 1], [1, 1]]), "$.others[0].duals", "names row 1 twice"),
    (change("others", 0, "member", to=0), "$.others", "names member 0 twice"),
    (change("others", to=[example()["others"][0]] * 2), "$.others", "names member 1 twice"),
    (change("margin", to=2**60), "$.margin", "must be at most 9007199254740991"),
]
"""What no schema can say. Here alone the schema takes what is refused."""


@pytest.mark.parametrize(("tamper", "where", "message"), LENGTHS, ids=[f"{w} {m}" for _, w, m in LENGTHS])
def test_lengths_and_names_that_do_not_fit_each_other_are_refused(
    tamper: Callable[[Document], Document], where: str, message: str
) -> None:
    document = tamper(signed())
    validate(document, "redirect")
    found = refusal_of(document)
    assert found.where == where
    assert message in str(found)


ODD_ONES = [
    None, True, False, 0, 1, -1, 1.0, 0.5, -0.5, 10**30, 1e300, float("nan"), float("inf"), "", "x", "two\nlines",
    "x" * 201, HEX, HEX.upper(), HEX + "\n", HEX * 2, "0" * 31, "٣" * 64, "\ud800", "auto", "exact", "support",
    "committed", "2026-01-31T12:00:00Z", "2026-01-31", [], [0], [0.5, 1], [1, 2.5], ["1"], [[]], [[0, 1]], [[0, -1]],
    [[1.0, 2]], [[1, 2, 3]], {}, {"1": []}, {"01": [], "2": []}, {"1": [], "2": [], "x": []},
    {"step": 0, "previous": HEX},
    {"step": 2, "previous": None}, {"low": 0, "high": 1}, {**SIGNATURE, "algorithm": "rsa"}, SIGNATURE,
]  # fmt: skip


def schema_takes(document: Document) -> bool:
    try:
        validate(document, "redirect")
    except UsageError:
        return False
    return True


def parser_takes(document: Document) -> bool | None:
    """None: refused for what no schema can say."""
    try:
        parse(document)
    except Refusal as problem:
        return None if re.search(SCHEMA_CANNOT_SAY, problem.message) else False
    return True


SCHEMA_CANNOT_SAY = (
    "must be one of the|must have every output but|must have one row for each|numbers and the first row|of . inputs and"
    "|low above its high|names (row|member) . twice|most 9007199254740991 where"
)


@pytest.mark.parametrize("make", [signed, committed])
def test_the_schema_and_the_parser_take_and_refuse_the_same_documents(make: Callable[[], Document]) -> None:
    document = make()
    mutants = [document, *(without(document, path) for path in places(document))]
    mutants += [with_value(document, path, odd) for path in places(document) for odd in ODD_ONES]
    both = {True: 0, False: 0}
    for mutant in mutants:
        expected = schema_takes(mutant)
        found = parser_takes(mutant)
        assert expected or found is False or found is None, mutant
        if found is not None:
            assert found is expected, mutant
            both[expected] += 1
    assert both[True] > 50
    assert both[False] > 1000


def test_the_schema_and_the_parser_agree_on_what_goes_with_which_gate() -> None:
    named = ("gate", "kind"), ("gate", "sharpness"), ("region", "pattern"), ("region", "commitment"), ("others",)
    taken = 0
    for make in VARIANTS:
        for path in named:
            for odd in ("support", "exact", "committed", None, 2.0, "01", HEX, [], example()["others"]):
                mutant = with_value(make(), path, odd)
                assert schema_takes(mutant) is parser_takes(mutant), mutant
                taken += schema_takes(mutant)
    assert taken > 10


# -- digests and commitments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", VARIANTS)
def test_a_digest_is_of_all_but_time_and_signature(make: Callable[[], Document]) -> None:
    document = make()
    expected = digest(document)
    assert digest({**document, "created": "2027-01-01T00:00:00+02:00", "signature": SIGNATURE}) == expected
    rest = {name: value for name, value in document.items() if name not in ("created", "signature")}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert expected == hashlib.sha256(text.encode()).hexdigest()
    for path in places(rest):
        assert digest(with_value(document, path, "else")) != expected


@pytest.mark.parametrize("make", VARIANTS)
def test_a_round_trip_changes_neither_digest_nor_what_is_signed(make: Callable[[], Document]) -> None:
    document = make()
    document["patch"]["shift"] = [0.1 + 0.2, -0.0, float(np.float32(0.1))]
    document["margin"] = 5e-324
    for text in (json.dumps(document), json.dumps(dict(reversed(document.items())), indent=2, ensure_ascii=False)):
        again = load_json(text)
        assert digest(again) == digest(document)
        assert digest(unsigned(again)) == digest(unsigned(document))
        assert parse(again).patch.shift.tobytes() == parse(document).patch.shift.tobytes()


def test_what_is_signed_is_all_but_the_signature() -> None:
    assert unsigned(signed()) == {name: value for name, value in signed().items() if name != "signature"}
    assert "created" in unsigned(signed())


def test_commitments_are_salted_and_over_float32() -> None:
    salt, sample = b"s" * 16, np.array([[0.25, -1.5], [2.0, 0.1]], dtype=np.float32)
    expected = hashlib.sha256(salt + sample.astype("<f4").tobytes()).hexdigest()
    for same in (
        sample,
        sample.astype(np.float64),
        sample.reshape(-1),
        np.asfortranarray(sample),
        sample.astype(">f4"),
    ):
        assert sample_commitment(salt, same) == expected
    assert sample_commitment(b"t" * 16, sample) != expected
    assert label_commitment(salt, 12) == hashlib.sha256(salt + b"12").hexdigest()
    assert pattern_commitment(salt, np.array([1, 0, 3])) == hashlib.sha256(salt + b"\1\0\3").hexdigest()


@pytest.mark.parametrize("number", [0.1, 1e300, 1 + 2**-30, float("nan")])
def test_no_commitment_is_made_to_what_float32_cannot_hold(number: float) -> None:
    with pytest.raises(Refusal, match=r"^\[bad-sample\] sample: holds numbers that float32 does not have"):
        sample_commitment(b"s" * 16, np.array([0.5, number]))


# -- issues ------------------------------------------------------------------------------------------------------------


def test_an_issue_is_read_and_its_digest_is_of_all_of_it() -> None:
    issue = Issue(2, HEX, "cd" * 32, ("01" * 32, "02" * 32), "ef" * 32)
    assert parse_issue(load_json(json.dumps(issue.document()))) == issue
    document = {"step": 2, "base": HEX, "patched": "cd" * 32, "requests": ["01" * 32, "02" * 32], "previous": "ef" * 32}
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert issue_digest(issue) == hashlib.sha256(text.encode()).hexdigest()
    for other in (
        Issue(3, HEX, "cd" * 32, ("01" * 32, "02" * 32), "ef" * 32),
        Issue(2, HEX, "cd" * 32, ("02" * 32, "01" * 32), "ef" * 32),
        Issue(2, HEX, "cd" * 32, ("01" * 32, "02" * 32), "ee" * 32),
    ):
        assert issue_digest(other) != issue_digest(issue)


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("step",), -1, "$.step"),
        (("step",), 0, "$.previous"),
        (("previous",), None, "$.previous"),
        (("base",), HEX.upper(), "$.base"),
        (("patched",), 7, "$.patched"),
        (("requests",), {}, "$.requests"),
        (("requests", 1), "x", "$.requests[1]"),
        (("also",), 1, "$.also"),
    ],
)
def test_an_issue_that_is_none_is_refused_with_the_path(path: Path, value: Any, where: str) -> None:
    document = Issue(2, HEX, HEX, (HEX, HEX), HEX).document()
    with pytest.raises(Refusal, match=r"^\[bad-issue\]") as caught:
        parse_issue(with_value(document, path, value))
    assert caught.value.where == where
    with pytest.raises(Refusal, match="is missing"):
        parse_issue(without(document, ("requests",)))
