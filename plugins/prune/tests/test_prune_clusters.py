"""k-means by hand: blobs, points that are the same, ties, and the nearest real point."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlearnbench.api.runtime import generator
from unlearnbench_prune.clusters import Cluster, clusters_of


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_two_blobs_are_two_clusters_whose_middle_points_stand_for_them() -> None:
    points = column(0.0, 10.0, 1.0, 12.0, 2.0, 11.0)
    assert clusters_of(points, 2) == [Cluster(2, (0, 2, 4)), Cluster(5, (1, 3, 5))]


def test_the_first_of_equally_near_points_stands_for_a_cluster() -> None:
    assert clusters_of(column(3.0, 1.0, 5.0, 3.0), 1) == [Cluster(0, (0, 1, 2, 3))]
    assert clusters_of(column(5.0, 1.0), 1) == [Cluster(0, (0, 1))]


def test_the_representative_is_a_row_although_the_centroid_is_none() -> None:
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [2.0, 1.5]], dtype=torch.float64)
    (found,) = clusters_of(points, 1)
    assert found.representative == 3  # the centroid is (1.5, 1.375)


def test_there_are_no_more_clusters_than_distinct_points() -> None:
    found = clusters_of(column(1.0, 1.0, 2.0, 1.0), 5)
    assert found == [Cluster(0, (0, 1, 3)), Cluster(2, (2,))]
    assert clusters_of(column(7.0, 7.0), 3) == [Cluster(0, (0, 1))]
    assert clusters_of(torch.empty(0, 2), 2) == []


def test_points_nearer_than_their_squares_can_tell_are_one_cluster_without_a_warning() -> None:
    assert clusters_of(column(0.0, 1e-200, 0.0), 2) == [Cluster(0, (0, 1, 2))]


@pytest.mark.parametrize("k", [1, 3, 7])
def test_every_row_is_in_one_cluster_and_every_representative_is_nearest_to_its_mean(k: int) -> None:
    points = torch.randn(50, 4, dtype=torch.float64, generator=generator(k))
    found = clusters_of(points, k)
    assert sorted(row for cluster in found for row in cluster.members) == list(range(50))
    assert len(found) == k
    for cluster in found:
        mine = points[list(cluster.members)]
        nearest = int((mine - mine.mean(0)).norm(dim=1).argmin())
        assert cluster.representative == cluster.members[nearest]


def test_the_same_points_give_the_same_clusters() -> None:
    points = torch.rand(60, 3, generator=generator(2))
    assert clusters_of(points, 4) == clusters_of(points.clone(), 4)
