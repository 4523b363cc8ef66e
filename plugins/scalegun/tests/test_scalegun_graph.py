"""A graph that edges leave and join, against sets of pairs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from unlearnbench.api.errors import DataError
from unlearnbench_scalegun.graph import LiveGraph, distinct_edges, graph_checksum

Pair = tuple[int, int]


def as_edges(pairs: set[Pair]) -> NDArray[np.int64]:
    return np.array(sorted(pairs), np.int64).reshape(-1, 2).T


def pairs_of(graph: LiveGraph) -> set[Pair]:
    """Every direction that the rows hold, one by one."""
    return {(u, int(v)) for u in range(graph.n) for v in graph.row(u)}


def both_ways(pairs: set[Pair]) -> set[Pair]:
    return pairs | {(v, u) for u, v in pairs}


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[set[Pair]]]:
    """Some nodes, and the edges that should be there one after the other."""
    n = draw(st.integers(2, 14))
    pairs = st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1]))
    return n, draw(st.lists(pairs, min_size=1, max_size=6))


@settings(deadline=None)
@given(histories())
def test_rows_hold_both_directions_of_the_edges_after_any_removals_and_insertions(
    history: tuple[int, list[set[Pair]]],
) -> None:
    n, (now, *later) = history
    graph = LiveGraph.of(n, as_edges(now))
    for wanted in later:
        graph.remove(as_edges(now - wanted))
        graph.insert(as_edges(wanted - now))
        now = wanted
        assert pairs_of(graph) == both_ways(now)
        assert graph.length.sum() == 2 * len(now) == 2 * graph.m
        assert np.array_equal(graph.edges, as_edges(now))
        assert graph.checksum() == graph_checksum(n, as_edges(now))


def test_a_hub_loses_few_and_many_neighbours_at_once_and_gets_them_back() -> None:
    star = {(0, v) for v in range(1, 200)}
    graph = LiveGraph.of(200, as_edges(star))
    for count in (1, 8, 9, 150, 199):
        gone = {(0, v) for v in range(1, count + 1)}
        graph.remove(as_edges(gone))
        assert pairs_of(graph) == both_ways(star - gone)
        graph.insert(as_edges(gone))
        assert pairs_of(graph) == both_ways(star)


def test_a_full_row_moves_and_the_array_grows_without_losing_an_edge() -> None:
    path = {(v, v + 1) for v in range(99)}
    graph = LiveGraph.of(100, as_edges(path))
    before = len(graph.neighbours)
    spokes = {(0, v) for v in range(2, 100)}
    for spoke in sorted(spokes):
        graph.insert(as_edges({spoke}))
    assert len(graph.neighbours) > before
    assert graph.offset[0] >= before
    assert pairs_of(graph) == both_ways(path | spokes)


def test_rows_that_move_again_and_again_leave_an_array_in_proportion_to_the_edges() -> None:
    graph = LiveGraph.of(400, np.zeros((2, 0), np.int64))
    for v in range(1, 400):
        graph.insert(np.array([[0], [v]]))
    assert len(graph.neighbours) < 20 * graph.m


@pytest.mark.parametrize("count", [1, 3, 30])
def test_nothing_is_left_of_edges_that_were_removed_or_of_rows_that_moved(count: int) -> None:
    star = np.stack([np.ones(40, np.int64), np.arange(2, 42)])  # node 0, the filling of free places, has no edge
    graph = LiveGraph.of(50, star)
    graph.insert(np.array([[1, 1], [42, 43]]))
    graph.remove(star[:, :count])
    graph.remove(np.array([[1], [43]]))
    live = np.concatenate([np.arange(graph.offset[u], graph.offset[u] + graph.length[u]) for u in range(graph.n)])
    free = np.delete(graph.neighbours, live)
    assert len(live) == 2 * (40 - count + 1)
    assert set(free.tolist()) <= {-1, 0}


def test_neighbours_are_32_bit_numbers_and_rows_come_without_gaps() -> None:
    graph = LiveGraph.of(5, np.array([[0, 1, 3], [1, 2, 4]]))
    assert graph.neighbours.dtype == np.int32
    assert len(graph.neighbours) == 6
    assert np.array_equal(graph.length, [1, 2, 1, 1, 1])


def test_the_checksum_knows_the_edges_but_not_their_order_or_direction() -> None:
    edges = np.array([[0, 1, 2], [3, 2, 3]])
    checksum = graph_checksum(4, edges)
    assert graph_checksum(4, edges[:, ::-1]) == checksum
    assert graph_checksum(4, edges[::-1]) == checksum
    assert LiveGraph.of(4, edges).checksum() == checksum
    assert graph_checksum(5, edges) != checksum
    assert graph_checksum(4, edges[:, :2]) != checksum
    assert graph_checksum(4, np.array([[0, 1, 1], [3, 2, 3]])) != checksum


@pytest.mark.parametrize(
    ("edges", "code", "named"),
    [
        ([[0, 2, 1], [1, 2, 2]], "self-loops", "2-2"),
        ([[0, 1], [1, 3]], "unknown-nodes", "1-3"),
        ([[0, -1], [1, 2]], "unknown-nodes", "-1-2"),
        ([[0, 1, 0], [1, 2, 1]], "duplicate-edges", "0-1"),
        ([[0, 1], [1, 0]], "duplicate-edges", "0-1"),
        ([[0.0, 1.0], [1.0, 2.0]], "bad-data", "float64"),
        ([[0, 1, 2], [1, 2, 0], [2, 0, 1]], "bad-data", "[3, 3]"),
    ],
)
def test_edges_that_cannot_be_are_refused_by_name(edges: list[list[float]], code: str, named: str) -> None:
    with pytest.raises(DataError) as refused:
        LiveGraph.of(3, np.array(edges))
    assert refused.value.code == code
    assert named in refused.value.message
    assert "\n" not in str(refused.value)


def test_a_batch_that_names_an_edge_twice_is_refused_and_five_are_named() -> None:
    twice = np.array([[0, 1, 2, 3, 4, 5], [6, 6, 6, 6, 6, 6]])
    with pytest.raises(DataError, match=r"duplicate-edges.* 0-6, 1-6, 2-6, 3-6, 4-6 are"):
        distinct_edges(np.concatenate([twice, twice[::-1]], 1), 7)


def test_a_graph_without_edges_has_none() -> None:
    graph = LiveGraph.of(3, np.zeros((2, 0), np.int64))
    assert graph.edges.shape == (2, 0)
    assert graph.incident(np.array([0, 1])).shape == (2, 0)


def test_edges_of_nodes_are_found_once_even_between_two_of_them() -> None:
    graph = LiveGraph.of(5, np.array([[0, 0, 1, 3], [1, 2, 2, 4]]))
    assert graph.incident(np.array([0, 2])).T.tolist() == [[0, 1], [0, 2], [1, 2]]


def test_without_numba_one_line_says_what_is_missing() -> None:
    program = "import sys; sys.modules['numba'] = None; import unlearnbench_scalegun.kernels"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert "UsageError: [missing-extra] unlearnbench-scalegun:" in last
    assert "pip install numba" in last
