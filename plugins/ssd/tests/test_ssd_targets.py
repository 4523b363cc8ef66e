"""SSD and requests for targets: the target's cells alone or complete rows, for labels, pixels and boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hand_jobs import Problem, bits, perceptron, tiny
from hand_targets import WAYS, carrying, images, pixelwise, target_job
from torch import Tensor, nn

from unlearnbench.api.runtime import (
    MISSING,
    Data,
    Detection,
    MultiLabel,
    PrepareJob,
    Result,
    State,
    View,
    generator,
    padded_boxes,
    squared_gradients,
)
from unlearnbench.testing.problem_boxes import CellDetector
from unlearnbench_ssd.method import Boxes, Ssd, importance, importance_to_cells
from unlearnbench_ssd.plugin import SsdParams

TARGET = 1
Gradients = dict[str, np.ndarray]
RowLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]


def labels() -> Problem:
    problem = tiny(5, 15, multi_label=True)
    problem.y[3, 0] = torch.nan
    return problem


def boxes() -> Problem:
    """Squares with a channel for each class; the first image is empty, the second has a single box of the target."""
    rng, n = generator(4), 10
    many = [[[1, 1, 4, 4, k % 3], [5, 4, 8, 7, (k + 1) % 3], [0, 5, 2, 8, k % 2]] for k in range(2, n)]
    shown = [[], [[1, 1, 4, 4, TARGET]], *many]
    y = padded_boxes([torch.tensor(b, dtype=torch.float32).reshape(-1, 5) for b in shown]).double()
    x = torch.randn(n, 3, 8, 8, generator=rng, dtype=torch.float64)
    none = torch.arange(0)
    return Problem(x=x, y=y, forget=none, validation=none, task=Detection())


def detector() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return CellDetector(3, 3).double().eval()


def by_hand(model: nn.Module, loss: RowLoss, problem: Problem, rows: Tensor) -> Gradients:
    """The mean over rows of the squared gradient of each row's loss, one backward pass a row."""
    total = {name: np.zeros(tuple(p.shape)) for name, p in model.named_parameters()}
    for i in rows.tolist():
        model.zero_grad()
        loss(model, problem.x[i : i + 1], problem.y[i : i + 1]).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                total[name] += p.grad.numpy() ** 2 / len(rows)
    model.zero_grad()
    return total


def label_of_target(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """-log sigmoid(z_t): the target is there in all rows that are forgotten."""
    return -model(x)[0, TARGET].sigmoid().log()


def all_labels(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    p, known = model(x)[0].sigmoid(), ~y[0].isnan()
    return -torch.where(y[0] == 1, p.log(), (1 - p).log())[known].mean()


def pixels_of_target(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return -model(x).softmax(1)[0, TARGET][y[0] == TARGET].log().mean()


def all_pixels(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    out, known = model(x)[0].log_softmax(0), y[0] != MISSING
    return -sum((out[k][known & (y[0] == k)].sum() for k in range(3)), torch.zeros(())) / known.sum()


def boxes_of_target(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean over the target's boxes of -log softmax of its class in the cell of the box's centre."""
    out = model.head(model.body(x))[0, :3].softmax(0)
    found = []
    for left, top, right, bottom, label in y[0].tolist():
        if label == TARGET:
            found.append(-out[TARGET, int((top + bottom) / 2), int((left + right) / 2)].log())
    return torch.stack(found).mean()


def own_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x, y)[0]


CASES: dict[str, tuple[Callable[[], Problem], Callable[[], nn.Module], RowLoss, RowLoss]] = {
    "multi-label": (labels, perceptron, label_of_target, all_labels),
    "segmentation": (images, pixelwise, pixels_of_target, all_pixels),
    "detection": (boxes, detector, boxes_of_target, own_loss),
}

POSSIBLE = {"multi-label": WAYS, "segmentation": WAYS, "detection": ("absent", "images")}
"""A detector cannot leave boxes out of its loss."""


def unlearn(problem: Problem, model: nn.Module, p: SsdParams, how: str) -> Result:
    job = target_job(problem, model, TARGET, how)
    job.retain._locked = True
    every = View(Data(problem.x, problem.y, torch.arange(len(problem.x)), ("a", "b", "c")),
                 torch.arange(len(problem.x)), name="train")  # fmt: skip
    job.state = Ssd(p).prepare(
        PrepareJob(
            task=problem.task, device=job.device, root_seed=0, phase="prepare", builder=job.builder, data=every,
            validation=job.validation, model=model, state=State(),
        )
    )  # fmt: skip
    return Ssd(p).unlearn(job)


@pytest.mark.parametrize(("case", "how"), [(case, how) for case in CASES for how in WAYS if how in POSSIBLE[case]])
def test_the_whole_method_equals_the_derivation_in_numpy(case: str, how: str) -> None:
    """The forget set counts by the loss of the target's cells, or by that of complete rows where images are taken."""
    make, build, of_target, of_row = CASES[case]
    problem, model, p = make(), build(), SsdParams(alpha=1.2, dampening=0.3)
    to_all = by_hand(build(), of_row, problem, torch.arange(len(problem.x)))
    rows = carrying(problem, TARGET)
    to_forget = by_hand(build(), of_row if how == "images" else of_target, problem, rows)
    found = unlearn(problem, model, p, how)
    selected = 0
    for (name, before), after in zip(build().named_parameters(), found.model.parameters(), strict=True):
        i_f, i_d, w = to_forget[name], to_all[name], before.detach().numpy()
        chosen = i_f > p.alpha * i_d
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where(chosen, w * np.minimum(p.dampening * i_d / i_f, 1), w)
        np.testing.assert_allclose(after.detach().numpy(), wanted, rtol=0, atol=1e-10)
        selected += int(chosen.sum())
    assert found.artifacts["selected"] == selected > 0
    assert found.warnings == ()


@pytest.mark.parametrize("how", ["absent", "unknown"])
def test_the_importance_to_a_label_is_the_squared_gradient_of_its_cell(how: str) -> None:
    """For the last layer in closed form: the gradient of -log sigmoid(z_t) by the bias of t is sigmoid(z_t) - 1."""
    problem, model = labels(), perceptron()
    job = target_job(problem, model, TARGET, how)
    found = importance_to_cells(model, problem.task, job.forget, SsdParams())
    with torch.no_grad():
        x = problem.x[carrying(problem, TARGET)]
        hidden, slope = torch.tanh(model[0](x)), model(x)[:, TARGET].sigmoid() - 1
    wanted = torch.zeros(3, 6, dtype=torch.float64)
    wanted[TARGET] = (slope[:, None] * hidden).square().mean(0)
    torch.testing.assert_close(found["2.weight"], wanted)
    torch.testing.assert_close(found["2.bias"][TARGET], slope.square().mean())
    assert bool((found["2.bias"][[0, 2]] == 0).all())  # nothing is said of the other labels


@pytest.mark.parametrize("case", ["segmentation", "detection"])
def test_every_way_of_squaring_gradients_gives_the_same(case: str) -> None:
    """vmap cannot take the one-hot codes in the tiny detector's loss; for its class scores it can."""
    make, build, of_target, of_row = CASES[case]
    problem, rows = make(), torch.arange(len(make().x))
    data = Data(problem.x, problem.y, torch.arange(len(rows)) + 100, ("a", "b", "c"))
    forget = target_job(problem, build(), TARGET, "absent").forget
    networks: list[tuple[nn.Module, View, RowLoss, Tensor]] = [(build(), View(data, rows, name="train"), of_row, rows)]
    cells = Boxes(build()) if case == "detection" else build()
    networks.append((cells, forget, of_target, carrying(problem, TARGET)))
    for model, view, loss, which in networks:
        wanted = by_hand(build(), loss, problem, which)
        ways: tuple[Any, ...] = (None, "closed", "loop") if loss is own_loss else (None, "closed", "vmap", "loop")
        for way in ways:
            found = squared_gradients(model, problem.task, view, way=way)
            assert {name.removeprefix("detector.") for name in found} == set(wanted)
            for name, value in found.items():
                np.testing.assert_allclose(value, wanted[name.removeprefix("detector.")], rtol=1e-8, atol=1e-14)


def test_boxes_of_others_do_not_count_for_a_detectors_target() -> None:
    """Its own loss, given the target's boxes alone, would call everything else background: another importance."""
    problem, model, p = boxes(), detector(), SsdParams()
    forget = target_job(problem, model, TARGET, "absent").forget
    found = importance_to_cells(model, problem.task, forget, p)
    as_background = importance(model, problem.task, forget, p)
    assert bool((found["head.bias"][3:] == 0).all())  # the sides of boxes say nothing about the class
    assert bool((as_background["head.bias"][3:] > 0).all())
    complete = Data(problem.x, problem.y, torch.arange(len(problem.x)) + 100, ("a", "b", "c"))
    one = View(complete, torch.tensor([1]), name="forget")  # it shows nothing but the target
    only = forget.where(forget.ids == 101)
    for a, b in zip(*(importance_to_cells(model, problem.task, v, p).values() for v in (one, only)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("case", CASES)
def test_squares_of_batches_are_of_the_targets_cells_too(case: str) -> None:
    make, build, of_target, _ = CASES[case]
    problem, model = make(), build()
    forget = target_job(problem, model, TARGET, "absent").forget
    single = importance_to_cells(model, problem.task, forget, SsdParams(importance="batch", batch_size=1))
    for name, wanted in by_hand(build(), of_target, problem, carrying(problem, TARGET)).items():
        np.testing.assert_allclose(single[name], wanted, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", ["per-sample", "label-free", "batch"])
def test_the_bound_is_named_only_where_it_holds(how: str, kind: Any) -> None:
    """Complete rows obey |D|/|D_f|, and so do outputs without labels; the target's cells do not."""
    problem, p = labels(), SsdParams(alpha=3.0, importance=kind, batch_size=1)
    rows = len(carrying(problem, TARGET))
    assert len(problem.x) / rows < p.alpha
    found = unlearn(problem, perceptron(), p, how)
    bounded = kind == "label-free" or (kind == "per-sample" and how == "images")
    assert any("|D|/|D_f|" in text for text in found.warnings) == bounded
    if bounded:
        assert found.artifacts["selected"] == 0
        assert bits(found.model) == bits(perceptron())
    if kind == "per-sample" and how != "images":
        assert found.artifacts["selected"] > 0


def test_importances_without_labels_are_of_whole_rows_however_the_target_is_taken_away() -> None:
    p = SsdParams(alpha=1.1, importance="label-free")
    first, *others = (bits(unlearn(labels(), perceptron(), p, how).model) for how in WAYS)
    assert first != bits(perceptron())
    assert all(first == other for other in others)


def test_importances_without_labels_refuse_a_detector_before_any_work() -> None:
    reason = Ssd(SsdParams(importance="label-free")).check(detector(), Detection())
    assert reason == "importance=label-free needs outputs that no annotation enters, and those of a detector are losses"
    assert Ssd(SsdParams(importance="label-free")).check(perceptron(), MultiLabel()) is None
    assert Ssd(SsdParams()).check(detector(), Detection()) is None
