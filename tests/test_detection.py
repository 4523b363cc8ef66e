"""Boxes: annotations, average precision against cases worked out by hand and by a second implementation, faults."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import (
    NOTHING,
    TASKS,
    Batch,
    Detector,
    average_precisions,
    generator,
    padded_boxes,
    padded_detections,
    present,
    recalls,
)

BOXES = TASKS["detection"]
NAN = math.nan
SIDE = 100.0
Box = tuple[float, float, float, float]
TEN: Box = (10, 10, 20, 20)
FAR: Box = (60, 60, 80, 80)


def annotated(*images: list[tuple[Box, int]]) -> Tensor:
    return padded_boxes([torch.tensor([[*box, k] for box, k in image]).reshape(-1, 5) for image in images])


def detected(*images: list[tuple[Box, float, int]], k: int = 8) -> Tensor:
    return padded_detections([torch.tensor([[*b, s, c] for b, s, c in image]).reshape(-1, 6) for image in images], k)


def ap50(out: Tensor, y: Tensor, classes: int = 1) -> list[float | None]:
    return average_precisions(out, y, classes).of_class_50


# -- how boxes are kept ------------------------------------------------------------------------------------------------


def test_boxes_are_padded_to_the_image_that_has_most() -> None:
    y = padded_boxes([torch.ones(1, 5), torch.zeros(0, 5), 2 * torch.ones(3, 5)])
    assert y.shape == (3, 3, 5)
    assert present(y).tolist() == [[True, False, False], [False] * 3, [True] * 3]
    assert bool(y[~present(y)].isnan().all())
    assert padded_boxes([torch.zeros(0, 5)]).shape == (1, 1, 5)  # at least one place, so that there is a shape
    assert padded_boxes([]).shape == (0, 1, 5)


def test_detections_are_ranked_cut_and_filled_up() -> None:
    first = torch.tensor([[0.0, 0, 1, 1, 0.2, 2], [0, 0, 2, 2, 0.9, 1], [0, 0, 3, 3, 0.5, 0]])
    out = padded_detections([first, torch.zeros(0, 6)], 2)
    assert out[0, :, 4:].tolist() == [[pytest.approx(0.9), 1.0], [pytest.approx(0.5), 0.0]]
    assert out[1].tolist() == [list(NOTHING)] * 2
    more = padded_detections([first], 5)
    assert more[0, :, 5].tolist() == [1, 0, 2, -1, -1]
    tied = torch.tensor([[0.0, 0, 1, 1, 0.5, 0], [0, 0, 2, 2, 0.5, 1]])
    assert padded_detections([tied], 2)[0, :, 5].tolist() == [0, 1]  # ties keep their order


# -- average precision by hand -----------------------------------------------------------------------------------------


def test_perfect_detections_have_average_precision_one() -> None:
    y = annotated([(TEN, 0), (FAR, 1)], [(FAR, 0)])
    out = detected([(TEN, 0.9, 0), (FAR, 0.4, 1)], [(FAR, 0.7, 0)])
    found = average_precisions(out, y, 2)
    assert found.mean == pytest.approx(1)
    assert found.mean_50 == pytest.approx(1)
    assert found.of_class_50 == [pytest.approx(1), pytest.approx(1)]


def test_one_miss_of_four_ends_the_curve_at_three_quarters() -> None:
    y = annotated([(TEN, 0), (FAR, 0)], [(TEN, 0)], [(FAR, 0)])
    out = detected([(TEN, 0.9, 0), (FAR, 0.8, 0)], [(TEN, 0.7, 0)], [])
    # precision is 1 at the recalls 0, .01, ..., .75 and 0 beyond: 76 of 101
    assert ap50(out, y) == [pytest.approx(76 / 101)]
    assert recalls(out, y, 1) == [pytest.approx(3 / 4)]


def test_three_of_ten_boxes_reach_the_recall_of_three_tenths() -> None:
    """With recall levels in float32, as torchmetrics has them, .3 of the boxes would not reach .3."""
    places: list[Box] = [(10.0 * i, 0.0, 10.0 * i + 8, 8.0) for i in range(10)]
    y = annotated([(place, 0) for place in places])
    out = detected([(place, 0.9, 0) for place in places[:3]])
    assert ap50(out, y) == [pytest.approx(31 / 101)]


def test_a_second_detection_of_the_same_box_is_wrong() -> None:
    y = annotated([(TEN, 0)], [(FAR, 0)])
    nearly: Box = (10, 10, 20, 21)
    out = detected([(TEN, 0.9, 0), (nearly, 0.8, 0)], [(FAR, 0.7, 0)])
    # ranked: right (recall 1/2), duplicate, right (recall 1, precision 2/3); up to .5 the best precision is 1
    assert ap50(out, y) == [pytest.approx((51 * 1 + 50 * 2 / 3) / 101)]
    alone = detected([(TEN, 0.9, 0)], [(FAR, 0.7, 0)])
    assert ap50(alone, y) == [pytest.approx(1)]
    assert recalls(out, y, 1) == [1.0]


def test_a_right_place_with_the_wrong_class_is_wrong_twice() -> None:
    y = annotated([(TEN, 0), (FAR, 1)])
    out = detected([(TEN, 0.9, 1), (FAR, 0.8, 1)])
    # class 0: nothing. Class 1: a false positive above the right one, so precision 1/2 at every recall
    assert ap50(out, y, 2) == [pytest.approx(0), pytest.approx(0.5)]
    assert recalls(out, y, 2) == [0.0, 1.0]


@pytest.mark.parametrize(("width", "value"), [(49, 0.0), (51, 1.0)])
def test_the_overlap_that_counts_begins_at_a_half(width: int, value: float) -> None:
    y = annotated([((0, 0, 100, 10), 0)])
    part = detected([((0, 0, width, 10), 0.9, 0)])  # inside the box, so IoU = width / 100
    assert ap50(part, y) == [pytest.approx(value)]
    assert recalls(part, y, 1) == [value]
    # of the ten thresholds .5, .55, ..., .95 an overlap of .51 passes one
    assert average_precisions(part, y, 1).mean == pytest.approx(value / 10)


def test_the_order_of_scores_matters_and_their_size_does_not() -> None:
    y = annotated([(TEN, 0)])
    good = detected([(TEN, 0.9, 0), (FAR, 0.8, 0)])
    low = detected([(TEN, 0.009, 0), (FAR, 0.008, 0)])
    bad = detected([(TEN, 0.8, 0), (FAR, 0.9, 0)])
    assert ap50(good, y) == ap50(low, y) == [pytest.approx(1)]
    assert ap50(bad, y) == [pytest.approx(0.5)]
    assert recalls(good, y, 1) == recalls(bad, y, 1) == [1.0]
    assert recalls(low, y, 1) == [0.0]


def test_no_detection_is_zero_and_no_box_is_nothing() -> None:
    y = annotated([(TEN, 0)], [])
    nothing = detected([], [])
    assert ap50(nothing, y, 3) == [pytest.approx(0), None, None]
    assert recalls(nothing, y, 3) == [0.0, None, None]
    blank = annotated([], [])
    assert ap50(detected([(TEN, 0.9, 0)], []), blank, 2) == [None, None]
    assert recalls(detected([(TEN, 0.9, 0)], []), blank, 2) == [None, None]


def test_a_detection_in_an_image_without_boxes_is_wrong() -> None:
    y = annotated([(TEN, 0)], [])
    out = detected([(TEN, 0.5, 0)], [(TEN, 0.9, 0)])
    assert ap50(out, y) == [pytest.approx(0.5)]


def test_in_a_crowd_the_hundred_best_of_a_class_are_judged() -> None:
    many: list[tuple[Box, int]] = [
        ((10.0 * i, 10.0 * j, 10.0 * i + 8, 10.0 * j + 8), 0) for i in range(11) for j in range(10)
    ]
    y = annotated(many)
    out = detected([(box, 0.9 - 0.001 * i, 0) for i, (box, _) in enumerate(many)], k=110)
    # 100 of 110 boxes: recall ends at .909, after the recalls 0, .01, ..., .90
    assert ap50(out, y) == [pytest.approx(91 / 101)]
    assert recalls(out, y, 1) == [pytest.approx(100 / 110)]


def test_recall_counts_detections_from_its_score_on() -> None:
    y = annotated([(TEN, 0), (FAR, 0)], [(TEN, 0)])
    out = detected([(TEN, 0.5, 0), (FAR, 0.25, 0)], [(TEN, 0.125, 0)])
    assert recalls(out, y, 1) == [pytest.approx(1 / 3)]  # .3 unless told otherwise
    assert recalls(out, y, 1, 0.25) == [pytest.approx(2 / 3)]  # the score itself is enough
    assert recalls(out, y, 1, 0.1) == [1.0]
    assert out[0, 0, 4] == 0.5  # what was given is still there


def overlap(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return across * down / (sum(areas) - across * down)


def by_second_implementation(out: Tensor, y: Tensor, k: int, least: float) -> float:
    """Greedy matching by falling score, precision made monotone, read at 101 recalls: COCO's definition in numpy."""
    judged, boxes = [], 0
    for image, there in zip(out.numpy().astype(float), y.numpy().astype(float), strict=True):
        wanted = [b for b in there if b[4] == k]
        boxes += len(wanted)
        taken: set[int] = set()
        for d in sorted((d for d in image if d[5] == k and d[4] > 0), key=lambda d: -d[4]):
            free = {i: overlap(d, b) for i, b in enumerate(wanted) if i not in taken}
            best = max(free, key=lambda i: free[i], default=-1)
            right = best >= 0 and free[best] >= least
            taken |= {best} if right else set()
            judged.append((d[4], right))
    hits = np.array([right for _, right in sorted(judged, key=lambda j: -j[0])])
    recall = hits.cumsum() / boxes
    precision = hits.cumsum() / (np.arange(len(hits)) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.mean([envelope[i] if i < len(hits) else 0.0 for i in at]))


def random_scenes(seed: int, images: int = 12, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Boxes, and detections that are moved copies of them, invented ones and wrong classes."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for _ in range(images):
        corner, size = rng.uniform(0, 70, (4, 2)), rng.uniform(8, 28, (4, 2))
        there = np.hstack([corner, corner + size, rng.integers(classes, size=(4, 1))])[: rng.integers(1, 5)]
        copies = there[rng.integers(len(there), size=5)]
        moved = copies[:, :4] + rng.normal(0, 2.5, (5, 1)) * np.array([1, 1, 1, 1.0])
        labels = np.where(rng.random(5) < 0.8, copies[:, 4], rng.integers(classes, size=5))
        found.append(torch.from_numpy(np.hstack([moved, rng.random((5, 1)), labels[:, None]])).float())
        boxes.append(torch.from_numpy(there).float())
    return padded_detections(found, 6), padded_boxes(boxes)


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_a_second_implementation(seed: int) -> None:
    out, y = random_scenes(seed)
    found = average_precisions(out, y, 3)
    at_half = [by_second_implementation(out, y, k, 0.5) for k in range(3)]
    assert found.of_class_50 == pytest.approx(at_half, abs=1e-6)
    assert found.mean_50 == pytest.approx(np.mean(at_half), abs=1e-6)
    everything = [by_second_implementation(out, y, k, least) for k in range(3) for least in np.linspace(0.5, 0.95, 10)]
    assert found.mean == pytest.approx(np.mean(everything), abs=1e-6)
    assert 0.05 < found.mean < found.mean_50 < 0.95


def test_the_order_of_images_and_of_places_does_not_matter() -> None:
    out, y = random_scenes(5)
    order, places = torch.randperm(len(y), generator=generator(0)), torch.randperm(y.shape[1], generator=generator(1))
    assert average_precisions(out[order], y[order][:, places], 3) == average_precisions(out, y, 3)
    assert recalls(out[order], y[order], 3) == recalls(out, y, 3)


# -- metrics of a run --------------------------------------------------------------------------------------------------


def test_metrics_are_average_precisions_and_recalls_with_the_boxes_behind_them() -> None:
    y = annotated([(TEN, 0), (FAR, 2)], [(TEN, 2)])
    out = detected([(TEN, 0.9, 0), (FAR, 0.2, 2)], [(TEN, 0.8, 2)])
    found = {(m.name, *m.at.values()): (m.value, m.n) for m in BOXES.metrics(out, y, ("a", "b", "c"))}
    assert found == {
        ("map",): (pytest.approx(1), 3), ("map50",): (pytest.approx(1), 3),
        ("ap50", "a"): (pytest.approx(1), 1), ("recall", "a"): (1.0, 1),
        ("ap50", "c"): (pytest.approx(1), 2), ("recall", "c"): (0.5, 2),
    }  # fmt: skip
    blank = {m.name: (m.value, m.n) for m in BOXES.metrics(out, annotated([], []), ("a", "b", "c"))}
    assert blank == {"map": (None, 0), "map50": (None, 0)}


# -- the task ----------------------------------------------------------------------------------------------------------

Y = annotated([(TEN, 0), (FAR, 1), (FAR, 1)], [], [(TEN, 1)], [(FAR, 0)])


class Asserting(nn.Module):
    """A detector whose answers say what it was asked; ``scale`` makes its scores differentiable."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if y is None:
            return torch.tensor(NOTHING).expand(len(x), 3, 6)
        return self.scale * present(y).sum(1)

    def class_scores(self, x: Tensor, y: Tensor) -> Tensor:
        places = torch.arange(y.shape[1])[None, :, None] + 10 * torch.arange(2)[None, None]
        return self.scale * places * present(y)[..., None]


BATCH = Batch(torch.zeros(4, 1, 100, 100), Y, torch.arange(4))


def test_a_detector_is_asked_for_losses_to_train_and_for_detections_to_measure() -> None:
    model = Asserting()
    assert isinstance(model, Detector)
    assert not isinstance(nn.Linear(2, 2), Detector)
    out = BOXES.outputs(model, BATCH)
    assert out.tolist() == BOXES.losses(out, Y).tolist() == [6, 0, 2, 2]
    assert BOXES.loss(out, Y).item() == 2.5
    assert BOXES.predictions(model, BATCH).shape == (4, 3, 6)


def test_the_score_of_a_target_is_the_sum_over_its_boxes() -> None:
    model = Asserting()
    # class 1 has places 1 and 2 of the first image and place 0 of the third: 2 * (11 + 12 + 10)
    score = BOXES.target_score(model, BATCH, 1)
    assert score.item() == 66
    score.backward()
    assert model.scale.grad is not None
    assert model.scale.grad.item() == 33
    assert BOXES.target_score(model, BATCH, 0).item() == 0  # place 0, class 0: scores of 0 twice
    nowhere = BATCH._replace(y=torch.full_like(Y, NAN))
    assert BOXES.target_score(model, nowhere, 1).item() == 0


def test_a_target_is_cut_out_of_the_boxes() -> None:
    before = Y.clone()
    carries, only = BOXES.split_target(Y, 1)
    assert carries.tolist() == [True, False, True, False]
    assert only[..., 4].nan_to_num(-1).tolist() == [[-1, 1, 1], [1, -1, -1]]
    assert only[0, 1, :4].tolist() == list(FAR)
    assert bool(only[0, 0].isnan().all())
    erased = BOXES.erase(Y, 1, "absent")
    assert erased[..., 4].nan_to_num(-1).tolist() == [[0, -1, -1], [-1] * 3, [-1] * 3, [0, -1, -1]]
    assert bool(erased[2].isnan().all())
    torch.testing.assert_close(Y, before, equal_nan=True, rtol=0, atol=0)


def test_every_box_is_either_the_targets_or_left_over() -> None:
    for target in (0, 1):
        carries, only = BOXES.split_target(Y, target)
        whole = BOXES.erase(Y, target, "absent")
        assert not bool((present(whole)[carries] & present(only)).any())
        whole[carries] = torch.where(present(only)[..., None], only, whole[carries])
        torch.testing.assert_close(whole, Y, equal_nan=True, rtol=0, atol=0)


def test_boxes_cannot_be_left_out_of_the_loss() -> None:
    with pytest.raises(IncompatibleError, match="what has no box is background") as found:
        BOXES.erase(Y, 1, "unknown")
    assert (found.value.code, found.value.where, found.value.exit_code) == ("unsupported-task", "$.request.as", 3)


def test_an_image_without_boxes_is_annotated() -> None:
    assert BOXES.annotated(Y).tolist() == [True] * 4


@pytest.mark.parametrize("method", ["divergence", "probabilities"])
def test_detections_are_no_distribution(method: str) -> None:
    arguments = (Y, Y) if method == "divergence" else (Y,)
    with pytest.raises(IncompatibleError, match="no distribution"):
        getattr(BOXES, method)(*arguments)


@pytest.mark.parametrize("wrong", [True, False])
def test_other_classes_keep_boxes_and_leave_empty_places_empty(wrong: bool) -> None:
    many = Y.repeat(300, 1, 1)
    drawn = BOXES.other(many, 3, generator(0), wrong=wrong)
    torch.testing.assert_close(drawn[..., :4], many[..., :4], equal_nan=True, rtol=0, atol=0)
    assert torch.equal(present(drawn), present(many))
    old, new = many[..., 4][present(many)], drawn[..., 4][present(many)]
    assert set(new.unique().tolist()) == {0.0, 1.0, 2.0}
    assert bool((old != new).all()) == wrong
    for label in (0, 1):
        shares = torch.bincount(new[old == label].long(), minlength=3) / int((old == label).sum())
        expected = [0.0 if wrong and k == label else 1 / (2 if wrong else 3) for k in range(3)]
        assert shares.tolist() == pytest.approx(expected, abs=0.1)
    again = BOXES.other(many, 3, generator(0), wrong=wrong)
    torch.testing.assert_close(again, drawn, equal_nan=True, rtol=0, atol=0)


def test_mirrored_boxes_are_where_the_mirrored_pixels_are() -> None:
    y = annotated([((1, 2, 4, 3), 0)], [])
    across, down = BOXES.mirrored(y, 10, "horizontal"), BOXES.mirrored(y, 8, "vertical")
    assert across[0, 0].tolist() == [6, 2, 9, 3, 0]
    assert down[0, 0].tolist() == [1, 5, 4, 6, 0]
    assert bool(across[1].isnan().all())
    torch.testing.assert_close(BOXES.mirrored(across, 10, "horizontal"), y, equal_nan=True)
    assert y[0, 0].tolist() == [1, 2, 4, 3, 0]


# -- faults ------------------------------------------------------------------------------------------------------------


def fault_of(box: tuple[float, ...]) -> Any:
    y = padded_boxes([torch.tensor([[*TEN, 0.0]]), torch.zeros(0, 5), torch.tensor([[*TEN, 1.0], list(box)])])
    return BOXES.find_fault(torch.zeros(3, 1, 50, 60), y, 2)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((-1, 0, 5, 5, 0), "the box (-1, 0, 5, 5, 0) lies outside its image of 60x50 pixels"),
        ((0, 0, 61, 5, 0), "the box (0, 0, 61, 5, 0) lies outside its image of 60x50 pixels"),
        ((0, 0, 5, 51, 1), "the box (0, 0, 5, 51, 1) lies outside its image of 60x50 pixels"),
        ((NAN, 0, 5, 5, 1), "the box (nan, 0, 5, 5, 1) lies outside its image of 60x50 pixels"),
        ((5, 5, 5, 9, 0), "the box (5, 5, 5, 9, 0) has no area"),
        ((5, 9, 8, 5, 0), "the box (5, 9, 8, 5, 0) has no area"),
        ((1, 1, 5, 5, 2), "the box (1, 1, 5, 5, 2) is of a class that does not exist: there are 2"),
        ((1, 1, 5, 5, -1), "the box (1, 1, 5, 5, -1) is of a class that does not exist: there are 2"),
        ((1, 1, 5, 5, 0.5), "the box (1, 1, 5, 5, 0.5) is of a class that does not exist: there are 2"),
    ],
)
def test_boxes_that_cannot_be_are_told_with_their_row(box: tuple[float, ...], words: str) -> None:
    assert fault_of(box) == (2, words)


@pytest.mark.parametrize("box", [(0, 0, 60, 50, 1), (0, 0, 0.5, 0.5, 0), (59, 49, 60, 50, 1)])
def test_boxes_may_touch_the_border(box: tuple[float, ...]) -> None:
    assert fault_of(box) is None


def test_annotations_that_are_no_boxes_are_told() -> None:
    fault = BOXES.find_fault(torch.zeros(2, 1, 9, 9), torch.zeros(2, 3), 2)
    assert fault is not None
    assert fault.message == "boxes of shape [3], not [m, 5]"


def test_a_box_without_a_class_is_told_and_not_dropped() -> None:
    y = torch.tensor([[[1.0, 1, 5, 5, NAN]]])
    fault = BOXES.find_fault(torch.zeros(1, 1, 9, 9), y, 2)
    assert fault is not None
    assert "class" in fault.message
