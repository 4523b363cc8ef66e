"""Requests: from what is to be forgotten to the views that unlearners and measures get.

A description (JSON, ``schemas/request.json``) is resolved against the data to ``Parts``. Three levels differ in what is
taken away: whole rows (samples, class, group), annotations (target), or elements of a graph (nodes, edges, features).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, Data, Request, Splits, Task, derive_seed, generator
from unlearnbench.cascade import cut
from unlearnbench.graph_requests import resolve_elements
from unlearnbench.identity import digest
from unlearnbench.levels import LEVELS
from unlearnbench.listed import ids_in
from unlearnbench.partitions import GOAL
from unlearnbench.parts import Parts, Selection, check_parts, whole
from unlearnbench.selectors import (
    amount,
    class_positions,
    drawn,
    in_classes,
    in_group,
    output_position,
    seeded,
    with_ids,
)


def carve_validation(splits: Splits, fraction: float, seed: int, task: Task) -> Splits:
    """Take a seeded share of the training rows as validation rows, unless the data set brings its own."""
    if splits.validation is not None or not fraction:
        return splits
    train = splits.train
    rows = whole(train).index
    order = rows[torch.randperm(len(rows), generator=generator(derive_seed(seed, "validation")))]
    n = max(1, round(fraction * len(rows)))
    held, kept = order[:n].sort().values, order[n:].sort().values
    if train.edges is None:
        return replace(splits, train=train.rows(kept), validation=train.rows(held))
    y_train, y_held = train.y.clone(), torch.full_like(train.y, MISSING)
    y_train[held], y_held[held] = MISSING, train.y[held]
    return replace(splits, train=train.changed(y=y_train), validation=train.changed(y=y_held))


def resolve(
    description: Mapping[str, Any],
    splits: Splits,
    task: Task,
    previous: Parts | None = None,
    base: Path | None = None,
) -> Parts:
    """Resolve a request against the data, after the requests that were served before.

    Raises:
        UsageError: a value out of range, an unknown class, column or target.
        DataError: ids or edges that are not in the data, nothing selected, nothing left to retain.
    """
    level = LEVELS[description["kind"]]
    if previous is not None and level != LEVELS[previous.request.kind] and splits.train.edges is not None:
        kinds = f"{previous.request.kind} and then {description['kind']}"
        raise UsageError("bad-request", f"{kinds}: only nodes, edges and features can follow each other on a graph",
                         where="$.request.kind", hint="make it another run")  # fmt: skip
    if level == "annotations":
        return _annotations(description, splits, task, previous)
    if level == "elements":
        return resolve_elements(description, splits, previous, base)
    return _items(description, splits, previous, base)


def _items(description: Mapping[str, Any], splits: Splits, previous: Parts | None, base: Path | None) -> Parts:
    train, test = splits.train, splits.test
    # An earlier request for a target changed the annotations, and they stay changed.
    current = previous.retain.data if previous else train
    unseen = splits.holdout or test
    rows = previous.retain.index if previous else whole(train).index
    choice = _choose(description, train, rows, base)
    chosen, classes = choice.rows, choice.classes
    kept = rows[~torch.isin(rows, chosen)]
    check_parts(len(chosen), len(kept), description)
    gone = previous.measured["forget"].index if previous else chosen[:0]
    forgotten = torch.cat([gone, chosen[~torch.isin(chosen, gone)]])
    still = previous.measured["test"].index if previous else whole(test).index
    if description["kind"] == "samples":
        test_rows = still
        pool = still if unseen is test else whole(unseen).index
        holdout = matched(train.y[forgotten], unseen.y[pool], pool, seeded(_seed_holder(description), "holdout"))
    else:
        test_rows = still[~_same_kind(description, test, classes)[still]]
        alike = _same_kind(description, unseen, classes).nonzero()[:, 0]
        before = previous.measured["holdout"].index if previous else alike[:0]
        holdout = torch.cat([before, alike[~torch.isin(alike, before)]])
        if unseen is test:  # rows that stand for forgotten samples of an earlier request were test rows until now
            test_rows = test_rows[~torch.isin(test_rows, holdout)]
    request = Request(
        kind=description["kind"],
        digest=digest({"forget": train.ids[chosen].tolist(), "data": current.digest()}),
        classes=classes,
        earlier=_taken_targets(previous),
    )
    measured = {
        "forget": Selection(train, forgotten),
        "retain": Selection(train, kept[~torch.isin(kept, forgotten)]),
        "test": Selection(test, test_rows),
        "holdout": Selection(unseen, holdout),
    }
    return Parts(request, Selection(current, chosen), Selection(current, kept), measured, choice.cascade)


class _Chosen(NamedTuple):
    """The rows that a request chooses; the classes that it names, and the sizes of the parts of its cascade."""

    rows: Tensor
    classes: tuple[int, ...] = ()
    cascade: tuple[tuple[str, int], ...] = ()


def _choose(description: Mapping[str, Any], train: Data, rows: Tensor, base: Path | None) -> _Chosen:
    kind = description["kind"]
    if kind == "class":
        classes = class_positions(description["classes"], train)
        return _Chosen(rows[in_classes(classes, train, rows)], classes)
    if kind == "group":
        return _Chosen(rows[in_group(description["column"], description["values"], train, rows)])
    if "partition" in description:
        parts = cut(description["partition"], train, rows)
        return _Chosen(parts[GOAL], cascade=tuple((name, len(part)) for name, part in parts.items()))
    if "file" in description or "ids" in description:
        wanted = ids_in(description["file"], base) if "file" in description else list(description["ids"])
        return _Chosen(with_ids(wanted, train, rows))
    n = amount(description, len(train))
    if n > len(rows):
        raise DataError("empty-retain-set", f"asks for {n} of {len(rows)} rows", where="$.request.count",
                        hint="forget fewer rows")  # fmt: skip
    return _Chosen(drawn(description, train, rows, n))


def _same_kind(description: Mapping[str, Any], test: Data, classes: tuple[int, ...]) -> Tensor:
    everything = torch.arange(len(test))
    if description["kind"] == "class":
        return in_classes(classes, test, everything)
    return in_group(description["column"], description["values"], test, everything)


def _seed_holder(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """What says the seed of the hold-out: the request, or the step of its cascade that makes the forget set."""
    for step in description.get("partition", ()):
        if GOAL in (step["name"], step.get("rest")):
            return dict(step)
    return description


def matched(y: Tensor, pool_y: Tensor, pool: Tensor, rng: Generator) -> Tensor:
    """Rows of ``pool`` with the class proportions of ``y``, as many as there are of each, for a fair comparison."""
    shuffled = torch.randperm(len(pool), generator=rng)
    if y.ndim != 1 or y.is_floating_point():
        return pool[shuffled[: len(y)]].sort().values
    picked = []
    for value, wanted in zip(*y.unique(return_counts=True), strict=True):
        picked.append(pool[shuffled[pool_y[shuffled] == value][: int(wanted)]])
    return torch.cat(picked).sort().values if picked else pool[:0]


def _annotations(description: Mapping[str, Any], splits: Splits, task: Task, previous: Parts | None) -> Parts:
    """The target's cells are forgotten, the rows stay; as ``images``, the rows that carry it go as a whole.

    Measures see complete annotations of everything.
    """
    train, test = splits.train, splits.test
    unseen = splits.holdout or test
    current = previous.retain.data if previous else train
    rows = previous.retain.index if previous else whole(train).index
    names = tuple(str(t) for t in description["targets"])
    targets = tuple(dict.fromkeys(output_position(name, train.outputs, "target") for name in names))
    how = description.get("as", "absent")
    carries = torch.zeros(len(train), dtype=torch.bool)
    only, left = None, current.y
    for target in targets:
        of_target, cells = task.split_target(current.y, target)
        part = torch.full_like(current.y, torch.nan if current.y.is_floating_point() else MISSING)
        part[of_target] = cells
        only = part if only is None else torch.where(part.isnan() | (part == MISSING), only, part)
        carries |= of_target
        left = left if how == "images" else task.erase(left, target, how)
    index = rows[carries[rows]]
    if only is None or not len(index):
        raise DataError("empty-forget-set", f"no training row carries {', '.join(names)}", where="$.request.targets",
                        hint="name targets that are there")  # fmt: skip
    if how == "images":
        forget, retain = Selection(current, index), Selection(current, rows[~carries[rows]])
    else:
        # A row without any annotation left teaches nothing (and a batch of such rows has no loss).
        forget = Selection(replace(current, y=only), index)
        retain = Selection(replace(current, y=left), rows[task.annotated(left)[rows]])
    if not len(retain):
        raise DataError("empty-retain-set", f"every training row carries {', '.join(names)} or nothing else",
                        where="$.request", hint="ask for absent, which keeps the rows")  # fmt: skip
    request = Request(
        kind="target",
        digest=digest({"targets": list(names), "as": how, "data": current.digest()}),
        targets=targets,
        earlier=_taken_targets(previous),
    )
    before = previous.measured["forget"].index if previous else index[:0]
    rows_so_far = torch.cat([before, index]).unique()
    everything = whole(train).index
    holdout = _carrying(task, unseen, targets)
    if previous:
        holdout = torch.cat([previous.measured["holdout"].index, holdout]).unique()
    measured = {
        "forget": Selection(train, rows_so_far),
        "retain": Selection(train, everything[~torch.isin(everything, rows_so_far)]),
        "test": previous.measured["test"] if previous else whole(test),
        "holdout": Selection(unseen, holdout),
    }
    return Parts(request, forget, retain, measured)


def _taken_targets(previous: Parts | None) -> tuple[int, ...]:
    """Targets that the requests of a stream took away so far."""
    if previous is None:
        return ()
    return tuple(dict.fromkeys((*previous.request.earlier, *previous.request.targets)))


def _carrying(task: Task, data: Data, targets: tuple[int, ...]) -> Tensor:
    found = torch.zeros(len(data), dtype=torch.bool)
    for target in targets:
        found |= task.split_target(data.y, target)[0]
    return found.nonzero()[:, 0]
