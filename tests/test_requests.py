"""Requests: what is forgotten, what is retained, and with which unseen rows the forget set is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import call

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import TASKS, Data, DataJob, Splits
from unlearnbench.builtin.datasets import Digits
from unlearnbench.builtin.plugin import SplitParams
from unlearnbench.config import resolve_request
from unlearnbench.parts import Parts
from unlearnbench.requests import carve_validation, resolve

TASK = TASKS["classification"]


@cache
def digits() -> Splits:
    """1,437 training and 360 test rows of ten classes."""
    return Digits(SplitParams()).load(DataJob(root=Path(), scratch=Path(), file=lambda name, sha256=None: Path(name)))


def table(classes: list[int], *, test: int = 30, start: int = 100) -> Splits:
    """Training rows of these classes; every third row is of person 7, the others of 2; two sites by name."""
    names = ("a", "b", "c", "d")

    def part(y: torch.Tensor, first: int) -> Data:
        n = len(y)
        return Data(
            x=torch.arange(n, dtype=torch.float32)[:, None],
            y=y,
            ids=torch.arange(first, first + n),
            outputs=names,
            columns={"person": torch.where(torch.arange(n) % 3 == 0, 7, 2), "site": torch.arange(n) % 2},
            values={"site": ("north", "south")},
        )

    return Splits(train=part(torch.tensor(classes), start), test=part(torch.arange(test) % 4, start + len(classes)))


def solve(request: Mapping[str, Any], splits: Splits, *before: Mapping[str, Any], base: Path | None = None) -> Parts:
    """A request after those before it, described and resolved as a run does it."""
    parts = None
    for earlier in (*before, request):
        parts = resolve(resolve_request(earlier), splits, TASK, parts, base)
    assert parts is not None
    return parts


def ids(parts: Parts, name: str) -> list[int]:
    selection = parts.measured[name]
    found: list[int] = selection.data.ids[selection.index].tolist()
    return found


def forgotten(parts: Parts) -> list[int]:
    found: list[int] = parts.forget.data.ids[parts.forget.index].tolist()
    return found


def refusal(request: Mapping[str, Any], splits: Splits, *before: Mapping[str, Any], base: Path | None = None) -> str:
    with pytest.raises(UnlearnBenchError) as caught:
        solve(request, splits, *before, base=base)
    assert caught.value.exit_code == (5 if isinstance(caught.value, DataError) else 2)
    return str(caught.value)


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "n"),
    [
        ({"fraction": 0.1}, 144),
        ({"fraction": 0.1, "stratified": True}, 144),
        ({"fraction": 1e-6}, 1),
        ({"count": 1}, 1),
        ({"count": 1436}, 1436),
        ({"count": 17, "stratified": True}, 17),
    ],
)
def test_as_many_rows_are_drawn_as_asked_for(request_: dict[str, Any], n: int) -> None:
    parts = solve({"kind": "samples", **request_}, digits())
    assert len(forgotten(parts)) == len(set(forgotten(parts))) == n
    assert len(parts.retain) == 1437 - n


def test_a_draw_is_made_by_its_seed_alone() -> None:
    torch.manual_seed(0)
    one = solve({"kind": "samples", "fraction": 0.1, "seed": 4}, digits())
    torch.manual_seed(1)
    again = solve({"kind": "samples", "fraction": 0.1, "seed": 4}, digits())
    other = solve({"kind": "samples", "fraction": 0.1, "seed": 5}, digits())
    assert forgotten(one) == forgotten(again)
    assert ids(one, "holdout") == ids(again, "holdout")
    assert one.request.digest == again.request.digest
    assert set(forgotten(one)) != set(forgotten(other))
    assert ids(one, "holdout") != ids(other, "holdout")
    assert one.request.digest != other.request.digest
    # independent draws of a tenth share about a tenth of the rows
    assert 3 <= len(set(forgotten(one)) & set(forgotten(other))) <= 30


def test_a_draw_takes_no_row_more_often_than_others() -> None:
    splits = table([0] * 20)
    counts = Counter(i for seed in range(400) for i in forgotten(solve(draw(seed, count=5), splits)))
    # 400 draws of 5 out of 20: each row about 100 times, with a standard deviation below 9
    assert set(counts) == set(splits.train.ids.tolist())
    assert all(60 < n < 140 for n in counts.values())


def draw(seed: int = 0, **more: Any) -> dict[str, Any]:
    return {"kind": "samples", "seed": seed, **more}


def largest_remainders(counts: list[int], n: int) -> tuple[list[int], set[int]]:
    """Whole shares by numpy, and the classes among which the rows that remain are to be given out."""
    exact = np.array(counts) * n / sum(counts)
    whole = np.floor(exact + 1e-12).astype(int)
    left = n - int(whole.sum())
    order = np.sort(exact - whole)[::-1]
    candidates = {k for k in range(len(counts)) if left and exact[k] - whole[k] >= order[left - 1] - 1e-9}
    return whole.tolist(), candidates


@pytest.mark.parametrize("n", [3, 10, 100, 144, 700, 1400])
def test_stratified_draws_are_in_proportion(n: int) -> None:
    y = digits().train.y.numpy()
    counts = np.bincount(y, minlength=10).tolist()
    whole, candidates = largest_remainders(counts, n)
    parts = solve(draw(count=n, stratified=True), digits())
    taken = np.bincount(parts.forget.data.y[parts.forget.index].numpy(), minlength=10)
    extra = taken - whole
    assert taken.sum() == n
    assert set(np.flatnonzero(extra)) <= candidates
    assert set(extra.tolist()) <= {0, 1}


def test_a_draw_that_is_not_stratified_is_not_in_proportion() -> None:
    y = digits().train.y
    drawn = [y[solve(draw(seed, count=100), digits()).forget.index].bincount(minlength=10) for seed in range(3)]
    exact = y.bincount(minlength=10) * 100 / len(y)
    assert max(float((d - exact).abs().max()) for d in drawn) > 1


def test_small_classes_keep_their_share_of_a_stratified_draw() -> None:
    splits = table([0] * 60 + [1] * 30 + [3] * 10)
    drawn = forgotten(solve(draw(count=10, stratified=True), splits))
    assert [sum(low <= i < high for i in drawn) for low, high in ((100, 160), (160, 190), (190, 200))] == [6, 3, 1]


def test_named_ids_are_those_that_are_forgotten(tmp_path: Path) -> None:
    splits = table([0, 1, 2] * 4)
    (tmp_path / "forget.txt").write_text("111\n100\n\n 105\n", "utf-8")
    named = solve({"kind": "samples", "ids": [105, 111, 100]}, splits)
    from_file = solve({"kind": "samples", "file": "forget.txt"}, splits, base=tmp_path)
    absolute = solve({"kind": "samples", "file": str(tmp_path / "forget.txt")}, splits)
    assert forgotten(named) == forgotten(from_file) == forgotten(absolute) == [100, 105, 111]
    assert named.request.digest == from_file.request.digest


# -- class and group ---------------------------------------------------------------------------------------------------


def test_a_class_is_forgotten_whole_and_its_test_rows_are_held_out() -> None:
    parts = solve({"kind": "class", "classes": ["3", 5]}, digits())
    train, test = digits().train, digits().test
    gone = np.isin(train.y.numpy(), [3, 5])
    assert forgotten(parts) == train.ids.numpy()[gone].tolist()
    assert ids(parts, "retain") == train.ids.numpy()[~gone].tolist()
    assert sorted(parts.request.classes) == [3, 5]
    unseen = np.isin(test.y.numpy(), [3, 5])
    assert ids(parts, "holdout") == test.ids.numpy()[unseen].tolist()
    assert ids(parts, "test") == test.ids.numpy()[~unseen].tolist()


def test_a_class_is_named_as_the_data_names_it() -> None:
    splits = table([0, 1, 2, 1])
    assert forgotten(solve({"kind": "class", "classes": ["b"]}, splits)) == [101, 103]
    for name in ("e", "-1", "1.0", "4"):
        assert refusal({"kind": "class", "classes": [name]}, splits).startswith("[unknown-class] $.request: no class ")


def test_a_class_may_be_given_by_its_position_where_no_name_is_a_number() -> None:
    splits = table([0, 1, 2, 1])
    by_position, by_name = ({"kind": "class", "classes": [c]} for c in ("1", "b"))
    assert forgotten(solve(by_position, splits)) == forgotten(solve(by_name, splits)) == [101, 103]
    assert solve(by_position, splits).request.digest == solve(by_name, splits).request.digest
    numbered = replace(splits, train=replace(splits.train, outputs=("7", "8", "9", "10")))
    assert forgotten(solve({"kind": "class", "classes": ["8"]}, numbered)) == [101, 103]
    assert refusal({"kind": "class", "classes": ["1"]}, numbered).startswith("[unknown-class] $.request: no class '1'")


@pytest.mark.parametrize(
    ("column", "values", "rows"),
    [
        ("person", [7], [100, 103, 106]),
        ("person", [2, 7], None),
        ("site", ["south"], [101, 103, 105, 107]),
    ],
)
def test_a_group_is_forgotten_whole(column: str, values: list[Any], rows: list[int] | None) -> None:
    splits = table([0, 1] * 4)
    request = {"kind": "group", "column": column, "values": values}
    if rows is None:
        assert refusal(request, splits).startswith("[empty-retain-set] $.request: leaves nothing to retain")
        return
    parts = solve(request, splits)
    assert forgotten(parts) == rows
    picked = splits.test.columns[column].numpy() == splits.train.columns[column].numpy()[rows[0] - 100]
    assert ids(parts, "holdout") == splits.test.ids.numpy()[picked].tolist()
    assert ids(parts, "test") == splits.test.ids.numpy()[~picked].tolist()


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        (
            {"kind": "group", "column": "persn", "values": [7]},
            "[unknown-column] $.request.column: no column 'persn'; did you mean person?",
        ),
        (
            {"kind": "group", "column": "site", "values": ["nort"]},
            "[unknown-group-value] $.request.values: no group value 'nort'; did you mean north?",
        ),
        (
            {"kind": "group", "column": "person", "values": ["seven"]},
            "[bad-parameter] $.request.values: 'seven' is not an integer",
        ),
        (
            {"kind": "group", "column": "person", "values": [5]},
            "[empty-forget-set] $.request: selects no training row: ",
        ),
        ({"kind": "class", "classes": ["d"]}, "[empty-forget-set] $.request: selects no training row: "),
        ({"kind": "class", "classes": ["a", "b", "c"]}, "[empty-retain-set] $.request: leaves nothing to retain: "),
        ({"kind": "samples", "count": 12}, "[empty-retain-set] $.request: leaves nothing to retain: "),
        ({"kind": "samples", "count": 13}, "[empty-retain-set] $.request.count: asks for 13 of 12 rows"),
        ({"kind": "samples", "fraction": 0.99}, "[empty-retain-set] $.request: leaves nothing to retain: "),
        (
            {"kind": "samples", "ids": [100, 112]},
            "[unknown-ids] $.request.ids: [112] are not ids of training rows, which lie in 100 to 111; name each id",
        ),
        ({"kind": "samples", "ids": [101, 100, 101]}, "[duplicate-ids] $.request.ids: [101] are named more than once"),
        (
            {"kind": "samples", "ids": [5, 101, 100, 101, 99, 5]},
            "[unknown-ids] $.request.ids: [5, 99] are not ids of training rows, which lie in 100 to 111 and [5, 101] "
            "are named more than once; name each id once; ",
        ),
    ],
)
def test_a_request_that_the_data_cannot_serve_is_refused_in_one_line(request_: dict[str, Any], line: str) -> None:
    found = refusal(request_, table([0, 1, 2] * 4))
    assert found.startswith(line)
    assert "\n" not in found


def test_test_rows_cannot_be_forgotten() -> None:
    splits = table([0, 1, 2] * 4)
    first_test_id = int(splits.test.ids[0])
    assert f"[{first_test_id}] are not ids of training rows" in refusal(draw(ids=[first_test_id]), splits)


@pytest.mark.parametrize(
    ("fraction", "bound"),
    [(0, "minimum of 0"), (1, "maximum of 1"), (-0.1, "minimum of 0"), (1.5, "maximum of 1"), (1.0, "maximum of 1")],
)
def test_a_fraction_out_of_range_is_refused(fraction: float, bound: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_request({"kind": "samples", "fraction": fraction})
    assert caught.value.code == "bad-value"
    assert caught.value.where == "$.request.fraction"
    assert bound in caught.value.message


@pytest.mark.parametrize("fraction", [float("nan"), float("inf"), True, "0.1", None])
def test_a_fraction_that_is_no_number_is_refused(fraction: object) -> None:
    with pytest.raises(UsageError, match=r"\$.request.fraction: "):
        resolve_request({"kind": "samples", "fraction": fraction})


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "[missing-file] $.request.file: cannot read forget.txt: "),
        (b"\xff\xfe1", "[missing-file] $.request.file: cannot read forget.txt: 'utf-8' codec"),
        (b"100\nseven\n", "[bad-ids] forget.txt: invalid literal for int() with base 10: 'seven'; one whole number in"),
        (b"100\n101.0\n", "[bad-ids] forget.txt: invalid literal for int() with base 10: '101.0'"),
        (b"", "[empty-forget-set] $.request: selects no training row"),
        (b"100\n100\n7\n", "[unknown-ids] $.request.ids: [7] are not ids of training rows, which lie in 100 to 111 an"),
    ],
)
def test_a_bad_file_of_ids_is_refused(tmp_path: Path, content: bytes | None, line: str) -> None:
    if content is not None:
        (tmp_path / "forget.txt").write_bytes(content)
    found = refusal({"kind": "samples", "file": "forget.txt"}, table([0, 1, 2] * 4), base=tmp_path)
    assert found.startswith(line)


def test_many_duplicates_are_found_quickly() -> None:
    splits = table([0, 1] * 40_000, start=0)
    parts = solve({"kind": "samples", "ids": list(range(50_000))}, splits)
    assert len(parts.forget) == 50_000
    assert "[0, 1, 2, 3, 4] are named more than once" in refusal(draw(ids=[*range(50_000)] * 2), splits)


# -- the matched hold-out ----------------------------------------------------------------------------------------------


def matched_counts(y: np.ndarray, pool: np.ndarray) -> dict[int, int]:
    """As many unseen rows of each class as were forgotten of it, or all there are."""
    return {int(c): min(int((y == c).sum()), int((pool == c).sum())) for c in np.unique(y) if (pool == c).any()}


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "samples", "fraction": 0.1},
        {"kind": "samples", "fraction": 0.1, "stratified": True, "seed": 3},
        {"kind": "samples", "fraction": 0.9},  # more than there are test rows
        {"kind": "samples", "ids": [0, 2, 3]},
    ],
)
def test_the_hold_out_has_the_classes_of_the_forget_set(request_: dict[str, Any]) -> None:
    splits = digits()
    parts = solve(request_, splits)
    y, pool = splits.train.y[parts.forget.index].numpy(), splits.test.y.numpy()
    held = parts.measured["holdout"]
    assert held.data is splits.test
    assert len(set(held.index.tolist())) == len(held)
    assert Counter(pool[held.index.numpy()].tolist()) == matched_counts(y, pool)
    # measured against test rows of their own, the whole test set stays the test set
    assert ids(parts, "test") == splits.test.ids.tolist()


def test_the_hold_out_is_drawn_anew_with_every_seed() -> None:
    splits = table([0] * 50, test=40)  # ten test rows of the class
    counts = Counter(i for seed in range(300) for i in ids(solve(draw(seed, count=2), splits), "holdout"))
    assert sum(counts.values()) == 600
    assert set(counts) == set(splits.test.ids[splits.test.y == 0].tolist())
    assert all(30 < n < 90 for n in counts.values())


def test_a_class_without_test_rows_has_no_hold_out() -> None:
    splits = table([0, 1, 2, 3] * 3, test=3)
    parts = solve({"kind": "class", "classes": ["d"]}, splits)
    assert ids(parts, "holdout") == []
    assert len(ids(parts, "test")) == 3


# -- digests -----------------------------------------------------------------------------------------------------------


def test_the_digest_is_stable() -> None:
    # As computed when the format was fixed: a change of it makes every stored model unfindable.
    splits = table([0, 1, 2] * 4)
    found = solve({"kind": "samples", "ids": [105, 100]}, splits).request.digest
    assert found == "40facc814606ea3b7f48646c4339700a837246a407c10ff8fbfae2f7d4eefbd7"


def test_the_digest_depends_on_the_rows_and_the_data_and_on_nothing_else() -> None:
    splits = table([0, 1, 2] * 4)
    digest = solve({"kind": "samples", "ids": [100, 103, 106, 109]}, splits).request.digest
    # the same rows in other words
    assert solve({"kind": "samples", "ids": [109, 106, 103, 100], "seed": 7}, splits).request.digest == digest
    assert solve({"kind": "class", "classes": ["a"]}, splits).request.digest == digest
    assert solve({"kind": "group", "column": "person", "values": [7]}, splits).request.digest == digest
    # other rows, other data
    assert solve({"kind": "samples", "ids": [100, 103, 106, 110]}, splits).request.digest != digest
    changed = table([0, 1, 2] * 3 + [0, 1, 3])
    assert solve({"kind": "samples", "ids": [100, 103, 106, 109]}, changed).request.digest != digest
    more_test_rows = table([0, 1, 2] * 4, test=31)
    assert solve({"kind": "samples", "ids": [100, 103, 106, 109]}, more_test_rows).request.digest == digest


# -- streams -----------------------------------------------------------------------------------------------------------


def test_later_requests_see_what_is_left() -> None:
    splits = digits()
    first, second = {"kind": "class", "classes": ["3"]}, {"kind": "samples", "fraction": 0.1, "stratified": True}
    one, two = solve(first, splits), solve(second, splits, first)
    # a fraction is one of the data, not of what is left
    assert len(two.forget) == 144
    assert not set(forgotten(one)) & set(forgotten(two))
    assert sorted(ids(two, "forget")) == sorted(forgotten(one) + forgotten(two))
    assert sorted(ids(two, "forget") + ids(two, "retain")) == splits.train.ids.tolist()
    # test rows of the forgotten class stay out of the test set
    assert ids(two, "test") == ids(one, "test")
    assert refusal({"kind": "class", "classes": ["3"]}, splits, first).startswith("[empty-forget-set]")
    assert "are not ids of training rows" in refusal(draw(ids=forgotten(one)[:2]), splits, first)


def test_hold_outs_of_classes_add_up() -> None:
    splits = table([0, 1, 2] * 4)
    both = solve({"kind": "class", "classes": ["b"]}, splits, {"kind": "class", "classes": ["a"]})
    held = splits.test.ids[torch.isin(splits.test.y, torch.tensor([0, 1]))].tolist()
    assert sorted(ids(both, "holdout")) == held
    assert not set(ids(both, "test")) & set(held)


# -- properties --------------------------------------------------------------------------------------------------------

AMOUNTS = st.one_of(
    st.fixed_dictionaries({"fraction": st.floats(1e-9, 1, exclude_max=True)}),
    st.fixed_dictionaries({"count": st.integers(1, 45)}),
    st.fixed_dictionaries({"ids": st.lists(st.integers(98, 142), min_size=1, max_size=12)}),
)
REQUESTS = st.one_of(
    st.builds(
        lambda amount, seed, stratified: {
            "kind": "samples", "seed": seed, **amount, **({} if "ids" in amount else {"stratified": stratified}),
        },
        AMOUNTS, st.integers(0, 3), st.booleans(),
    ),
    st.builds(
        lambda names: {"kind": "class", "classes": names},
        st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
    ),
    st.builds(
        lambda names: {"kind": "group", "column": "site", "values": names},
        st.lists(st.sampled_from(["north", "south"]), min_size=1, max_size=2, unique=True),
    ),
)  # fmt: skip


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.lists(REQUESTS, min_size=1, max_size=3))
def test_forget_and_retain_are_always_a_partition(classes: list[int], requests: list[dict[str, Any]]) -> None:
    splits = table(classes)
    parts: Parts | None = None
    gone: set[int] = set()
    for request in requests:
        try:
            parts = resolve(resolve_request(request), splits, TASK, parts)
        except UnlearnBenchError:
            return
        step, kept = forgotten(parts), ids(parts, "retain")
        assert step
        assert kept
        assert not gone & set(step)
        gone |= set(step)
        assert sorted([*gone, *kept]) == splits.train.ids.tolist()
        assert sorted(ids(parts, "forget")) == sorted(gone)
        # the unlearner's views are those that are measured
        assert parts.retain.index.tolist() == parts.measured["retain"].index.tolist()
        seen = set(splits.train.ids.tolist())
        for name in ("test", "holdout"):
            rows = ids(parts, name)
            assert len(rows) == len(set(rows))
            assert not seen & set(rows)
        if request["kind"] != "samples":
            assert not set(ids(parts, "holdout")) & set(ids(parts, "test"))


def test_most_drawn_requests_are_served() -> None:
    served = [count for count in range(1, 12) if solve(draw(count=count), table([0, 1, 2] * 4))]
    assert served == list(range(1, 12))


# -- validation rows ---------------------------------------------------------------------------------------------------


def test_validation_rows_are_taken_from_the_training_rows_before_any_request() -> None:
    carved = carve_validation(digits(), 0.2, 0, TASK)
    assert carved.validation is not None
    train, validation = carved.train.ids.tolist(), carved.validation.ids.tolist()
    assert len(validation) == round(0.2 * 1437)
    assert sorted(train + validation) == digits().train.ids.tolist()
    assert carved.test is digits().test
    assert carve_validation(digits(), 0.2, 0, TASK).train.ids.tolist() == train
    assert carve_validation(digits(), 0.2, 1, TASK).train.ids.tolist() != train
    assert carve_validation(digits(), 0.0, 0, TASK) is digits()
    parts = solve({"kind": "samples", "fraction": 0.1}, carved)
    assert not set(ids(parts, "forget") + ids(parts, "retain")) & set(validation)


def test_validation_rows_of_the_data_set_are_kept() -> None:
    splits = table([0, 1, 2] * 4)
    own = Splits(train=splits.train, test=splits.test, validation=table([0, 1], start=1000).train)
    assert carve_validation(own, 0.5, 0, TASK) is own


# -- from the command line ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forget", "code", "line"),
    [
        ("class=z", 2, "[unknown-class] $.request: no class 'z'; available: class_0, class_1, class_2"),
        ("ids=1,1,9999", 5, "[unknown-ids] $.request.ids: [9999] are not ids of training rows, which lie in 1 to 177"),
        ("random=142", 5, "[empty-retain-set] $.request: leaves nothing to retain"),
        ("file=nowhere.txt", 5, "[missing-file] $.request.file: cannot read nowhere.txt"),
    ],
)
def test_a_request_that_fails_leaves_one_line_and_no_record(tmp_path: Path, forget: str, code: int, line: str) -> None:
    options = ("--dataset", "wine", "--model", "logistic", "--no-tracking", "--out", tmp_path)
    refused = call("run", "-u", "identity", "--forget", forget, *options)
    assert refused.rc == code
    assert refused.stderr.startswith(f"error: {line}")
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*/record.json"))


def test_a_forget_set_smaller_than_a_batch_works(tmp_path: Path) -> None:
    options = ("--dataset", "wine", "--model", "logistic", "--set", "recipe.epochs=1", "--no-tracking")
    named = ("-u", "salun", "-u", "finetune", "--set", "salun.epochs=1", "--set", "finetune.epochs=1")
    done = call("run", *named, "--forget", "random=3", *options, "-q", "--out", tmp_path)
    assert (done.rc, done.stderr) == (0, "")
    assert len(list(tmp_path.glob("*/record.json"))) == 2
