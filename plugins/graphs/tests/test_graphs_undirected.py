"""Edges as they were written come out with u < v, each once, or are refused; derived here with sets of Python."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnbench.api import DataError
from unlearnbench_graphs import rooms
from unlearnbench_graphs.place import Place
from unlearnbench_graphs.rooms import on_disk
from unlearnbench_graphs.undirected import PUBLISHED, Rules, undirected

NODES = 7
PLACE = Place("edges.csv", "mend it")
STRICT = Rules("error", "error", "error")
STRICT_ONCE = Rules("symmetric", "error", "error")
node = st.integers(0, NODES - 1)
written = st.lists(st.tuples(node, node), max_size=30)


def array(pairs: list[tuple[int, int]], kind: type = np.int64) -> np.ndarray:
    return np.array(pairs, dtype=kind).reshape(-1, 2).T


def expected(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return sorted({(min(u, v), max(u, v)) for u, v in pairs if u != v})


def as_pairs(edges: np.ndarray) -> list[tuple[int, int]]:
    return [(int(u), int(v)) for u, v in edges.T]


@given(pairs=written)
def test_every_pair_with_an_edge_is_there_once_with_the_smaller_node_first(pairs: list[tuple[int, int]]) -> None:
    edges = undirected(array(pairs), NODES, PUBLISHED, PLACE)
    assert edges.dtype == np.int64
    assert as_pairs(edges) == expected(pairs)


@given(pairs=written, size=st.integers(8, 80))
@settings(deadline=None, max_examples=50)
def test_the_same_comes_out_in_small_blocks_and_on_disk(pairs: list[tuple[int, int]], size: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(rooms, "BLOCK_BYTES", size)
        edges = undirected(array(pairs, np.int32), NODES, PUBLISHED, PLACE, on_disk(Path(folder)))
        assert as_pairs(edges) == expected(pairs)
        assert as_pairs(np.load(Path(folder) / "edges.npy")) == expected(pairs)


@given(pairs=written)
def test_what_is_directed_or_there_twice_or_a_loop_is_refused_and_nothing_else(pairs: list[tuple[int, int]]) -> None:
    there = set(pairs)
    loops = any(u == v for u, v in pairs)
    twice = len(there) < len(pairs)
    both_ways = all((v, u) in there for u, v in there)
    one_form = all(u < v for u, v in there) or all(u > v for u, v in there)
    if not loops and not twice and (both_ways or one_form):
        assert as_pairs(undirected(array(pairs), NODES, STRICT, PLACE)) == expected(pairs)
        return
    with pytest.raises(DataError) as caught:
        undirected(array(pairs), NODES, STRICT, PLACE)
    found = caught.value
    assert (found.code, found.where) == ("bad-data", "edges.csv")
    numbers = [int(word.strip(",:")) for word in found.message.split() if word.strip(",:").isdigit()]
    if loops:
        k, at = numbers
        assert pairs[k] == (at, at)
    elif twice:
        assert Counter(pairs)[numbers[0], numbers[1]] > 1
    else:
        u, v, *_ = numbers
        assert (u, v) in there
        assert (v, u) not in there


@pytest.mark.parametrize(
    ("rules", "hint"),
    [
        (Rules("error", "drop", "drop"), "--set graph-file.directed=symmetric"),
        (Rules("symmetric", "error", "drop"), "--set graph-file.self_loops=drop"),
        (Rules("symmetric", "drop", "error"), "--set graph-file.duplicates=drop"),
    ],
)
def test_each_rule_refuses_its_own_and_says_how_to_allow_it(rules: Rules, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        undirected(array([(0, 1), (1, 0), (2, 1), (3, 3), (4, 5), (4, 5)]), NODES, rules, PLACE)
    assert caught.value.hint.startswith(hint)


def test_an_edge_written_both_ways_is_no_duplicate() -> None:
    assert as_pairs(undirected(array([(0, 1), (1, 0)]), NODES, STRICT, PLACE)) == [(0, 1)]


@pytest.mark.parametrize(("pair", "named"), [((2, 7), 7), ((-1, 2), -1), ((9, -3), 9)])
def test_an_edge_to_a_node_that_is_not_there_is_named_with_the_node(pair: tuple[int, int], named: int) -> None:
    with pytest.raises(DataError, match=f"edge 1 names node {named}, and nodes are 0 to 6"):
        undirected(array([(0, 1), pair]), NODES, PUBLISHED, PLACE)


def test_the_edge_that_is_named_is_counted_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "BLOCK_BYTES", 48)  # three edges
    pairs = [(0, 1)] * 10 + [(0, 12)]
    with pytest.raises(DataError, match="edge 10 names node 12"):
        undirected(array(pairs), NODES, PUBLISHED, PLACE)


def test_numbers_of_papers_size_do_not_run_over() -> None:
    n = 111_059_956
    edges = undirected(array([(n - 1, n - 2), (n - 2, n - 1), (0, n - 1)]), n, STRICT_ONCE, PLACE)
    assert as_pairs(edges) == [(0, n - 1), (n - 2, n - 1)]


def test_unsigned_numbers_that_would_be_negative_are_refused() -> None:
    with pytest.raises(DataError, match="names node 18446744073709551615"):
        undirected(np.array([[2**64 - 1], [1]], dtype=np.uint64), NODES, PUBLISHED, PLACE)
