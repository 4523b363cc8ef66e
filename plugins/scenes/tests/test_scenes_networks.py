"""Networks for labels and pixels: shapes, sizes, first weights, restoring, tracing, and that they learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hand_models import built_on_meta, interface
from torch import Tensor, fx, nn

from unlearnbench.api import Recipe, UsageError
from unlearnbench.api.runtime import TASKS, Data, View, fit, generator, predict, squared_gradients
from unlearnbench_scenes.boxes import SceneBoxes
from unlearnbench_scenes.networks import Labels, Pixels, SceneLabels, ScenePixels
from unlearnbench_scenes.plugin import BodyParams, BoxesParams, ShapesParams
from unlearnbench_scenes.shapes import Shapes

COMPONENTS = {"labels": SceneLabels, "pixels": ScenePixels, "boxes": SceneBoxes}
NAMES = pytest.mark.parametrize("name", COMPONENTS)
BODY = 9 * (3 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64 + 64 * 128) + 2 * (16 + 32 + 32 + 64 + 64 + 128)


def component(name: str, **params: Any) -> Any:
    return COMPONENTS[name]((BoxesParams if name == "boxes" else BodyParams)(**params))


def built(
    name: str, inputs: tuple[int, ...] = (3, 24, 24), outputs: int = 4, seed: int = 0, **params: Any
) -> nn.Module:
    torch.manual_seed(seed)
    net: nn.Module = component(name, **params).build(interface(inputs, outputs))
    return net


def settled(name: str, **params: Any) -> nn.Module:
    """A network in evaluation mode whose BatchNorms have statistics and weights of their own."""
    net = built(name, **params)
    rng = generator(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=rng))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=rng))
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=rng)
    return net.eval()


def rows(n: int = 3, height: int = 24, width: int = 24) -> Tensor:
    return torch.randn(n, 3, height, width, generator=generator(7))


@pytest.mark.parametrize(("name", "head"), [("labels", 129 * 4), ("pixels", 129 * 4), ("boxes", 129 * (4 + 2 + 2))])
def test_parameters_are_those_of_the_six_convolutions_and_the_heads(name: str, head: int) -> None:
    net = built_on_meta(component(name), (3, 24, 24), 4)
    assert sum(p.numel() for p in net.parameters()) == BODY + head


@pytest.mark.parametrize(("height", "width"), [(24, 24), (64, 64), (25, 30), (13, 7), (1, 2)])
@pytest.mark.parametrize(("name", "shape"), [("labels", ()), ("pixels", (None, None))])
def test_images_of_any_size_are_taken(name: str, shape: tuple[Any, ...], height: int, width: int) -> None:
    net = settled(name, inputs=(3, height, width), outputs=5)
    with torch.no_grad():
        out = net(rows(2, height, width))
    assert out.shape == (2, 5, *((height, width) if shape else ()))
    assert out.isfinite().all()


def test_features_are_at_a_quarter_of_the_size_rounded_up() -> None:
    net = settled("pixels")
    assert net.get_submodule("body")(rows(1, 25, 30)).shape == (1, 128, 7, 8)


def test_pools_follow_the_convolutions_that_are_named() -> None:
    net = settled("pixels", channels=(4, 6, 8), pool_after=(1, 2, 3))
    kinds = [type(layer).__name__ for layer in net.get_submodule("body")]  # type: ignore[attr-defined]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"] * 3
    assert net(rows()).shape == (3, 4, 24, 24)
    flat = settled("pixels", channels=(4,), pool_after=())
    assert torch.equal(flat(rows()), flat.head(flat.body(rows())))  # type: ignore[operator]


@NAMES
def test_first_weights_follow_the_global_seed_and_survive_restoring(name: str) -> None:
    net, twin, other = built(name), built(name), built(name, seed=1)
    assert net.training
    state = net.state_dict()
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in state.items())
    assert not torch.equal(state["body.conv1.weight"], other.state_dict()["body.conv1.weight"])

    with torch.no_grad():
        net.get_submodule("body")(rows(8))  # batch statistics become a part of what is stored
    before = torch.get_rng_state()
    restored = built_on_meta(component(name), (3, 24, 24), 4)
    assert torch.equal(torch.get_rng_state(), before)
    restored.load_state_dict(net.state_dict(), assign=True)
    assert not [key for key, t in (*restored.named_parameters(), *restored.named_buffers()) if t.is_meta]
    with torch.no_grad():
        wanted = net.eval()(rows())
        assert torch.equal(restored.eval()(rows()), wanted)
        assert torch.equal(net(rows()), wanted)
    assert built_on_meta(component(name), (3, 25, 30), 4).eval()(torch.empty(2, 3, 25, 30, device="meta")).is_meta


@NAMES
def test_a_trace_shows_the_norm_of_each_convolution_and_computes_the_same(name: str) -> None:
    net = settled(name)
    traced = fx.symbolic_trace(net)
    modules = dict(net.named_modules())
    norms = {
        str(node.target): [str(user.target) for user in node.users]
        for node in traced.graph.nodes
        if node.op == "call_module" and isinstance(modules[str(node.target)], nn.Conv2d) and "body" in node.target
    }
    assert norms == {f"body.conv{k}": [f"body.norm{k}"] for k in range(1, 7)}
    detecting = fx.symbolic_trace(net, concrete_args={"y": None}) if name == "boxes" else traced
    with torch.no_grad():
        found = detecting(rows(), None) if name == "boxes" else detecting(rows())
        assert torch.equal(found, net(rows()))


@NAMES
def test_what_a_convolution_puts_out_is_not_overwritten(name: str) -> None:
    net, seen, copies = settled(name), {}, {}

    def remember(place: str) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            seen[place], copies[place] = out, out.clone()

        return hook

    for place, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            module.register_forward_hook(remember(place))
    with torch.no_grad():
        net(rows())
    assert len(seen) >= 12
    assert all(torch.equal(out, copies[place]) for place, out in seen.items())


def test_labels_read_the_highest_value_of_each_channel_wherever_it_is() -> None:
    head = Labels(nn.Identity(), 5, 3)
    features = torch.randn(2, 5, 4, 6, generator=generator(0))
    moved = features.flatten(2)[:, :, torch.randperm(24, generator=generator(1))].unflatten(2, (6, 4))
    by_hand = features.flatten(2).numpy().max(2) @ head.head.weight.detach().numpy().T + head.head.bias.detach().numpy()
    np.testing.assert_allclose(head(features).detach().numpy(), by_hand, rtol=1e-5)
    assert torch.equal(head(features), head(moved))


def by_hand_enlarged(cells: np.ndarray[Any, Any], stride: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """Linear between the centres of cells, which lie at (k + 1/2) * stride pixels; constant beyond the outer ones."""
    found = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            v, u = (np.clip((p + 0.5) / stride - 0.5, 0, n - 1) for p, n in zip((i, j), cells.shape, strict=True))
            a, b = int(v), int(u)
            c, d = min(a + 1, cells.shape[0] - 1), min(b + 1, cells.shape[1] - 1)
            top = cells[a, b] * (1 - u + b) + cells[a, d] * (u - b)
            bottom = cells[c, b] * (1 - u + b) + cells[c, d] * (u - b)
            found[i, j] = top * (1 - v + a) + bottom * (v - a)
    return found


@pytest.mark.parametrize(("height", "width"), [(24, 20), (25, 30)], ids=["divided", "cut"])
def test_pixels_are_interpolated_between_the_centres_of_their_cells(height: int, width: int) -> None:
    net = settled("pixels", outputs=2)
    assert isinstance(net, Pixels)
    with torch.no_grad():
        x = rows(1, height, width)
        cells = net.head(net.body(x))[0].numpy()
        found = net(x)[0].numpy()
    for k in range(2):
        np.testing.assert_allclose(found[k], by_hand_enlarged(cells[k], 4, height, width), atol=1e-5)


@pytest.mark.parametrize("task", ["multi-label", "segmentation"])
def test_squared_gradients_are_the_same_in_every_way(task: str) -> None:
    data = Shapes(ShapesParams(task=task, train_rows=5, size=16)).load(None).train  # type: ignore[arg-type]
    name = "labels" if task == "multi-label" else "pixels"
    net = settled(name, inputs=(3, 16, 16), outputs=len(data.outputs), channels=(6, 8, 10), pool_after=(1, 2))
    view = View(data, torch.arange(5), name="train")
    wanted = squared_gradients(net, TASKS[task], view, way="loop")
    for way in ("vmap", "closed"):
        found = squared_gradients(net, TASKS[task], view, way=way)  # type: ignore[arg-type]
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4 * float(value.max()))


@NAMES
@pytest.mark.parametrize(
    "params", [{"channels": ()}, {"channels": (8, 0)}, {"pool_after": (7,)}, {"pool_after": (2, 2)}]
)
def test_a_body_that_cannot_be_built_is_refused(name: str, params: Any) -> None:
    with pytest.raises(UsageError) as caught:
        built(name, **params)
    assert caught.value.code == "bad-parameter"
    assert caught.value.where == f"scene-{name}.{next(iter(params))}"


@NAMES
def test_rows_that_are_no_images_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        built(name, inputs=(12,))
    assert caught.value.code == "bad-model"


def trained(task: str, name: str, train_rows: int, epochs: int) -> tuple[nn.Module, Data, Tensor]:
    splits = Shapes(ShapesParams(task=task, train_rows=train_rows, test_rows=200)).load(None)  # type: ignore[arg-type]
    net = built(name, outputs=len(splits.train.outputs))
    recipe = Recipe(optimizer="adamw", lr=2e-3, schedule="one-cycle", epochs=epochs, batch_size=32)
    fit(net, TASKS[task], View(splits.train, torch.arange(train_rows), name="train"), recipe, generator(0))
    return net, splits.test, predict(net, TASKS[task], View(splits.test, torch.arange(200), name="test"))


def test_labels_of_shapes_are_learnt() -> None:
    _, test, out = trained("multi-label", "labels", 480, 6)
    guess, true = out > 0, test.y > 0.5
    recall = (guess & true).sum(0) / true.sum(0)
    spared = (~guess & ~true).sum(0) / (~true).sum(0)
    assert ((recall + spared) / 2 > 0.85).all()


def test_pixels_of_shapes_are_learnt() -> None:
    _, test, out = trained("segmentation", "pixels", 480, 6)
    overlap = [float(((out == k) & (test.y == k)).sum() / ((out == k) | (test.y == k)).sum()) for k in range(5)]
    assert overlap[0] > 0.9
    assert min(overlap) > 0.4
