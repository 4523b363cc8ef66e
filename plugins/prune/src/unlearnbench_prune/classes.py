"""A class at once: where its rows are sent, and how far the support nets of their regions reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from unlearnbench_prune.plugin import Target

ROUNDING = 1e-9
"""Accuracies are shares of rows: what a drop exceeds its limit by below this is rounding."""


@dataclass(frozen=True)
class Tried:
    """A sharpness, the accuracy of other classes' rows with it, and how far that is below the accuracy before."""

    sharpness: float
    accuracy: float
    drop: float


@dataclass(frozen=True)
class Chosen:
    """The sharpness that is taken, what was tried on the way, and a warning where none keeps the other classes."""

    sharpness: float
    tried: tuple[Tried, ...]
    warning: str = ""


def class_target(outputs: Tensor, forbidden: Sequence[int], how: Target, rng: Generator) -> int:
    """The class that all rows of a forgotten class are sent to.

    Args:
        outputs: the network's outputs [n, classes] for the rows of the class.
        forbidden: all classes that are forgotten; none of them is a target.
        how: ``random`` is any other class; ``second`` the one that most rows would be predicted as if there were only
            other classes; ``least`` the one that most rows have the lowest output for. Ties go to the lowest class.
        rng: for ``random``.

    Raises:
        ValueError: no class is left.
    """
    kept = [label for label in range(outputs.shape[1]) if label not in set(forbidden)]
    if not kept:
        raise ValueError("every class is forgotten")
    if how == "random":
        return kept[int(torch.randint(len(kept), (1,), generator=rng))]
    others = outputs[:, kept]
    best = others.argmax(1) if how == "second" else others.argmin(1)
    return kept[int(best.bincount(minlength=len(kept)).argmax())]


def choose_sharpness(
    candidates: Sequence[float], accuracy_of: Callable[[float], float], before: float, most_drop: float
) -> Chosen:
    """The least sharpness that keeps the other classes.

    A small one reaches unseen rows of the class, and rows of other classes as well. Candidates are tried in ascending
    order up to the first whose accuracy is at most ``most_drop`` below ``before``; the largest is taken where none is.

    Args:
        candidates: at least one, in any order.
        accuracy_of: accuracy on validation rows of the classes that stay, with the patch at this sharpness.
        before: the same accuracy without the patch.
        most_drop: as a share of rows.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("no sharpness to choose from")
    tried: list[Tried] = []
    for sharpness in sorted(set(candidates)):
        accuracy = accuracy_of(sharpness)
        tried.append(Tried(sharpness, accuracy, before - accuracy))
        if tried[-1].drop <= most_drop + ROUNDING:
            return Chosen(sharpness, tuple(tried))
    last = tried[-1]
    return Chosen(
        last.sharpness,
        tuple(tried),
        f"no sharpness keeps the other classes: {last.sharpness:g}, the largest, lowers their accuracy by "
        f"{last.drop:.3g} of {before:.3g}, where {most_drop:g} is allowed",
    )
