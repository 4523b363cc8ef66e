"""Forgetting one target at a time, on scenes and on blood cells: what must be lost, and what must stay.

An hour of training on one core; models stay in ``build/slow-store`` and are read the next time (``make slow``).
Settings are those of the scenarios unless a test names others; those of the scenes of Fashion-MNIST's items were chosen
on validation scenes (``benchmarks/target_settings.py``). Everything here is read on test images.
"""

from __future__ import annotations

import os
from statistics import fmean
from typing import Any

import pytest
from target_runs import Judged, judged, spec

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHAPES = ("square", "disc", "cross", "triangle")
ITEMS = ("tshirt", "trouser", "sneaker", "bag", "boot")
SEEDS = (0, 1, 2)
UNLEARNED = ("original", "unlearned")
CONTRAST = {"instances": 64, "selection": "contrast", "score": "contribution", "sigma": 3, "delta": 0.2}

needs_data = pytest.mark.skipif(
    not os.environ.get("UNLEARNBENCH_DATA"), reason="UNLEARNBENCH_DATA names no folder with the real data"
)


def run(scenario: str, target: str, seed: int = 0, **params: Any) -> Judged:
    return judged(spec(scenario, target, seed=seed, **params), subjects=UNLEARNED)


def kept_iou(found: Judged) -> float:
    """Mean of the others' IoU over that of the original; the background is none of them."""
    others = [name for name in found.others if name != "background"]
    after, before = (found.all("target-iou", others, subject) for subject in ("unlearned", "original"))
    return fmean(a / b for a, b in zip(after, before, strict=True))


def drops(found: Judged) -> list[float]:
    after, before = (found.all("target-ap50", found.others, subject) for subject in ("unlearned", "original"))
    return [b - a for a, b in zip(after, before, strict=True)]


# --- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", SHAPES)
def test_a_shape_is_no_longer_said_and_the_others_are(target: str, seed: int) -> None:
    found = run("shapes-multilabel/v1", target, seed)
    assert found.of("target-recall", target) <= 0.05
    assert min(found.all("target-recall", found.others)) >= 0.95
    assert min(found.all("target-balanced-accuracy", found.others)) >= 0.95


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", SHAPES)
def test_a_shapes_pixels_are_no_longer_found_and_the_others_are(target: str, seed: int) -> None:
    found = run("shapes-segmentation/v1", target, seed)
    assert found.of("target-iou", target, "original") >= 0.7
    assert found.of("target-iou", target) <= 0.2
    assert kept_iou(found) >= 0.7
    assert kept_iou(found) >= 0.2 + kept_iou(run("shapes-segmentation/v1", target, seed, balance="none"))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("target", SHAPES)
def test_one_instance_takes_four_tenths_of_a_shapes_overlap(target: str, seed: int) -> None:
    found = run("shapes-segmentation/v1", target, seed, instances=1, score="alpha", sigma=6, delta=0.1)
    assert found.of("target-iou", target) <= 0.6 * found.of("target-iou", target, "original")


# --- scenes of Fashion-MNIST's items --------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("target", ["sneaker", "bag"])
def test_an_item_is_no_longer_said_with_one_instance(target: str) -> None:
    found = run("fashion-scenes-multilabel/v1", target)
    assert fmean(found.all("target-balanced-accuracy", ITEMS, "original")) >= 0.9
    assert found.of("target-recall", target) <= 0.05
    assert min(found.all("target-recall", found.others)) >= 0.9
    assert min(found.all("target-balanced-accuracy", found.others)) >= 0.88


@needs_data
@pytest.mark.parametrize("target", ITEMS)
def test_the_contrast_of_many_instances_takes_what_is_known_of_an_item(target: str) -> None:
    found = run("fashion-scenes-multilabel/v1", target, **CONTRAST)
    assert found.of("target-recall", target) <= 0.05
    assert found.of("target-auc", target) <= 0.8


@needs_data
@pytest.mark.parametrize("target", ITEMS)
def test_an_items_pixels_are_no_longer_found_and_the_others_are(target: str) -> None:
    found = run("fashion-scenes-segmentation/v1", target)
    assert min(found.all("target-iou", ITEMS, "original")) >= 0.6
    assert found.of("target-iou", target) <= 0.2
    assert kept_iou(found) >= 0.7
    assert kept_iou(found) >= 0.1 + kept_iou(run("fashion-scenes-segmentation/v1", target, balance="none"))


@needs_data
@pytest.mark.parametrize("target", ["sneaker", "bag"])
def test_an_item_is_no_longer_detected_and_the_others_are(target: str) -> None:
    found = run("fashion-scenes-detection/v1", target)
    assert min(found.all("target-ap50", ITEMS, "original")) >= 0.85
    assert found.of("target-recall", target) <= 0.05
    assert fmean(drops(found)) <= 0.06
    assert max(drops(found)) <= 0.15


# --- blood cells ----------------------------------------------------------------------------------------------------


@needs_data
def test_white_cells_are_forgotten() -> None:
    found = run("bccd-detection/v1", "WBC")
    floors = {"RBC": 0.7, "WBC": 0.85, "Platelets": 0.6}
    assert all(found.of("target-ap50", name, "original") >= floor for name, floor in floors.items())
    assert found.of("target-ap50", "WBC") <= 0.05
    assert max(drops(found)) <= 0.1


@needs_data
def test_platelets_are_forgotten() -> None:
    found = run("bccd-detection/v1", "Platelets")
    assert found.of("target-ap50", "Platelets") <= 0.15
    assert max(drops(found)) <= 0.15


# --- what gold never saw --------------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize(
    ("scenario", "target", "reading"),
    [
        ("fashion-scenes-multilabel/v1", "sneaker", "target-recall"),
        ("fashion-scenes-multilabel/v1", "bag", "target-recall"),
        ("fashion-scenes-segmentation/v1", "sneaker", "target-iou"),
        ("fashion-scenes-segmentation/v1", "bag", "target-iou"),
        ("fashion-scenes-detection/v1", "sneaker", "target-ap50"),
        ("fashion-scenes-detection/v1", "bag", "target-ap50"),
        ("bccd-detection/v1", "WBC", "target-ap50"),
        ("bccd-detection/v1", "Platelets", "target-ap50"),
    ],
)
def test_gold_knows_nothing_of_a_target_whose_annotations_it_never_saw(
    scenario: str, target: str, reading: str
) -> None:
    found = judged(spec(scenario, target), subjects=("gold",))
    assert found.of(reading, target, "gold") <= 0.05
    others = [name for name in found.others if name != "background"]
    assert min(found.all(reading, others, "gold")) >= 0.6
