"""What PRUNE's certificates cost: to make, to check, and at run time.

* making: CPU time of a request for each row that is certified, over the CPU time of training gold;
* checking: CPU time of the verifier for each certificate, with floats and exactly, over that of making it;
* run time: CPU time of a forward pass with 1,000 patches under exact gates, over that of the network underneath.

Fashion-MNIST is left out where UNLEARNBENCH_DATA does not lead to it.

    OMP_NUM_THREADS=1 python benchmarks/prune.py [--passes 30]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from clock import seconds
from torch import nn

import unlearnbench
from unlearnbench_prune.papers import export, read_papers
from unlearnbench_prune.parts import Box
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PatchedParams
from unlearnbench_prune.survey import Survey
from unlearnbench_verifier.checks import check
from unlearnbench_verifier.files import read_json, read_tensors
from unlearnbench_verifier.model import read_model

SCENARIOS = {
    "digits-mlp-random40/v1": (0.1, 1.5),
    "fashion-mlp-random100/v1": (3.0, 0.2),
}
"""Most CPU seconds for a certified row, and for a check: exact on digits, with floats on Fashion-MNIST."""
SLOWER = 1.3
"""Most that the network underneath may be slowed down by."""
PATCHES = 1000


def certificates(name: str, folder: Path) -> None:
    """Run a scenario, with its own profile and with whole regions, and check what comes out."""
    most_made, most_checked = SCENARIOS[name]
    for radius in ("auto", "whole"):
        (record,) = unlearnbench.run(
            "prune", scenario=name, measures=["accuracy", "run-cost"], parameters={"prune.radius": radius},
            out=folder / radius, store=folder / "store",
        )  # fmt: skip
        certificate, costs = record.document["certificate"], record.document["costs"]
        rows, certified = certificate["rows"], certificate["certified"]
        made, gold = (costs[phase]["cpu_s"] for phase in ("unlearn", "train-gold"))
        print(f"{name}, radius {radius}: {certified} of {rows} rows certified")
        print(
            f"  made     {made / certified:8.4f} s a row (goal: at most {most_made:g}); "
            f"all {certified}: {made / gold:.2f} x training gold"
        )
        out = folder / f"papers-{radius}"
        export(read_papers(record.folder), out, owner=True, key=None, created=None)
        for exact in (False, True):
            spent = [checked(out, path, exact=exact) for path in sorted((out / "owner").glob("*.json"))[:10]]
            goal = f" (goal: at most {most_checked:g})" if exact == name.startswith("digits") else ""
            how = "exactly" if exact else "in floats"
            ratio = median(spent) * certified / made
            print(f"  checked  {median(spent):8.4f} s a row {how}{goal}; {ratio:.2f} x making it")


def checked(folder: Path, path: Path, *, exact: bool) -> float:
    """CPU seconds of checking one certificate, the reading and hashing of the model included."""

    def work() -> None:
        model = read_model(read_tensors(folder / "model.safetensors"))
        found = check(model, read_json(path), exact=exact)
        assert not any(finding.fine is False for finding in found), found

    return seconds(work)


def inference(widths: Sequence[int], rows: int, share: float, passes: int) -> tuple[float, float]:
    """Least CPU seconds of a forward pass of the base and of the patched network; a share of the rows is in a patch."""
    torch.manual_seed(0)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())][:-1]
    base = nn.Sequential(nn.Flatten(), *layers).eval()
    model = PatchedNet(base, (widths[0],), widths[-1], PatchedParams(members=PATCHES, groups=PATCHES)).eval()
    spots = torch.rand(PATCHES, widths[0])
    survey = Survey.of(base, (widths[0],), "", Box(0.0, 1.0))
    model.patterns.copy_(survey.patterns(spots))
    model.groups.copy_(torch.arange(PATCHES))
    model.centres.copy_(spots)
    model.radii.fill_(0.05)
    model.shifts.normal_()
    x = torch.rand(rows, widths[0])
    inside = int(rows * share)
    x[:inside] = spots[:inside]
    with torch.no_grad():
        assert int((model.members_at(x) >= 0).sum()) == inside
        repeats = max(1, 2_000_000 // (rows * widths[0]))
        calls: tuple[Callable[[], object], ...] = (lambda: base(x), lambda: model(x))
        best = [float("inf")] * 2
        for turn in range(passes):  # in turn, so that neither always comes after the other
            for k in (turn % 2, 1 - turn % 2):
                best[k] = min(best[k], seconds(partial(repeated, calls[k], repeats)) / repeats)
    return best[0], best[1]


def repeated(call: Callable[[], object], times: int) -> None:
    """Call it so often."""
    for _ in range(times):
        call()


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--passes", type=int, default=30, help="passes of each network, of which the least counts")
    passes = parser.parse_args().passes
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in SCENARIOS:
        if name.startswith("fashion") and "UNLEARNBENCH_DATA" not in os.environ:
            print(f"{name}: left out, UNLEARNBENCH_DATA is not set")
            continue
        with tempfile.TemporaryDirectory() as folder:
            certificates(name, Path(folder))
    print(f"a forward pass with {PATCHES:,} patches under exact gates (goal on 784-256-10: at most {SLOWER:g} x)")
    for widths in ((784, 256, 10), (64, 64, 32, 10)):
        for rows in (256, 1024):
            for share in (0.0, 0.1):
                base, patched = inference(widths, rows, share, passes)
                print(
                    f"  {'-'.join(map(str, widths)):12s} {rows:5,} rows, {share:4.0%} in a patch: "
                    f"{base * 1e3:7.3f} ms, patched {patched / base:.2f} x"
                )


if __name__ == "__main__":
    main()
