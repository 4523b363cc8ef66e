"""OGB's raw files: small graphs in exactly their layout come back, are converted once, and are mapped ever after."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Done, assert_one_error, call

from unlearnbench.api.runtime import MISSING, Data, Splits
from unlearnbench_graphs import rooms

Load = Callable[..., Splits]
N, F = 20, 3
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, F)).astype(np.float32)
PAIRS = [(0, 1), (1, 0), (5, 2), (2, 5), (7, 7), (3, 19), (18, 4), (18, 4)]
EXPECTED = [[0, 2, 3, 4], [1, 5, 19, 18]]
LABELS = np.arange(N) % 4
SPLIT = {"train": range(10), "valid": range(10, 14), "test": range(14, 20)}
CSV = ("arxiv", "products")


def text(rows: Any) -> bytes:
    lines = [",".join(str(v) for v in (row if isinstance(row, (tuple, list, np.ndarray)) else [row])) for row in rows]
    # Without the time: the content is part of the names of tests, which all processes must agree on.
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def written(root: Path, name: str, **changed: Any) -> Path:
    """A graph in the folders and files of OGB; ``changed`` are other contents, by the last part of a file's name."""
    folder = root / f"ogb/ogbn_{name}"
    values = {
        "edge": PAIRS, "feat": X, "label": LABELS, "nodes": [N], "edges": [len(PAIRS)], **SPLIT, **changed,
    }  # fmt: skip
    split = folder / "split" / ("sales_ranking" if name == "products" else "time")
    raw = folder / "raw"
    for path in (split, raw):
        path.mkdir(parents=True, exist_ok=True)
    for purpose in SPLIT:
        (split / f"{purpose}.csv.gz").write_bytes(text(values[purpose]))
    if name == "papers100M":
        np.savez_compressed(
            raw / "data.npz",
            edge_index=np.array(values["edge"], dtype=np.int64).T,
            node_feat=np.asarray(values["feat"]),
            node_year=np.full((N, 1), 2012),
            num_nodes_list=np.array(values["nodes"]),
            num_edges_list=np.array(values["edges"]),
        )
        np.savez_compressed(raw / "node-label.npz", node_label=np.asarray(values["label"], np.float32)[:, None])
        return folder
    files = {"edge": "edge", "node-feat": "feat", "node-label": "label", "num-node-list": "nodes",
             "num-edge-list": "edges"}  # fmt: skip
    for file, key in files.items():
        (raw / f"{file}.csv.gz").write_bytes(text(values[key]))
    return folder


def known(data: Data | None) -> list[int]:
    assert data is not None
    return (data.y != MISSING).nonzero().flatten().tolist()


def copies(root: Path) -> list[Path]:
    return sorted((root.parent / "cache/unlearnbench/graphs").glob("*"))


@pytest.mark.parametrize("name", [*CSV, "papers100M"])
def test_a_graph_comes_back_as_it_was_written(root: Path, load: Load, name: str) -> None:
    written(root, name)
    splits = load("ogb-nodes", dataset=name)
    assert [known(part) for part in (splits.train, splits.validation, splits.test)] == [list(k) for k in SPLIT.values()]
    assert len(splits.train.outputs) == {"arxiv": 40, "products": 47, "papers100M": 172}[name]
    for part in (splits.train, splits.validation, splits.test):
        assert part is not None
        assert part.edges is not None
        assert part.edges.tolist() == EXPECTED
        assert torch.equal(part.x, torch.from_numpy(X))
        assert part.y[known(part)].tolist() == LABELS[known(part)].tolist()
        assert part.ids.tolist() == list(range(N))


def test_all_layouts_of_one_graph_are_the_same_numbers(root: Path, load: Load) -> None:
    parts = []
    for name in (*CSV, "papers100M"):
        written(root, name)
        train = load("ogb-nodes", dataset=name).train
        assert train.edges is not None
        parts.append((train.x.numpy().tobytes(), train.y.numpy().tobytes(), train.edges.numpy().tobytes()))
    assert parts[0] == parts[1] == parts[2]


@pytest.mark.parametrize("name", ["arxiv", "papers100M"])
def test_nodes_without_a_class_are_known_to_nobody(root: Path, load: Load, name: str) -> None:
    labels = [float("nan") if k in (3, 15) else float(v) for k, v in enumerate(LABELS)]
    written(root, name, label=labels)
    splits = load("ogb-nodes", dataset=name)
    assert known(splits.train) == [k for k in range(10) if k != 3]
    assert known(splits.test) == [k for k in range(14, 20) if k != 15]
    assert len(splits.train) == N


def test_an_empty_label_is_one_that_nobody_knows(root: Path, load: Load) -> None:
    written(root, "arxiv", label=['""' if k == 3 else v for k, v in enumerate(LABELS)])
    assert known(load("ogb-nodes").train) == [k for k in range(10) if k != 3]


@pytest.mark.parametrize("name", ["arxiv", "papers100M"])
def test_the_second_run_maps_what_the_first_converted(root: Path, load: Load, name: str) -> None:
    written(root, name)
    first = load("ogb-nodes", dataset=name)
    (copy,) = copies(root)
    assert {path.name for path in copy.iterdir()} == {
        f"{part}.npy" for part in ("x", "edges", "y", "train", "valid", "test")
    }
    marked = np.load(copy / "x.npy")
    marked[4, 1] = 77
    np.save(copy / "x.npy", marked)
    again = load("ogb-nodes", dataset=name)
    assert again.train.x[4, 1] == 77
    assert copies(root) == [copy]
    assert torch.equal(again.train.edges, first.train.edges)  # type: ignore[arg-type]


def test_features_and_edges_stay_in_their_files(root: Path, load: Load) -> None:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("this system does not list what is mapped")
    written(root, "arxiv")
    splits = load("ogb-nodes")
    (copy,) = copies(root)
    mapped = {line.split(maxsplit=5)[5] for line in maps.read_text().splitlines() if line.endswith(".npy")}
    assert {str(copy / "x.npy"), str(copy / "edges.npy")} <= mapped
    splits.train.x[0, 0] = 5  # stays in this process
    assert np.load(copy / "x.npy")[0, 0] == X[0, 0]


def test_other_files_are_converted_anew(root: Path, load: Load) -> None:
    written(root, "arxiv")
    load("ogb-nodes")
    written(root, "arxiv", feat=X + 1)
    assert torch.equal(load("ogb-nodes").train.x, torch.from_numpy(X + 1))
    assert len(copies(root)) == 2


@pytest.mark.parametrize("name", ["arxiv", "papers100M"])
def test_a_conversion_that_fails_leaves_nothing_behind(root: Path, load: Load, name: str) -> None:
    written(root, name, test=[25])
    assert_one_error(run(name), 5, "corrupt-file", "split/time/test.csv.gz: names a node outside 0 to 19")
    assert copies(root) == []
    written(root, name)
    assert len(load("ogb-nodes", dataset=name).train) == N


def test_of_two_that_convert_at_once_the_first_wins(tmp_path: Path) -> None:
    target = tmp_path / "copies/graph"

    def slow(folder: Path) -> None:
        rooms.made_once(target, lambda out: out.joinpath("who").touch() or out.joinpath("fast").touch())
        (folder / "slow").touch()

    assert rooms.made_once(target, slow) == target
    assert {path.name for path in target.iterdir()} == {"who", "fast"}
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", ["arxiv", "papers100M"])
def test_scaled_features_are_kept_beside_the_others(root: Path, load: Load, name: str) -> None:
    written(root, name)
    found = load("ogb-nodes", dataset=name, scale="standard").train.x.double()
    z = (X - X.mean(0, dtype=np.float64)) / X.std(0, dtype=np.float64)
    np.testing.assert_allclose(found.numpy(), z / np.linalg.norm(z, axis=1).max(), atol=1e-6)
    kept = {path.name for folder in copies(root) for path in folder.iterdir()}
    assert {"x.npy", "x-standard.npy"} < kept
    assert torch.equal(load("ogb-nodes", dataset=name, scale="standard").train.x.double(), found)


def test_blocks_change_nothing(root: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    written(root, "papers100M", feat=X.astype(np.float64))
    monkeypatch.setattr(rooms, "BLOCK_BYTES", 100)
    splits = load("ogb-nodes", dataset="papers100M")
    assert torch.equal(splits.train.x, torch.from_numpy(X))
    assert splits.train.edges is not None
    assert splits.train.edges.tolist() == EXPECTED


def test_features_of_half_precision_or_column_by_column_come_back(root: Path, load: Load) -> None:
    half = X.astype(np.float16)
    for feat in (half, np.asfortranarray(half.astype(np.float32))):
        written(root, "papers100M", feat=feat)
        assert torch.equal(load("ogb-nodes", dataset="papers100M").train.x, torch.from_numpy(half.astype(np.float32)))


# -- what is wrong -----------------------------------------------------------------------------------------------------


def run(name: str) -> Done:
    dataset = ("--dataset", "ogb-nodes", "--set", f"ogb-nodes.dataset={name}")
    return call("run", *dataset, "--model", "sgc", "-u", "finetune", "--no-tracking")


def holes(value: float) -> np.ndarray:
    x = X.copy()
    x[6, 1] = value
    return x


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "a missing node": ({"edge": [*PAIRS[:-1], (3, N)]}, "bad-data", "edge 7 names node 20, and nodes are 0 to 19"),
    "a negative node": ({"edge": [*PAIRS[:-1], (-1, 3)]}, "bad-data", "edge 7 names node -1"),
    "another number of nodes": ({"nodes": [N + 1]}, "corrupt-file", "has 20 nodes, not [21]"),
    "several graphs": ({"nodes": [10, 10]}, "corrupt-file", "has 20 nodes, not [10, 10]"),
    "another number of edges": ({"edges": [7]}, "corrupt-file", "has 8 edges, not [7]"),
    "too few labels": ({"label": LABELS[:-1]}, "corrupt-file", "labels for 20 nodes"),
    "a class too high": ({"label": LABELS + 170}, "bad-labels", "has the class 17"),
    "a negative class": ({"label": LABELS - 1}, "bad-labels", "node 0 has the class -1, not one of 0 to"),
    "half a class": ({"label": LABELS / 2}, "bad-labels", "node 1 has the class 0.5"),
    "one class": ({"label": LABELS * 0}, "one-class", "all nodes are of class '0'"),
    "nan": ({"feat": holes(np.nan)}, "bad-data", "feature 1 of node 6 is nan, not a finite number"),
    "infinity": ({"feat": holes(np.inf)}, "bad-data", "feature 1 of node 6 is inf"),
    "a node for two things": ({"valid": range(9, 14)}, "bad-data", "node 9 is for training and for validation"),
    "nothing to train on": ({"label": [np.nan] * 10 + LABELS[10:].tolist()}, "too-few-rows", "is for training"),
    "a split outside": ({"train": [-1]}, "corrupt-file", "split/time/train.csv.gz: names a node outside 0 to 19"),
}


@pytest.mark.parametrize("name", ["arxiv", "papers100M"])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_content_is_refused_in_one_line(root: Path, name: str, case: str) -> None:
    changed, code, words = WRONG[case]
    written(root, name, **changed)
    assert_one_error(run(name), 5, code, f"ogb/ogbn_{name}", words)


@pytest.mark.parametrize(
    ("file", "content", "code", "words"),
    [
        ("raw/edge.csv.gz", text([(1, "b")]), "unreadable-file", "is not a table of numbers: In CSV column #1"),
        ("raw/edge.csv.gz", text([(1, 2, 3)] * len(PAIRS)), "corrupt-file", "has 3 numbers in a row, not 2"),
        ("raw/edge.csv.gz", text([(1, "")]), "missing-values", "row 0 has a gap"),
        ("raw/edge.csv.gz", b"1,2\n", "unreadable-file", "is not a table of numbers"),
        ("raw/node-feat.csv.gz", text([(1, 2), (1, 2, 3)]), "unreadable-file", "Expected 2 columns, got 3"),
        ("raw/node-label.csv.gz", text([(k, k) for k in range(N)]), "corrupt-file", "labels for 20 nodes"),
        ("raw/node-feat.csv.gz", b"", "unreadable-file", "is not a table of numbers"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(root: Path, file: str, content: bytes, code: str, words: str) -> None:
    path = written(root, "arxiv") / file
    path.write_bytes(content)
    assert_one_error(run("arxiv"), 5, code, f"ogb/ogbn_arxiv/{file}", words)


@pytest.mark.parametrize("file", ["raw/edge.csv.gz", "raw/node-feat.csv.gz", "split/time/test.csv.gz"])
def test_a_table_that_is_cut_off_is_refused(root: Path, file: str) -> None:
    path = written(root, "arxiv") / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_one_error(run("arxiv"), 5, "unreadable-file", f"ogb/ogbn_arxiv/{file}")


@pytest.mark.parametrize("file", ["raw/data.npz", "raw/node-label.npz"])
def test_an_archive_that_is_cut_off_or_of_objects_is_refused(root: Path, file: str) -> None:
    path = written(root, "papers100M") / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_one_error(run("papers100M"), 5, "corrupt-file", f"ogb/ogbn_papers100M/{file}", "is not a whole npz archive")
    objects = np.array([[{}]], dtype=object)
    np.savez(path, edge_index=objects, node_label=objects)
    assert_one_error(run("papers100M"), 5, "corrupt-file", f"ogb/ogbn_papers100M/{file}", "cannot be read")
    np.savez(path, other=np.zeros(1))
    assert_one_error(run("papers100M"), 5, "missing-column", f"ogb/ogbn_papers100M/{file}", "has no array")


def test_a_damaged_copy_is_named(root: Path, load: Load) -> None:
    written(root, "arxiv")
    load("ogb-nodes")
    (copy,) = copies(root)
    (copy / "x.npy").write_bytes((copy / "x.npy").read_bytes()[:150])
    assert_one_error(run("arxiv"), 5, "corrupt-file", "its converted copy cannot be read", f"remove {copy}")


@pytest.mark.parametrize(
    ("name", "file"), [("arxiv", "raw/num-edge-list.csv.gz"), ("papers100M", "split/time/valid.csv.gz")]
)
def test_a_missing_file_is_named_with_where_to_get_it(root: Path, name: str, file: str) -> None:
    (written(root, name) / file).unlink()
    assert_one_error(run(name), 5, "missing-file", f"ogb/ogbn_{name}/{file}", f"get ogbn-{name} from https://ogb.stanf")
    done = call("data", "fetch", "ogb-nodes", "--set", f"dataset={name}")
    assert (done.rc, done.stderr.count("\n")) == (3, 1)
    assert "[not-fetchable]" in done.stderr
