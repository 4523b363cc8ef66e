"""How much a target's output depends on each channel: gradients of all layers at once, from one backward pass.

f is what a convolution returns, before its norm and its activation. Importance alpha_l^k of channel k of layer l to a
target t is the mean over the places (i, j) of dY_t / df_l^k(i, j), Grad-CAM's weight (Selvaraju et al., 2017); the
score ``contribution`` is the mean of gradient times f, to first order what Y_t loses if the channel becomes 0. Y_t is
the task's ``target_score``. Values are signed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearnbench.api import CheckFailed, DataError, IncompatibleError
from unlearnbench.api.runtime import Batch, Task, View
from unlearnbench_essential_graph.plugin import Score
from unlearnbench_essential_graph.tracing import Structure, evaluating, observed, traced

SCAN_ROWS = 256
"""Rows that are looked through at once for instances of targets."""

MEMORY_BYTES = 2**30
"""Memory of the outputs of convolutions that are held at once, for their gradients."""


@dataclass(frozen=True)
class Importances:
    """The graphs of all targets: ``alpha`` [targets, channels] by layer, float64 on the CPU.

    Each instance's importances are divided by their L1 norm over the channels of the layer, then averaged over the
    instances. A target without an instance, and one that does not depend on the layer, has a row of zeros.
    ``instances`` says how many rows each target was found in; ``norms`` names the BatchNorm of a layer.
    """

    alpha: Mapping[str, Tensor]
    instances: tuple[int, ...]
    norms: Mapping[str, str]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.alpha)


def importances(model: nn.Module, task: Task, view: View, k: int, score: Score) -> Importances:
    """The importance of every channel to every target, over the first ``k`` rows of the view that carry the target.

    Layers are the convolutions on which any target's output depends, in the order of the modules, without prediction
    heads.

    Raises:
        DataError: no row carries any target.
        IncompatibleError: no output depends on a convolution that is not a head.
        CheckFailed: a gradient is not finite.
    """
    rows = first_rows(task, view, k)
    shown = next((target for target, found in enumerate(rows) if len(found)), None)
    if shown is None:
        raise DataError(
            "no-instance", "no training row shows any target, so nothing can be said about channels",
            where=view.name, hint="use data with annotations",
        )  # fmt: skip
    parts = _structure(model, task, view.take(rows[shown][:1]), shown)
    found: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for target, positions in enumerate(rows):
        for layer, alpha in _mean_importance(model, task, view, positions, target, parts.layers, score).items():
            found[layer][target] = alpha
    used = [layer for layer in parts.layers if layer in found]
    if not used:
        raise IncompatibleError(
            "incompatible", "no target's output depends on a convolution that is not a prediction head",
            where="$.model", hint="use a convolutional network",
        )  # fmt: skip
    alphas = {}
    for layer in used:
        nothing = torch.zeros_like(next(iter(found[layer].values())))
        alphas[layer] = torch.stack([found[layer].get(target, nothing) for target in range(len(rows))])
    return Importances(alphas, tuple(len(one) for one in rows), {k: v for k, v in parts.norms.items() if k in used})


def _structure(model: nn.Module, task: Task, row: Batch, target: int) -> Structure:
    """Layers and norms as a trace finds them, or else a real pass of a row that carries the target."""
    found = traced(model)
    if found is None:
        with evaluating(model):
            found = observed(model, lambda: task.target_score(model, row, target))
    return found


def live_layers(model: nn.Module, task: Task, shown: Sequence[tuple[int, Batch]]) -> tuple[str, ...]:
    """The layers that any of these targets depends on, in order; each target comes with a row that carries it."""
    if not shown:
        return ()
    target, row = shown[0]
    layers = _structure(model, task, row, target).layers
    used = {layer for target, row in shown for layer in row_importances(model, task, row, target, layers)}
    return tuple(layer for layer in layers if layer in used)


def first_rows(task: Task, view: View, k: int) -> list[Tensor]:
    """For each target the positions [<= k] of the first rows of the view that carry it, in order.

    Rows are read only as far as needed.
    """
    found: list[list[int]] = [[] for _ in view.outputs]
    passed = 0
    for batch in view.batches(SCAN_ROWS):
        for target, positions in enumerate(found):
            if len(positions) < k:
                carries, _ = task.split_target(batch.y, target)
                positions += (carries.nonzero().flatten()[: k - len(positions)] + passed).tolist()
        passed += len(batch.y)
        if all(len(positions) == k for positions in found):
            break
    return [torch.tensor(positions, dtype=torch.int64) for positions in found]


def row_importances(
    model: nn.Module, task: Task, batch: Batch, target: int, layers: Sequence[str], score: Score = "alpha"
) -> dict[str, Tensor]:
    """Importance of the channels of each layer to a target in each row [n, channels], float64 on the CPU.

    One forward and one backward pass for all rows and layers: rows do not depend on each other in evaluation mode. The
    batch holds only rows that carry the target. Layers that its output does not depend on are missing. Weights get no
    gradients and stay as they are.

    Raises:
        CheckFailed: a gradient is not finite.
    """
    return _row_importances(model, task, batch, target, layers, score)[0]


def _row_importances(
    model: nn.Module, task: Task, batch: Batch, target: int, layers: Sequence[str], score: Score
) -> tuple[dict[str, Tensor], int]:
    """The importances, and the bytes of the layers' outputs for all rows."""
    outputs: dict[str, list[Tensor]] = {layer: [] for layer in layers}

    def keep(layer: str, out: Tensor) -> Tensor:
        kept = out if out.requires_grad else out.detach().requires_grad_()
        outputs[layer].append(kept)
        return kept.clone()  # what comes next may change it in place

    handles = [
        model.get_submodule(layer).register_forward_hook(lambda m, inputs, out, layer=layer: keep(layer, out))
        for layer in layers
    ]
    try:
        with torch.enable_grad(), evaluating(model), _frozen(model):
            value = task.target_score(model, batch, target)
    finally:
        for handle in handles:
            handle.remove()
    if not value.requires_grad:
        return {}, 0
    flat = [(layer, out) for layer, calls in outputs.items() for out in calls]
    gradients = torch.autograd.grad(value, [out for _, out in flat], allow_unused=True)
    calls: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    for (layer, out), gradient in zip(flat, gradients, strict=True):
        if gradient is not None:
            calls[layer].append((gradient, out.detach()))
    found = {layer: _over_places(pairs, len(batch.y), score) for layer, pairs in calls.items()}
    for layer, alpha in found.items():
        if not bool(alpha.isfinite().all()):
            raise CheckFailed(
                "not-finite", f"the gradient of target {target} at {layer} is not finite", where="model",
                hint="the original model has diverged: lower its learning rate",
            )  # fmt: skip
    return found, sum(out.nbytes for _, out in flat)


def _over_places(calls: list[tuple[Tensor, Tensor]], rows: int, score: Score) -> Tensor:
    """Mean [rows, channels] over the places of the gradient, or of gradient times output.

    A layer that is called several times (a head on several scales) has the places of all calls.
    """
    sums, places = [], 0
    for gradient, out in calls:
        values = gradient * out if score == "contribution" else gradient
        sums.append(values.reshape(rows, values.shape[1], -1).sum(2, dtype=_widest(values)).cpu().double())
        places += values[0, 0].numel()
    return torch.stack(sums).sum(0) / places


def _widest(values: Tensor) -> torch.dtype:
    return torch.float32 if values.device.type == "mps" else torch.float64


def _mean_importance(
    model: nn.Module, task: Task, view: View, positions: Tensor, target: int, layers: Sequence[str], score: Score
) -> dict[str, Tensor]:
    """Mean over the rows of importances that are scaled to L1 norm 1 [channels] by layer."""
    total: dict[str, Tensor] = {}
    done, size = 0, 1  # the first row shows how much memory a row takes
    while done < len(positions):
        batch = view.take(positions[done : done + size])
        found, used = _row_importances(model, task, batch, target, layers, score)
        for layer, alpha in found.items():
            scaled = alpha / alpha.abs().sum(1, keepdim=True).clamp(min=torch.finfo(alpha.dtype).tiny)
            total[layer] = total.get(layer, 0) + scaled.sum(0)
        done += len(batch.y)
        size = max(1, MEMORY_BYTES * len(batch.y) // max(1, used))
    return {layer: value / len(positions) for layer, value in total.items()}


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients of weights, which nobody asks for."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
