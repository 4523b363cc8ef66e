"""Requests: from what is to be forgotten to the views that unlearners and measures get.

A description (JSON, ``schemas/request.json``) is resolved against the data to ``Parts``. Three levels differ in what is
taken away: whole rows (samples, class, group), annotations (target), or elements of a graph (nodes, edges, features).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.api.runtime import MISSING, Data, Request, Splits, Task, derive_seed, generator
from unlearnbench.graph_requests import resolve_elements
from unlearnbench.identity import digest
from unlearnbench.levels import LEVELS
from unlearnbench.parts import Parts, Selection, check_parts, whole
from unlearnbench.registry import unknown


def carve_validation(splits: Splits, fraction: float, seed: int, task: Task) -> Splits:
    """Take a seeded share of the training rows as validation rows, unless the data set brings its own."""
    if splits.validation is not None or not fraction:
        return splits
    train = splits.train
    order = torch.randperm(len(train), generator=generator(derive_seed(seed, "validation")))
    n = max(1, round(fraction * len(train)))
    held, kept = order[:n].sort().values, order[n:].sort().values
    if train.edges is None:
        return replace(splits, train=train.rows(kept), validation=train.rows(held))
    y_train, y_held = train.y.clone(), torch.full_like(train.y, MISSING)
    y_train[held], y_held[held] = MISSING, train.y[held]
    return replace(splits, train=replace(train, y=y_train), validation=replace(train, y=y_held))


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
        DataError: ids that are not in the data, nothing selected, nothing left to retain.
    """
    level = LEVELS[description["kind"]]
    if level == "annotations":
        return _annotations(description, splits, task, previous)
    if level == "elements":
        return resolve_elements(description, splits, previous)
    return _items(description, splits, previous, base)


def _items(description: Mapping[str, Any], splits: Splits, previous: Parts | None, base: Path | None) -> Parts:
    train, test = splits.train, splits.test
    rows = previous.retain.index if previous else whole(train).index
    chosen, classes = _choose(description, train, rows, base)
    kept = rows[~torch.isin(rows, chosen)]
    check_parts(len(chosen), len(kept), description)
    forgotten = torch.cat([previous.measured["forget"].index, chosen]) if previous else chosen
    still = previous.measured["test"].index if previous else whole(test).index
    if description["kind"] == "samples":
        test_rows = still
        holdout = matched(train.y[forgotten], test.y[still], still, _rng(description, "holdout"))
    else:
        gone = _same_kind(description, test, classes)[still]
        test_rows = still[~gone]
        before = previous.measured["holdout"].index if previous else still[:0]
        holdout = torch.cat([before, still[gone]])
    request = Request(
        kind=description["kind"],
        digest=digest({"forget": train.ids[chosen].tolist(), "data": train.digest()}),
        classes=classes,
    )
    retain = Selection(train, kept)
    measured = {
        "forget": Selection(train, forgotten),
        "retain": retain,
        "test": Selection(test, test_rows),
        "holdout": Selection(test, holdout),
    }
    return Parts(request, Selection(train, chosen), retain, measured)


def _choose(
    description: Mapping[str, Any], train: Data, rows: Tensor, base: Path | None
) -> tuple[Tensor, tuple[int, ...]]:
    kind = description["kind"]
    if kind == "class":
        classes = tuple(output_position(str(name), train.outputs, "class") for name in description["classes"])
        return rows[torch.isin(train.y[rows], torch.tensor(classes))], classes
    if kind == "group":
        codes = _group_codes(description, train)
        return rows[torch.isin(train.columns[description["column"]][rows], codes)], ()
    if "file" in description or "ids" in description:
        wanted = _ids_from_file(description["file"], base) if "file" in description else list(description["ids"])
        return _rows_of_ids(wanted, train, rows), ()
    n = description["count"] if "count" in description else round(description["fraction"] * len(train))
    if "fraction" in description:
        n = max(1, n)
    if n > len(rows):
        raise DataError("empty-retain-set", f"asks for {n} of {len(rows)} rows", where="$.request.count",
                        hint="forget fewer rows")  # fmt: skip
    rng = _rng(description, "samples")
    if description.get("stratified"):
        return _stratified(train.y[rows], rows, n, rng), ()
    return rows[torch.randperm(len(rows), generator=rng)[:n]].sort().values, ()


def output_position(name: str, outputs: tuple[str, ...], word: str) -> int:
    """Position of a class or target given by name, or by its position where no name is a number.

    Raises:
        UsageError: no such name or position.
    """
    if name in outputs:
        return outputs.index(name)
    if name.isdecimal() and int(name) < len(outputs) and not any(known.isdecimal() for known in outputs):
        return int(name)
    raise unknown(word, name, outputs, where="$.request")


def _group_codes(description: Mapping[str, Any], data: Data) -> Tensor:
    column = description["column"]
    if column not in data.columns:
        raise unknown("column", column, data.columns, where="$.request.column")
    names = data.values.get(column)
    codes = []
    for value in description["values"]:
        if names is not None:
            if str(value) not in names:
                raise unknown("group value", str(value), names, where="$.request.values")
            codes.append(names.index(str(value)))
        elif isinstance(value, int):
            codes.append(value)
        else:
            raise UsageError("bad-parameter", f"{value!r} is not an integer", where="$.request.values")
    return torch.tensor(codes)


def _same_kind(description: Mapping[str, Any], test: Data, classes: tuple[int, ...]) -> Tensor:
    if description["kind"] == "class":
        return torch.isin(test.y, torch.tensor(classes))
    return torch.isin(test.columns[description["column"]], _group_codes(description, test))


def _ids_from_file(name: str, base: Path | None) -> list[int]:
    path = (base or Path()) / name
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as problem:
        cause = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise DataError("missing-file", f"cannot read {name}: {cause}", where="$.request.file",
                        hint="check the path")  from problem  # fmt: skip
    try:
        return [int(line) for line in lines]
    except ValueError as problem:
        raise DataError("bad-ids", f"{problem}", where=name, hint="one whole number in a line") from problem


def _rows_of_ids(wanted: list[int], train: Data, rows: Tensor) -> Tensor:
    position = dict(zip(train.ids[rows].tolist(), rows.tolist(), strict=True))
    repeated = sorted(i for i, n in Counter(wanted).items() if n > 1)
    missing = sorted({i for i in wanted if i not in position})
    problems = []
    if missing:
        problems.append(f"{missing[:5]} are not ids of training rows, which lie in {min(position)} to {max(position)}")
    if repeated:
        problems.append(f"{repeated[:5]} are named more than once")
    if problems:
        raise DataError(
            "unknown-ids" if missing else "duplicate-ids", " and ".join(problems), where="$.request.ids",
            hint="name each id once; test rows and rows that are forgotten already cannot be forgotten",
        )  # fmt: skip
    return torch.tensor(sorted(position[i] for i in wanted), dtype=torch.int64)


def _stratified(y: Tensor, rows: Tensor, n: int, rng: Generator) -> Tensor:
    """``n`` rows whose classes are in proportion: whole shares first, then the largest remainders."""
    if y.ndim != 1 or y.is_floating_point():
        raise UsageError("bad-parameter", "stratified needs one class per row", where="$.request.stratified")
    shuffled = rows[torch.randperm(len(rows), generator=rng)]
    order = y[torch.searchsorted(rows, shuffled)]
    classes, counts = order.unique(return_counts=True)
    exact = counts.double() * n / len(rows)
    take = exact.floor().long()
    for k in (exact - take).argsort(descending=True)[: n - int(take.sum())]:
        take[k] += 1
    picked = [shuffled[order == c][:t] for c, t in zip(classes, take, strict=True)]
    return torch.cat(picked).sort().values


def matched(y: Tensor, pool_y: Tensor, pool: Tensor, rng: Generator) -> Tensor:
    """Rows of ``pool`` with the class proportions of ``y``, as many as there are of each, for a fair comparison."""
    shuffled = torch.randperm(len(pool), generator=rng)
    if y.ndim != 1 or y.is_floating_point():
        return pool[shuffled[: len(y)]].sort().values
    picked = []
    for value, wanted in zip(*y.unique(return_counts=True), strict=True):
        picked.append(pool[shuffled[pool_y[shuffled] == value][: int(wanted)]])
    return torch.cat(picked).sort().values if picked else pool[:0]


def _rng(description: Mapping[str, Any], purpose: str) -> Generator:
    return generator(derive_seed(int(description.get("seed", 0)), "request", purpose))


def _annotations(description: Mapping[str, Any], splits: Splits, task: Task, previous: Parts | None) -> Parts:
    """The target's cells are forgotten; the rows stay. Measures see complete annotations of everything."""
    train, test = splits.train, splits.test
    current = previous.retain.data if previous else train
    names = tuple(str(t) for t in description["targets"])
    targets = tuple(output_position(name, train.outputs, "target") for name in names)
    how = description.get("as", "absent")
    if how not in ("absent", "unknown"):
        raise UsageError("bad-parameter", f"{how!r} is neither absent nor unknown", where="$.request.as")
    carries = torch.zeros(len(train), dtype=torch.bool)
    only, left = None, current.y
    for target in targets:
        rows, cells = task.split_target(current.y, target)
        part = torch.full_like(current.y, torch.nan if current.y.is_floating_point() else MISSING)
        part[rows] = cells
        only = part if only is None else torch.where(part.isnan() | (part == MISSING), only, part)
        carries |= rows
        left = task.erase(left, target, how)
    if only is None or not carries.any():
        raise DataError("empty-forget-set", f"no training row carries {', '.join(names)}", where="$.request.targets")
    index = carries.nonzero()[:, 0]
    request = Request(
        kind="target",
        digest=digest({"targets": list(names), "as": how, "data": current.digest()}),
        targets=targets,
    )
    before = previous.measured["forget"].index if previous else index[:0]
    rows_so_far = torch.cat([before, index]).unique()
    everything = whole(train).index
    measured = {
        "forget": Selection(train, rows_so_far),
        "retain": Selection(train, everything[~torch.isin(everything, rows_so_far)]),
        "test": whole(test),
        "holdout": Selection(test, _carrying(task, test, targets)),
    }
    # A row without any annotation left teaches nothing (and a batch of such rows has no loss).
    annotated = (~(left.isnan() | (left == MISSING))).reshape(len(left), -1).any(1)
    retain = Selection(replace(current, y=left), annotated.nonzero()[:, 0])
    return Parts(request, Selection(replace(current, y=only), index), retain, measured)


def _carrying(task: Task, data: Data, targets: tuple[int, ...]) -> Tensor:
    found = torch.zeros(len(data), dtype=torch.bool)
    for target in targets:
        found |= task.split_target(data.y, target)[0]
    return found.nonzero()[:, 0]
