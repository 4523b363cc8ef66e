"""CPU time of one run through the host over that of a plain PyTorch script that does the same work.

The work is the scenario digits-cnn-random10/v1 with SalUn: train the original and the gold model, unlearn, predict with
all three models on the forget, retain and test rows. ``bare`` is what a researcher writes by hand: it uses nothing of
ours, keeps no store and writes no record. Both sides must reach the same weights bit for bit, or the comparison stops.

    python benchmarks/host_overhead.py [--pairs 9]
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import platform
import statistics
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from clock import seconds
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor, nn

from unlearnbench.config import resolve_experiment
from unlearnbench.record import Record
from unlearnbench.registry import registry
from unlearnbench.runner import execute
from unlearnbench.scenes import load_dataset, make_scene
from unlearnbench.spec import RunSpec

SCENARIO = "digits-cnn-random10/v1"
TARGET = 1.05
SEED = 0

Models = dict[str, nn.Module]
Weights = dict[str, bytes]


# -- the script that one would write without the host ------------------------------------------------------------------


def bare(forget: Tensor) -> Models:
    """Everything by hand; ``forget`` holds the positions of the forget set among the training rows."""
    x, y, x_test, _ = digits()
    retained = torch.ones(len(y), dtype=torch.bool)
    retained[forget] = False
    retain = retained.nonzero()[:, 0]
    original = trained(x, y, torch.arange(len(y)))
    gold = trained(x, y, retain)
    unlearned = salun(copy.deepcopy(original), x, y, forget, retain)
    models = {"original": original, "gold": gold, "unlearned": unlearned}
    for model in models.values():
        predicted(model, x[forget])
        predicted(model, x[retain])
        predicted(model, x_test)
    return models


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs and labels of the training and the test rows."""
    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    train, test = train_test_split(rows, test_size=0.2, random_state=0, stratify=bunch.target)
    x = torch.from_numpy((bunch.images / 16).astype(np.float32)).unsqueeze(1)
    y = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = np.sort(train), np.sort(test)
    return x[train], y[train], x[test], y[test]


def stream(purpose: str) -> Generator:
    """A random stream per purpose, seeded as the host seeds its own, so that both sides draw the same numbers."""
    seed = int.from_bytes(hashlib.sha256(f"{SEED}/{purpose}".encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    """The CNN of the scenario, with the initial weights that the host draws."""
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=stream("train/init/net"))))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def trained(x: Tensor, y: Tensor, rows: Tensor) -> nn.Module:
    """Train a new network on some rows by the recipe of the scenario."""
    model, order = network(), stream("train/order")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=order)))
    model.train()
    for _ in range(30):
        for batch in rows[torch.randperm(len(rows), generator=order)].split(32):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def salun(model: nn.Module, x: Tensor, y: Tensor, forget: Tensor, retain: Tensor) -> nn.Module:
    """SalUn: the salient half of the weights is trained on wrong labels for the forget set, and on the retain set."""
    model.eval()
    parameters = list(model.parameters())
    saliency = [torch.zeros_like(p) for p in parameters]
    for rows in forget.split(64):
        loss = F.cross_entropy(model(x[rows]), y[rows], reduction="sum")
        for total, grad in zip(saliency, torch.autograd.grad(loss, parameters), strict=True):
            total += grad
    flat = torch.cat([s.abs().flatten() for s in saliency])
    keep = torch.zeros_like(flat)
    keep[flat.argsort(descending=True, stable=True)[: -(-len(flat) // 2)]] = 1
    masks = [part.view_as(p) for part, p in zip(keep.split([p.numel() for p in parameters]), parameters, strict=True)]

    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
    order, labels = stream("unlearn/order"), stream("unlearn/labels")
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=stream("unlearn/dropout"))))
    model.train()

    def step(inputs: Tensor, targets: Tensor) -> None:
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        for p, mask in zip(parameters, masks, strict=True):
            assert p.grad is not None
            p.grad.mul_(mask)
        optimizer.step()

    for _ in range(10):
        for rows in forget[torch.randperm(len(forget), generator=order)].split(32):
            step(x[rows], (y[rows] + torch.randint(1, 10, (len(rows),), generator=labels)) % 10)
        for rows in retain[torch.randperm(len(retain), generator=order)].split(32):
            step(x[rows], y[rows])
    return model


@torch.no_grad()
def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """Logits of all rows in evaluation mode."""
    model.eval()
    return torch.cat([model(rows) for rows in x.split(1024)])


# -- the same through the host -----------------------------------------------------------------------------------------


def resolved() -> tuple[RunSpec, Tensor]:
    """The run, without measures (predictions are made for the record), and the positions of its forget set."""
    experiment = {"scenario": SCENARIO, "unlearners": ["salun"], "seeds": [SEED], "measures": ["accuracy"]}
    (spec,) = resolve_experiment(experiment, registry())
    splits, files = load_dataset(registry(), spec.dataset)
    scene = make_scene(spec, splits, files, torch.device("cpu"), None)
    return replace(spec, measures=()), scene.parts[0].forget.index


def hosted(spec: RunSpec, out: Path) -> Record:
    """From a spec to a record in a fresh folder."""
    return execute([spec], out=out).records[0]


def stored(record: Record, out: Path) -> Weights:
    """The weights of a record's models, out of the store."""
    entries = {path.name: path for path in (out / "store").glob("*/*/*")}
    keys = {name: found[0]["key"] for name, found in record.document["models"].items()}
    return {name: bits(load_file(entries[key] / "model.safetensors")) for name, key in keys.items()}


def bits(state: dict[str, Tensor]) -> bytes:
    """All weights as bytes, in the order of their names."""
    return b"".join(state[name].numpy().tobytes() for name in sorted(state))


# -- the comparison ----------------------------------------------------------------------------------------------------


def compare(spec: RunSpec, forget: Tensor, out: Path) -> None:
    """Warm up, and make sure that both sides do the same work."""
    by_hand = {name: bits(model.state_dict()) for name, model in bare(forget).items()}
    by_host = stored(hosted(spec, out), out)
    differ = [name for name in by_hand if by_hand[name] != by_host[name]]
    if differ:
        sys.exit(f"not the same work: the weights of {', '.join(differ)} differ")


def main() -> int:
    """Print the ratio of every pair and their median; 1 when the median is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9, help="pairs of runs, at least 5 (default: 9)")
    pairs = max(5, parser.parse_args().pairs)
    torch.set_num_threads(1)
    spec, forget = resolved()
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        compare(spec, forget, Path(folder, "warm-up"))
        print(f"{SCENARIO} with salun, one thread, torch {torch.__version__}, python {platform.python_version()}")
        print("same weights on both sides: original, gold, unlearned")
        for pair in range(pairs):
            out = Path(folder, str(pair))
            sides = {"bare": partial(bare, forget), "host": partial(hosted, spec, out)}
            order = ("bare", "host") if pair % 2 == 0 else ("host", "bare")
            spent = {name: seconds(sides[name]) for name in order}
            ratios.append(spent["host"] / spent["bare"])
            print(f"pair {pair + 1}: bare {spent['bare']:.3f} s, host {spent['host']:.3f} s, ratio {ratios[-1]:.3f}")
    median = statistics.median(ratios)
    print(f"median of {pairs} CPU-time ratios: {median:.3f} (target: at most {TARGET})")
    return int(median > TARGET)


if __name__ == "__main__":
    sys.exit(main())
