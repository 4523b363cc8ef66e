"""Selective synaptic dampening, with the adaptive (ASSD) and the label-free form (LFSSD).

Source: Foster, Schoepf and Brintrup, "Fast Machine Unlearning Without Retraining Through Selective Synaptic
Dampening", AAAI 2024 (arXiv 2308.07707). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import (
    Component,
    Detection,
    Detector,
    PrepareJob,
    Result,
    State,
    Task,
    UnlearnJob,
    View,
    absolute_gradients,
    finish,
    present,
    squared_gradients,
)
from unlearnbench_ssd.plugin import SsdParams

Importance = dict[str, Tensor]


class Ssd(Component[SsdParams]):
    """The importance to all data is computed once; each request costs the importance to its forget set."""

    def check(self, model: nn.Module, task: Task) -> str | None:
        if isinstance(task, Detection) and self.p.importance == "label-free":
            return "importance=label-free needs outputs that no annotation enters, and those of a detector are losses"
        return None

    def prepare(self, job: PrepareJob) -> State:
        found = importance(finish(job.model), job.task, job.data, self.p)
        return State(tensors=found, meta={"rows": len(job.data)})

    @torch.no_grad()
    def unlearn(self, job: UnlearnJob) -> Result:
        model, p = finish(job.model), self.p
        to_all = {name: value.to(job.device) for name, value in job.state.tensors.items()}
        # Rows that stay among the retain rows are forgotten in part: only the target's cells are annotated in them.
        whole = not bool(torch.isin(job.forget.ids, job.retain.ids).any())
        to_forget = (importance if whole else importance_to_cells)(model, job.task, job.forget, p)
        rows, forgotten = job.state.meta["rows"], len(job.forget)
        alpha = p.alpha if p.selection == "fixed" else adaptive_alpha(to_forget, to_all, forgotten / rows)
        dampened = 0
        for name, weight in model.named_parameters():
            selected = to_forget[name] > alpha * to_all[name]
            beta = (p.dampening * to_all[name] / to_forget[name]).clamp(max=1)  # 0 / 0 is never selected
            weight.copy_(torch.where(selected, beta * weight, weight))
            dampened += int(selected.sum())
        return Result(
            model=model,
            artifacts={"alpha": alpha, "selected": dampened},
            warnings=warnings(p, rows, forgotten, dampened, whole=whole),
        )


def importance(model: nn.Module, task: Task, view: View, p: SsdParams) -> Importance:
    """How much the outputs or the loss on these rows depend on each weight."""
    if p.importance == "label-free":
        return absolute_gradients(model, task, view, labels=squared_norm)
    if p.importance == "batch":
        return batch_importance(model, task, view, p.batch_size)
    return squared_gradients(model, task, view)


def importance_to_cells(model: nn.Module, task: Task, view: View, p: SsdParams) -> Importance:
    """The same on rows of which only some cells are annotated, and nothing is said of the others."""
    if not isinstance(task, Detection):
        return importance(model, task, view, p)  # the loss leaves out what is not annotated
    found = importance(Boxes(model), task, view, p)
    return {name.removeprefix("detector."): value for name, value in found.items()}


class Boxes(nn.Module):
    """A detector whose loss of an image is about its annotated boxes alone.

    It is the mean over the boxes of -log p of their class at their place. The detector's own loss takes what has no box
    for background: with the target's boxes alone it would be about everything else in the image.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        scores, there = cast(Detector, self.detector).class_scores(x, y), present(y)
        own = scores.gather(2, y[..., 4:].nan_to_num().long())[..., 0]
        return -(own * there).sum(1) / there.sum(1).clamp(min=1)


def squared_norm(out: Tensor, y: Tensor) -> Tensor:
    """||z||^2 of each row's outputs; needs no label."""
    return out.flatten(1).square().sum(1)


@torch.enable_grad()
def batch_importance(model: nn.Module, task: Task, view: View, batch_size: int) -> Importance:
    """Mean over batches of the squared gradient of the batch's mean loss: what published numbers come from."""
    names, weights = zip(*model.named_parameters(), strict=True)
    total = [torch.zeros_like(weight) for weight in weights]
    batches = 0
    for batch in view.where(view.ids.argsort()).batches(batch_size):
        loss = task.loss(task.outputs(model, batch), batch.y)
        for so_far, grad in zip(total, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
            so_far += grad.square()
        batches += 1
    return {name: value / batches for name, value in zip(names, total, strict=True)}


def adaptive_alpha(to_forget: Importance, to_all: Importance, share: float) -> float:
    """The percentile P = 100 - ln(1 + 100 |D_f|/|D|) of I_f / I_D, where I_D is not 0."""
    ratios = torch.cat([(to_forget[name] / to_all[name])[to_all[name] > 0] for name in to_all])
    if not len(ratios):
        return 0.0
    place = (1 - math.log1p(100 * share) / 100) * (len(ratios) - 1)
    low, high = ratios.sort().values[[math.floor(place), math.ceil(place)]].double().tolist()
    return float(low + (place - math.floor(place)) * (high - low))


def warnings(p: SsdParams, rows: int, forgotten: int, dampened: int, *, whole: bool) -> tuple[str, ...]:
    """What a reader of the record must know about a selection that cannot be, or is, empty.

    The bound holds where both importances are means over rows of the same quantity.
    """
    found = []
    bounded = p.importance == "label-free" or (p.importance == "per-sample" and whole)
    if p.selection == "fixed" and bounded and p.alpha * forgotten >= rows:
        found.append(
            f"alpha {p.alpha:g} is at least |D|/|D_f| = {rows / forgotten:.2f}: it selects nothing, because no weight "
            "can matter more to a part of the data than to all of it by more than that"
        )
    if not dampened:
        found.append("no weight was selected: the model is the original")
    return tuple(found)
