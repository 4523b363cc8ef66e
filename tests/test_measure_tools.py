"""What the host offers to measures: rows of a split, log-odds, divergences, intervals, seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_evidence import HandEvidence, rows, shuffled_rows
from hand_siblings import EnsembleEvidence, drawn_ensembles
from scipy.spatial.distance import jensenshannon
from scipy.special import logit, softmax
from scipy.stats import beta, binom
from torch import Tensor, nn

from unlearnbench.api.runtime import (
    MISSING,
    Rows,
    Subject,
    bootstrap_interval,
    generator,
    jensen_shannon,
    log_odds,
    numpy_rng,
    order_by_id,
    rows_of,
    seed_from,
    share_interval,
    status_of,
)


def evidence(n: int = 9) -> HandEvidence:
    """A forget set whose ids fall and whose row 2 has no annotation; outputs are the inputs."""
    x = torch.randn(n, 3, generator=generator(0))
    data = rows(x, torch.arange(n) % 3, 100)
    data.y[2] = MISSING
    turned = data.rows(torch.arange(n).flip(0))
    model = nn.Identity()
    return HandEvidence(data={"forget": turned, "test": data.rows(torch.arange(0))}, models={"unlearned": model})


def test_rows_come_by_id_in_double_precision_and_without_those_that_have_no_annotation() -> None:
    given = evidence()
    found = rows_of(given, "forget")
    assert found.ids.tolist() == [100, 101, 103, 104, 105, 106, 107, 108]
    assert found.y.tolist() == [0, 1, 0, 1, 2, 0, 1, 2]
    assert found.outputs.dtype == torch.float64
    assert torch.equal(found.outputs, given.data["forget"].x.flip(0)[[0, 1, 3, 4, 5, 6, 7, 8]].double())
    assert (found.status, len(found)) == ("ok", 8)


def test_all_rows_are_kept_where_annotations_play_no_part() -> None:
    found = rows_of(evidence(), "forget", labelled=False)
    assert found.ids.tolist() == list(range(100, 109))
    assert found.y[2] == MISSING


def test_rows_and_what_is_drawn_of_them_do_not_depend_on_their_order() -> None:
    given = evidence()
    other = replace(given, data={name: shuffled_rows(part, seed=4)[0] for name, part in given.data.items()})
    for first, second in (
        (rows_of(given, "forget"), rows_of(other, "forget")),
        (rows_of(given, "forget").drawn(5, generator(1)), rows_of(other, "forget").drawn(5, generator(1))),
    ):
        assert torch.equal(first.ids, second.ids)
        assert torch.equal(first.y, second.y)
        assert torch.equal(first.outputs, second.outputs)


def test_more_rows_than_there_are_is_all_of_them() -> None:
    found = rows_of(evidence(), "forget")
    assert found.drawn(99, generator(0)).ids.tolist() == found.ids.tolist()
    assert len(set(found.drawn(4, generator(0)).ids.tolist())) == 4


class Asked:
    """An ensemble that says which outputs it was asked for."""

    def __init__(self, given: EnsembleEvidence) -> None:
        self.given = given
        self.asked: list[tuple[str, Subject]] = []

    def outputs(self, split: str, subject: Subject = "unlearned") -> Tensor:
        self.asked.append((split, subject))
        return self.given.each[split, subject]


def test_the_rows_of_an_ensemble_keep_its_models_apart() -> None:
    given = drawn_ensembles(4, (6, 5, 0))
    turned = given.shuffled()
    found, other = (rows_of(e, "forget", "gold", models=e.siblings(8)) for e in (given, turned))
    assert found.outputs.shape == (8, 6, 3)
    assert torch.equal(found.outputs, given.each["forget", "gold"].double())
    assert torch.equal(found.outputs, other.outputs)
    assert torch.equal(found.at(torch.tensor([4, 1])).outputs, found.outputs[:, [4, 1]])


def test_the_models_of_an_ensemble_are_the_subjects_unless_others_are_named() -> None:
    given = drawn_ensembles(4, (6, 5, 0))
    models = Asked(given)
    rows_of(given.about("original"), "forget", models=models)  # type: ignore[arg-type]
    rows_of(given.about("original"), "forget", "gold", models=models)  # type: ignore[arg-type]
    assert models.asked == [("forget", "original"), ("forget", "gold")]


def test_no_model_is_trained_for_a_split_that_has_no_rows() -> None:
    given = drawn_ensembles(4, (6, 5, 0))
    models = Asked(given)
    found = rows_of(given, "test", models=models)  # type: ignore[arg-type]
    assert (found.status, len(found), models.asked) == ("empty split", 0, [])


def test_the_status_says_what_is_wrong_with_any_of_several_splits() -> None:
    good, bad = (
        Rows(z, torch.zeros(2, dtype=torch.int64), torch.arange(2)) for z in (torch.ones(2, 3), torch.ones(2, 3))
    )
    bad.outputs[1, 2] = torch.nan
    empty = rows_of(evidence(), "test")
    assert status_of() == status_of(good, good) == "ok"
    assert status_of(good, bad) == "non-finite"
    assert status_of(bad, good, empty) == status_of(empty) == "empty split"


def test_a_row_of_several_labels_counts_where_one_of_them_is_known() -> None:
    y = torch.tensor([[1, MISSING], [MISSING, MISSING], [0, 1]])
    assert order_by_id(torch.tensor([7, 6, 5]), y).tolist() == [2, 0]
    assert order_by_id(torch.tensor([7, 6, 5])).tolist() == [2, 1, 0]


@pytest.mark.parametrize("classes", [2, 3, 30])
def test_log_odds_are_scipys_logit_of_the_probability_of_the_true_class(classes: int) -> None:
    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 3, (4, 7, classes)), rng.integers(classes, size=7)
    expected = logit(softmax(z, axis=2)[:, np.arange(7), y])
    found = log_odds(torch.from_numpy(z), torch.from_numpy(y))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11)
    assert torch.equal(log_odds(torch.from_numpy(z[1]), torch.from_numpy(y)), found[1])  # one model alone


def test_log_odds_of_certain_predictions_stay_exact() -> None:
    """p_y rounds to 1 and to 0 here, also in float32: ln(p / (1 - p)) would be infinite."""
    z = torch.tensor([[1000.0, 0, 0], [-1000.0, 0, 0]])
    expected = [1000 - math.log(2), -1000 - math.log(2)]
    assert log_odds(z, torch.tensor([0, 0])).tolist() == pytest.approx(expected, rel=1e-15)


def test_infinite_logits_are_passed_on() -> None:
    inf = torch.inf
    z = torch.tensor([[inf, 0.0], [0.0, -inf], [0.0, inf], [1.0, torch.nan]])
    found = log_odds(z, torch.zeros(4, dtype=torch.int64)).tolist()
    assert found[:3] == [inf, inf, -inf]
    assert math.isnan(found[3])
    assert log_odds(torch.ones(1, 1), torch.tensor([0])).tolist() == [inf]


def test_the_divergence_equals_scipys_and_a_case_by_hand() -> None:
    p, q = (
        torch.randn(20, 7, generator=generator(i), dtype=torch.float64).mul(s).softmax(1) for i, s in ((1, 3), (2, 1))
    )
    np.testing.assert_allclose(jensen_shannon(p, q), jensenshannon(p, q, base=2, axis=1) ** 2, rtol=0, atol=1e-12)
    # p = (1/2, 1/2), q = (1/4, 3/4): m = (3/8, 5/8).
    from_p = 0.5 * math.log2(0.5 / 0.375) + 0.5 * math.log2(0.5 / 0.625)
    from_q = 0.25 * math.log2(0.25 / 0.375) + 0.75 * math.log2(0.75 / 0.625)
    by_hand = jensen_shannon(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]]))
    assert float(by_hand) == pytest.approx((from_p + from_q) / 2, abs=1e-7)


def test_neither_argument_order_nor_the_mean_of_the_library_is_followed() -> None:
    """F.kl_div(log p, m) is KL(m || p), and its default divides by rows and classes."""
    p, q = (torch.randn(8, 5, generator=generator(i), dtype=torch.float64).mul(3).softmax(1) for i in (1, 2))
    m = (p + q) / 2
    ours = float(jensen_shannon(p, q).mean())
    turned = float((F.kl_div(p.log(), m, reduction="none") + F.kl_div(q.log(), m, reduction="none")).sum(1).mean()) / 2
    right = float((F.kl_div(m.log(), p, reduction="none") + F.kl_div(m.log(), q, reduction="none")).sum(1).mean()) / 2
    assert ours == pytest.approx(right / math.log(2), abs=1e-12)
    assert abs(ours - turned / math.log(2)) > 0.01


def test_a_share_that_is_no_number_is_not_taken_for_agreement() -> None:
    p, q = torch.full((1, 3), torch.nan), torch.full((1, 3), 1 / 3)
    assert bool(jensen_shannon(p, q).isnan().all())
    assert bool(jensen_shannon(q, p).isnan().all())


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 8), (8, 8), (1, 1)])
def test_the_exact_interval_is_clopper_and_pearsons(hits: int, n: int) -> None:
    low = beta.ppf(0.025, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1.0
    assert share_interval(hits, n) == pytest.approx((low, high), abs=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 0.5])
def test_the_exact_interval_covers_at_least_as_often_as_it_says(share: float) -> None:
    ends = [share_interval(k, 40) for k in range(41)]
    covered = [k for k, (low, high) in enumerate(ends) if low <= share <= high]
    assert 0.95 <= binom.pmf(covered, 40, share).sum() < 1


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (7, 20), (150, 300)])
def test_wilsons_interval_is_its_formula_and_holds_the_share(hits: int, n: int) -> None:
    """The shares p that are z standard errors, at p itself, from the one observed."""
    z, p = 1.959963984540054, hits / n
    centre, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = share_interval(hits, n, "wilson")
    assert (low, high) == pytest.approx(((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)), abs=1e-12)
    assert 0 <= low <= p <= high <= 1
    assert low < high


def test_a_share_of_nothing_is_refused() -> None:
    for hits, n in ((0, 0), (3, 2)):
        with pytest.raises(ValueError):  # noqa: PT011 - in scipy's words
            share_interval(hits, n)


def test_bootstrap_intervals_hold_the_true_value_about_as_often_as_they_say() -> None:
    """Percentile intervals of skewed samples hold a little less than 95 %."""
    rng = np.random.default_rng(4)

    def p95(values: np.ndarray) -> float:
        return float(np.quantile(values, 0.95))

    samples = [rng.exponential(size=200) for _ in range(200)]
    means, tails = ([bootstrap_interval(s, rng, f, draws=200) for s in samples] for f in (np.mean, p95))
    assert np.mean([low <= 1 <= high for low, high in means]) >= 0.9
    assert np.mean([low <= math.log(20) <= high for low, high in tails]) >= 0.87
    assert np.mean([high - low for low, high in means]) == pytest.approx(2 * 1.96 / math.sqrt(200), rel=0.1)


def test_every_statistic_sees_the_units_that_the_generator_draws() -> None:
    values = np.arange(10.0)
    first, again = (bootstrap_interval(values, np.random.default_rng(0)) for _ in range(2))
    doubled = bootstrap_interval(values, np.random.default_rng(0), lambda drawn: 2 * drawn.mean())
    assert first == again
    assert doubled == tuple(2 * end for end in first if end is not None)
    drawn = values[np.random.default_rng(0).integers(10, size=(1000, 10))].mean(1)
    assert first == tuple(np.quantile(drawn, [0.025, 0.975]))


def test_a_single_unit_has_no_interval() -> None:
    for values in ([], [0.25]):
        assert bootstrap_interval(np.array(values), np.random.default_rng(0)) == (None, None)
    assert bootstrap_interval(np.array([0.25, 0.25]), np.random.default_rng(0)) == (0.25, 0.25)


def test_seeds_and_streams_continue_a_generator() -> None:
    rng = generator(3)
    seeds = [seed_from(rng) for _ in range(50)]
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**31 - 1 for seed in seeds)
    again = generator(3)
    assert numpy_rng(again).random() == np.random.default_rng(seeds[0]).random()
    assert seed_from(again) == seeds[1]
