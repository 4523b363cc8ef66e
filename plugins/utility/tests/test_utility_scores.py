"""ToW, AUS and NoMUS: by hand, against published figures, and the attacks inside against scikit-learn and scipy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Request
from unlearnbench_utility.attacks import Tally, best_threshold, bootstrap_interval, loss_attack
from unlearnbench_utility.scores import (
    AdaptiveUnlearningScore,
    Nomus,
    TugOfWar,
    class_removal,
    homogeneous_removal,
    nomus,
    tug_of_war,
)

TOW, AUS, NOMUS = TugOfWar(NoParams()), AdaptiveUnlearningScore(NoParams()), Nomus(NoParams())


def accuracy(evidence: Any, split: str, subject: str | None = None) -> float:
    return float((evidence.outputs(split, subject).argmax(1) == evidence.y(split)).double().mean())


def test_tug_of_war_by_hand_is_two_sided() -> None:
    assert tug_of_war(0.1, -0.2, 0.5) == pytest.approx(0.9 * 0.8 * 0.5)
    assert tug_of_war(0.3, 0, 0) == tug_of_war(-0.3, 0, 0)


def test_tow_is_the_product_of_the_three_differences_to_gold(noisy: Any, by_key: Any) -> None:
    evidence = noisy()
    found = by_key(TOW, evidence)
    d = [accuracy(evidence, split) - accuracy(evidence, split, "gold") for split in ("forget", "retain", "test")]
    assert all(d)
    assert found["tow"].value == pytest.approx(math.prod(1 - abs(x) for x in d))
    attacks = [by_key(TOW, noisy(subject=s))["threshold-mia.forget"].value for s in ("unlearned", "gold")]
    mia = (1 - abs(attacks[0] - attacks[1])) * (1 - abs(d[1])) * (1 - abs(d[2]))
    assert found["tow-mia"].value == pytest.approx(mia)


def test_gold_is_the_best_that_can_be(noisy: Any, by_key: Any) -> None:
    found = by_key(TOW, noisy(subject="gold"))
    assert (found["tow"].value, found["tow-mia"].value) == (1.0, 1.0)


def test_best_threshold_is_youdens_on_the_roc_curve() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(1, 1, 80), rng.normal(0, 1, 300)
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [80, 300]), np.concatenate([members, others]))
    t = best_threshold(members, others)
    assert (members >= t).mean() - (others >= t).mean() == pytest.approx((tpr - fpr).max(), abs=1e-12)


def test_best_threshold_by_hand() -> None:
    assert best_threshold(np.array([3.0, 5, 6]), np.array([1.0, 2, 4])) == 3
    assert best_threshold(np.array([1.0, 1]), np.array([1.0, 1])) == 1  # nothing to tell apart: all are members


def test_threshold_attack_calls_unconfident_forget_rows_non_members(hand: Any, by_key: Any) -> None:
    """Retain rows have confidence .9, test rows .5: of the forget rows at .95, .9, .6 and .2 two are below .9."""

    def sure(*p: float) -> torch.Tensor:
        return torch.tensor([[x, 1 - x] for x in p], dtype=torch.float64).log()

    out = {"forget": sure(0.95, 0.9, 0.6, 0.2), "retain": sure(0.9, 0.9), "test": sure(0.5, 0.5, 0.5)}
    y = {split: torch.zeros(len(o), dtype=torch.long) for split, o in out.items()}
    reading = by_key(TOW, hand(y, {"unlearned": out, "gold": out}))["threshold-mia.forget"]
    assert (reading.value, reading.n, reading.better) == (0.5, 4, "gold")
    assert (reading.low, reading.high) == pytest.approx((beta.ppf(0.025, 2, 3), beta.ppf(0.975, 3, 2)))


def test_aus_by_hand() -> None:
    assert homogeneous_removal(0.9, 0.8, 0.95) == pytest.approx(0.9 / 1.15)
    assert class_removal(0.9, 0.8, 0.95) == pytest.approx(0.9 / 1.95)
    assert class_removal(0.9, 0.9, 0.0) == homogeneous_removal(0.9, 0.9, 0.9) == 1


@pytest.mark.parametrize(("kind", "form"), [("class", class_removal), ("samples", homogeneous_removal)])
def test_the_request_picks_the_form_of_aus(noisy: Any, by_key: Any, kind: str, form: Any) -> None:
    evidence = noisy(request=Request(kind=kind, digest=""))
    value = by_key(AUS, evidence)["aus"].value
    parts = accuracy(evidence, "test", "original"), accuracy(evidence, "test"), accuracy(evidence, "forget")
    assert value == pytest.approx(form(*parts))
    other = class_removal if form is homogeneous_removal else homogeneous_removal
    assert value != pytest.approx(other(*parts))


@pytest.mark.parametrize(
    ("accuracy_", "distance", "score"),
    [(0.5951, 0.2136, 0.5839), (0.488, 0.0445, 0.6995), (0.4048, 0.0485, 0.6539), (0.5984, 0.1415, 0.6577)],
)
def test_nomus_gives_the_published_scores_of_mufac(accuracy_: float, distance: float, score: float) -> None:
    """Original, retrained, NegGrad and SCRUB; the distance of the attack from 1/2 is what was published."""
    assert nomus(accuracy_, 0.5 + distance) == pytest.approx(score, abs=1e-4)
    assert nomus(accuracy_, 0.5 - distance) == pytest.approx(score, abs=1e-4)


def test_loss_attack_is_scikit_learns_cross_validation() -> None:
    rng = np.random.default_rng(0)
    forgotten, unseen = rng.exponential(0.5, 60), rng.exponential(1.5, 60)
    scores = cross_val_score(
        LogisticRegression(), np.concatenate([forgotten, unseen])[:, None], np.repeat([1, 0], 60),
        cv=StratifiedShuffleSplit(10, random_state=3), scoring="accuracy",
    )  # fmt: skip
    tested = loss_attack(forgotten, unseen, 3)
    assert tested.accuracy == pytest.approx(scores.mean(), abs=1e-12)
    assert tested.times.sum() == 10 * 12
    assert tested.accuracy > 0.55


def test_nomus_puts_test_accuracy_and_attack_together(noisy: Any, by_key: Any) -> None:
    evidence = noisy()
    evidence.out["unlearned"]["forget"].mul_(9)  # surer than on unseen rows
    found = by_key(NOMUS, evidence)
    attack = found["loss-mia.forget"]
    assert found["nomus"].value == pytest.approx(nomus(accuracy(evidence, "test"), attack.value))
    assert attack.n == 80  # as many hold-out rows as forget rows
    assert attack.low < attack.value < attack.high
    assert attack.better == "gold"


def test_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for seed in range(150):
        right = np.concatenate([rng.random(60) < 0.7, rng.random(60) < 0.6]).astype(float)
        low, high = bootstrap_interval(Tally(right, np.ones(120)), seed)
        covered.append(low <= 0.65 <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize("measure", [TOW, AUS, NOMUS])
def test_order_of_rows_changes_no_bit(noisy: Any, shuffled: Any, by_key: Any, measure: Any) -> None:
    plain = by_key(measure, noisy())
    torch.manual_seed(99)  # nor does the state of global streams
    np.random.seed(99)  # noqa: NPY002
    assert plain == by_key(measure, shuffled(noisy()))


@pytest.mark.parametrize("measure", [TOW, AUS, NOMUS])
@pytest.mark.parametrize(("change", "status"), [("empty", "empty split"), ("nan", "non-finite")])
def test_a_part_that_does_not_exist_leaves_no_score(
    noisy: Any, by_key: Any, measure: Any, change: str, status: str
) -> None:
    evidence = noisy()
    if change == "empty":
        evidence.y_of["test"][:] = -100
    else:
        evidence.out["unlearned"]["test"][0, 0] = math.nan
    found = by_key(measure, evidence)
    scores = [r for key, r in found.items() if key in ("tow", "tow-mia", "aus", "nomus", "threshold-mia.forget")]
    assert scores
    assert {(r.value, r.low, r.status) for r in scores} == {(None, None, status)}


def test_too_few_rows_for_the_splits_of_the_attack(noisy: Any, by_key: Any) -> None:
    evidence = noisy()
    evidence.y_of["forget"][6:] = -100
    assert by_key(NOMUS, evidence)["loss-mia.forget"].status == "ok"
    evidence.y_of["forget"][1:] = -100
    found = by_key(NOMUS, evidence)
    assert {(r.value, r.status) for r in found.values()} == {(None, "fewer than 6 rows")}


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8, 1e30])
def test_losses_of_a_destroyed_model_do_not_blind_the_attack(scale: float) -> None:
    """Unscaled, a logistic regression reads 1/2 from 1e8 on, as if all were forgotten."""
    rng = np.random.default_rng(0)
    forgotten, unseen = rng.exponential(1, 60), rng.exponential(1, 60)
    assert loss_attack(scale * (3 + forgotten), unseen, 0).accuracy > 0.9
    assert loss_attack(scale * (3 + forgotten), scale * unseen, 0).accuracy > 0.9


def test_equal_losses_tell_nothing(noisy: Any, by_key: Any) -> None:
    evidence = noisy()
    for split in ("forget", "holdout"):
        evidence.out["unlearned"][split].zero_()
    assert by_key(NOMUS, evidence)["loss-mia.forget"].value == 0.5
