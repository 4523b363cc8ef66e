"""A graph of one's own: the same data from every format, and everything that is wrong with it in one line."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import csv, parquet, table
from support import Done, assert_one_error, call, spawn

from unlearnbench.api.runtime import MISSING, Data, Splits

Load = Callable[..., Splits]
N = 12
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).round(3).astype(np.float32)
X[:, 1] = [0, 1, 2] * 4  # whole numbers in a file, until the last row of a long one says otherwise
Y = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, -1])
EDGES = [(0, 1), (2, 1), (3, 4), (4, 3), (11, 0), (10, 9)]
EXPECTED = [[0, 0, 1, 3, 9], [1, 11, 2, 4, 10]]
EXPECTED_PAIRS = list(zip(*EXPECTED, strict=True))
PURPOSES = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2 + ["", "test"]


def masks() -> dict[str, np.ndarray]:
    names = {"train_mask": "train", "val_mask": "validation", "test_mask": "test"}
    return {name: np.array(PURPOSES) == purpose for name, purpose in names.items()}


def arrays(**changed: Any) -> dict[str, Any]:
    found = {"edges": np.array(EDGES), "x": X, "y": Y, **masks(), **changed}
    return {name: value for name, value in found.items() if value is not None}


def node_columns(**changed: Any) -> dict[str, Any]:
    features = {f"f{k}": X[:, k] for k in range(X.shape[1])}
    found = {"label": Y, "split": PURPOSES, **features, **changed}
    return {name: value for name, value in found.items() if value is not None}


def write_npz(root: Path, **changed: Any) -> dict[str, str]:
    np.savez(root / "g.npz", **arrays(**changed))
    return {"file": "g.npz"}


def write_tables(
    root: Path, suffix: str, edges: Sequence[tuple[Any, Any]] = EDGES, names: Sequence[str] = ("source", "target"),
    **changed: Any,
) -> dict[str, str]:  # fmt: skip
    ends = {name: [edge[k] for edge in edges] for k, name in enumerate(names)}
    for name, columns in (("edges", ends), ("nodes", node_columns(**changed))):
        path = root / f"{name}{suffix}"
        if suffix == ".parquet":
            parquet.write_table(table(columns), path)
        else:
            with gzip.open(path, "wb") if suffix.endswith(".gz") else path.open("wb") as out:
                csv.write_csv(table(columns), out)
    return {"file": f"edges{suffix}", "nodes": f"nodes{suffix}"}


def own(load: Load, params: dict[str, str], **more: Any) -> Splits:
    return load("graph-file", **params, **more)


def digests(splits: Splits) -> list[str]:
    assert splits.validation is not None
    return [part.digest() for part in (splits.train, splits.validation, splits.test)]


def edges_of(data: Data) -> list[list[int]]:
    assert data.edges is not None
    found: list[list[int]] = data.edges.tolist()
    return found


def known(data: Data | None) -> list[int]:
    assert data is not None
    return (data.y != MISSING).nonzero().flatten().tolist()


# -- what is right -----------------------------------------------------------------------------------------------------


def test_an_archive_comes_back_as_it_was_written(root: Path, load: Load) -> None:
    splits = own(load, write_npz(root))
    assert edges_of(splits.train) == EXPECTED
    assert splits.train.outputs == ("0", "1", "2")
    assert [known(part) for part in (splits.train, splits.validation, splits.test)] == [[*range(6)], [6, 7], [8, 9]]
    for part in (splits.train, splits.validation, splits.test):
        assert part is not None
        assert part.x.numpy().tolist() == X.tolist()
        assert part.y[known(part)].tolist() == Y[known(part)].tolist()
        assert part.ids.tolist() == list(range(N))
        assert edges_of(part) == EXPECTED


def test_a_node_without_edges_stays_and_one_without_a_class_is_known_to_nobody(root: Path, load: Load) -> None:
    splits = own(load, write_npz(root))
    connected = set(EXPECTED[0] + EXPECTED[1])
    assert len(splits.train) == N > len(connected)
    assert 11 not in {node for part in (splits.train, splits.validation, splits.test) for node in known(part)}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_tables_and_archives_of_one_graph_are_the_same_data(root: Path, load: Load, suffix: str) -> None:
    assert digests(own(load, write_tables(root, suffix))) == digests(own(load, write_npz(root)))


def test_all_ways_to_write_an_archive_are_the_same_data(root: Path, load: Load) -> None:
    plain = digests(own(load, write_npz(root)))
    other = {"edges": None, "edge_index": np.array(EDGES, dtype=np.int32).T}
    assert digests(own(load, write_npz(root, **other))) == plain
    row, column = np.nonzero(X)
    sparse = {"x": None, "x_row": row, "x_col": column, "x_val": X[row, column], "x_shape": np.array(X.shape)}
    assert digests(own(load, write_npz(root, **sparse))) == plain
    other = {"y": np.where(Y < 0, np.nan, Y), "x": X.astype(np.float64)}
    assert digests(own(load, write_npz(root, **other))) == plain
    assert digests(own(load, write_npz(root, train_mask=masks()["train_mask"].astype(np.uint8)))) == plain


def test_nodes_may_come_in_any_order_with_their_numbers(root: Path, load: Load) -> None:
    order = RNG.permutation(N)
    columns = {name: np.asarray(values)[order] for name, values in node_columns().items()}
    shuffled = write_tables(root, ".csv", **columns, number=order)
    assert digests(own(load, shuffled, node="number")) == digests(own(load, write_npz(root)))


def test_classes_may_be_words_and_columns_may_have_any_name(root: Path, load: Load) -> None:
    words = np.array(["cat", "dog", "cow", ""])[Y]
    files = write_tables(root, ".csv", names=("from", "to"), label=None, split=None, kind=words, part=PURPOSES)
    splits = own(load, files, source="from", target="to", label="kind", split="part")
    assert splits.train.outputs == ("cat", "cow", "dog")
    assert splits.train.y[:6].tolist() == [0, 2, 1, 0, 2, 1]
    assert known(splits.test) == [8, 9]


@pytest.mark.parametrize("values", [Y.astype(str), np.where(Y < 0, np.nan, Y), np.where(Y < 0, Y, Y * 5)])
def test_numbers_of_classes_are_sorted_as_numbers(root: Path, load: Load, values: np.ndarray) -> None:
    splits = own(load, write_tables(root, ".parquet", label=values))
    assert splits.train.outputs == (("0", "5", "10") if values.dtype == Y.dtype else ("0", "1", "2"))
    assert splits.train.y[:6].tolist() == [0, 1, 2, 0, 1, 2]


def test_a_column_of_whole_numbers_may_end_with_a_fraction(root: Path, load: Load) -> None:
    # pyarrow takes the type of a column from the first megabyte of a file
    n = 200_000
    lines = ["label,split,f\n", *("0,train,1\n1,test,2\n" * (n // 2)), "1,train,2.5\n"]
    (root / "nodes.csv").write_text("".join(lines))
    (root / "edges.csv").write_text("source,target\n0,1\n")
    splits = own(load, {"file": "edges.csv", "nodes": "nodes.csv"})
    assert splits.train.x[-1].tolist() == [2.5]


def test_without_masks_nodes_are_drawn_among_those_of_known_class(root: Path, load: Load) -> None:
    without = dict.fromkeys(masks())
    files = write_npz(root, **without)
    splits = own(load, files, validation_nodes=2, test_nodes=3)
    parts = [known(part) for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [6, 2, 3]
    assert sorted(node for part in parts for node in part) == list(range(11))
    assert digests(own(load, files, validation_nodes=2, test_nodes=3)) == digests(splits)
    assert digests(own(load, files, validation_nodes=2, test_nodes=3, split_seed=1)) != digests(splits)
    tables = write_tables(root, ".csv", split=None)
    assert digests(own(load, tables, validation_nodes=2, test_nodes=3)) == digests(splits)


def test_without_a_mask_of_validation_no_node_is_for_it(root: Path, load: Load) -> None:
    splits = own(load, write_npz(root, val_mask=None))
    assert splits.validation is None
    assert (known(splits.train), known(splits.test)) == ([*range(6)], [8, 9])


def test_loops_duplicates_and_directions_follow_the_parameters(root: Path, load: Load) -> None:
    files = write_npz(root, edges=np.array([*EDGES, (5, 5), (0, 1)]))
    assert edges_of(own(load, files, self_loops="drop", duplicates="drop").train) == EXPECTED
    both = np.array([edge for u, v in EXPECTED_PAIRS for edge in ((u, v), (v, u))])
    assert edges_of(own(load, write_npz(root, edges=both), directed="error").train) == EXPECTED


def test_a_graph_without_any_edge_is_one(root: Path, load: Load) -> None:
    assert edges_of(own(load, write_npz(root, edges=np.zeros((0, 2), dtype=int))).train) == [[], []]


def test_features_are_scaled(root: Path, load: Load) -> None:
    x = own(load, write_npz(root), scale="rows").train.x.abs().sum(1)
    assert x.tolist() == pytest.approx([1.0] * N, abs=1e-6)


def test_a_file_may_lie_anywhere(root: Path, tmp_path: Path, load: Load) -> None:
    write_npz(tmp_path)
    assert len(own(load, {"file": str(tmp_path / "g.npz")}).train) == N


def test_a_run_forgets_edges_of_it(root: Path) -> None:
    write_npz(root)
    done = spawn(
        "run", "--dataset", "graph-file", "--set", "graph-file.file=g.npz", "--model", "sgc", "--unlearner", "finetune",
        "--forget", '{"kind": "edges", "pairs": [[1, 2], [0, 11]]}', "--set", "recipe.epochs=2",
        "--no-tracking", "--out", root / "runs",
        cwd=root, env={"XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]},
    )  # fmt: skip
    assert done.rc == 0, done.stderr
    (record,) = root.glob("runs/*/record.json")
    assert '"g.npz"' in json.dumps(json.loads(record.read_text()))


# -- what is wrong -----------------------------------------------------------------------------------------------------


def refused(**params: str) -> Done:
    settings = [word for key, value in params.items() for word in ("--set", f"graph-file.{key}={value}")]
    return call("run", "--dataset", "graph-file", "--model", "sgc", "-u", "finetune", "--no-tracking", *settings)


def edges_with(*more: tuple[int, int]) -> dict[str, Any]:
    return {"edges": np.array([*EDGES, *more])}


def with_value(value: float) -> dict[str, Any]:
    x = X.copy()
    x[7, 2] = value
    return {"x": x}


def with_class(value: float) -> dict[str, Any]:
    y = Y.astype(np.float64)
    y[4] = value
    return {"y": y}


SPARSE = {
    "x": None,
    "x_row": np.array([0, N]),
    "x_col": np.array([0, 1]),
    "x_val": np.ones(2),
    "x_shape": np.array([N, 3]),
}
TWICE = {**SPARSE, "x_row": np.array([1, 1]), "x_col": np.array([2, 2])}
WRONG: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a missing node": (edges_with((3, 12)), "bad-data", ("g.npz (edges): edge 6 names node 12, and nodes are",)),
    "a negative node": (edges_with((-1, 3)), "bad-data", ("edge 6 names node -1",)),
    "a loop": (edges_with((5, 5)), "bad-data", ("edge 6 joins node 5 to itself", "--set graph-file.self_loops=drop")),
    "a duplicate": (edges_with((2, 1)), "bad-data", ("the edge 2, 1 is there more than", "graph-file.duplicates=drop")),
    "edges of three": ({"edges": np.zeros((4, 3), int)}, "bad-data", ("must be of shape [m, 2], not [4, 3]",)),
    "edges upright": ({"edges": None, "edge_index": np.array(EDGES)}, "bad-data", ("must be of shape [2, m], not",)),
    "edges with fractions": ({"edges": np.ones((4, 2))}, "bad-data", ("must have 2 dimensions of whole numbers",)),
    "a class below -1": (with_class(-2), "bad-labels", ("node 4 has the class -2", "or -1 where nobody knows")),
    "half a class": (with_class(1.5), "bad-labels", ("node 4 has the class 1.5",)),
    "an endless class": (with_class(np.inf), "bad-labels", ("node 4 has the class inf",)),
    "one class": ({"y": Y * 0}, "one-class", ("all nodes are of class '0'",)),
    "no class": ({"y": np.full(N, -1)}, "one-class", ("no node has a class",)),
    "too few classes": ({"y": Y[1:]}, "bad-data", ("has 11 classes for 12 nodes",)),
    "classes one-hot": ({"y": np.eye(3)[Y]}, "bad-data", ("(y): must have 1 dimensions of numbers, not 2",)),
    "a mask overlap": ({"val_mask": masks()["test_mask"]}, "bad-data", ("node 8 is for validation and for testing",)),
    "an empty training mask": ({"train_mask": np.zeros(N, bool)}, "too-few-rows", ("known class is for training",)),
    "an empty test mask": ({"test_mask": np.zeros(N, bool)}, "too-few-rows", ("known class is for testing",)),
    "a test mask of nobody": ({"test_mask": np.arange(N) == 11}, "too-few-rows", ("known class is for testing",)),
    "a short mask": ({"test_mask": np.ones(3, bool)}, "bad-data", ("(test_mask): must be true or false for each",)),
    "a mask of numbers": ({"test_mask": np.arange(N)}, "bad-data", ("(test_mask): must be true or false",)),
    "masks of several splits": ({"test_mask": np.ones((N, 2), bool)}, "bad-data", ("must have 1 dimensions",)),
    "no test mask": ({"test_mask": None}, "missing-column", ("has no array 'test_mask'; arrays: edges, train_mask",)),
    "no features": ({"x": None}, "missing-column", ("has no array 'x'",)),
    "no classes": ({"y": None}, "missing-column", ("has no array 'y'",)),
    "no edges": ({"edges": None}, "missing-column", ("has no array 'edge_index'",)),
    "sparse features without values": ({**SPARSE, "x_val": None}, "missing-column", ("has no array 'x_val'",)),
    "a sparse feature outside": (SPARSE, "bad-data", ("names row 12 of 12",)),
    "a sparse feature twice": (TWICE, "bad-data", ("has a feature of a node more than once",)),
    "sparse features of uneven parts": ({**SPARSE, "x_row": np.array([0])}, "bad-data", ("1 rows and 2 columns",)),
    "no size of sparse features": ({**SPARSE, "x_shape": np.array([N])}, "bad-data", ("x_shape must be",)),
    "nan": (with_value(np.nan), "bad-data", ("feature 2 of node 7 is nan, not a finite number",)),
    "infinity": (with_value(-np.inf), "bad-data", ("feature 2 of node 7 is -inf, not a finite number",)),
    "too large for 32 bits": ({"x": X * np.float64(1e300)}, "bad-data", ("not a finite number of 32 bits",)),
    "features of no column": ({"x": X[:, :0]}, "bad-data", ("at least one each, not of shape (12, 0)",)),
    "features in words": ({"x": X.astype(str)}, "bad-data", ("(x): must have 2 dimensions of numbers, not 2 of <U",)),
    "objects": ({"x": X.astype(object)}, "corrupt-file", ("(x): cannot be read: Object arrays cannot be",)),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_archive_is_refused_in_one_line(root: Path, case: str) -> None:
    changed, code, words = WRONG[case]
    assert_one_error(refused(**write_npz(root, **changed)), 5, code, "g.npz", *words)


def test_a_directed_graph_is_refused_where_that_was_asked_for(root: Path) -> None:
    done = refused(**write_npz(root), directed="error")
    assert_one_error(done, 5, "bad-data", "is directed: the edge", "--set graph-file.directed=symmetric")


class Payload:
    def __reduce__(self) -> Any:
        return Path("executed").touch, ()


def test_nothing_in_an_archive_is_executed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    write_npz(root, y=np.array([Payload()], dtype=object))
    assert_one_error(refused(file="g.npz"), 5, "corrupt-file", "allow_pickle=False")
    (root / "g.npz").write_bytes(pickle.dumps(Payload()))
    assert_one_error(refused(file="g.npz"), 5, "corrupt-file", "is not a whole npz archive")
    assert not (root / "executed").exists()


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", ["g.npz", "edges.csv.gz", "nodes.parquet"])
def test_a_file_that_is_cut_off_is_refused(root: Path, name: str, share: float) -> None:
    files = write_npz(root) if name == "g.npz" else write_tables(root, name[5:])
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[: int(share * len(content))])
    code = "corrupt-file" if name == "g.npz" else "unreadable-file"
    assert_one_error(refused(**files), 5, code, name)


GAP = [None, *X[1:, 0].tolist()]
TABLES: dict[str, tuple[dict[str, Any], dict[str, str], str, tuple[str, ...]]] = {
    "a missing node": ({"edges": [(0, 1), (0, 12)]}, {}, "bad-data", ("edges.csv: edge 1 names node 12",)),
    "words for nodes": ({"edges": [("0", 1), ("b", 2)]}, {}, "unreadable-file", ("edges.csv", "invalid value 'b'")),
    "fractions for nodes": ({"edges": [(0, 1), (0.5, 2)]}, {}, "unreadable-file", ("edges.csv", "invalid value '0.5'")),
    "no node": ({"edges": [(0, 1), (None, 2)]}, {}, "missing-values", ("row 1 of column 'source' has a gap",)),
    "no source": ({"names": ("a", "target")}, {}, "missing-column", ("no column 'source'; columns: a, target",)),
    "no label": ({"label": None}, {}, "missing-column", ("nodes.csv: no column 'label'; columns: split, f0",)),
    "no split of this name": ({}, {"split": "part"}, "missing-column", ("no column 'part'",)),
    "no number": ({}, {"node": "number"}, "missing-column", ("no column 'number'",)),
    "a strange purpose": ({"split": ["dev"] * N}, {}, "bad-data", ("node 0 is for 'dev'; write train, validation,")),
    "a feature in words": ({"f1": ["a"] * N}, {}, "unreadable-file", ("nodes.csv", "invalid value 'a'")),
    "a feature with a gap": ({"f0": GAP}, {}, "missing-values", ("row 0 of column 'f0' has a gap",)),
    "an endless feature": ({"f0": [np.inf] * N}, {}, "bad-data", ("feature 0 of node 0 is inf",)),
    "no features": ({"f0": None, "f1": None, "f2": None}, {}, "bad-data", ("has no column of features",)),
    "a number outside": ({"number": range(1, N + 1)}, {"node": "number"}, "bad-data", ("row 11 is node 12, and 12",)),
    "a negative number": ({"number": range(-1, N - 1)}, {"node": "number"}, "bad-data", ("row 0 is node -1",)),
    "a number twice": ({"number": [0, 0, *range(2, N)]}, {"node": "number"}, "duplicate-ids", ("node 0 is there",)),
    "a class below -1": ({"label": Y - 1}, {}, "bad-labels", ("node 11 has the class -2",)),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_wrong_tables_are_refused_in_one_line(root: Path, case: str) -> None:
    changed, params, code, words = TABLES[case]
    assert_one_error(refused(**write_tables(root, ".csv", **changed), **params), 5, code, *words)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"edges": [("a", "b")]}, "edges.parquet: column 'source' holds string, not whole numbers"),
        ({"edges": [(0.0, 1.5)]}, "edges.parquet: column 'source' holds double, not whole numbers"),
        ({"f0": ["a"] * N}, "nodes.parquet: column 'f0' holds string, not numbers"),
        ({"f0": [[1.0, 2.0]] * N}, "nodes.parquet: column 'f0' holds list<"),
        ({"label": [[1]] * N}, "nodes.parquet: column 'label' holds list<"),
    ],
)
def test_columns_of_another_type_are_refused(root: Path, changed: dict[str, Any], words: str) -> None:
    assert_one_error(refused(**write_tables(root, ".parquet", **changed)), 5, "bad-data", words)


def test_two_columns_of_one_name_are_refused(root: Path) -> None:
    files = write_tables(root, ".csv")
    text = (root / "nodes.csv").read_text()
    (root / "nodes.csv").write_text(text.replace('"f1"', '"f0"', 1))
    assert_one_error(refused(**files), 5, "bad-data", "nodes.csv: has two columns 'f0'")


@pytest.mark.parametrize("content", ["", "\x00\x01\xff\xfe"])
def test_a_table_that_is_none_is_refused(root: Path, content: str) -> None:
    files = write_tables(root, ".csv")
    (root / "edges.csv").write_bytes(content.encode("latin1"))
    done = refused(**files)
    assert done.rc == 5
    assert done.stderr.count("\n") == 1
    assert "edges.csv" in done.stderr


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, ("graph-file.file: names no file",)),
        ({"file": "g.npz", "nodes": "nodes.csv"}, ("graph-file.nodes", "an npz holds the nodes as well")),
        ({"file": "edges.csv"}, ("graph-file.nodes: names no file",)),
        ({"file": "edges.txt", "nodes": "nodes.csv"}, ("'edges.txt' is of no known kind", "name a file .npz, .csv")),
        (
            {"file": "edges.csv", "nodes": "g.npz"},
            ("'g.npz' is of no known kind", "name a file .csv, .csv.gz, .parquet"),
        ),
        ({"file": "edges.csv", "nodes": "nodes.csv", "target": "source"}, ("graph-file.target", "name two columns")),
    ],
)
def test_parameters_that_do_not_name_a_graph_are_refused(root: Path, params: dict[str, str], words: tuple[str]) -> None:
    write_npz(root)
    write_tables(root, ".csv")
    assert_one_error(refused(**params), 2, "bad-parameter", *words)


def test_a_file_that_is_not_there_is_named(root: Path) -> None:
    assert_one_error(refused(file="nowhere.npz"), 5, "missing-file", "nowhere.npz")
