"""Propagated features that follow a graph, against dense matrices."""

from __future__ import annotations

import gc
import json
import os
import tempfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench_scalegun.propagation import Propagation, graph_checksum, propagate

SGC = (0.0, 0.0, 1.0)
SCHEDULES = {"sgc": SGC, "decay": (0.1, 0.09, 0.081), "average": (1 / 3, 1 / 3, 1 / 3), "heterophily": (1.0, -1.0, 1.0)}
Array = NDArray[Any]


class Toy(NamedTuple):
    """A graph with features."""

    x: Array
    edges: Array

    @property
    def n(self) -> int:
        return len(self.x)


def dense(toy: Toy, weights: Sequence[float] = SGC) -> Array:
    """sum over l of w_l P^l x from the definition."""
    adjacency = np.eye(toy.n)
    adjacency[toy.edges[0], toy.edges[1]] = adjacency[toy.edges[1], toy.edges[0]] = 1
    root = np.sqrt(adjacency.sum(1))
    walk = adjacency / root[:, None] / root
    return sum(w * np.linalg.matrix_power(walk, level) @ toy.x for level, w in enumerate(weights))


def without(toy: Toy, gone: Array) -> Toy:
    """The toy without some edges."""
    key = toy.edges[0] * toy.n + toy.edges[1]
    low, high = np.sort(gone, 0)
    return toy._replace(edges=toy.edges[:, ~np.isin(key, low * toy.n + high)])


def everything(propagation: Propagation) -> Array:
    return propagation.rows(np.arange(propagation.n))


def largest_break(propagation: Propagation) -> float:
    """By how much the equations between q, r and the level below are broken anywhere, from the edges and the state."""
    tensors, n = propagation.tensors(), propagation.n
    adjacency = np.eye(n)
    adjacency[tuple(propagation.edges)] = adjacency[tuple(propagation.edges[::-1])] = 1
    degree = adjacency.sum(1)[:, None]
    assert np.array_equal(tensors["length"] + 1, degree[:, 0])
    q = [degree * share for share in tensors["share"].astype(float)] + [tensors["final"].astype(float)]
    r = [*tensors["residue"].astype(float), 0]
    wanted = [np.sqrt(degree) * tensors["x"], *(adjacency @ (below / degree) for below in q[:-1])]
    return max(float(np.abs(a + b - c).max()) for a, b, c in zip(q, r, wanted, strict=True))


def largest_residue(propagation: Propagation) -> float:
    return float(np.abs(propagation.tensors()["residue"]).max())


def column_errors(propagation: Propagation, toy: Toy) -> Array:
    return np.abs(everything(propagation) - dense(toy, propagation.level_weights)).sum(0)


@st.composite
def toys(draw: st.DrawFn) -> Toy:
    """Any small graph: isolated nodes, hubs, no edges at all, all of them."""
    n = draw(st.integers(1, 10))
    pairs = [(u, v) for u in range(n) for v in range(u + 1, n)]
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    if n > 2 and draw(st.booleans()):
        kept[: n - 1] = [True] * (n - 1)
    edges = np.array([p for p, keep in zip(pairs, kept, strict=True) if keep], np.int64).reshape(-1, 2).T
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Toy(rng.standard_normal((n, 3)), edges)


def random_toy(n: int = 60, features: int = 5, seed: int = 0) -> Toy:
    """A hub, two isolated nodes and random edges; Gaussian features."""
    rng = np.random.default_rng(seed)
    among = np.triu(rng.random((n, n)) < 0.08, 1)
    among[0, 1:] = rng.random(n - 1) < 0.7
    among[:, -2:] = False
    return Toy(rng.standard_normal((n, features)), np.array(np.nonzero(among)))


def some(toy: Toy, count: int, seed: int = 1) -> Array:
    """Edges of the toy, in random order."""
    return toy.edges[:, np.random.default_rng(seed).permutation(toy.edges.shape[1])[:count]]


every_schedule = pytest.mark.parametrize("weights", SCHEDULES.values(), ids=SCHEDULES)
SMALL = settings(deadline=None, max_examples=60)


@SMALL
@given(toys(), st.sampled_from([*SCHEDULES.values(), (0.0, 1.0), (0.5, 0.0, 0.0, 2.0)]), st.data())
def test_without_a_threshold_any_batch_of_changes_gives_exact_propagation(
    toy: Toy, weights: tuple[float, ...], data: st.DataObject
) -> None:
    propagation = Propagation.start(toy.x, toy.edges, weights, rmax=0)
    assert np.abs(everything(propagation) - dense(toy, weights)).max() < 1e-12
    now = toy
    for _ in range(3):
        pairs = set(map(tuple, now.edges.T.tolist()))
        others = {(u, v) for u in range(toy.n) for v in range(u + 1, toy.n)} - pairs
        gone = data.draw(st.sets(st.sampled_from(sorted(pairs))) if pairs else st.just(set()))
        come = data.draw(st.sets(st.sampled_from(sorted(others))) if others else st.just(set()))
        nodes = data.draw(st.lists(st.integers(0, toy.n - 1), unique=True, max_size=2))
        values = np.random.default_rng(len(gone)).standard_normal((len(nodes), 3))
        remove, add = (np.array(sorted(side), np.int64).reshape(-1, 2).T for side in (gone, come))
        before = everything(propagation)
        changed = propagation.update(remove=remove, add=add, features=(nodes, values))
        x = now.x.copy()
        x[nodes] = values
        now = Toy(x, np.array(sorted(pairs - gone | come), np.int64).reshape(-1, 2).T)
        after = everything(propagation)
        assert np.abs(after - dense(now, weights)).max() < 1e-12
        assert largest_residue(propagation) == 0
        assert largest_break(propagation) < 1e-12
        assert np.array_equal(changed, np.unique(changed))
        assert np.isin(np.nonzero((before != after).any(1))[0], changed).all()


@SMALL
@given(toys(), st.sampled_from(list(SCHEDULES.values())), st.sampled_from([0.0, 1e-3, 0.05, 0.5]), st.booleans())
def test_equations_threshold_and_bound_hold_in_every_state(
    toy: Toy, weights: tuple[float, ...], rmax: float, pushed: bool
) -> None:
    propagation = Propagation.start(toy.x, toy.edges, weights, rmax=rmax, how="push" if pushed else "exact")
    assert propagation.rmax == pytest.approx(rmax * np.abs(toy.x).sum(0).mean())
    states = [toy]
    gone = toy.edges[:, ::2]
    for step in range(4):
        now = states[-1]
        assert largest_break(propagation) < 1e-12
        assert largest_residue(propagation) <= propagation.rmax
        assert (column_errors(propagation, now) <= propagation.error() + 1e-14).all()
        if step == 0:
            propagation.update(remove=gone)
            states.append(without(now, gone))
        elif step == 1:
            propagation.update(add=gone)
            states.append(toy)
        elif step == 2:
            propagation.remove_nodes(np.arange(toy.n), features=False)
            states.append(without(toy, toy.edges))


@pytest.mark.parametrize("rmax", [0.0, 1e-4, 1e-2])
@every_schedule
def test_both_starts_agree_within_the_bound_of_the_push(weights: tuple[float, ...], rmax: float) -> None:
    toy = random_toy()
    exact = Propagation.start(toy.x, toy.edges, weights, rmax=rmax)
    pushed = Propagation.start(toy.x, toy.edges, weights, rmax=rmax, how="push")
    assert not exact.tensors()["residue"].any()
    apart = np.abs(everything(exact) - everything(pushed)).sum(0)
    assert (apart <= exact.error() + pushed.error()).all()
    assert (exact.error() < 1e-10).all()
    if rmax == 1e-2:
        assert (apart > 1e-6).all()
    if rmax == 0:
        assert apart.max() < 1e-11


def test_a_push_leaves_nothing_above_the_threshold_and_moves_nothing_below_it() -> None:
    toy = Toy(np.array([[1.0], [0.01], [0.0]]), np.array([[0, 1], [1, 2]]))
    propagation = Propagation.start(toy.x, toy.edges, (0.0, 1.0), rmax=0.1 / 1.01, how="push")
    assert propagation.rmax == pytest.approx(0.1)
    root = np.sqrt([2, 3])
    assert propagation.tensors()["residue"][0, :, 0] == pytest.approx([0, 0.01 * root[1], 0])
    assert everything(propagation)[:, 0] == pytest.approx([1 / 2, 1 / root[0] / root[1], 0])
    assert propagation.error() == pytest.approx([0.01 * root[1]])


def test_removing_every_edge_at_once_or_one_by_one_leaves_the_features() -> None:
    toy = random_toy()
    at_once = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    at_once.update(remove=toy.edges)
    one_by_one = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    for edge in some(toy, toy.edges.shape[1]).T:
        one_by_one.update(remove=edge[:, None])
    for propagation in (at_once, one_by_one):
        assert propagation.m == 0
        assert propagation.checksum() == graph_checksum(toy.n, np.zeros((2, 0), int))
        assert np.abs(everything(propagation) - toy.x).max() < 1e-12


@pytest.mark.parametrize("rmax", [1e-4, 1e-3, 1e-2])
@every_schedule
def test_a_batch_and_its_edges_one_by_one_agree_within_twice_the_bound(weights: tuple[float, ...], rmax: float) -> None:
    toy = random_toy()
    gone = some(toy, 40)
    batch = Propagation.start(toy.x, toy.edges, weights, rmax=rmax)
    single = Propagation.start(toy.x, toy.edges, weights, rmax=rmax)
    batch.update(remove=gone)
    for edge in gone.T:
        single.update(remove=edge[:, None])
    apart = np.abs(everything(batch) - everything(single)).sum(0)
    assert (apart <= 2 * np.maximum(batch.error(), single.error())).all()
    assert apart.max() > 0
    for propagation in (batch, single):
        assert (column_errors(propagation, without(toy, gone)) <= propagation.error()).all()


def test_without_a_threshold_the_order_of_removals_does_not_matter() -> None:
    toy = random_toy()
    gone = some(toy, 30)
    results = []
    for order in (gone, gone[:, ::-1], gone[::-1]):
        propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
        for edge in order.T:
            propagation.update(remove=edge[:, None])
        results.append(everything(propagation))
    assert max(np.abs(other - results[0]).max() for other in results[1:]) < 1e-12


@every_schedule
def test_what_is_removed_and_inserted_again_is_as_it_was(weights: tuple[float, ...]) -> None:
    toy = random_toy()
    propagation = Propagation.start(toy.x, toy.edges, weights, rmax=0)
    before, checksum = everything(propagation), propagation.checksum()
    gone = some(toy, 50)
    propagation.update(remove=gone)
    assert np.abs(everything(propagation) - before).max() > 1e-3
    propagation.update(add=gone)
    assert propagation.checksum() == checksum
    assert np.array_equal(propagation.edges, toy.edges)
    assert np.abs(everything(propagation) - before).max() < 1e-12


@pytest.mark.parametrize("features", [False, True])
def test_nodes_that_go_lose_all_their_edges_and_their_features_if_asked(features: bool) -> None:
    toy = random_toy()
    nodes = np.array([7, 0, toy.n - 1])  # the hub among them, and an isolated node
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    changed = propagation.remove_nodes(nodes, features=features)
    x = toy.x.copy()
    if features:
        x[nodes] = 0
    left = Toy(x, toy.edges[:, ~np.isin(toy.edges, nodes).any(0)])
    assert np.array_equal(propagation.edges, left.edges)
    assert np.abs(everything(propagation) - dense(left)).max() < 1e-12
    assert np.abs(propagation.rows(nodes) - x[nodes]).max() < 1e-12
    assert set(nodes if features else nodes[:2]) <= set(changed.tolist())


def test_an_update_names_only_nodes_within_reach() -> None:
    path = Toy(np.random.default_rng(0).standard_normal((50, 2)), np.array([range(49), range(1, 50)]))
    propagation = Propagation.start(path.x, path.edges, SGC, rmax=0)
    # The degrees of 20 and 21 change, so what they send two steps along does: nodes 18 to 23.
    assert propagation.update(remove=[[20], [21]]).tolist() == [18, 19, 20, 21, 22, 23]
    assert propagation.update(features=([40], [[0.0, 0.0]])).tolist() == [38, 39, 40, 41, 42]
    assert propagation.update().tolist() == []


@pytest.mark.parametrize("how", ["exact", "push"])
@every_schedule
def test_single_precision_stays_within_its_stated_bound(weights: tuple[float, ...], how: Any) -> None:
    toy = random_toy(features=20)
    for rmax in (0.0, 1e-6):
        propagation = Propagation.start(toy.x, toy.edges, weights, rmax=rmax, how=how, precision="float32")
        assert propagation.tensors()["share"].dtype == np.float32
        now = toy
        for edge in some(toy, 40).T:
            assert (column_errors(propagation, now) <= propagation.error()).all()
            propagation.update(remove=edge[:, None])
            now = without(now, edge[:, None])
        propagation.update(add=some(toy, 40))
        errors = column_errors(propagation, toy)
        assert (errors <= propagation.error()).all()
        assert (errors > 1e-9).all(), "single precision must be noticed, or the bound is not tested"
        assert (propagation.error() < 0.1).all()


def test_the_bound_of_double_precision_holds_through_hundreds_of_updates() -> None:
    toy = random_toy()
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=1e-3)
    edges = some(toy, 100)
    for _ in range(2):
        for edge in edges.T:
            propagation.update(remove=edge[:, None])
        assert (column_errors(propagation, without(toy, edges)) <= propagation.error()).all()
        for edge in edges.T:
            propagation.update(add=edge[:, None])
        assert (column_errors(propagation, toy) <= propagation.error()).all()
    waiting = np.abs(propagation.tensors()["residue"]).sum((0, 1))
    assert propagation.error() == pytest.approx(waiting, rel=1e-6)


def test_signed_sums_of_residues_are_no_bound_for_gaussian_features() -> None:
    rng = np.random.default_rng(5)
    n = 2000
    edges = np.unique(np.sort(rng.integers(0, n, (2, 6000)), 0), axis=1)
    toy = Toy(rng.standard_normal((n, 8)), edges[:, edges[0] != edges[1]])
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=2e-4, how="push")
    signed = np.abs(propagation.tensors()["residue"].sum((0, 1)))
    errors = np.abs(everything(propagation) - propagate(toy.x, toy.edges, SGC)).sum(0)
    assert (signed < errors).all()
    assert (errors <= propagation.error()).all()


@pytest.mark.parametrize("threads", [2, 3, 50])
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_estimates_do_not_depend_on_the_number_of_threads(threads: int, precision: Any) -> None:
    toy = random_toy(features=9)
    results = []
    for count in (1, threads):
        propagation = Propagation.start(
            toy.x, toy.edges, SGC, rmax=1e-3, how="push", precision=precision, threads=count
        )
        changed = propagation.update(remove=some(toy, 25), features=([3], np.ones((1, 9))))
        results.append((propagation, changed))
    (one, changed), (many, also_changed) = results
    assert np.array_equal(everything(one), everything(many))
    assert np.array_equal(one.tensors()["residue"], many.tensors()["residue"])
    assert np.array_equal(changed, also_changed)
    assert many.error() == pytest.approx(one.error(), rel=1e-9)
    exact = [propagate(toy.x, toy.edges, SGC, precision, count) for count in (1, threads)]
    assert np.array_equal(*exact)


@every_schedule
def test_exact_propagation_is_that_of_dense_matrices_in_both_precisions(weights: tuple[float, ...]) -> None:
    toy = random_toy()
    double, single = (propagate(toy.x, toy.edges, weights, precision) for precision in ("float64", "float32"))
    assert np.abs(double - dense(toy, weights)).max() < 1e-13
    assert single.dtype == np.float32
    assert 0 < np.abs(single - double).max() < 1e-5


def kept(propagation: Propagation, folder: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """The state by way of files."""
    np.savez(folder / "state.npz", **propagation.tensors())
    (folder / "meta.json").write_text(json.dumps(propagation.meta))
    with np.load(folder / "state.npz") as arrays:
        return dict(arrays), json.loads((folder / "meta.json").read_text())


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_kept_state_goes_on_to_the_same_numbers(tmp_path: Path, precision: Any) -> None:
    toy = random_toy()
    first, second = some(toy, 60)[:, :30], some(toy, 60)[:, 30:]
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=1e-3, precision=precision)
    propagation.update(remove=first)
    propagation.update(add=first[:, :20])  # rows move
    resumed = Propagation.resume(*kept(propagation, tmp_path))
    assert resumed.meta == propagation.meta
    for one in (propagation, resumed):
        one.update(remove=second)
        one.update(add=np.concatenate([first[:, 20:], second], 1))
    assert np.array_equal(everything(resumed), everything(propagation))
    assert np.array_equal(resumed.error(), propagation.error())
    assert np.array_equal(resumed.edges, propagation.edges)
    assert (column_errors(resumed, toy) <= resumed.error()).all()


def test_a_state_is_given_and_taken_without_copies() -> None:
    toy = random_toy()
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    tensors = propagation.tensors()
    resumed = Propagation.resume(tensors, propagation.meta)
    for name, array in resumed.tensors().items():
        assert np.shares_memory(array, tensors[name]), name
        assert np.shares_memory(array, propagation.tensors()[name]), name


def test_a_state_that_may_not_be_written_is_copied() -> None:
    toy = random_toy()
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    frozen = {name: array.copy() for name, array in propagation.tensors().items()}
    for array in frozen.values():
        array.setflags(write=False)
    resumed = Propagation.resume(frozen, propagation.meta)
    resumed.update(remove=toy.edges)
    assert np.abs(everything(resumed) - toy.x).max() < 1e-12
    assert np.array_equal(frozen["length"], propagation.tensors()["length"])


def spoilt(toy: Toy, what: str) -> tuple[dict[str, Array], dict[str, Any]]:
    propagation = Propagation.start(toy.x, toy.edges, SGC, rmax=0)
    tensors = {name: array.copy() for name, array in propagation.tensors().items()}
    meta = propagation.meta
    if what == "another graph":
        tensors |= Propagation.start(toy.x, toy.edges[:, 1:], SGC, rmax=0).tensors()
    elif what == "a changed neighbour":
        tensors["neighbours"][0] = toy.n - 1
    elif what == "a neighbour that is no node":
        tensors["neighbours"][0] = toy.n
    elif what == "a row beyond the end":
        tensors["offset"][0] = len(tensors["neighbours"])
    elif what == "a length that is too large":
        tensors["length"][0] += 1
    elif what == "another checksum":
        meta["checksum"] = graph_checksum(toy.n, toy.edges[:, 1:])
    elif what == "no residues":
        del tensors["residue"]
    elif what == "no threshold":
        del meta["rmax"]
    elif what == "another precision":
        tensors["share"] = tensors["share"].astype(np.float32)
    elif what == "fewer columns":
        tensors["final"] = tensors["final"][:, 1:]
    elif what == "fewer levels":
        meta["level_weights"] = [0.0, 1.0]
    return tensors, meta


@pytest.mark.parametrize(
    "what",
    [
        "another graph", "a changed neighbour", "a neighbour that is no node", "a row beyond the end",
        "a length that is too large", "another checksum", "no residues", "no threshold", "another precision",
        "fewer columns", "fewer levels",
    ],
)  # fmt: skip
def test_a_state_that_is_not_whole_or_belongs_to_another_graph_is_refused(what: str) -> None:
    tensors, meta = spoilt(random_toy(), what)
    with pytest.raises(DataError, match=r"^[^\n]+$") as refused:
        Propagation.resume(tensors, meta)
    assert refused.value.code == "wrong-state"


def test_a_state_on_disk_holds_the_same_bits_and_its_files_go_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    toy = random_toy()
    both = [Propagation.start(toy.x, toy.edges, SGC, rmax=1e-3, how="push", memory=m) for m in ("ram", "disk")]  # type: ignore[arg-type]
    folders = list(tmp_path.iterdir())
    assert len(folders) == 1
    assert sum(file.stat().st_size for file in folders[0].iterdir()) >= both[0].tensors()["share"].nbytes
    for propagation in both:
        propagation.update(remove=some(toy, 30))
        propagation.update(add=some(toy, 15))  # rows move to a longer file
    in_ram, on_disk = (propagation.tensors() for propagation in both)
    for name, array in in_ram.items():
        assert np.array_equal(array, on_disk[name]), name
    assert np.array_equal(everything(both[0]), everything(both[1]))
    del on_disk, both, propagation
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_start_on_disk_that_is_refused_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    toy = random_toy()
    with pytest.raises(DataError, match="duplicate-edges"):
        Propagation.start(toy.x, np.concatenate([toy.edges] * 2, 1), SGC, rmax=0, memory="disk")
    assert not list(tmp_path.iterdir())


def test_an_update_takes_no_memory_in_proportion_to_the_graph() -> None:
    n = 200_000
    path = np.array([np.arange(n - 1), np.arange(1, n)])
    propagation = Propagation.start(np.ones((n, 2)), path, SGC, rmax=0)
    propagation.update(remove=path[:, :1])
    tracemalloc.start()
    try:
        propagation.update(remove=path[:, 1000:1003])
        propagation.remove_nodes([5000], features=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n / 2


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        ({"remove": [[0], [2]]}, "unknown-edges", "0-2"),
        ({"remove": [[1, 0], [0, 1]]}, "duplicate-edges", "0-1"),
        ({"remove": [[1], [1]]}, "self-loops", "1-1"),
        ({"remove": [[0], [4]]}, "unknown-nodes", "0-4"),
        ({"add": [[1], [0]]}, "duplicate-edges", "0-1"),
        ({"add": [[0, 2], [2, 0]]}, "duplicate-edges", "0-2"),
        ({"add": [[3], [3]]}, "self-loops", "3-3"),
        ({"remove": [[0], [1]], "add": [[0], [1]]}, "duplicate-edges", "0-1"),
        ({"features": ([4], [[0.0]])}, "unknown-nodes", "4"),
        ({"features": ([-1], [[0.0]])}, "unknown-nodes", "-1"),
        ({"features": ([1, 1], [[0.0], [1.0]])}, "duplicate-nodes", "1"),
        ({"features": ([1], [[0.0, 1.0]])}, "bad-data", "[1, 2]"),
        ({"features": ([1], [[np.nan]])}, "missing-values", "finite"),
        ({"features": ([0.5], [[1.0]])}, "bad-data", "float64"),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_name_and_leaves_everything_as_it_was(
    change: dict[str, Any], code: str, named: str
) -> None:
    propagation = Propagation.start(np.arange(4.0)[:, None], [[0, 1], [1, 2]], SGC, rmax=0)
    before = {name: array.copy() for name, array in propagation.tensors().items()}
    with pytest.raises(DataError, match=r"^[^\n]+$") as refused:
        propagation.update(**change)
    assert refused.value.code == code
    assert named in refused.value.message
    assert all(np.array_equal(array, before[name]) for name, array in propagation.tensors().items())


def test_five_of_many_unknown_edges_are_named() -> None:
    propagation = Propagation.start(np.ones((9, 1)), [[0], [1]], SGC, rmax=0)
    with pytest.raises(DataError, match=r"unknown-edges.* 0-2, 0-3, 0-4, 0-5, 0-6 are not"):
        propagation.update(remove=[[0] * 7, [2, 3, 4, 5, 6, 7, 8]])


def test_nodes_that_go_are_refused_when_they_are_named_twice_or_are_none() -> None:
    propagation = Propagation.start(np.ones((3, 1)), [[0], [1]], SGC, rmax=0)
    with pytest.raises(DataError, match=r"duplicate-nodes.*\[1\]"):
        propagation.remove_nodes([1, 0, 1], features=False)
    with pytest.raises(DataError, match=r"unknown-nodes.*\[3\]"):
        propagation.rows([3])


@pytest.mark.parametrize(
    ("other", "error", "code"),
    [
        ({"x": np.full((3, 1), np.inf)}, DataError, "missing-values"),
        ({"x": np.full((3, 1), 1e39), "precision": "float32"}, DataError, "missing-values"),
        ({"x": np.ones(3)}, DataError, "bad-data"),
        ({"x": np.ones((3, 1), complex)}, DataError, "bad-data"),
        ({"x": np.ones((0, 2))}, DataError, "bad-data"),
        ({"rmax": -1e-7}, UsageError, "bad-parameter"),
        ({"rmax": np.nan}, UsageError, "bad-parameter"),
        ({"level_weights": (1.0,)}, UsageError, "bad-parameter"),
        ({"level_weights": (0.0, np.inf)}, UsageError, "bad-parameter"),
        ({"precision": "float16"}, UsageError, "bad-parameter"),
        ({"how": "guess"}, UsageError, "bad-parameter"),
        ({"memory": "tape"}, UsageError, "bad-parameter"),
        ({"threads": 0}, UsageError, "bad-parameter"),
    ],
)
def test_a_start_that_cannot_be_is_refused(other: dict[str, Any], error: type[Exception], code: str) -> None:
    right = {"x": np.ones((3, 1)), "edges": [[0], [1]], "level_weights": SGC, "rmax": 0.0}
    with pytest.raises(error, match=rf"^\[{code}\][^\n]+$"):
        Propagation.start(**(right | other))


@pytest.fixture(scope="module")
def cora() -> Toy:
    """Cora with features scaled as the authors scale them: standardised, then divided by the longest row."""
    path = Path(os.environ.get("UNLEARNBENCH_DATA", "")) / "cora" / "cora.npz"
    if "UNLEARNBENCH_DATA" not in os.environ or not path.is_file():
        pytest.skip("needs cora/cora.npz in the folder that UNLEARNBENCH_DATA names")
    with np.load(path) as stored:
        x = np.zeros(stored["x_shape"], np.float32)
        x[stored["x_row"], stored["x_col"]] = stored["x_val"]
        edges = stored["edges"].T.astype(np.int64)
    scaled = StandardScaler().fit_transform(x)
    return Toy((scaled / np.linalg.norm(scaled, axis=1).max()).astype(np.float64), edges)


def test_the_threshold_on_cora_is_that_of_the_authors(cora: Toy) -> None:
    assert np.abs(cora.x).sum(0).mean() == pytest.approx(7.60194, abs=5e-6)
    propagation = Propagation.start(cora.x[:, :16], cora.edges, SGC, rmax=1e-7)
    assert propagation.rmax == pytest.approx(1e-7 * np.abs(cora.x[:, :16]).sum(0).mean(), rel=1e-12)


def test_cora_after_removal_of_edges_nodes_and_features_is_exact_or_within_the_bound(cora: Toy) -> None:
    narrow = cora._replace(x=np.ascontiguousarray(cora.x[:, :48]))
    gone = some(narrow, 200)
    nodes = np.random.default_rng(3).permutation(cora.n)[:20]
    rest = without(narrow, gone)
    x = narrow.x.copy()
    x[nodes] = 0
    left = Toy(x, rest.edges[:, ~np.isin(rest.edges, nodes).any(0)])
    wanted = propagate(left.x, left.edges, SGC)
    for rmax in (0.0, 1e-7, 1e-5):
        propagation = Propagation.start(narrow.x, narrow.edges, SGC, rmax=rmax)
        for first in range(0, 200, 20):
            propagation.update(remove=gone[:, first : first + 20])
        propagation.remove_nodes(nodes, features=True)
        apart = np.abs(everything(propagation) - wanted)
        assert (apart.sum(0) <= propagation.error()).all()
        assert largest_residue(propagation) <= propagation.rmax
        assert apart.max() < 1e-12 or rmax
    assert propagation.checksum() == graph_checksum(left.n, left.edges)


def test_edges_of_cora_come_and_go_and_leave_exact_propagation(cora: Toy) -> None:
    narrow = cora._replace(x=np.ascontiguousarray(cora.x[:, :8]))
    propagation = Propagation.start(narrow.x, narrow.edges, SCHEDULES["decay"], rmax=0)
    before = everything(propagation)
    for seed in range(5):
        gone = some(narrow, 400, seed)
        propagation.update(remove=gone)
        propagation.update(add=gone)
    assert np.abs(before - propagate(narrow.x, narrow.edges, SCHEDULES["decay"])).max() < 1e-14
    assert np.abs(everything(propagation) - before).max() < 1e-12
