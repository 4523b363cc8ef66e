"""The interclass confusion test: is the confusion that swapped labels taught undone?

Source: Goel et al. 2022, section 4 (arXiv 2201.06640). Differences are the ``deviations`` in ``plugin.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unlearnbench.api.runtime import MISSING, Better, Component, Evidence, Reading, share_interval
from unlearnbench_goel.plugin import ConfusionParams

Pair = tuple[int, int]


class InterclassConfusion(Component[ConfusionParams]):
    """Fgt-Err and IC-Err on the test rows, and on the forgotten rows against their true labels.

    The forget set must be the mislabelled rows, as ``group=mislabelled:yes`` is after the step ``swap-classes``: rows
    of two classes that were given each other's label. Intervals are Clopper and Pearson's.
    """

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        labels, names = evidence.y("forget"), evidence.view("forget").outputs
        pair, status = the_pair(labels, self.p.classes, names)
        for split in ("forget", "test"):
            outputs, y = evidence.outputs(split), evidence.y(split)
            if pair is not None and split == "forget":
                y = swapped(y, pair)
            yield from _readings(split, outputs, y, pair, status)


def the_pair(labels: Tensor, names: Sequence[str], known: Sequence[str]) -> tuple[Pair | None, str]:
    """The two classes: those that are named, or the only two labels that the forget set has; else a status."""
    found = tuple(labels[labels != MISSING].unique().tolist())
    if names:
        if len(set(names)) != 2 or len(names) != 2 or not set(names) <= set(known):
            return None, "not two known classes"
        first, second = (known.index(name) for name in names)
        if not set(found) <= {first, second}:
            return None, "forget set has other classes"
        return (first, second), "ok"
    return (found, "ok") if len(found) == 2 else (None, "not two classes")


def swapped(y: Tensor, pair: Pair) -> Tensor:
    """The true labels of rows whose labels were swapped: of the two classes, the other."""
    first, second = pair
    return torch.where(y == first, second, torch.where(y == second, first, y))


def errors(guess: Tensor, y: Tensor, pair: Pair) -> tuple[int, int, int]:
    """Targeted errors, all errors and rows of two classes A and B.

    With the confusion matrix C, rows by true class: Fgt-Err = C[A, B] + C[B, A], and the errors of
    IC-Err = (sum over k != A of C[A, k] + sum over k != B of C[B, k]) / (|A| + |B|).
    """
    ours = (y == pair[0]) | (y == pair[1])
    wrong = guess[ours] != y[ours]
    targeted = guess[ours] == swapped(y[ours], pair)
    return int(targeted.sum()), int(wrong.sum()), int(ours.sum())


def _readings(split: str, outputs: Tensor, y: Tensor, pair: Pair | None, status: str) -> Iterable[Reading]:
    better: Better = "lower" if split == "test" else "gold"
    targeted = wrong = n = 0
    if not len(y):
        status = "empty split"
    elif not bool(outputs.isfinite().all()):
        status = "non-finite"
    elif pair is not None:
        targeted, wrong, n = errors(outputs.argmax(1), y, pair)
        status = status if n else "no rows of the classes"
    if status != "ok":
        yield Reading("fgt-err", None, n, better=better, split=split, unit="rows", status=status)
        yield Reading("ic-err", None, n, better=better, split=split, status=status)
        return
    (low, high), (least, most) = (share_interval(k, n) for k in (targeted, wrong))
    yield Reading(
        "fgt-err", float(targeted), n, better=better, split=split, unit="rows",
        low=low * n, high=high * n,
    )  # fmt: skip
    yield Reading("ic-err", wrong / n, n, better=better, split=split, low=least, high=most)
