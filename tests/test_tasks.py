"""Losses, probabilities, metrics and annotations of the tasks against cases worked out in numpy.

Boxes have a file of their own, ``test_detection.py``.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss, recall_score
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import MISSING, TASKS, Batch, Metric, generator

NAN = math.nan
CLASSIFICATION, NODES = TASKS["classification"], TASKS["node-classification"]
LABELS, PIXELS = TASKS["multi-label"], TASKS["segmentation"]


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64) * 2


def values(metrics: list[Metric]) -> dict[Any, tuple[float | None, int]]:
    return {(m.name, *m.at.values()): (m.value, m.n) for m in metrics}


class Fixed(nn.Module):
    """Puts out the same whatever it sees."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out

    def forward(self, x: Tensor) -> Tensor:
        return self.out


def batch_of(y: Tensor) -> Batch:
    return Batch(torch.zeros(len(y), 1, 2, 2), y, torch.arange(len(y)))


def classes_of(out: Tensor) -> Tensor:
    """What a record keeps of the logits of pixels."""
    return PIXELS.predictions(Fixed(out), batch_of(torch.zeros(len(out))))


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_tasks_are_found_by_their_names() -> None:
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}
    assert set(TASKS) == {"classification", "node-classification", "multi-label", "segmentation", "detection"}


# -- classification ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_is_the_mean_over_annotated_rows(task: Any, smoothing: float) -> None:
    out, y = logits(6, 4), torch.tensor([0, 3, MISSING, 1, 2, MISSING])
    known = (y != MISSING).numpy()
    log_p = log_softmax(out.numpy()[known], axis=1)
    target = np.eye(4)[y.numpy()[known]] * (1 - smoothing) + smoothing / 4
    assert float(task.loss(out, y, smoothing)) == near(-(target * log_p).sum(1).mean())


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES])
def test_losses_are_per_row_and_zero_where_nothing_is_annotated(task: Any) -> None:
    out, y = logits(4, 3), torch.tensor([0, MISSING, 2, 1])
    log_p = log_softmax(out.numpy(), axis=1)
    assert task.losses(out, y).tolist() == near([-log_p[0, 0], 0, -log_p[2, 2], -log_p[3, 1]])
    assert task.probabilities(out).numpy() == near(softmax(out.numpy(), axis=1))


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES])
def test_accuracy_and_loss_are_scikit_learns(task: Any) -> None:
    out, y = logits(40, 3), torch.randint(3, (40,), generator=generator(1))
    out, y = torch.cat([out, logits(5, 3, seed=2)]), torch.cat([y, torch.full((5,), MISSING)])
    found = values(task.metrics(out, y, ("a", "b", "c")))
    p, true = softmax(out[:40].numpy(), axis=1), y[:40].numpy()
    assert found["accuracy",] == (near(accuracy_score(true, p.argmax(1))), 40)
    assert found["loss",] == (near(log_loss(true, p, labels=[0, 1, 2])), 40)
    recalls = recall_score(true, p.argmax(1), average=None)
    for k, name in enumerate("abc"):
        assert found["accuracy", name] == (near(recalls[k]), int((true == k).sum()))


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES, PIXELS])
def test_nothing_annotated_is_no_accuracy(task: Any) -> None:
    if task is PIXELS:
        out, y = logits(2, 3, 2, 2), torch.full((2, 2, 2), MISSING)
        assert values(task.metrics(classes_of(out), y, ("a", "b", "c"))) == {("accuracy",): (None, 0)}
    else:
        out, y = logits(2, 3), torch.full((2,), MISSING)
        assert values(task.metrics(out, y, ("a", "b", "c"))) == {("accuracy",): (None, 0), ("loss",): (None, 0)}
    assert task.losses(out, y).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES, PIXELS])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_wrong_annotations_are_never_right_and_reach_every_other_class(task: Any, n: int) -> None:
    y = torch.arange(n).repeat(400).view(-1, 1, 1).expand(-1, 1, 2) if task is PIXELS else torch.arange(n).repeat(400)
    wrong = task.other(y, n, generator(0))
    assert wrong.shape == y.shape
    assert not bool((wrong == y).any())
    for k in range(n):
        counts = torch.bincount(wrong[y == k], minlength=n).double()
        assert counts[k] == 0
        others = counts[torch.arange(n) != k] / counts.sum()
        assert float((others - 1 / (n - 1)).abs().max()) < 5 * math.sqrt(0.25 / float(counts.sum()))


@pytest.mark.parametrize("task", [CLASSIFICATION, NODES, PIXELS])
def test_uniform_annotations_include_the_right_one(task: Any) -> None:
    y = torch.zeros(4000, 1, 1, dtype=torch.int64) if task is PIXELS else torch.zeros(4000, dtype=torch.int64)
    drawn = task.other(y, 4, generator(0), wrong=False)
    shares = torch.bincount(drawn.flatten(), minlength=4) / 4000
    assert float((shares - 0.25).abs().max()) < 5 * math.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize("wrong", [True, False])
@pytest.mark.parametrize("task", [CLASSIFICATION, PIXELS, LABELS])
def test_missing_annotations_stay_missing_and_draws_follow_the_generator(task: Any, wrong: bool) -> None:
    y = torch.tensor([[0, 1, NAN], [NAN, 1, 0]]) if task is LABELS else torch.tensor([[[0, MISSING], [2, 1]]])
    y = y if task is not CLASSIFICATION else y.flatten()
    kept = y.clone()
    drawn = task.other(y, 3, generator(7), wrong=wrong)
    missing = y.isnan() if task is LABELS else y == MISSING
    assert torch.equal(drawn.isnan() if task is LABELS else drawn == MISSING, missing)
    again = task.other(y, 3, generator(7), wrong=wrong)
    assert torch.equal(drawn.nan_to_num(), again.nan_to_num())
    assert torch.equal(y.nan_to_num(), kept.nan_to_num())


def test_a_class_is_cut_out_of_the_annotations() -> None:
    y = torch.tensor([2, 0, 2, 1])
    carries, only = CLASSIFICATION.split_target(y, 2)
    assert (carries.tolist(), only.tolist()) == ([True, False, True, False], [2, 2])
    for how in ("absent", "unknown"):
        assert CLASSIFICATION.erase(y, 2, how).tolist() == [MISSING, 0, MISSING, 1]  # type: ignore[arg-type]


def test_node_classification_sees_all_nodes_and_is_judged_on_the_annotated_ones() -> None:
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    x = logits(4, 3)

    class Sum(nn.Module):
        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            out = x.clone()
            return out.index_add(0, edges[0], x[edges[1]]).index_add(0, edges[1], x[edges[0]])

    rows = torch.tensor([3, 1])
    out = NODES.outputs(Sum(), Batch(x, torch.tensor([0, 1]), rows, rows, edges))
    torch.testing.assert_close(out, torch.stack([x[3] + x[2], x[1] + x[0] + x[2]]))
    everything = NODES.outputs(Sum(), Batch(x, torch.zeros(4), torch.arange(4), None, edges))
    assert everything.shape == (4, 3)


# -- multi-label -------------------------------------------------------------------------------------------------------

OUT = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 4.0, 1.0], [0.2, 0.1, -0.3], [1.0, 1.0, 1.0]], dtype=torch.float64)
Y = torch.tensor([[1.0, 0.0, NAN], [0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [NAN, NAN, NAN]], dtype=torch.float64)


def cells(smoothing: float = 0.0) -> np.ndarray:
    p, y = expit(OUT.numpy()), Y.numpy() * (1 - smoothing) + smoothing / 2
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))  # NaN where not annotated


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_is_the_mean_over_annotated_cells(smoothing: float) -> None:
    assert float(LABELS.loss(OUT, Y, smoothing)) == near(np.nanmean(cells(smoothing)))
    assert LABELS.probabilities(OUT).numpy() == near(expit(OUT.numpy()))


def test_losses_of_a_row_are_the_mean_over_its_annotated_cells() -> None:
    by_hand = [np.nanmean(row) for row in cells()[:3]] + [0.0]
    assert LABELS.losses(OUT, Y).tolist() == near(by_hand)


def test_missing_cells_have_no_gradient() -> None:
    out = OUT.clone().requires_grad_(True)
    LABELS.loss(out, Y, 0.1).backward()
    assert out.grad is not None
    assert torch.equal(out.grad == 0, Y.isnan())
    assert float(LABELS.loss(OUT, torch.full_like(Y, NAN))) == 0.0


def test_multi_label_metrics_by_hand() -> None:
    found = values(LABELS.metrics(OUT, Y, ("r", "g", "b")))
    # guesses: [1 0 1] [0 1 1] [1 1 0] [1 1 1]; annotated cells: 2 + 3 + 3, right: 2 + 2 + 1
    assert found["accuracy",] == (near(5 / 8), 8)
    assert found["subset-accuracy",] == (0.0, 2)  # rows 1 and 2 are annotated in full, and neither is all right
    assert found["accuracy", "r"] == (1.0, 3)
    assert found["recall", "r"] == (1.0, 2)
    assert found["accuracy", "g"] == (near(2 / 3), 3)
    assert found["recall", "b"] == (0.0, 1)
    assert found["accuracy", "b"] == (0.0, 2)
    assert found["loss",] == (near(np.nanmean(cells())), 8)


def test_macro_f1_is_scikit_learns_and_a_label_that_never_occurs_counts_nothing() -> None:
    out, y = logits(50, 4), (torch.rand(50, 4, generator=generator(3)) < 0.3).double()
    y[:, 3], out[:, 3] = 0, -out[:, 3].abs()  # neither there nor predicted
    found = values(LABELS.metrics(out, y, tuple("abcd")))
    assert found["macro-f1",] == (near(f1_score(y, out > 0, average="macro", zero_division=0)), 200)


def test_macro_f1_is_about_annotated_cells_only() -> None:
    out, y = logits(50, 3), (torch.rand(50, 3, generator=generator(3)) < 0.4).double()
    y[torch.rand(50, 3, generator=generator(4)) < 0.3] = NAN
    y[:, 2] = NAN
    columns = [(y[:, k][~y[:, k].isnan()], (out[:, k] > 0)[~y[:, k].isnan()]) for k in range(2)]
    by_label = [f1_score(true, guess) for true, guess in columns]
    assert values(LABELS.metrics(out, y, tuple("abc")))["macro-f1",][0] == near(np.mean(by_label))


def test_a_target_without_annotations_has_no_reading() -> None:
    y = Y.clone()
    y[:, 2] = NAN
    assert not [key for key in values(LABELS.metrics(OUT, y, ("r", "g", "b"))) if key[-1] == "b"]
    nothing = LABELS.metrics(OUT, torch.full_like(Y, NAN), ("r", "g", "b"))
    assert values(nothing) == {("accuracy",): (None, 0), ("loss",): (None, 0)}


def test_wrong_labels_are_the_opposite_and_uniform_ones_are_coins() -> None:
    y = torch.tensor([[0.0, 1.0]]).repeat(3000, 1)
    assert torch.equal(LABELS.other(y, 2, generator(0)), 1 - y)
    coins = LABELS.other(y, 2, generator(0), wrong=False)
    assert set(coins.unique().tolist()) == {0.0, 1.0}
    assert coins.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=5 * 0.5 / math.sqrt(3000))


def test_a_target_is_cut_out_of_the_labels() -> None:
    y = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [1.0, NAN, 0.0]])
    carries, only = LABELS.split_target(y, 0)
    assert carries.tolist() == [True, False, True]
    assert only[:, 0].tolist() == [1.0, 1.0]
    assert bool(only[:, 1:].isnan().all())
    assert LABELS.erase(y, 0, "absent")[:, 0].tolist() == [0.0] * 3
    assert bool(LABELS.erase(y, 0, "unknown")[:, 0].isnan().all())
    assert torch.equal(LABELS.erase(y, 0, "absent")[:, 1:].nan_to_num(), y[:, 1:].nan_to_num())
    assert y[0, 0] == 1.0  # the annotations that were given are still there


# -- segmentation ------------------------------------------------------------------------------------------------------

IMAGE = torch.tensor([[[0, 1], [2, MISSING]], [[1, 1], [0, 0]]])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_pixels_are_averaged_over_all_annotated_ones(smoothing: float) -> None:
    out = logits(2, 3, 2, 2)
    log_p = log_softmax(out.numpy(), axis=1).transpose(0, 2, 3, 1)[IMAGE.numpy() != MISSING]
    target = np.eye(3)[IMAGE.numpy()[IMAGE.numpy() != MISSING]] * (1 - smoothing) + smoothing / 3
    assert float(PIXELS.loss(out, IMAGE, smoothing)) == near(-(target * log_p).sum(1).mean())


def test_losses_of_an_image_are_the_mean_over_its_annotated_pixels() -> None:
    out = logits(2, 3, 2, 2)
    log_p = log_softmax(out.numpy(), axis=1)
    first = -(log_p[0, 0, 0, 0] + log_p[0, 1, 0, 1] + log_p[0, 2, 1, 0]) / 3
    second = -(log_p[1, 1, 0].sum() + log_p[1, 0, 1].sum()) / 4
    assert PIXELS.losses(out, IMAGE).tolist() == near([first, second])
    assert PIXELS.probabilities(out).sum(1).numpy() == near(np.ones((2, 2, 2)))


def test_intersection_over_union_is_scikit_learns() -> None:
    out, y = logits(5, 3, 6, 6), torch.randint(3, (5, 6, 6), generator=generator(4))
    y[0, :3] = MISSING
    known = (y != MISSING).numpy()
    guess, true = out.argmax(1).numpy()[known], y.numpy()[known]
    found = values(PIXELS.metrics(classes_of(out), y, ("background", "red", "blue")))
    by_class = jaccard_score(true, guess, average=None)
    for k, name in enumerate(("background", "red", "blue")):
        assert found["iou", name] == (near(by_class[k]), int(((true == k) | (guess == k)).sum()))
    assert found["accuracy",] == (near(accuracy_score(true, guess)), known.sum())


def test_a_class_that_is_nowhere_has_no_intersection_over_union() -> None:
    found = values(PIXELS.metrics(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2).long(), ("background", "red", "blue")))
    assert [key for key in found if key[0] == "iou"] == [("iou", "background")]


def test_predictions_of_pixels_are_the_classes_and_nan_where_outputs_are_no_numbers() -> None:
    out = logits(2, 3, 4, 5)
    wanted = out.argmax(1).float()
    out[0, 1, 2, 3], out[1, :, 0, 0], out[1, 0, 3, 4] = NAN, math.inf, -math.inf
    wanted[0, 2, 3] = wanted[1, 0, 0] = wanted[1, 3, 4] = NAN
    found = classes_of(out)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert PIXELS.outputs(Fixed(out), batch_of(torch.zeros(2))) is out  # losses are of the logits


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_masks_are_mirrored_as_the_image_and_labels_are_not(axis: Any) -> None:
    y = torch.arange(2 * 3 * 4).view(2, 3, 4)
    turned = PIXELS.mirrored(y, 4 if axis == "horizontal" else 3, axis)
    np.testing.assert_array_equal(turned.numpy(), np.flip(y.numpy(), 2 if axis == "horizontal" else 1))
    labels = torch.tensor([[0.0, 1.0]])
    assert LABELS.mirrored(labels, 4, axis) is labels


def test_a_target_is_cut_out_of_the_pixels() -> None:
    carries, only = PIXELS.split_target(IMAGE, 2)
    assert carries.tolist() == [True, False]
    assert only.tolist() == [[[MISSING, MISSING], [2, MISSING]]]
    assert PIXELS.erase(IMAGE, 2, "absent")[0].tolist() == [[0, 1], [0, MISSING]]
    assert PIXELS.erase(IMAGE, 2, "unknown")[0].tolist() == [[0, 1], [MISSING, MISSING]]


def test_the_background_can_be_unknown_but_not_absent() -> None:
    assert PIXELS.erase(IMAGE, 0, "unknown")[1].tolist() == [[1, 1], [MISSING, MISSING]]
    with pytest.raises(IncompatibleError, match="the background cannot be absent"):
        PIXELS.erase(IMAGE, 0, "absent")


def test_labels_that_were_missing_are_missing_after_a_target_is_absent() -> None:
    y = torch.tensor([[NAN, 1.0], [1.0, 0.0], [0.0, NAN]])
    erased = LABELS.erase(y, 0, "absent")
    torch.testing.assert_close(erased, torch.tensor([[NAN, 1.0], [0.0, 0.0], [0.0, NAN]]), equal_nan=True)


def test_rows_are_annotated_where_anything_could_teach() -> None:
    assert LABELS.annotated(torch.tensor([[NAN, 0.0], [NAN, NAN]])).tolist() == [True, False]
    assert PIXELS.annotated(torch.tensor([[[0, MISSING]], [[MISSING, MISSING]]])).tolist() == [True, False]
    assert CLASSIFICATION.annotated(torch.tensor([MISSING, 0])).tolist() == [False, True]


X = torch.zeros(2, 1, 2, 2)


@pytest.mark.parametrize(
    ("task", "y", "row", "words"),
    [
        (LABELS, torch.tensor([[0.0, 1.0, NAN], [0.5, 1.0, 2.0]]), 1, "a label is 0.5, which is neither 0 nor 1"),
        (LABELS, torch.zeros(2, 2), 0, r"labels of shape \[2\], and there are 3 targets"),
        (PIXELS, torch.tensor([[[0, 1], [2, MISSING]], [[0, 3], [0, 0]]]), 1, "a pixel has the id 3, and there are 3"),
        (PIXELS, torch.tensor([[[0, -1], [0, 0]], [[0, 0], [0, 0]]]), 0, "a pixel has the id -1"),
        (PIXELS, torch.zeros(2, 3, 2).long(), 0, r"a mask of \[3, 2\] pixels for an image of \[2, 2\]"),
    ],
)
def test_annotations_that_cannot_be_right_are_told_with_their_row(task: Any, y: Tensor, row: int, words: str) -> None:
    fault = task.find_fault(X, y, 3)
    assert fault is not None
    assert fault.row == row
    assert re.search(words, fault.message)


@pytest.mark.parametrize(
    ("task", "y"),
    [
        (LABELS, torch.tensor([[0.0, 1.0, NAN], [1.0, 1.0, 0.0]])),
        (PIXELS, torch.tensor([[[0, 1], [2, MISSING]], [[0, 0], [0, 0]]])),
        (CLASSIFICATION, torch.tensor([0, MISSING])),
    ],
)
def test_annotations_that_can_be_right_have_no_fault(task: Any, y: Tensor) -> None:
    assert task.find_fault(X, y, 3) is None


# -- what asserts a target ---------------------------------------------------------------------------------------------


def test_the_score_of_a_target_is_the_sum_of_what_asserts_it() -> None:
    out, image, y = logits(3, 4), logits(2, 3, 2, 2), torch.zeros(3, 4)
    assert float(CLASSIFICATION.target_score(Fixed(out), batch_of(y), 2)) == near(out[:, 2].sum().item())
    assert float(LABELS.target_score(Fixed(out), batch_of(y), 1)) == near(out[:, 1].sum().item())
    p = softmax(image.numpy(), axis=1)
    score = PIXELS.target_score(Fixed(image), batch_of(IMAGE), 1)
    assert float(score) == near(p[0, 1, 0, 1] + p[1, 1, 0].sum())


def test_the_score_of_a_target_is_differentiable_and_zero_where_nothing_shows_it() -> None:
    image = logits(2, 3, 2, 2).requires_grad_()
    score = PIXELS.target_score(Fixed(image), batch_of(IMAGE), 2)
    (gradient,) = torch.autograd.grad(score, image)
    assert [tuple(place) for place in gradient.abs().sum(1).nonzero().tolist()] == [(0, 1, 0)]
    nowhere = batch_of(torch.zeros(2, 2, 2).long())
    assert PIXELS.target_score(Fixed(image), nowhere, 2).item() == 0


def entropy_of(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.sum(p * np.log(p / q), axis=1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_of_classes_is_kl_to_the_reference_times_the_squared_temperature(temperature: float) -> None:
    out, reference = np.array([[0.2, -1.0, 3.0], [0.0, 0.5, 0.0]]), np.array([[1.0, 0.0, -2.0], [0.3, 0.3, 4.0]])

    def soft(z: np.ndarray) -> np.ndarray:
        e = np.exp(z / temperature)
        return e / e.sum(1, keepdims=True)

    wanted = entropy_of(soft(reference), soft(out)) * temperature**2
    for task in (TASKS["classification"], TASKS["node-classification"]):
        found = task.divergence(torch.from_numpy(out), torch.from_numpy(reference), temperature)
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    pixels = [torch.from_numpy(np.broadcast_to(z[:, :, None, None], (2, 3, 2, 2)).copy()) for z in (out, reference)]
    np.testing.assert_allclose(TASKS["segmentation"].divergence(*pixels, temperature).numpy(), wanted, rtol=1e-12)


def test_divergence_of_labels_is_the_mean_of_two_point_divergences() -> None:
    out, reference = np.array([[0.2, -1.0], [10.0, 0.5]]), np.array([[1.0, 0.0], [-10.0, 0.5]])
    p, q = 1 / (1 + np.exp(-reference / 2)), 1 / (1 + np.exp(-out / 2))
    wanted = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(1)
    found = TASKS["multi-label"].divergence(torch.from_numpy(out), torch.from_numpy(reference), 2.0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)
    far = TASKS["multi-label"].divergence(torch.tensor([[1e4]]), torch.tensor([[-1e4]]))
    assert far.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"detection"}))
def test_divergence_from_itself_is_zero_and_has_no_gradient(name: str) -> None:
    shape = (4, 3, 2, 2) if name == "segmentation" else (4, 3)
    reference = torch.randn(shape, dtype=torch.float64, generator=generator(0))
    out = reference.clone().requires_grad_()
    found = TASKS[name].divergence(out, reference)
    assert found.shape == (4,)
    assert float(found.detach().abs().max()) < 1e-15
    (gradient,) = torch.autograd.grad(found.sum(), out)
    assert float(gradient.abs().max()) < 1e-15
