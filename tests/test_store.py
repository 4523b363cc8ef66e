"""The store: what is written comes back, damage is found, and many processes may work on it.

That streams resumed from it are the live streams is shown in ``test_contracts_store``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import PhaseCost, Ref, State, generator, tensors_digest
from unlearnbench.identity import digest
from unlearnbench.store import ENTRY, Damaged, Entry, Store

REF = Ref("mlp", {"hidden": [3]}, (4,), 2)


def entry(number: int = 0) -> Entry:
    """An entry with everything that one can hold."""
    rng = generator(number)
    weights = {"0.weight": torch.randn(3, 4, generator=rng), "steps": torch.tensor(7)}
    return Entry(
        key=digest({"number": number}),
        inputs={"phase": "train", "number": number},
        cost=PhaseCost(1.5, 1.25, 3.0, {"train": 100}),
        ref=REF,
        weights=weights,
        weights_sha256=tensors_digest(weights),
        state=State(tensors={"0/sum": torch.randn(2, generator=rng).half()}, meta={"0": {"shards": [1, 2]}}),
        mask={"0.weight": torch.rand(3, 4, generator=rng) < 0.5},
        certificate={"epsilon": 0.5},
        proof={"noise": torch.randn(2, 3, generator=rng)},
        artifacts={"note": "as it was"},
        stages=(PhaseCost(0.5, 0.5, 1.0, {"forget": 3}), PhaseCost(1.0, 0.75, 3.0)),
    )


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_is_written_comes_back(store: Store) -> None:
    written = entry()
    store.put("train", written)
    found = store.get("train", written.key)
    assert found is not None
    assert same(dict(found.weights), dict(written.weights))
    assert found.state is not None
    assert written.state is not None
    assert same(found.state.tensors, written.state.tensors)
    assert found.state.meta == written.state.meta
    assert same(dict(found.mask or {}), dict(written.mask or {}))
    assert same(dict(found.proof), dict(written.proof))
    for name in ("key", "inputs", "cost", "ref", "weights_sha256", "certificate", "artifacts", "stages"):
        assert getattr(found, name) == getattr(written, name), name


def test_nothing_is_made_up_for_an_entry_without_a_model(store: Store) -> None:
    plain = Entry(key=digest("plain"), inputs={}, cost=PhaseCost(0, 0, 0), state=State(meta={"0": 1}))
    store.put("prepare", plain)
    found = store.get("prepare", plain.key)
    assert found is not None
    assert (found.ref, found.weights, found.mask, found.certificate, found.stages) == (None, {}, None, None, ())
    assert found.state is not None
    assert (found.state.tensors, found.state.meta) == ({}, {"0": 1})


def test_an_entry_belongs_to_its_phase_and_key(store: Store) -> None:
    store.put("train", entry())
    assert store.get("unlearn", entry().key) is None
    assert store.get("train", entry(1).key) is None
    assert store.path("train", entry().key).parts[-3:] == ("train", entry().key[:2], entry().key)


def test_each_reader_has_its_own_tensors(store: Store) -> None:
    store.put("train", entry())
    first = store.get("train", entry().key)
    assert first is not None
    first.weights["0.weight"].zero_()
    second = store.get("train", entry().key)
    assert second is not None
    assert same(dict(second.weights), dict(entry().weights))


def test_the_same_entry_is_the_same_bytes(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    for place in (store, other):
        place.put("train", entry())
    files = {p.name for p in store.path("train", entry().key).iterdir()}
    assert files == {ENTRY, *(f"{part}.safetensors" for part in ("model", "state", "mask", "proof"))}
    for name in files:
        assert (store.path("train", entry().key) / name).read_bytes() == (
            other.path("train", entry().key) / name
        ).read_bytes()


def test_views_and_transposed_weights_are_stored_by_value(store: Store) -> None:
    base = torch.arange(12.0).view(3, 4)
    weights = {"turned": base.T, "part": base[:, 1], "tied": base.T}
    store.put("train", replace(entry(), weights=weights))
    found = store.get("train", entry().key)
    assert found is not None
    assert same(dict(found.weights), weights)


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "one bit of the weights": lambda folder: flip(folder / "model.safetensors"),
    "one bit of the state": lambda folder: flip(folder / "state.safetensors"),
    "one bit of the mask": lambda folder: flip(folder / "mask.safetensors"),
    "one bit of the proof": lambda folder: flip(folder / "proof.safetensors"),
    "weights cut off": lambda folder: os.truncate(folder / "model.safetensors", 40),
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "entry cut off": lambda folder: os.truncate(folder / ENTRY, 50),
    "entry empty": lambda folder: (folder / ENTRY).write_text(""),
    "entry of another key": lambda folder: edit(folder / ENTRY, key="0" * 64),
    "entry without costs": lambda folder: edit(folder / ENTRY, cost=None),
    "entry that is a list": lambda folder: (folder / ENTRY).write_text("[]"),
    "not a number": lambda folder: (folder / ENTRY).write_text('{"key": NaN}'),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_named_and_can_be_dropped(store: Store, what: str) -> None:
    store.put("train", entry())
    store.put("train", entry(1))
    DAMAGE[what](store.path("train", entry().key))
    with pytest.raises(Damaged, match=f"train entry {entry().key[:12]}"):
        store.get("train", entry().key)
    (line,) = store.verify()
    assert entry().key[:12] in line
    store.drop("train", entry().key)
    assert store.get("train", entry().key) is None
    assert store.verify() == []
    assert store.get("train", entry(1).key) is not None


def test_a_crash_while_writing_leaves_no_entry(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(source: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", cut)
        with pytest.raises(KeyboardInterrupt):
            store.put("train", entry())
    assert store.get("train", entry().key) is None
    assert [p for p in store.root.rglob("*") if p.is_file()] == []
    store.put("train", entry())
    assert store.verify() == []


def test_what_a_killed_writer_left_is_no_entry(store: Store) -> None:
    store.put("train", entry())
    folder = store.path("train", entry().key)
    folder.rename(folder.with_name(".tmp-abc"))
    assert list(store.entries()) == []
    assert store.verify() == []


def test_a_folder_without_its_entry_file_is_no_entry(store: Store) -> None:
    store.put("train", entry())
    (store.path("train", entry().key) / ENTRY).unlink()
    assert store.get("train", entry().key) is None
    assert list(store.entries()) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")
    with pytest.raises(DataError, match="cannot-write") as found:
        Store(tmp_path / "store").put("train", entry())
    assert "--store" in found.value.hint


# -- many writers ------------------------------------------------------------------------------------------------------


def _write_many(root: str, numbers: list[int]) -> None:
    for number in numbers:
        Store(Path(root)).put("train", entry(number))


def test_processes_that_write_the_same_entries_do_not_disturb_each_other(store: Store) -> None:
    numbers = list(range(12))
    spawn = multiprocessing.get_context("spawn")
    children = [spawn.Process(target=_write_many, args=(str(store.root), order)) for order in (numbers, numbers[::-1])]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    assert store.verify() == []
    assert len(list(store.entries())) == len(numbers)
    assert not list(store.root.rglob(".tmp-*"))


def test_the_first_writer_wins(store: Store) -> None:
    store.put("train", entry())
    store.put("train", replace(entry(), cost=PhaseCost(99, 99, 99)))
    found = store.get("train", entry().key)
    assert found is not None
    assert found.cost == entry().cost
    assert not list(store.root.rglob(".tmp-*"))


# -- pruning -----------------------------------------------------------------------------------------------------------


def test_pruning_removes_what_was_not_read_for_the_longest_time(store: Store) -> None:
    for number in range(3):
        store.put("train", entry(number))
        os.utime(store.path("train", entry(number).key) / ENTRY, (number, number))
    assert store.get("train", entry(0).key) is not None  # now the last one used
    one = store.size() // 3
    gone = store.prune(one + one // 2)
    assert gone == [store.path("train", entry(n).key) for n in (1, 2)]
    assert [folder.name for _, folder in store.entries()] == [entry(0).key]
    assert store.size() <= one + one // 2


def test_pruning_to_what_there_is_removes_nothing_and_to_nothing_everything(store: Store) -> None:
    for number in range(3):
        store.put("train", entry(number))
    assert store.prune(store.size()) == []
    assert len(store.prune(0)) == 3
    assert store.size() == 0


def test_pruning_clears_what_a_crash_left(store: Store) -> None:
    store.put("train", entry())
    left = store.path("train", entry().key).parent / ".tmp-crashed"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    assert store.prune(10**9) == []
    assert not left.exists()
    assert store.get("train", entry().key) is not None


def test_a_store_that_does_not_exist_yet_is_empty(store: Store) -> None:
    assert (list(store.entries()), store.size(), store.verify(), store.prune(0)) == ([], 0, [], [])
