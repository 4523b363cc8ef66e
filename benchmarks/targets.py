"""What the graphs of all targets cost on a network of a usual size, and what forgetting a target costs then.

ResNet-18 at 224 pixels with ten targets, one instance each (K = 1), one thread:

* preparing: CPU time of the graphs of all ten targets, over that of ten forward and backward passes of one image each,
  as a training step makes them;
* forgetting: time on the clock of one request, from votes to zeros, in seconds.

The image of a target is drawn: what it shows makes no difference to the cost.

    OMP_NUM_THREADS=1 python benchmarks/targets.py [--passes 5] [--size 224]
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from statistics import median
from time import perf_counter

import torch
from clock import seconds
from torch import nn

from unlearnbench.api.recipe import Recipe
from unlearnbench.api.runtime import (
    TASKS,
    Data,
    PrepareJob,
    Ref,
    Request,
    State,
    UnlearnJob,
    View,
    finish,
    generator,
)
from unlearnbench.networks import build_network
from unlearnbench.registry import registry
from unlearnbench_essential_graph.method import EssentialGraph
from unlearnbench_essential_graph.plugin import EssentialGraphParams

TARGETS = 10
MOST_PREPARED = 1.2
MOST_FORGOTTEN_S = 0.1


def main() -> None:
    """Print both figures beside what they may be at most; exit with 1 where one is more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passes", type=int, default=5, help="repetitions, of which the median counts")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS["multi-label"]
    names = tuple(f"t{k}" for k in range(TARGETS))
    x = torch.randn(TARGETS, 3, options.size, options.size, generator=generator(0))
    data = Data(x, torch.eye(TARGETS), torch.arange(TARGETS), names)
    view = View(data, torch.arange(TARGETS), name="train")
    ref = Ref("resnet18", {"stem": "imagenet"}, data.row_shape, TARGETS)
    model = finish(build_network(registry(), ref, 0, torch.device("cpu")))
    unlearner = EssentialGraph(EssentialGraphParams(instances=1, sigma=20, delta=0.1))
    common = {"task": task, "device": torch.device("cpu"), "root_seed": 0, "builder": lambda ref, seed: nn.Identity()}

    def passes() -> None:
        for k in range(TARGETS):
            task.target_score(model, view.take(torch.tensor([k])), k).backward()
        model.zero_grad(set_to_none=True)

    def prepared() -> State:
        return unlearner.prepare(
            PrepareJob(phase="prepare", data=view, validation=view, model=model, state=State(), **common)
        )

    def unlearned(net: nn.Module, state: State) -> None:
        unlearner.unlearn(
            UnlearnJob(
                phase="unlearn", request=Request("target", "", targets=(3,)), forget=view, retain=view,
                validation=view, model=net, state=state, recipe=Recipe(), **common,
            )
        )  # fmt: skip

    passes()  # the first passes load what torch needs
    state = prepared()
    ratios, clocks = [], []
    for _ in range(options.passes):
        baseline = seconds(passes)
        ratios.append(seconds(prepared) / baseline)
        net, fresh = deepcopy(model), deepcopy(state)
        started = perf_counter()
        unlearned(net, fresh)
        clocks.append(perf_counter() - started)
    print(f"resnet18 at {options.size} px, {TARGETS} targets, K = 1, {options.passes} passes")
    print(
        f"graphs of all targets / {TARGETS} forward-backward passes  {median(ratios):.2f}x   at most {MOST_PREPARED}x"
    )
    print(f"forgetting one target, 20 convolutions               {median(clocks):.3f} s  at most {MOST_FORGOTTEN_S} s")
    if median(ratios) > MOST_PREPARED or median(clocks) > MOST_FORGOTTEN_S:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
