"""Exact propagation, against dense linear algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearnbench.api.runtime import propagated


def dense(n: int, edges: torch.Tensor) -> np.ndarray:
    """D^-1/2 (A + I) D^-1/2 as a matrix."""
    a = np.eye(n)
    for u, v in edges.T.tolist():
        a[u, v] = a[v, u] = 1
    root = np.sqrt(a.sum(1))
    return a / root[:, None] / root[None]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, torch.Tensor]:
    n = draw(st.integers(1, 8))
    pairs = [(u, v) for u in range(n) for v in range(u + 1, n)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return n, torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2).T


@settings(deadline=None)
@given(graphs(), st.lists(st.floats(-2, 2), min_size=1, max_size=4), st.integers(0, 10))
def test_each_level_is_a_power_of_the_matrix(graph: tuple[int, torch.Tensor], weights: list[float], seed: int) -> None:
    n, edges = graph
    x = np.random.default_rng(seed).normal(size=(n, 3))
    p = dense(n, edges)
    expected = sum(w * np.linalg.matrix_power(p, level) @ x for level, w in enumerate(weights))
    found = propagated(torch.tensor(x), edges, weights)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_node_without_edges_keeps_its_features() -> None:
    edges = torch.tensor([[0], [1]])
    x = torch.tensor([[1.0], [3.0], [5.0]])
    assert propagated(x, edges, (0.0, 0.0, 1.0)).flatten().tolist() == pytest.approx([2.0, 2.0, 5.0])


def test_gradients_go_back_through_the_graph() -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.arange(8, dtype=torch.float64).reshape(4, 2)
    (propagated(x, edges, (0.0, 1.0)) * weights).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), dense(4, edges).T @ weights.numpy(), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_of_the_features_stays(dtype: torch.dtype) -> None:
    assert propagated(torch.ones(2, 1, dtype=dtype), torch.tensor([[0], [1]]), (0, 1)).dtype == dtype
