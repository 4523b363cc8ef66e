"""The numbers behind ZRF and the entropy attack, as functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor

from unlearnbench.api.runtime import jensen_shannon

Floats = npt.NDArray[np.float64]
Classifier = Literal["svc", "logistic"]


def zrf(outputs: Tensor, random_outputs: Tensor) -> float:
    """ZRF = 1 - mean over rows of JS(subject, random network) (Chundawat et al. 2023, section "ZRF metric")."""
    p, q = (z.double().softmax(1) for z in (outputs, random_outputs))
    return 1 - float(jensen_shannon(p, q).mean())


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of values in [0, 1] by Student's t, cut to [0, 1]; None for a single value."""
    if len(values) < 2:
        return None
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return max(0.0, fmean(values) - half), min(1.0, fmean(values) + half)


def entropy(outputs: Tensor) -> Tensor:
    """Entropy in nats of the distribution of logits [n, c], [n]."""
    log_p = outputs.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def taken_for_members(members: Floats, others: Floats, asked: Floats, classifier: Classifier) -> int:
    """How many of ``asked`` a classifier, trained on one number per row of members and others, takes for members."""
    attack: Any = SVC(C=3, gamma="auto", kernel="rbf", random_state=0)  # draws only for probabilities
    if classifier == "logistic":
        attack = LogisticRegression(class_weight="balanced", max_iter=1000)
    labels = np.repeat([1, 0], [len(members), len(others)])
    attack.fit(np.concatenate([members, others])[:, None], labels)
    return int((attack.predict(asked[:, None]) == 1).sum())
