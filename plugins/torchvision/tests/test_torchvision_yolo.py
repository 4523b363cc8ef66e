"""The adapter for detectors in the format of YOLO, with modules made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from unlearnbench.api import PluginError
from unlearnbench.api.runtime import NOTHING, TASKS, Batch, Detector, generator, padded_boxes
from unlearnbench_torchvision.yolo import Yolo

CLASSES = 3


class Fixed(nn.Module):
    """Says the same candidates [n, a, 8] about any images."""

    def __init__(self, candidates: Tensor) -> None:
        super().__init__()
        self.candidates = nn.Parameter(candidates)

    def forward(self, x: Tensor) -> Tensor:
        return self.candidates[: len(x)]


class Grid(nn.Module):
    """A candidate for each cell of 8x8 pixels; as YOLOv5 does, raw maps in training mode, (decoded, maps) otherwise."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 32)):
            parts += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.SiLU()]
        self.body = nn.Sequential(*parts)
        self.head = nn.Conv2d(32, 5 + CLASSES, 1)

    def forward(self, x: Tensor) -> Any:
        raw = self.head(self.body(x))
        if self.training:
            return {"maps": [raw]}
        return decoded(raw), {"maps": [raw]}


def decoded(raw: Tensor) -> Tensor:
    h, w = raw.shape[-2:]
    cells = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy")).reshape(1, 2, -1)
    flat = raw.flatten(2)
    centre, size = (cells + flat[:, :2].sigmoid()) * 8, flat[:, 2:4].exp() * 16
    return torch.cat([centre, size, flat[:, 4:].sigmoid()], dim=1).transpose(1, 2)


def loss(out: Any, boxes: Tensor) -> Tensor:
    """Centre cells say the class and the place, all cells whether there is something."""
    (raw,) = (out[1] if isinstance(out, tuple) else out)["maps"]
    (cells,) = decoded(raw)
    width = raw.shape[-1]
    there = torch.zeros(len(cells))
    centre, size = (boxes[:, :2] + boxes[:, 2:4]) / 2, boxes[:, 2:4] - boxes[:, :2]
    at = (centre[:, 1] // 8 * width + centre[:, 0] // 8).long()
    there[at] = 1
    found = binary_cross_entropy(cells[:, 4], there)
    if not len(boxes):
        return found
    named = binary_cross_entropy(cells[at, 5:], nn.functional.one_hot(boxes[:, 4].long(), CLASSES).float())
    place = (cells[at, :2] - centre).abs().mean() / 8 + (cells[at, 2:4] / size).log().abs().mean()
    return found + named + place


def candidates(rng: np.random.Generator, n: int, a: int) -> Tensor:
    centres, sizes = rng.uniform(0, 64, (n, a, 2)), rng.uniform(10, 40, (n, a, 2))
    return torch.tensor(np.concatenate([centres, sizes, rng.uniform(0, 1, (n, a, 1 + CLASSES))], axis=2)).float()


def iou(a: Any, b: Any) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def corners(candidate: Any) -> list[float]:
    cx, cy, w, h = candidate[:4]
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


def greedy(image: np.ndarray[Any, Any], least: float, overlap: float, height: int, width: int) -> list[list[float]]:
    """Detections of an image by the definition: best first, without those that overlap a kept one of their class."""
    pairs = [
        [*np.clip(corners(c), 0, [width, height, width, height]), c[4] * c[5 + k], k]
        for c in image
        for k in range(CLASSES)
        if c[4] * c[5 + k] > least
    ]
    kept: list[list[float]] = []
    for one in sorted(pairs, key=lambda row: -row[4]):
        in_image = one[0] < one[2] and one[1] < one[3]
        if in_image and all(one[5] != other[5] or iou(one, other) <= overlap for other in kept):
            kept.append(one)
    return kept


def test_detections_are_those_of_greedy_suppression_by_class() -> None:
    said = candidates(np.random.default_rng(0), 2, 60)
    found = Yolo(Fixed(said), loss, least_score=0.2, overlap=0.4, detections=200)(torch.zeros(2, 3, 48, 64))
    assert found.shape == (2, 200, 6)
    for rows, image in zip(found.detach(), said, strict=True):
        expected = greedy(image.double().numpy(), 0.2, 0.4, 48, 64)
        assert 20 < len(expected) < 150
        assert np.allclose(rows[: len(expected)], expected, atol=1e-3)
        assert torch.equal(rows[len(expected) :], torch.tensor(NOTHING).expand(200 - len(expected), 6))


def test_only_the_best_are_given_back() -> None:
    said = candidates(np.random.default_rng(0), 1, 60)
    all_of_them = Yolo(Fixed(said), loss, detections=200)(torch.zeros(1, 3, 64, 64))
    few = Yolo(Fixed(said), loss, detections=5)(torch.zeros(1, 3, 64, 64))
    assert torch.equal(few, all_of_them[:, :5])
    # Of the three best pairs of candidate and class, whatever overlaps.
    assert int((Yolo(Fixed(said), loss, candidates=3)(torch.zeros(1, 3, 64, 64))[..., 4] > 0).sum()) <= 3


def test_nothing_certain_is_no_detection() -> None:
    said = candidates(np.random.default_rng(0), 1, 4)
    said[..., 4] = 0
    assert torch.equal(Yolo(Fixed(said), loss, detections=3)(torch.zeros(1, 3, 64, 64)), torch.tensor([[NOTHING] * 3]))


def test_class_scores_are_those_of_the_candidate_that_overlaps_most() -> None:
    said = candidates(np.random.default_rng(1), 2, 40)
    boxes = [[10.0, 12.0, 40.0, 44.0, 1.0], [30.0, 5.0, 60.0, 30.0, 0.0]]
    y = padded_boxes([torch.tensor(boxes), torch.tensor(boxes[1:])])
    scores = Yolo(Fixed(said), loss).class_scores(torch.zeros(2, 3, 64, 64), y)
    assert scores.shape == (2, 2, CLASSES)
    assert torch.equal(scores[1, 1], torch.zeros(CLASSES))
    for image, place, box in ((0, 0, boxes[0]), (0, 1, boxes[1]), (1, 0, boxes[1])):
        best = max(said[image].tolist(), key=lambda c: iou(corners(c), box))
        expected = np.log(np.array(best[5:]) / sum(best[5:]))
        assert np.allclose(scores[image, place].detach(), expected, atol=1e-5)


def test_without_an_overlap_the_nearest_centre_counts() -> None:
    far, near = [60.0, 60.0, 2.0, 2.0, 0.9, 0.1, 0.1, 0.8], [30.0, 30.0, 2.0, 2.0, 0.1, 0.6, 0.2, 0.2]
    y = padded_boxes([torch.tensor([[2.0, 2.0, 20.0, 20.0, 1.0]])])
    scores = Yolo(Fixed(torch.tensor([[far, near]])), loss).class_scores(torch.zeros(1, 3, 64, 64), y)
    assert torch.allclose(scores[0, 0].exp(), torch.tensor([0.6, 0.2, 0.2]))


def test_probabilities_of_0_have_scores_and_gradients_that_are_finite() -> None:
    said = torch.tensor([[[10.0, 10.0, 8.0, 8.0, 0.0, 0.0, 1.0, 0.0]]])
    net = Fixed(said)
    y = padded_boxes([torch.tensor([[6.0, 6.0, 14.0, 14.0, 0.0]])])
    scores = Yolo(net, loss).class_scores(torch.zeros(1, 3, 64, 64), y)
    scores.sum().backward()
    assert bool(scores.isfinite().all())
    assert net.candidates.grad is not None
    assert bool(net.candidates.grad.isfinite().all())


# -- a network that learns ---------------------------------------------------------------------------------------------


Y = padded_boxes(
    [
        torch.tensor([[4.0, 6.0, 30.0, 34.0, 1.0], [36.0, 10.0, 60.0, 60.0, 2.0]]),
        torch.zeros(0, 5),
        torch.tensor([[0.0, 0.0, 64.0, 64.0, 0.0]]),
    ]
)


@pytest.fixture
def detector() -> Yolo:
    torch.manual_seed(0)
    return Yolo(Grid(), loss).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=generator(0))


def test_losses_are_the_users_for_each_image_alone(detector: Yolo, x: Tensor) -> None:
    with torch.no_grad():
        losses = detector(x, Y)
        for row in range(3):
            boxes = Y[row][~Y[row, :, 4].isnan()]
            alone = loss(detector.net(x[row : row + 1]), boxes)
            assert float(losses[row]) == pytest.approx(float(alone), rel=1e-5)
    assert isinstance(detector, Detector)
    assert losses.shape == (3,)


def test_in_training_mode_the_loss_gets_the_modules_other_output(detector: Yolo, x: Tensor) -> None:
    seen: list[Any] = []

    def noted(out: Any, boxes: Tensor) -> Tensor:
        seen.append((type(out), [tuple(m.shape) for m in (out[1] if isinstance(out, tuple) else out)["maps"]]))
        return loss(out, boxes)

    detector.loss = noted
    detector.train()(x, Y).mean().backward()
    detector.eval()(x, Y)
    assert seen == [(dict, [(1, 8, 8, 8)])] * 3 + [(tuple, [(1, 8, 8, 8)])] * 3
    assert all(p.grad is not None for p in detector.parameters())


def test_the_gradient_of_a_target_reaches_the_first_convolution(detector: Yolo, x: Tensor) -> None:
    TASKS["detection"].target_score(detector, Batch(x, Y, torch.arange(3)), 2).backward()
    first = next(m for m in detector.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.grad is not None
    assert float(first.weight.grad.abs().max()) > 0


def test_a_state_dict_is_the_modules_own_below_net(detector: Yolo) -> None:
    assert list(detector.state_dict()) == [f"net.{name}" for name in detector.net.state_dict()]


def test_a_briefly_trained_one_finds_what_it_was_shown(detector: Yolo, x: Tensor) -> None:
    optimiser = torch.optim.Adam(detector.parameters(), lr=5e-3)
    detector.train()
    for _ in range(80):
        optimiser.zero_grad()
        detector(x, Y).mean().backward()
        optimiser.step()
    with torch.no_grad():
        found = detector.eval()(x)
    (score,) = (m.value for m in TASKS["detection"].metrics(found, Y, ("a", "b", "c")) if m.name == "map50")
    assert score == pytest.approx(1)


# -- what is no such module --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (torch.zeros(2, 8, 5), r"\[2, 8, 5\]"),
        (torch.zeros(2, 8), r"\[2, 8\]"),
        (torch.zeros(1, 8, 8), r"\[1, 8, 8\]"),
        ({"maps": torch.zeros(2, 8, 8)}, "dict"),
        ((), "tuple"),
    ],
    ids=["no-class", "no-candidates", "another-batch", "a-mapping", "nothing"],
)
def test_another_output_is_refused_in_a_line(out: Any, said: str) -> None:
    class Says(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return out

    with pytest.raises(PluginError, match=f"puts out {said}, not \\[2, candidates, 5 . classes\\]") as caught:
        Yolo(Says(), loss).eval()(torch.zeros(2, 3, 64, 64))
    assert caught.value.code == "broken-contract"


def test_a_loss_that_is_no_number_is_refused_in_a_line(detector: Yolo, x: Tensor) -> None:
    detector.loss = lambda out, boxes: torch.zeros(3)
    with pytest.raises(PluginError, match=r"loss of one image has shape \[3\], not one number"):
        detector(x, Y)
