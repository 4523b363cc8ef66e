"""The linear method from training to the last request of a stream, on Cora and on small graphs."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from scalegun_support import Line, Stream, communities, copy_of, cora, cora_test, edges_of, line, view, without
from torch import Tensor, nn

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, Data, NodeClassification, Request, Served, UnlearnJob, propagated
from unlearnbench_scalegun.method import ScaleGun
from unlearnbench_scalegun.plugin import ScaleGunParams

NEVER = 1e9
"""An epsilon that no bound passes."""
SCHEDULES = {"sgc": (0.0, 0.0, 1.0), "decay": (0.1, 0.09, 0.081), "heterophily": (1.0, -1.0, 1.0)}

torch.set_num_threads(1)


def terms(served: Served, name: str) -> Tensor:
    return torch.tensor(served.certificate["terms"][name], dtype=torch.float64)


def assert_sound(stream: Stream, served: Served) -> Tensor:
    """The truth, which no class's bound is below."""
    truth = stream.truth()
    for name in ("direct", "paper"):
        assert (truth <= terms(served, name)).all(), (name, truth, terms(served, name))
    return truth


# -- which models -----------------------------------------------------------------------------------------------------


def test_networks_that_it_cannot_serve_are_refused_with_the_reason() -> None:
    method, task = ScaleGun(ScaleGunParams()), NodeClassification()
    fine = Line(4, 2, (0.0, 1.0), torch.float64)
    assert method.check(fine, task) is None
    assert "does not propagate before" in (method.check(nn.Linear(4, 2), task) or "")
    for head, why in ((nn.Sequential(nn.Linear(4, 2)), "not Sequential"), (nn.Linear(4, 2), "offset")):
        other = Line(4, 2, (0.0, 1.0), torch.float64)
        other.head = head
        assert why in (method.check(other, task) or "")
    fine.level_weights = (1.0,)
    assert "does not propagate at all" in (method.check(fine, task) or "")


# -- training ---------------------------------------------------------------------------------------------------------


def test_on_cora_training_reaches_the_optimum_and_its_noise_has_deviation_alpha() -> None:
    stream = Stream(cora(), ScaleGunParams(alpha=0.2))
    assert float(stream.truth(stream.original).max()) < 1e-10
    assert float(stream.state.tensors["noise"].std()) == pytest.approx(0.2, rel=0.03)
    assert float(stream.state.tensors["training"].max()) < 1e-10


def test_a_tolerance_that_double_precision_does_not_reach_is_refused() -> None:
    with pytest.raises(UsageError, match="not-converged"):
        Stream(communities(), ScaleGunParams(tolerance=1e-30))


def test_gold_has_the_noise_of_the_original_and_another_seed_another() -> None:
    data = communities()
    one, again, other = Stream(data), Stream(data), Stream(data, seed=1)
    assert torch.equal(one.state.tensors["noise"], again.state.tensors["noise"])
    assert not torch.equal(one.state.tensors["noise"], other.state.tensors["noise"])
    gold = one.train(without(data, "edges", edges_of(data)[:, :3]))
    assert gold.state is not None
    assert torch.equal(gold.state.tensors["noise"], one.state.tensors["noise"])


# -- requests on Cora -------------------------------------------------------------------------------------------------


def test_a_hundred_edges_leave_cora_cost_no_accuracy_and_no_retraining_and_every_bound_holds() -> None:
    stream = Stream(cora())
    nodes, y = cora_test()

    def accuracy() -> float:
        return float((stream.model(stream.now.x, stream.now.edges)[nodes].argmax(1) == y).double().mean())

    before = accuracy()
    assert before > 0.8
    for step in range(100):
        served = stream.serve("edges", 1)
        assert served.certificate["retrains"] == 0
        assert served.certificate["value"] < served.certificate["budget"] == pytest.approx(0.159621, abs=1e-6)
        if step % 10 == 9 or step < 3:
            truth = assert_sound(stream, served)
            assert float(truth.sum()) <= served.certificate["value"]
    assert abs(accuracy() - before) <= 0.01
    assert served.certificate["removed"] == {"edges": 100, "nodes": 0, "features": 0}
    assert served.certificate["terms"]["worst_case"] > 1e5  # why nobody retrains by it


@pytest.mark.parametrize(
    "how",
    [
        {"rmax": 0.0},
        {"rmax": 1e-4},
        {"rmax": 1e-3, "start": "push"},
        {"rmax": 1e-6, "precision": "float32"},
    ],
    ids=str,
)
def test_bounds_hold_on_cora_whatever_leaves_and_however_propagation_is_kept(how: dict[str, Any]) -> None:
    stream = Stream(cora(), ScaleGunParams(epsilon=NEVER, **how))
    requests = [
        ("edges", 5, False),
        ("nodes", 4, False),
        ("features", 4, False),
        ("nodes", 4, True),
        ("edges", 50, False),
    ]
    for kind, count, keep in requests:
        truth = assert_sound(stream, stream.serve(kind, count, keep_features=keep))
    approximation = terms(stream.served[-1], "approximation")
    if how["rmax"]:
        assert float(approximation.sum()) > 0.5 * float(terms(stream.served[-1], "direct").sum())
        assert float(truth.max()) > 1e-6
    else:
        assert float(approximation.max()) < 1e-8
        assert float(terms(stream.served[-1], "direct").max()) < 1e-3


def test_on_cora_the_direct_bound_is_far_below_the_papers_when_propagation_is_exact() -> None:
    stream = Stream(cora(), ScaleGunParams(rmax=0.0, epsilon=NEVER))
    for _ in range(10):
        served = stream.serve("edges", 40)
    assert float(terms(served, "direct").sum()) < 0.1 * float(terms(served, "paper").sum())
    assert_sound(stream, served)


# -- requests on small graphs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("rmax", [0.0, 1e-2])
def test_bounds_hold_on_streams_of_all_kinds(seed: int, schedule: tuple[float, ...], rmax: float) -> None:
    p = ScaleGunParams(rmax=rmax, epsilon=NEVER, ridge=0.05)
    stream = Stream(communities(seed), p, levels=schedule, seed=seed)
    for kind, count, keep in [
        ("nodes", 3, True), ("edges", 1, False), ("features", 2, False), ("nodes", 2, False), ("edges", 40, False),
    ]:  # fmt: skip
        assert_sound(stream, stream.serve(kind, count, keep_features=keep))


@pytest.mark.parametrize("kind", ["edges", "nodes", "features"])
def test_the_unlearned_model_is_much_nearer_to_gold_than_the_original(kind: str) -> None:
    stream = Stream(communities(n=300), ScaleGunParams(ridge=0.05))
    stream.serve(kind, 5)
    gold = line(stream.train(stream.now).model)
    before, after = (float((line(model) - gold).norm()) for model in (stream.original, stream.model))
    assert before > 1e-4
    assert after < 0.05 * before


def test_the_kept_rows_are_those_of_exact_propagation_on_the_graph_after() -> None:
    stream = Stream(communities(), ScaleGunParams(rmax=0.0, epsilon=NEVER))
    for kind, keep in [("nodes", True), ("edges", False), ("features", False), ("nodes", False)]:
        stream.serve(kind, 4, keep_features=keep)
        index = (stream.now.y != MISSING).nonzero()[:, 0]
        exact = propagated(stream.now.x.double(), edges_of(stream.now), stream.levels)[index]
        assert torch.equal(stream.state.tensors["rows"], index)
        assert torch.equal(stream.state.tensors["y"], stream.now.y[index])
        assert float((stream.state.tensors["z"] - exact).abs().max()) < 1e-12


def test_without_a_threshold_one_by_one_is_all_at_once() -> None:
    data = communities(n=200)
    elements = edges_of(data)[:, 3:60:7]
    p = ScaleGunParams(rmax=0.0, epsilon=NEVER, ridge=0.05)
    single, batch = Stream(data, p), Stream(data, p)
    for k in range(elements.shape[1]):
        single.serve("edges", elements[:, k : k + 1])
    batch.serve("edges", elements)
    assert torch.equal(edges_of(single.now), edges_of(batch.now))
    assert float((single.state.tensors["z"] - batch.state.tensors["z"]).abs().max()) < 1e-12
    apart = float((line(single.model) - line(batch.model)).norm())
    moved = float((line(single.model) - line(single.original)).norm())
    assert apart < 0.02 * moved  # a Newton step is exact to first order only


def test_neighbours_that_leave_together_leave_once() -> None:
    data = communities()
    stream = Stream(data, ScaleGunParams(rmax=0.0, epsilon=NEVER))
    both = (data.y[edges_of(data)] != MISSING).all(0).nonzero()[0, 0]
    pair = edges_of(data)[:, both][None]
    assert_sound(stream, stream.serve("nodes", pair))
    assert len(stream.state.tensors["rows"]) == int((data.y != MISSING).sum()) - 2


def test_a_node_that_nobody_annotated_can_leave_too() -> None:
    data = communities()
    unknown = (data.y == MISSING).nonzero()[:1].T
    stream = Stream(data, ScaleGunParams(epsilon=NEVER))
    served = stream.serve("nodes", unknown)
    assert_sound(stream, served)
    assert served.certificate["rows"] == int((data.y != MISSING).sum())


def test_a_line_that_came_in_single_precision_is_kept_in_double() -> None:
    stream = Stream(communities(), ScaleGunParams(epsilon=NEVER), dtype=torch.float32)
    for kind in ("edges", "nodes", "features"):
        assert_sound(stream, stream.serve(kind, 2))
    assert {weight.dtype for weight in stream.model.state_dict().values()} == {torch.float64}
    assert float(terms(stream.served[-1], "training").max()) < 1e-9


def test_leaving_out_what_training_left_gives_a_bound_that_the_truth_passes() -> None:
    stream = Stream(communities(n=300), ScaleGunParams(rmax=0.0, tolerance=1.0, epsilon=NEVER))
    served = stream.serve("edges", 1)
    truth = assert_sound(stream, served)
    authors = terms(served, "paper") - terms(served, "training")
    assert float(terms(served, "training").max()) > 1e-3
    assert float(truth.sum()) > float(authors.sum())


# -- retraining -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["direct", "paper"])
@pytest.mark.parametrize("pooling", ["pooled", "per-class", "joint"])
def test_it_trains_anew_exactly_when_the_bound_passes_the_budget(bound: Any, pooling: Any) -> None:
    data = communities()
    p = ScaleGunParams(rmax=1e-3, bound=bound, pooling=pooling)
    elements = edges_of(data)[:, ::9]
    first = Stream(data, replace(p, epsilon=NEVER)).serve("edges", elements).certificate
    epsilon = NEVER * first["value"] / first["budget"]  # budgets grow with epsilon, and values do not depend on it
    within = Stream(data, replace(p, epsilon=epsilon * (1 + 1e-9))).serve("edges", elements).certificate
    assert (within["retrained"], within["retrains"], within["passed"]) == (False, 0, None)
    assert within["holds"]
    beyond = Stream(data, replace(p, epsilon=epsilon * (1 - 1e-9)))
    served = beyond.serve("edges", elements)
    assert (served.certificate["retrained"], served.certificate["retrains"]) == (True, 1)
    assert served.certificate["passed"] == pytest.approx(first["value"])


def test_after_retraining_the_noise_is_new_the_account_is_empty_and_the_stream_goes_on() -> None:
    stream = Stream(communities(), ScaleGunParams(rmax=1e-7, epsilon=0.05, bound="paper"))
    before = stream.state.tensors["noise"].clone()
    flags, noises = [], []
    for _ in range(8):
        served = stream.serve("edges", 1)
        assert_sound(stream, served)
        flags.append(served.certificate["retrained"])
        noises.append(served.proof["noise"])
        if flags[-1]:
            assert float(terms(served, "accumulated").max()) == 0
            assert float(terms(served, "training").max()) < 1e-10
            assert torch.equal(served.proof["noise-before"], before)
            assert not torch.equal(served.proof["noise"], before)
        assert torch.equal(stream.state.tensors["noise"], served.proof["noise"])
        before = served.proof["noise"]
    assert sum(flags) == served.certificate["retrains"]
    assert {True, False} == set(flags)
    drawn = [noise for noise, flag in zip(noises, flags, strict=True) if flag]
    assert all(not torch.equal(a, b) for a, b in pairwise(drawn))


def test_a_threshold_too_coarse_for_the_budget_is_admitted() -> None:
    stream = Stream(communities(), ScaleGunParams(rmax=0.5, start="push"))
    served = stream.serve("edges", 1)
    assert served.certificate["retrained"]
    assert not served.certificate["holds"]
    assert served.certificate["value"] > served.certificate["budget"]
    assert any("nothing is certified" in warning for warning in stream.warnings)
    fine = Stream(communities(), ScaleGunParams(rmax=0.0))
    fine.serve("edges", 1)
    assert fine.warnings == ()


def test_delta_zero_is_one_over_the_number_of_edges_before_any_request() -> None:
    data = communities()
    stream = Stream(data, ScaleGunParams(delta=0.0))
    for _ in range(2):
        assert stream.serve("edges", 5).certificate["delta"] == 1 / edges_of(data).shape[1]


# -- state ------------------------------------------------------------------------------------------------------------


def attempt(stream: Stream, before: Data, after: Data, elements: Tensor) -> None:
    """Serve an edge request on other graphs than the state's."""
    part = view(after, "retain")
    stream.method.unlearn(
        UnlearnJob(
            **stream.common("unlearn"), request=Request(kind="edges", digest=""),
            forget=view(before, "forget", elements.unique(), elements), retain=part, validation=part,
            model=stream.copy(stream.model), state=copy_of(stream.state), recipe=None,  # type: ignore[arg-type]
        )
    )  # fmt: skip


def test_a_state_of_another_graph_is_refused() -> None:
    data = communities()
    stream, elements = Stream(data), edges_of(data)[:, :2]
    after = without(data, "edges", elements)
    attempt(stream, data, after, elements)
    other = communities(seed=1)
    few = edges_of(other)[:, :2]
    turned = replace(data, edges=torch.tensor([[88], [89]]).repeat(1, edges_of(data).shape[1]))
    wider = replace(data, x=torch.cat([data.x, data.x], 1))
    fewer_rows = replace(after, y=after.y.clone().masked_fill(torch.arange(90) < 9, MISSING))
    cases = [
        (other, without(other, "edges", few), few, "edges, the graph"),
        (turned, after, elements, "no edge 88-89"),
        (wider, after, elements, "features"),
        (data, data, elements, "after the request"),
        (data, fewer_rows, elements, "training rows"),
    ]
    for before, then, gone, why in cases:
        with pytest.raises(DataError, match=why) as caught:
            attempt(stream, before, then, gone)
        assert caught.value.code == "wrong-state"
        assert "\n" not in str(caught.value)


def test_a_state_of_which_something_is_missing_is_refused() -> None:
    stream = Stream(communities())
    del stream.state.tensors["noise"]
    with pytest.raises(DataError, match="holds no noise"):
        stream.serve("edges", 1)


def test_a_state_that_went_to_disk_and_back_gives_the_same_bits() -> None:
    p = ScaleGunParams(rmax=1e-3)
    one, other = Stream(communities(), p), Stream(communities(), replace(p, memory="disk"))
    for kind in ("edges", "nodes", "features"):
        first, second = one.serve(kind, 3), other.serve(kind, 3)
        assert torch.equal(line(first.model), line(second.model))
        assert first.certificate == second.certificate


def test_serving_a_request_copies_neither_features_nor_edges() -> None:
    n, m, annotated = 20_000, 200_000, 300
    rng = torch.Generator().manual_seed(0)
    key = torch.randint(n * n, (m,), generator=rng).unique()
    u, v = key // n, key % n
    edges = torch.stack([u, v])[:, u < v]
    y = torch.full((n,), MISSING)
    y[:annotated] = torch.arange(annotated) % 3
    data = Data(
        x=torch.randn(n, 32, generator=rng), y=y, ids=torch.arange(n), outputs=("a", "b", "c"), edges=edges,
    )  # fmt: skip
    stream = Stream(data, ScaleGunParams(epsilon=NEVER, rmax=1e-5))
    elements = edges[:, :1]
    after = replace(data, edges=edges[:, 1:])
    part = view(after, "retain")
    job = UnlearnJob(
        **stream.common("unlearn"), request=Request(kind="edges", digest=""),
        forget=view(data, "forget", elements.unique(), elements), retain=part, validation=part,
        model=stream.copy(stream.model), state=copy_of(stream.state), recipe=None,  # type: ignore[arg-type]
    )  # fmt: skip
    tracemalloc.start()
    stream.method.unlearn(job)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.25 * data.x.nbytes, (peak, data.x.nbytes, edges.nbytes)
