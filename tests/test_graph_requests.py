"""Requests on graphs: against sets of Python, by hand, and what they share and refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import MISSING, TASKS, Data, Graphs, Splits, generator
from unlearnbench.config import resolve_request
from unlearnbench.graph_selectors import never_edges
from unlearnbench.parts import Parts, Selection
from unlearnbench.requests import carve_validation, resolve

TASK = TASKS["node-classification"]
Pair = tuple[int, int]

# Nodes 0 to 7; ids are 10 times the position. Degrees: 0:4 1:3 2:3 3:1 4:2 5:1 6:0 7:2
PAIRS = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 7), (2, 7), (4, 5)]


def splits_of(pairs: list[Pair], ids: list[int], part: list[str]) -> Splits:
    """Node k has id ``ids[k]``, class k % 2, features k + 1, and an annotation in the split ``part[k]``."""
    n = len(ids)
    x = torch.arange(1.0, n + 1)[:, None].repeat(1, 2)
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()

    def data(name: str) -> Data:
        mine = torch.tensor([p == name for p in part])
        y = (torch.arange(n) % 2).masked_fill(~mine, MISSING)
        return Data(x=x, y=y, ids=torch.tensor(ids), outputs=("even", "odd"), edges=edges)

    return Splits(train=data("train"), test=data("test"), validation=data("validation"))


def small(pairs: list[Pair] = PAIRS) -> Splits:
    """Nodes 0 to 4 are for training, 5 for validation, 6 and 7 for testing."""
    return splits_of(pairs, list(range(0, 80, 10)), ["train"] * 5 + ["validation", "test", "test"])


def solve(splits: Splits, *requests: Mapping[str, Any], base: Path | None = None) -> Parts:
    parts = None
    for request in requests:
        parts = resolve(resolve_request(request), splits, TASK, parts, base)
    assert parts is not None
    return parts


def edges_of(data: Data) -> list[Pair]:
    assert data.edges is not None
    return pairs_of(data.edges)


def pairs_of(edges: torch.Tensor | None) -> list[Pair]:
    assert edges is not None
    return [(int(u), int(v)) for u, v in edges.T.tolist()]


def rows_of(selection: Selection) -> list[int]:
    found: list[int] = selection.index.tolist()
    return found


# -- against sets ------------------------------------------------------------------------------------------------------


class World:
    """A graph as sets of positions; serves requests as a reader of the documentation would."""

    def __init__(self, splits: Splits) -> None:
        self.ids: list[int] = splits.train.ids.tolist()
        self.parts = {
            name: {k for k, y in enumerate(data.y.tolist()) if y != MISSING}
            for name, data in (("train", splits.train), ("test", splits.test), ("validation", splits.validation))
            if data is not None
        }
        self.first = set(edges_of(splits.train))
        self.edges = set(self.first)
        self.annotated = set(self.parts["train"])
        self.zero: set[int] = set()
        self.featureless: set[int] = set()
        self.gone: set[int] = set()
        self.removed: set[Pair] = set()
        self.touched: set[int] = set()

    def pool(self, kind: str) -> list[Any]:
        """What a draw chooses from, in ascending order of ids."""
        if kind == "edges":
            return sorted(self.edges, key=lambda e: sorted((self.ids[e[0]], self.ids[e[1]])))
        return sorted(self.annotated - (self.featureless if kind == "features" else set()), key=lambda k: self.ids[k])

    def chosen(self, request: Mapping[str, Any]) -> str | list[Any] | None:
        """The code of an error, what is chosen, or None where a seed decides."""
        kind = request["kind"]
        if "pairs" in request:
            return self.named_edges(request["pairs"])
        if "ids" in request:
            return self.named_nodes(request["ids"], self.gone | (self.featureless if kind == "features" else set()))
        pool = self.pool(kind)
        if not pool:
            return "empty-forget-set"
        if request["count"] > len(pool):
            return "empty-retain-set"
        if "degree" not in request:
            return None
        degree = Counter(k for edge in self.edges for k in edge)
        sign = -1 if request["degree"] == "highest" else 1
        score = {item: sum(degree[k] for k in (item if kind == "edges" else (item,))) for item in pool}
        return sorted(pool, key=lambda item: sign * score[item])[: request["count"]]

    def named_edges(self, pairs: list[list[int]]) -> str | list[Any]:
        if any(u == v for u, v in pairs):
            return "self-loops"
        if not {i for pair in pairs for i in pair} <= set(self.ids):
            return "unknown-ids"
        found = [tuple(sorted(self.ids.index(i) for i in pair)) for pair in pairs]
        if len(set(found)) < len(found):
            return "duplicate-edges"
        return found if set(found) <= self.edges else "unknown-edges"

    def named_nodes(self, ids: list[int], gone: set[int]) -> str | list[Any]:
        if not set(ids) <= {i for k, i in enumerate(self.ids) if k not in gone}:
            return "unknown-ids"
        return "duplicate-ids" if len(set(ids)) < len(ids) else [self.ids.index(i) for i in ids]

    def refuses(self, request: Mapping[str, Any], chosen: set[Any]) -> str | None:
        if request["kind"] == "nodes" and self.annotated <= chosen:
            return "empty-retain-set"
        if request["kind"] == "nodes" and self.parts["test"] <= self.gone | chosen:
            return "empty-holdout"
        return "empty-retain-set" if request["kind"] == "features" and not set(self.pool("features")) - chosen else None

    def serve(self, request: Mapping[str, Any], chosen: set[Any]) -> set[int]:
        """Annotated nodes that the request touches."""
        kind = request["kind"]
        nodes = {k for edge in chosen for k in edge} if kind == "edges" else chosen
        units = nodes & self.annotated
        lost = chosen if kind == "edges" else {e for e in self.edges if kind == "nodes" and nodes & set(e)}
        self.removed |= lost
        self.edges -= lost
        if kind == "nodes":
            self.gone |= nodes
            self.annotated -= nodes
        if kind == "features":
            self.featureless |= nodes
        if kind == "features" or (kind == "nodes" and request.get("features", True)):
            self.zero |= nodes
        self.touched |= units
        return units


@st.composite
def graphs(draw: st.DrawFn) -> Splits:
    n = draw(st.integers(3, 8))
    pairs = draw(st.lists(st.sampled_from(list(combinations(range(n), 2))), unique=True, max_size=14))
    ids = draw(st.permutations(range(5, 5 + n)))
    rest = draw(st.lists(st.sampled_from(["train", "test", "validation", ""]), min_size=n - 2, max_size=n - 2))
    return splits_of(pairs, list(ids), draw(st.permutations(["train", "test", *rest])))


@st.composite
def requests(draw: st.DrawFn, ids: list[int]) -> dict[str, Any]:
    kind = draw(st.sampled_from(["edges", "nodes", "features"]))
    some = st.sampled_from([*ids, 99])
    few = draw(st.integers(1, 3))
    ways: list[dict[str, Any]] = [
        {"count": few, "seed": draw(st.integers(0, 9))},
        {"count": few, "degree": draw(st.sampled_from(["highest", "lowest"]))},
        {"pairs": draw(st.lists(st.tuples(some, some).map(list), min_size=1, max_size=2))}
        if kind == "edges"
        else {"ids": draw(st.lists(some, min_size=1, max_size=3))},
    ]
    more = {"features": draw(st.booleans())} if kind == "nodes" else {}
    return {"kind": kind, **draw(st.sampled_from(ways)), **more}


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_streams_do_what_sets_do(drawn: st.DataObject) -> None:
    splits = drawn.draw(graphs())
    world, previous = World(splits), None
    for _ in range(drawn.draw(st.integers(1, 5))):
        request = drawn.draw(requests(world.ids))
        if "pairs" in request and world.edges and drawn.draw(st.booleans()):
            u, v = drawn.draw(st.sampled_from(sorted(world.edges)))
            request["pairs"] = [[world.ids[v], world.ids[u]]]
        expected = world.chosen(request)
        parts, problem = attempt(splits, previous, request)
        if problem is not None:
            assert "\n" not in str(problem)
            if expected is not None:
                refused = expected if isinstance(expected, str) else world.refuses(request, set(expected))
                assert problem.code == refused
            elif problem.code != "empty-holdout":  # a draw that takes all there is
                assert problem.code == "empty-retain-set"
                assert request["count"] == len(world.pool(request["kind"]))
            continue
        assert parts is not None
        elements = parts.forget.elements
        assert elements is not None
        chosen = pairs_of(elements) if request["kind"] == "edges" else elements[0].tolist()
        if expected is None:
            assert len(chosen) == request["count"]
            assert set(chosen) <= set(world.pool(request["kind"]))
        else:
            assert not isinstance(expected, str), f"{expected} was expected"
            assert Counter(chosen) == Counter(expected)
        assert world.refuses(request, set(chosen)) is None
        check(world, splits, previous, parts, world.serve(request, set(chosen)))
        previous = parts


def attempt(
    splits: Splits, previous: Parts | None, request: Mapping[str, Any]
) -> tuple[Parts | None, UnlearnBenchError | None]:
    try:
        return resolve(resolve_request(request), splits, TASK, previous), None
    except DataError as problem:
        return None, problem


def check(world: World, splits: Splits, previous: Parts | None, parts: Parts, units: set[int]) -> None:
    before, after = parts.forget.data, parts.retain.data
    assert before is (previous.retain.data if previous else splits.train)
    assert set(rows_of(parts.forget)) == units
    assert len(edges_of(after)) == len(world.edges)
    assert set(edges_of(after)) == world.edges
    assert {k for k, row in enumerate(after.x.tolist()) if row == [0, 0]} == world.zero
    assert rows_of(parts.retain) == sorted(world.annotated)
    assert {k for k, y in enumerate(after.y.tolist()) if y != MISSING} == world.annotated
    measured = parts.measured
    assert rows_of(measured["forget"]) == sorted(world.touched)
    assert rows_of(measured["retain"]) == sorted(world.parts["train"] - world.touched)
    assert rows_of(measured["test"]) == sorted(world.parts["test"] - world.gone)
    assert rows_of(measured["validation"]) == sorted(world.parts["validation"] - world.gone)
    assert rows_of(measured["holdout"]) == rows_of(measured["test"])[: len(world.touched)]
    for name, selection in measured.items():  # on the graph after, with the annotations of the beginning
        source = {"test": splits.test, "holdout": splits.test, "validation": splits.validation}.get(name, splits.train)
        assert source is not None
        assert selection.data.y is source.y
        assert selection.data.x is after.x
        assert selection.data.edges is after.edges
    gone = pairs_of(measured["forget"].elements)
    assert len(gone) == len(world.removed)
    assert set(gone) == world.removed
    never = pairs_of(measured["holdout"].elements)
    n = len(world.ids)
    assert len(set(never)) == len(never) == min(len(gone), n * (n - 1) // 2 - len(world.first))
    assert all(0 <= u < v < n for u, v in never)
    assert world.first.isdisjoint(never)


# -- by degree ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"kind": "nodes", "count": 1, "degree": "highest"}, [0]),
        ({"kind": "nodes", "count": 2, "degree": "highest"}, [0, 1]),  # 1 and 2 have three edges: the lower id
        (
            {"kind": "nodes", "count": 2, "degree": "lowest"},
            [3, 4],
        ),  # 5 and 6 have fewer, but no annotation to train on
        ({"kind": "features", "fraction": 0.6, "degree": "highest"}, [0, 1, 2]),
        ({"kind": "edges", "count": 2, "degree": "highest"}, [(0, 1), (0, 2)]),  # sums 7, 7
        ({"kind": "edges", "count": 3, "degree": "highest"}, [(0, 1), (0, 2), (0, 4)]),  # and 6, as (1, 2) has
        ({"kind": "edges", "count": 1, "degree": "lowest"}, [(4, 5)]),
        ({"kind": "edges", "count": 3, "degree": "lowest"}, [(0, 3), (1, 7), (4, 5)]),  # 5, 5, 3; (2, 7) has 5 too
    ],
)
def test_the_highest_and_lowest_degrees_are_taken_and_ties_go_by_the_ids(
    request_: dict[str, Any], expected: list[Any]
) -> None:
    elements = solve(small(), request_).forget.elements
    assert elements is not None
    assert (pairs_of(elements) if request_["kind"] == "edges" else elements[0].tolist()) == expected


def test_degrees_are_those_that_earlier_requests_left() -> None:
    star = {"kind": "edges", "pairs": [[0, 10], [0, 20], [0, 30]]}
    elements = solve(small(), star, {"kind": "nodes", "count": 1, "degree": "highest"}).forget.elements
    assert elements is not None
    assert elements.tolist() == [[1]]  # 1, 2 and 4 have two edges each now


# -- lists in files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["10,0\n20,70\n", "10 0\n\n20\t70", " 10,  0\r\n20 ,70\r\n"])
def test_edges_are_read_from_files_of_two_numbers_a_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "edges.csv").write_bytes(text.encode())
    parts = solve(small(), {"kind": "edges", "file": "edges.csv"}, base=tmp_path)
    assert pairs_of(parts.forget.elements) == [(0, 1), (2, 7)]
    assert parts.request.digest == solve(small(), {"kind": "edges", "pairs": [[70, 20], [0, 10]]}).request.digest


@pytest.mark.parametrize("kind", ["nodes", "features"])
def test_nodes_are_read_from_files_of_one_number_a_line(tmp_path: Path, kind: str) -> None:
    (tmp_path / "nodes.txt").write_text("40\n10\n", "utf-8")
    parts = solve(small(), {"kind": kind, "file": "nodes.txt"}, base=tmp_path)
    assert parts.request.digest == solve(small(), {"kind": kind, "ids": [10, 40]}).request.digest
    assert rows_of(parts.forget) == [1, 4]


@pytest.mark.parametrize(
    ("kind", "content", "line"),
    [
        ("edges", "0 10\n20\n", "[bad-ids] list: the number of columns changed from 2 to 1 at row 2; two whole"),
        ("edges", "0 10 20\n", "[bad-ids] list: there are lines of 3 numbers; two whole numbers in a line and no head"),
        ("edges", "source,target\n0,10\n", "[bad-ids] list: could not convert string 'source' to int64"),
        ("edges", "0 1.5\n", "[bad-ids] list: could not convert string '1.5' to int64"),
        ("edges", f"0 {10**20}\n", "[bad-ids] list: could not convert string '100000000000000000000'"),
        ("edges", "\n", "[empty-forget-set] list: holds no edges"),
        ("edges", "0 -10\n", "[unknown-ids] list: [-10] are not ids of nodes, which lie in 0 to 70"),
        ("edges", "0 10\n10 0\n", "[duplicate-edges] list: [[10, 0]] are named more than once"),
        ("edges", None, "[missing-file] $.request.file: cannot read list: No such file or directory"),
        ("nodes", "10 a\n", "[bad-ids] list: invalid literal for int() with base 10: 'a'; one whole number in a line"),
        ("nodes", " \n", "[empty-forget-set] list: holds no ids"),
        ("nodes", f"{10**20}", "[unknown-ids] list: a number is too large for an id"),
        ("nodes", "10\n10", "[duplicate-ids] list: [10] are named more than once"),
    ],
)
def test_a_bad_list_is_refused_in_one_line(tmp_path: Path, kind: str, content: str | None, line: str) -> None:
    if content is not None:
        (tmp_path / "list").write_text(content, "utf-8")
    with pytest.raises(DataError) as caught:
        solve(small(), {"kind": kind, "file": "list"}, base=tmp_path)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


# -- what is refused ---------------------------------------------------------------------------------------------------

FIRST = {"kind": "edges", "pairs": [[0, 10]]}
NODE = {"kind": "nodes", "ids": [0]}


@pytest.mark.parametrize(
    ("stream", "line"),
    [
        (
            [{"kind": "edges", "pairs": [[30, 30]]}],
            "[self-loops] $.request.pairs: [[30, 30]] lead from a node to itself",
        ),
        (
            [{"kind": "edges", "pairs": [[0, 10], [20, 10], [10, 0]]}],
            "[duplicate-edges] $.request.pairs: [[10, 0]] are named more than once",
        ),
        (
            [{"kind": "edges", "pairs": [[0, 10], [0, 50]]}],
            "[unknown-edges] $.request.pairs: [[0, 50]] are not edges of the graph",
        ),
        (
            [{"kind": "edges", "pairs": [[0, 80]]}],
            "[unknown-ids] $.request.pairs: [80] are not ids of nodes, which lie in 0 to 70",
        ),
        ([FIRST, FIRST], "[unknown-edges] $.request.pairs: [[0, 10]] are not edges"),
        ([NODE, FIRST], "[unknown-edges] $.request.pairs: [[0, 10]] are not edges"),
        ([NODE, NODE], "[unknown-ids] $.request.ids: [0] were taken away by an earlier request"),
        ([NODE, {"kind": "features", "ids": [10, 0]}], "[unknown-ids] $.request.ids: [0] were taken away by an"),
        ([{"kind": "features", "ids": [0]}] * 2, "[unknown-ids] $.request.ids: [0] were taken away by an earlier"),
        ([{"kind": "nodes", "ids": [10, 10]}], "[duplicate-ids] $.request.ids: [10] are named more than once"),
        ([{"kind": "features", "ids": [3]}], "[unknown-ids] $.request.ids: [3] are not ids of nodes"),
        ([{"kind": "nodes", "count": 5}], "[empty-retain-set] $.request: takes every annotated node away"),
        ([{"kind": "nodes", "count": 6}], "[empty-retain-set] $.request: asks for 6 of 5 nodes"),
        ([{"kind": "nodes", "ids": [0, 10, 20, 30, 40]}], "[empty-retain-set] $.request: takes every annotated"),
        ([{"kind": "nodes", "ids": [60, 70]}], "[empty-holdout] $.request: takes every test node away"),
        ([{"kind": "features", "count": 5}], "[empty-retain-set] $.request: takes the features of every annotated"),
        ([{"kind": "edges", "count": 9}], "[empty-retain-set] $.request: asks for 9 of 8 edges"),
        (
            [{"kind": "edges", "count": 8}, {"kind": "edges", "fraction": 0.5}],
            "[empty-forget-set] $.request: there are no edges left to forget",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(stream: list[dict[str, Any]], line: str) -> None:
    splits = small()
    with pytest.raises(DataError) as caught:
        solve(splits, *stream)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
    if len(stream) > 1:
        solve(splits, *stream[:-1])  # those before it can be served


def test_only_requests_on_the_graph_follow_each_other() -> None:
    samples = {"kind": "samples", "count": 1}
    for stream in ([samples, FIRST], [FIRST, samples]):
        with pytest.raises(
            UsageError, match=r"^\[bad-request\] \$\.request\.kind: .* can follow each other on a graph"
        ):
            solve(small(), *stream)
    solve(small(), samples, {**samples, "seed": 1})
    no_graph = replace(small().train, edges=None)
    with pytest.raises(UnlearnBenchError, match="nodes needs a graph"):
        solve(Splits(train=no_graph, test=no_graph), NODE)


def test_the_last_edge_of_a_graph_may_go() -> None:
    parts = solve(small(), {"kind": "edges", "count": 8})
    assert edges_of(parts.retain.data) == []
    assert rows_of(parts.retain) == [0, 1, 2, 3, 4]
    assert len(pairs_of(parts.measured["forget"].elements)) == len(PAIRS)


# -- features, and what is shared --------------------------------------------------------------------------------------


def test_a_forgotten_node_may_leave_its_features() -> None:
    splits = small()
    with_features, without = solve(splits, NODE), solve(splits, {**NODE, "features": False})
    assert with_features.retain.data.x[0].tolist() == [0, 0]
    assert without.retain.data.x is splits.train.x
    for parts in (with_features, without):
        assert edges_of(parts.retain.data) == [(1, 2), (1, 7), (2, 7), (4, 5)]
        assert int(parts.retain.data.y[0]) == MISSING
    assert with_features.request.digest != without.request.digest
    features = solve(splits, {"kind": "features", "ids": [0]})
    assert torch.equal(features.retain.data.x, with_features.retain.data.x)
    assert features.retain.data.edges is splits.train.edges
    assert features.retain.data.y is splits.train.y
    assert features.request.digest not in (with_features.request.digest, without.request.digest)


def test_what_stays_the_same_is_shared_and_has_the_digest_of_data_made_anew() -> None:
    splits = small()
    parts = solve(splits, FIRST, {"kind": "edges", "count": 2}, {**NODE, "features": False}, NODE | {"ids": [20]})
    assert solve(splits, FIRST).retain.data.x is splits.train.x
    for selection in (parts.retain, parts.forget, *parts.measured.values()):
        data = selection.data
        assert data.edges is not None
        anew = Data(x=data.x.clone(), y=data.y.clone(), ids=data.ids, outputs=data.outputs, edges=data.edges.clone())
        assert data.digest() == anew.digest()
    assert len({s.data.digest() for s in (parts.retain, parts.forget, *parts.measured.values())}) == 5


def test_every_column_of_a_graph_counts_in_its_digest() -> None:
    data = small().train
    assert data.edges is not None
    others = [
        data.changed(x=data.x + 1),
        data.changed(y=data.y.flip(0)),
        data.changed(edges=data.edges[:, 1:]),
        replace(data, ids=data.ids + 1),
        replace(data, outputs=("a", "b")),
        replace(data, columns={"site": data.y}),
        data.changed(x=data.x.double()),
        data.changed(edges=data.edges.flip(0)),
        replace(data, edges=None),
    ]
    assert len({data.digest(), *(other.digest() for other in others)}) == len(others) + 1
    assert replace(data, edges=None).changed(edges=data.edges).digest() == data.digest()
    with pytest.raises(DataError, match="8 nodes"):
        data.changed(x=data.x[:3])


def test_digests_of_tables_and_of_rows_that_are_graphs_are_what_they_were() -> None:
    table = Data(
        x=torch.arange(12.0).reshape(4, 3),
        y=torch.tensor([0, 1, 1, -100]),
        ids=torch.tensor([10, 11, 12, 13]),
        outputs=("a", "b"),
        columns={"site": torch.tensor([0, 1, 0, 1])},
        values={"site": ("n", "s")},
    )
    assert table.digest() == "98c7bb194bfa77218f7adb4870172cc315e84b52e304cb6151703cbb3b223557"
    packed = Graphs(
        torch.arange(12.0).reshape(6, 2),
        torch.tensor([[0, 1, 2, 0], [1, 2, 0, 1]]),
        torch.tensor([3, 1, 2]),
        torch.tensor([3, 0, 1]),
    )
    rows = Data(
        x=torch.arange(3), y=torch.tensor([0, 1, 0]), ids=torch.tensor([7, 8, 9]), outputs=("a", "b"), graphs=packed
    )
    assert rows.digest() == "9bdaeab2b45e4d458aa14aef81812e31c1fa455e7443d88999631f3782c24b79"


def test_a_long_stream_hashes_the_features_once() -> None:
    n = 1000
    wide = torch.ones(n, 20_000)  # 80 MB
    pairs = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    train = Data(x=wide, y=torch.zeros(n, dtype=torch.int64), ids=torch.arange(n), outputs=("a",), edges=pairs)
    start = process_time()
    train.digest()
    once = process_time() - start
    start = process_time()
    parts, splits = None, Splits(train=train, test=train)
    for seed in range(40):
        parts = resolve({"kind": "edges", "count": 1, "seed": seed}, splits, TASK, parts)
        for selection in (parts.retain, parts.forget, *parts.measured.values()):
            selection.view("any").digest()
    assert process_time() - start < 20 * once + 1


# -- pairs that were never edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [8, 40])  # few pairs, all of them looked at; and many
def test_pairs_that_were_never_edges_are_drawn_evenly(nodes: int) -> None:
    edges = torch.tensor(PAIRS).T
    free = set(combinations(range(nodes), 2)) - set(PAIRS)
    rounds, wanted = 4000, 10
    found: Counter[Pair] = Counter()
    for seed in range(rounds):
        pairs = pairs_of(never_edges(edges, nodes, wanted, generator(seed)))
        assert len(set(pairs)) == wanted
        found.update(pairs)
    assert set(found) == free
    mean = rounds * wanted / len(free)
    spread = (mean * (1 - wanted / len(free))) ** 0.5  # of a binomial count
    assert max(abs(count - mean) for count in found.values()) < 5 * spread


def test_a_nearly_complete_graph_has_fewer_such_pairs() -> None:
    every = torch.triu_indices(30, 30, 1)
    assert pairs_of(never_edges(every[:, 3:], 30, 400, generator(0))) == pairs_of(every[:, :3])
    assert never_edges(every, 30, 5, generator(0)).shape == (2, 0)


def test_such_pairs_are_drawn_by_the_seed_of_the_request() -> None:
    def never(seed: int) -> list[Pair]:
        parts = solve(small(), {"kind": "edges", "count": 4, "seed": seed})
        return pairs_of(parts.measured["holdout"].elements)

    assert never(0) == never(0)
    assert len({tuple(never(seed)) for seed in range(8)}) > 4


# -- validation --------------------------------------------------------------------------------------------------------


def test_validation_nodes_of_a_graph_are_drawn_from_those_that_have_an_annotation() -> None:
    splits = replace(small(), validation=None)
    for seed in range(20):
        carved = carve_validation(splits, 0.4, seed, TASK)
        assert carved.validation is not None
        held, kept = (
            {k for k, y in enumerate(d.y.tolist()) if y != MISSING} for d in (carved.validation, carved.train)
        )
        assert len(held) == 2
        assert held | kept == {0, 1, 2, 3, 4}
        assert not held & kept
        assert carved.validation.x is carved.train.x is splits.train.x
