"""CPU time of per-sample importances against the loop that goes through the rows one by one.

On 1,000 rows of digits and a CNN of 13,706 weights, trained as the scenario digits-cnn-class3/v1 trains it:

* Fisher diagonal, expectation over labels: the closed form of linear and convolutional layers, and vmap, which serves
  the networks that the closed form does not;
* SSD's importance, the label of each row alone: as SSD computes it, that is by the closed form here; and vmap, which
  has no target of its own, because one backward pass per row leaves it less to save.

``loop`` is what a researcher writes by hand: one forward pass per row, one gradient per class (or label). Before
anything is timed, all must have found the same diagonal.

    python benchmarks/fisher.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from clock import seconds
from sklearn.datasets import load_digits
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Classification, Data, View, fit, generator, squared_gradients

ROWS = 1000
TARGETS = {"fisher, closed form": 8.0, "fisher, vmap": 5.0, "ssd": 6.0}
DIFFERENCE = {torch.float64: 1e-10, torch.float32: 1e-3}
"""Largest difference of two diagonals, relative to the largest entry."""

Diagonal = dict[str, Tensor]


def expected_by_hand(model: nn.Module, x: Tensor) -> Diagonal:
    """The Fisher diagonal row by row: sum over the classes of p(y|x) * gradient^2, averaged over the rows."""
    names, weights = zip(*model.named_parameters(), strict=True)
    total = [torch.zeros_like(weight) for weight in weights]
    for row in range(len(x)):
        logits = model(x[row : row + 1])
        p = logits.detach().softmax(1)[0]
        for label in range(len(p)):
            loss = F.cross_entropy(logits, torch.tensor([label]))
            for so_far, grad in zip(total, torch.autograd.grad(loss, weights, retain_graph=True), strict=True):
                so_far += p[label] * grad**2
    return {name: value / len(x) for name, value in zip(names, total, strict=True)}


def true_by_hand(model: nn.Module, x: Tensor, y: Tensor) -> Diagonal:
    """SSD's importance row by row: the squared gradient of the loss of each row's label, averaged over the rows."""
    names, weights = zip(*model.named_parameters(), strict=True)
    total = [torch.zeros_like(weight) for weight in weights]
    for row in range(len(x)):
        loss = F.cross_entropy(model(x[row : row + 1]), y[row : row + 1])
        for so_far, grad in zip(total, torch.autograd.grad(loss, weights), strict=True):
            so_far += grad**2
    return {name: value / len(x) for name, value in zip(names, total, strict=True)}


def problem() -> tuple[nn.Module, View]:
    """The trained network and the rows."""
    bunch = load_digits()
    x = torch.from_numpy((bunch.images[:ROWS] / 16).astype(np.float32)).unsqueeze(1)
    y = torch.from_numpy(bunch.target[:ROWS].astype(np.int64))
    view = View(Data(x, y, torch.arange(ROWS), tuple("0123456789")), torch.arange(ROWS), name="train")
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    recipe = Recipe(optimizer="adam", lr=1e-3, weight_decay=0, epochs=30, batch_size=32)
    fit(model, Classification(), view, recipe, generator(0))
    return model, view


def sides(model: nn.Module, view: View) -> dict[str, tuple[Callable[[], Diagonal], Callable[[], Diagonal]]]:
    """What is compared with which loop."""
    x, y, *_ = view.tensors()
    fast = partial(squared_gradients, model, Classification(), view)
    expected, true = partial(expected_by_hand, model, x), partial(true_by_hand, model, x, y)
    return {
        "fisher, closed form": (partial(fast, labels="expected", way="closed"), expected),
        "fisher, vmap": (partial(fast, labels="expected", way="vmap"), expected),
        "ssd": (fast, true),
        "ssd, vmap": (partial(fast, way="vmap"), true),
    }


def difference(found: Diagonal, wanted: Diagonal) -> float:
    """Largest difference, relative to the largest entry of all."""
    largest = max(float(value.max()) for value in wanted.values())
    return max(float((found[name] - value).abs().max()) for name, value in wanted.items()) / largest


def compare(model: nn.Module, view: View) -> bool:
    """Print the differences in both precisions; whether all are small enough. Warms up as well."""
    fine = True
    batch = view.tensors()
    for dtype, allowed in DIFFERENCE.items():
        data = Data(batch.x.to(dtype), batch.y, batch.ids, view.outputs)
        net = copy.deepcopy(model).to(dtype)
        for name, (fast, loop) in sides(net, View(data, torch.arange(len(data)), name="train")).items():
            found = difference(fast(), loop())
            print(f"{name}, {dtype}: largest difference {found:.1e} of the largest entry (target: {allowed:.0e})")
            fine &= found <= allowed
    return fine


def main() -> int:
    """Print differences and ratios; 1 when one misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs, at least 5 (default: 5)")
    pairs = max(5, parser.parse_args().pairs)
    torch.set_num_threads(1)
    model, view = problem()
    weights = sum(parameter.numel() for parameter in model.parameters())
    print(f"{ROWS} rows of digits, {weights} weights, one thread, torch {torch.__version__}", end=", ")
    print(f"python {platform.python_version()}")
    fine = compare(model, view)
    for name, (fast, loop) in sides(model, view).items():
        ratios = []
        for pair in range(pairs):
            order = ("loop", "fast") if pair % 2 == 0 else ("fast", "loop")
            spent = {side: seconds(loop if side == "loop" else fast) for side in order}
            ratios.append(spent["loop"] / spent["fast"])
            print(f"{name}, pair {pair + 1}: loop {spent['loop']:.3f} s, ours {spent['fast']:.3f} s, {ratios[-1]:.1f}x")
        median = statistics.median(ratios)
        target = TARGETS.get(name, 0.0)
        print(
            f"{name}: median of {pairs} ratios {median:.1f}x" + (f" (target: at least {target:.0f}x)" if target else "")
        )
        fine &= median >= target
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
