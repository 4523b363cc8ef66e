"""Scenes of drawn shapes: what they show is what their annotations say."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlearnbench.api.runtime import TASKS, DataJob, Splits, present
from unlearnbench_scenes.plugin import ShapesParams
from unlearnbench_scenes.shapes import NAMES, NOISE, Shapes

ALL = ("multi-label", "segmentation", "detection")
JOB = DataJob(root="nowhere", scratch="nowhere", file=None)  # type: ignore[arg-type]  # shapes reads no file


def load(task: str = "multi-label", **params: Any) -> Splits:
    return Shapes(ShapesParams(task=task, **{"train_rows": 60, "test_rows": 20, **params})).load(JOB)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def by_task() -> dict[str, Splits]:
    return {task: load(task, train_rows=300, test_rows=40) for task in ALL}


@pytest.fixture(scope="module")
def many() -> tuple[Tensor, Tensor]:
    """Images and masks of 3,000 scenes."""
    train = load("segmentation", train_rows=3000).train
    return train.x, train.y


def test_three_processes_draw_the_same_bits() -> None:
    program = """
import json
from unlearnbench_scenes.plugin import ShapesParams
from unlearnbench_scenes.shapes import Shapes
found = {}
for task in ("multi-label", "segmentation", "detection"):
    splits = Shapes(ShapesParams(task=task, train_rows=60, test_rows=20)).load(None)
    found[task] = [splits.train.digest(), splits.test.digest()]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = {task: [splits.train.digest(), splits.test.digest()] for task in ALL for splits in [load(task)]}
    assert json.loads(done.stdout) == here
    assert len({digest for pair in here.values() for digest in pair}) == 6


def test_every_task_annotates_the_very_same_images(by_task: dict[str, Splits]) -> None:
    for part in ("train", "test"):
        first, *others = (getattr(splits, part) for splits in by_task.values())
        assert all(torch.equal(first.x, other.x) and torch.equal(first.ids, other.ids) for other in others)


def test_the_outputs_are_the_shapes_and_pixels_have_the_background_before_them(by_task: dict[str, Splits]) -> None:
    assert by_task["multi-label"].train.outputs == by_task["detection"].test.outputs == NAMES
    assert by_task["segmentation"].train.outputs == ("background", *NAMES)
    assert NAMES == ("square", "disc", "cross", "triangle")


@pytest.mark.parametrize("task", ALL)
@pytest.mark.parametrize("size", [16, 17, 24, 25, 40])
def test_the_host_finds_no_fault_in_any_size(task: str, size: int) -> None:
    splits = load(task, size=size)
    for part in (splits.train, splits.test):
        assert part.x.shape[1:] == (3, size, size)
        assert part.x.dtype == torch.float32
        assert 0 <= float(part.x.min()) < float(part.x.max()) <= 1
        assert TASKS[task].find_fault(part.x, part.y, len(part.outputs)) is None


def test_labels_masks_and_boxes_of_a_scene_agree(by_task: dict[str, Splits]) -> None:
    labels, masks, boxes = (by_task[task].train.y for task in ALL)
    for row in range(len(labels)):
        expected, mask = [], masks[row].tolist()
        for k in range(len(NAMES)):
            pixels = [(i, j) for i in range(24) for j in range(24) if mask[i][j] == k + 1]
            assert bool(labels[row, k]) == bool(pixels)
            if pixels:
                down, across = zip(*pixels, strict=True)
                expected.append([min(across), min(down), max(across) + 1, max(down) + 1, k])
        found = boxes[row][present(boxes[row])].tolist()
        assert sorted(found) == sorted(expected)
        assert not present(boxes[row])[len(found) :].any()  # boxes first, what is left over behind them


def test_a_mask_holds_exactly_the_pixels_of_one_colour(by_task: dict[str, Splits]) -> None:
    train = by_task["segmentation"].train
    for x, mask in zip(train.x, train.y, strict=True):
        for k in mask.unique().tolist():
            shown = x[:, mask == k]
            colour = shown.median(1).values
            # A bright colour and a dim one differ by .55 in some channel, so no pixel of the other can stand here.
            assert float((shown - colour[:, None]).abs().max()) < 5.5 * NOISE
            assert (float(colour.max()) > 0.7) == (k > 0)


def test_each_form_is_what_its_name_says(by_task: dict[str, Splits]) -> None:
    masks, boxes = by_task["segmentation"].train.y, by_task["detection"].train.y
    fills: dict[str, list[float]] = {name: [] for name in NAMES}
    for row, place in present(boxes).nonzero().tolist():
        x1, y1, x2, y2, k = (int(v) for v in boxes[row, place])
        inside = masks[row, y1:y2, x1:x2] == k + 1
        height, width = inside.shape
        fills[NAMES[k]].append(float(inside.float().mean()))
        # Between the corner and the middle: within a disc, beside the arms of a cross.
        quarter, fifth = (bool(inside[height // part, width // part]) for part in (4, 5))
        top, bottom = int(inside[0].sum()), int(inside[-1].sum())
        if NAMES[k] == "square":
            assert inside.all()
        elif NAMES[k] == "disc":
            assert quarter
            assert not inside[0, 0]
        elif NAMES[k] == "cross":
            assert not fifth
            assert inside[height // 2].all()
            assert inside[:, width // 2].all()
            assert top < width - 1
        else:
            widths = inside.sum(1)
            assert bool((widths.diff() >= 0).all())
            assert top <= 2 < bottom
    means = {name: float(np.mean(found)) for name, found in fills.items()}
    assert means["square"] == 1
    assert means["disc"] == pytest.approx(np.pi / 4, abs=0.06)
    assert means["cross"] == pytest.approx(1.3**-2, abs=0.08)
    assert means["triangle"] == pytest.approx(0.5, abs=0.08)


def test_neither_colour_nor_brightness_nor_area_tells_the_shape(many: tuple[Tensor, Tensor]) -> None:
    x, masks = many
    features: list[dict[str, np.ndarray[Any, Any]]] = []
    for k in range(1, 5):
        shown = masks == k
        area = shown.sum((1, 2))
        rows = area > 0
        mean = (x * shown[:, None]).sum((2, 3))[rows] / area[rows, None]
        columns = {"red": mean[:, 0], "green": mean[:, 1], "blue": mean[:, 2], "brightness": mean.mean(1)}
        columns |= {"strongest": mean.max(1).values, "weakest": mean.min(1).values}
        features.append({name: column.numpy() for name, column in columns.items()} | {"area": area[rows].numpy()})
    for a in range(4):
        for b in range(a):
            for name in features[0]:
                one, other = features[a][name], features[b][name]
                if name == "area":  # pixels are counted, so areas agree on average but not in each value
                    assert np.mean(one) == pytest.approx(np.mean(other), rel=0.02)
                    continue
                grid = np.sort(np.concatenate([one, other]))
                apart = [np.searchsorted(np.sort(v), grid, "right") / len(v) for v in (one, other)]
                distance = np.abs(apart[0] - apart[1]).max()  # Kolmogorov and Smirnov's
                assert distance < 1.95 * np.sqrt(1 / len(one) + 1 / len(other)), (NAMES[a], NAMES[b], name)


def test_shapes_are_there_independently_of_each_other(many: tuple[Tensor, Tensor]) -> None:
    there = torch.stack([(many[1] == k).flatten(1).any(1) for k in range(1, 5)], 1).double()
    assert torch.allclose(there.mean(0), torch.tensor(0.5).double(), atol=0.04)
    assert torch.allclose(torch.corrcoef(there.T), torch.eye(4).double(), atol=0.07)
    assert float((there.sum(1) == 0).double().mean()) == pytest.approx(1 / 16, abs=0.015)


def test_each_shape_has_a_quadrant_of_its_own_and_a_random_place_in_it(by_task: dict[str, Splits]) -> None:
    boxes = by_task["detection"].train.y
    quadrants: list[set[int]] = [set() for _ in NAMES]
    corners: list[set[tuple[float, float]]] = [set() for _ in NAMES]
    for image in boxes:
        taken = []
        for x1, y1, x2, y2, k in image[present(image)].tolist():
            right, low = (x1 + x2) / 2 > 12, (y1 + y2) / 2 > 12
            assert x1 >= 12 if right else x2 <= 12
            assert y1 >= 12 if low else y2 <= 12
            taken.append(2 * low + right)
            quadrants[int(k)].add(taken[-1])
            corners[int(k)].add((x1 % 12, y1 % 12))
        assert len(set(taken)) == len(taken)
    assert all(found == {0, 1, 2, 3} for found in quadrants)
    assert min(map(len, corners)) >= 8


def test_an_empty_scene_is_legal_for_each_task(by_task: dict[str, Splits]) -> None:
    empty = by_task["multi-label"].train.y.sum(1) == 0
    assert int(empty.sum()) >= 5
    assert not by_task["segmentation"].train.y[empty].any()
    assert not present(by_task["detection"].train.y[empty]).any()
    assert bool(TASKS["detection"].annotated(by_task["detection"].train.y[empty]).all())


def test_test_scenes_do_not_depend_on_the_number_of_training_scenes(by_task: dict[str, Splits]) -> None:
    few = load("detection", train_rows=7, test_rows=40)
    assert few.test.digest() == by_task["detection"].test.digest()
    assert torch.equal(few.train.x, by_task["detection"].train.x[:7])
    assert torch.equal(few.train.y.nan_to_num(), by_task["detection"].train.y[:7].nan_to_num())


def test_training_and_test_scenes_and_those_of_another_seed_are_different_ones() -> None:
    first, second = load(), load(seed=1)
    drawn = torch.cat([part.x for splits in (first, second) for part in (splits.train, splits.test)]).flatten(1)
    assert len(drawn.unique(dim=0)) == 160
    assert not set(first.train.ids.tolist()) & set(first.test.ids.tolist())
