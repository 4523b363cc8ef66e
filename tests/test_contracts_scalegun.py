"""ScaleGUN: noise that training leaves, and a propagation state that preparation leaves and a stream mutates."""

from pathlib import Path

import torch
from toys_support import EDGES, graph, new_stages, one_record

from unlearnbench.api.runtime import MISSING, State
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages

NODES = {"kind": "nodes", "count": 3}
FEATURES = {"kind": "features", "count": 2}
STREAM = (EDGES, NODES, {**EDGES, "seed": 1}, FEATURES, {**NODES, "seed": 2}, {**EDGES, "seed": 3})
CHECKS = ["accuracy", "toy-removal-check"]


def error_of(stages: Stages, spec: RunSpec, step: int) -> float:
    """Largest difference of the kept propagation to the exact one on the graph after request ``step``."""
    from unlearnbench_toys.propagation import embedding, propagate

    after = stages.scene(spec).parts[step].retain.data
    packed = stages.unlearned(spec, step).state
    assert after.edges is not None
    assert packed is not None
    state = State(tensors={name.removeprefix("0/"): tensor for name, tensor in packed.tensors.items()})
    exact = propagate(after.x.double(), after.edges, 2)
    return float((embedding(state, after.edges) - exact).abs().max())


def test_after_each_request_the_state_is_exact_propagation(tmp_path: Path) -> None:
    spec, stages = graph("toy-scalegun", *STREAM), new_stages(tmp_path)
    for step in range(len(STREAM)):
        assert error_of(stages, spec, step) < 1e-10
    assert stages.computed == ["train", "prepare", *["unlearn"] * len(STREAM)]


def test_with_a_threshold_residues_wait_and_the_error_stays_small(tmp_path: Path) -> None:
    lazy = graph("toy-scalegun", *STREAM, set={"toy-scalegun.rmax": 0.01})
    stages = new_stages(tmp_path)
    error = error_of(stages, lazy, len(STREAM) - 1)
    state = stages.unlearned(lazy, len(STREAM) - 1).state
    assert state is not None
    waiting = state.tensors["0/r"].abs()
    assert 0 < float(waiting.max()) <= 0.01
    assert 0 < error <= float(waiting.sum((0, 1)).max())


def test_training_leaves_its_noise_to_the_later_phases(tmp_path: Path) -> None:
    spec, stages = graph("toy-scalegun"), new_stages(tmp_path)
    entries = [stages.original(spec), stages.prepared(spec)[0], stages.unlearned(spec)]
    noise = [entry.state.tensors["0/noise"] for entry in entries if entry is not None and entry.state is not None]
    assert len(noise) == 3
    assert all(torch.equal(noise[0], later) for later in noise)
    assert float(noise[0].std()) > 0


def test_the_certificate_counts_requests_and_the_verifier_agrees(tmp_path: Path) -> None:
    record = one_record(tmp_path, graph("toy-scalegun", *STREAM, measures=CHECKS))
    certificate = record.document["certificate"]
    assert certificate["served"] == len(STREAM)
    last = f"request={len(STREAM) - 1}"
    residual = record.value(f"removal-residual.{last}")
    assert residual is not None
    assert abs(residual - certificate["residual"]) < 1e-9
    assert residual <= certificate["budget"]
    within = [r for r in record.readings if r["name"] == "removal-within-budget"]
    assert [r["value"] for r in within] == [1.0] * len(STREAM)
    assert record.value(f"removal-residual.{last}", "gold") is None


def test_beyond_the_budget_the_method_trains_anew_and_says_so(tmp_path: Path) -> None:
    strict = {"toy-scalegun.epsilon": 1e-6}
    record = one_record(tmp_path, graph("toy-scalegun", NODES, measures=CHECKS, set=strict))
    assert record.document["certificate"]["retrained"]
    assert (record.value("removal-residual") or 1) < 1e-8
    assert record.value("removal-within-budget") == 1.0
    generous = one_record(tmp_path, graph("toy-scalegun", NODES, measures=CHECKS, set={"toy-scalegun.epsilon": 1e3}))
    assert not generous.document["certificate"]["retrained"]


def test_gold_is_trained_by_the_method_on_the_graph_after(tmp_path: Path) -> None:
    spec, stages = graph("toy-scalegun", *STREAM), new_stages(tmp_path)
    last = len(STREAM) - 1
    unlearned, gold = (e.weights["linear.weight"] for e in (stages.unlearned(spec, last), stages.gold(spec, last)))
    original = stages.original(spec).weights["linear.weight"]
    assert stages.gold(spec, last).inputs["trainer"]["name"] == "toy-scalegun"
    assert float((unlearned - gold).norm()) < float((original - gold).norm()) / 2


def test_requests_on_a_graph_follow_each_other(tmp_path: Path) -> None:
    spec, stages = graph("toy-scalegun", *STREAM), new_stages(tmp_path)
    scene = stages.scene(spec)
    before = scene.splits.train
    for part in scene.parts:
        after = part.retain.data
        assert before.edges is not None
        assert after.edges is not None
        assert part.forget.data.edges is not None
        assert torch.equal(part.forget.data.edges, before.edges)
        assert part.forget.elements is not None
        if part.request.kind == "edges":
            removed = {tuple(e) for e in before.edges.T.tolist()} - {tuple(e) for e in after.edges.T.tolist()}
            assert removed == {tuple(e) for e in part.forget.elements.T.tolist()}
        else:
            assert bool((after.x[part.forget.elements[0]] == 0).all())
        if part.request.kind == "nodes":
            assert bool((after.y[part.forget.elements[0]] == MISSING).all())
            assert not bool(torch.isin(after.edges, part.forget.elements[0]).any())
        before = after


def test_two_edge_requests_on_the_same_nodes_are_two_requests(tmp_path: Path) -> None:
    scene = new_stages(tmp_path).scene(graph("toy-scalegun"))
    edges = scene.splits.train.edges
    assert edges is not None
    first, second = ([edges[:, k].tolist()] for k in (0, 1))
    digests = {
        new_stages(tmp_path).scene(graph("toy-scalegun", {"kind": "edges", "pairs": pairs})).parts[0].request.digest
        for pairs in (first, second, first)
    }
    assert len(digests) == 2
