"""Detectors: the same losses and detections as torchvision's own, image by image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
import torch
from hand_models import interface
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.models.detection import fasterrcnn_resnet50_fpn, ssdlite320_mobilenet_v3_large

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import NOTHING, TASKS, Batch, Detector, Ref, generator, local_rng, padded_boxes
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry
from unlearnbench_torchvision.boxes import shares_of
from unlearnbench_torchvision.detectors import FasterRcnnResNet50, SsdLite320
from unlearnbench_torchvision.params import FasterRcnnParams, SsdLiteParams

CLASSES, MOST = 4, 100
DETECTION = TASKS["detection"]
HEIGHT, WIDTH = 64, 96
Y = padded_boxes(
    [
        torch.tensor([[4.0, 6.0, 30.0, 34.0, 1.0], [40.0, 10.0, 90.0, 60.0, 3.0], [42.0, 8.0, 88.0, 62.0, 0.0]]),
        torch.zeros(0, 5),
        torch.tensor([[0.0, 0.0, 96.0, 64.0, 2.0]]),
    ]
)
"""Three boxes, two of which are nearly the same; none; the whole image."""


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(3, 3, HEIGHT, WIDTH, generator=generator(1))


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """The network in evaluation mode, with statistics of these images, so that activations have a usual size."""
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x, Y)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


Pair = tuple[Any, Any]
"""Our detector and torchvision's with the same weights."""


@pytest.fixture(scope="module")
def ssd(x: Tensor) -> Pair:
    torch.manual_seed(0)
    ours = settled(SsdLite320(SsdLiteParams(detections=MOST)).build(interface((3, HEIGHT, WIDTH), CLASSES)), x)
    theirs = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, detections_per_img=MOST
    )
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


@pytest.fixture(scope="module")
def rcnn(x: Tensor) -> Pair:
    torch.manual_seed(0)
    net: Any = FasterRcnnResNet50(FasterRcnnParams(detections=MOST)).build(interface((3, HEIGHT, WIDTH), CLASSES))
    theirs = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES + 1, min_size=HEIGHT, max_size=WIDTH
    )
    for one in (net, theirs):  # fewer proposals, for the time of the tests
        one.rpn._post_nms_top_n = {"training": 60, "testing": 40}
    ours = settled(net, x)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs.eval()


@pytest.fixture(params=["ssd", "rcnn"])
def pair(request: pytest.FixtureRequest) -> Pair:
    found: Pair = request.getfixturevalue(request.param)
    return found


@pytest.fixture(autouse=True)
def _modes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Detectors are in evaluation mode and without gradients before and after each test."""
    yield
    for name in ("ssd", "rcnn"):
        if name in request.fixturenames:
            for net in request.getfixturevalue(name):
                net.eval()
                net.zero_grad()


def torchvisions_target(row: int) -> dict[str, Tensor]:
    boxes = Y[row][~Y[row, :, 4].isnan()]
    return {"boxes": boxes[:, :4], "labels": boxes[:, 4].long() + 1}


def torchvisions_loss(theirs: nn.Module, image: Tensor, target: dict[str, Tensor]) -> float:
    """The loss of torchvision's detector for a batch of one with running statistics."""
    theirs.train()
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    theirs.get_submodule("transform").eval()  # in training mode it draws a size among the one there is
    with torch.no_grad(), local_rng(generator(0)):
        parts = theirs([image], [target])
    return float(sum(parts.values()))


def test_it_is_what_the_task_asks_for(pair: Pair) -> None:
    assert isinstance(pair[0], Detector)


def test_losses_are_torchvisions_of_a_batch_of_one(pair: Pair, x: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        losses = ours(x, Y)
    assert losses.shape == (3,)
    for row in range(3):
        expected = torchvisions_loss(theirs, x[row], torchvisions_target(row))
        assert float(losses[row]) == pytest.approx(expected, rel=1e-4), row


def test_the_loss_of_an_image_depends_on_no_other_image(pair: Pair, x: Tensor) -> None:
    ours, _ = pair
    with torch.no_grad():
        together = ours(x, Y)
        other = ours(torch.stack([x[0], x[0] * 0, x[1]]), Y[[0, 2, 0]])
    assert float(other[0]) == pytest.approx(float(together[0]), rel=1e-4)
    assert float(other[1]) != pytest.approx(float(together[2]), rel=1e-2)


def test_padding_of_annotations_changes_nothing(pair: Pair, x: Tensor) -> None:
    ours, _ = pair
    padded = torch.cat([torch.full((3, 2, 5), torch.nan), Y], dim=1)
    with torch.no_grad():
        assert torch.equal(ours(x, Y), ours(x, padded))  # to the bit: repeatable besides
        assert torch.equal(ours.class_scores(x, padded)[:, 2:], ours.class_scores(x, Y))


def test_detections_are_torchvisions(pair: Pair, x: Tensor) -> None:
    ours, theirs = pair
    with torch.no_grad():
        found, expected = ours(x), theirs(list(x))
    assert found.shape == (3, MOST, 6)
    assert any(len(one["boxes"]) for one in expected)
    for rows, one in zip(found, expected, strict=True):
        k = len(one["boxes"])
        assert torch.allclose(rows[:k, :4], one["boxes"], atol=1e-3)
        assert torch.allclose(rows[:k, 4], one["scores"], atol=1e-6)
        assert torch.equal(rows[:k, 5], one["labels"].float() - 1)
        assert torch.equal(rows[k:], torch.tensor(NOTHING).expand(MOST - k, 6))


def test_detections_lie_in_the_image_and_have_falling_scores(pair: Pair, x: Tensor) -> None:
    with torch.no_grad():
        found = pair[0](x)
    assert bool((found[..., 4].diff(dim=1) <= 0).all())
    assert bool((found[..., :2] >= 0).all())
    assert bool((found[..., 2] <= WIDTH).all())
    assert bool((found[..., 3] <= HEIGHT).all())
    asserted = found[found[..., 4] > 0]
    assert bool(((asserted[:, 5] >= 0) & (asserted[:, 5] < CLASSES)).all())


def test_nothing_is_drawn_from_the_global_state_and_modes_stay(pair: Pair, x: Tensor) -> None:
    ours, _ = pair
    for training in (False, True):
        ours.train(training)
        modes, before = [m.training for m in ours.modules()], torch.get_rng_state()
        counters = {k: v.clone() for k, v in ours.state_dict().items()}
        with torch.no_grad():
            ours(x, Y)
            ours(x)
            ours.class_scores(x, Y)
        assert torch.equal(torch.get_rng_state(), before)
        assert [m.training for m in ours.modules()] == modes
        ours.load_state_dict(counters)


def test_training_mode_gives_every_parameter_a_gradient(pair: Pair, x: Tensor) -> None:
    ours, _ = pair
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    ours.train()(x, Y).mean().backward()
    missing = [name for name, p in ours.named_parameters() if p.grad is None]
    assert missing == []
    assert all(bool(p.grad.isfinite().all()) for p in ours.parameters())
    ours.load_state_dict(before)


def test_an_image_without_boxes_has_a_finite_loss(ssd: Pair, rcnn: Pair, x: Tensor) -> None:
    nothing = padded_boxes([torch.zeros(0, 5)])
    of_ssd, of_rcnn = (net(x[:1], nothing) for net, _ in (ssd, rcnn))
    of_ssd.sum().backward()
    of_rcnn.sum().backward()
    # Negatives of SSD are three for each positive; Faster R-CNN's fill up a fixed number.
    assert float(of_ssd.detach()) == 0
    assert float(of_rcnn.detach()) > 0
    assert bool(rcnn[0].get_parameter("roi_heads.box_predictor.cls_score.weight").grad.abs().max() > 0)


# -- scores of classes at boxes ----------------------------------------------------------------------------------------


def test_class_scores_are_log_probabilities_and_0_without_a_box(pair: Pair, x: Tensor) -> None:
    with torch.no_grad():
        scores = pair[0].class_scores(x, Y)
    there = ~Y[..., 4].isnan()
    assert scores.shape == (3, 3, CLASSES)
    assert bool((scores[~there] == 0).all())
    assert bool((scores[there] < 0).all())
    # A mean of logarithms over several default boxes is below the logarithm of the mean.
    assert bool((scores[there].exp().sum(1) <= 1 + 1e-5).all())
    if hasattr(pair[0], "rpn"):
        assert torch.allclose(scores[there].exp().sum(1), torch.ones(4), atol=1e-5)


def test_the_gradient_of_a_target_reaches_the_first_convolution(pair: Pair, x: Tensor) -> None:
    ours, _ = pair
    batch = Batch(x, Y, torch.arange(3))
    DETECTION.target_score(ours, batch, 3).backward()
    first = next(m for m in ours.backbone.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.grad is not None
    assert float(first.weight.grad.abs().max()) > 0


def test_no_box_at_all_has_scores_of_the_right_shape(pair: Pair, x: Tensor) -> None:
    nothing = padded_boxes([torch.zeros(0, 5), torch.zeros(0, 5)])
    assert torch.equal(pair[0].class_scores(x[:2], nothing), torch.zeros(2, 1, CLASSES))


def iou(a: Any, b: Any) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def test_ssds_scores_are_the_mean_over_the_default_boxes_that_a_loop_finds(ssd: Pair, x: Tensor) -> None:
    ours, theirs = ssd
    seen: dict[str, Any] = {}
    hooks = [
        theirs.head.register_forward_hook(lambda m, args, out: seen.update(logits=out["cls_logits"][0].numpy())),
        theirs.anchor_generator.register_forward_hook(lambda m, args, out: seen.update(anchors=out[0].numpy())),
    ]
    with torch.no_grad():
        theirs([x[0]])
        scores = ours.class_scores(x[:1], Y[:1])[0].numpy()
    for hook in hooks:
        hook.remove()
    boxes = Y[0, :, :4].numpy() * np.array([320 / WIDTH, 320 / HEIGHT] * 2)
    overlaps = np.array([[iou(box, anchor) for anchor in seen["anchors"]] for box in boxes])
    owner = np.where(overlaps.max(0) >= 0.5, overlaps.argmax(0), -1)
    for k, best in enumerate(overlaps.argmax(1)):
        owner[best] = k
    for k in range(3):
        mine = seen["logits"][owner == k][:, 1:].astype(float)
        assert len(mine)
        expected = (mine - np.log(np.exp(mine).sum(1, keepdims=True))).mean(0)
        assert np.allclose(scores[k], expected, atol=1e-4)


def test_a_box_whose_only_default_box_went_to_another_has_its_best_one() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0], [0.0, 0.0, 10.0, 8.0]])
    shares = shares_of(boxes, anchors, torch.tensor([1, -1, 1]))
    assert torch.equal(shares, torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]))


def test_faster_rcnns_scores_are_those_of_its_box_head_for_the_boxes_as_proposals(rcnn: Pair, x: Tensor) -> None:
    ours, theirs = rcnn
    seen: dict[str, Tensor] = {}
    hook = theirs.roi_heads.box_predictor.register_forward_hook(lambda m, args, out: seen.update(logits=out[0]))
    with torch.no_grad():
        images, _ = theirs.transform([x[0]])
        theirs.roi_heads(theirs.backbone(images.tensors), [Y[0, :, :4]], images.image_sizes)
        scores = ours.class_scores(x, Y)[0].numpy()
    hook.remove()
    logits = seen["logits"].double().numpy()[:, 1:]
    assert np.allclose(scores, logits - np.log(np.exp(logits).sum(1, keepdims=True)), atol=1e-4)


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params", "shape", "seen"),
    [
        ("ssdlite320-mobilenet-v3-large", {}, (3, 32, 32), (320, 320)),
        ("ssdlite320-mobilenet-v3-large", {"size": None}, (3, 64, 96), (64, 96)),
        ("ssdlite320-mobilenet-v3-large", {"size": 64, "detections": 7}, (1, 40, 56), (64, 64)),
        ("fasterrcnn-resnet50-fpn", {"anchors": [8, 16, 32, 64, 128]}, (1, 40, 56), (64, 64)),
        ("fasterrcnn-resnet50-fpn", {"min_size": 48, "norm": "frozen"}, (3, 24, 32), (64, 64)),
    ],
    ids=["ssd", "ssd-as-they-are", "ssd-64", "rcnn-anchors", "rcnn-48"],
)
def test_images_are_resized_as_parameters_say_and_models_survive_the_store(
    name: str, params: dict[str, Any], shape: tuple[int, int, int], seen: tuple[int, int]
) -> None:
    ref = Ref(name, params, shape, CLASSES)
    net = build_network(registry(), ref, 0, torch.device("cpu"))
    sizes: list[tuple[int, ...]] = []
    hook = cast(Any, net).backbone.register_forward_hook(lambda m, args, out: sizes.append(tuple(args[0].shape)))
    rows = torch.rand(2, *shape)
    y = padded_boxes([torch.tensor([[2.0, 3.0, 20.0, 24.0, 1.0]]), torch.zeros(0, 5)])
    with torch.no_grad():
        found = net(rows)
    hook.remove()
    assert sizes == [(2, shape[0], *seen)]  # Faster R-CNN pads to multiples of 32
    assert found.shape[1] == params.get("detections", 100)
    again = restore_network(registry(), ref, net.state_dict(), torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(again(rows), found)
        assert torch.equal(again(rows, y), net(rows, y))


@pytest.mark.parametrize("anchors", [(8, 16, 32), (0, 16, 32, 64, 128)])
def test_anchors_that_are_not_five_sides_are_refused(anchors: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="are not 5 sides") as caught:
        FasterRcnnResNet50(FasterRcnnParams(anchors=anchors)).build(interface((3, 64, 64), CLASSES))
    assert caught.value.where == "fasterrcnn-resnet50-fpn.anchors"


# -- learning ----------------------------------------------------------------------------------------------------------


def drawn(n: int) -> tuple[Tensor, Tensor]:
    """Bright squares of class 0 and bars of class 1 on noise, one of each in an image."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(0, 0.2, (n, 3, 64, 64)), dtype=torch.float32)
    boxes = []
    for image in x:
        left, top = (int(v) for v in rng.integers(2, 8, 2))
        image[:, top : top + 24, left : left + 24] = 0.9
        right, low = (int(v) for v in rng.integers(34, 38, 2))
        image[0, low : low + 12, 10 : 10 + right - 10] = 0.8
        square, bar = (left, top, left + 24, top + 24, 0), (10, low, right, low + 12, 1)
        boxes.append(torch.tensor([square, bar], dtype=torch.float32))
    return x, padded_boxes(boxes)


def test_a_briefly_trained_ssd_lowers_its_loss_and_tells_its_classes() -> None:
    torch.manual_seed(0)
    x, y = drawn(8)
    net: Any = SsdLite320(SsdLiteParams(size=64)).build(interface((3, 64, 64), 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(30):
        loss = net(x, y).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        scores = net.class_scores(x, y)
    right = (scores.argmax(2) == y[..., 4]).float().mean()
    assert losses[-1] < 0.4 * losses[0]
    assert float(right) >= 0.9
