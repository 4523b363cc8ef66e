"""Networks of torchvision for masks and boxes: what cannot be traced is pruned by a real pass all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    TASKS,
    Data,
    PrepareJob,
    Ref,
    Request,
    Result,
    State,
    UnlearnJob,
    View,
    generator,
    padded_boxes,
)
from unlearnbench.networks import build_network
from unlearnbench.registry import registry
from unlearnbench_essential_graph.importance import live_layers
from unlearnbench_essential_graph.method import EssentialGraph
from unlearnbench_essential_graph.plugin import EssentialGraphParams

SIZE = 64
CPU = torch.device("cpu")
COMMON = {"device": CPU, "root_seed": 0, "builder": lambda ref, seed: nn.Identity()}


def images() -> Tensor:
    return torch.rand(4, 3, SIZE, SIZE, generator=generator(0))


def boxes() -> View:
    """Two classes, each in two images."""
    one, two = torch.tensor([[4.0, 4.0, 30.0, 34.0, 0.0]]), torch.tensor([[20.0, 18.0, 60.0, 58.0, 1.0]])
    data = Data(images(), padded_boxes([one, two, one, two]), torch.arange(4), ("a", "b"))
    return View(data, torch.arange(4), name="train")


def masks() -> View:
    """Two classes beside the background, in every image."""
    y = torch.zeros(4, SIZE, SIZE, dtype=torch.int64)
    y[:, 4:30, 4:30], y[:, 34:60, 34:60] = 1, 2
    return View(Data(images(), y, torch.arange(4), ("background", "a", "b")), torch.arange(4), name="train")


def network(name: str, params: dict[str, object], view: View) -> nn.Module:
    return build_network(registry(), Ref(name, params, (3, SIZE, SIZE), len(view.outputs)), 0, CPU)


def forgotten(net: nn.Module, task: str, view: View, target: int, params: EssentialGraphParams) -> Result:
    method = EssentialGraph(params)
    assert method.check(net, TASKS[task]) is None
    state = method.prepare(
        PrepareJob(task=TASKS[task], phase="prepare", data=view, validation=view, model=net, state=State(), **COMMON)
    )
    return method.unlearn(
        UnlearnJob(
            task=TASKS[task], phase="unlearn", request=Request("target", "", targets=(target,)), forget=view,
            retain=view, validation=view, model=net, state=state, recipe=Recipe(), **COMMON,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "params", "task"),
    [
        ("ssdlite320-mobilenet-v3-large", {"size": 96}, "detection"),
        ("deeplabv3-resnet50", {}, "segmentation"),
    ],
    ids=["ssdlite", "deeplab"],
)
def test_only_the_channels_of_the_graph_change(name: str, params: dict[str, object], task: str) -> None:
    view = masks() if task == "segmentation" else boxes()
    net = network(name, params, view).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    result = forgotten(net, task, view, len(view.outputs) - 1, EssentialGraphParams(sigma=4, delta=0.1))
    graph = result.artifacts["graph"]
    assert len(graph["layers"]) == 4
    assert sum(graph["pruned"].values()) > 0
    assert result.mask is not None
    for key, value in result.model.state_dict().items():
        free = result.mask.get(key)
        if free is None:
            assert torch.equal(value, before[key]), key
        else:
            assert torch.equal(value[free], before[key][free])
            assert not bool(value[~free].any())


def test_layers_that_place_boxes_are_in_no_window_of_ssdlite() -> None:
    view = boxes()
    net = network("ssdlite320-mobilenet-v3-large", {"size": 96}, view).eval()
    layers = live_layers(net, TASKS["detection"], [(k, view.take(torch.tensor([k]))) for k in (0, 1)])
    assert layers
    assert not [name for name in layers if "regression_head" in name]
    assert [name for name in layers if "classification_head" in name]
