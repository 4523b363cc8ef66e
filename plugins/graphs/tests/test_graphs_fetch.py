"""Downloads: only when asked for, whole or not at all; and the files of Amazon's goods, which are made here."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from support import Done, assert_one_error, call

from unlearnbench.api.runtime import MISSING, Splits
from unlearnbench_graphs import amazon, planetoid

NODES, FEATURES = 30, 6
RNG = np.random.default_rng(0)
ADJACENCY = sp.random_array((NODES, NODES), density=0.1, format="csr", rng=0) != 0
COUNTS = RNG.integers(0, 3, (NODES, FEATURES)).astype(np.float32)
LABELS = np.arange(NODES) % 8
FILE = "amazon_electronics_photo.npz"
FEW = ("--set", "validation_nodes=4", "--set", "test_nodes=6")


def arrays(**changed: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": LABELS}
    for name, matrix in (("adj", ADJACENCY), ("attr", sp.csr_array(COUNTS))):
        found |= {f"{name}_{part}": getattr(matrix, part) for part in ("data", "indices", "indptr", "shape")}
    found["adj_data"] = found["adj_data"].astype(np.float32)
    return {name: value for name, value in (found | changed).items() if value is not None}


def packed(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    return stream.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def send_header(self, keyword: str, value: str) -> None:
        """In the folder ``short`` more is announced than is sent."""
        longer = "photo.npz" in self.path and self.directory.endswith("short") and keyword == "Content-Length"
        super().send_header(keyword, str(int(value) + 7) if longer else value)


def serving(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        for module in (amazon, planetoid):
            monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that a server on this machine hands out, and that both sources point to."""
    yield from serving(tmp_path / "served", monkeypatch)


@pytest.fixture
def served_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server that closes the connection before it has sent what it announced."""
    yield from serving(tmp_path / "short", monkeypatch)


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_goods_are_downloaded_and_read(served: Path, root: Path, load: Callable[..., Splits]) -> None:
    (served / FILE).write_bytes(packed(arrays()))
    done = call("data", "fetch", "amazon", *FEW)
    assert done.rc == 0, done.stderr
    assert files(root) == {f"amazon/Photo/raw/{FILE}"}
    splits = load("amazon", validation_nodes=4, test_nodes=6)
    assert splits.train.x.tolist() == (COUNTS > 0).astype(float).tolist()
    first, second = ADJACENCY.nonzero()
    expected = sorted({(min(u, v), max(u, v)) for u, v in zip(first.tolist(), second.tolist(), strict=True) if u != v})
    assert [tuple(edge) for edge in splits.train.edges.T.tolist()] == expected  # type: ignore[union-attr]
    seen = np.zeros(NODES, dtype=int)
    for part, size in ((splits.train, 20), (splits.validation, 4), (splits.test, 6)):
        assert part is not None
        known = (part.y != MISSING).numpy()
        assert int(known.sum()) == size
        assert part.y.numpy()[known].tolist() == LABELS[known].tolist()
        seen += known
    assert seen.tolist() == [1] * NODES


def test_the_seed_of_the_split_decides_who_is_held_out(root: Path, load: Callable[..., Splits]) -> None:
    (root / "goods").mkdir()
    (root / "goods" / FILE).write_bytes(packed(arrays()))
    tests = [load("amazon", folder="goods", validation_nodes=4, test_nodes=6, split_seed=k).test.y for k in (0, 0, 1)]
    assert tests[0].equal(tests[1])
    assert not tests[0].equal(tests[2])
    without = load("amazon", folder="goods", validation_nodes=0, test_nodes=6)
    assert without.validation is None
    assert without.test.y.equal(tests[0])


def test_citations_are_downloaded_file_by_file_and_never_twice(served: Path, root: Path) -> None:
    for part in planetoid.PARTS:
        (served / f"ind.pubmed.{part}").write_bytes(part.encode())
    here = root / "planetoid/PubMed/raw/ind.pubmed.graph"
    here.parent.mkdir(parents=True)
    here.write_bytes(b"this was there")
    done = call("data", "fetch", "planetoid", "--set", "dataset=PubMed")
    assert_one_error(done, 5, "corrupt-file", "ind.pubmed.allx", "not one of Planetoid's pickles")  # served as text
    assert here.read_bytes() == b"this was there"
    assert {path.name: path.read_bytes().decode() for path in here.parent.iterdir() if path != here} == {
        f"ind.pubmed.{part}": part for part in planetoid.PARTS if part != "graph"
    }


def test_what_cannot_be_downloaded_leaves_nothing_behind(served: Path, root: Path) -> None:
    done = call("data", "fetch", "amazon")
    assert_one_error(done, 5, "fetch-failed", f"{FILE} cannot be downloaded: HTTP Error 404")
    done = call("data", "fetch", "planetoid")
    assert_one_error(done, 5, "fetch-failed", "ind.cora.x cannot be downloaded: HTTP Error 404")
    assert files(root) == set()


def test_a_download_that_is_cut_off_leaves_nothing_behind(served_short: Path, root: Path) -> None:
    (served_short / FILE).write_bytes(b"1234567890")
    done = call("data", "fetch", "amazon")
    assert_one_error(done, 5, "fetch-failed", f"{FILE} cannot be downloaded: 10 of 17 bytes arrived")
    assert files(root) == set()


def test_files_come_from_where_pytorch_geometric_takes_them() -> None:
    datasets = pytest.importorskip("torch_geometric.datasets")
    assert datasets.Planetoid.url == planetoid.URL
    assert datasets.Amazon.url.rstrip("/") == amazon.URL


# -- what is wrong -----------------------------------------------------------------------------------------------------


def damaged(root: Path, content: bytes) -> Done:
    folder = root / "amazon/Photo/raw"
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(content)
    return call("data", "fetch", "amazon", *FEW)


INDICES = np.concatenate([[NODES], ADJACENCY.indices[1:]])
WRONG: dict[str, tuple[bytes, str, str]] = {
    "cut off": (packed(arrays())[:-30], "corrupt-file", "is not a whole npz archive"),
    "foreign": (b"<!DOCTYPE html>", "corrupt-file", "is not a whole npz archive"),
    "no labels": (packed(arrays(labels=None)), "missing-column", "has no array 'labels'; arrays: adj_data"),
    "a pickle": (packed(arrays(labels=np.array([{}] * NODES))), "corrupt-file", "allow_pickle=False"),
    "words": (
        packed(arrays(labels=np.array(["a"] * NODES))),
        "bad-data",
        "(labels): must have 1 dimensions of numbers",
    ),
    "a class too high": (packed(arrays(labels=LABELS + 1)), "bad-labels", "node 7 has the class 8, not one of 0 to 7"),
    "a negative class": (packed(arrays(labels=LABELS - 1)), "bad-labels", "node 0 has the class -1, not one of 0 to 7"),
    "one class": (packed(arrays(labels=LABELS * 0)), "one-class", "all nodes are of class '0'"),
    "too few labels": (
        packed(arrays(labels=LABELS[1:])),
        "corrupt-file",
        "has 30 rows of features and 29 labels for 30",
    ),
    "a node outside": (packed(arrays(adj_indices=INDICES)), "bad-data", "edge 0 names node 30, and nodes are 0 to 29"),
    "a torn matrix": (packed(arrays(adj_indptr=ADJACENCY.indptr[1:])), "corrupt-file", "is no matrix of 30 compressed"),
    "no shape": (packed(arrays(attr_shape=np.array([30]))), "corrupt-file", "belongs to no matrix"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_file_is_refused_in_one_line(root: Path, case: str) -> None:
    content, code, words = WRONG[case]
    assert_one_error(damaged(root, content), 5, code, FILE, words)


def test_a_changed_byte_is_noticed(root: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, **arrays())
    content = bytearray(stream.getvalue())
    content[content.index(LABELS.tobytes()) + 8] ^= 1
    assert_one_error(damaged(root, bytes(content)), 5, "corrupt-file", "(labels): cannot be read: Bad CRC-32")


def test_more_nodes_held_out_than_there_are_is_refused(root: Path) -> None:
    folder = root / "amazon/Photo/raw"
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(packed(arrays()))
    done = call("data", "fetch", "amazon")
    assert_one_error(done, 5, "too-few-rows", "30 nodes of known class leave none for training beside 500 for")


def test_a_missing_file_is_named_with_the_command_that_fetches_it(root: Path) -> None:
    done = call(
        "run", "--dataset", "amazon", "--model", "sgc", "-u", "finetune", "--no-tracking", "--out", root / "runs"
    )
    assert_one_error(done, 5, "missing-file", FILE, "data fetch amazon --set dataset=Photo")
