"""Requests for targets: what is left of the annotations of labels, masks and boxes, and who gets to see which."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import assert_error
from torch import Tensor, nn
from toys_support import new_stages, scenes, toy_registry

from unlearnbench import phases
from unlearnbench.api import DatasetSpec, UnlearnBenchError
from unlearnbench.api.runtime import MISSING, TASKS, Component, Data, DataJob, Splits, Task, View, fit, padded_boxes
from unlearnbench.config import resolve_experiment, resolve_request
from unlearnbench.parts import Parts, Selection
from unlearnbench.plugins import BUILTIN, Plugin
from unlearnbench.registry import Registry
from unlearnbench.requests import resolve
from unlearnbench.runner import execute
from unlearnbench.scenes import prepare
from unlearnbench.spec import RunSpec
from unlearnbench.testing.problems import PLUGIN

NAN = math.nan
NAMES = ("red", "green", "blue")

# Five images: red and green, green, red and blue, nothing, red. Their ids are 100 to 104; test images are the same.
SHOWN = ((0, 1), (1,), (0, 2), (), (0,))
RED = [0, 2, 4]


def labels() -> Tensor:
    return torch.tensor([[float(t in shown) for t in range(3)] for shown in SHOWN])


def masks() -> Tensor:
    """Three rows of four pixels: the k-th thing of an image fills the k-th row; a corner is not annotated."""
    y = torch.zeros(5, 3, 4, dtype=torch.int64)
    for row, shown in enumerate(SHOWN):
        for place, t in enumerate(shown):
            y[row, place] = t + 1
    y[:, 2, 3] = MISSING
    return y


def boxes() -> Tensor:
    return padded_boxes(
        [
            torch.tensor([[4.0 * k, 0, 4 * k + 3, 2 + t, t] for k, t in enumerate(shown)]).reshape(-1, 5)
            for shown in SHOWN
        ]
    )


ANNOTATIONS = {"multi-label": labels, "segmentation": masks, "detection": boxes}


def splits(name: str, y: Tensor | None = None) -> Splits:
    y = ANNOTATIONS[name]() if y is None else y
    names = ("background", *NAMES) if name == "segmentation" else NAMES
    group = {"site": torch.tensor([0, 1, 0, 1, 1])}

    def part(first: int) -> Data:
        x = torch.zeros(len(y), 1, *((3, 4) if name == "segmentation" else (6, 12)))
        return Data(x, y, torch.arange(len(y)) + first, names, columns=group)

    return Splits(train=part(100), test=part(200))


def target(*names: str, how: str = "absent") -> dict[str, Any]:
    return {"kind": "target", "targets": list(names), "as": how}


def solve(name: str, *requests: Mapping[str, Any], data: Splits | None = None) -> Parts:
    """The parts after the last of these requests."""
    data, parts = data or splits(name), None
    for request in requests:
        parts = resolve(resolve_request(request), data, TASKS[name], parts)
    assert parts is not None
    return parts


def ids(selection: Selection, first: int = 100) -> list[int]:
    return (selection.data.ids[selection.index] - first).tolist()


def y_of(selection: Selection) -> dict[int, Tensor]:
    """Annotations by the position of the training row, as a phase reads them."""
    batch = selection.view("any").tensors()
    return {int(i) - 100: y for i, y in zip(batch.ids, batch.y, strict=True)}


def known(y: Tensor) -> Tensor:
    return ~(y.isnan() | (y == MISSING))


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def shows(task: Task, y: Tensor, name: str) -> bool:
    """Whether annotations of one row still say that the target is there."""
    position = NAMES.index(name) + (task.name == "segmentation")
    return bool(task.split_target(y[None], position)[0][0])


# -- one request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_absent_leaves_every_row_and_no_sign_of_the_target(name: str) -> None:
    parts, task = solve(name, target("red")), TASKS[name]
    retain, before = y_of(parts.retain), ANNOTATIONS[name]()
    assert sorted(retain) == [0, 1, 2, 3, 4]
    assert not any(shows(task, y, "red") for y in retain.values())
    for row, y in retain.items():
        for other in ("green", "blue"):
            assert shows(task, y, other) == (NAMES.index(other) in SHOWN[row])
        if row not in RED:
            assert same(y, before[row])
    assert ids(parts.forget) == RED


def test_absent_labels_are_zero_absent_pixels_background_and_absent_boxes_gone() -> None:
    assert y_of(solve("multi-label", target("red")).retain)[0].tolist() == [0, 1, 0]
    row = y_of(solve("segmentation", target("red")).retain)[0]
    assert row.tolist() == [[0] * 4, [2] * 4, [0, 0, 0, MISSING]]
    row = y_of(solve("detection", target("red")).retain)[0]
    assert bool(row[0].isnan().all())
    assert row[1].tolist() == [4, 0, 7, 3, 1]


def test_unknown_labels_and_pixels_are_missing_and_rows_without_any_annotation_leave() -> None:
    retain = y_of(solve("multi-label", target("red", how="unknown")).retain)
    assert all(bool(y[0].isnan()) and not bool(y[1:].isnan().any()) for y in retain.values())
    y = masks()
    y[4] = 1  # red all over
    parts = solve("segmentation", target("red", how="unknown"), data=splits("segmentation", y))
    retain = y_of(parts.retain)
    assert sorted(retain) == [0, 1, 2, 3]
    assert retain[0].tolist() == [[MISSING] * 4, [2] * 4, [0, 0, 0, MISSING]]
    assert ids(parts.forget) == RED


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_images_takes_the_rows_away_and_leaves_all_annotations_complete(name: str) -> None:
    parts, before = solve(name, target("red", how="images")), ANNOTATIONS[name]()
    for selection, rows in ((parts.forget, RED), (parts.retain, [1, 3])):
        found = y_of(selection)
        assert sorted(found) == rows
        assert all(same(y, before[row]) for row, y in found.items())


@pytest.mark.parametrize(
    ("name", "how"),
    [(n, h) for n in ANNOTATIONS for h in ("absent", "unknown") if (n, h) != ("detection", "unknown")],
)
@pytest.mark.parametrize("targets", [("red",), ("red", "blue"), ("blue", "green")])
def test_what_is_forgotten_and_what_is_left_make_up_the_training_annotations(
    name: str, how: str, targets: tuple[str, ...]
) -> None:
    """The forget view holds exactly the annotations that differ in the retain view, as they were."""
    parts, train = solve(name, target(*targets, how=how)), ANNOTATIONS[name]()
    forget, retain = y_of(parts.forget), y_of(parts.retain)
    nothing = torch.full_like(train[0], NAN if train.is_floating_point() else MISSING)
    for row, y in enumerate(train):
        taken, left = forget.get(row, nothing), retain[row]
        changed = known(taken)
        assert same(taken[changed], y[changed])
        if name == "multi-label" and how == "unknown":
            changed = torch.tensor([one in targets for one in NAMES])  # that it is not there is not known either
        assert same(left[~changed], y[~changed])
        if name != "detection":
            assert not bool((left[changed] == y[changed]).any())
        assert bool(changed.any()) >= bool(set(SHOWN[row]) & {NAMES.index(one) for one in targets})


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize("how", ["absent", "images"])
def test_measures_see_every_annotation(name: str, how: str) -> None:
    parts, before = solve(name, target("red", how=how)), ANNOTATIONS[name]()
    places = {"forget": (RED, 100), "retain": ([1, 3], 100), "test": ([0, 1, 2, 3, 4], 200), "holdout": (RED, 200)}
    for split, (rows, first) in places.items():
        selection = parts.measured[split]
        assert ids(selection, first) == rows
        assert same(selection.view(split).tensors().y, before[rows])
    assert parts.request.targets == ((1,) if name == "segmentation" else (0,))
    assert parts.request.earlier == ()


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_data_set_stays_as_it_was(name: str) -> None:
    data = splits(name)
    before = data.train.y.clone()
    solve(name, target("red"), target("blue", how="images"), data=data)
    assert same(data.train.y, before)


def test_requests_that_differ_in_the_way_have_other_digests() -> None:
    hows = [solve("multi-label", target("red", how=how)).request.digest for how in ("absent", "unknown", "images")]
    assert len(set(hows)) == 3
    assert solve("multi-label", target("red")).request.digest == hows[0]


def test_a_target_that_is_named_twice_is_forgotten_once() -> None:
    assert solve("multi-label", target("red", "0")).request.targets == (0,)
    assert solve("multi-label", target("red", "red")).request.targets == (0,)


# -- what cannot be done -----------------------------------------------------------------------------------------------


def refusal(name: str, *requests: Mapping[str, Any], data: Splits | None = None) -> str:
    with pytest.raises(UnlearnBenchError) as caught:
        solve(name, *requests, data=data)
    assert_error(f"error: {caught.value}", caught.value.code)
    return str(caught.value)


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize("how", ["absent", "images"])
def test_a_target_that_no_image_shows_is_refused(name: str, how: str) -> None:
    y = TASKS[name].erase(ANNOTATIONS[name](), 2 if name != "segmentation" else 3, "absent")
    line = refusal(name, target("blue", how=how), data=splits(name, y))
    assert line.startswith("[empty-forget-set] $.request.targets: no training row carries blue; ")


def everywhere(name: str) -> Tensor:
    y = ANNOTATIONS[name]()
    if name == "multi-label":
        y[:, 0] = 1
    elif name == "segmentation":
        y[:, 0, 0] = 1
    else:
        y = torch.cat([y, torch.tensor([0.0, 0, 1, 1, 0]).expand(5, 1, 5)], 1)
    return y


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_of_a_target_that_every_image_shows_annotations_can_go_and_images_cannot(name: str) -> None:
    data = splits(name, everywhere(name))
    line = refusal(name, target("red", how="images"), data=data)
    assert line.startswith("[empty-retain-set] $.request: every training row carries red")
    assert "ask for absent, which keeps the rows" in line
    parts = solve(name, target("red"), data=data)
    assert ids(parts.forget) == ids(parts.retain) == [0, 1, 2, 3, 4]
    assert not any(shows(TASKS[name], y, "red") for y in y_of(parts.retain).values())
    assert len(parts.measured["retain"]) == 0


def test_boxes_cannot_be_unknown_and_the_background_cannot_be_absent() -> None:
    line = refusal("detection", target("red", how="unknown"))
    assert line.startswith("[unsupported-task] $.request.as: a detector cannot leave boxes out of its loss")
    line = refusal("segmentation", target("background"))
    assert line.startswith("[unsupported-task] $.request.targets: pixels without their class become background")


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_unknown_targets_are_refused_with_what_there_is(name: str) -> None:
    assert "no target 'rde'; did you mean red?" in refusal(name, target("rde"))


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_second_absent_target_goes_from_what_the_first_left(name: str) -> None:
    parts, task = solve(name, target("red"), target("green")), TASKS[name]
    assert ids(parts.forget) == [0, 1]
    for y in y_of(parts.forget).values():
        assert (shows(task, y, "green"), shows(task, y, "red")) == (True, False)
    retain = y_of(parts.retain)
    assert sorted(retain) == [0, 1, 2, 3, 4]
    assert not any(shows(task, y, gone) for y in retain.values() for gone in ("red", "green"))
    assert [shows(task, retain[row], "blue") for row in range(5)] == [False, False, True, False, False]
    shift = name == "segmentation"
    assert (parts.request.targets, parts.request.earlier) == ((1 + shift,), (0 + shift,))
    assert ids(parts.measured["forget"]) == [0, 1, 2, 4]
    assert ids(parts.measured["retain"]) == [3]
    assert ids(parts.measured["holdout"], 200) == [0, 1, 2, 4]  # adds up as the forget set does
    assert ids(parts.measured["test"], 200) == [0, 1, 2, 3, 4]
    assert same(parts.measured["test"].view("test").tensors().y, ANNOTATIONS[name]())


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_second_set_of_images_is_taken_out_of_the_rows_that_are_left(name: str) -> None:
    first, second = target("blue", how="images"), target("red", how="images")
    parts, before = solve(name, first, second), ANNOTATIONS[name]()
    assert ids(parts.forget) == [0, 4]  # row 2 went with blue
    assert ids(parts.retain) == [1, 3]
    assert all(same(y, before[row]) for row, y in y_of(parts.forget).items())
    assert ids(parts.measured["forget"]) == RED
    assert refusal(name, first, first).startswith("[empty-forget-set] $.request.targets: no training row carries blue")


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_images_after_absent_keep_what_was_erased_erased(name: str) -> None:
    parts, task = solve(name, target("red"), target("blue", how="images")), TASKS[name]
    assert (ids(parts.forget), ids(parts.retain)) == ([2], [0, 1, 3, 4])
    for selection in (parts.forget, parts.retain):
        assert not any(shows(task, y, "red") for y in y_of(selection).values())
    assert refusal(name, target("red"), target("red")).startswith("[empty-forget-set]")


@pytest.mark.parametrize("name", ANNOTATIONS)
@pytest.mark.parametrize(
    ("request_", "forget", "retain"),
    [
        ({"kind": "samples", "ids": [101, 102]}, [1, 2], [0, 3, 4]),
        ({"kind": "group", "column": "site", "values": [1]}, [1, 3, 4], [0, 2]),
    ],
)
def test_rows_that_go_after_a_target_do_not_bring_its_annotations_back(
    name: str, request_: dict[str, Any], forget: list[int], retain: list[int]
) -> None:
    parts, task = solve(name, target("red"), request_), TASKS[name]
    assert (ids(parts.forget), ids(parts.retain)) == (forget, retain)
    for selection in (parts.forget, parts.retain):
        assert not any(shows(task, y, "red") for y in y_of(selection).values())
    assert parts.request.earlier == ((1,) if name == "segmentation" else (0,))
    gone = sorted({*RED, *forget})
    assert sorted(ids(parts.measured["forget"])) == gone
    assert ids(parts.measured["retain"]) == [row for row in range(5) if row not in gone]
    assert same(parts.measured["forget"].data.y, ANNOTATIONS[name]())
    plain = solve(name, request_)
    assert plain.request.digest != parts.request.digest


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_a_target_that_goes_after_a_group_leaves_the_group_out(name: str) -> None:
    parts = solve(name, {"kind": "group", "column": "site", "values": [1]}, target("red"))
    assert ids(parts.forget) == ids(parts.retain) == [0, 2]
    assert ids(parts.measured["forget"]) == [0, 1, 2, 3, 4]
    assert ids(parts.measured["test"], 200) == [0, 2]  # what should still be known is without the group


# -- in a run ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["multi-label", "segmentation"])
@pytest.mark.parametrize("how", ["absent", "images"])
def test_gold_is_trained_without_any_sign_of_the_target(
    tmp_path: Path, task: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def watching(model: nn.Module, of: Task, view: View, *more: Any, **named: Any) -> int:
        seen.append(view.tensors().y)
        return fit(model, of, view, *more, **named)

    spec = scenes("identity", task, target("red", how=how))
    stages = new_stages(tmp_path)
    stages.original(spec)
    monkeypatch.setattr(phases, "fit", watching)
    stages.gold(spec)
    (y,) = seen
    position = int(task == "segmentation")
    assert not bool(TASKS[task].split_target(y, position)[0].any())
    for other in (1, 2):
        assert bool(TASKS[task].split_target(y, position + other)[0].any())
    total = len(stages.scene(spec).splits.train)
    assert len(y) == total if how == "absent" else len(y) < 0.7 * total


class Wrong(Component[Any]):
    """Masks of which one pixel has a class that does not exist."""

    def load(self, job: DataJob) -> Splits:
        y = masks()
        y[3, 1, 2] = 9
        found = splits("segmentation")
        return replace(found, test=replace(found.test, y=y))


class WrongBoxes(Component[Any]):
    """Boxes of which one has no area."""

    def load(self, job: DataJob) -> Splits:
        y = boxes()
        y[2, 1, 2] = y[2, 1, 0]
        return splits("detection", y)


def broken_registry() -> Registry:
    specs = tuple(
        DatasetSpec(name=name, summary="Wrong annotations.", target=f"{__name__}:{cls}", tasks=(task,))
        for name, cls, task in (("wrong-masks", "Wrong", "segmentation"), ("wrong-boxes", "WrongBoxes", "detection"))
    )
    host = [plugin for plugin in toy_registry().plugins if plugin.name == BUILTIN]
    return Registry([*host, PLUGIN, Plugin("wrong", __name__, "wrong", "1", specs)])


def wrong_run(dataset: str, model: str) -> RunSpec:
    experiment = {"dataset": dataset, "model": model, "unlearners": ["identity"], "requests": [target("red")]}
    (spec,) = resolve_experiment({**experiment, "measures": ["accuracy"]}, broken_registry())
    return spec


@pytest.mark.parametrize(
    ("dataset", "model", "line"),
    [
        (
            "wrong-masks",
            "kit-segnet",
            "dataset wrong-masks, test row 203: a pixel has the id 9, and there are 4 classes",
        ),
        ("wrong-boxes", "kit-detector", "dataset wrong-boxes, train row 102: the box (4, 0, 4, 4, 2) has no area"),
    ],
)
def test_annotations_that_cannot_be_end_a_run_before_it_begins(
    tmp_path: Path, dataset: str, model: str, line: str
) -> None:
    spec = wrong_run(dataset, model)
    found = Wrong(None).load(None) if dataset == "wrong-masks" else WrongBoxes(None).load(None)  # type: ignore[arg-type]
    with pytest.raises(UnlearnBenchError) as caught:
        prepare(spec, found)
    assert (caught.value.code, caught.value.exit_code) == ("bad-annotations", 5)
    assert str(caught.value).startswith(f"[bad-annotations] {line}")
    with pytest.raises(UnlearnBenchError, match=re.escape(line)):
        execute([spec], out=tmp_path / "runs", store=tmp_path / "store", components=broken_registry())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_whole_run_of_a_target_of_boxes(tmp_path: Path) -> None:
    experiment = {
        "dataset": "kit-boxes", "model": "kit-detector", "unlearners": ["retrain"], "requests": [target("b")],
        "measures": ["accuracy", "per-target"],
        "recipe": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "epochs": 30, "batch_size": 8},
    }  # fmt: skip
    (spec,) = resolve_experiment(experiment, broken_registry())
    outcome = execute([spec], out=tmp_path / "runs", store=tmp_path / "store", components=broken_registry())
    assert not outcome.problems, outcome.problems
    (record,) = outcome.records
    key = "target-ap50.test.target=b"
    assert (record.value(key, "original") or 0) > 0.2
    assert record.value(key, "gold") == record.value(key) == 0
    assert (record.value("target-ap50.test.target=a", "gold") or 0) > 0.2
