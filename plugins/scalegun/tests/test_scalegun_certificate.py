"""Certificates: what they state, that the verifier finds the same, and that it finds out whatever was changed."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from scalegun_support import Stream, communities, cora, edges_of, line, view
from torch import Tensor

from unlearnbench.api.runtime import Finding, Served, propagated
from unlearnbench_scalegun.bounds import budget
from unlearnbench_scalegun.certificate import finite
from unlearnbench_scalegun.linear import gradient
from unlearnbench_scalegun.plugin import ScaleGunParams

torch.set_num_threads(1)
MIXED = [("edges", 3, False), ("nodes", 2, False), ("features", 2, False), ("nodes", 2, True), ("edges", 1, False)]


def served_stream(**params: Any) -> Stream:
    """A stream of every kind of request on a small graph."""
    stream = Stream(communities(), ScaleGunParams(**{"epsilon": 20.0, "ridge": 0.05, "rmax": 1e-5, **params}))
    for kind, count, keep in MIXED:
        stream.serve(kind, count, keep_features=keep)
    return stream


@pytest.fixture(scope="module")
def stream() -> Stream:
    """No test changes it: whoever tampers takes a copy."""
    found = served_stream()
    assert found.served[-1].certificate["retrains"] == 0
    return found


@pytest.fixture(scope="module")
def retrained() -> Stream:
    """A stream in which some requests passed the budget and some did not."""
    found = served_stream(epsilon=0.3, bound="paper")
    flags = [served.certificate["retrained"] for served in found.served]
    assert set(flags) == {True, False}, [s.certificate["value"] for s in found.served]
    return found


def wrong(stream: Stream) -> list[Finding]:
    return [finding for finding in stream.findings() if not finding.fine]


def tampered(stream: Stream, step: int, **changes: Any) -> Stream:
    """The same stream with a request's certificate, proof or model exchanged."""
    found = copy.copy(stream)
    found.served = list(stream.served)
    found.served[step] = replace(stream.served[step], **changes)
    return found


# -- what they state --------------------------------------------------------------------------------------------------


def test_a_certificate_is_json_without_numbers_that_are_not_finite(stream: Stream) -> None:
    for served in stream.served:
        again = json.loads(json.dumps(served.certificate, allow_nan=False))
        assert again == served.certificate
        assert again["$schema"] == "https://unlearnbench.org/schemas/certificate/1.json"
    assert finite(float("inf")) is None
    assert finite(float("nan")) is None
    assert finite(0.5) == 0.5


def test_its_numbers_hang_together(stream: Stream, retrained: Stream) -> None:
    for one in (stream, retrained):
        for step, served in enumerate(one.served):
            c, t = served.certificate, served.certificate["terms"]
            assert c["served"] == step + 1
            assert c["rows"] == len(served.retain)
            assert c["budget"] == pytest.approx(3 * budget(c["alpha"], c["epsilon"], c["delta"]))
            assert c["value"] == pytest.approx(sum(t[c["bound"]]))
            assert c["holds"] == (c["value"] <= c["budget"])
            assert c["retrained"] == (c["passed"] is not None)
            assert c["passed"] is None or c["passed"] > c["budget"]
            for k in range(c["classes"]):
                shared = t["approximation"][k] + t["rounding"][k]
                assert t["direct"][k] == pytest.approx(t["gradient"][k] + shared)
                assert t["paper"][k] == pytest.approx(t["training"][k] + t["accumulated"][k] + shared)
    assert stream.served[-1].certificate["removed"] == {"edges": 4, "nodes": 4, "features": 2}


def test_its_state_is_that_of_one_request_and_of_one_graph(stream: Stream) -> None:
    digests = [served.certificate["state"] for served in stream.served]
    assert len(set(digests)) == len(digests)
    assert [served.certificate["state"] for served in served_stream().served] == digests


# -- verification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"bound": "paper"},
        {"bound": "paper", "epsilon": 0.3},
        {"pooling": "per-class", "delta": 0.0},
        {"pooling": "joint", "rmax": 0.0},
        {"start": "push", "rmax": 1e-3},
        {"precision": "float32", "epsilon": 0.01},
    ],
    ids=str,
)
def test_certificates_of_every_setting_are_found_to_be_right(params: dict[str, Any]) -> None:
    found = served_stream(**params)
    assert not wrong(found)
    families = [finding.what for finding in found.findings()]
    assert len(families) == len(set(families)) > 15


def test_certificates_on_cora_are_found_to_be_right() -> None:
    found = Stream(cora())
    for kind, count in [("edges", 10), ("nodes", 2), ("features", 2)]:
        found.serve(kind, count)
    assert not wrong(found)


def test_they_are_right_after_they_were_written_and_read(stream: Stream) -> None:
    found = copy.copy(stream)
    found.served = [replace(s, certificate=json.loads(json.dumps(s.certificate))) for s in stream.served]
    assert not wrong(found)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values in a document that are not containers."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from leaves(inner, (*path, name))
    else:
        yield path


def changed(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    if value is None:
        return 1.0
    return value + 1 if isinstance(value, int) else value * 1.001 + 1e-9


def test_any_value_that_is_changed_in_any_certificate_is_found_out(stream: Stream, retrained: Stream) -> None:
    for one, step in ((stream, 2), (stream, 4), (retrained, 4)):
        again = one.method.verify(one.verify_job())
        assert all(finding.fine for finding in again)
        for path in leaves(one.served[step].certificate):
            certificate = copy.deepcopy(dict(one.served[step].certificate))
            place: Any = certificate
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = changed(place[path[-1]])
            found = wrong(tampered(one, step, certificate=certificate))
            assert found, path
            assert any(finding.stated.startswith(f"request {step}") for finding in found), (path, found)


def test_a_value_that_is_missing_is_found_out(stream: Stream) -> None:
    for name in stream.served[0].certificate:
        certificate = {key: value for key, value in stream.served[0].certificate.items() if key != name}
        assert wrong(tampered(stream, 0, certificate=certificate)), name


def with_weight(stream: Stream, model: torch.nn.Module) -> torch.nn.Module:
    """One weight is another."""
    found = stream.copy(model)
    with torch.no_grad():
        next(found.parameters())[1, 2] += 1e-6
    return found


def with_noise(proof: Any, name: str) -> dict[str, Tensor]:
    return {**proof, name: proof[name] + 1e-6 * (torch.arange(proof[name].numel()).view(proof[name].shape) == 3)}


CHANGES: dict[str, Callable[[Stream, Served], dict[str, Any]]] = {
    "weight": lambda stream, served: {"model": with_weight(stream, served.model)},
    "noise": lambda stream, served: {"proof": with_noise(served.proof, "noise")},
    "no noise at all": lambda stream, served: {"proof": {**served.proof, "noise": 0 * served.proof["noise"]}},
    "rows": lambda stream, served: {"proof": {**served.proof, "rows": served.proof["rows"][1:]}},
    "model of another request": lambda stream, served: {"model": stream.original},
}


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_model_or_proof_is_found_out(stream: Stream, what: str, step: int) -> None:
    assert wrong(tampered(stream, step, **CHANGES[what](stream, stream.served[step])))


@pytest.mark.parametrize("name", ["noise", "noise-before", "stepped"])
def test_a_changed_proof_of_a_retraining_is_found_out(retrained: Stream, name: str) -> None:
    steps = [i for i, served in enumerate(retrained.served) if served.certificate["retrained"]]
    for step in steps:
        proof = retrained.served[step].proof
        assert wrong(tampered(retrained, step, proof=with_noise(proof, name))), step


def test_noise_that_makes_the_original_look_unlearned_is_found_out() -> None:
    honest = served_stream()
    batch = honest.served[0].retain.tensors()
    assert batch.rows is not None
    assert batch.edges is not None
    z = propagated(batch.x.double(), batch.edges, honest.levels)[batch.rows].numpy()
    w, noise = line(honest.original).numpy(), honest.served[0].proof["noise"].numpy()
    forged = noise - gradient(w, z, batch.y.numpy(), noise, honest.p.ridge)
    assert float(abs(gradient(w, z, batch.y.numpy(), forged, honest.p.ridge)).max()) < 1e-12
    proof = {**honest.served[0].proof, "noise": torch.from_numpy(forged)}
    found = {finding.what for finding in wrong(tampered(honest, 0, model=honest.original, proof=proof))}
    assert {"noise in the objective", "terms: gradient"} <= found


def test_another_kind_of_model_is_not_looked_into(stream: Stream) -> None:
    turned = stream.copy(stream.served[0].model)
    turned.level_weights = (1.0, 0.0, 0.0)
    for model in (turned, torch.nn.Linear(6, 3)):
        (finding,) = wrong(tampered(stream, 0, model=model))
        assert "another kind of model" in finding.found


def test_a_retraining_with_the_old_noise_is_found_out(retrained: Stream) -> None:
    step = next(i for i, served in enumerate(retrained.served) if served.certificate["retrained"])
    proof = retrained.served[step].proof
    found = wrong(tampered(retrained, step, proof={**proof, "noise": proof["noise-before"]}))
    assert any(finding.what == "noise in the objective" for finding in found)


def test_another_original_is_found_out(stream: Stream) -> None:
    found = copy.copy(stream)
    found.original = with_weight(stream, stream.original)
    assert wrong(found)


def test_other_data_are_found_out(stream: Stream) -> None:
    features = copy.copy(stream)
    x = stream.data.x.clone()
    x[5, 0] += 1e-4
    features.data = replace(stream.data, x=x)
    assert wrong(features)
    labels = copy.copy(stream)
    y = stream.data.y.clone()
    row = int(stream.served[-1].proof["rows"][0])
    y[row] = (y[row] + 1) % 3
    labels.data = replace(stream.data, y=y)
    assert wrong(labels)
    graph = copy.copy(stream)
    edges = edges_of(stream.data).clone()
    edges[:, -1] = torch.tensor([87, 88])
    graph.data = replace(stream.data, edges=edges)
    assert "request 0" in wrong(graph)[0].stated
    assert "no edge" in wrong(graph)[0].found


def test_a_request_that_took_out_fewer_edges_than_it_says_is_found_out(stream: Stream) -> None:
    first = stream.served[0]
    assert first.forget.elements is not None
    fewer = view(stream.data, "forget", elements=first.forget.elements[:, 1:])
    (finding,) = wrong(tampered(stream, 0, forget=fewer))
    assert "edges after the request" in finding.found


def test_settings_other_than_the_records_are_found_out(stream: Stream) -> None:
    for other in ({"epsilon": 19.0}, {"alpha": 0.11}, {"ridge": 0.06}, {"rmax": 2e-5}, {"pooling": "joint"}):
        found = copy.copy(stream)
        found.p = replace(stream.p, **other)
        found.method = type(stream.method)(found.p)
        assert any(finding.what == "settings" for finding in wrong(found)), other


def test_a_bound_that_the_truth_passes_is_found_out(stream: Stream) -> None:
    certificate = copy.deepcopy(dict(stream.served[1].certificate))
    certificate["terms"]["direct"] = [0.0, 0.0, 0.0]
    found = {finding.what: finding for finding in wrong(tampered(stream, 1, certificate=certificate))}
    assert "request 1, class 0" in found["true residual within direct"].stated


def test_without_its_proof_a_certificate_is_not_right(stream: Stream) -> None:
    rows = stream.served[1].proof["rows"]
    for proof in ({}, {"rows": rows}, {"noise": torch.zeros(2, 2), "rows": rows}):
        (finding,) = wrong(tampered(stream, 1, proof=proof))
        assert (finding.what, finding.stated) == ("requests", "request 1: can be served again")
        assert "holds no noise [3, 6]" in finding.found
    found = wrong(tampered(stream, 1, proof={"noise": stream.served[1].proof["noise"]}))
    assert [finding.what for finding in found] == ["training rows of the proof"]
