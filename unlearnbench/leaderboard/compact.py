"""Outputs of models as a submission keeps them: as small as the readings allow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from unlearnbench.leaderboard.submission import Subject

Outputs = Mapping[Subject, Mapping[str, Any]]
"""Arrays by model and split."""

HALVED = ("classification",)
"""Tasks whose outputs only count up to their log-probabilities, so that these may stand for them."""

_SINGLE: tuple[Collection[str], ...] = ((), ("forget", "holdout"))
"""Splits that are kept in single precision, in the steps in which this is tried before all of them are.

Attacks compare these two: they have few rows, so that one row that changes its place moves a reading far, and little
is gained by making them smaller.
"""


def compact(outputs: Outputs, task: str, wrong: Callable[[Outputs], Collection[Subject]]) -> Outputs:
    """The same outputs as log-probabilities in half precision where the readings hold, as they are where they do not.

    ``wrong`` names the models with a reading that does not come out of such outputs as it was reported, within
    tolerance. What these have is kept more precisely, step by step; in the end it is exactly what the run wrote.
    """
    if task not in HALVED or not _finite(outputs):
        return outputs
    half = {
        subject: {name: log_probabilities(of) for name, of in splits.items()} for subject, splits in outputs.items()
    }
    steps = dict.fromkeys(outputs, 0)
    while any(step < len(_SINGLE) for step in steps.values()):
        tried = {subject: _kept(outputs[subject], half[subject], steps[subject]) for subject in outputs}
        spoilt = set(wrong(tried)) if _finite(tried) else set(steps)
        if not spoilt:
            return tried
        # Where the model of a wrong reading cannot be kept better, it is another's outputs that the reading is of.
        for subject in [each for each in spoilt if steps[each] < len(_SINGLE)] or steps:
            steps[subject] += 1
    return outputs


def _kept(outputs: Mapping[str, Any], half: Mapping[str, Any], step: int) -> dict[str, Any]:
    if step >= len(_SINGLE):
        return dict(outputs)
    return {name: outputs[name] if name in _SINGLE[step] else half[name] for name in outputs}


def log_probabilities(outputs: Any) -> Any:
    """Log-probabilities of logits in half precision.

    Worked out in double precision. Their softmax is that of the logits; only what exceeds the range of half precision,
    a log-probability below -65504, is lost.
    """
    exact = np.asarray(outputs, dtype=np.float64)
    shifted = exact - exact.max(axis=-1, keepdims=True, initial=-np.inf)
    found = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    with np.errstate(over="ignore"):
        return found.astype(np.float16)


def _finite(outputs: Outputs) -> bool:
    return all(bool(np.isfinite(found).all()) for splits in outputs.values() for found in splits.values())
