"""CPU time of training shadow networks as stacks against training them one by one.

The same networks from the same seeds on the same rows in the same order: ``fit`` for each, and ``fit_stacked`` for
stacks of eight, as an audit trains them. The first case, 32 small CNNs on digits, has a target; the others show where
the rule that chooses (``unlearnbench.stacked.stackable``) draws its line. Before anything is timed, both ways must have
reached the same losses.

    python benchmarks/shadows.py [--pairs 3] [--networks 32]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from clock import seconds
from sklearn.datasets import load_digits
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import Classification, Data, Ref, View, fit, generator, predict
from unlearnbench.networks import build_network
from unlearnbench.registry import registry
from unlearnbench.stacked import STACK, fit_stacked, stackable

TARGET = 1.5
TASK = Classification()


@dataclass(frozen=True)
class Case:
    """Networks of one kind on one set of rows."""

    name: str
    model: str
    params: dict[str, Any]
    data: Data
    recipe: Recipe
    gated: bool = False


def cases() -> list[Case]:
    """The audit scenarios' networks, and wider ones up to where arithmetic outweighs calls."""
    digits = load_digits()
    x = torch.from_numpy(digits.images / 16).float().reshape(-1, 1, 8, 8)[:600]
    rows = Data(x, torch.from_numpy(digits.target)[:600].long(), torch.arange(600), tuple("0123456789"))
    noise = torch.randn(1500, 446, generator=generator(0)).sign()
    labels = torch.randint(30, (1500,), generator=generator(1))
    table = Data(noise, labels, torch.arange(1500), tuple(map(str, range(30))))
    small = Recipe(optimizer="adam", lr=3e-3, weight_decay=0, epochs=5, batch_size=32)
    wide = Recipe(optimizer="adam", lr=1e-3, weight_decay=0, epochs=2, batch_size=64)
    return [
        Case("cnn 16-32-64", "cnn", {"channels": (16, 32), "hidden": 64}, rows, small, gated=True),
        Case("cnn 32-64-128", "cnn", {"channels": (32, 64), "hidden": 128}, rows, small),
        Case("cnn 64-128-256", "cnn", {"channels": (64, 128), "hidden": 256}, rows, small),
        Case("mlp 446-128-30", "mlp", {"hidden": (128,)}, table, wide),
        Case("mlp 446-512-512-30", "mlp", {"hidden": (512, 512)}, table, wide),
    ]


def networks(case: Case, n: int) -> list[nn.Module]:
    """Freshly initialised networks, the same on every call."""
    ref = Ref(case.model, case.params, case.data.row_shape, len(case.data.outputs))
    return [build_network(registry(), ref, seed, torch.device("cpu")) for seed in range(n)]


def view_of(case: Case) -> View:
    """All rows of a case."""
    return View(case.data, torch.arange(len(case.data)), name="train")


def one_by_one(case: Case, n: int) -> list[nn.Module]:
    """Train each network on its own."""
    models = networks(case, n)
    for seed, model in enumerate(models):
        fit(model, TASK, view_of(case), case.recipe, generator(seed))
    return models


def as_stacks(case: Case, n: int) -> list[nn.Module]:
    """Train them as an audit does."""
    models = networks(case, n)
    for start in range(0, n, STACK):
        part = models[start : start + STACK]
        seeds = range(start, start + len(part))
        fit_stacked(part, TASK, [view_of(case)] * len(part), case.recipe, [generator(seed) for seed in seeds])
    return models


def losses(case: Case, models: Sequence[nn.Module]) -> Tensor:
    """Mean training loss of each network."""
    view = view_of(case)
    return torch.stack([TASK.loss(predict(model, TASK, view), view.tensors().y) for model in models])


def main() -> int:
    """Print ratios and choices; 1 when the target is missed or both ways differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of runs of each case (default: 3)")
    parser.add_argument("--networks", type=int, default=32, help="networks of each case (default: 32)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{arguments.networks} networks, one thread, torch {torch.__version__}, python {platform.python_version()}")
    fine = True
    for case in cases():
        n = arguments.networks
        alone, together = losses(case, one_by_one(case, n)), losses(case, as_stacks(case, n))
        apart = float((alone - together).abs().max())
        fine &= apart < 0.05
        ratios = []
        for pair in range(max(1, arguments.pairs)):
            order = (one_by_one, as_stacks) if pair % 2 == 0 else (as_stacks, one_by_one)
            spent = {way.__name__: seconds(partial(way, case, n)) for way in order}
            ratios.append(spent["one_by_one"] / spent["as_stacks"])
        ratio = statistics.median(ratios)
        chosen = stackable(networks(case, 1)[0], TASK, view_of(case), case.recipe)
        target = f" (target: at least {TARGET}x)" if case.gated else ""
        print(
            f"{case.name:20} one by one {spent['one_by_one']:.2f} s, stacked {spent['as_stacks']:.2f} s,"
            f" {ratio:.2f}x{target}; losses differ by {apart:.0e}; chosen: {'stack' if chosen else 'one by one'}",
            flush=True,
        )
        fine &= ratio >= TARGET or not case.gated
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
