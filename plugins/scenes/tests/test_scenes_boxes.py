"""The centre-point detector: what is wanted on its maps, its loss, what it reads off them, and that it learns."""

from __future__ import annotations

from math import exp, isnan, log
from typing import Any

import numpy as np
import pytest
import torch
from hand_models import interface
from torch import Tensor, nn
from torch.func import vmap

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import (
    NOTHING,
    TASKS,
    Batch,
    Data,
    Detector,
    View,
    average_precisions,
    fit,
    generator,
    padded_boxes,
    per_sample_gradients,
    predict,
    squared_gradients,
)
from unlearnbench_scenes import centres
from unlearnbench_scenes.boxes import CentrePoints, SceneBoxes
from unlearnbench_scenes.centres import Maps
from unlearnbench_scenes.plugin import BoxesParams, ShapesParams
from unlearnbench_scenes.shapes import Shapes

DETECTION = TASKS["detection"]
NAN = float("nan")
SMALL = {"channels": (8, 12, 16), "pool_after": (1, 2)}
BOXES = [
    torch.tensor([[2.0, 3, 20, 21, 1], [30, 4, 39, 11, 0], [31, 5, 40, 14, 1]]),
    torch.zeros(0, 5),
    torch.tensor([[0.0, 0, 40, 24, 2]]),
    torch.tensor([[39.0, 23, 40, 24, 0], [0, 0, 0.5, 0.5, 2]]),  # in the corners, smaller than a cell
]
Y = padded_boxes(BOXES)
"""Four images of 40 x 24 pixels: two overlapping boxes of different classes, none, all of the image, at the border."""


def detector(classes: int = 3, size: tuple[int, int] = (24, 40), **params: Any) -> CentrePoints:
    """In evaluation mode, with statistics of its own."""
    torch.manual_seed(0)
    net = SceneBoxes(BoxesParams(**{**SMALL, **params})).build(interface((3, *size), classes))
    assert isinstance(net, CentrePoints)
    with torch.no_grad():
        net(images(8, *size))
        nn.init.normal_(net.heat.weight, 0, 0.5, generator=generator(5))
    return net.eval()


def images(n: int = 4, height: int = 24, width: int = 40) -> Tensor:
    return torch.randn(n, 3, height, width, generator=generator(3))


def drawn_maps(n: int = 4, classes: int = 3, height: int = 6, width: int = 10) -> Maps:
    rng = generator(11)
    return Maps(
        3 * torch.randn(n, classes, height, width, generator=rng),
        torch.randn(n, 2, height, width, generator=rng),
        torch.rand(n, 2, height, width, generator=rng) * 1.4 - 0.2,
    )


# --- what is wanted -------------------------------------------------------------------------------------------------


def peaks_by_hand(boxes: Tensor, classes: int, height: int, width: int, stride: int, least: float) -> Any:
    found = np.zeros((classes, height, width))
    for x1, y1, x2, y2, label in boxes.tolist():
        column, row = int((x1 + x2) / 2 // stride), int((y1 + y2) / 2 // stride)
        across, down = max((x2 - x1) / stride / 12, least), max((y2 - y1) / stride / 12, least)
        for i in range(height):
            for j in range(width):
                value = exp(-((j - column) ** 2) / (2 * across**2) - (i - row) ** 2 / (2 * down**2))
                found[int(label), i, j] = max(found[int(label), i, j], value)
    return found


@pytest.mark.parametrize("least", [0.1, 0.7, 2.0])
def test_the_wanted_heat_is_a_gaussian_around_each_centre_and_the_highest_where_they_overlap(least: float) -> None:
    at = centres.places(Y, 6, 10, 4)
    found = centres.peaks(at, 3, 6, 10, least)
    for image, boxes in zip(found, BOXES, strict=True):
        np.testing.assert_allclose(image.numpy(), peaks_by_hand(boxes, 3, 6, 10, 4, least), atol=1e-6)
    assert (found == 1).sum((1, 2, 3)).tolist() == [3, 0, 1, 2]


def test_a_long_box_has_a_long_gaussian() -> None:
    at = centres.places(torch.tensor([[[0.0, 8, 160, 16, 0]]]), 6, 40, 4)
    heat = centres.peaks(at, 1, 6, 40, 0.5)[0, 0]
    assert float(heat[3, 20]) == 1
    assert float(heat[3, 23]) == pytest.approx(exp(-9 / (2 * (40 / 12) ** 2)))
    assert float(heat[4, 20]) == pytest.approx(exp(-1 / (2 * 0.5**2)))


def test_centres_sizes_and_offsets_are_those_of_the_boxes() -> None:
    at = centres.places(Y, 6, 10, 4)
    assert at.there.sum(1).tolist() == [3, 0, 1, 2]
    assert torch.stack([at.column, at.row], -1)[0].tolist() == [[2, 3], [8, 1], [8, 2]]
    assert at.size[0].tolist() == [[4.5, 4.5], [2.25, 1.75], [2.25, 2.25]]
    torch.testing.assert_close(at.offset[0], torch.tensor([[0.75, 0.0], [0.625, 0.875], [0.875, 0.375]]))
    assert torch.stack([at.column, at.row], -1)[3, :2].tolist() == [[9, 5], [0, 0]]
    assert torch.equal(at.size[1], torch.ones(3, 2))


@pytest.mark.parametrize("side", [21, 22, 23, 24])
def test_a_box_in_the_last_pixel_of_an_image_of_any_size_has_a_cell(side: int) -> None:
    net = detector(size=(side, side))
    y = torch.tensor([[[side - 1.0, side - 1.0, side, side, 2]]])
    cells = net.heat(net.body(images(1, side, side)))
    assert cells.shape[2:] == (6, 6)
    torch.testing.assert_close(net.class_scores(images(1, side, side), y)[0, 0], cells[0, :, 5, 5].log_softmax(0))
    at = centres.places(y, 6, 6, 4)
    assert ((at.offset >= 0) & (at.offset <= 1)).all()


def test_a_centre_that_rounding_puts_on_the_border_is_in_the_last_cell() -> None:
    edge = float(np.nextafter(np.float32(40), np.float32(0)))
    at = centres.places(torch.tensor([[[edge, 23.0, 40, 24, 0]]]), 6, 10, 4)
    assert (int(at.column), int(at.row)) == (9, 5)


@pytest.mark.parametrize(("pools", "side"), [((), 1), ((1,), 2), ((1, 2, 3), 8)], ids=["1", "2", "8"])
def test_cells_are_as_large_as_the_pools_make_them(pools: tuple[int, ...], side: int) -> None:
    net, x = detector(pool_after=pools), images(1)
    y = torch.tensor([[[12.0, 4, 20, 16, 1]]])  # its centre is the pixel 16, 10
    features = net.body(x)
    assert features.shape[2:] == (24 // side, 40 // side)
    maps = Maps(net.heat(features), net.size(features), net.offset(features))
    cell = maps.heat[0, :, 10 // side, 16 // side]
    torch.testing.assert_close(net.class_scores(x, y)[0, 0], cell.log_softmax(0))
    torch.testing.assert_close(net(x, y), centres.losses(maps, y, side, 0.7, 1.0, 1.0))
    by_hand = detections_by_hand(Maps(*(m.detach() for m in maps)), 0, 24, 40, side)[:50]
    np.testing.assert_allclose(net(x)[0, : len(by_hand)].detach().numpy(), by_hand, rtol=1e-4, atol=1e-4)


# --- the loss -------------------------------------------------------------------------------------------------------


def test_the_focal_loss_is_the_one_worked_out_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 3.0], [1.0, 0.5]])
    wanted = torch.tensor([[1.0, 0.5], [0.0, 1.0], [0.99, 0.0]])  # 0.99 is beside a centre, not one

    def p(z: float) -> float:
        return 1 / (1 + exp(-z))

    by_hand = [
        [-(0.5**2) * log(0.5), -(0.5**4) * p(2) ** 2 * log(1 - p(2))],
        [-(p(-1) ** 2) * log(1 - p(-1)), -((1 - p(3)) ** 2) * log(p(3))],
        [-(0.01**4) * p(1) ** 2 * log(1 - p(1)), -(p(0.5) ** 2) * log(1 - p(0.5))],
    ]
    torch.testing.assert_close(centres.focal(logits, wanted), torch.tensor(by_hand), rtol=1e-5, atol=0)


def test_the_focal_loss_stays_finite_for_logits_of_any_size() -> None:
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0], requires_grad=True)
    found = centres.focal(logits, torch.tensor([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(found.detach(), torch.tensor([200.0, 0.0, 0.0, 200.0]))
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def loss_by_hand(maps: Maps, row: int, size_weight: float, offset_weight: float) -> float:
    heat, size, offset = (m[row].double().numpy() for m in maps)
    wanted = peaks_by_hand(BOXES[row], 3, 6, 10, 4, 0.7)
    p = 1 / (1 + np.exp(-heat))
    total = -np.where(wanted == 1, (1 - p) ** 2 * np.log(p), (1 - wanted) ** 4 * p**2 * np.log(1 - p)).sum()
    for x1, y1, x2, y2, _ in BOXES[row].tolist():
        across, down = (x1 + x2) / 8, (y1 + y2) / 8
        j, i = int(across), int(down)
        total += size_weight * (abs(size[0, i, j] - log((x2 - x1) / 4)) + abs(size[1, i, j] - log((y2 - y1) / 4)))
        total += offset_weight * (abs(offset[0, i, j] - (across - j)) + abs(offset[1, i, j] - (down - i)))
    return float(total / max(1, len(BOXES[row])))


def test_the_loss_of_each_image_is_the_one_worked_out_by_hand() -> None:
    maps = drawn_maps()
    found = centres.losses(maps, Y, 4, 0.7, 0.3, 2.0)
    np.testing.assert_allclose(found.numpy(), [loss_by_hand(maps, row, 0.3, 2.0) for row in range(4)], rtol=1e-5)


def test_the_loss_counts_in_cells_whatever_their_size() -> None:
    maps, doubled = drawn_maps(), Y * torch.tensor([2.0, 2, 2, 2, 1])
    torch.testing.assert_close(
        centres.losses(maps, doubled, 8, 0.7, 1.0, 1.0), centres.losses(maps, Y, 4, 0.7, 1.0, 1.0)
    )


def test_the_detector_hands_its_own_weights_to_the_loss() -> None:
    net = detector(size_weight=0.3, offset_weight=2.0, least_sigma=1.3)
    features = net.body(images())
    maps = Maps(net.heat(features), net.size(features), net.offset(features))
    torch.testing.assert_close(net(images(), Y), centres.losses(maps, Y, 4, 1.3, 0.3, 2.0))


def test_the_loss_of_an_image_does_not_depend_on_those_beside_it() -> None:
    net, x = detector(), images()
    together = net(x, Y)
    alone = torch.cat([net(x[k : k + 1], padded_boxes([BOXES[k]])) for k in range(4)])
    torch.testing.assert_close(together, alone)


def test_the_loss_depends_on_neither_the_order_of_boxes_nor_the_places_without_one() -> None:
    net, x = detector(), images()
    padded = torch.cat([torch.full((4, 2, 5), NAN), Y.flip(1)], 1)
    torch.testing.assert_close(net(x, padded), net(x, Y))


def test_an_image_without_boxes_teaches_only_that_nothing_is_there() -> None:
    net, x = detector(), images()
    loss = net(x, Y)[1]
    p = net.heat(net.body(x))[1].sigmoid()
    torch.testing.assert_close(loss, -(p**2 * (1 - p).log()).sum())
    net.zero_grad()
    loss.backward()
    assert net.heat.weight.grad is not None
    assert bool((net.heat.weight.grad != 0).any())
    assert not bool(net.size.weight.grad.any())
    assert not bool(net.offset.weight.grad.any())


def test_two_boxes_with_one_centre_cell_both_count() -> None:
    one, other = [4.0, 4, 11, 11, 1], [5.0, 2, 9, 12, 1]  # both have their centre in the cell from 4 to 8
    maps = drawn_maps(1)
    both = centres.losses(maps, torch.tensor([[one, other]]), 4, 0.7, 1.0, 1.0)
    peak = centres.peaks(centres.places(torch.tensor([[one, other]]), 6, 10, 4), 3, 6, 10, 0.7)
    assert int((peak == 1).sum()) == 1
    heat = centres.focal(maps.heat, peak).sum()
    boxes = 0.0
    for x1, y1, x2, y2, _ in (one, other):
        wanted = torch.tensor([log((x2 - x1) / 4), log((y2 - y1) / 4), (x1 + x2) / 8 - 1, (y1 + y2) / 8 - 1])
        boxes += float((torch.cat([maps.size[0, :, 1, 1], maps.offset[0, :, 1, 1]]) - wanted).abs().sum())
    assert float(both) == pytest.approx((float(heat) + boxes) / 2, rel=1e-5)


def test_erasing_a_target_is_the_same_as_never_having_annotated_it() -> None:
    net, x = detector(), images()
    never = padded_boxes([boxes[boxes[:, 4] != 1] for boxes in BOXES])
    torch.testing.assert_close(net(x, DETECTION.erase(Y, 1, "absent")), net(x, never))


def test_gradients_flow_to_every_parameter() -> None:
    net = detector().train()
    net(images(), Y).mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert bool(parameter.grad.any()), name


def test_half_precision_outputs_have_a_loss_and_detections_in_single_precision() -> None:
    net, x = detector(), images()
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = net(x, Y), net(x)
    assert loss.dtype == found.dtype == torch.float32
    torch.testing.assert_close(loss, net(x, Y), rtol=0.05, atol=0)
    twice = net.double()
    assert twice(x.double(), Y).dtype == torch.float64


def test_squared_gradients_are_the_same_in_every_way() -> None:
    data = Shapes(ShapesParams(task="detection", train_rows=6, size=16)).load(None).train  # type: ignore[arg-type]
    net = detector(4, (16, 16))
    view = View(data, torch.arange(6), name="train")
    wanted = squared_gradients(net, DETECTION, view, way="loop")
    for way in ("vmap", "closed"):
        found = squared_gradients(net, DETECTION, view, way=way)  # type: ignore[arg-type]
        for name, value in wanted.items():
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4 * float(value.max()))


def test_losses_and_scores_can_be_mapped_over_single_rows() -> None:
    net, x = detector(), images()
    mapped = vmap(lambda row, boxes: net(row[None], boxes[None])[0])(x, Y)
    torch.testing.assert_close(mapped, net(x, Y))
    scores = vmap(lambda row, boxes: net.class_scores(row[None], boxes[None])[0])(x, Y)
    torch.testing.assert_close(scores, net.class_scores(x, Y))


def test_gradients_of_single_rows_add_up_to_that_of_the_batch() -> None:
    data = Shapes(ShapesParams(task="detection", train_rows=5, size=16)).load(None).train  # type: ignore[arg-type]
    net = detector(4, (16, 16))
    ((_, each),) = per_sample_gradients(net, DETECTION, View(data, torch.arange(5), name="train"))
    net.zero_grad()
    net(data.x, data.y).sum().backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(each[name].sum(0), parameter.grad, rtol=1e-3, atol=1e-4)


# --- scores of classes ----------------------------------------------------------------------------------------------


def test_scores_are_the_log_softmax_over_classes_in_the_centre_cell() -> None:
    net, x = detector(), images()
    scores = net.class_scores(x, Y)
    heat = net.heat(net.body(x)).detach().double().numpy()
    assert scores.shape == (4, 3, 3)
    for row, boxes in enumerate(BOXES):
        for place, (x1, y1, x2, y2, _) in enumerate(boxes.tolist()):
            logits = heat[row, :, int((y1 + y2) / 8), int((x1 + x2) / 8)]
            by_hand = logits - np.log(np.exp(logits).sum())
            np.testing.assert_allclose(scores[row, place].detach().numpy(), by_hand, atol=1e-5)
        assert not bool(scores[row, len(boxes) :].any())
    there = ~Y[..., 4].isnan()
    torch.testing.assert_close(scores.exp().sum(-1)[there], torch.ones(6))


def test_the_score_of_a_target_is_about_its_boxes_only_and_can_be_differentiated() -> None:
    net, x = detector(), images()
    found = DETECTION.target_score(net, Batch(x, Y, torch.arange(4)), 1)
    scores = net.class_scores(x, Y)
    torch.testing.assert_close(found, scores[0, 0, 1] + scores[0, 2, 1])
    (grad,) = torch.autograd.grad(found, [net.body.get_submodule("conv3").weight])  # type: ignore[list-item]
    assert grad.isfinite().all()
    assert bool(grad.any())


def test_it_is_a_detector() -> None:
    assert isinstance(detector(), Detector)


# --- detections -----------------------------------------------------------------------------------------------------


def detections_by_hand(maps: Maps, row: int, height: int, width: int, stride: int) -> list[list[float]]:
    heat, size, offset = (m[row].double().numpy() for m in maps)
    classes, rows, columns = heat.shape
    found = []
    for k in range(classes):
        for i in range(rows):
            for j in range(columns):
                if heat[k, i, j] < heat[k, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].max():
                    continue
                x, y = (j + offset[0, i, j]) * stride, (i + offset[1, i, j]) * stride
                w, h = np.exp(size[:, i, j]) * stride
                sides = [max(0, x - w / 2), max(0, y - h / 2), min(width, x + w / 2), min(height, y + h / 2)]
                if sides[0] < sides[2] and sides[1] < sides[3]:
                    found.append([*sides, 1 / (1 + np.exp(-heat[k, i, j])), k])
    return sorted(found, key=lambda one: -one[4])


@pytest.mark.parametrize("most", [3, 50])
@pytest.mark.parametrize(("height", "width"), [(24, 40), (22, 37)], ids=["divided", "cut"])
def test_detections_are_the_highest_local_maxima(most: int, height: int, width: int) -> None:
    maps = drawn_maps()
    maps.offset[0, 0, :, 9] = 30.0  # boxes that lie beyond the border
    found = centres.detections(maps, height, width, 4, most)
    assert found.shape == (4, most, 6)
    for row in range(4):
        by_hand = detections_by_hand(maps, row, height, width, 4)[:most]
        np.testing.assert_allclose(found[row, : len(by_hand)].numpy(), by_hand, rtol=1e-4, atol=1e-4)
        assert torch.equal(found[row, len(by_hand) :], torch.tensor(NOTHING).expand(most - len(by_hand), 6))


def test_no_detection_is_without_area_or_outside_its_image() -> None:
    maps = drawn_maps()
    maps.offset.mul_(40)
    maps.size.sub_(2)
    found = centres.detections(maps, 24, 40, 4, 50)
    asserted = found[found[..., 4] > 0]
    assert 0 < len(asserted) < 60
    assert (asserted[:, 0] < asserted[:, 2]).all()
    assert (asserted[:, 1] < asserted[:, 3]).all()
    assert asserted[:, :4].min() >= 0
    assert (asserted[:, 2].max(), asserted[:, 3].max()) <= (40, 24)
    assert (found[..., 4].diff(dim=1) <= 0).all()


def test_a_size_that_vanishes_or_overflows_is_no_box_and_all_of_the_image() -> None:
    heat = torch.full((1, 1, 6, 10), -9.0)
    heat[0, 0, 2, 2] = heat[0, 0, 4, 7] = 3.0
    size = torch.zeros(1, 2, 6, 10)
    size[0, :, 2, 2], size[0, :, 4, 7] = -300.0, 300.0
    found = centres.detections(Maps(heat, size, torch.full((1, 2, 6, 10), 0.5)), 24, 40, 4, 1)
    assert found[0, 0, :4].tolist() == [0, 0, 40, 24]


def test_more_detections_than_cells_are_padded() -> None:
    net = detector(detections=50, size=(4, 8))
    found = net(images(2, 4, 8))
    assert found.shape == (2, 50, 6)
    assert torch.equal(found[:, 6:], torch.tensor(NOTHING).expand(2, 44, 6))


def test_maps_that_say_what_is_wanted_give_back_the_boxes() -> None:
    apart = padded_boxes([torch.tensor([[2.0, 3, 20, 21, 1], [28, 4, 39, 11, 0]]), torch.zeros(0, 5), *BOXES[2:]])
    at = centres.places(apart, 6, 10, 4)
    wanted = centres.peaks(at, 3, 6, 10, 0.7)
    size, offset = torch.zeros(4, 2, 6, 10), torch.zeros(4, 2, 6, 10)
    for row, place in at.there.nonzero().tolist():
        cell = (row, slice(None), at.row[row, place], at.column[row, place])
        size[cell], offset[cell] = at.size[row, place].log(), at.offset[row, place]
    found = centres.detections(Maps(wanted.logit(1e-6), size, offset), 24, 40, 4, 5)
    for row in range(4):
        boxes = apart[row][at.there[row]]
        kept = found[row][found[row, :, 4] > 0.9]
        order = kept[:, 5].argsort(), boxes[:, 4].argsort()
        torch.testing.assert_close(kept[order[0]][:, :4], boxes[order[1]][:, :4], atol=1e-3, rtol=0)
        assert torch.equal(kept[order[0]][:, 5], boxes[order[1]][:, 4])
    assert average_precisions(found, apart, 3).mean_50 == 1


def test_a_mirrored_image_has_mirrored_targets() -> None:
    at, turned = (centres.places(y, 6, 10, 4) for y in (Y[:1], DETECTION.mirrored(Y[:1], 40, "horizontal")))
    torch.testing.assert_close(centres.peaks(turned, 3, 6, 10, 0.7), centres.peaks(at, 3, 6, 10, 0.7).flip(3))


@pytest.mark.parametrize("head", ["heat", "size", "offset", "body.conv1"])
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_weights_that_are_no_numbers_are_seen_in_the_detections(head: str, value: float) -> None:
    net = detector()
    with torch.no_grad():
        net.get_submodule(head).weight[0].fill_(value)  # type: ignore[operator, union-attr]
        found = predict(net, DETECTION, view_of(images(), Y))
        loss = net(images(), Y)
    assert found.shape == (4, 50, 6)
    assert not found.isfinite().any()
    assert not loss[0].isfinite()


def test_an_image_that_gives_no_numbers_spoils_no_other() -> None:
    net, x = detector(), images()
    with torch.no_grad():
        wanted = net(x)
        x[2, 0, 5, 5] = NAN
        found = net(x)
    assert [isnan(float(image.sum())) for image in found] == [False, False, True, False]
    assert torch.equal(found[[0, 1, 3]], wanted[[0, 1, 3]])


# --- learning -------------------------------------------------------------------------------------------------------


def view_of(x: Tensor, y: Tensor) -> View:
    return View(Data(x, y, torch.arange(len(x)), ("a", "b", "c", "d")), torch.arange(len(x)), name="train")


def test_eight_scenes_are_learnt_by_heart() -> None:
    data = Shapes(ShapesParams(task="detection", train_rows=8)).load(None).train  # type: ignore[arg-type]
    torch.manual_seed(0)
    net = SceneBoxes(BoxesParams()).build(interface((3, 24, 24), 4))
    recipe = Recipe(optimizer="adamw", lr=5e-3, schedule="one-cycle", epochs=80, batch_size=8)
    view = View(data, torch.arange(8), name="train")
    before = average_precisions(predict(net.eval(), DETECTION, view), data.y, 4).mean_50
    fit(net, DETECTION, view, recipe, generator(0))
    found = average_precisions(predict(net, DETECTION, view), data.y, 4)
    assert before < 0.5
    assert found.mean_50 > 0.9
    assert len(data.y[~data.y[..., 4].isnan()]) > 8


def test_scenes_that_were_never_seen_are_detected_after_a_short_training() -> None:
    splits = Shapes(ShapesParams(task="detection", train_rows=600, test_rows=100)).load(None)  # type: ignore[arg-type]
    torch.manual_seed(0)
    net = SceneBoxes(BoxesParams()).build(interface((3, 24, 24), 4))
    recipe = Recipe(optimizer="adamw", lr=2e-3, schedule="one-cycle", epochs=8, batch_size=32)
    fit(net, DETECTION, View(splits.train, torch.arange(600), name="train"), recipe, generator(0))
    found = predict(net, DETECTION, View(splits.test, torch.arange(100), name="test"))
    assert average_precisions(found, splits.test.y, 4).mean_50 > 0.7
