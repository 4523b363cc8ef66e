"""Gradients of single rows: importances, Fisher diagonals and whatever else needs more than the gradient of a mean.

Three ways lead to the same numbers, and the first that serves a network is taken:

* ``closed``: linear layers, convolutions and BatchNorm have a closed form that does not form the gradients of rows;
* ``vmap``: ``torch.func`` maps one row's gradient over a chunk of rows;
* ``loop``: one row after the other, for networks that vmap cannot take and for the nodes of a graph.

A fast way has to agree with the loop on a few rows before it is used, so a network that calls a layer twice, shares a
weight or uses one outside of its layer gets another way instead of wrong numbers.

The network is in evaluation mode meanwhile: with batch statistics there is no gradient of a single row. Rows are taken
in the order of their ids and in chunks whose size follows from the network and a limit of memory, so results depend on
neither the order of a view nor the batch size of a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from unlearnbench.api.runtime.closed_form import (
    NoClosedForm,
    Terms,
    bytes_per_row,
    closed_layers,
    closed_sums,
    raised,
)
from unlearnbench.api.runtime.data import Batch, View
from unlearnbench.api.runtime.task import Task

RowLoss = Callable[[Tensor, Tensor], Tensor]
"""From outputs and annotations of rows to one number per row [n]."""

Labels = Literal["true", "expected"] | RowLoss
Way = Literal["closed", "vmap", "loop"]
Sums = dict[str, Tensor]

LIMIT_BYTES = 64 * 2**20
"""Memory for the gradients of a chunk; a chunk is at least one row, whose gradients must fit in any case."""

LARGEST = {"closed": 128, "vmap": 64, "one label": 256}
"""Rows in a chunk at most: larger ones fall out of the processor's caches and are slower."""

FEWEST = 4
"""Rows below which vmap costs more than it saves."""

PROBE = 3
"""Rows on which a fast way has to agree with the loop."""


def squared_gradients(
    model: nn.Module,
    task: Task,
    view: View,
    *,
    labels: Labels = "true",
    chunk: int | None = None,
    way: Way | None = None,
) -> dict[str, Tensor]:
    """Mean over the rows of the squared gradient of each row's loss, by the name of the parameter.

    ``labels="true"`` takes the loss of the row's annotation (the empirical Fisher diagonal), ``"expected"`` the
    expectation over labels drawn from the model's own distribution (the Fisher diagonal; see ``Task.expected``), and a
    function of outputs and annotations takes what it returns per row as the loss. ``chunk`` and ``way`` are chosen
    if not given.
    """
    return _mean(model, task, view, labels, 2, chunk, way)


def absolute_gradients(
    model: nn.Module,
    task: Task,
    view: View,
    *,
    labels: Literal["true"] | RowLoss = "true",
    chunk: int | None = None,
    way: Way | None = None,
) -> dict[str, Tensor]:
    """Mean over the rows of the absolute gradient of each row's loss; otherwise as ``squared_gradients``."""
    return _mean(model, task, view, labels, 1, chunk, way)


def per_sample_gradients(
    model: nn.Module,
    task: Task,
    view: View,
    *,
    labels: Literal["true"] | RowLoss = "true",
    chunk: int | None = None,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield the ids of a chunk of rows [n] and the gradients of their losses, [n, ...] by the name of the parameter."""
    rows, terms = _rows(view), _terms(task, labels)
    with _evaluation(model):
        mapped = _agrees(model, task, rows, terms, _mapped, 2)
    for batch in rows.batches(chunk or _vmap_chunk(model, LARGEST["one label"])):
        with _evaluation(model):
            if mapped:
                found = vmap(partial(_row_gradients, model, task, terms))(*batch[:3])
            else:
                single = [dict(grads) for grads, _ in _one_by_one(model, task, batch, terms)]
                found = {name: torch.stack([grads[name] for grads in single]) for name in single[0]}
        yield batch.ids, found


def _mean(
    model: nn.Module, task: Task, view: View, labels: Labels, power: int, chunk: int | None, way: Way | None
) -> dict[str, Tensor]:
    rows, terms = _rows(view), _terms(task, labels)
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    with _evaluation(model):
        sums, largest = _choose(model, task, rows, terms, power, way)
        for batch in rows.batches(chunk or largest):
            for name, value in sums(batch, terms).items():
                total[name] += value
    return {name: value / len(rows) for name, value in total.items()}


def _rows(view: View) -> View:
    if not len(view):
        raise ValueError(f"the {view.name} view has no rows, so there is no mean over them")
    return view.where(view.ids.argsort())


def _terms(task: Task, labels: Labels) -> Terms:
    if labels == "expected":
        return task.expected
    losses = task.losses if labels == "true" else labels

    def one(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        value = losses(out, y)[:, None]
        return value, torch.ones_like(value)

    return one


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with every parameter differentiable; modes and flags are restored, gradients never written."""
    modes = {module: module.training for module in model.modules()}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.eval()
    model.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, required in flags.items():
            parameter.requires_grad_(required)


# --- which way ------------------------------------------------------------------------------------------------------


def _choose(
    model: nn.Module, task: Task, rows: View, terms: Terms, power: int, way: Way | None
) -> tuple[Callable[[Batch, Terms], Sums], int]:
    """The way, asked for or the fastest that serves, and the rows of its chunks."""
    loop = partial(_looped, model, task, power), LARGEST["closed"]
    if way == "loop" or (rows.is_graph and way is None):
        return loop
    layers = closed_layers(model) if way != "vmap" and not rows.is_graph else None
    if layers is not None:
        closed = partial(_closed, layers)
        if _agrees(model, task, rows, terms, closed, power):
            probe = _probe(rows)
            needed = bytes_per_row(layers, partial(task.outputs, model, probe), len(probe.y))
            return partial(closed, model, task, power), max(1, min(LARGEST["closed"], LIMIT_BYTES // max(1, needed)))
    chunk = _vmap_chunk(model, LARGEST["vmap" if terms == task.expected else "one label"])
    if (way == "vmap" or (way is None and chunk >= FEWEST)) and _agrees(model, task, rows, terms, _mapped, power):
        return partial(_mapped, model, task, power), chunk
    if way is not None:
        raise ValueError(f"this network has no way {way!r}")
    return loop


def _vmap_chunk(model: nn.Module, largest: int) -> int:
    """Rows whose gradients, with their powers and the sum over labels, fit into the limit."""
    needed = 3 * sum(parameter.nbytes for parameter in model.parameters())
    return max(1, min(largest, LIMIT_BYTES // max(1, needed)))


def _probe(rows: View) -> Batch:
    return rows.take(torch.arange(min(PROBE, len(rows))))


def _agrees(model: nn.Module, task: Task, rows: View, terms: Terms, fast: Callable[..., Sums], power: int) -> bool:
    """Whether a fast way serves the network, its losses included, and gives what the loop gives on a few rows.

    The comparison is of a fixed projection of the outputs: gradients of losses can be all but zero, so that rounding
    would decide.
    """
    if rows.is_graph:
        return False
    probe = _probe(rows)
    try:
        found = fast(model, task, power, probe, partial(_with_losses, terms))
    except (NoClosedForm, RuntimeError, ValueError, TypeError):  # whatever is wrong with the network, the loop tells
        return False
    wanted = _looped(model, task, power, probe, _projection)
    return all(_close(found.get(name, torch.zeros_like(value)), value) for name, value in wanted.items())


def _projection(out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    flat = out.reshape(len(out), -1)
    factors = torch.arange(1, flat.shape[1] + 1, device=out.device, dtype=out.dtype).sin()
    return (flat * factors).sum(1, keepdim=True), torch.ones_like(flat[:, :1])


def _with_losses(terms: Terms, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The projection, with the losses computed and differentiated but without a part in it."""
    projected, weights = _projection(out, y)
    return projected + 0 * terms(out, y)[0].sum(1, keepdim=True), weights


def _close(found: Tensor, wanted: Tensor) -> bool:
    tolerance = torch.finfo(wanted.dtype).eps ** 0.4 * wanted.abs().max()
    return bool((found - wanted).abs().max() <= tolerance)


# --- the ways: the sum over rows and labels of weight * |gradient|^power --------------------------------------------


def _closed(layers: dict[nn.Module, str], model: nn.Module, task: Task, power: int, batch: Batch, terms: Terms) -> Sums:
    return closed_sums(layers, partial(task.outputs, model, batch), batch.y, terms, power)


def _mapped(model: nn.Module, task: Task, power: int, batch: Batch, terms: Terms) -> Sums:
    if terms != task.expected:  # one value per row: what comes out of vmap is ours to change in place
        found = vmap(partial(_row_gradients, model, task, terms))(*batch[:3])
        return {name: (g.square_() if power == 2 else g.abs_()).sum(0) for name, g in found.items()}

    def row(x: Tensor, y: Tensor, ids: Tensor) -> Sums:
        _, back, weights = _row_values(model, task, terms, x, y, ids)
        total: Sums = {}
        for chosen in torch.diag(weights.sqrt()):  # scaled gradients: their squares are weighted
            (grads,) = back(chosen)
            for name, g in grads.items():
                total[name] = torch.addcmul(total[name], g, g) if name in total else g.square()
        return total

    return {name: value.sum(0) for name, value in vmap(row)(*batch[:3]).items()}


def _row_gradients(model: nn.Module, task: Task, terms: Terms, x: Tensor, y: Tensor, ids: Tensor) -> Sums:
    """The gradients of one row's loss."""
    values, back, _ = _row_values(model, task, terms, x, y, ids)
    (grads,) = back(torch.ones_like(values))
    return cast(Sums, grads)


def _row_values(model: nn.Module, task: Task, terms: Terms, x: Tensor, y: Tensor, ids: Tensor) -> tuple[Any, ...]:
    """Values [k] of one row, the function that differentiates them by the parameters, and their weights [k]."""

    def values(parameters: Sums) -> tuple[Tensor, Tensor]:
        bound = cast(nn.Module, lambda *inputs: functional_call(model, parameters, inputs))
        value, weights = terms(task.outputs(bound, Batch(x[None], y[None], ids[None])), y[None])
        return value[0], weights[0]

    return vjp(values, {name: p.detach() for name, p in model.named_parameters()}, has_aux=True)


def _looped(model: nn.Module, task: Task, power: int, batch: Batch, terms: Terms) -> Sums:
    total: Sums = {}
    for grads, weight in _one_by_one(model, task, batch, terms):
        for name, grad in grads:
            part = weight * raised(grad, power)
            total[name] = total[name] + part if name in total else part
    return total


def _one_by_one(
    model: nn.Module, task: Task, batch: Batch, terms: Terms
) -> Iterator[tuple[Iterator[tuple[str, Tensor]], Tensor]]:
    """Yield for each row and each of its values the gradients by name, and the weight."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    graph = task.outputs(model, batch) if batch.rows is not None else None
    for row in range(len(batch.y)):
        part = slice(row, row + 1)
        one = Batch(*(column[part] for column in batch[:3])) if graph is None else batch
        out = task.outputs(model, one) if graph is None else graph[part]
        values, weights = terms(out, batch.y[part])
        for value, weight in zip(values[0], weights[0], strict=True):
            grads = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            yield zip(names, grads, strict=True), weight
