"""The rounds on a network that is a table: what each row is predicted as, and what the patches of its spots add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from unlearnbench.api.runtime import generator
from unlearnbench_prune.bounds import NoSolution
from unlearnbench_prune.clusters import Cluster
from unlearnbench_prune.parts import Group, Patch, Spot
from unlearnbench_prune.rounds import NO_TARGET, Certified, Rounds, certified_clusters, cluster_rounds


@dataclass
class Table:
    """Rows with logits [n, c] of their own; a group adds its shift to the rows whose number is one of its patterns."""

    logits: Tensor
    made: list[tuple[Cluster, int, int]] = field(default_factory=list)
    """Cluster, target and number of earlier groups of every group that was made."""
    strength: float = 100.0

    def outputs(self, groups: Sequence[Group]) -> Tensor:
        found = self.logits.clone()
        for group in groups:
            found[[int(spot.pattern) for spot in group.spots]] += group.patch.shift
        return found

    def predict(self, groups: Sequence[Group]) -> Tensor:
        return self.outputs(groups).argmax(1)

    def make(self, cluster: Cluster, target: int, so_far: Sequence[Group]) -> Group:
        """Lifts the target of the representative just above everything else, as the patched outputs are."""
        self.made.append((cluster, target, len(so_far)))
        shift = torch.zeros(self.logits.shape[1])
        now = self.outputs(so_far)[cluster.representative]
        shift[target] = now.max() - now[target] + self.strength
        return Group(target, tuple(Spot(torch.tensor(row)) for row in cluster.members), Patch(shift))


def sure(labels: Sequence[int], classes: int, by: float = 5.0) -> Tensor:
    return by * one_hot(torch.tensor(labels), classes).float()


def blobs(*sizes: int) -> Tensor:
    """Points near 0, 100, 200, ..."""
    parts = [100.0 * i + torch.arange(size, dtype=torch.float64) for i, size in enumerate(sizes)]
    return torch.cat(parts)[:, None]


def ascending(classes: int) -> list[int]:
    return list(range(classes))


def paper(
    table: Table, points: Tensor, labels: Sequence[int], *, clusters: int = 2, rounds: int = 2, rate: float = 1.0
) -> Rounds:
    return cluster_rounds(
        points,
        torch.tensor(labels),
        clusters=clusters,
        rounds=rounds,
        unlearn_rate=rate,
        predict=table.predict,
        ranked=lambda row: ascending(table.logits.shape[1]),
        make_group=table.make,
    )


def test_each_cluster_has_a_target_of_its_own_that_none_of_its_rows_is_labelled_as() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    table = Table(sure(labels, 4))
    found = paper(table, blobs(2, 2, 2), labels, clusters=3)
    assert found.members == ((0, 1), (2, 3), (4, 5))
    assert [group.target for group in found.groups] == [1, 0, 0]
    assert found.rates == (1.0,)
    assert table.predict(found.groups).tolist() == [1, 1, 0, 0, 0, 0]


def test_the_wish_of_a_representative_is_granted_for_its_own_cluster() -> None:
    labels = [0, 0, 0, 0, 0, 0]
    table = Table(sure(labels, 5))
    wishes = {1: [3, 2, 1, 0, 4], 4: [4, 3, 2, 1, 0]}
    found = cluster_rounds(
        blobs(3, 3), torch.tensor(labels), clusters=2, rounds=1, unlearn_rate=1.0,
        predict=table.predict, ranked=wishes.__getitem__, make_group=table.make,
    )  # fmt: skip
    assert [group.target for group in found.groups] == [3, 4]


def test_everything_that_a_round_changes_is_in_the_groups() -> None:
    labels = [0, 1, 2, 0, 1, 2, 3]
    first, second = Table(sure(labels, 6)), Table(sure(labels, 6))
    found = paper(first, blobs(4, 3), labels)
    assert second.predict(found.groups).tolist() == first.predict(found.groups).tolist()
    assert sorted(row for mine in found.members for row in mine) == list(range(7))
    assert [sorted(int(spot.pattern) for spot in group.spots) for group in found.groups] == [
        list(mine) for mine in found.members
    ]


def test_the_next_round_takes_what_is_left_and_sees_the_patches_before_it() -> None:
    labels = [0, 0, 0]
    logits = sure(labels, 3)
    logits[2] *= 100  # the representative's patch is too small for this row
    table = Table(logits, strength=1.0)
    found = paper(table, blobs(3), labels, clusters=1)
    assert found.members == ((0, 1, 2), (2,))
    assert [earlier for _, _, earlier in table.made] == [0, 1]
    assert found.rates == (2 / 3, 1.0)
    assert found.left == ()
    # 500 against 0 + 6 of the first patch: the second adds just what the patched network lacks.
    first, second = (group.patch.shift for group in found.groups)
    assert first.tolist() == [0, 6, 0]
    assert second.tolist() == [0, 495, 0]


def test_a_row_that_a_patch_sends_back_to_its_label_comes_back() -> None:
    labels = [0, 0, 1, 1]
    table = Table(sure(labels, 3))
    both = table.make

    def spilling(cluster: Cluster, target: int, so_far: Sequence[Group]) -> Group:
        group = both(cluster, target, so_far)
        if len(so_far) == 1:  # the second patch also acts on row 0, and lifts its label most of all
            return Group(target, (*group.spots, Spot(torch.tensor(0))), Patch(group.patch.shift * 3))
        return group

    found = cluster_rounds(
        blobs(2, 2), torch.tensor(labels), clusters=2, rounds=2, unlearn_rate=1.0,
        predict=table.predict, ranked=lambda row: ascending(3), make_group=spilling,
    )  # fmt: skip
    assert found.rates == (0.75, 1.0)
    assert found.members == ((0, 1), (2, 3), (0,))


def test_rounds_end_at_the_rate_or_when_there_are_no_more() -> None:
    labels = [0] * 10
    logits = sure(labels, 2)
    logits[9] *= 100
    enough = paper(Table(logits, strength=1.0), blobs(10), labels, clusters=1, rounds=5, rate=0.9)
    assert enough.rates == (0.9,)
    assert enough.left == (9,)
    more = paper(Table(logits, strength=1.0), blobs(10), labels, clusters=1, rounds=5, rate=0.91)
    assert more.rates == (0.9, 1.0)
    stubborn = paper(Table(logits, strength=-1.0), blobs(10), labels, clusters=1, rounds=3, rate=0.9)
    assert stubborn.rates == (0.0, 0.0, 0.0)
    assert stubborn.left == tuple(range(10))


def test_a_target_differs_from_the_predictions_where_it_can() -> None:
    labels, predicted = [0, 0], [0, 1]
    free = paper(Table(sure(predicted, 3)), blobs(2), labels, clusters=1, rounds=1)
    assert [group.target for group in free.groups] == [2]
    bound = paper(Table(sure(predicted, 2)), blobs(2), labels, clusters=1, rounds=1)
    assert [group.target for group in bound.groups] == [1]


def test_a_cluster_with_every_label_is_split_until_each_part_has_a_target() -> None:
    labels = [0, 1, 0, 1]
    table = Table(sure(labels, 2))
    found = paper(table, blobs(1, 1, 1, 1), labels, clusters=1)
    assert found.rates == (1.0,)
    assert all(labels[row] != group.target for group, mine in zip(found.groups, found.members, strict=True)
               for row in mine)  # fmt: skip
    same = paper(Table(sure(labels, 2)), torch.zeros(4, 1), labels, clusters=1)
    assert same.members == ((0,), (1,), (2,), (3,))
    assert same.rates == (1.0,)


def test_a_row_without_a_patch_does_not_keep_the_others_from_theirs() -> None:
    labels = [0, 0, 0, 0]
    table = Table(sure(labels, 3))

    def unable(cluster: Cluster, target: int, so_far: Sequence[Group]) -> Group:
        if 2 in cluster.members:
            raise NoSolution("the solver gave up")
        return table.make(cluster, target, so_far)

    found = cluster_rounds(
        blobs(4), torch.tensor(labels), clusters=1, rounds=1, unlearn_rate=1.0,
        predict=table.predict, ranked=lambda row: ascending(3), make_group=unable,
    )  # fmt: skip
    assert sorted(row for mine in found.members for row in mine) == [0, 1, 3]
    assert found.impossible == {2: "the solver gave up"}
    assert found.left == (2,)


def certified(table: Table, points: Tensor, labels: Sequence[int], regions: Sequence[int], clusters: int) -> Certified:
    return certified_clusters(
        points, torch.tensor(labels), table.predict(()), regions,
        clusters=clusters, ranked=lambda row: ascending(table.logits.shape[1]), make_group=table.make,
    )  # fmt: skip


def test_certified_targets_are_neither_label_nor_prediction_of_any_member() -> None:
    rng = generator(3)
    labels, predicted = (torch.randint(6, (30,), generator=rng).tolist() for _ in range(2))
    points = torch.rand(30, 2, dtype=torch.float64, generator=rng)
    found = certified(Table(sure(predicted, 6)), points, labels, range(30), 3)
    assert not found.impossible
    assert sorted(row for mine in found.members for row in mine) == list(range(30))
    assert len(found.groups) > 3  # three clusters of ten rows have all the classes
    for group, mine in zip(found.groups, found.members, strict=True):
        assert not {group.target} & {label for row in mine for label in (labels[row], predicted[row])}


def test_rows_of_one_region_stay_together_and_are_refused_together() -> None:
    labels = [0, 1, 2, 0]
    found = certified(Table(sure(labels, 3)), blobs(1, 1, 1, 1), labels, [7, 7, 7, 8], 4)
    assert found.impossible == dict.fromkeys((0, 1, 2), NO_TARGET)
    assert found.members == ((3,),)
    together = certified(Table(sure(labels, 4)), blobs(1, 1, 1, 1), labels, [7, 7, 7, 8], 4)
    assert together.members == ((0, 1, 2), (3,))
    assert together.groups[0].target == 3


def test_of_two_classes_a_row_predicted_as_the_other_is_impossible() -> None:
    found = certified(Table(sure([0, 1], 2)), blobs(1, 1), [0, 0], [0, 1], 1)
    assert found.members == ((0,),)
    assert found.groups[0].target == 1
    assert found.impossible == {1: NO_TARGET}
