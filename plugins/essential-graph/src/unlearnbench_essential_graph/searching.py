"""Choosing sigma and delta on validation rows: the smallest pruned set that forgets and does no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import DataError, IncompatibleError
from unlearnbench.api.runtime import Task, UnlearnJob, predict
from unlearnbench_essential_graph.layers import too_few
from unlearnbench_essential_graph.plugin import EssentialGraphParams
from unlearnbench_essential_graph.pruning import prune

SCORES = {
    "classification": ("accuracy", "class"),
    "multi-label": ("recall", "target"),
    "segmentation": ("iou", "target"),
    "detection": ("recall", "target"),
}
"""The metric of a task that says how well a target is known, and the coordinate that names the target."""

Drop = Mapping[str, Tensor]


@dataclass(frozen=True)
class Tried:
    """A setting: how many channels it prunes, the largest score of a forgotten target and the mean loss of the others.

    Scores are between 0 and 1, taken right after pruning and before any recovery.
    """

    sigma: int
    delta: float
    pruned: int
    forgotten: float
    drop: float


@dataclass(frozen=True)
class Search:
    """What was chosen, whether it meets both bounds, and all that was tried."""

    chosen: Tried
    qualified: bool
    tried: tuple[Tried, ...]

    def to_json(self) -> dict[str, Any]:
        chosen = {"sigma": self.chosen.sigma, "delta": self.chosen.delta}
        return {"chosen": chosen, "qualified": self.qualified, "tried": [asdict(one) for one in self.tried]}


def search(
    job: UnlearnJob,
    p: EssentialGraphParams,
    layers: Sequence[str],
    norms: Mapping[str, str],
    forgotten: Sequence[int],
    dropped: Callable[[int, float], Drop],
) -> Search:
    """Try every window and share on the validation rows; ``dropped(sigma, delta)`` says what each would prune.

    The model is left as it was. Windows that the network is too small for are passed over.

    Raises:
        IncompatibleError: there are no validation rows, or no window fits.
        DataError: the validation rows do not show a forgotten target.
    """
    if not len(job.validation):
        raise IncompatibleError(
            "no-validation", "the search of sigma and delta needs validation rows, and there are none",
            where="$.unlearner.params.search", hint="keep some with --validation 0.1, or choose sigma and delta",
        )  # fmt: skip
    windows = sorted({sigma for sigma in p.search_sigma if too_few(len(layers), sigma, p.skip_last) is None})
    if not windows or not p.search_delta:
        raise IncompatibleError(
            "too-few-layers", f"no window of search_sigma fits: {len(layers)} convolutions besides prediction heads",
            where="$.unlearner.params.search_sigma", hint="try smaller windows",
        )  # fmt: skip
    before = _scores(job, forgotten)
    known: dict[bytes, tuple[float, float]] = {}  # settings that prune the same channels score the same
    tried = []
    for sigma in windows:
        for delta in sorted(set(p.search_delta)):
            drop = dropped(sigma, delta)
            key = b"".join(f"{name}|".encode() + bytes(one.tolist()) for name, one in drop.items() if bool(one.any()))
            if key not in known:
                known[key] = _judged(job, p, norms, forgotten, drop, before)
            channels = sum(int(one.sum()) for one in drop.values())
            tried.append(Tried(sigma, delta, channels, *known[key]))
    return _choose(tried, p.search_forgotten, p.search_drop)


def _choose(tried: list[Tried], forgotten: float, drop: float) -> Search:
    """The smallest set within both bounds; else the lowest target score within the drop; else the least excess.

    What is left equal is decided by the smaller drop, then by the smaller window and share.
    """
    within = [one for one in tried if one.forgotten <= forgotten and one.drop <= drop]
    if within:
        best = min(within, key=lambda one: (one.pruned, one.drop, one.sigma, one.delta))
        return Search(best, True, tuple(tried))
    kept = [one for one in tried if one.drop <= drop]
    if kept:
        best = min(kept, key=lambda one: (one.forgotten, one.pruned, one.drop, one.sigma, one.delta))
        return Search(best, False, tuple(tried))

    def excess(one: Tried) -> float:
        return max(0.0, one.forgotten - forgotten) + one.drop - drop

    best = min(tried, key=lambda one: (excess(one), one.pruned, one.sigma, one.delta))
    return Search(best, False, tuple(tried))


def _judged(
    job: UnlearnJob,
    p: EssentialGraphParams,
    norms: Mapping[str, str],
    forgotten: Sequence[int],
    drop: Drop,
    before: Mapping[int, float],
) -> tuple[float, float]:
    """The largest score of a forgotten target and the mean loss of the others, with these channels pruned."""
    kept = _copies(job.model, [*drop, *(norms[layer] for layer in drop if layer in norms)])
    prune(job.model, drop, norms, p.zero_bn)
    try:
        after = _scores(job, forgotten)
    finally:
        with torch.no_grad():
            for value, was in kept:
                value.copy_(was)
    losses = [before[target] - after.get(target, 0.0) for target in before if target not in forgotten]
    return max(after[target] for target in forgotten), sum(losses) / max(1, len(losses))


def _copies(model: nn.Module, places: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
    values = [getattr(model.get_submodule(place), name, None) for place in places for name in ("weight", "bias")]
    return [(value, value.detach().clone()) for value in values if value is not None]


def _scores(job: UnlearnJob, forgotten: Sequence[int]) -> dict[int, float]:
    """How well each target is known that validation rows show [0, 1]."""
    found = target_scores(job.task, job.model, job)
    missing = ", ".join(job.validation.outputs[target] for target in forgotten if target not in found)
    if missing:
        raise DataError(
            "no-instance", f"no validation row shows {missing}, so the search cannot tell when it is forgotten",
            where="validation", hint="keep more rows for validation, or choose sigma and delta",
        )  # fmt: skip
    return found


def target_scores(task: Task, model: nn.Module, job: UnlearnJob) -> dict[int, float]:
    """The task's metric of each target on the validation rows, by position; targets without rows are missing."""
    name, coordinate = SCORES[task.name]
    out = predict(model, task, job.validation, job.recipe.batch_size)
    y = job.validation.tensors().y
    positions = tuple(str(k) for k in range(len(job.validation.outputs)))  # names may repeat
    return {
        int(one.at[coordinate]): float(one.value)
        for one in task.metrics(out, y, positions)
        if one.name == name and coordinate in one.at and one.value is not None
    }
