"""What attacks read off outputs, the thresholds and the regression, against numpy, scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

from unlearnbench_membership import scores
from unlearnbench_membership.logistic import split_accuracy
from unlearnbench_membership.thresholds import best_threshold, class_thresholds

LOGITS = torch.randn(50, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
Y = torch.randint(7, (50,), generator=torch.Generator().manual_seed(2))


def test_scores_are_those_of_numpy() -> None:
    z, y = LOGITS.numpy(), Y.numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    rows = np.arange(len(y))
    entropy = -(p * np.log(p)).sum(1)
    modified = [
        -(1 - p[i, y[i]]) * np.log(p[i, y[i]]) - sum(p[i, k] * np.log(1 - p[i, k]) for k in range(7) if k != y[i])
        for i in rows
    ]
    assert np.allclose(scores.loss(LOGITS, Y), -np.log(p[rows, y]), rtol=1e-12)
    assert np.allclose(scores.confidence(LOGITS, Y), p[rows, y], rtol=1e-12)
    assert np.allclose(scores.correctness(LOGITS, Y), p.argmax(1) == y)
    assert np.allclose(scores.entropy(LOGITS), entropy, rtol=1e-12)
    assert np.allclose(scores.modified_entropy(LOGITS, Y), modified, rtol=1e-11)


def test_modified_entropy_by_hand() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    by_hand = -0.3 * math.log(0.7) - 0.2 * math.log(0.8) - 0.1 * math.log(0.9)
    assert scores.modified_entropy(p.log(), torch.tensor([0])).item() == pytest.approx(by_hand, rel=1e-12)
    of_second = -0.8 * math.log(0.2) - 0.7 * math.log(0.3) - 0.1 * math.log(0.9)
    assert scores.modified_entropy(p.log(), torch.tensor([1])).item() == pytest.approx(of_second, rel=1e-12)


def test_modified_entropy_takes_ln_of_the_complement_and_each_row_by_itself() -> None:
    """The known faults: ln p where ln(1 - p) belongs, and columns of the whole batch instead of the row's own class."""
    p = LOGITS.softmax(1)
    batch = scores.modified_entropy(LOGITS, Y)
    alone = torch.cat([scores.modified_entropy(LOGITS[i : i + 1], Y[i : i + 1]) for i in range(len(Y))])
    assert torch.allclose(batch, alone, rtol=1e-12)
    wrong_log = p.log()
    mistaken = -(1 - p.gather(1, Y[:, None])[:, 0]) * p.gather(1, Y[:, None])[:, 0].log()
    mistaken -= (p * wrong_log).scatter(1, Y[:, None], 0.0).sum(1)
    assert float((batch - mistaken).abs().max()) > 0.1
    assert scores.modified_entropy(torch.tensor([[50.0, 0.0, 0.0]]).double(), torch.tensor([0])).item() < 1e-18


@pytest.mark.parametrize("size", [40.0, 800.0, 1e30])
def test_scores_of_certain_rows_stay_finite_and_exact(size: float) -> None:
    logits = torch.tensor([[size, 0.0, 0.0], [size, 0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    everything = [scores.loss(logits, y), scores.entropy(logits), scores.modified_entropy(logits, y)]
    assert all(bool(found.isfinite().all()) for found in everything)
    assert everything[2][1].item() == pytest.approx(2 * size - math.log(2), rel=1e-9)  # -ln p_y - ln(1 - p_0)
    assert float(scores.entropy(logits)[1]) < 1e-13  # plain entropy does not tell the two apart


def test_the_best_threshold_is_that_of_trying_all() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        members, others = rng.integers(0, 8, rng.integers(1, 12)), rng.integers(-2, 6, rng.integers(1, 12))
        tried = [
            ((members >= t).mean() + (others < t).mean(), -t) for t in np.unique(np.concatenate([members, others]))
        ]
        best = max(round(value, 12) for value, _ in tried)
        expected = min(-t for value, t in tried if round(value, 12) == best)
        assert best_threshold(members.astype(float), others.astype(float)) == expected


def test_thresholds_belong_to_classes_and_a_class_without_both_kinds_has_that_of_all_rows() -> None:
    members, of_members = np.array([0.9, 0.8, 0.4, 0.3, 0.95]), np.array([0, 0, 1, 1, 2])
    others, of_others = np.array([0.7, 0.6, 0.2, 0.1]), np.array([0, 0, 1, 1])
    found = class_thresholds(members, of_members, others, of_others, 4)
    assert found.own == 2
    assert found.values[:2].tolist() == [0.8, 0.3]
    assert found.values[2] == found.values[3] == best_threshold(members, others)
    # With its own threshold every row is told; one for all of them cannot.
    assert (found.margin(members[:4], of_members[:4]) >= 0).all()
    assert (found.margin(others, of_others) < 0).all()
    common = best_threshold(members, others)
    assert not ((members >= common).all() and (others < common).all())


def test_the_regression_is_that_of_the_starting_kit_on_equal_sides() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.exponential(0.3, 90), rng.exponential(1.0, 90)
    x, y = np.concatenate([members, others])[:, None], np.repeat([1, 0], 90)
    for splits, held in ((10, 0.1), (5, 0.8)):
        cv = StratifiedShuffleSplit(n_splits=splits, test_size=held, random_state=7)
        expected = cross_val_score(LogisticRegression(), x, y, cv=cv, scoring="accuracy").mean()
        found = split_accuracy(members, others, splits=splits, held=held, seed=7, rng=np.random.default_rng(1))
        assert found is not None
        assert found.value == pytest.approx(expected, abs=1e-12)
        assert found.low < found.value < found.high


def test_the_regression_reads_a_half_where_nothing_can_be_told_and_more_either_way_round() -> None:
    rng = np.random.default_rng(2)
    low, high = rng.normal(1, 0.2, 200), rng.normal(4, 0.2, 200)
    pairs = {"same": (low, rng.normal(1, 0.2, 200)), "below": (low, high), "above": (high, low)}
    accuracy = {
        name: split_accuracy(*pair, splits=10, held=0.1, seed=0, rng=np.random.default_rng(0))
        for name, pair in pairs.items()
    }
    values = {name: found.value for name, found in accuracy.items() if found is not None}
    assert values["same"] == pytest.approx(0.5, abs=0.08)
    assert values["below"] == values["above"] == 1.0


@pytest.mark.parametrize(("members", "others"), [([1.0], [2.0]), ([1.0], [2.0, 3.0, 4.0]), ([1.0, 2.0], [2.0, 3.0])])
def test_too_few_rows_for_a_split_have_no_accuracy(members: list[float], others: list[float]) -> None:
    rng = np.random.default_rng(0)
    assert split_accuracy(np.array(members), np.array(others), splits=10, held=0.1, seed=0, rng=rng) is None


def test_losses_of_a_destroyed_model_have_an_accuracy() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.exponential(1e30, 40), rng.exponential(1, 40)
    found = split_accuracy(members, others, splits=10, held=0.1, seed=0, rng=rng)
    assert found is not None
    assert found.value == 1.0
