"""Views: what a phase may read, what it cannot reach, and that nothing is lost between forget and retain."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys_support import CLASS, EDGES, SAMPLES, graph, images, new_stages, scenes, toy_registry

from unlearnbench.api import PluginError
from unlearnbench.api.runtime import MISSING, TASKS, Job, Meter, PrepareJob, Splits, TrainJob, UnlearnJob
from unlearnbench.requests import Parts, resolve, whole
from unlearnbench.scenes import load_dataset
from unlearnbench.spec import Choice, RunSpec


def jobs_of(spec: RunSpec, folder: Path) -> list[Job]:
    from unlearnbench_toys.rogues import SEEN

    SEEN.clear()
    new_stages(folder).unlearned(spec, len(spec.requests) - 1)
    return list(SEEN)


def reachable(start: Any) -> Iterator[Tensor]:
    """Every tensor at the end of a path of attributes, items and keys."""
    seen: set[int] = set()
    waiting = [start]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, str | bytes | int | float | bool | type | None):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            yield thing
        elif isinstance(thing, Mapping):
            waiting += [*thing.keys(), *thing.values()]
        elif isinstance(thing, list | tuple | set | frozenset):
            waiting += list(thing)
        elif hasattr(thing, "__dict__"):
            waiting += list(vars(thing).values())


def test_each_phase_has_only_what_it_may_see(tmp_path: Path) -> None:
    train, prepare, unlearn = jobs_of(images("toy-witness"), tmp_path)
    assert (type(train), type(prepare), type(unlearn)) == (TrainJob, PrepareJob, UnlearnJob)
    for job in (train, prepare):
        assert not {"request", "forget", "retain"} & set(vars(job))
    for job in (train, prepare, unlearn):
        assert not {"test", "holdout", "gold", "store", "registry", "stages", "scene"} & set(vars(job))


@pytest.mark.parametrize("spec_of", [lambda: images("toy-witness", SAMPLES, CLASS), lambda: graph("toy-witness")])
def test_test_data_are_not_at_the_end_of_any_path(tmp_path: Path, spec_of: Any) -> None:
    spec = spec_of()
    test = new_stages(tmp_path / "data").scene(spec).splits.test
    hidden = [test.y] if test.edges is not None else [test.x, test.y, test.ids]
    jobs = jobs_of(spec, tmp_path)
    found = [tensor for job in jobs for tensor in reachable(job)]
    assert len(found) > 10
    for secret in hidden:
        assert not any(t.shape == secret.shape and torch.equal(t, secret) for t in found)


def test_labels_of_test_nodes_are_not_there_in_training(tmp_path: Path) -> None:
    splits = new_stages(tmp_path).scene(graph("toy-witness")).splits
    assert bool((splits.train.y[splits.test.y != MISSING] == MISSING).all())


def test_views_that_are_not_declared_are_locked_and_metadata_stay_readable(tmp_path: Path) -> None:
    stages = new_stages(tmp_path)
    with pytest.raises(PluginError, match="the forget view is not declared in reads") as found:
        stages.unlearned(images("toy-undeclared"))
    assert found.value.code == "undeclared-read"
    assert found.value.where == "unlearner toy-undeclared"


def test_every_view_of_every_phase_is_locked_unless_declared(tmp_path: Path) -> None:
    train, prepare, unlearn = jobs_of(images("toy-witness", validation=0.2), tmp_path)
    assert isinstance(train, TrainJob)
    assert isinstance(prepare, PrepareJob)
    assert isinstance(unlearn, UnlearnJob)
    for view in (prepare.data, prepare.validation, unlearn.forget, unlearn.retain, unlearn.validation):
        assert len(view.ids) == len(view) > 0
        for read in (view.tensors, functools.partial(next, view.batches(4)), view.where(view.ids > 0).tensors):
            with pytest.raises(PluginError, match="not declared in reads"):
                read()
    assert len(train.data.tensors().x) == len(train.data)


def test_rows_that_a_phase_reads_are_counted(tmp_path: Path) -> None:
    entry = new_stages(tmp_path).unlearned(images("toy-dampening"))
    assert dict(entry.cost.rows_read) == {"forget": 8}


@functools.cache
def loaded(dataset: str, task: str = "") -> Splits:
    params = {"task": task} if task else {"per_class": 20} if dataset == "toy-images" else {}
    return load_dataset(toy_registry(), Choice(dataset, params))[0]


ITEMS = st.one_of(
    st.builds(lambda n, s: {"kind": "samples", "count": n, "seed": s}, st.integers(1, 60), st.integers(0, 99)),
    st.builds(
        lambda f, s: {"kind": "samples", "fraction": f, "seed": s, "stratified": True},
        st.floats(0.01, 0.4),
        st.integers(0, 99),
    ),
    st.sets(st.sampled_from("0123"), min_size=1).map(lambda c: {"kind": "class", "classes": sorted(c)}),
    st.integers(0, 1).map(lambda p: {"kind": "group", "column": "person", "values": [p]}),
)
COUNTS = st.integers(1, 12), st.integers(0, 99)
ELEMENTS = st.builds(lambda k, n, s: {"kind": k, "count": n, "seed": s}, st.sampled_from(["nodes", "edges"]), *COUNTS)


@settings(max_examples=25, deadline=None)
@given(st.lists(ITEMS, min_size=1, max_size=1) | st.just([SAMPLES, CLASS]))
def test_forget_and_retain_are_train_when_rows_go(requests: list[dict[str, Any]]) -> None:
    splits = loaded("toy-images")
    left, previous = whole(splits.train).index, None
    for request in requests:
        previous = resolve(request, splits, TASKS["classification"], previous)
        both = torch.cat([previous.forget.index, previous.retain.index])
        assert torch.equal(both.sort().values, left)
        left = previous.retain.index


@pytest.mark.parametrize("task", ["multi-label", "segmentation"])
@settings(max_examples=10, deadline=None)
@given(targets=st.permutations(["red", "green", "blue"]), how=st.sampled_from(["absent", "unknown"]))
def test_forget_and_retain_are_train_when_annotations_go(task: str, targets: list[str], how: str) -> None:
    splits = loaded("toy-scenes", task)
    before, previous = splits.train.y, None
    for target in targets[:2]:
        request = {"kind": "target", "targets": [target], "as": how}
        previous = resolve(request, splits, TASKS[task], previous)
        rows, only = previous.forget.index, previous.forget.data.y
        annotated = ~only.isnan() if only.is_floating_point() else only != MISSING
        missing = torch.ones(len(only), dtype=torch.bool)
        missing[rows] = False
        assert not bool(annotated[missing].any())
        after = previous.retain.data.y
        changed = (after != before) & ~(before.isnan() if before.is_floating_point() else before == MISSING)
        # Whatever the retain view lost about the target, the forget view holds; nothing else moved.
        column = splits.train.outputs.index(target)
        lost = changed[:, column] & (before[:, column] == 1) if task == "multi-label" else changed
        held = annotated[:, column] if task == "multi-label" else annotated
        assert torch.equal(lost, held)
        assert bool((only[annotated] == before[annotated]).all())
        if task == "multi-label":
            others = [k for k in range(3) if k != column]
            assert torch.equal(after[:, others].nan_to_num(-1), before[:, others].nan_to_num(-1))
        before = after


@settings(max_examples=25, deadline=None)
@given(st.lists(ELEMENTS, min_size=1, max_size=3))
def test_forget_and_retain_are_train_when_elements_of_a_graph_go(requests: list[dict[str, Any]]) -> None:
    splits = loaded("toy-graph")
    before, previous = splits.train, None
    for request in requests:
        previous = resolve(request, splits, TASKS["node-classification"], previous)
        after, elements = previous.retain.data, previous.forget.elements
        assert elements is not None
        assert before.edges is not None
        assert after.edges is not None
        if request["kind"] == "edges":
            both = torch.cat([after.edges, elements], 1).T.tolist()
            assert sorted(both) == sorted(before.edges.T.tolist())
        else:
            rows = torch.cat([previous.forget.index, previous.retain.index])
            assert torch.equal(rows.sort().values, whole(before).index)
            touching = torch.isin(before.edges, elements[0]).any(0)
            assert torch.equal(after.edges, before.edges[:, ~touching])
        before = after


def test_targets_are_judged_on_complete_annotations(tmp_path: Path) -> None:
    spec = scenes("identity", "multi-label", {"kind": "target", "targets": ["red"], "as": "unknown"})
    scene = new_stages(tmp_path).scene(spec)
    parts: Parts = scene.parts[0]
    assert bool(parts.retain.data.y[:, 0].isnan().all())
    for selection in parts.measured.values():
        assert not bool(selection.data.y[selection.index].isnan().any())


def test_a_graph_request_is_counted_as_the_nodes_that_it_touches(tmp_path: Path) -> None:
    part = new_stages(tmp_path).scene(graph("toy-witness", EDGES)).parts[0]
    meter = Meter()
    view = part.forget.view("forget", meter)
    assert view.elements is not None
    assert set(view.ids.tolist()) <= set(view.elements.flatten().tolist())
    view.tensors()
    assert meter.rows["forget"] == len(view)
