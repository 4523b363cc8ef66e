"""Clusters of rows by k-means, each with the real row that stands for it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

STARTS = 10
"""Starts of k-means, the best of which is taken, as in the authors' code."""


@dataclass(frozen=True)
class Cluster:
    """Positions of rows: the one that stands for all of them, and all of them in ascending order."""

    representative: int
    members: tuple[int, ...]


def clusters_of(points: Tensor, k: int, seed: int = 0) -> list[Cluster]:
    """At most ``k`` clusters of points [n, d].

    ``k`` is cut to the number of distinct points. The representative is the point nearest to the centroid in the
    Euclidean sense, the first of those that are equally near. Clusters come in the order of their first members.
    """
    rows = points.detach().cpu().double().flatten(1).numpy()
    if not len(rows):
        return []
    with warnings.catch_warnings():
        # Points that differ by rounding alone come out as one cluster, which is what they are.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(min(k, len(np.unique(rows, axis=0))), n_init=STARTS, random_state=seed).fit(rows)
    clusters = []
    for label in dict.fromkeys(found.labels_.tolist()):
        members = np.flatnonzero(found.labels_ == label)
        distances = np.square(rows[members] - rows[members].mean(0)).sum(1)
        clusters.append(Cluster(int(members[distances.argmin()]), tuple(members.tolist())))
    return clusters
