"""Which channels are pruned, against the paper's algorithms 3 and 4 written out channel by channel."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from unlearnbench.api.runtime import generator
from unlearnbench_essential_graph.votes import contrast, count, pruned, top, votes

TARGETS, CHANNELS = 5, 20


def draw(seed: int = 0, targets: int = TARGETS) -> Tensor:
    return torch.randn(targets, CHANNELS, generator=generator(seed), dtype=torch.float64)


def everyone(alpha: Tensor) -> Tensor:
    return torch.ones(len(alpha), dtype=torch.bool)


def chosen_by_hand(alpha: list[float], delta: float) -> set[int]:
    """Largest signed values; of equal ones the first channel."""
    ranked = sorted(range(len(alpha)), key=lambda k: (-alpha[k], k))
    return set(ranked[: max(1, int(delta * len(alpha)))])


def paper_votes(alpha: Tensor, gone: list[int], delta: float) -> list[int]:
    """Algorithm 3: O is |Y| where a forgotten target selects a channel, -1 where a retained one does; summed."""
    total = [0] * alpha.shape[1]
    for t, row in enumerate(alpha.tolist()):
        for k in chosen_by_hand(row, delta):
            total[k] += len(alpha) if t in gone else -1
    return total


def names(mask: Tensor) -> set[int]:
    return set(mask.nonzero().flatten().tolist())


def decided(alpha: Tensor, gone: list[int], delta: float, balance: Any = "strict") -> set[int]:
    return names(pruned(alpha, everyone(alpha), gone, delta, "vote", balance)[1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3, 0.5])
def test_for_one_target_strict_and_code_are_the_papers_rule(seed: int, delta: float) -> None:
    alpha = draw(seed)
    for target in range(TARGETS):
        paper = {k for k, v in enumerate(paper_votes(alpha, [target], delta)) if v == TARGETS}  # algorithm 4
        assert decided(alpha, [target], delta, "strict") == paper
        assert decided(alpha, [target], delta, "code") == paper


@pytest.mark.parametrize("gone", [[0], [0, 3], [1, 2, 4]])
def test_votes_are_those_of_algorithm_3(gone: list[int]) -> None:
    alpha = draw(7)
    goes = torch.zeros(TARGETS, dtype=torch.bool)
    goes[gone] = True
    assert votes(top(alpha, 0.3), goes).tolist() == paper_votes(alpha, gone, 0.3)


@pytest.mark.parametrize("seed", range(4))
def test_for_two_targets_strict_code_and_none_are_what_they_say(seed: int) -> None:
    alpha, gone, delta = draw(seed), [1, 3], 0.4
    sets = [chosen_by_hand(row, delta) for row in alpha.tolist()]
    wanted = sets[1] | sets[3]
    needed = sets[0] | sets[2] | sets[4]
    assert decided(alpha, gone, delta, "none") == wanted
    assert decided(alpha, gone, delta, "strict") == wanted - needed
    assert decided(alpha, gone, delta, "code") == {
        k for k, v in enumerate(paper_votes(alpha, gone, delta)) if v > TARGETS - 1
    }


def test_a_channel_of_two_forgotten_targets_falls_by_the_code_though_all_retained_need_it() -> None:
    # |Y| = 5, two forgotten, r = 3 retained: 2 |Y| - r = 7. "==" never prunes it, the code does, strict must not.
    alpha = torch.zeros(TARGETS, 4, dtype=torch.float64)
    alpha[:, 2] = 1.0
    assert paper_votes(alpha, [0, 1], 0.25) == [0, 0, 2 * TARGETS - 3, 0]
    assert decided(alpha, [0, 1], 0.25, "code") == {2}
    assert decided(alpha, [0, 1], 0.25, "strict") == set()


def test_a_channel_of_two_forgotten_targets_that_nobody_else_needs_falls_by_strict() -> None:
    # The paper's "==" would leave it standing: its sum is 2 |Y|.
    alpha = torch.zeros(TARGETS, 4, dtype=torch.float64)
    alpha[:2, 2], alpha[2:, 0] = 1.0, 1.0
    assert paper_votes(alpha, [0, 1], 0.25)[2] == 2 * TARGETS
    assert decided(alpha, [0, 1], 0.25, "strict") == {2}


@pytest.mark.parametrize(("gone", "delta"), list(itertools.product([[0], [2, 4]], [0.1, 0.3, 0.6])))
def test_without_balance_more_is_pruned_by_code_and_strict_in_this_order(gone: list[int], delta: float) -> None:
    for seed in range(5):
        alpha = draw(seed)
        strict, code, none = (decided(alpha, gone, delta, balance) for balance in ("strict", "code", "none"))
        assert strict <= code <= none
        assert none


def test_a_larger_share_can_prune_less_under_strict_votes() -> None:
    # Against the paper's advice to choose large hyper-parameters: sets that grow overlap.
    alpha = torch.tensor([[4.0, 3, 2, 1], [1.0, 2, 4, 3]])
    assert [len(decided(alpha, [0], delta)) for delta in (0.5, 0.75)] == [2, 1]


@pytest.mark.parametrize(
    ("delta", "channels", "selected"),
    [(0.1, 64, 6), (0.1, 9, 1), (0.01, 16, 1), (0.25, 10, 2), (0.3, 10, 3), (0.29, 100, 29), (0.99, 4, 3), (0.5, 1, 1)],
)
def test_a_target_selects_the_floor_of_its_share_and_at_least_one(delta: float, channels: int, selected: int) -> None:
    assert count(delta, channels) == selected
    alpha = torch.randn(3, channels, generator=generator(0))
    assert top(alpha, delta).sum(1).tolist() == [selected] * 3


def test_of_equal_importances_the_first_channels_are_selected_and_never_fewer() -> None:
    # list.index of the published code finds the first of equal values twice and selects fewer.
    assert names(top(torch.tensor([1.0, 2, 2, 2, 0]), 0.4)) == {1, 2}


def test_the_sign_counts() -> None:
    assert names(top(torch.tensor([-9.0, 0.5, -1, 0.1]), 0.5)) == {1, 3}


def test_a_target_without_dependence_on_a_layer_selects_nothing_there() -> None:
    alpha = torch.tensor([[0.0, 0, 0, 0], [3.0, 2, 1, 0]])
    assert not top(alpha, 0.5)[0].any()
    assert decided(alpha, [1], 0.5) == {0, 1}


def test_targets_without_an_instance_neither_select_nor_protect() -> None:
    alpha = torch.tensor([[3.0, 2, 1, 0], [3.0, 2, 1, 0]])
    known = torch.tensor([True, False])
    for selection in ("vote", "contrast"):
        selected, gone = pruned(alpha, known, [0], 0.5, selection, "strict")  # type: ignore[arg-type]
        assert names(gone) == {0, 1}
        assert not selected[1].any()


def contrast_by_hand(alpha: list[list[float]], target: int, retained: list[int], delta: float) -> set[int]:
    largest = [max(abs(v) for v in row) for row in alpha]
    q = {}
    for k in range(len(alpha[0])):
        others = max((abs(alpha[r][k]) / largest[r] for r in retained), default=0.0)
        q[k] = alpha[target][k] / largest[target] - others
    ranked = sorted(q, key=lambda k: (-q[k], k))[: max(1, int(delta * len(q)))]
    return {k for k in ranked if q[k] > 0}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gone", [[0], [1, 4], [0, 1, 2, 3, 4]])
def test_contrast_takes_the_share_that_matters_more_to_the_target_than_to_any_retained(
    seed: int, gone: list[int]
) -> None:
    alpha = draw(seed)
    retained = [t for t in range(TARGETS) if t not in gone]
    expected = [contrast_by_hand(alpha.tolist(), t, retained, 0.3) for t in gone]
    selected, found = pruned(alpha, everyone(alpha), gone, 0.3, "contrast", "strict")
    assert [names(selected[t]) for t in gone] == expected
    assert names(found) == set().union(*expected)


def test_contrast_does_not_depend_on_the_scale_of_a_target() -> None:
    alpha = draw(3)
    scaled = alpha * torch.tensor([1.0, 1e4, 1e-4, 7, 1])[:, None]
    assert torch.equal(contrast(alpha[0], alpha[1:], 0.4), contrast(scaled[0], scaled[1:], 0.4))


def test_contrast_selects_nothing_where_another_target_needs_every_channel_more() -> None:
    alpha = torch.tensor([[1.0, 0.5, 0.25, 0.0]])
    assert not contrast(alpha[0], alpha, 0.5).any()
