"""Networks that propagate before they learn, against dense matrices in numpy."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Decoupled, Ref, generator
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry
from unlearnbench_graphs import networks
from unlearnbench_graphs.networks import level_weights
from unlearnbench_graphs.plugin import SgcParams

Array = npt.NDArray[np.float64]
CPU = torch.device("cpu")
N, FEATURES, OUTPUTS = 7, 5, 3
EDGES = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 5]])  # a triangle with a tail; nodes 4 and 6 have no edge


def network(name: str, seed: int = 0, **params: Any) -> nn.Module:
    return build_network(registry(), Ref(name, params, (FEATURES,), OUTPUTS), seed, CPU)


def nodes(seed: int = 0) -> Tensor:
    return torch.randn(N, FEATURES, generator=generator(seed), dtype=torch.float64)


def operator(edges: Tensor = EDGES) -> Array:
    """P = D^-1/2 (A + I) D^-1/2 as a matrix."""
    a = np.eye(N)
    for u, v in edges.T.tolist():
        a[u, v] = a[v, u] = 1
    scale = np.diag(a.sum(1) ** -0.5)
    product: Array = scale @ a @ scale
    return product


def embedded(x: Tensor, weights: tuple[float, ...], edges: Tensor = EDGES) -> Array:
    p = operator(edges)
    found: Array = sum(w * np.linalg.matrix_power(p, k) @ x.numpy() for k, w in enumerate(weights))
    return found


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (SgcParams(), (0.0, 0.0, 1.0)),
        (SgcParams(steps=0), (1.0,)),
        (SgcParams(schedule="decay"), (0.1, 0.09, 0.081)),
        (SgcParams(schedule="average"), (1 / 3, 1 / 3, 1 / 3)),
        (SgcParams(steps=3, schedule="heterophily"), (1.0, -1.0, 1.0, -1.0)),
    ],
)
def test_schedules_weigh_the_levels_as_published(params: SgcParams, expected: tuple[float, ...]) -> None:
    assert level_weights(params) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("schedule", ["sgc", "decay", "average", "heterophily"])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_sgc_is_the_weighted_levels_times_a_matrix(schedule: str, steps: int) -> None:
    net, x = network("sgc", schedule=schedule, steps=steps).double(), nodes()
    assert isinstance(net, Decoupled)
    expected = embedded(x, net.level_weights) @ net.head.weight.detach().numpy().T
    np.testing.assert_allclose(net(x, EDGES).detach().numpy(), expected, atol=1e-12)
    assert [name for name, _ in net.named_parameters()] == ["head.weight"]  # no offset


def test_sgc_answers_in_the_type_of_its_weights() -> None:
    net, x = network("sgc").double(), nodes()
    out = net(x.float(), EDGES)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out, net(x.float().double(), EDGES), atol=0, rtol=0)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4)])
def test_sgc_mlp_is_its_head_on_the_weighted_levels(hidden: tuple[int, ...]) -> None:
    net, x = network("sgc-mlp", hidden=hidden, schedule="average", dropout=0.5).double().eval(), nodes()
    assert isinstance(net, Decoupled)
    rng = np.random.default_rng(0)
    with torch.no_grad():  # statistics that are not 0 and 1
        for value in (*net.parameters(), *net.buffers()):
            if value.is_floating_point():
                value.copy_(
                    torch.from_numpy(rng.uniform(0.5, 1.5, tuple(value.shape)) * (1 if value.dim() == 1 else 0.3))
                )
    w = {name: value.numpy() for name, value in net.state_dict().items()}
    h = embedded(x, net.level_weights)
    for k in range(len(hidden)):
        line, norm = f"head.{4 * k}.", f"head.{4 * k + 1}."
        assert f"{line}bias" not in w
        h = h @ w[f"{line}weight"].T
        h = (h - w[f"{norm}running_mean"]) / np.sqrt(w[f"{norm}running_var"] + 1e-5) * w[f"{norm}weight"]
        h = np.maximum(h + w[f"{norm}bias"], 0)
    expected = h @ w[f"head.{4 * len(hidden)}.weight"].T + w[f"head.{4 * len(hidden)}.bias"]
    np.testing.assert_allclose(net(x, EDGES).detach().numpy(), expected, atol=1e-10)


def test_a_graph_is_propagated_once_until_one_of_its_tensors_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, edges = network("sgc-mlp").double().eval(), nodes(), EDGES.clone()
    calls = []

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return networks_propagated(*arguments)

    networks_propagated = networks.propagated
    monkeypatch.setattr(networks, "propagated", counted)
    fresh = network("sgc-mlp").double().eval()
    first = net(x, edges)
    assert torch.equal(net(x, edges), first)
    assert len(calls) == 1
    x[0] += 1  # in place: the same tensor, another version
    changed = net(x, edges)
    assert len(calls) == 2
    assert torch.equal(changed, fresh(x, edges))
    assert not torch.equal(changed, first)
    fewer = edges[:, 1:].clone()
    assert torch.equal(net(x, fewer), fresh(x, fewer))
    edges[:, 0] = torch.tensor([4, 6])
    assert torch.equal(net(x, edges), fresh(x, edges))
    assert net.float()(x, edges).dtype == torch.float32


def test_what_is_remembered_is_neither_stored_nor_copied() -> None:
    net, x = network("sgc-mlp").double().eval(), nodes()
    plain = set(net.state_dict())
    with torch.no_grad():
        out = net(x, EDGES)
    assert set(net.state_dict()) == plain
    for again in (deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert (again._memory._key, again._memory._found) == (None, None)
        assert torch.equal(again(x, EDGES), out)
    assert net._memory._found is not None


def test_features_that_need_a_gradient_get_one() -> None:
    net, x = network("sgc-mlp").double().eval(), nodes()
    with torch.no_grad():
        net(x, EDGES)
    x = x.requires_grad_()
    net(x, EDGES).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).any())


@pytest.mark.parametrize("name", ["sgc", "sgc-mlp"])
def test_a_network_is_rebuilt_from_its_state(name: str) -> None:
    net, x = network(name, seed=3).eval(), nodes().float()
    again = restore_network(registry(), Ref(name, {}, (FEATURES,), OUTPUTS), net.state_dict(), CPU)
    assert torch.equal(net(x, EDGES), again(x, EDGES))


@pytest.mark.parametrize("name", ["sgc", "sgc-mlp"])
def test_rows_that_are_no_features_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="needs nodes with a row of features each"):
        build_network(registry(), Ref(name, {}, (3, 8, 8), 2), 0, CPU)
