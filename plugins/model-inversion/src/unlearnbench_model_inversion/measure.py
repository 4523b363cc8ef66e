"""The measure: one reconstruction for each class of the forget set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from unlearnbench.api.runtime import Batch, Component, Evidence, Reading, bootstrap_interval, order_by_id, seed_from
from unlearnbench_model_inversion.inversion import invert
from unlearnbench_model_inversion.plugin import ModelInversionParams
from unlearnbench_model_inversion.similarity import to_class_means, to_nearest

READINGS = ("inversion-similarity", "inversion-nearest", "inversion-confidence")


class ModelInversion(Component[ModelInversionParams]):
    """Similarity of reconstructed inputs to the forget rows of their class, and the confidence that they won.

    The attacker has the model and the range of the data, taken from rows that no model saw (the hold-out, or the test
    rows if there is none), and nothing else. A class whose reconstruction or rows are constant has no correlation and
    is left out of the mean. Intervals are percentile bootstraps over the classes (1,000 draws); a single class has
    none, since nothing about it is drawn.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        unseen = next((split for split in ("holdout", "test") if split in evidence.splits), None)
        if "forget" not in evidence.splits or unseen is None:
            return _undefined("empty split")
        forget, others = evidence.view("forget").tensors(), evidence.view(unseen).tensors().x
        if forget.edges is not None or not forget.x.is_floating_point():
            return _undefined("inputs are not numbers")
        low, high = float(others.min()), float(others.max())
        if not low < high:
            return _undefined("zero variance")
        order = order_by_id(forget.ids)
        x, y = forget.x[order], forget.y[order]
        classes = y.unique()
        model = evidence.model().eval().requires_grad_(False)

        def outputs(inputs: Tensor) -> Tensor:
            return evidence.task.outputs(model, Batch(inputs, classes, classes))

        device = next(model.parameters()).device
        classes = classes.to(device)
        found, reached = invert(outputs, classes, tuple(x.shape[1:]), low, high, self.p)
        if not bool(reached.isfinite().all()):
            return _undefined("non-finite")
        return self._readings(evidence, found.cpu(), reached.cpu(), classes.cpu(), x.cpu(), y.cpu())

    def _readings(
        self, evidence: Evidence, found: Tensor, reached: Tensor, classes: Tensor, x: Tensor, y: Tensor
    ) -> Iterable[Reading]:
        flat = [part.flatten(1).double().numpy() for part in (found, x)]
        case = (flat[0], classes.numpy(), flat[1], y.numpy())
        seed = seed_from(evidence.rng("classes"))
        for name, values in zip(READINGS, (to_class_means(*case), to_nearest(*case), reached.numpy()), strict=True):
            known = values[~np.isnan(values)]
            if not len(known):
                yield Reading(name, None, 0, split="forget", status="zero variance")
                continue
            low, high = bootstrap_interval(known, np.random.default_rng(seed))
            yield Reading(name, float(known.mean()), len(known), split="forget", low=low, high=high)


def _undefined(status: str) -> Iterable[Reading]:
    return [Reading(name, None, 0, split="forget", status=status) for name in READINGS]
