"""The training loop against a loop written by hand, bit for bit, and what it must never do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from unlearnbench.api import IncompatibleError, Recipe
from unlearnbench.api.runtime import (
    TASKS,
    Batch,
    Data,
    Meter,
    Stepper,
    View,
    augmented,
    finish,
    fit,
    generator,
    local_rng,
    padded_boxes,
    predict,
    steps_per_epoch,
)

TASK = TASKS["classification"]
N, CLASSES, BATCH = 50, 3, 16  # three full batches and one of two rows


def rows(n: int = N, *, shape: tuple[int, ...] = (6,), seed: int = 0, meter: Meter | None = None) -> View:
    rng = generator(seed)
    data = Data(
        torch.randn(n, *shape, generator=rng),
        torch.randint(CLASSES, (n,), generator=rng),
        torch.arange(n),
        tuple("abc"),
    )
    return View(data, torch.arange(n), name="train", meter=meter)


def net(*extra: nn.Module, seed: int = 5) -> nn.Module:
    with local_rng(generator(seed)):
        return nn.Sequential(nn.Linear(6, 8), *extra, nn.ReLU(), nn.Linear(8, CLASSES))


def recipe(**values: Any) -> Recipe:
    plain: dict[str, Any] = {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "epochs": 3}
    return Recipe(**{**plain, "batch_size": BATCH, **values})


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in model.state_dict().items()}


class Recorder(nn.Module):
    """A linear net that remembers the batches, modes and learning of each forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, CLASSES)
        self.seen: list[tuple[Tensor, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((x.detach().clone(), self.training))
        return self.line(x)


# -- the loop by hand --------------------------------------------------------------------------------------------------


def by_hand(
    model: nn.Module,
    view: View,
    p: Recipe,
    optimizer: torch.optim.Optimizer,
    lr_of: Callable[[int], float] = lambda step: 0.1,
) -> None:
    """Plain PyTorch: shuffled epochs, every row once; the learning rate of each step from a formula."""
    batch = view.tensors()
    order = generator(9)
    torch.randint(2**62, (1,), generator=order)  # the draw that seeds dropout
    step = 0
    model.train()
    for _ in range(p.epochs):
        shuffled = torch.randperm(len(batch.y), generator=order)
        for start in range(0, len(shuffled), p.batch_size):
            chosen = shuffled[start : start + p.batch_size]
            for group in optimizer.param_groups:
                group["lr"] = lr_of(step)
            optimizer.zero_grad()
            F.cross_entropy(model(batch.x[chosen]), batch.y[chosen], label_smoothing=p.label_smoothing).backward()
            if p.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), p.clip_norm)
            optimizer.step()
            step += 1
    model.eval()


OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": ({}, lambda w: torch.optim.SGD(w, lr=0.1)),
    "momentum and weight decay": (
        {"momentum": 0.9, "weight_decay": 0.05},
        lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, weight_decay=0.05),
    ),
    "adam": (
        {"optimizer": "adam", "weight_decay": 0.05},
        lambda w: torch.optim.Adam(w, lr=0.1, weight_decay=0.05),
    ),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.05},
        lambda w: torch.optim.AdamW(w, lr=0.1, weight_decay=0.05),
    ),
    "label smoothing": ({"label_smoothing": 0.2}, lambda w: torch.optim.SGD(w, lr=0.1)),
    "clipped": ({"clip_norm": 0.01}, lambda w: torch.optim.SGD(w, lr=0.1)),
}


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_equals_a_plain_loop_bit_for_bit(case: str) -> None:
    values, make = OPTIMIZERS[case]
    p, mine, theirs = recipe(**values), net(), net()
    assert fit(mine, TASK, rows(), p, generator(9)) == 12
    by_hand(theirs, rows(), p, make(theirs.parameters()))
    assert bits(mine) == bits(theirs)
    plain = net()
    fit(plain, TASK, rows(), recipe(), generator(9))
    assert (bits(mine) == bits(plain)) == (case == "sgd")  # the option does something


def test_equals_gradient_descent_in_numpy() -> None:
    """A linear model, its gradient written out, momentum and weight decay as in their definitions."""
    p = recipe(momentum=0.9, weight_decay=0.01, epochs=2)
    model, view = nn.Sequential(nn.Linear(6, CLASSES)).double(), rows()
    data = Data(view.tensors().x.double(), view.tensors().y, view.ids, tuple("abc"))
    view = View(data, torch.arange(N), name="train")
    w, b = (t.detach().numpy().copy() for t in model.parameters())
    fit(model, TASK, view, p, generator(9))
    x, y = data.x.numpy(), data.y.numpy()
    order = generator(9)
    torch.randint(2**62, (1,), generator=order)
    vw, vb = np.zeros_like(w), np.zeros_like(b)
    for _ in range(2):
        shuffled = torch.randperm(N, generator=order).numpy()
        for start in range(0, N, BATCH):
            chosen = shuffled[start : start + BATCH]
            z = x[chosen] @ w.T + b
            e = np.exp(z - z.max(1, keepdims=True))
            g = (e / e.sum(1, keepdims=True) - np.eye(CLASSES)[y[chosen]]) / len(chosen)
            vw = 0.9 * vw + g.T @ x[chosen] + 0.01 * w
            vb = 0.9 * vb + g.sum(0) + 0.01 * b
            w, b = w - 0.1 * vw, b - 0.1 * vb
    np.testing.assert_allclose(model[0].weight.detach().numpy(), w, rtol=1e-10)  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(model[0].bias.detach().numpy(), b, rtol=1e-10)  # type: ignore[union-attr, operator]


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 16, 25, 49, 50, 1000])
def test_every_row_is_used_once_in_each_epoch_and_no_batch_is_dropped(size: int) -> None:
    model, view = Recorder(), rows()
    steps = fit(model, TASK, view, recipe(batch_size=size, epochs=2), generator(1))
    sizes = [len(x) for x, _ in model.seen]
    per_epoch = [size] * (N // size) + [N % size] * bool(N % size)
    assert sizes == per_epoch * 2
    assert steps == len(sizes) == 2 * steps_per_epoch(view, size)
    for epoch in range(2):
        read = torch.cat([x for x, _ in model.seen[epoch * len(per_epoch) :][: len(per_epoch)]])
        assert torch.equal(read.sort(0).values, view.tensors().x.sort(0).values)


def test_each_epoch_and_each_seed_has_its_own_order() -> None:
    def order(seed: int) -> list[Tensor]:
        model = Recorder()
        fit(model, TASK, rows(), recipe(batch_size=N, epochs=2), generator(seed))
        return [x for x, _ in model.seen]

    first, second = order(1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, order(2)[0])
    assert torch.equal(first, order(1)[0])


def test_same_seed_same_bits_whatever_the_global_state_is() -> None:
    found = []
    for noise in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(noise)
            before = torch.get_rng_state()
            model = net(nn.Dropout(0.5))
            fit(model, TASK, rows(), recipe(optimizer="adam", augment=()), generator(4))
            assert torch.equal(before, torch.get_rng_state())
        found.append(bits(model))
    other = net(nn.Dropout(0.5))
    fit(other, TASK, rows(), recipe(optimizer="adam"), generator(5))
    assert found[0] == found[1] != bits(other)


def test_rows_read_are_counted() -> None:
    meter = Meter()
    fit(net(), TASK, rows(meter=meter), recipe(epochs=4), generator(0))
    assert meter.rows == {"train": 4 * N}


def test_no_rows_and_no_epochs_leave_the_weights_alone() -> None:
    for view, epochs in ((rows(0), 3), (rows(), 0)):
        model = net()
        assert fit(model, TASK, view, recipe(epochs=epochs), generator(0)) == 0
        assert bits(model) == bits(net())


# -- schedules ---------------------------------------------------------------------------------------------------------

STEPS, PER_EPOCH = 12, 4


def one_cycle(step: int) -> float:
    """OneCycleLR's documented defaults: up to the peak over 30 % of the steps, then down to peak/25/1e4, by cosines."""
    start, end, top = 0.1 / 25, 0.1 / 25 / 1e4, 0.3 * STEPS - 1
    if step <= top:
        return start + (0.1 - start) * (1 - math.cos(math.pi * step / top)) / 2
    return 0.1 + (end - 0.1) * (1 - math.cos(math.pi * (step - top) / (STEPS - 1 - top))) / 2


SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "constant": ({}, lambda k: 0.1),
    "cosine": ({"schedule": "cosine"}, lambda k: 0.05 * (1 + math.cos(math.pi * k / STEPS))),
    "linear": ({"schedule": "linear"}, lambda k: 0.1 * (1 - k / STEPS)),
    "multistep": (
        {"schedule": "multistep", "milestones": (1, 2), "gamma": 0.5},
        lambda k: 0.1 * 0.5 ** ((k >= PER_EPOCH) + (k >= 2 * PER_EPOCH)),
    ),
    "one-cycle": ({"schedule": "one-cycle"}, one_cycle),
    "warm-up": ({"warmup_epochs": 1}, lambda k: 0.1 * min(1, (k + 1) / (PER_EPOCH + 1))),
    "warm-up and multistep": (
        {"schedule": "multistep", "milestones": (2,), "gamma": 0.5, "warmup_epochs": 1},
        lambda k: 0.1 * min(1, (k + 1) / (PER_EPOCH + 1)) * (0.5 if k >= 2 * PER_EPOCH else 1),
    ),
    "warm-up and cosine": (
        {"schedule": "cosine", "warmup_epochs": 1},
        lambda k: 0.1 * (k + 1) / 5 if k < 4 else 0.05 * (1 + math.cos(math.pi * (k - 4) / 8)),
    ),
}


def rates(p: Recipe) -> list[float]:
    """The learning rate that each optimiser step was made with."""
    found: list[float] = []

    def note(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        found.append(float(optimizer.param_groups[0]["lr"]))

    handle = register_optimizer_step_pre_hook(note)
    try:
        fit(net(), TASK, rows(), p, generator(9))
    finally:
        handle.remove()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_move_after_each_step_as_their_formulas_say(name: str) -> None:
    values, formula = SCHEDULES[name]
    assert rates(recipe(**values)) == pytest.approx([formula(k) for k in range(STEPS)], rel=1e-6, abs=1e-9)


def test_the_schedule_reaches_the_weights() -> None:
    values, formula = SCHEDULES["linear"]
    p, mine, theirs = recipe(**values), net(), net()
    fit(mine, TASK, rows(), p, generator(9))
    by_hand(theirs, rows(), p, torch.optim.SGD(theirs.parameters(), lr=0.1), formula)
    for name, value in mine.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-5, atol=1e-7)


def test_a_run_shorter_than_its_warm_up_still_runs() -> None:
    assert len(rates(recipe(warmup_epochs=9, schedule="cosine"))) == STEPS


# -- augmentation ------------------------------------------------------------------------------------------------------

IMAGES = Batch(torch.arange(8 * 2 * 5 * 5.0).view(8, 2, 5, 5) + 1, torch.zeros(8, dtype=torch.int64), torch.arange(8))


def test_flips_are_drawn_for_each_row_and_mirror_it() -> None:
    x = augmented(IMAGES, recipe(augment=("flip",)), generator(0), TASK).x
    mirrored = [torch.equal(new, old.flip(-1)) for new, old in zip(x, IMAGES.x, strict=True)]
    same = [torch.equal(new, old) for new, old in zip(x, IMAGES.x, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 8
    assert 0 < sum(mirrored) < 8


def test_vertical_flips_are_drawn_for_each_row_beside_the_horizontal_ones() -> None:
    x = augmented(IMAGES, recipe(augment=("flip", "vertical-flip")), generator(1), TASK).x
    ways = []
    for new, old in zip(x, IMAGES.x, strict=True):
        turned = {(): old, (2,): old.flip(2), (1,): old.flip(1), (1, 2): old.flip(1, 2)}
        (way,) = [dims for dims, image in turned.items() if torch.equal(image, new)]
        ways.append(way)
    assert len(set(ways)) >= 3  # eight rows, four ways
    only = augmented(IMAGES, recipe(augment=("vertical-flip",)), generator(1), TASK).x
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(1)) for a, b in zip(only, IMAGES.x, strict=True))
    assert not torch.equal(only, IMAGES.x)


HEIGHT, WIDTH = 6, 9


@pytest.mark.parametrize("augment", [("flip",), ("vertical-flip",), ("flip", "vertical-flip")])
def test_masks_move_with_their_images(augment: tuple[str, ...]) -> None:
    """An image that is its own mask still is after any flip, so each pixel kept its class."""
    y = torch.randint(4, (32, HEIGHT, WIDTH), generator=generator(2))
    batch = Batch(y[:, None].float(), y, torch.arange(32))
    moved = augmented(batch, recipe(augment=augment), generator(0), TASKS["segmentation"])
    assert torch.equal(moved.x[:, 0], moved.y.float())
    assert 0 < sum(torch.equal(a, b) for a, b in zip(moved.y, y, strict=True)) < 32


@pytest.mark.parametrize("augment", [("flip",), ("vertical-flip",), ("flip", "vertical-flip")])
def test_boxes_move_with_their_images(augment: tuple[str, ...]) -> None:
    """Boxes around bright rectangles are around them after any flip; images without a box stay without."""
    x, boxes = torch.zeros(30, 1, HEIGHT, WIDTH), []
    for row in range(30):
        left, top = row % 4, row % 3
        x[row, 0, top : top + 2, left : left + 4] = 1.0 if row % 5 else 0.0
        boxes.append(torch.tensor([[left, top, left + 4, top + 2, row % 3]]).float() if row % 5 else torch.zeros(0, 5))
    y = padded_boxes([*boxes, torch.ones(2, 5)])[:30]
    moved = augmented(Batch(x, y, torch.arange(30)), recipe(augment=augment), generator(0), TASKS["detection"])
    places = []
    for image, found, before in zip(moved.x, moved.y, y, strict=True):
        assert torch.equal(found[:, 4].nan_to_num(9), before[:, 4].nan_to_num(9))
        assert bool(found[1].isnan().all())
        if image.any():
            rows_, columns = image[0].nonzero().unbind(1)
            corners = [columns.min(), rows_.min(), columns.max() + 1, rows_.max() + 1]
            assert found[0, :4].tolist() == [float(corner) for corner in corners]
            places.append(torch.equal(found[0], before[0]))
        else:
            assert bool(found[0].isnan().all())
    assert 0 < sum(places) < len(places)


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_crops_are_refused_where_annotations_name_places(name: str) -> None:
    y = torch.zeros(8, 5, 5).long() if name == "segmentation" else torch.full((8, 1, 5), torch.nan)
    with pytest.raises(IncompatibleError, match=f"crops would move images away from their {name} annotations") as found:
        augmented(IMAGES._replace(y=y), recipe(augment=("flip", "crop")), generator(0), TASKS[name])
    assert (found.value.where, found.value.hint) == ("$.recipe.augment", "use flip and vertical-flip")
    labels = augmented(
        IMAGES._replace(y=torch.zeros(8, 3)), recipe(augment=("crop",)), generator(0), TASKS["multi-label"]
    )
    assert labels.x.shape == IMAGES.x.shape


def test_training_sees_masks_that_fit_their_images() -> None:
    """A net that copies its input into logits has loss 0 on augmented rows only if the masks moved along."""
    y = torch.randint(2, (12, HEIGHT, WIDTH), generator=generator(2))
    data = Data(torch.stack([y == 0, y == 1], 1).float() * 50, y, torch.arange(12), ("background", "a"))
    seen: list[float] = []

    def note(model: nn.Module, batch: Batch) -> Tensor:
        loss = TASKS["segmentation"].loss(model(batch.x), batch.y)
        seen.append(loss.item())
        return loss

    copying = nn.Conv2d(2, 2, 1)
    with torch.no_grad():
        copying.weight.copy_(torch.eye(2)[:, :, None, None])
        copying.bias.zero_()
    p = recipe(augment=("flip", "vertical-flip"), epochs=2, batch_size=4)
    fit(copying, TASKS["segmentation"], View(data, torch.arange(12), name="train"), p, generator(0), loss=note)
    assert len(seen) == 6
    assert max(seen) < 1e-6


def test_crops_are_windows_of_the_padded_image_drawn_for_each_row() -> None:
    x = augmented(IMAGES, recipe(augment=("crop",)), generator(0), TASK).x
    places = []
    for new, old in zip(x, F.pad(IMAGES.x, (4,) * 4), strict=True):
        found = [(i, j) for i in range(9) for j in range(9) if torch.equal(old[:, i : i + 5, j : j + 5], new)]
        assert found
        places.append(found[0])
    assert len(set(places)) > 3
    assert x.shape == IMAGES.x.shape


def test_augmentation_leaves_the_data_and_the_annotations_alone() -> None:
    kept = IMAGES.x.clone()
    changed = augmented(IMAGES, recipe(augment=("flip", "vertical-flip", "crop")), generator(0), TASK)
    assert torch.equal(IMAGES.x, kept)
    assert changed.y is IMAGES.y
    assert changed.ids is IMAGES.ids


class Pictures(nn.Module):
    """Sees images; remembers them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(2 * 5 * 5, CLASSES)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.head(x.flatten(1))


def test_images_are_augmented_in_training_and_never_in_prediction() -> None:
    view = rows(10, shape=(2, 5, 5))
    p = recipe(augment=("flip", "crop"), epochs=1, batch_size=10)
    model = Pictures()
    fit(model, TASK, view, p, generator(3))
    predict(model, TASK, view)
    trained, predicted = model.seen
    order = generator(3)
    torch.randint(2**62, (1,), generator=order)
    plain = view.tensors().x[torch.randperm(10, generator=order)]
    assert not torch.equal(trained, plain)
    assert torch.equal(trained, augmented(Batch(plain, plain, plain), p, order, TASK).x)
    assert torch.equal(predicted, view.tensors().x)


# -- modes -------------------------------------------------------------------------------------------------------------


def test_training_is_in_training_mode_and_leaves_evaluation_mode_without_gradients() -> None:
    model = Recorder()
    model.line.bias.requires_grad_(False)
    fit(model, TASK, rows(), recipe(epochs=1), generator(0))
    assert all(mode for _, mode in model.seen)
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_frozen_parameters_do_not_move() -> None:
    model = net()
    model[0].requires_grad_(False)  # type: ignore[index, operator]
    fit(model, TASK, rows(), recipe(weight_decay=0.1), generator(0))
    before, after = bits(net()), bits(model)
    assert {name for name in before if before[name] == after[name]} == {"0.weight", "0.bias"}


@pytest.mark.parametrize("training", [True, False])
def test_prediction_is_in_evaluation_mode_and_restores_the_mode(training: bool) -> None:
    model = Recorder().train(training)
    out = predict(model, TASK, rows(), 16)
    assert [mode for _, mode in model.seen] == [False] * 4
    assert model.training is training
    assert not out.requires_grad
    assert torch.equal(out, torch.cat([model.line(x) for x, _ in model.seen]))


@pytest.mark.parametrize("size", [1, 7, 50, 1024])
def test_prediction_does_not_depend_on_the_batch(size: int) -> None:
    model = net(nn.BatchNorm1d(8), nn.Dropout(0.5))
    fit(model, TASK, rows(), recipe(), generator(0))
    kept = bits(model)
    expected = model(rows().tensors().x).detach()
    torch.testing.assert_close(predict(model, TASK, rows(), size), expected, rtol=1e-5, atol=1e-6)
    assert bits(model) == kept  # running statistics too


def test_prediction_of_no_rows_has_a_column_for_each_class() -> None:
    assert predict(net(), TASK, rows(0)).shape == (0, CLASSES)


def test_a_last_batch_of_one_row_trains_under_batch_norm() -> None:
    """Plain PyTorch refuses a single row in training mode; running statistics serve for it, and stay as they are."""
    lonely = net(nn.BatchNorm1d(8)).train()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        lonely(torch.zeros(1, 6))
    model = net(nn.BatchNorm1d(8))
    view = rows(17)
    assert fit(model, TASK, view, recipe(epochs=1), generator(0)) == 2
    norm = model[1]  # type: ignore[index]
    assert int(norm.num_batches_tracked) == 1  # type: ignore[union-attr, arg-type]
    alone = net(nn.BatchNorm1d(8)).train()
    stepper = Stepper(alone, recipe(), 1)
    one = view.tensors()
    stepper.step(lambda: TASK.loss(alone(one.x[:1]), one.y[:1]), rows=1)
    assert bits(alone)["0.weight"] != bits(net(nn.BatchNorm1d(8)))["0.weight"]
    assert alone[1].training  # type: ignore[index, union-attr]


def test_finish_leaves_a_model_as_every_phase_must_find_it() -> None:
    model = net().train()
    model.requires_grad_(False)
    model[0].weight.grad = torch.ones(8, 6)  # type: ignore[index, union-attr]
    assert finish(model) is model
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# -- own losses, stopping, steps ---------------------------------------------------------------------------------------


def test_a_loss_of_ones_own_replaces_the_tasks() -> None:
    def half(model: nn.Module, batch: Batch) -> Tensor:
        return 0.5 * F.cross_entropy(model(batch.x), batch.y)

    mine, slower = net(), net()
    fit(mine, TASK, rows(), recipe(), generator(9), loss=half)
    fit(slower, TASK, rows(), recipe(lr=0.05), generator(9))
    for name, value in mine.state_dict().items():
        torch.testing.assert_close(value, slower.state_dict()[name])


def test_stop_is_asked_after_each_epoch() -> None:
    asked: list[int] = []

    def stop(epoch: int) -> bool:
        asked.append(epoch)
        return epoch == 1

    model, shorter = net(), net()
    assert fit(model, TASK, rows(), recipe(epochs=9), generator(9), stop=stop) == 2 * PER_EPOCH
    assert asked == [0, 1]
    fit(shorter, TASK, rows(), recipe(epochs=2), generator(9))
    assert bits(model) == bits(shorter)


def test_a_stepper_makes_the_steps_of_fit() -> None:
    p = recipe(schedule="cosine", momentum=0.9, weight_decay=0.01, clip_norm=0.5)
    mine, theirs, view, order = net(), net(), rows(), generator(9)
    fit(theirs, TASK, view, p, generator(9))
    torch.randint(2**62, (1,), generator=order)
    stepper = Stepper(mine.train(), p, steps_per_epoch(view, BATCH))
    losses = []
    for _ in range(p.epochs):
        for batch in view.batches(BATCH, order):
            loss = stepper.step(lambda batch=batch: TASK.loss(mine(batch.x), batch.y))  # type: ignore[misc]
            losses.append(loss)
    assert bits(mine) == bits(theirs)
    assert stepper.steps == STEPS
    assert not any(loss.requires_grad for loss in losses)
    chosen = view.tensors().x[order_of_first_batch()], view.tensors().y[order_of_first_batch()]
    assert torch.equal(losses[0], F.cross_entropy(net()(chosen[0]), chosen[1]).detach())


def order_of_first_batch() -> Tensor:
    order = generator(9)
    torch.randint(2**62, (1,), generator=order)
    return torch.randperm(N, generator=order)[:BATCH]


# -- precision ---------------------------------------------------------------------------------------------------------


@contextmanager
def dtypes(model: nn.Module) -> Iterator[list[torch.dtype]]:
    found: list[torch.dtype] = []
    handle = model.register_forward_hook(lambda module, inputs, out: found.append(out.dtype))
    yield found
    handle.remove()


def test_bf16_computes_in_bf16_keeps_float32_weights_and_learns() -> None:
    view, model = rows(), net()
    start = float(TASK.loss(predict(model, TASK, view), view.tensors().y))
    p = recipe(optimizer="adam", lr=0.01, epochs=20, precision="bf16-mixed")
    with dtypes(model) as found:
        fit(model, TASK, view, p, generator(0))
    assert set(found) == {torch.bfloat16}
    assert {w.dtype for w in model.parameters()} == {torch.float32}
    assert float(TASK.loss(predict(model, TASK, view), view.tensors().y)) < 0.8 * start
    again, full = net(), net()
    fit(again, TASK, view, p, generator(0))
    fit(full, TASK, view, recipe(optimizer="adam", lr=0.01, epochs=20), generator(0))
    assert bits(model) == bits(again) != bits(full)


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_local_rng_lends_the_global_state_and_gives_it_back() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        with local_rng(generator(3)):
            drawn = torch.rand(4)
        assert torch.equal(before, torch.get_rng_state())
        with pytest.raises(ZeroDivisionError), local_rng(generator(3)):
            assert torch.equal(drawn, torch.rand(4)) / 0
        assert torch.equal(before, torch.get_rng_state())


def test_a_copy_of_a_model_trains_to_the_same_bits() -> None:
    model = net(nn.BatchNorm1d(8))
    twin = copy.deepcopy(model)
    fit(model, TASK, rows(), recipe(optimizer="adamw", lr=0.01), generator(2))
    fit(twin, TASK, rows(), recipe(optimizer="adamw", lr=0.01), generator(2))
    assert bits(model) == bits(twin)
