"""Planetoid's files: what is in them comes back, nothing in them is executed, and what is damaged is refused."""

from __future__ import annotations

import pickle
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from support import Done, assert_one_error, call

from unlearnbench.api.runtime import MISSING, Data, Splits

Load = Callable[..., Splits]
PUBLIC, FIRST, TESTS, FEATURES, CLASSES = 6, 520, 8, 4, 3
ABSENT = (523, 526)
"""Test nodes that no file describes, as CiteSeer has them."""
NODES = FIRST + TESTS + len(ABSENT)


def annotated(data: Data | None) -> list[int]:
    assert data is not None
    return (data.y != MISSING).nonzero().flatten().tolist()


def edges_of(data: Data) -> set[tuple[int, int]]:
    assert data.edges is not None
    return set(zip(*data.edges.tolist(), strict=True))


# -- real files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cora(real_root: Path) -> Path:
    if not (real_root / "planetoid/Cora/raw/ind.cora.x").is_file() or not (real_root / "cora/cora.npz").is_file():
        pytest.skip("the files of Planetoid's Cora are not there")
    return real_root


def test_cora_is_what_others_read_from_it(cora: Path, load: Load) -> None:
    splits = load("planetoid")
    with np.load(cora / "cora/cora.npz") as known:
        x = np.zeros(known["x_shape"], dtype=np.float32)
        x[known["x_row"], known["x_col"]] = known["x_val"]
        edges = {(int(u), int(v)) for u, v in known["edges"]}
        assert splits.train.x.shape == (2708, 1433)
        assert len(splits.train.outputs) == 7
        assert len(edges) == 5278
        parts = ((splits.train, "train", 1208), (splits.validation, "val", 500), (splits.test, "test", 1000))
        for part, name, size in parts:
            assert part is not None
            assert torch.equal(part.x, torch.from_numpy(x))
            assert edges_of(part) == edges
            mask = known[f"{name}_mask"]
            assert annotated(part) == np.flatnonzero(mask).tolist()
            assert part.y[mask].tolist() == known["y"][mask].tolist()
            assert len(annotated(part)) == size


def test_the_public_split_trains_on_20_of_each_class(cora: Path, load: Load) -> None:
    splits = load("planetoid", split="public")
    assert splits.train.y[splits.train.y != MISSING].bincount().tolist() == [20] * 7
    assert [len(annotated(part)) for part in (splits.validation, splits.test)] == [500, 1000]


def test_the_same_graph_of_ones_own_is_the_same_data(cora: Path, load: Load) -> None:
    ours, theirs = load("planetoid"), load("graph-file", file="cora/cora.npz", directed="error")
    for name in ("train", "validation", "test"):
        assert getattr(ours, name).digest() == getattr(theirs, name).digest()


# -- files in the same layout ------------------------------------------------------------------------------------------


class Small:
    """A small CiteSeer: nodes, and the files that describe them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.x = (rng.random((NODES, FEATURES)) < 0.5).astype(np.float32)
        self.y = rng.integers(0, CLASSES, NODES)
        self.tests = [k for k in range(FIRST, NODES) if k not in ABSENT]
        random.Random(0).shuffle(self.tests)
        self.x[list(ABSENT)] = 0
        neighbours: dict[int, list[int]] = defaultdict(list)
        for u, v in [(0, 1), (1, 2), (530 - 1, 0), (4, 4), (0, 1), (2, 1), (525, 528)]:
            neighbours[u].append(v)
            neighbours[v].append(u)
        one_hot = np.eye(CLASSES, dtype=np.int32)[self.y]
        self.parts: dict[str, Any] = {
            "x": sp.csr_matrix(self.x[:PUBLIC]),
            "allx": sp.csr_matrix(self.x[:FIRST]),
            "tx": sp.csr_matrix(self.x[self.tests]),
            "y": one_hot[:PUBLIC],
            "ally": one_hot[:FIRST],
            "ty": one_hot[self.tests],
            "graph": neighbours,
        }

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for part, content in self.parts.items():
            (folder / f"ind.citeseer.{part}").write_bytes(pickle.dumps(content, protocol=4))
        (folder / "ind.citeseer.test.index").write_text("".join(f"{k}\n" for k in self.tests))


@pytest.fixture
def small(root: Path) -> Small:
    made = Small()
    made.write(root / "planetoid/CiteSeer/raw")
    return made


def citeseer(load: Load, **params: Any) -> Splits:
    return load("planetoid", dataset="CiteSeer", **params)


def test_test_nodes_stand_where_the_index_says_and_the_absent_ones_are_known_to_nobody(
    small: Small, load: Load
) -> None:
    splits = citeseer(load)
    assert splits.train.x.tolist() == small.x.tolist()
    assert edges_of(splits.train) == {(0, 1), (1, 2), (0, 529), (525, 528)}
    assert annotated(splits.test) == sorted(small.tests)
    assert annotated(splits.validation) == list(range(PUBLIC, PUBLIC + 500))
    assert annotated(splits.train) == [*range(PUBLIC), *range(PUBLIC + 500, FIRST)]
    for part in (splits.train, splits.validation, splits.test):
        assert part is not None
        assert part.y[annotated(part)].tolist() == small.y[annotated(part)].tolist()
        assert part.ids.tolist() == list(range(NODES))
    assert annotated(citeseer(load, split="public").train) == list(range(PUBLIC))


def test_the_folder_of_the_files_can_be_named(small: Small, root: Path, load: Load) -> None:
    (root / "planetoid/CiteSeer/raw").rename(root / "elsewhere")
    assert len(citeseer(load, folder="elsewhere/").train) == NODES


# -- what is wrong -----------------------------------------------------------------------------------------------------


def run(**params: str) -> Done:
    settings = [word for key, value in params.items() for word in ("--set", f"{key}={value}")]
    return call("data", "fetch", "planetoid", "--set", "dataset=CiteSeer", *settings)


def damage(root: Path, part: str, content: bytes) -> Done:
    (root / f"planetoid/CiteSeer/raw/ind.citeseer.{part}").write_bytes(content)
    return run()


class Payload:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("part", ["allx", "ally", "tx", "ty", "y", "graph"])
def test_a_pickle_that_would_execute_something_is_refused_and_executes_nothing(
    small: Small, root: Path, tmp_path: Path, part: str
) -> None:
    target = tmp_path / "executed"
    done = damage(root, part, pickle.dumps(Payload(Path.touch, target)))
    assert_one_error(done, 5, "corrupt-file", f"ind.citeseer.{part}", "a pickle that asks for ", "which is refused",
                     "data fetch planetoid --set dataset=CiteSeer")  # fmt: skip
    assert not target.exists()


@pytest.mark.parametrize("function", [eval, open, getattr, __import__])
def test_nothing_of_python_itself_can_be_asked_for(small: Small, root: Path, function: Any) -> None:
    done = damage(root, "graph", pickle.dumps(Payload(function, "a", "b")))
    assert_one_error(done, 5, "corrupt-file", "a pickle that asks for ", function.__name__)


def objects(matrix: sp.csr_matrix) -> sp.csr_matrix:
    matrix.data = np.array([Payload(print, "executed")] * len(matrix.data), dtype=object)
    return matrix


def indices(matrix: sp.csr_matrix, values: list[int]) -> sp.csr_matrix:
    matrix.indices = np.array(values, dtype=np.int32)
    return matrix


def pointers(matrix: sp.csr_matrix, values: list[int]) -> sp.csr_matrix:
    matrix.indptr = np.array(values, dtype=np.int32)
    return matrix


EYE = sp.csr_matrix(np.eye(3, dtype=np.float32))
WRONG: dict[str, tuple[str, bytes, str, str]] = {
    "cut off": ("allx", pickle.dumps(EYE)[:-40], "corrupt-file", "is not one of Planetoid's pickles"),
    "empty": ("graph", b"", "corrupt-file", "Ran out of input"),
    "foreign": ("tx", b"<!DOCTYPE html>", "corrupt-file", "is not one of Planetoid's pickles"),
    "numbers": ("tx", pickle.dumps([1, 2]), "corrupt-file", "is not a matrix"),
    "a list for a graph": ("graph", pickle.dumps([1, 2]), "corrupt-file", "does not list the neighbours"),
    "words for nodes": ("graph", pickle.dumps({0: ["b"]}), "corrupt-file", "does not list the neighbours"),
    "a missing node": ("graph", pickle.dumps({0: [1, 600]}), "bad-data", "edge 1 names node 600, and nodes are 0 to"),
    "a negative node": ("graph", pickle.dumps({-1: [1]}), "bad-data", "edge 0 names node -1"),
    "objects": ("allx", pickle.dumps(objects(EYE.copy())), "corrupt-file", "numbers of type 'O8'"),
    "a type of objects": ("ally", pickle.dumps(np.array([["a"]], dtype=object)), "corrupt-file", "type 'O8'"),
    "texts": ("ally", pickle.dumps(np.array([["a"]])), "corrupt-file", "numbers of type 'U1'"),
    "one dimension": ("ally", pickle.dumps(np.arange(3)), "corrupt-file", "is not a matrix"),
    "a column outside": ("tx", pickle.dumps(indices(EYE.copy(), [0, 1, 3])), "bad-data", "names column 3 of 3"),
    "a column twice": ("tx", pickle.dumps(pointers(indices(EYE.copy(), [0, 1, 1]), [0, 1, 1, 3])), "bad-data",
                       "a feature of a node more than once"),
    "rows that go back": ("tx", pickle.dumps(pointers(EYE.copy(), [0, 2, 1, 3])), "corrupt-file", "compressed rows"),
    "other nodes": ("ally", pickle.dumps(np.eye(CLASSES)), "corrupt-file", "has another number of nodes"),
    "other columns": ("tx", pickle.dumps(sp.csr_matrix(np.ones((TESTS, FEATURES + 1)))), "corrupt-file",
                      "has other columns than allx"),
    "two classes": ("ally", pickle.dumps(np.ones((FIRST, CLASSES))), "bad-labels", "node 0 is not of one class"),
    "half a class": ("ally", pickle.dumps(np.full((FIRST, CLASSES), 0.5)), "bad-labels", "node 0 is not of one class"),
    "one class": ("ally", pickle.dumps(np.eye(CLASSES)[[0] * FIRST]), "one-class", "all nodes are of class '0'"),
    "not finite": ("allx", pickle.dumps(sp.csr_matrix(np.full((FIRST, FEATURES), np.nan))), "bad-data",
                   "feature 0 of node 0 is nan, not a finite number"),
    "test nodes in words": ("test.index", b"1\nb\n", "corrupt-file", "is not a list of nodes"),
    "test nodes among the first": ("test.index", b"519\n520\n", "corrupt-file", "must name nodes from 520 on"),
    "a test node twice": ("test.index", b"520\n520\n", "corrupt-file", "must name nodes from 520 on, each once"),
    "no test nodes": ("test.index", b"", "corrupt-file", "must name nodes from 520 on"),
    "too few test nodes": ("test.index", b"520\n", "corrupt-file", "has another number of nodes"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_damaged_files_are_refused_in_one_line(small: Small, root: Path, case: str) -> None:
    part, content, code, words = WRONG[case]
    if case == "one class":
        small.parts["ty"] = np.eye(CLASSES, dtype=np.int32)[[0] * TESTS]
        small.write(root / "planetoid/CiteSeer/raw")
    assert_one_error(damage(root, part, content), 5, code, words)


@pytest.mark.parametrize("part", ["allx", "graph", "test.index"])
def test_a_missing_file_is_named_with_the_command_that_fetches_it(small: Small, root: Path, part: str) -> None:
    (root / f"planetoid/CiteSeer/raw/ind.citeseer.{part}").unlink()
    done = call("run", "--dataset", "planetoid", "--set", "planetoid.dataset=CiteSeer", "--model", "sgc",
                "-u", "finetune", "--no-tracking", "--out", root / "runs")  # fmt: skip
    assert_one_error(done, 5, "missing-file", f"ind.citeseer.{part}", "data fetch planetoid --set dataset=CiteSeer")
