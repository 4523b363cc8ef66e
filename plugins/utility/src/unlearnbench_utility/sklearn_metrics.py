"""Every classification metric of scikit-learn by its scorer name."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer, get_scorer_names
from torch import Tensor

from unlearnbench.api import UsageError, did_you_mean
from unlearnbench.api.runtime import Component, Evidence, Reading, rows_of
from unlearnbench_utility.plugin import SklearnParams
from unlearnbench_utility.rows import SPLITS, direction

_MODULES = tuple(f"sklearn.metrics.{name}" for name in ("_classification", "_ranking", "_scorer"))


class SklearnMetrics(Component[SklearnParams]):
    """scikit-learn's own functions on the stored predictions: classes, probabilities or decision values as they ask.

    Metrics that are losses (``neg_log_loss``) are told without the sign, under the name without ``neg_``.
    """

    def __init__(self, params: SklearnParams) -> None:
        super().__init__(params)
        self.wanted = list(dict.fromkeys(parsed(text) for text in params.metrics))

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        for name, split in self.wanted:
            part = rows_of(evidence, split)
            value, status = score(name, part.y, part.outputs) if part.status == "ok" else (None, part.status)
            better = direction(split, loss=is_loss(name))
            yield Reading(name.removeprefix("neg_"), value, len(part), better=better, split=split, status=status)


def classification_scorers() -> list[str]:
    """Names of scikit-learn's scorers that compare classes, probabilities or decision values with classes."""
    return [name for name in get_scorer_names() if get_scorer(name)._score_func.__module__ in _MODULES]


def parsed(text: str) -> tuple[str, str]:
    """``name@split`` as its two parts; without a split the test rows are meant.

    Raises:
        UsageError: no such metric or split.
    """
    name, _, split = text.partition("@")
    _check("metric", name, classification_scorers())
    split = split if "@" in text else "test"
    _check("split", split, [*SPLITS, "validation"])
    return name, split


def _check(what: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    raise UsageError("bad-parameter", f"no {what} {name!r}", where="sklearn.metrics", hint=did_you_mean(name, known))


def is_loss(name: str) -> bool:
    """Whether low values are good."""
    return bool(get_scorer(name)._sign < 0)


def score(name: str, y: Tensor, out: Tensor) -> tuple[float | None, str]:
    """A metric for labels [n] and outputs [n, c], and its status. A value that scikit-learn makes up is no value."""
    classes, truth = out.shape[1], y.numpy()
    scorer, options = get_scorer(name), _options(name, classes)
    if options.get("average") == "samples":
        return None, "multi-label only"
    guess, seen = _response(scorer._response_method, out), len(np.unique(truth))
    if name == "matthews_corrcoef" and seen > 1 and len(np.unique(guess)) == 1:
        return None, "zero variance"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", UndefinedMetricWarning)
        try:
            value = float(scorer._score_func(truth, guess, **options))
        except UndefinedMetricWarning:
            value = math.nan
        except ValueError:
            if classes > 2 and _is_binary(name):
                return None, "binary only"
            value = math.nan
    if math.isfinite(value) and not (name == "matthews_corrcoef" and seen == 1):
        return value, "ok"
    if seen == 1:
        return None, "one class"
    return None, "classes absent" if seen < classes and scorer._response_method != "predict" else "ill-defined"


def _options(name: str, classes: int) -> dict[str, Any]:
    """The scorer's own options, and all classes for metrics of scores, which cannot infer those without rows."""
    scorer = get_scorer(name)
    options = dict(scorer._kwargs)
    if scorer._response_method != "predict" and "labels" in inspect.signature(scorer._score_func).parameters:
        options["labels"] = np.arange(classes)
    return options


def _response(method: str | tuple[str, ...], out: Tensor) -> npt.NDArray[Any]:
    """What an estimator with these outputs would answer; for two classes the score of the second, as estimators do."""
    if method == "predict":
        return out.argmax(1).numpy()
    if method == "predict_proba":
        p = out.softmax(1)
        return (p[:, 1] if out.shape[1] == 2 else p).numpy()
    return (out[:, 1] - out[:, 0] if out.shape[1] == 2 else out).numpy()


@functools.cache
def _is_binary(name: str) -> bool:
    """Whether a metric refuses three classes that are all there and all predicted right."""
    out = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    try:
        get_scorer(name)._score_func(
            np.tile(np.arange(3), 2), _response(get_scorer(name)._response_method, out), **_options(name, 3)
        )
    except ValueError:
        return True
    return False
