"""Fine-tuning against a derivation of its own, on every task, and on digits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from unlearnbench.api import PluginError, Recipe
from unlearnbench.api.runtime import (
    Data,
    Meter,
    MultiLabel,
    NodeClassification,
    Segmentation,
    derive_seed,
    fit,
    generator,
)
from unlearnbench_baselines.method import Finetune
from unlearnbench_baselines.plugin import FinetuneParams

Make = Callable[..., Any]


def linear(inputs: int = 4, outputs: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Linear(inputs, outputs).double().eval()


def tiny() -> Data:
    rng = generator(1)
    x, y = torch.randn(14, 4, generator=rng, dtype=torch.float64), torch.randint(3, (14,), generator=rng)
    return Data(x, y, torch.arange(14), ("a", "b", "c"))


def test_equals_the_derivation_in_numpy(make_job: Make) -> None:
    """Softmax regression on the retain rows by hand: momentum, weight decay, the last batch of one row."""
    data, forget = tiny(), torch.tensor([1, 3, 5, 7, 9])
    p = FinetuneParams(epochs=3, batch_size=4, lr=0.2)
    model = linear()
    w, b = (v.detach().numpy().copy() for v in model.parameters())
    retain = np.array([i for i in range(14) if i not in set(forget.tolist())])
    order = generator(derive_seed(5, "unlearn", "order"))
    torch.randint(2**62, (1,), generator=order)  # the loop's seed for dropout
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for _ in range(3):
        shuffled = retain[torch.randperm(9, generator=order).numpy()]
        for rows in (shuffled[:4], shuffled[4:8], shuffled[8:]):
            x, y = data.x.numpy()[rows], data.y.numpy()[rows]
            prob = np.exp(x @ w.T + b)
            prob /= prob.sum(1, keepdims=True)
            prob[np.arange(len(y)), y] -= 1
            vw = 0.9 * vw + prob.T @ x / len(y) + 5e-4 * w
            vb = 0.9 * vb + prob.mean(0) + 5e-4 * b
            w, b = w - 0.2 * vw, b - 0.2 * vb
    meter = Meter()
    result = Finetune(p).unlearn(make_job(model, data, forget, seed=5, meter=meter))
    assert result.model is model
    assert result.mask is None
    assert not model.training
    found_w, found_b = (v.detach().numpy() for v in model.parameters())
    np.testing.assert_allclose(found_w, w, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found_b, b, rtol=0, atol=1e-10)
    assert meter.rows == {"retain": 27}


def test_same_seed_same_bits_and_another_seed_others(make_job: Make) -> None:
    def run(seed: int) -> bytes:
        job = make_job(linear(), tiny(), torch.tensor([0, 2]), seed=seed)
        return bytes(Finetune(FinetuneParams(batch_size=4)).unlearn(job).model.weight.detach().numpy().tobytes())

    before = torch.get_rng_state()
    assert run(0) == run(0) != run(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_forget_set_is_out_of_reach(make_job: Make) -> None:
    job = make_job(linear(), tiny(), torch.tensor([0, 2]))
    with pytest.raises(PluginError, match="undeclared-read"):
        next(iter(job.forget.batches(4)))
    changed = tiny()
    changed.x[[0, 2]] = 100.0
    plain = Finetune(FinetuneParams()).unlearn(job).model
    other = Finetune(FinetuneParams()).unlearn(make_job(linear(), changed, torch.tensor([0, 2]))).model
    assert torch.equal(plain.weight, other.weight)


class MeanOfNeighbours(nn.Module):
    """A one-layer graph network on an edge list [2, m]."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        both = torch.cat([edges, edges.flip(0)], 1)
        found: Tensor = self.linear(x + torch.zeros_like(x).index_add(0, both[1], x[both[0]]))
        return found


@pytest.mark.parametrize("task", [MultiLabel(), Segmentation(), NodeClassification()], ids=lambda task: task.name)
def test_every_declared_task_learns_the_retain_set(make_job: Make, task: Any) -> None:
    rng, base = generator(3), tiny()
    model: nn.Module = linear()
    if task.name == "multi-label":
        data = Data(base.x, torch.randint(2, (14, 3), generator=rng).double(), base.ids, base.outputs)
    elif task.name == "segmentation":
        with torch.random.fork_rng(devices=[]):
            model = nn.Conv2d(2, 3, 3, padding=1).double()
        x, y = torch.randn(14, 2, 5, 5, generator=rng).double(), torch.randint(3, (14, 5, 5), generator=rng)
        data = Data(x, y, base.ids, base.outputs)
    else:
        model = MeanOfNeighbours()
        data = Data(base.x, base.y, base.ids, base.outputs, edges=torch.tensor([[0, 1, 2, 5], [3, 4, 6, 9]]))
    job = make_job(model, data, torch.tensor([0, 1, 2]), task=task)

    @torch.no_grad()
    def retain_loss() -> float:
        rows = job.retain.tensors()
        return float(task.loss(task.outputs(model, rows), rows.y))

    before = retain_loss()
    Finetune(FinetuneParams(lr=0.1, epochs=20, batch_size=4)).unlearn(job)
    assert retain_loss() < 0.95 * before


def test_forgets_a_class_of_digits(make_job: Make) -> None:
    """The recipe of the digits scenario: SGD at 0.03 for 10 epochs of batches of 32."""
    x, y = load_digits(return_X_y=True)
    images = torch.from_numpy((x / 16).astype(np.float32).reshape(-1, 1, 8, 8))
    data = Data(images, torch.from_numpy(y), torch.arange(len(y)), tuple(map(str, range(10))))
    forget = (data.y == 3).nonzero()[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        original = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip
    everything = make_job(original, data, forget[:0])
    recipe = Recipe(optimizer="adam", lr=1e-3, weight_decay=0, epochs=15, batch_size=32)
    fit(original, everything.task, everything.retain, recipe, generator(0))

    @torch.no_grad()
    def accuracy(model: nn.Module, rows: Tensor) -> float:
        return float((model(data.x[rows]).argmax(1) == data.y[rows]).double().mean())

    assert accuracy(original, forget) >= 0.95
    job = make_job(copy.deepcopy(original), data, forget)
    unlearned = Finetune(FinetuneParams(lr=0.03, batch_size=32)).unlearn(job).model
    assert accuracy(unlearned, forget) <= 0.3
    assert accuracy(unlearned, (data.y != 3).nonzero()[:, 0]) >= 0.97
