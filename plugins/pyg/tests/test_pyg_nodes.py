"""GCN and GAT for nodes against dense matrices in numpy, and what a network of nodes must not depend on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

import unlearnbench
from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Ref, generator
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry

Array = npt.NDArray[np.float64]
CPU = torch.device("cpu")
N, FEATURES, OUTPUTS = 7, 5, 3
EDGES = torch.tensor([[0, 0, 1, 2, 3], [1, 2, 2, 3, 5]])  # a triangle with a tail; nodes 4 and 6 have no edge
NAMES = ("node-gcn", "node-gat")


def network(name: str, seed: int = 0, **params: Any) -> nn.Module:
    return build_network(registry(), Ref(name, params, (FEATURES,), OUTPUTS), seed, CPU).double().eval()


def nodes() -> Tensor:
    return torch.randn(N, FEATURES, generator=generator(0), dtype=torch.float64)


def with_loops() -> Array:
    a = np.eye(N)
    for u, v in EDGES.T.tolist():
        a[u, v] = a[v, u] = 1
    return a


def drawn_weights(net: nn.Module) -> dict[str, Array]:
    """Weights that are all drawn, biases too (they start at 0), as numpy has them."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for value in net.parameters():
            value.copy_(torch.from_numpy(rng.normal(size=tuple(value.shape))))
    return {name: value.numpy() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_gcn_is_the_normalised_adjacency_times_features_times_weights(layers: int) -> None:
    net, x = network("node-gcn", hidden=6, layers=layers), nodes()
    w, a = drawn_weights(net), with_loops()
    scale = np.diag(a.sum(1) ** -0.5)
    h = x.numpy()
    for k in range(layers):
        h = scale @ a @ scale @ h @ w[f"convolutions.{k}.lin.weight"].T + w[f"convolutions.{k}.bias"]
        h = np.maximum(h, 0) if k < layers - 1 else h
    assert h.shape == (N, OUTPUTS)
    np.testing.assert_allclose(net(x, EDGES).detach().numpy(), h, atol=1e-10)


def attention(h: Array, source: Array, target: Array, a: Array) -> Array:
    """Shares [n, n] of every node's neighbours and itself, rows sum to 1; LeakyReLU of slope 0.2."""
    score = (h @ target)[:, None] + (h @ source)[None]
    score = np.where(score > 0, score, 0.2 * score)
    weight = np.exp(score - score.max()) * a
    shares: Array = weight / weight.sum(1, keepdims=True)
    return shares


@pytest.mark.parametrize(("heads", "last_heads"), [(1, 1), (4, 2)])
def test_gat_weighs_neighbours_by_attention(heads: int, last_heads: int) -> None:
    net, x = network("node-gat", hidden=3, heads=heads, last_heads=last_heads), nodes()
    w, a = drawn_weights(net), with_loops()
    h = x.numpy()
    for k, count in enumerate((heads, last_heads)):
        at = f"convolutions.{k}."
        lines = (h @ w[f"{at}lin.weight"].T).reshape(N, count, -1)
        parts = [
            attention(lines[:, i], w[f"{at}att_src"][0, i], w[f"{at}att_dst"][0, i], a) @ lines[:, i]
            for i in range(count)
        ]
        if k:
            h = np.mean(parts, 0) + w[f"{at}bias"]
        else:
            h = np.concatenate(parts, 1) + w[f"{at}bias"]
            h = np.where(h > 0, h, np.expm1(h))
    np.testing.assert_allclose(net(x, EDGES).detach().numpy(), h, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_an_edge_acts_both_ways_and_in_either_order(name: str) -> None:
    net, x = network(name), nodes()
    with torch.no_grad():
        torch.testing.assert_close(net(x, EDGES.flip(0)), net(x, EDGES), atol=1e-12, rtol=0)
        without = net(x, EDGES[:, :-1])
        changed = (without - net(x, EDGES)).abs().amax(1) > 1e-9
    assert set(changed.nonzero().flatten().tolist()) >= {3, 5}
    assert not changed[[4, 6]].any()


@pytest.mark.parametrize("name", NAMES)
def test_training_drops_and_every_weight_has_a_gradient(name: str) -> None:
    net, x = network(name).train(), nodes()
    assert not torch.equal(net(x, EDGES), net(x, EDGES))
    net.eval()(x, EDGES).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_nodes_is_rebuilt_and_predicts_the_same_bits(name: str) -> None:
    ref = Ref(name, {}, (FEATURES,), OUTPUTS)
    net = build_network(registry(), ref, 0, CPU)
    again = restore_network(registry(), ref, net.state_dict(), CPU)
    x = nodes().float()
    with torch.no_grad():
        assert torch.equal(net.eval()(x, EDGES), again.eval()(x, EDGES))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_not_features_of_nodes_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="needs nodes with a row of features each"):
        build_network(registry(), Ref(name, {}, (3, 8, 8), 2), 0, CPU)


@pytest.mark.skipif("UNLEARNBENCH_DATA" not in os.environ, reason="Cora lies in the folder UNLEARNBENCH_DATA")
@pytest.mark.parametrize(("name", "epochs"), [("node-gcn", 40), ("node-gat", 20)])
def test_papers_of_cora_are_told_apart_and_forgotten(name: str, epochs: int, tmp_path: Path) -> None:
    (record,) = unlearnbench.run(
        "finetune", dataset="planetoid", model=name, out=tmp_path,
        forget=[{"kind": "nodes", "fraction": 0.1}], measures=["accuracy"],
        parameters={"recipe.epochs": epochs, "recipe.optimizer": "adam", "recipe.lr": 0.01, "finetune.epochs": 2},
    )  # fmt: skip
    assert record.status == "complete"
    for subject in ("original", "gold"):  # a published split of 20 labels a class gives .815 and .83
        value = record.value("accuracy.test", subject)
        assert value is not None
        assert value > 0.82
