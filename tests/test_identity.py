"""Identity: the same content has the same digest everywhere, and nothing else has it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnbench.api.runtime import derive_seed, drawn_rows, generator, tensors_digest
from unlearnbench.config import resolve_experiment
from unlearnbench.identity import canonical, digest, file_digest, short
from unlearnbench.registry import registry
from unlearnbench.spec import Choice, Member, RunSpec, Seeds


def spec(**experiment: Any) -> RunSpec:
    (found,) = resolve_experiment({"unlearners": ["identity"], **experiment}, registry())
    return found


# -- canonical JSON ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({}, "{}"),
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        # numbers as ECMAScript writes them
        ([1.0, 0.1, -0.0, 1e21, 1e-7, 1e-6, 1 / 3], "[1,0.1,0,1e+21,1e-7,0.000001,0.3333333333333333]"),
        # names in the order of their UTF-16 code units: the emoji starts with U+D83D and stands before U+FB33
        (
            {"\ufb33": 1, "\U0001f600": 2, "\u20ac": 3, "\r": 4, "1": 5},
            '{"\\r":4,"1":5,"\u20ac":3,"\U0001f600":2,"\ufb33":1}',
        ),
        ('\0\x1f"\\/\x7fé', '"\\u0000\\u001f\\"\\\\/\x7fé"'),
    ],
)
def test_canonical_json_is_that_of_rfc_8785(document: Any, text: str) -> None:
    assert canonical(document) == text.encode()
    assert digest(document) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("document", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {1: 2}, {1, 2}, b"x"])
def test_what_json_cannot_carry_has_no_digest(document: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        digest(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2.0**52), 2.0**52)
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(JSON)
def test_reading_canonical_json_back_changes_nothing(document: Any) -> None:
    again = json.loads(canonical(document))
    assert canonical(again) == canonical(document)
    assert digest(again) == digest(document)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9), min_size=2, max_size=5), st.randoms())
def test_the_order_of_keys_does_not_matter_but_that_of_a_list_does(document: dict[str, int], random: Any) -> None:
    pairs = list(document.items())
    random.shuffle(pairs)
    assert digest(dict(pairs)) == digest(document)
    backwards = list(document)[::-1]
    assert digest(backwards) != digest(list(document))


def test_one_digest_over_several_keeps_their_borders() -> None:
    assert short(["ab", "c"]) != short(["a", "bc"])
    assert short(["a", "b"]) != short(["b", "a"])
    assert short(iter(["a", "b"])) == digest(["a", "b"])


def test_a_files_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


# -- tensors -----------------------------------------------------------------------------------------------------------


def test_weights_are_the_same_in_whatever_order_and_layout_they_come() -> None:
    one, two = torch.arange(6.0).reshape(2, 3), torch.tensor([1, 2])
    found = tensors_digest({"one": one, "two": two})
    assert tensors_digest({"two": two, "one": one}) == found
    assert tensors_digest({"one": one.t().contiguous().t(), "two": two}) == found
    assert tensors_digest({"one": one.clone().requires_grad_(), "two": two}) == found


def test_every_difference_between_weights_shows() -> None:
    base = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0)}
    others = [
        {**base, "a": base["a"].nextafter(torch.tensor(9.0))},
        {**base, "a": base["a"].double()},
        {**base, "a": base["a"].reshape(3, 2)},
        {**base, "a": base["a"].t()},
        {**base, "b": torch.zeros(0, 1)},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"]},
        {**base, "a": -base["a"].abs()},  # -0.0 is another bit pattern than 0.0
    ]
    digests = [tensors_digest(weights) for weights in (base, *others)]
    assert len(set(digests)) == len(digests)


def test_weights_of_every_type_have_a_digest() -> None:
    types = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64]
    digests = {tensors_digest({"w": torch.ones(3).to(kind)}) for kind in types}
    digests.add(tensors_digest({"w": torch.tensor(1.0)}))
    assert len(digests) == len(types) + 1


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_a_derived_seed_is_the_documented_hash() -> None:
    expected = int(hashlib.sha256(b"7/unlearn/order").hexdigest()[:16], 16) // 2
    assert derive_seed(7, "unlearn", "order") == expected
    assert derive_seed(0) == int(hashlib.sha256(b"0").hexdigest()[:16], 16) // 2


def test_seeds_of_different_purposes_differ() -> None:
    seeds = [derive_seed(root, *purpose) for root in range(50) for purpose in ((), ("init",), ("order",), ("a", "b"))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "a") != derive_seed(0, "a")
    draws = {int(torch.randint(2**40, (1,), generator=generator(seed))) for seed in seeds}
    assert len(draws) == len(seeds)


def test_a_generator_leaves_the_global_one_alone() -> None:
    state = torch.get_rng_state()
    one, again = (torch.rand(4, generator=generator(derive_seed(0, "x"))) for _ in range(2))
    assert torch.equal(one, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_rows_are_drawn_in_whichever_order_they_come() -> None:
    ids = 1000 + 7 * torch.arange(40)
    drawn = ids[drawn_rows(ids, 12, generator(5))]
    assert len(drawn.unique()) == 12
    assert drawn.tolist() == sorted(drawn.tolist())
    for seed in range(5):
        shuffled = ids[torch.randperm(40, generator=generator(seed))]
        assert torch.equal(shuffled[drawn_rows(shuffled, 12, generator(5))], drawn)
    assert not torch.equal(ids[drawn_rows(ids, 12, generator(6))], drawn)


def test_every_row_may_be_drawn_and_one_as_well_as_another() -> None:
    rng, ids = generator(0), torch.arange(10).flip(0)
    drawn = torch.stack([ids[drawn_rows(ids, 3, rng)] for _ in range(2000)])
    counts = drawn.flatten().bincount(minlength=10)
    assert counts.sum() == 6000
    assert float(((counts - 600.0) ** 2 / 600).sum()) < 27.9  # chi-square with 9 degrees of freedom, one in a thousand


def test_all_rows_or_none_can_be_drawn_but_not_more_than_there_are() -> None:
    ids = torch.tensor([4, 2, 9])
    assert ids[drawn_rows(ids, 3, generator(0))].tolist() == [2, 4, 9]
    assert drawn_rows(ids, 0, generator(0)).tolist() == drawn_rows(ids[:0], 0, generator(0)).tolist() == []
    with pytest.raises(ValueError, match="cannot draw 4 of 3 rows"):
        drawn_rows(ids, 4, generator(0))


# -- specs -------------------------------------------------------------------------------------------------------------


def test_a_spec_reads_back_from_its_json() -> None:
    full = replace(
        spec(unlearners=["saliency+finetune"], seeds={"train": [1], "unlearn": [2], "measure": [3]}, validation=0.1),
        checkpoint={"name": "a.safetensors", "sha256": "0" * 64},
        member=Member("shadows", "train", 7, 3, 16),
    )
    for one in (spec(), full):
        again = RunSpec.from_json(json.loads(json.dumps(one.to_json())))
        assert again == one
        assert (again.id, again.scene_key, again.run_id()) == (one.id, one.scene_key, one.run_id())


def test_everything_but_names_is_part_of_a_specs_id() -> None:
    base = spec()
    differing = {
        "seed": replace(base, seeds=Seeds(1, 0, 0)),
        "unlearning seed": replace(base, seeds=Seeds(0, 1, 0)),
        "measuring seed": replace(base, seeds=Seeds(0, 0, 1)),
        "unlearner": replace(base, unlearner=Choice("retrain")),
        "parameter": spec(set={"cnn.hidden": 63}),
        "recipe": replace(base, recipe=replace(base.recipe, lr=0.002)),
        "request": spec(forget=[{**base.requests[0], "seed": 1}]),
        "stream": replace(base, requests=(*base.requests, *base.requests)),
        "measures": replace(base, measures=base.measures[:1]),
        "order of measures": replace(base, measures=base.measures[::-1]),
        "validation": replace(base, validation=0.1),
        "shadow": replace(base, member=Member("shadows", "train", 0, 0, 16)),
        "its complement": replace(base, member=Member("shadows", "train", 0, 1, 16)),
        "shadow of another draw": replace(base, member=Member("shadows", "train", 1, 0, 16)),
        "shadow of a larger ensemble": replace(base, member=Member("shadows", "train", 0, 0, 32)),
        "sibling": replace(base, member=Member("siblings", "train", 0, 0, 16)),
        "sibling in unlearning": replace(base, member=Member("siblings", "unlearn", 0, 0, 16)),
        "device": replace(base, device="cuda"),
        "threads": replace(base, threads=2),
        "task": replace(base, task="multi-label"),
        "checkpoint": replace(base, checkpoint={"name": "a", "sha256": "0" * 64}),
        "other checkpoint": replace(base, checkpoint={"name": "a", "sha256": "1" * 64}),
        "dataset": spec(set={"digits.split_seed": 1}),
    }
    ids = {"base": base.id, **{name: other.id for name, other in differing.items()}}
    assert len(set(ids.values())) == len(ids)
    assert replace(base, scenario=None).id == base.id
    renamed = replace(differing["checkpoint"], checkpoint={"name": "b", "sha256": "0" * 64})
    assert renamed.id == differing["checkpoint"].id


def test_runs_that_share_data_and_requests_share_a_scene() -> None:
    base = spec()
    for same in (
        replace(base, seeds=Seeds(1, 2, 3)),
        replace(base, unlearner=Choice("retrain")),
        replace(base, recipe=replace(base.recipe, lr=0.5)),
        replace(base, measures=()),
        replace(base, threads=2),
        replace(base, checkpoint={"name": "a", "sha256": "0" * 64}),
        base.as_member(Member("siblings", "train", 0, 3, 16)),
    ):
        assert same.scene_key == base.scene_key
    for other in (
        replace(base, validation=0.1),
        base.as_member(Member("shadows", "train", 0, 0, 16)),
        base.as_member(Member("shadows", "train", 0, 1, 16)),
        replace(base, device="cuda"),
        spec(set={"digits.split_seed": 1}),
        spec(forget=[{"kind": "class", "classes": ["1"]}]),
    ):
        assert other.scene_key != base.scene_key


def test_the_way_something_was_written_is_not_part_of_it() -> None:
    said = spec(recipe={"lr": 1}, forget=[{"kind": "class", "classes": [3]}])
    also = spec(set={"recipe.lr": 1.0}, forget=[{"classes": ["3"], "kind": "class"}])
    assert said.id == also.id


def test_an_id_is_the_sha256_of_the_spec_in_every_process() -> None:
    base = spec()
    document = {k: v for k, v in base.to_json().items() if k not in ("scenario", "$schema")}
    # these values are written alike by RFC 8785 and by json.dumps
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    plain = text.replace(":1.0,", ":1,").replace(":0.0,", ":0,").replace(":0.0}", ":0}")
    assert base.id == hashlib.sha256(plain.encode()).hexdigest()
    code = (
        "from unlearnbench.config import resolve_experiment; from unlearnbench.registry import registry;"
        "print(resolve_experiment({'unlearners': ['identity']}, registry())[0].id)"
    )
    for hash_seed in ("1", "2"):
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": hash_seed, "UNLEARNBENCH_PLUGINS": ""},
        )  # fmt: skip
        assert other.stdout.strip() == base.id
