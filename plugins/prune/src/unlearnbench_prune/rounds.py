"""Many rows at once: the paper's clusters in rounds, and clusters whose patch is proved for every member.

Written against small functions, so that the loop reads like the paper's and can be tried without a network. Four
things differ from the authors' code, which errs there: every cluster has a target of its own; nothing of a patch lives
outside the groups that are returned; later rounds see the model with the earlier patches; and no row of a cluster is
labelled as the cluster's target.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import dataclass

from torch import Tensor

from unlearnbench_prune.bounds import NoSolution
from unlearnbench_prune.clusters import Cluster, clusters_of
from unlearnbench_prune.parts import Group

Predict = Callable[[Sequence[Group]], Tensor]
"""Classes [n] that the network with these groups predicts for all rows."""
Ranked = Callable[[int], Sequence[int]]
"""All classes in the order in which they are wanted as the target of the row at this position."""
MakeGroup = Callable[[Cluster, int, Sequence[Group]], Group]
"""The group of a cluster with this target, beside the groups that are there already. Raises NoSolution."""
Unit = tuple[int, ...]
"""Rows that must stay together, the first of which stands for them."""

NO_TARGET = "labels and predictions leave no class to send it to"


@dataclass(frozen=True)
class Rounds:
    """What the rounds made: groups in the order in which they were made, and the rows that each is for.

    ``rates`` holds, after each round, the share of rows that are not predicted as labelled; ``left`` the rows that
    still are after the last. ``impossible`` says why a row is in no group.
    """

    groups: tuple[Group, ...]
    members: tuple[tuple[int, ...], ...]
    rates: tuple[float, ...]
    left: tuple[int, ...]
    impossible: Mapping[int, str]


@dataclass(frozen=True)
class Certified:
    """Groups and the rows that each is for; ``impossible`` says why a row is in none."""

    groups: tuple[Group, ...]
    members: tuple[tuple[int, ...], ...]
    impossible: Mapping[int, str]


def cluster_rounds(
    points: Tensor,
    labels: Tensor,
    *,
    clusters: int,
    rounds: int,
    unlearn_rate: float,
    predict: Predict,
    ranked: Ranked,
    make_group: MakeGroup,
) -> Rounds:
    """The paper's loop.

    The first round takes every row, a later one those that are still predicted as labelled. It ends when the share of
    the others reaches ``unlearn_rate``, or after ``rounds``. A target is none of the labels of its cluster and, where
    that leaves one, none of the predictions; a cluster without a target or without a patch is split.

    Args:
        points: what k-means looks at [n, d].
        labels: classes [n] that the rows must no longer be predicted as.
        clusters: clusters at the start of a round.
        rounds: most rounds.
        unlearn_rate: delta.
        predict: asked before the first round and after every one.
        ranked: asked for the representative of a cluster.
        make_group: sees all groups so far, those of the same round included.
    """
    groups: list[Group] = []
    members: list[tuple[int, ...]] = []
    rates: list[float] = []
    impossible: dict[int, str] = {}
    left = list(range(len(labels)))
    predicted = predict(())

    def serve(cluster: Cluster) -> None:
        rows = list(cluster.members)
        own, now = set(labels[rows].tolist()), set(predicted[rows].tolist())
        wanted = ranked(cluster.representative)
        target = _first(wanted, own | now if own | now < set(wanted) else own)
        groups.append(make_group(cluster, target, tuple(groups)))
        members.append(cluster.members)

    while left and len(rates) < rounds and not (rates and rates[-1] >= unlearn_rate):
        impossible.update(_served(points, [(row,) for row in left], clusters, serve))
        predicted = predict(tuple(groups))
        left = (predicted == labels).nonzero()[:, 0].tolist()
        rates.append((len(labels) - len(left)) / len(labels))
    unserved = set(impossible).difference(*members)
    return Rounds(
        tuple(groups), tuple(members), tuple(rates), tuple(left), {row: impossible[row] for row in sorted(unserved)}
    )


def certified_clusters(
    points: Tensor,
    labels: Tensor,
    predicted: Tensor,
    regions: Sequence[Hashable],
    *,
    clusters: int,
    ranked: Ranked,
    make_group: MakeGroup,
) -> Certified:
    """One round of clusters whose target is neither label nor prediction of any member.

    ``make_group`` is to prove its patch for the regions of all members. Rows of one region share its patch, so they
    stay in one cluster. A cluster without a target or without a patch is split, down to single regions; the rows of a
    region that has none are given up with the reason. A single row always has a target unless there are two classes and
    it is predicted as the other one.

    Args:
        points: what k-means looks at [n, d]; a region is where its first row is.
        labels: classes [n] of the rows.
        predicted: classes [n] that the network predicts now.
        regions: one key for each row; rows with the same cannot have different patches.
        clusters: clusters to begin with.
        ranked: asked for the representative of a cluster.
        make_group: makes the patch from all members of the cluster.
    """
    groups: list[Group] = []
    members: list[tuple[int, ...]] = []
    together: dict[Hashable, list[int]] = {}
    for row, region in enumerate(regions):
        together.setdefault(region, []).append(row)

    def serve(cluster: Cluster) -> None:
        rows = list(cluster.members)
        target = _first(ranked(cluster.representative), {*labels[rows].tolist(), *predicted[rows].tolist()})
        groups.append(make_group(cluster, target, tuple(groups)))
        members.append(cluster.members)

    impossible = _served(points, [tuple(rows) for rows in together.values()], clusters, serve)
    return Certified(tuple(groups), tuple(members), dict(sorted(impossible.items())))


def _first(wanted: Sequence[int], ruled_out: Set[int]) -> int:
    for label in wanted:
        if label not in ruled_out:
            return label
    raise NoSolution(NO_TARGET)


def _served(points: Tensor, units: Sequence[Unit], k: int, serve: Callable[[Cluster], None]) -> dict[int, str]:
    """Serve clusters of units, and the parts of those that cannot be served; why rows are not served even so."""
    impossible: dict[int, str] = {}
    for found in clusters_of(points[[unit[0] for unit in units]], k):
        mine = [units[i] for i in found.members]
        cluster = Cluster(units[found.representative][0], tuple(sorted(row for unit in mine for row in unit)))
        try:
            serve(cluster)
        except NoSolution as error:
            if len(mine) == 1:
                impossible.update(dict.fromkeys(cluster.members, error.reason))
            else:
                for part in _parts(points, mine):
                    impossible.update(_served(points, part, 1, serve))
    return impossible


def _parts(points: Tensor, units: Sequence[Unit]) -> list[list[Unit]]:
    """Two parts by k-means, or single units where the points are all the same."""
    halves = clusters_of(points[[unit[0] for unit in units]], 2)
    if len(halves) < 2:
        return [[unit] for unit in units]
    return [[units[i] for i in half.members] for half in halves]
