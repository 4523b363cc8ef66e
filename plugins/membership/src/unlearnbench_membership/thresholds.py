"""Thresholds that depend on the class, as Song and Mittal (2021, section 3) set them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlearnbench_membership.roc import Array

Classes = npt.NDArray[np.int64]


def best_threshold(members: Array, others: Array) -> float:
    """The lowest t that maximises (share of members >= t) / 2 + (share of others < t) / 2, among the scores seen."""
    candidates = np.unique(np.concatenate([members, others]))
    kept = 1 - np.searchsorted(np.sort(members), candidates, side="left") / len(members)
    turned_away = np.searchsorted(np.sort(others), candidates, side="left") / len(others)
    # Rounded, so that equally good ones are equal whatever the numbers of rows.
    return float(candidates[np.argmax(np.round(kept + turned_away, 12))])


@dataclass(frozen=True)
class Thresholds:
    """One threshold per class; a class without members or without others has that of all rows. ``own`` counts."""

    values: Array
    own: int

    def margin(self, scores: Array, y: Classes) -> Array:
        """How far rows lie above the threshold of their class: a row is called a member from 0 on."""
        found: Array = scores - self.values[y]
        return found


def class_thresholds(
    members: Array, of_members: Classes, others: Array, of_others: Classes, classes: int
) -> Thresholds:
    """Thresholds fitted on rows known to be members and known not to be."""
    values, own = np.full(classes, best_threshold(members, others)), 0
    for c in range(classes):
        inside, outside = members[of_members == c], others[of_others == c]
        if len(inside) and len(outside):
            values[c] = best_threshold(inside, outside)
            own += 1
    return Thresholds(values, own)
