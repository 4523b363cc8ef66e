"""KLoM against scipy and numpy, and against histograms counted by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from unlearnbench_klom.margins import histograms, klom, margins


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_the_divergence_is_scipys_entropy_of_numpys_histograms() -> None:
    rng = np.random.default_rng(0)
    unlearned, oracles = rng.normal(0.5, 2, (30, 12)), rng.normal(0, 2, (50, 12))
    for row, value in enumerate(klom(unlearned, oracles)):
        p, q = unlearned[:, row], oracles[:, row]
        ends = (min(p.min(), q.min()), max(p.max(), q.max()))
        p_share = np.histogram(p, 20, ends)[0] / len(p)
        q_share = np.maximum(np.histogram(q, 20, ends)[0] / len(q), 1e-5)
        # entropy() normalises both; the floors that it divides away come back as the logarithm of their sum
        assert value == pytest.approx(entropy(p_share, q_share) - math.log(q_share.sum()), abs=1e-12)


def test_histograms_by_hand() -> None:
    unlearned, oracles = column(0, 1, 1, 10), column(0, 0, 1, 10)
    # 20 bins of .5 on [0, 10]: unlearned 1/4, 2/4, 1/4 and oracles 2/4, 1/4, 1/4 in the bins of 0, 1 and 10
    expected = 0.25 * math.log(0.25 / 0.5) + 0.5 * math.log(0.5 / 0.25) + 0.25 * math.log(1)
    assert klom(unlearned, oracles) == pytest.approx(expected)


def test_the_largest_margin_is_counted_in_the_last_bin() -> None:
    counts = histograms(column(0, 5, 10), np.array([0.0]), np.array([10.0]), 20)[:, 0]
    assert counts.sum() == 3
    assert counts[[0, 10, 19]].tolist() == [1, 1, 1]


def test_losing_the_largest_margin_would_change_the_divergence() -> None:
    unlearned, oracles = column(0, 0, 0, 10), column(0, 0, 0, 0)
    # Without its largest value the unlearned ensemble would look like the oracles: 0 instead of this.
    assert klom(unlearned, oracles) == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25 / 1e-5))


def test_no_margin_is_lost_whichever_way_edges_are_rounded() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (17, 500)) * np.logspace(-8, 2, 500)
    counts = histograms(values, values.min(0), values.max(0), 20)
    assert (counts >= 0).all()
    assert (counts.sum(0) == 17).all()
    assert (counts[0] > 0).all()
    assert (counts[-1] > 0).all()


def test_ensembles_may_differ_in_size() -> None:
    assert klom(column(0, 10), column(0, 0, 10, 10)) == pytest.approx(0)
    assert klom(column(0, 0, 10, 10), column(0, 10)) == pytest.approx(0)


def test_a_bin_without_oracles_costs_what_the_floor_says() -> None:
    assert klom(column(10, 10), column(0, 0)) == pytest.approx(math.log(1e5))


def test_a_row_on_which_all_models_agree_has_divergence_0() -> None:
    assert klom(column(3, 3, 3), column(3, 3)) == [0]


def test_the_same_models_have_divergence_0_and_models_have_no_order() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(9, 5)), rng.normal(size=(9, 5))
    assert (klom(a, a[::-1]) == 0).all()
    assert (klom(a, b) == klom(rng.permuted(a, axis=0), b[::-1])).all()


def test_it_grows_with_the_distance_and_is_not_symmetric() -> None:
    rng = np.random.default_rng(2)
    oracles = rng.normal(0, 1, (64, 100))
    found = [klom(rng.normal(shift, 1, (64, 100)), oracles).mean() for shift in (0, 1, 3)]
    assert found == sorted(found)
    narrow = rng.normal(0, 0.1, (64, 100))
    assert klom(narrow, oracles).mean() < klom(oracles, narrow).mean() / 2


@pytest.mark.parametrize(("n", "low", "high"), [(16, 3.0, 4.7), (32, 1.2, 2.1), (64, 0.4, 1.0)])
def test_two_ensembles_of_one_distribution_have_the_floor_of_their_size(n: int, low: float, high: float) -> None:
    """Bins that no oracle fell into by chance; what gold reads, at this size, whatever the scenario."""
    rng = np.random.default_rng(0)
    assert low < klom(rng.normal(size=(n, 300)), rng.normal(size=(n, 300))).mean() < high


def test_margins_are_clipped_and_keep_their_digits_where_a_probability_would_be_1() -> None:
    z = torch.tensor([[[60.0, 0, 0], [1e4, 0, 0], [1e4, 0, 0]]])
    assert margins(z, torch.tensor([0, 0, 1])).tolist() == [[pytest.approx(60 - math.log(2)), 100, -100]]
