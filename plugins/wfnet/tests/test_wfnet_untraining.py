"""The course of untraining: looks, patience, what is kept, what ends it, and what it never touches."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from hand_jobs import bits
from torch import Tensor, nn

from unlearnbench.api import Recipe, UsageError
from unlearnbench.api.runtime import (
    Classification,
    Data,
    MultiLabel,
    PrepareJob,
    Ref,
    Request,
    State,
    Task,
    UnlearnJob,
    View,
    attach_ref,
    fit,
    generator,
)
from unlearnbench_wfnet.method import WfNet
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.objective import weighted
from unlearnbench_wfnet.plugin import WfNetParams
from unlearnbench_wfnet.targets import find_targets
from unlearnbench_wfnet.untraining import NON_FINITE, Course, accuracies, divided, untrain, validated

SHAPE, CLASSES, ROWS = (1, 6, 6), 3, 40
CE, BCE = Classification(), MultiLabel()
FORGET = 1.0
ROW = torch.tensor([1.0, -1.0]).repeat(3)
TEXTURES = torch.stack([ROW.repeat(6, 1), ROW.repeat(6, 1).T, torch.outer(ROW, ROW)])
"""Stripes one way and the other, and a chessboard: filters tell them apart, places do not."""


def conv_net(*, confident: float = 1.0, width: int = 8) -> nn.Module:
    """Convolution, batch normalisation whose statistics are those of some data, dropout, head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(width, width, 3, stride=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * width, CLASSES),
        )  # fmt: skip
        net.train()(torch.randn(64, *SHAPE) * 2 + 1)
    with torch.no_grad():
        net[-1].weight.mul_(confident)
    return attach_ref(net.eval(), Ref("net", {}, SHAPE, CLASSES))


def textured(n: int = ROWS, seed: int = 0, *, several: bool = False) -> tuple[Tensor, Tensor]:
    """Noise with textures: one of three, the class, or of ``several`` labels any of them."""
    rng = generator(seed)
    x = torch.randn(n, *SHAPE, generator=rng)
    y = torch.randint(CLASSES, (n,), generator=rng)
    labels = torch.randint(2, (n, CLASSES), generator=rng) if several else nn.functional.one_hot(y, CLASSES)
    x += torch.einsum("nk,kij->nij", labels.float(), TEXTURES)[:, None]
    return x, labels.float() if several else y


def job(x: Tensor, y: Tensor, model: nn.Module, seed: int = 0, task: Task = CE) -> PrepareJob:
    data = Data(x, y, torch.arange(len(x)) + 100, ("a", "b", "c"))

    def build(ref: Ref | None, seed: int) -> nn.Module:
        raise AssertionError("nothing is built")

    return PrepareJob(
        task=task, device=torch.device("cpu"), root_seed=seed, phase="prepare/0", builder=build,
        data=View(data, torch.arange(len(x)), name="train"), validation=View(data, torch.arange(0), name="validation"),
        model=model, state=State(),
    )  # fmt: skip


def net_of(model: nn.Module) -> WFNet:
    return WFNet(model, find_targets(model, SHAPE), CLASSES)


def params(**more: Any) -> WfNetParams:
    return WfNetParams(**{"batch_size": 2, "epochs": 2, "patience": None, "validation": 0.25, **more})


def course_of(seed: int = 0, x: Tensor | None = None, **more: Any) -> tuple[WFNet, PrepareJob, WfNetParams, Course]:
    """Untrain on 40 rows, a quarter of which is held out."""
    given, y = textured()
    p, task = params(**more), job(given if x is None else x, y, conv_net(), seed)
    net = net_of(task.model)
    return net, task, p, untrain(net, task, p, FORGET)


def loss_now(net: WFNet, task: PrepareJob, p: WfNetParams, purpose: str = "look") -> float:
    """The validation loss of the gates as they are, worked out again from the job."""
    again = job(task.data.tensors().x, task.data.tensors().y, task.model, task.root_seed, task.task)
    _, held = divided(again.data, p.validation, again.rng("validation"))
    return float(weighted(validated(net, again.task, held, p, generator(again.seed(purpose))), p, FORGET))


def losses(course: Course) -> list[float]:
    return [look["loss"] for look in course.log]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    ("size", "validation", "steps"),
    [
        (2, 0.25, [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]),  # 15 steps an epoch, five looks
        (6, 0.25, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (12, 0.25, [1, 2, 3, 4, 5, 6]),  # three steps, and a second look at the same gates tells nothing
        (29, 0.25, [1, 2]),  # the last batch has one row, and no half to forget
        (4, 0.275, [2, 3, 5, 6, 7, 9, 10, 12, 13, 14]),  # nor does it take a look with it
        (27, 0.25, [1, 2, 3, 4]),  # it has three rows
    ],
)
def test_an_epoch_has_five_looks_or_one_after_each_step(size: int, validation: float, steps: list[int]) -> None:
    _, _, _, course = course_of(batch_size=size, validation=validation)
    assert [look["step"] for look in course.log] == steps
    assert course.ended == ""


def test_every_look_draws_the_same_rows_of_gates() -> None:
    net, task, p, course = course_of(lr=1e-30)  # gates of 3 cannot move so little
    assert same(net.tensors(), net_of(conv_net()).tensors())
    assert len({(look["retain"], look["forget"], look["closed"]) for look in course.log}) == 1
    assert losses(course)[0] == loss_now(net, task, p)
    assert losses(course)[0] != loss_now(net, task, p, "another")


def test_patience_is_counted_in_looks() -> None:
    net, task, p, course = course_of(min_delta=1e9, patience=7, lr=1.0)
    assert course.ended == "patience"
    assert [look["step"] for look in course.log] == [3, 6, 9, 12, 15, 18, 21, 24]  # the first, and seven in vain
    assert len(set(losses(course))) == 8
    assert loss_now(net, task, p) == losses(course)[0]


def test_an_improvement_is_more_than_min_delta() -> None:
    net, course = net_of(conv_net()), Course({}, patience=2, min_delta=0.1)
    found = validated(net, CE, job(*textured(), net.base).data, params(), generator(0))
    for step, loss in enumerate([2.0, 1.95, 1.85, 1.8, 1.76]):
        assert not course.ended
        course.look(step, net, loss, found)
    assert course.best_loss == 1.85
    assert course.ended == "patience"


def test_the_gates_with_the_least_validation_loss_are_restored() -> None:
    net, task, p, course = course_of(lr=3000.0, epochs=3, open_weight=0.0, min_delta=0.0, clip_value=None)
    least = min(losses(course))
    assert losses(course).index(least) < len(course.log) - 1
    assert loss_now(net, task, p) == least
    assert not same(net.tensors(), net_of(conv_net()).tensors())


def test_a_loss_that_is_no_number_ends_it_with_the_best_gates_so_far() -> None:
    x, y = textured()
    task = job(x, y, conv_net())
    rows, _ = divided(task.data, 0.25, task.rng("validation"))
    order = list(rows.batches(2, task.rng("order")))
    broken = x.clone()
    broken[order[10].ids[0] - 100] = math.nan  # comes in the eleventh step, behind three looks
    net, task, p, course = course_of(x=broken)
    assert course.ended == NON_FINITE
    assert [look["step"] for look in course.log] == [3, 6, 9]
    assert loss_now(net, task, p) == min(losses(course))
    assert all(bool(alpha.isfinite().all()) for alpha in net.tensors().values())


def test_without_any_look_the_first_gates_are_kept() -> None:
    x, y = textured()
    task = job(x, y, conv_net(confident=1e4))
    net = net_of(task.model)
    course = untrain(
        net, task, params(strict_paper=True, batch_size=30), FORGET
    )  # a loss of exactly 0 has no reciprocal
    assert course.ended == NON_FINITE
    assert course.log == []
    assert same(net.tensors(), net_of(conv_net()).tensors())


def test_a_validation_loss_that_is_no_number_ends_it_too() -> None:
    x, y = textured()
    task = job(x, y, conv_net())
    _, held = divided(task.data, 0.25, task.rng("validation"))
    broken = x.clone()
    broken[held.ids[0] - 100] = math.nan
    net, _, _, course = course_of(x=broken)
    assert course.ended == NON_FINITE
    assert [look["step"] for look in course.log] == [3]
    assert "loss" not in course.log[0]  # JSON has no such number
    assert same(net.tensors(), net_of(conv_net()).tensors())


def test_the_same_seed_gives_the_same_gates_and_another_seed_others() -> None:
    first, again, other = (course_of(seed)[0].tensors() for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


def test_neither_weights_nor_statistics_of_the_network_change() -> None:
    before = bits(conv_net())
    net, task, _, _ = course_of()
    assert bits(task.model) == before
    assert bits(net.base) == before
    assert not same(net.tensors(), net_of(conv_net()).tensors())


def test_gradients_are_clipped_entry_by_entry() -> None:
    net, _, _, _ = course_of(epochs=1, batch_size=30, clip_value=1e-3, lr=10.0)
    moved = torch.cat([(alpha - 3).abs().flatten() for alpha in net.tensors().values()])
    assert float(moved.max()) == pytest.approx(0.01, rel=1e-3)
    free, _, _, _ = course_of(epochs=1, batch_size=30, clip_value=None, lr=10.0)
    assert max(float((alpha - 3).abs().max()) for alpha in free.tensors().values()) > 0.02


def test_a_validation_row_is_never_learned_from() -> None:
    x, y = textured()
    task = job(x, y, conv_net())
    rows, held = divided(task.data, 0.25, task.rng("validation"))
    assert (len(rows), len(held)) == (30, 10)
    assert sorted([*rows.ids.tolist(), *held.ids.tolist()]) == task.data.ids.tolist()
    changed = x.clone()
    changed[held.ids - 100] += 1
    course, other = (course_of(x=each, epochs=1, evaluations=1) for each in (x, changed))
    assert same(course[0].tensors(), other[0].tensors())
    assert losses(course[3]) != losses(other[3])


def test_validation_forgets_all_classes_where_rows_come_class_by_class() -> None:
    x, y = textured(120)
    order = y.argsort()
    net, p = net_of(conv_net()), params(batch_size=128)
    held = job(x[order], y[order], net.base).data
    first = validated(net, CE, held, p, generator(0)).forget
    for row in range(CLASSES):
        with torch.no_grad():
            net.alpha_weight[0][row] = -5.0
        assert validated(net, CE, held, p, generator(0)).forget != first, f"nothing of class {row} was to be forgotten"
        net.load_tensors(net_of(conv_net()).tensors())


@pytest.mark.parametrize("share", [0.001, 0.99])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    task = job(*textured(), conv_net())
    with pytest.raises(UsageError, match=r"\[empty-validation\] wfnet.validation: a share of") as caught:
        divided(task.data, share, task.rng("validation"))
    assert "\n" not in str(caught.value)


def test_accuracy_at_the_start_is_that_of_the_base_and_of_the_first_gates() -> None:
    x, y = textured(60)
    net, p = net_of(conv_net()), params(batch_size=7)
    held = job(x, y, net.base).data
    with torch.no_grad():
        by_base = float((net(x).argmax(1) == y).double().mean())
        by_gates = float((net.bake(0)(x).argmax(1) == y).double().mean())  # at first all rows are alike
    assert accuracies(net, CE, held, p, generator(0)) == pytest.approx({"base": by_base, "init": by_gates})


def test_one_class_alone_is_refused_but_one_label_is_not() -> None:
    lone = attach_ref(conv_net().to("meta"), Ref("net", {}, SHAPE, 1))
    assert "there is no other" in (WfNet(WfNetParams()).check(lone, CE) or "")
    assert WfNet(WfNetParams()).check(lone, BCE) is None


def trained(task: Task, x: Tensor, y: Tensor) -> nn.Module:
    net = conv_net(width=32)
    recipe = Recipe(optimizer="adam", lr=0.01, weight_decay=0.0, epochs=15, batch_size=32)
    fit(net, task, job(x, y, net, task=task).data, recipe, generator(0))
    return net


def test_a_label_of_several_is_forgotten_and_the_others_stay() -> None:
    x, y = textured(400, several=True)
    y[:40, 0] = math.nan
    prepared = job(x, y, trained(BCE, x, y), task=BCE)
    method = WfNet(WfNetParams(batch_size=32, epochs=20, patience=None, forget_weight=1.0))
    assert method.check(deepcopy(prepared.model).to("meta"), BCE) is None
    before = accuracy_of_labels(prepared.model, *textured(300, 9, several=True))
    state = method.prepare(prepared)
    data = Data(x, y, torch.arange(len(x)) + 100, ("a", "b", "c"))
    view = View(data, torch.arange(0), name="forget")
    served = method.unlearn(
        UnlearnJob(
            task=BCE, device=torch.device("cpu"), root_seed=0, phase="unlearn", builder=prepared.builder,
            request=Request("target", "0" * 64, targets=(1,)), forget=view, retain=view, validation=view,
            model=prepared.model, state=state, recipe=Recipe(),
        )
    )  # fmt: skip
    after = accuracy_of_labels(served.model, *textured(300, 9, several=True))
    assert min(before) > 0.95
    assert after[1] < 0.05
    assert min(after[0], after[2]) > 0.9
    assert served.artifacts["rows"] == [1]


def accuracy_of_labels(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """Share of the samples which have a label that are said to have it, label by label."""
    with torch.no_grad():
        said = net.eval()(x) > 0
    return [float(said[y[:, k] == 1, k].double().mean()) for k in range(CLASSES)]
