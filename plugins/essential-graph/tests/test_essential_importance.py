"""The importance of channels against finite differences, gradients by hand, and one instance or target at a time."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api import CheckFailed, DataError, IncompatibleError
from unlearnbench.api.runtime import TASKS, Batch, Data, Meter, View, generator
from unlearnbench_essential_graph import importance
from unlearnbench_essential_graph.importance import first_rows, importances, row_importances

LABELS = TASKS["multi-label"]
LAYERS = ("0", "3", "6")
STEP = 1e-5


def whole(data: Data, **kwargs: Any) -> View:
    return View(data, torch.arange(len(data)), name="train", **kwargs)


def batch_of(data: Data, rows: list[int]) -> Batch:
    return data.take(torch.tensor(rows))


def carriers(data: Data, target: int, k: int) -> list[int]:
    return [i for i in range(len(data)) if data.y[i, target] == 1][:k]


@pytest.mark.parametrize("target", [0, 3])
def test_alpha_is_what_finite_differences_of_each_channel_give(net: nn.Module, rows: Data, target: int) -> None:
    """Y of a channel that is raised everywhere by a step: its slope is the sum of the gradients over the places."""
    (row,) = carriers(rows, target, 1)
    batch = batch_of(rows, [row])
    found = row_importances(net, LABELS, batch, target, LAYERS)
    plain = copy.deepcopy(net)
    for name in LAYERS:
        conv = plain.get_submodule(name)
        for channel in range(conv.out_channels):
            values = []
            for step in (STEP, -STEP):
                with torch.no_grad():
                    conv.bias[channel] += step
                    values.append(float(plain(batch.x)[0, target]))
                    conv.bias[channel] -= step
            slope = (values[0] - values[1]) / (2 * STEP) / 30  # 6 x 5 places
            assert float(found[name][0, channel]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_contribution_is_what_scaling_a_channel_to_nothing_would_cost_to_first_order(
    net: nn.Module, rows: Data
) -> None:
    (row,) = carriers(rows, 1, 1)
    batch = batch_of(rows, [row])
    found = row_importances(net, LABELS, batch, 1, LAYERS, "contribution")
    plain = copy.deepcopy(net)
    for name in LAYERS:
        conv = plain.get_submodule(name)
        kept = (conv.weight.detach().clone(), conv.bias.detach().clone())
        for channel in range(conv.out_channels):
            values = []
            for step in (STEP, -STEP):
                with torch.no_grad():
                    conv.weight[channel], conv.bias[channel] = (
                        kept[0][channel] * (1 + step),
                        kept[1][channel] * (1 + step),
                    )
                    values.append(float(plain(batch.x)[0, 1]))
                    conv.weight[channel], conv.bias[channel] = kept[0][channel], kept[1][channel]
            slope = (values[0] - values[1]) / (2 * STEP) / 30
            assert float(found[name][0, channel]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def by_hand(net: nn.Module, x: Tensor, target: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Gradients and outputs of the convolutions of ``random_net`` for one row, written out without hooks."""
    outputs = []
    h = x[None]
    for place in (0, 3, 6):
        conv, norm = net[place], net[place + 1]
        f = F.conv2d(h, conv.weight, conv.bias, padding=1)
        f.retain_grad()
        outputs.append(f)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        h = (f * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]).relu()
    net[11](h.mean((2, 3)))[0, target].backward()
    found = [f.grad[0].numpy() for f in outputs], [f[0].detach().numpy() for f in outputs]
    net.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("score", ["alpha", "contribution"])
@pytest.mark.parametrize("k", [1, 5])
def test_the_graphs_of_all_targets_are_those_of_one_row_and_one_target_at_a_time_by_hand(
    net: nn.Module, rows: Data, score: Any, k: int
) -> None:
    found = importances(net, LABELS, whole(rows), k, score)
    assert found.layers == LAYERS
    assert found.instances == (k,) * 4
    plain = copy.deepcopy(net)
    for target in range(4):
        total = [np.zeros(width) for width in (6, 8, 10)]
        for row in carriers(rows, target, k):
            for layer, (gradient, f) in enumerate(zip(*by_hand(plain, rows.x[row], target), strict=True)):
                values = gradient * f if score == "contribution" else gradient
                alpha = values.mean((1, 2))
                total[layer] += alpha / np.abs(alpha).sum() / k
        for name, expected in zip(LAYERS, total, strict=True):
            np.testing.assert_allclose(found.alpha[name][target].numpy(), expected, rtol=1e-9, atol=1e-12)


def test_rows_of_a_batch_do_not_disturb_each_other_nor_do_layers(net: nn.Module, rows: Data) -> None:
    some = carriers(rows, 2, 4)
    together = row_importances(net, LABELS, batch_of(rows, some), 2, LAYERS)
    for place, row in enumerate(some):
        for name in LAYERS:
            alone = row_importances(net, LABELS, batch_of(rows, [row]), 2, (name,))
            torch.testing.assert_close(alone[name][0], together[name][place], rtol=1e-10, atol=1e-14)


def test_with_one_instance_the_order_is_that_of_plain_alpha(net: nn.Module, rows: Data) -> None:
    found = importances(net, LABELS, whole(rows), 1, "alpha")
    for target in range(4):
        plain = row_importances(net, LABELS, batch_of(rows, carriers(rows, target, 1)), target, LAYERS)
        for name in LAYERS:
            order = found.alpha[name][target].argsort(descending=True, stable=True)
            assert torch.equal(order, plain[name][0].argsort(descending=True, stable=True))


def test_within_an_instance_logit_and_probability_order_channels_alike(net: nn.Module, rows: Data) -> None:
    class Probability(type(LABELS)):  # type: ignore[misc]
        def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
            return model(batch.x)[:, target].sigmoid().sum()

    batch = batch_of(rows, carriers(rows, 0, 1))
    logit = row_importances(net, LABELS, batch, 0, LAYERS)
    probability = row_importances(net, Probability(), batch, 0, LAYERS)
    for name in LAYERS:
        assert torch.equal(logit[name].argsort(), probability[name].argsort())
        assert not torch.allclose(logit[name], probability[name])


def test_an_instance_with_large_gradients_does_not_outweigh_the_others() -> None:
    conv = nn.Conv2d(1, 2, 1, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None])

    class Squares(nn.Module):
        """Y = sum over channels of f^2 / 2 with weights that depend on the sign: gradient f."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.line = conv, nn.Linear(2, 1, bias=False).double()
            nn.init.constant_(self.line.weight, 0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.line((self.conv(x) ** 2).sum((2, 3)))

    x = torch.tensor([1.0, -1000.0]).double()[:, None, None, None]
    data = Data(x, torch.ones(2, 1).double(), torch.arange(2), ("t",))
    found = importances(Squares(), LABELS, whole(data), 2, "alpha").alpha["conv"][0]
    # Row 1 has gradients (1, -1), row 2 (-1000, 1000): scaled they cancel.
    torch.testing.assert_close(found, torch.zeros(2).double(), atol=1e-12, rtol=0)


def test_relu_in_place_right_after_a_convolution_changes_nothing(rows: Data) -> None:
    def build(inplace: bool) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            first, second, last = nn.Conv2d(2, 5, 3), nn.Conv2d(5, 5, 3), nn.Linear(10, 4)
        relu = nn.ReLU(inplace=inplace)
        return nn.Sequential(first, relu, second, relu, nn.Flatten(), last).double()

    batch = batch_of(rows, carriers(rows, 0, 3))
    expected, found = (row_importances(build(x), LABELS, batch, 0, ("0", "2"), "contribution") for x in (False, True))
    assert all(torch.equal(found[name], expected[name]) for name in ("0", "2"))


def test_a_layer_that_is_called_twice_has_the_places_of_both_calls(rows: Data) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.line = nn.Conv2d(2, 3, 3, padding=1), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            fine, coarse = self.conv(x), self.conv(x[:, :, ::2, ::2])
            return self.line(fine.sum((2, 3)) + 2 * coarse.sum((2, 3)))

    model = Twice().double()
    found = row_importances(model, LABELS, batch_of(rows, carriers(rows, 1, 1)), 1, ("conv",))["conv"][0]
    expected = model.line.weight[1].detach() * (30 + 2 * 9) / 39  # 6 x 5 and 3 x 3 places
    torch.testing.assert_close(found, expected)


def test_the_model_comes_back_as_it_was(net: nn.Module, rows: Data) -> None:
    net.train()
    net[3].weight.requires_grad_(False)
    net[1].eval()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    importances(net, LABELS, whole(rows), 3, "alpha")
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [n != "3.weight" for n, _ in net.named_parameters()]
    assert [m.training for m in net.children()] == [k != 1 for k in range(12)]
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[3].weight.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_one_forward_pass_of_the_needed_rows_serves_all_layers_and_weights_get_no_gradients(
    net: nn.Module, rows: Data
) -> None:
    seen: list[tuple[int, bool]] = []
    handle = net[0].register_forward_hook(
        lambda module, inputs, out: seen.append((len(out), any(p.requires_grad for p in net.parameters())))
    )
    importances(net, LABELS, whole(rows), 1, "alpha")
    handle.remove()
    assert seen == [(1, False)] * 4


def test_memory_bounds_the_rows_of_a_pass_and_not_the_result(
    net: nn.Module, rows: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = importances(net, LABELS, whole(rows), 7, "alpha")
    per_row = 8 * 30 * (6 + 8 + 10)
    monkeypatch.setattr(importance, "MEMORY_BYTES", 2 * per_row + 1)
    sizes: list[int] = []
    handle = net[0].register_forward_hook(lambda module, inputs, out: sizes.append(len(out)))
    found = importances(net, LABELS, whole(rows), 7, "alpha")
    handle.remove()
    assert sizes == [1, 2, 2, 2] * 4
    for name in LAYERS:
        torch.testing.assert_close(found.alpha[name], expected.alpha[name], rtol=1e-10, atol=1e-14)


def test_instances_are_the_first_rows_in_order_and_only_so_many_rows_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.zeros(40, 3)
    y[[2, 3, 9, 30], 0] = 1
    y[[0, 8, 11], 1] = 1
    y[[5, 6], 2] = torch.nan  # not annotated is not carried
    y[[7, 12], 2] = 1
    data = Data(torch.zeros(40, 1), y, torch.arange(40).flip(0), ("a", "b", "c"))
    monkeypatch.setattr(importance, "SCAN_ROWS", 5)
    meter = Meter()
    found = first_rows(LABELS, whole(data, meter=meter), 2)
    assert [one.tolist() for one in found] == [[2, 3], [0, 8], [7, 12]]
    assert meter.rows["train"] == 15
    assert [one.tolist() for one in first_rows(LABELS, whole(data), 9)] == [[2, 3, 9, 30], [0, 8, 11], [7, 12]]


def test_fewer_instances_than_asked_for_are_averaged_over_those_that_there_are(net: nn.Module, rows: Data) -> None:
    y = rows.y.clone()
    y[:, 0] = 0
    y[[4, 9], 0] = 1
    y[:, 2] = 0
    few = Data(rows.x, y, rows.ids, rows.outputs)
    found = importances(net, LABELS, whole(few), 6, "alpha")
    assert (found.instances[0], found.instances[2]) == (2, 0)
    assert not any(alpha[2].any() for alpha in found.alpha.values())
    two = importances(net, LABELS, whole(few.rows(torch.tensor([4, 9]))), 2, "alpha")
    for name in LAYERS:
        torch.testing.assert_close(found.alpha[name][0], two.alpha[name][0])
        assert float(found.alpha[name][0].abs().sum()) <= 1 + 1e-12


def test_of_pixels_the_target_is_its_probability_summed_over_its_own_pixels() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, 3, 1)).double()
    x = torch.randn(2, 2, 4, 4, generator=generator(0), dtype=torch.float64)
    y = torch.randint(3, (2, 4, 4), generator=generator(4))
    y[0, 0] = -100
    found = importances(model, TASKS["segmentation"], whole(Data(x, y, torch.arange(2), ("bg", "a", "b"))), 2, "alpha")
    assert found.layers == ("0",)  # the 1x1 convolution is the head
    for target in range(3):
        total = torch.zeros(5, dtype=torch.float64)
        for row in range(2):
            f = F.conv2d(x[row : row + 1], model[0].weight, model[0].bias, padding=1).detach().requires_grad_()
            logits = F.conv2d(f.relu(), model[2].weight, model[2].bias)
            score = sum(
                logits[0, :, i, j].softmax(0)[target] for i in range(4) for j in range(4) if y[row, i, j] == target
            )
            (gradient,) = torch.autograd.grad(score, f)
            alpha = gradient[0].mean((1, 2))
            total += alpha / alpha.abs().sum() / 2
        torch.testing.assert_close(found.alpha["0"][target], total)


class Spots(nn.Module):
    """A detector in small: a heat-map of logits of classes; boxes are as large as the image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, 4, 3, padding=1)
        self.heat, self.size = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.body(x).relu()
        heat, size = self.heat(h).flatten(2), self.size(h).flatten(2)
        if y is not None:
            return (heat.square().mean((1, 2)) + size.square().mean((1, 2))).sqrt()
        score, label = heat.amax(2).softmax(1).max(1)
        corners = torch.cat([size.mean(2) * 0, size.mean(2).exp()], 1)
        return torch.cat([corners, score[:, None], label[:, None].to(score)], 1)[:, None]

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        scores = self.heat(self.body(x).relu()).log_softmax(1)
        boxes = y.nan_to_num()
        column, row = (boxes[..., 0] + boxes[..., 2]) / 2, (boxes[..., 1] + boxes[..., 3]) / 2
        rows = torch.arange(len(x))[:, None]
        found = scores[rows, :, row.long(), column.long()]
        return found.masked_fill(y[..., 4].isnan()[..., None], 0.0)


def test_of_boxes_the_target_is_the_log_probability_of_the_class_where_its_boxes_are() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = Spots().double()
    x = torch.randn(2, 2, 6, 6, generator=generator(0), dtype=torch.float64)
    y = torch.tensor(
        [[[0, 0, 2, 2, 1], [2, 2, 6, 4, 1], [0, 4, 2, 6, 2]], [[1, 1, 3, 3, 0], [torch.nan] * 5, [torch.nan] * 5]]
    ).double()
    data = Data(x, y, torch.arange(2), ("a", "b", "c"))
    found = importances(model, TASKS["detection"], whole(data), 1, "alpha")
    assert found.layers == ("body",)
    assert found.instances == (1, 1, 1)
    f = model.body(x[:1]).detach().requires_grad_()
    scores = model.heat(f.relu()).log_softmax(1)[0, 1]
    (gradient,) = torch.autograd.grad(scores[1, 1] + scores[3, 4], f)  # centres (1, 1) and (4, 3)
    alpha = gradient[0].mean((1, 2))
    torch.testing.assert_close(found.alpha["body"][1], alpha / alpha.abs().sum())


def test_a_layer_that_one_target_does_not_depend_on_has_zeros_for_it(rows: Data) -> None:
    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 5, 3)
            self.lines = nn.ModuleList([nn.Linear(3, 1), nn.Linear(5, 3)])

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.left(x).mean((2, 3)), self.right(x).mean((2, 3))
            return torch.cat([self.lines[0](left), self.lines[1](right)], 1)

    class Columns(type(LABELS)):  # type: ignore[misc]
        def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
            part = model.left if target == 0 else model.right
            return model.lines[min(target, 1)](part(batch.x).mean((2, 3)))[:, max(target - 1, 0)].sum()

    found = importances(Apart().double(), Columns(), whole(rows), 2, "alpha")
    assert [bool(row.any()) for row in found.alpha["left"]] == [True, False, False, False]
    assert [bool(row.any()) for row in found.alpha["right"]] == [False, True, True, True]


def test_convolutions_without_gradient_are_left_out(rows: Data) -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.line = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.line(self.second(self.first(x).detach()).mean((2, 3)))

    assert importances(Detached().double(), LABELS, whole(rows), 1, "alpha").layers == ("second",)


def test_the_same_rows_give_the_same_bits(net: nn.Module, rows: Data) -> None:
    first, again = (importances(net, LABELS, whole(rows), 5, "alpha") for _ in range(2))
    assert all(torch.equal(first.alpha[name], again.alpha[name]) for name in LAYERS)


def test_no_instance_of_any_target_is_one_line(net: nn.Module, rows: Data) -> None:
    with pytest.raises(DataError, match="no training row shows any target") as caught:
        importances(net, LABELS, whole(Data(rows.x, rows.y * 0, rows.ids, rows.outputs)), 1, "alpha")
    assert caught.value.code == "no-instance"
    with pytest.raises(DataError):
        importances(net, LABELS, View(rows, torch.arange(0), name="train"), 1, "alpha")


def test_outputs_that_depend_on_no_convolution_are_one_line(rows: Data) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 4)).double()
    with pytest.raises(IncompatibleError, match="no target's output depends on a convolution"):
        importances(model, LABELS, whole(rows), 1, "alpha")


def test_a_diverged_network_is_one_line(net: nn.Module, rows: Data) -> None:
    with torch.no_grad():
        net[11].weight.fill_(math.nan)
    with pytest.raises(CheckFailed, match="not finite"):
        importances(net, LABELS, whole(rows), 1, "alpha")


def test_it_works_where_gradients_are_switched_off(net: nn.Module, rows: Data) -> None:
    expected = importances(net, LABELS, whole(rows), 1, "alpha")
    with torch.no_grad():
        found = importances(net, LABELS, whole(rows), 1, "alpha")
    assert all(torch.equal(found.alpha[name], expected.alpha[name]) for name in LAYERS)
