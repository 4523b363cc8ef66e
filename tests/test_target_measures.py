"""What became of each target: every reading against scikit-learn, numpy or a count by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_evidence import HandEvidence
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, jaccard_score, recall_score, roc_auc_score
from torch import Tensor, nn
from toys_support import one_record, scenes, toy_registry

from unlearnbench.api.runtime import (
    MISSING,
    TASKS,
    Data,
    Reading,
    Request,
    average_precisions,
    generator,
    padded_boxes,
    padded_detections,
    recalls,
)
from unlearnbench.builtin.plugin import TargetParams, unlearnbench_measures
from unlearnbench.builtin.target_values import best_threshold
from unlearnbench.builtin.targets import PerTarget
from unlearnbench.plugins import BUILTIN
from unlearnbench.registry import Registry
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Check, NotApplicable, name_of
from unlearnbench.testing.measures import CHECKS, gold_is_ideal
from unlearnbench.testing.problems import PLUGIN

NAN = math.nan
NAMES = ("red", "green", "blue")
SPEC = next(spec for spec in unlearnbench_measures() if spec.name == "per-target")
Readings = dict[str, Reading]


class Says(nn.Module):
    """The original: its predictions do not depend on what it sees."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.out[x[:, 0, 0, 0].long()]


def split(y: Tensor, names: tuple[str, ...]) -> Data:
    """Rows that know their position."""
    x = torch.arange(len(y)).float()[:, None, None, None].expand(-1, 1, 4, 4)
    return Data(x, y, torch.arange(len(y)) + 100, names)


def measured(
    task: str,
    out: Tensor,
    y: Tensor,
    *,
    original: Tensor | None = None,
    validation: tuple[Tensor, Tensor] | None = None,
    targets: tuple[int, ...] = (0,),
    earlier: tuple[int, ...] = (),
    names: tuple[str, ...] = NAMES,
    order: Tensor | None = None,
    **params: Any,
) -> Readings:
    """The readings about these predictions of the test rows, by key."""
    held = validation or (out[:0], y[:0])
    data = {"test": split(y, names), "validation": split(held[1], names)}
    raw = {"test": out, "validation": held[0]}
    first = out if original is None else original
    if order is not None:
        data, raw = {k: v.rows(order) if k == "test" else v for k, v in data.items()}, {**raw, "test": out[order]}
    evidence = HandEvidence(
        data=data,
        raw=raw,
        models={"original": Says(_outputs_for(task, first))},
        task=TASKS[task],
        request=Request("target", "0" * 64, targets=targets, earlier=earlier),
    )
    return by_key(PerTarget(TargetParams(**params)).measure(evidence))  # type: ignore[arg-type]


def _outputs_for(task: str, predictions: Tensor) -> Tensor:
    """Outputs of which the task makes these predictions; of pixels, logits of the three classes and the background."""
    if task != "segmentation":
        return predictions
    one_hot = (predictions[:, None] == torch.arange(4)[:, None, None]).float()
    return one_hot.masked_fill(predictions[:, None].isnan(), NAN)


def by_key(readings: Iterable[Reading]) -> Readings:
    found = list(readings)
    keys = [reading.key for reading in found]
    assert len(set(keys)) == len(keys)
    return {reading.key: reading for reading in found}


def of(name: str, target: str = "") -> str:
    return f"{name}.test" + (f".target={target}" if target else "")


def gist(reading: Reading) -> tuple[float | None, int, str]:
    return reading.value, reading.n, reading.status


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-12)


# -- labels ------------------------------------------------------------------------------------------------------------


def labels(n: int = 80, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits that know something about three labels, some of which are not annotated."""
    rng = generator(seed)
    y = (torch.rand(n, 3, generator=rng) < torch.tensor([0.3, 0.5, 0.7])).float()
    out = torch.randn(n, 3, generator=rng) + torch.tensor([2.0, 1.0, 0.5]) * (y - 0.5) + torch.tensor([-1.0, 0, 1])
    y[torch.rand(n, 3, generator=rng) < 0.1] = NAN
    return out, y


def test_readings_of_a_label_are_scikit_learns_over_its_annotated_cells() -> None:
    out, y = labels()
    found = measured("multi-label", out, y)
    for t, name in enumerate(NAMES):
        known = ~y[:, t].isnan()
        true, score = y[known, t].numpy(), out[known, t].double().numpy()
        n, shown = int(known.sum()), int(true.sum())
        assert gist(found[of("target-recall", name)]) == (near(recall_score(true, score > 0)), shown, "ok")
        balanced = balanced_accuracy_score(true, score > 0)
        assert gist(found[of("target-balanced-accuracy", name)]) == (near(balanced), n, "ok")
        assert gist(found[of("target-accuracy", name)]) == (near(((score > 0) == true).mean()), n, "ok")
        assert gist(found[of("target-auc", name)]) == (near(roc_auc_score(true, score)), n, "ok")
        pairs = [(a > b) + 0.5 * (a == b) for a in score[true == 1] for b in score[true == 0]]
        assert found[of("target-auc", name)].value == near(np.mean(pairs))


def test_the_threshold_is_chosen_on_validation_rows_and_used_on_test_rows() -> None:
    out, y = labels()
    held = labels(60, seed=9)
    found = measured("multi-label", out, y, validation=held)
    for t, name in enumerate(NAMES):
        known, known_held = ~y[:, t].isnan(), ~held[1][:, t].isnan()
        threshold = best_threshold(held[0][known_held, t].double().numpy(), held[1][known_held, t].numpy() > 0.5)
        true, said = y[known, t].numpy(), out[known, t].double().numpy() > threshold
        assert threshold != 0
        assert found[of("target-recalibrated-recall", name)].value == near(recall_score(true, said))
        value = found[of("target-recalibrated-balanced-accuracy", name)]
        assert gist(value) == (near(balanced_accuracy_score(true, said)), int(known.sum()), "ok")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=14))
def test_no_threshold_is_better_than_the_one_that_is_chosen(rows: list[tuple[int, bool]]) -> None:
    scores, true = np.array([float(s) for s, _ in rows]), np.array([t for _, t in rows])
    if true.all() or not true.any():
        return

    def merit(threshold: float) -> float:
        return float(balanced_accuracy_score(true, scores > threshold))

    chosen, levels = best_threshold(scores, true), np.unique(scores)
    middles = (levels[1:] + levels[:-1]) / 2
    best = max([0.5, *(merit(middle) for middle in middles)])
    if best == 0.5:
        assert chosen == 0  # nothing is gained by moving it
        return
    assert merit(chosen) == pytest.approx(best)
    widths = {m: b - a for m, a, b in zip(middles, levels, levels[1:], strict=False) if merit(m) == pytest.approx(best)}
    assert chosen in widths  # the middle of an interval, and of the widest of the best ones
    assert widths[chosen] == max(widths.values())


def test_the_threshold_lies_in_the_middle_of_the_gap() -> None:
    scores, true = np.array([-3.0, -1.0, 2.0, 5.0]), np.array([False, False, True, True])
    assert best_threshold(scores, true) == 0.5
    assert best_threshold(scores - 10, true) == -9.5
    assert best_threshold(-scores, true) == 0  # upside down: no threshold helps
    assert best_threshold(np.zeros(4), true) == 0


ALTERNATING = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]).repeat(10, 1)


def test_a_lower_bias_is_not_forgetting_and_the_readings_say_so() -> None:
    """The card's flaw: the logits of a target are shifted until it is never said, and nothing else happens."""
    y, rng = ALTERNATING, generator(1)
    knows = 4 * (y - 0.5) + 0.1 * torch.randn(len(y), 3, generator=rng)
    held = (4 * (y - 0.5) + 0.1 * torch.randn(len(y), 3, generator=rng), y)
    shifted = torch.tensor([-10.0, 0, 0])
    found = measured("multi-label", knows + shifted, y, validation=(held[0] + shifted, y), original=knows)
    assert found[of("target-recall", "red")].value == 0
    assert found[of("target-balanced-accuracy", "red")].value == 0.5
    assert found[of("target-auc", "red")].value == 1
    assert found[of("target-recalibrated-recall", "red")].value == 1
    assert found[of("target-recalibrated-balanced-accuracy", "red")].value == 1
    assert gist(found[of("forgotten-recall")]) == (0, 1, "ok")
    assert gist(found[of("only-the-bias-moved")]) == (1, 1, "ok")
    assert found[of("only-the-bias-moved")].better == "lower"


def test_a_target_of_which_nothing_is_known_is_forgotten() -> None:
    y, rng = ALTERNATING, generator(2)
    out = 4 * (y - 0.5)
    out[:, 0] = -6 + torch.randn(len(y), generator=rng)
    held = (out.clone(), y)
    held[0][:, 0] = -6 + torch.randn(len(y), generator=rng)
    found = measured("multi-label", out, y, validation=held)
    assert found[of("target-recall", "red")].value == 0
    assert abs((found[of("target-auc", "red")].value or 0) - 0.5) < 0.2
    assert abs((found[of("target-recalibrated-balanced-accuracy", "red")].value or 0) - 0.5) < 0.2
    assert gist(found[of("only-the-bias-moved")]) == (0, 1, "ok")


def test_only_targets_that_are_no_longer_found_can_be_hidden() -> None:
    out, y = 4 * (ALTERNATING - 0.5), ALTERNATING
    still = measured("multi-label", out, y, targets=(0, 1))
    assert gist(still[of("only-the-bias-moved")]) == (None, 0, "every forgotten target is still found")
    hidden = out - torch.tensor([10.0, 0, 0])
    one = measured("multi-label", hidden, y, targets=(0, 1))
    assert gist(one[of("only-the-bias-moved")]) == (1, 1, "ok")
    assert gist(one[of("forgotten-recall")]) == (1, 2, "ok")  # the largest: green is still said
    mixed = hidden.clone()
    mixed[:, 1] = -5.0  # ranks nothing: AUC .5
    both = measured("multi-label", mixed, y, targets=(0, 1))
    assert gist(both[of("only-the-bias-moved")]) == (0.5, 2, "ok")


@pytest.mark.parametrize(("low", "auc", "value"), [(0.05, 0.9, None), (0.5, 0.9, 1.0), (0.5, 1.0, 0.0)])
def test_its_two_limits_are_parameters(low: float, auc: float, value: float | None) -> None:
    y = ALTERNATING
    out = 4 * (y - 0.5) - 10.0
    out[0, 0], out[1, 0] = 1.0, -8.0  # one of twenty and a tie: recall .05; the AUC a little below 1
    out[2:8:4, 0] = 1.0
    recall, ranks = 3 / 20, roc_auc_score(y[:, 0], out[:, 0].double())
    assert 0.9 < ranks < 1
    found = measured("multi-label", out, y, lost=low, known=auc)
    assert found[of("target-recall", "red")].value == near(recall)
    assert found[of("only-the-bias-moved")].value == value


def test_recall_and_auc_count_at_their_limits() -> None:
    y = ALTERNATING
    out = 4 * (y - 0.5) - 10.0
    out[0, 0] = 1.0
    found = measured("multi-label", out, y, lost=0.05, known=1.0)
    assert found[of("target-recall", "red")].value == 0.05
    assert found[of("target-auc", "red")].value == 1
    assert found[of("only-the-bias-moved")].value == 1


def test_the_others_are_given_by_their_smallest_and_their_mean() -> None:
    out, y = labels()
    found = measured("multi-label", out, y, targets=(1,))
    for name in ("recall", "balanced-accuracy"):
        both = [found[of(f"target-{name}", t)].value for t in ("red", "blue")]
        assert gist(found[of(f"others-{name}")]) == (min(v for v in both if v is not None), 2, "ok")
        assert gist(found[of(f"others-mean-{name}")]) == (near(sum(v or 0 for v in both) / 2), 2, "ok")
    assert found[of("forgotten-recall")].value == found[of("target-recall", "green")].value


def test_good_values_lie_at_golds_for_forgotten_targets_and_above_for_the_others() -> None:
    out, y = labels()
    found = measured("multi-label", out, y, targets=(1,), validation=labels(60, 9))
    for reading in found.values():
        if reading.at:
            assert reading.better == ("gold" if reading.at["target"] == "green" else "higher")
    assert found[of("forgotten-recall")].better == "gold"
    assert {found[of(f"others-{n}recall")].better for n in ("", "mean-")} == {"higher"}


def test_what_earlier_requests_of_a_stream_took_away_is_forgotten_too() -> None:
    out, y = labels()
    found = measured("multi-label", out, y, targets=(1,), earlier=(0,))
    assert found[of("target-recall", "red")].better == "gold"
    assert found[of("others-recall")].n == 1
    assert found[of("others-recall")].value == found[of("target-recall", "blue")].value
    assert found[of("forgotten-recall")].n == 2


def test_without_a_target_request_all_are_others() -> None:
    out, y = labels()
    found = measured("multi-label", out, y, targets=())
    assert {r.better for r in found.values()} == {"higher"}
    assert found[of("others-recall")].n == 3
    assert not [key for key in found if key.startswith(("forgotten", "only"))]


def test_all_targets_forgotten_leaves_no_others() -> None:
    out, y = labels()
    found = measured("multi-label", out, y, targets=(0, 1, 2))
    assert gist(found[of("others-recall")]) == (None, 0, "there is no such target")
    assert found[of("forgotten-recall")].n == 3


# -- what does not exist is said ---------------------------------------------------------------------------------------


def test_labels_without_contrast_have_statuses() -> None:
    out, y = labels()
    y[:, 0], y[:, 1] = 0, 1
    y[:, 2] = NAN
    found = measured("multi-label", out, y, targets=(1,), validation=labels(60, 9))
    assert gist(found[of("target-recall", "red")]) == (None, 0, "no row shows it")
    assert found[of("target-recall", "green")].value == near(float((out[:, 1] > 0).double().mean()))
    one_class = "every row shows it, or none"
    for name in ("red", "green"):
        assert gist(found[of("target-auc", name)]) == (None, 80, one_class)
        assert gist(found[of("target-balanced-accuracy", name)]) == (None, 80, one_class)
        assert found[of("target-accuracy", name)].value is not None
    assert gist(found[of("target-accuracy", "blue")]) == (None, 0, "no annotations")
    assert gist(found[of("target-recalibrated-recall", "red")]) == (None, 0, "no row shows it")
    assert gist(found[of("others-recall")]) == (None, 0, "no row shows it")
    assert gist(found[of("only-the-bias-moved")]) == (None, 0, one_class)


def test_without_validation_rows_nothing_is_recalibrated() -> None:
    out, y = labels()
    found = measured("multi-label", out, y)
    for name in ("target-recalibrated-recall", "target-recalibrated-balanced-accuracy"):
        assert found[of(name, "red")].value is None
        assert found[of(name, "red")].status == "no validation rows"
    one = measured("multi-label", out, y, validation=(out[:3], torch.ones(3, 3)))
    assert one[of("target-recalibrated-recall", "red")].status == "every validation row shows it, or none"
    broken = measured("multi-label", out, y, validation=(torch.full_like(out, NAN), y))
    assert broken[of("target-recalibrated-recall", "red")].status == "non-finite"
    assert broken[of("target-recall", "red")].value is not None


CASES = {
    "multi-label": lambda: labels(),
    "segmentation": lambda: pixels(),
    "detection": lambda: boxes(),
}


@pytest.mark.parametrize("task", CASES)
@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_one_prediction_that_is_no_number_is_a_status_everywhere(task: str, bad: float) -> None:
    out, y = CASES[task]()
    broken = out.clone()
    broken.flatten()[7] = bad
    found = measured(task, broken, y, original=out)
    assert {reading.status for reading in found.values()} == {"non-finite"}
    assert {reading.value for reading in found.values()} == {None}


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_an_original_that_is_no_number_leaves_the_readings_that_need_none(task: str) -> None:
    out, y = CASES[task]()
    broken = out.clone()
    broken.flatten()[7] = NAN
    found = measured(task, out, y, original=broken)
    for key, reading in found.items():
        needs = "relative" in key or "drop" in key
        assert (reading.value is None) == needs, key


@pytest.mark.parametrize("task", CASES)
def test_no_test_rows_is_a_status_everywhere(task: str) -> None:
    out, y = CASES[task]()
    found = measured(task, out[:0], y[:0])
    assert {reading.status for reading in found.values()} == {"empty split"}
    assert {(reading.value, reading.n) for reading in found.values()} == {(None, 0)}


@pytest.mark.parametrize("task", CASES)
def test_the_order_of_rows_does_not_matter(task: str) -> None:
    out, y = CASES[task]()
    order = torch.randperm(len(y), generator=generator(3))
    plain, shuffled = measured(task, out, y), measured(task, out, y, order=order)
    assert {k: gist(r) for k, r in plain.items()} == {k: gist(r) for k, r in shuffled.items()}


# -- masks -------------------------------------------------------------------------------------------------------------

MASKS = ("background", *NAMES)


def pixels(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Maps of four classes that are right at about half of the pixels, some of which are not annotated."""
    rng = generator(seed)
    y = torch.randint(4, (6, 5, 5), generator=rng)
    out = torch.where(torch.rand(y.shape, generator=rng) < 0.5, y, torch.randint(4, y.shape, generator=rng)).float()
    y[torch.rand(y.shape, generator=rng) < 0.15] = MISSING
    return out, y


def masks(out: Tensor, y: Tensor, **more: Any) -> Readings:
    return measured("segmentation", out, y, **{"names": MASKS, "targets": (1,), **more})


def test_intersection_over_union_and_shares_of_pixels_are_scikit_learns_and_numpys() -> None:
    out, y = pixels()
    found = masks(out, y)
    known = (y != MISSING).numpy()
    said, true = out.numpy()[known], y.numpy()[known]
    by_class = jaccard_score(true, said, average=None)
    for k, name in enumerate(MASKS):
        union = int(((said == k) | (true == k)).sum())
        assert gist(found[of("target-iou", name)]) == (near(by_class[k]), union, "ok")
        assert gist(found[of("target-predicted-pixels", name)]) == (near((said == k).mean()), known.sum(), "ok")
        assert gist(found[of("target-true-pixels", name)]) == (near((true == k).mean()), known.sum(), "ok")
        assert found[of("target-iou", name)].better == ("gold" if name == "red" else "higher")
        assert found[of("target-predicted-pixels", name)].better == "gold"


def test_the_others_of_masks_are_relative_to_the_original_and_without_the_background() -> None:
    (out, y), (before, _) = pixels(), pixels(seed=4)
    found, first = masks(out, y, original=before), masks(before, y)
    ratios = []
    for name in ("green", "blue"):
        mine, theirs = found[of("target-iou", name)].value, first[of("target-iou", name)].value
        assert mine is not None
        assert theirs
        ratios.append(mine / theirs)
    assert gist(found[of("others-relative-iou")]) == (near(min(ratios)), 2, "ok")
    assert gist(found[of("others-mean-relative-iou")]) == (near(sum(ratios) / 2), 2, "ok")
    assert found[of("forgotten-iou")].value == found[of("target-iou", "red")].value
    assert gist(first[of("others-relative-iou")]) == (1, 2, "ok")


def test_a_class_that_no_test_image_shows_has_no_overlap_but_may_be_predicted() -> None:
    y = torch.zeros(2, 3, 3).long()
    y[0, 0, 0] = 2
    out = torch.zeros(2, 3, 3)
    out[1] = 1
    found = masks(out, y, targets=(1,))
    assert gist(found[of("target-iou", "red")]) == (None, 9, "no row shows it")
    assert found[of("target-predicted-pixels", "red")].value == 0.5
    assert found[of("target-true-pixels", "red")].value == 0
    assert found[of("target-iou", "green")].value == 0
    assert gist(found[of("forgotten-iou")]) == (None, 0, "no row shows it")
    assert gist(found[of("others-relative-iou")]) == (None, 0, "the original does not find it")


def test_pixels_without_annotation_are_nobodys() -> None:
    y = torch.full((2, 3, 3), MISSING)
    found = masks(torch.ones(2, 3, 3), y)
    assert {r.value for r in found.values()} == {None}
    assert found[of("target-iou", "red")].status == "no annotations"


# -- boxes -------------------------------------------------------------------------------------------------------------


def boxes(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Boxes of three classes, and detections that are mostly near them."""
    rng = np.random.default_rng(seed)
    there, found = [], []
    for _ in range(8):
        corner, size = rng.uniform(0, 60, (3, 2)), rng.uniform(8, 28, (3, 2))
        one = np.hstack([corner, corner + size, rng.integers(3, size=(3, 1))])
        moved = one[:, :4] + rng.normal(0, 2, (3, 1))
        found.append(torch.from_numpy(np.hstack([moved, rng.random((3, 1)), one[:, 4:]])).float())
        there.append(torch.from_numpy(one).float())
    return padded_detections(found, 4), padded_boxes(there)


def test_readings_of_boxes_are_the_average_precisions_and_recalls() -> None:
    out, y = boxes()
    found = measured("detection", out, y, targets=(2,))
    precise, seen = average_precisions(out, y, 3), recalls(out, y, 3)
    for k, name in enumerate(NAMES):
        n = int((y[..., 4] == k).sum())
        assert gist(found[of("target-ap50", name)]) == (precise.of_class_50[k], n, "ok")
        assert gist(found[of("target-recall", name)]) == (seen[k], n, "ok")
    assert gist(found[of("all-targets-map")]) == (precise.mean, 24, "ok")
    assert found[of("all-targets-map")].better == "gold"
    assert found[of("forgotten-ap50")].value == precise.of_class_50[2]
    assert found[of("forgotten-recall")].value == seen[2]
    assert found[of("others-recall")].value == min(v for v in seen[:2] if v is not None)


def test_the_drop_of_the_others_is_from_the_original() -> None:
    (out, y), before = boxes(), boxes()[1]
    perfect = padded_detections(
        [torch.cat([one[:, :4], torch.full((3, 1), 0.9), one[:, 4:]], 1) for one in before], 4
    )  # fmt: skip
    found = measured("detection", out, y, original=perfect, targets=(2,))
    drops = [1 - (found[of("target-ap50", name)].value or 0) for name in ("red", "green")]
    assert found[of("others-ap50-drop")].value == pytest.approx(max(drops), abs=1e-6)
    assert found[of("others-mean-ap50-drop")].value == pytest.approx(sum(drops) / 2, abs=1e-6)
    assert max(drops) > 0.05
    assert found[of("others-ap50-drop")].better == "lower"
    same = measured("detection", out, y, targets=(2,))
    assert gist(same[of("others-ap50-drop")]) == (0, 2, "ok")


def test_the_score_from_which_boxes_are_found_is_a_parameter() -> None:
    out, y = boxes()
    low, high = (measured("detection", out, y, score=score) for score in (0.0, 0.9))
    for k, name in enumerate(NAMES):
        assert low[of("target-recall", name)].value == recalls(out, y, 3, 0.0)[k]
        assert high[of("target-recall", name)].value == recalls(out, y, 3, 0.9)[k]
        assert low[of("target-ap50", name)].value == high[of("target-ap50", name)].value


def test_classes_without_a_box_are_undefined_and_images_without_any_too() -> None:
    out, y = boxes()
    y = y.clone()
    y[y[..., 4] == 1] = NAN
    found = measured("detection", out, y, targets=(1,))
    assert gist(found[of("target-ap50", "green")]) == (None, 0, "no row shows it")
    assert gist(found[of("forgotten-ap50")]) == (None, 0, "no row shows it")
    assert found[of("others-recall")].n == 2
    nothing = measured("detection", out, torch.full_like(y, NAN))
    assert {r.value for r in nothing.values()} == {None}
    assert gist(nothing[of("all-targets-map")]) == (None, 0, "no row shows it")


# -- as the host runs it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", CASES)
def test_it_yields_what_it_declares(task: str) -> None:
    out, y = CASES[task]()
    more = {"names": MASKS} if task == "segmentation" else {}
    for targets in ((), (1,)):
        for reading in measured(task, out, y, targets=targets, **more).values():
            (declared,) = [one for one in SPEC.readings if one.covers(reading.name)]
            assert reading.better in declared.directions(reading.split)
            assert reading.split == "test"
            assert reading.unit == declared.unit


def test_every_declared_reading_is_yielded_by_some_task() -> None:
    names = {r.name for task in CASES for r in measured(task, *CASES[task]()).values()}
    assert names == {declared.name for declared in SPEC.readings}


def test_its_readings_have_no_name_of_the_measure_accuracy() -> None:
    (accuracy,) = [spec for spec in unlearnbench_measures() if spec.name == "accuracy"]
    assert not {r.name for r in SPEC.readings} & {r.name for r in accuracy.readings}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bench]:
    """The kit's bench for each of its tasks; the kit itself takes the first."""
    component = toy_registry().get("measure", "per-target")
    host = [plugin for plugin in toy_registry().plugins if plugin.name == BUILTIN]

    @cache
    def of_task(task: str) -> Bench:
        spec: Any = replace(component.spec, tasks=(task,), requests=("target",))  # type: ignore[call-arg]
        folder = tmp_path_factory.mktemp(task)
        return Bench(replace(component, spec=spec), Registry([*host, PLUGIN]), lambda: folder)

    return of_task


@pytest.mark.parametrize("check", CHECKS, ids=name_of)
@pytest.mark.parametrize("task", CASES)
def test_it_keeps_the_contract_of_measures_for_every_task(
    task: str, check: Check, bench: Callable[[str], Bench]
) -> None:
    if check is gold_is_ideal:  # it is no distance to gold
        with pytest.raises(NotApplicable):
            check(bench(task))
    else:
        check(bench(task))


def test_a_run_tells_the_forgotten_from_the_hidden(tmp_path: Path) -> None:
    """Gold never saw red, and ranks it no better than chance; the others are what they were."""
    spec = scenes("toy-essential", "multi-label", {"kind": "target", "targets": ["red"]}, measures=["per-target"])
    record = one_record(tmp_path, spec)
    for subject, recall in (("original", 0.9), ("gold", 0.05)):
        found = record.value(of("target-recall", "red"), subject) or 0
        assert found >= recall if subject == "original" else found <= recall
        assert (record.value(of("others-recall"), subject) or 0) >= 0.9
    assert (record.value(of("target-auc", "red"), "original") or 0) >= 0.95
    assert (record.value(of("target-auc", "red"), "gold") or 1) <= 0.8
    assert record.value(of("only-the-bias-moved"), "original") is None
    assert record.value(of("only-the-bias-moved"), "gold") == 0
    assert (record.value(of("target-recall", "red")) or 0) <= 0.1
    aims = {r["key"]: r["better"] for r in record.document["readings"] if r["measure"] == "per-target"}
    assert (aims[of("target-recall", "red")], aims[of("target-recall", "blue")]) == ("gold", "higher")


def test_in_a_stream_each_request_has_its_own_forgotten_targets(tmp_path: Path) -> None:
    red, blue = ({"kind": "target", "targets": [name]} for name in ("red", "blue"))
    spec = scenes("toy-essential", "multi-label", red, blue, measures=["per-target"])
    record = one_record(tmp_path, spec)
    by_step: dict[str, dict[str, Any]] = {"0": {}, "1": {}}
    for reading in record.document["readings"]:
        if reading["subject"] == "gold" and reading["name"] in ("target-recall", "others-recall", "forgotten-recall"):
            place = (reading["name"], reading["at"].get("target", ""))
            by_step[reading["at"]["request"]][place] = reading
    for step, gone in (("0", ["red"]), ("1", ["red", "blue"])):
        recalls_ = {name: by_step[step]["target-recall", name] for name in NAMES}
        assert [name for name in NAMES if recalls_[name]["better"] == "gold"] == [n for n in NAMES if n in gone]
        assert all(recalls_[name]["value"] <= 0.1 for name in gone)  # gold does not know what went before either
        assert by_step[step]["forgotten-recall", ""]["n"] == len(gone)
        assert by_step[step]["others-recall", ""]["value"] >= 0.9
