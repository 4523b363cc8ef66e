"""What the features still know: a linear probe on them, and their likeness to the original's and to gold's.

Features are the inputs of the network's last linear layer, the one whose output is the network's output. An output
layer that hides a class does not change them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn

from unlearnbench.api.runtime import (
    MISSING,
    Better,
    Component,
    Evidence,
    Reading,
    Subject,
    Task,
    View,
    drawn_rows,
    share_interval,
)
from unlearnbench_utility.plugin import CkaParams, ProbeParams

_AIMS: tuple[tuple[Subject, Better], ...] = (("original", "gold"), ("gold", "higher"))
_BATCH = 1024

Array = npt.NDArray[Any]


@torch.no_grad()
def features(model: nn.Module, task: Task, view: View) -> tuple[Tensor, str]:
    """Features [n, d] of the rows of a view, sorted by id, in double precision; and a status."""
    calls: list[tuple[Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    model.eval()
    found = []
    try:
        for batch in view.batches(_BATCH):
            calls.clear()
            out = task.outputs(model, batch)
            if not bool(out.isfinite().all()):
                return torch.empty(0, 0), "non-finite"
            into = [x for x, z in calls if x.dim() == 2 and z.shape == out.shape and torch.equal(z, out)]
            if not into:
                return torch.empty(0, 0), "no linear output layer"
            found.append(into[-1].cpu().double())
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        return torch.empty(0, 0), "empty split"
    return torch.cat(found)[view.ids.argsort()], "ok"


@dataclass(frozen=True)
class _Labelled:
    x: Array
    y: Array
    ids: Tensor
    status: str


def _labelled(evidence: Evidence, model: nn.Module, split: str) -> _Labelled:
    """Features and labels of the labelled rows of a split, sorted by id."""
    view = evidence.view(split)
    x, status = features(model, evidence.task, view)
    order = view.ids.argsort()
    y, ids = evidence.y(split)[order], view.ids[order]
    if status != "ok":
        return _Labelled(np.empty((0, 0)), np.empty(0), ids[:0], status)
    known = y != MISSING
    return _Labelled(x[known].numpy(), y[known].numpy(), ids[known], "ok" if bool(known.any()) else "empty split")


class LinearProbe(Component[ProbeParams]):
    """Accuracy of a linear classifier trained on features, on forget rows that it was not trained on.

    The forget set is divided into folds at random. For each fold a logistic regression on standardised features learns
    the true labels of retain rows and of the other folds' forget rows, and predicts the fold. So the probe asks whether
    the labels of forgotten rows can still be read off the features linearly, whatever the output layer says. The
    hold-out is predicted likewise, each row by one of the probes: rows that no model saw. After forgetting a class the
    original's features give it away; gold's are what features know of a class that they were not trained for. After
    forgetting rows, features that remember them are read better on the forget set than on the hold-out.

    The interval is the exact (Clopper-Pearson) one of a share, with the probes taken as given.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        model = evidence.model()
        retain, forget, unseen = (_labelled(evidence, model, split) for split in ("retain", "forget", "holdout"))
        status = next((part.status for part in (retain, forget) if part.status != "ok"), "ok")
        if status == "ok" and len(forget.y) < self.p.folds:
            status = f"fewer than {self.p.folds} rows"
        elif status == "ok" and len(np.unique(np.concatenate([retain.y, forget.y]))) < 2:
            status = "one class"
        right: dict[str, Array] = {}
        if status == "ok":
            right = self._right(evidence.rng("probe"), retain, forget, unseen)
        for split, part in (("forget", forget), ("holdout", unseen)):
            if split in right and part.status == "ok":
                hits, n = int(right[split].sum()), len(part.y)
                low, high = share_interval(hits, n)
                yield Reading("probe-accuracy", hits / n, n, split=split, low=low, high=high)
            else:
                why = part.status if part.status != "ok" else status
                yield Reading("probe-accuracy", None, len(part.y), split=split, status=why)

    def _right(self, rng: Generator, retain: _Labelled, forget: _Labelled, unseen: _Labelled) -> dict[str, Array]:
        """Which forget and hold-out rows the probes predict right, each by a probe that was not trained on it."""
        few = drawn_rows(retain.ids, min(self.p.rows, len(retain.ids)), rng).numpy()
        parts = {"forget": forget, "holdout": unseen}
        folds = {split: _folds(len(part.y), self.p.folds, rng) for split, part in parts.items()}
        right = {split: np.zeros(len(part.y), dtype=bool) for split, part in parts.items()}
        for k in range(self.p.folds):
            others = folds["forget"] != k
            probe = Probe(
                np.concatenate([retain.x[few], forget.x[others]]),
                np.concatenate([retain.y[few], forget.y[others]]),
                self.p.c,
            )
            for split, part in parts.items():
                mine = folds[split] == k
                if mine.any():
                    right[split][mine] = probe.predict(part.x[mine]) == part.y[mine]
        return right


def _folds(n: int, folds: int, rng: Generator) -> Array:
    """Fold of each of ``n`` rows: random, sizes equal up to one."""
    found: Array = (torch.randperm(n, generator=rng) % folds).numpy()
    return found


class Probe:
    """Multinomial logistic regression on features with mean 0 and variance 1; constant ones stay 0."""

    def __init__(self, x: Array, y: Array, c: float) -> None:
        self._mean, scale = x.mean(0), x.std(0)
        varies = scale > 1e-12 * np.abs(x).max(0)  # what is left of a constant is rounding
        self._scale = np.where(varies, scale, 1.0)
        self._only = y[0] if len(np.unique(y)) == 1 else None
        if self._only is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the last digits of the weights do not matter for a class
                self._fit = LogisticRegression(C=c, max_iter=1000).fit(self._scaled(x), y)

    def _scaled(self, x: Array) -> Array:
        scaled: Array = (x - self._mean) / self._scale
        return scaled

    def predict(self, x: Array) -> Array:
        if self._only is not None:
            return np.full(len(x), self._only)
        return np.asarray(self._fit.predict(self._scaled(x)))


class Cka(Component[CkaParams]):
    """Linear CKA (Kornblith et al. 2019, equation 3) of the features of the forget set with those of other models.

    1 where the features are the same up to rotation and scale. Likeness to the original is judged by gold's: features
    of a model trained without the forget set are like the original's too.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        view = evidence.view("forget")
        few = drawn_rows(view.ids.sort().values, min(self.p.rows, len(view)), evidence.rng("rows"))
        x, status = features(evidence.model(), evidence.task, view)
        for subject, better in _AIMS:
            y, theirs = features(evidence.model(subject), evidence.task, view)
            why = status if status != "ok" else theirs
            value = None
            if why == "ok":
                value = linear_cka(x[few], y[few])
                why = "ok" if value is not None else "zero variance"
            yield Reading(f"cka-to-{subject}", value, len(few), better=better, split="forget", status=why)


def linear_cka(x: Tensor, y: Tensor) -> float | None:
    """||Y'X||^2 / (||X'X|| ||Y'Y||) of centred features [n, p] and [n, q], None where one does not vary.

    With more features than rows the same number comes from the Gram matrices XX' and YY', which are smaller.
    """
    centred = [v - v.mean(0) for v in (x, y)]
    if any(float(c.norm()) <= 1e-12 * float(v.norm()) for c, v in zip(centred, (x, y), strict=True)):
        return None
    x, y = centred
    if len(x) < max(x.shape[1], y.shape[1]):
        k, m = x @ x.T, y @ y.T
        value = float((k * m).sum() / (k.norm() * m.norm()))
    else:
        value = float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))
    return min(value, 1.0)
