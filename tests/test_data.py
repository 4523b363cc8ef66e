"""Data, views and meters: columns that fit together, rows that are all read once, locks and budgets that hold."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unlearnbench.api import DataError, PluginError
from unlearnbench.api.runtime import BudgetExceeded, Data, Meter, View, generator

OUTPUTS = ("a", "b", "c")


def table(n: int = 10, **changes: Any) -> Data:
    columns: dict[str, Any] = {
        "x": torch.arange(n * 2.0).view(n, 2),
        "y": torch.arange(n) % 3,
        "ids": torch.arange(n) * 7 + 100,
        "outputs": OUTPUTS,
        "columns": {"person": torch.arange(n) // 2},
        "values": {"person": tuple("vwxyz")},
    }
    return Data(**{**columns, **changes})


def graph() -> Data:
    return table(5, columns={}, values={}, edges=torch.tensor([[0, 1, 2], [1, 2, 4]]))


def view(data: Data | None = None, index: list[int] | None = None, **more: Any) -> View:
    data = data or table()
    rows = torch.arange(len(data)) if index is None else torch.tensor(index, dtype=torch.int64)
    return View(data, rows, name=more.pop("name", "forget"), **more)


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"y": torch.zeros(9)}, {"ids": torch.arange(11)}, {"columns": {"person": torch.zeros(3)}}],
    ids=["labels", "ids", "a column"],
)
def test_columns_of_different_lengths_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="x has 10 rows but"):
        table(**wrong)


@pytest.mark.parametrize("ids", [torch.tensor([1, 1, 2]), torch.tensor([1, 2, 3], dtype=torch.int32)])
def test_ids_are_unique_64_bit_integers(ids: Tensor) -> None:
    with pytest.raises(DataError, match="ids must be unique"):
        table(3, ids=ids)


def test_data_cannot_be_reassigned() -> None:
    with pytest.raises(AttributeError):
        table().x = torch.zeros(10, 2)  # type: ignore[misc]


CHANGES: dict[str, dict[str, Any]] = {
    "an input": {"x": torch.arange(20.0).view(10, 2).index_fill(0, torch.tensor([3]), 9.0)},
    "the type of the inputs": {"x": torch.arange(20.0).view(10, 2).double()},
    "the shape of the inputs": {"x": torch.arange(20.0).view(10, 1, 2)},
    "a label": {"y": (torch.arange(10) + 1) % 3},
    "an id": {"ids": torch.arange(10) * 7 + 101},
    "a column": {"columns": {"person": torch.arange(10) // 3}},
    "the name of a column": {"columns": {"site": torch.arange(10) // 2}},
    "a class name": {"outputs": ("a", "b", "d")},
    "edges": {"edges": torch.tensor([[0], [1]])},
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_digest_sees_every_change(what: str) -> None:
    assert table().digest() == table().digest()
    assert table(**CHANGES[what]).digest() != table().digest()


def test_the_digest_does_not_depend_on_how_tensors_lie_in_memory() -> None:
    x = torch.arange(20.0).view(10, 2)
    assert table(x=x.T.contiguous().T).digest() == table(x=x).digest()


def test_rows_are_taken_with_all_their_columns() -> None:
    part = table().rows(torch.tensor([8, 2]))
    assert (part.ids.tolist(), part.y.tolist(), part.columns["person"].tolist()) == ([156, 114], [2, 2], [4, 1])
    assert torch.equal(part.x, table().x[[8, 2]])
    batch = table().take(torch.tensor([8, 2]))
    assert (batch.ids.tolist(), batch.rows, batch.edges) == ([156, 114], None, None)


def test_data_on_the_same_device_stay_the_same_object() -> None:
    data = table()
    assert data.to(torch.device("cpu")) is data


# -- views -------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(index=st.lists(st.integers(0, 9), unique=True), size=st.integers(1, 12), seed=st.none() | st.integers(0, 9))
def test_batches_hold_every_row_once(index: list[int], size: int, seed: int | None) -> None:
    meter = Meter()
    batches = list(view(index=index, meter=meter).batches(size, None if seed is None else generator(seed)))
    read = [i for batch in batches for i in batch.ids.tolist()]
    expected = [i * 7 + 100 for i in index]
    assert sorted(read) == sorted(expected)
    assert seed is not None or read == expected
    assert [len(batch.y) for batch in batches] == [size] * (len(index) // size) + [len(index) % size] * bool(
        len(index) % size
    )
    for batch in batches:
        for row, x, y in zip(batch.ids.tolist(), batch.x, batch.y, strict=True):
            assert torch.equal(x, table().x[(row - 100) // 7])
            assert int(y) == (row - 100) // 7 % 3
    assert meter.rows["forget"] == len(index)


def test_the_same_generator_gives_a_new_order_each_time() -> None:
    rng, again = generator(1), generator(1)

    def order(rng: Any) -> list[int]:
        return [i for batch in view().batches(3, rng) for i in batch.ids.tolist()]

    first, second = order(rng), order(rng)
    assert first != second
    assert (order(again), order(again)) == (first, second)


@pytest.mark.parametrize("most", [1, 20, 100])
def test_the_blocks_in_which_rows_are_gathered_show_nowhere(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    whole = [batch.x.clone() for batch in view().batches(3, generator(0))]
    monkeypatch.setattr("unlearnbench.api.runtime.data.BLOCK_BYTES", most)
    meter = Meter()
    blocks = view(meter=meter)
    parts = []
    for batch in blocks.batches(3, generator(0)):
        parts.append(batch.x.clone())
        assert meter.rows[blocks.name] == sum(map(len, parts)), "rows count when they are read, not when gathered"
    assert [len(part) for part in parts] == [len(part) for part in whole]
    assert torch.equal(torch.cat(parts), torch.cat(whole))


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_without_rows_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(view().batches(size))


def test_a_batch_is_a_copy_and_the_data_cannot_be_changed_through_it() -> None:
    data = table()
    before = data.digest()
    for batch in (next(view(data).batches(4)), view(data).tensors()):
        batch.x.zero_()
        batch.y.fill_(9)
    assert table(x=data.x, y=data.y).digest() == before


def test_a_part_of_a_view_keeps_its_name_and_counts_on_the_same_meter() -> None:
    meter = Meter()
    part = view(index=[9, 4, 2], meter=meter).where(torch.tensor([True, False, True]))
    assert part.ids.tolist() == [163, 114]
    by_position = view(index=[9, 4, 2], meter=meter).where(torch.tensor([2, 0]))
    assert by_position.ids.tolist() == [114, 163]
    part.tensors()
    list(by_position.batches(1))
    assert meter.rows == {"forget": 4}


def test_the_digest_of_a_view_is_about_its_rows_and_their_order() -> None:
    digests = [
        view(index=[1, 2]).digest(),
        view(index=[2, 1]).digest(),
        view(index=[1, 3]).digest(),
        view(table(y=torch.zeros(10, dtype=torch.int64)), [1, 2]).digest(),
        view(index=[1, 2], elements=torch.tensor([[0], [1]])).digest(),
    ]
    assert len(set(digests)) == len(digests)
    assert view(index=[1, 2], name="retain").digest() == digests[0]


def test_a_graph_is_one_batch_of_all_nodes() -> None:
    meter = Meter()
    part = view(graph(), [3, 1], meter=meter)
    assert part.is_graph
    (batch,) = part.batches(1, generator(0))
    assert torch.equal(batch.x, graph().x)
    assert batch.rows is not None
    assert (batch.rows.tolist(), batch.ids.tolist(), batch.y.tolist()) == ([3, 1], [121, 107], [0, 1])
    assert torch.equal(torch.as_tensor(batch.edges), torch.as_tensor(graph().edges))
    assert meter.rows == {"forget": 2}
    assert not view().is_graph


# -- locks -------------------------------------------------------------------------------------------------------------


def test_a_locked_view_tells_its_length_ids_and_outputs_and_nothing_else() -> None:
    meter = Meter()
    locked = view(index=[3, 1], locked=True, meter=meter)
    assert (len(locked), locked.ids.tolist(), locked.outputs, locked.name) == (2, [121, 107], OUTPUTS, "forget")
    parts = (locked, locked.where(torch.tensor([True, True])))
    for part in parts:
        for read in (part.tensors, lambda part=part: next(part.batches(1)), lambda part=part: list(part.batches(9))):
            with pytest.raises(PluginError, match="the forget view is not declared in reads") as found:
                read()
            assert (found.value.code, found.value.hint) == ("undeclared-read", "add 'forget' to reads")
    assert meter.rows == {}


# -- meters ------------------------------------------------------------------------------------------------------------


def test_a_meter_counts_each_view_and_tells_who_listens() -> None:
    heard: list[int] = []
    meter = Meter(on_rows=heard.append)
    list(view(index=[0, 1, 2], meter=meter).batches(2))
    view(name="retain", meter=meter).tensors()
    assert meter.rows == {"forget": 3, "retain": 10}
    assert heard == [2, 1, 10]


def test_only_what_is_read_is_counted() -> None:
    meter = Meter()
    batches = view(meter=meter).batches(4)
    assert meter.rows == {}
    next(batches)
    assert meter.rows == {"forget": 4}


def test_reading_past_the_deadline_stops_the_phase() -> None:
    meter = Meter(deadline=perf_counter() + 3600)
    part = view(meter=meter)
    batches = part.batches(4)
    next(batches)
    meter.deadline = perf_counter() - 1
    for read in (lambda: next(batches), part.tensors):
        with pytest.raises(BudgetExceeded, match="past its time budget") as found:
            read()
        assert found.value.code == "budget-exceeded"
        assert found.value.exit_code == PluginError("x", "y").exit_code


def test_views_without_a_meter_do_not_share_one() -> None:
    one, other = view(), view()
    one.tensors()
    assert one._meter.rows == {"forget": 10}
    assert other._meter.rows == {}
