"""The deep variant: its step against dense algebra, the safeguard, and requests on Cora and on small graphs."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scalegun_support import SGC, communities, copy_of, cora, cora_test, edges_of, view, without
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

import unlearnbench
from unlearnbench.api import Recipe
from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import (
    MISSING,
    Data,
    NodeClassification,
    PrepareJob,
    Request,
    Result,
    State,
    UnlearnJob,
    propagated,
)
from unlearnbench_scalegun.blocks import HALVINGS, Rows, block, conjugate_gradients, mended
from unlearnbench_scalegun.deep import UNCERTIFIED, ScaleGunDeep
from unlearnbench_scalegun.plugin import DeepParams, unlearnbench_unlearners

FAR = 1e6
"""A trust that cuts nothing."""
EXACT = DeepParams(trust=FAR, tolerance=1e-13, iterations=2000)

torch.set_num_threads(1)


class Deep(nn.Module):
    """Propagated features, a layer as the authors have it, a line."""

    def __init__(self, features: int, classes: int, width: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.level_weights = SGC
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Linear(features, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(0.3),
                nn.Linear(width, classes),
            )

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out: Tensor = self.head(propagated(x, edges, self.level_weights).float())
        return out


def trained(data: Data, epochs: int) -> Deep:
    """A network that saw so many passes over the training nodes."""
    model = Deep(data.x.shape[1], len(data.outputs))
    rows = data.y != MISSING
    z, y = propagated(data.x, edges_of(data), SGC)[rows], data.y[rows]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for _ in range(epochs):
            optimizer.zero_grad()
            F.cross_entropy(model.head(z), y).backward()
            optimizer.step()
    return model.eval().requires_grad_(True)


@cache
def weights_on_cora(epochs: int) -> dict[str, Tensor]:
    return trained(cora(), epochs).state_dict()


def on_cora(epochs: int) -> Deep:
    model = Deep(cora().x.shape[1], 7)
    model.load_state_dict(weights_on_cora(epochs))
    return model.eval()


def rows_of(data: Data) -> Rows:
    known = data.y != MISSING
    return Rows(propagated(data.x.double(), edges_of(data), SGC)[known], data.y[known])


def drawn(data: Data, kind: str, count: int, seed: int = 0) -> Tensor:
    """Random edges [2, k] or annotated nodes [1, k]."""
    pool = edges_of(data) if kind == "edges" else (data.y != MISSING).nonzero().T
    order = torch.randperm(pool.shape[1], generator=torch.Generator().manual_seed(seed))
    return pool[:, order[:count].sort().values]


def loss_of(model: Deep, data: Data) -> float:
    """Mean training loss."""
    z, y = rows_of(data)
    with torch.no_grad():
        return float(F.cross_entropy(model.head(z.float()).double(), y))


def accuracy(model: Deep, data: Data) -> float:
    """On the test nodes of Cora."""
    nodes, y = cora_test()
    with torch.no_grad():
        return float((model(data.x, edges_of(data))[nodes].argmax(1) == y).double().mean())


@dataclass
class Served:
    """A stream of requests: the model, the graph and the state as the last one left them."""

    data: Data
    model: Deep
    p: DeepParams = field(default_factory=DeepParams)
    step: int = 0

    def __post_init__(self) -> None:
        self.method = ScaleGunDeep(self.p)
        train = view(self.data, "train")
        self.state = self.method.prepare(
            PrepareJob(**self._common("prepare"), data=train, validation=train, model=self.model, state=State())
        )

    def _common(self, phase: str) -> dict[str, Any]:
        return {
            "task": NodeClassification(),
            "device": torch.device("cpu"),
            "root_seed": 0,
            "phase": phase,
            "builder": lambda ref, seed: self.model,
        }

    def serve(self, kind: str, count: int, *, keep_features: bool = False) -> Result:
        elements = drawn(self.data, kind, count, self.step)
        after = without(self.data, kind, elements, keep_features)
        retain = view(after, "retain")
        result = self.method.unlearn(
            UnlearnJob(
                **self._common("unlearn"), request=Request(kind, str(self.step)), retain=retain, validation=retain,
                forget=view(self.data, "forget", elements.unique(), elements), model=self.model, state=self.state,
                recipe=Recipe(),
            )
        )  # fmt: skip
        assert result.state is not None
        self.data, self.state, self.step = after, result.state, self.step + 1
        return result


# -- the step, against dense algebra ----------------------------------------------------------------------------------


def line_and_rows(gone: int) -> tuple[nn.Linear, Rows, Rows]:
    """A line in double precision and 40 rows, of which some leave and all others move a little."""
    rng = torch.Generator().manual_seed(3)
    z = torch.randn(40, 5, generator=rng, dtype=torch.float64)
    y = torch.randint(3, (40,), generator=rng)
    head = nn.Linear(5, 3, bias=False, dtype=torch.float64)
    head.weight.data = 0.3 * torch.randn(3, 5, generator=rng, dtype=torch.float64)
    moved = z + 0.01 * torch.randn(z.shape, generator=rng, dtype=torch.float64)
    return head, Rows(z, y), Rows(moved[gone:], y[gone:])


def softmax_gradient(w: np.ndarray, rows: Rows) -> np.ndarray:
    """Of the mean cross-entropy of a line, [k, f], by hand."""
    z, y = (part.numpy() for part in rows)
    e = np.exp(z @ w.T)
    return (e / e.sum(1, keepdims=True) - np.eye(len(w))[y]).T @ z / len(y)


def softmax_hessian(w: np.ndarray, rows: Rows) -> np.ndarray:
    """Of the mean cross-entropy of a line, [k f, k f], by hand."""
    z = rows.z.numpy()
    e = np.exp(z @ w.T)
    p = e / e.sum(1, keepdims=True)
    curvature = np.einsum("nk,kl->nkl", p, np.eye(len(w))) - np.einsum("nk,nl->nkl", p, p)
    return np.einsum("nkl,nf,ng->kflg", curvature, z, z).reshape(w.size, w.size) / len(z)


@pytest.mark.parametrize("gone", [0, 2])
def test_the_step_of_a_line_is_the_dense_newton_step(gone: int) -> None:
    head, old, new = line_and_rows(gone)
    w = head.weight.detach().numpy()
    right = softmax_gradient(w, old) - softmax_gradient(w, new)
    dense = np.linalg.solve(softmax_hessian(w, new) + 1e-4 * np.eye(w.size), right.ravel()).reshape(w.shape)
    done = mended(head, F.cross_entropy, old, new, EXACT)
    step = (done.after.weights["weight"] - head.weight.detach()).numpy()
    assert done.taken
    assert np.abs(step - dense).max() <= 1e-6 * np.abs(dense).max()
    assert done.before.residual == pytest.approx(np.linalg.norm(right))


def test_a_line_at_the_optimum_with_weight_decay_lands_where_training_without_the_rows_ends() -> None:
    ridge = 0.05
    head, old, _ = line_and_rows(0)
    new = Rows(old.z[3:], old.y[3:])

    def optimum(rows: Rows) -> np.ndarray:
        w = np.zeros((3, 5))
        for _ in range(30):
            curvature = softmax_hessian(w, rows) + ridge * np.eye(w.size)
            w = w - np.linalg.solve(curvature, (softmax_gradient(w, rows) + ridge * w).ravel()).reshape(w.shape)
        return w

    before, gold = optimum(old), optimum(new)
    head.weight.data = torch.from_numpy(before.copy())
    done = mended(head, F.cross_entropy, old, new, replace(EXACT, damping=ridge))
    left = np.linalg.norm(done.after.weights["weight"].numpy() - gold)
    assert left < 0.05 * np.linalg.norm(before - gold)


def test_products_are_those_of_the_tensors_block_of_the_dense_hessian() -> None:
    torch.manual_seed(2)
    head = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.Tanh(), nn.Linear(3, 3)).double()
    z, y = torch.randn(12, 4, dtype=torch.float64), torch.randint(3, (12,))
    head(3 * z + 1)  # running statistics of its own
    head.eval()
    slopes = torch.autograd.grad(F.cross_entropy(head(z), y), list(head.parameters()), create_graph=True)
    for (name, tensor), slope in zip(head.named_parameters(), slopes, strict=True):

        def loss(value: Tensor, name: str = name) -> Tensor:
            out: Tensor = functional_call(head, {name: value}, (z,))
            return F.cross_entropy(out, y)

        dense = hessian(loss, tensor.detach()).reshape(tensor.numel(), tensor.numel())
        assert float(dense.abs().max()) > 1e-3
        v = torch.randn_like(tensor)
        found = block(tensor, slope, 0.5)(v)
        assert torch.allclose(found.flatten(), dense @ v.flatten() + 0.5 * v.flatten(), rtol=1e-9, atol=1e-12), name


# -- conjugate gradients in a ball ------------------------------------------------------------------------------------


def by(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: matrix @ v


def test_a_solution_inside_the_ball_is_the_dense_one_and_one_outside_ends_on_the_ball() -> None:
    root = torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix, right = root @ root.T + torch.eye(8), torch.arange(1.0, 9.0, dtype=torch.float64)
    dense = torch.linalg.solve(matrix, right)
    inside = conjugate_gradients(by(matrix), right, 1e-12, 100, 2 * float(dense.norm()))
    assert torch.allclose(inside.x, dense, rtol=1e-9)
    for share in (0.9, 0.5, 0.01, 0.0):
        radius = share * float(dense.norm())
        cut = conjugate_gradients(by(matrix), right, 1e-12, 100, radius).x
        assert float(cut.norm()) == pytest.approx(radius, abs=1e-12)
        assert float(cut @ right - cut @ matrix @ cut / 2) >= float(radius > 0) * 1e-3  # the model still falls
    assert conjugate_gradients(by(matrix), torch.zeros(8), 1e-12, 100, 1.0).x.tolist() == [0.0] * 8


def test_where_curvature_is_not_positive_the_last_iterate_before_is_kept() -> None:
    right = torch.ones(3, dtype=torch.float64)
    # The first direction (1, 1, 1) has curvature 2 and length 3 / 2; the next, (3, 6, 1.5), has curvature -22.5.
    found = conjugate_gradients(by(torch.diag(torch.tensor([1.0, -1.0, 2.0]).double())), right, 1e-9, 50, FAR)
    assert found.uphill
    assert found.x.tolist() == pytest.approx([1.5, 1.5, 1.5])
    at_once = conjugate_gradients(by(-torch.eye(3, dtype=torch.float64)), right, 1e-9, 50, FAR)
    assert at_once.uphill
    assert at_once.x.tolist() == [0.0, 0.0, 0.0]


class Hill(nn.Module):
    """Two classes, the score of the first being cos(w.z): a loss that curves down near w = 0."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((2,), 0.1, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        score = torch.cos(z @ self.w)
        return torch.stack([score, torch.zeros_like(score)], 1)


def test_a_tensor_on_a_hill_stays_where_it_is_and_is_named() -> None:
    z, y = torch.ones(4, 2, dtype=torch.float64), torch.ones(4, dtype=torch.int64)
    done = mended(Hill(), F.cross_entropy, Rows(z, y), Rows(1.1 * z, y), DeepParams())
    assert done.uphill == ("w",)
    assert not done.taken
    assert done.before.residual > 0
    assert torch.equal(done.after.weights["w"], Hill().w)


# -- the safeguard ----------------------------------------------------------------------------------------------------


def unguarded(model: Deep, old: Rows, new: Rows) -> Deep:
    """What the authors do: the whole solution of every block is added."""
    twin = Deep(old.z.shape[1], 7)
    twin.load_state_dict(model.state_dict())
    twin.eval().double()
    parameters = list(twin.parameters())
    goals = torch.autograd.grad(F.cross_entropy(twin.head(old.z), old.y), parameters)
    slopes = torch.autograd.grad(F.cross_entropy(twin.head(new.z), new.y), parameters, create_graph=True)
    steps = [
        conjugate_gradients(block(tensor, slope, 1e-4), (goal - slope).detach(), 1e-4, 200, FAR).x
        for tensor, goal, slope in zip(parameters, goals, slopes, strict=True)
    ]
    with torch.no_grad():
        for tensor, step in zip(parameters, steps, strict=True):
            tensor += step
    return twin.float()


@pytest.mark.parametrize("epochs", [12, 60])
def test_what_wrecks_a_network_without_the_safeguard_does_it_no_harm(epochs: int) -> None:
    model, before = on_cora(epochs), cora()
    after = without(before, "edges", drawn(before, "edges", 50))
    loss, right = loss_of(model, after), accuracy(model, after)
    wrecked = unguarded(model, rows_of(before), rows_of(after))
    assert accuracy(wrecked, after) < right - 0.04
    for trust in (0.1, FAR):
        model = on_cora(epochs)
        stream = Served(before, model, DeepParams(trust=trust))
        account = stream.serve("edges", 50).artifacts
        assert torch.equal(edges_of(stream.data), edges_of(after))
        assert account["step-taken"]
        assert account["residual-after"] < account["residual-before"]
        assert loss_of(model, after) <= 1.05 * loss + 1e-6
        assert accuracy(model, after) >= right - 0.01


def test_a_step_that_no_halving_makes_good_is_dropped_and_the_record_says_so() -> None:
    model, before = on_cora(1), cora()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = Served(before, model, DeepParams(trust=10.0)).serve("edges", 50)
    assert result.artifacts["step-taken"] is False
    assert result.artifacts["residual-after"] == result.artifacts["residual-before"] > 0
    assert any(f"after {HALVINGS} halvings" in sentence for sentence in result.warnings)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_step_that_raises_the_training_loss_by_more_than_its_share_is_not_taken() -> None:
    head, old, new = line_and_rows(2)
    w = head.weight.detach().numpy()
    whole = mended(head, F.cross_entropy, old, new, EXACT)
    assert whole.taken
    assert whole.halvings == 0
    assert whole.after.loss > whole.before.loss  # w is no optimum: the step keeps its gradient, not its loss
    careful = mended(head, F.cross_entropy, old, new, replace(EXACT, rise=0.0))
    assert careful.after.loss <= careful.before.loss
    assert np.array_equal(head.weight.detach().numpy(), w)


def test_when_nothing_changes_nothing_moves() -> None:
    model, rows = on_cora(60), rows_of(cora())
    done = mended(model.head, F.cross_entropy, rows, rows, DeepParams())
    assert done.before.residual == 0
    assert not done.taken
    assert all(torch.equal(done.after.weights[name], p.detach()) for name, p in model.head.double().named_parameters())


# -- requests ---------------------------------------------------------------------------------------------------------


def test_three_times_fifty_edges_cost_cora_less_than_a_point_and_every_step_does_what_it_is_for() -> None:
    model = on_cora(60)
    stream = Served(cora(), model)
    before = accuracy(model, cora())
    assert before > 0.8
    for _ in range(3):
        account = stream.serve("edges", 50).artifacts
        assert account["step-taken"]
        assert account["residual-after"] < 0.9 * account["residual-before"]
        assert abs(accuracy(model, stream.data) - before) <= 0.01


@pytest.mark.parametrize(("kind", "keep"), [("nodes", False), ("nodes", True), ("features", False)])
def test_nodes_and_features_are_served_and_what_is_kept_is_the_graph_after(kind: str, keep: bool) -> None:
    data = communities(n=200)
    stream = Served(data, trained(data, 30))
    for _ in range(2):
        result = stream.serve(kind, 5, keep_features=keep)
        known = stream.data.y != MISSING
        assert torch.equal(stream.state.tensors["rows"], known.nonzero()[:, 0])
        assert torch.equal(stream.state.tensors["y"], stream.data.y[known])
        assert bool((stream.state.tensors["propagation/x"] == stream.data.x).all())
        assert result.artifacts["residual-before"] > 1e-6
    assert stream.state.meta["served"] == 2
    assert int((data.y != MISSING).sum()) - int(known.sum()) == (10 if kind == "nodes" else 0)


def test_going_on_from_a_stored_state_gives_the_same_bits() -> None:
    data, model = communities(n=200), trained(communities(n=200), 30)
    one, other = Served(data, Deep(6, 3)), Served(data, Deep(6, 3))
    for stream in (one, other):
        stream.model.load_state_dict(model.state_dict())
        stream.model.eval()
    for _ in range(3):
        one.serve("edges", 5)
        other.state = copy_of(other.state)
        other.serve("edges", 5)
    found = one.model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in other.model.state_dict().items())
    assert not torch.equal(found["head.0.weight"], model.head[0].weight)


def test_running_statistics_stay_and_the_network_is_left_in_its_own_precision() -> None:
    data = communities(n=200)
    model = trained(data, 30)
    statistics = model.head[1].running_mean.clone(), model.head[1].running_var.clone()
    Served(data, model).serve("nodes", 10)
    assert torch.equal(model.head[1].running_mean, statistics[0])
    assert torch.equal(model.head[1].running_var, statistics[1])
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_state_of_another_graph_or_without_its_rows_is_refused() -> None:
    data = communities(n=200)
    stream = Served(data, trained(data, 5))
    foreign = Served(without(data, "edges", drawn(data, "edges", 3)), trained(data, 5))
    stream.state, whole = foreign.state, stream.state
    with pytest.raises(DataError, match="wrong-state"):
        stream.serve("edges", 2)
    stream.state = State(tensors={k: v for k, v in whole.tensors.items() if k != "rows"}, meta=whole.meta)
    with pytest.raises(DataError, match="it holds no rows"):
        stream.serve("edges", 2)


def test_networks_that_do_not_propagate_before_they_learn_are_refused() -> None:
    method, task = ScaleGunDeep(DeepParams()), NodeClassification()
    model = Deep(4, 2)
    assert method.check(model, task) is None
    assert "does not propagate before" in (method.check(nn.Linear(4, 2), task) or "")
    model.level_weights = (1.0,)  # type: ignore[assignment]
    assert "does not propagate at all" in (method.check(model, task) or "")


# -- it certifies nothing, and says so --------------------------------------------------------------------------------


def test_there_is_no_certificate_and_the_first_request_of_a_stream_says_so() -> None:
    data = communities(n=200)
    stream = Served(data, trained(data, 30))
    first, second = stream.serve("edges", 3), stream.serve("edges", 3)
    assert first.certificate is second.certificate is None
    assert first.artifacts["certified"] is second.artifacts["certified"] is False
    assert UNCERTIFIED in first.warnings
    assert UNCERTIFIED not in second.warnings
    (spec,) = (spec for spec in unlearnbench_unlearners() if spec.name == "scalegun-deep")
    assert "certifies nothing" in spec.summary


def test_a_run_on_cora_with_the_hosts_network_is_recorded_without_a_certificate(tmp_path: Path) -> None:
    cora()  # skips where the data are not there
    (record,) = unlearnbench.run(
        "scalegun-deep",
        dataset="planetoid",
        model="sgc-mlp",
        forget={"kind": "edges", "count": 50},
        measures=["accuracy"],
        out=tmp_path,
    )
    assert record.status == "complete"
    assert record.document["certificate"] is None
    assert UNCERTIFIED in record.document["warnings"]
    before, after = (record.value("accuracy.test", subject) for subject in ("original", "unlearned"))
    assert before is not None
    assert after == pytest.approx(before, abs=0.01)
