"""The paper's model inversion: the picture that a model itself holds for a forgotten target, and what it shows.

Xu et al. 2024 show pictures alone. They cite Fredrikson et al. 2015, algorithm 1, without settings: descent on 1 - p(x)
from an input of zeros, each step cut to the range of the data. The scores are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from unlearnbench.api.runtime import Batch, Component, Evidence, Reading
from unlearnbench_essential_graph.plugin import TargetInversionParams
from unlearnbench_essential_graph.probes import Probe, fit_probe

READINGS = ("ssim", "probe", "probe-auc", "reached", "moved")
UNSEEN = ("test", "holdout")
LEAST_SIDE = 6
"""Pixels of an image's side at least: the window of SSIM reaches 5 pixels beyond its centre and is mirrored there."""


@dataclass(frozen=True)
class Recovered:
    """Inputs [k, ...] in units in which the data's range is [0, 1], and the probabilities [k] that they reach."""

    x: Tensor
    reached: Tensor


class TargetInversion(Component[TargetInversionParams]):
    """One recovered picture for each forgotten target or class, and how much of the target is in it.

    The attacker has the model and the range of the data, taken from unseen rows. Pictures and the mean of the rows that
    carry the target are kept beside the record, in [0, 1]. Scores are the structural similarity of the two, and how
    sure a linear probe that was fitted to unseen rows is to see the target in the picture; ``probe-auc`` says how well
    that probe tells the target on rows that it was not fitted to; near 1/2 its word is worth nothing. Where a model
    gives the target a probability near 0, the gradient of 1 - p vanishes and the picture stays as it began: ``reached``
    and ``moved`` (root mean square, 0 where it stayed black) say so, and cost=log is the attack that gets further.
    """

    def __init__(self, params: TargetInversionParams) -> None:
        super().__init__(params)
        self._probes: dict[tuple[int, bytes], Probe] = {}

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        """The readings of each target."""
        request = evidence.request
        targets = tuple(dict.fromkeys((*request.earlier, *request.targets))) or request.classes
        if "forget" not in evidence.splits or not any(split in evidence.splits for split in UNSEEN):
            return undefined({}, "empty split")
        unseen = unseen_rows(evidence)
        forget = evidence.view("forget").tensors()
        if forget.edges is not None or not forget.x.is_floating_point():
            return undefined({}, "inputs are not numbers")
        low, high = float(unseen.x.min()), float(unseen.x.max())
        if not low < high:
            return undefined({}, "zero variance")
        found = self._recovered(evidence, targets, tuple(forget.x.shape[1:]), low, high)
        pixels = Batch((unseen.x - low) / (high - low), unseen.y, unseen.ids)
        return [
            reading
            for target, x, p in zip(targets, found.x, found.reached, strict=True)
            for reading in self._readings(evidence, target, x, float(p), forget, pixels, low, high)
        ]

    def _recovered(
        self, evidence: Evidence, targets: Sequence[int], shape: tuple[int, ...], low: float, high: float
    ) -> Recovered:
        model = evidence.model().eval().requires_grad_(False)
        device = next(model.parameters()).device
        index = torch.tensor(targets, device=device)

        def probabilities(x: Tensor) -> Tensor:
            outputs = evidence.task.outputs(model, Batch(low + (high - low) * x, index, index))
            return evidence.task.probabilities(outputs.double()).gather(1, index[:, None])[:, 0]

        start = torch.zeros(len(targets), *shape, device=device)
        found = invert(probabilities, start, self.p)
        return Recovered(found.x.cpu(), found.reached.cpu())

    def _readings(
        self,
        evidence: Evidence,
        target: int,
        x: Tensor,
        p: float,
        forget: Batch,
        unseen: Batch,
        low: float,
        high: float,
    ) -> Iterator[Reading]:
        name = evidence.view("forget").outputs[target]
        at = {"target": name}
        carrying = evidence.task.split_target(forget.y, target)[0]
        if p != p:
            yield from undefined(at, "non-finite")
            return
        order = forget.ids[carrying].argsort()
        rows = forget.x[carrying][order].cpu().double()
        mean = ((rows.mean(0) - low) / (high - low)).clamp(0, 1) if len(rows) else None
        evidence.keep(f"picture/{name}", x)
        if mean is None:
            yield Reading("target-inversion-ssim", None, 0, at=at, status="empty split")
        else:
            evidence.keep(f"mean/{name}", mean.float())
            alike = similarity(x.double(), mean)
            status = "ok" if alike is not None else "not an image"
            yield Reading("target-inversion-ssim", alike, len(rows), at=at, status=status)
        probe = self._probe(evidence, target, unseen)
        yield Reading("target-inversion-probe", probe.confidence(x), probe.rows, at=at, status=probe.status)
        yield Reading("target-inversion-probe-auc", probe.auc, probe.judged, at=at, status=probe.auc_status)
        yield Reading("target-inversion-reached", p, 1, at=at)
        yield Reading("target-inversion-moved", float(x.double().square().mean().sqrt()), 1, at=at)

    def _probe(self, evidence: Evidence, target: int, unseen: Batch) -> Probe:
        """The probe of a target, which is the same for every subject of a run and fitted once."""
        key = (target, unseen.ids.numpy().tobytes())
        if key not in self._probes:
            labels = unseen.y if unseen.y.ndim == 1 else unseen.y[:, target]
            one = target if unseen.y.ndim == 1 else 1
            self._probes[key] = fit_probe(unseen.x, labels, one, evidence.rng("probe"))
        return self._probes[key]


def invert(
    probabilities: Callable[[Tensor], Tensor], start: Tensor, p: TargetInversionParams
) -> Recovered:  # fmt: skip
    """Inputs that a model takes for its targets: x <- clip(x - lr * gradient of the cost, 0, 1), from ``start``.

    ``start`` is [k, ...], ``probabilities`` [k] are those of the targets, one for each input. Of all inputs on the way
    the one with the smallest cost is returned, the first of equal ones, as in the paper's source. A probability is NaN
    where no cost was a number. Nothing is drawn, and inputs do not touch each other.
    """
    x, best = start.clone(), start.clone()
    reached = torch.full((len(start),), torch.nan, dtype=torch.float64, device=start.device)
    for step in range(p.steps + 1):
        with torch.enable_grad():
            x.requires_grad_(True)
            value = probabilities(x)
            cost = 1 - value if p.cost == "probability" else -value.clamp(min=torch.finfo(value.dtype).tiny).log()
            (gradient,) = torch.autograd.grad(cost.sum(), x)
        x, value = x.detach(), value.detach()
        better = (value > reached) | (reached.isnan() & ~value.isnan())
        best[better], reached[better] = x[better], value[better]
        if step < p.steps:
            x = (x - p.lr * gradient).clamp(0, 1)
    return Recovered(best, reached)


def similarity(picture: Tensor, mean: Tensor) -> float | None:
    """SSIM of two images [channels, h, w] in [0, 1] (Wang et al. 2004, Gaussian window); None for what is no image."""
    if picture.ndim != 3 or min(picture.shape[1:]) < LEAST_SIDE:
        return None
    found = structural_similarity_index_measure(picture[None], mean[None], data_range=1.0)
    assert isinstance(found, Tensor)
    return float(found)


def unseen_rows(evidence: Evidence) -> Batch:
    """Test rows and hold-out, each row once, in order of id, on the CPU."""
    parts = [evidence.view(split).tensors() for split in UNSEEN if split in evidence.splits]
    x, y, ids = (torch.cat([getattr(part, name).cpu() for part in parts]) for name in ("x", "y", "ids"))
    order = ids.argsort(stable=True)
    new = torch.ones(len(order), dtype=torch.bool)
    new[1:] = ids[order][1:] != ids[order][:-1]
    order = order[new]
    return Batch(x[order], y[order], ids[order])


def undefined(at: dict[str, str], status: str) -> list[Reading]:
    """The readings that say why they have no value."""
    return [Reading(f"target-inversion-{name}", None, 0, at=at, status=status) for name in READINGS]
