"""The two measures on evidence made by hand: what they read, what they yield, and what has no value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import MISSING, Ensemble, Reading
from unlearnbench_u_lira.measures import LEVELS, ULira, VulnerableSamples
from unlearnbench_u_lira.plugin import ULiraParams, VulnerableParams, unlearnbench_measures

PARAMS = ULiraParams(bootstrap_draws=100, permutations=20)
GROUPS = VulnerableParams(bootstrap_draws=100)


def attack(evidence: Any, params: ULiraParams = PARAMS) -> dict[str, Reading]:
    return {reading.key: reading for reading in ULira(params).measure(evidence)}


def by_group(evidence: Any, params: VulnerableParams = GROUPS) -> dict[str, Reading]:
    return {reading.key: reading for reading in VulnerableSamples(params).measure(evidence)}


def test_originals_are_caught_golds_are_not_and_unlearned_models_lie_between(evidence: Callable) -> None:
    given = evidence()
    auc = {subject: attack(given.of(subject))["u-lira-auc"] for subject in ("original", "gold", "unlearned")}
    assert auc["original"].value > auc["unlearned"].low > 0.6
    assert auc["gold"].low < 0.5 < auc["gold"].high
    for reading in auc.values():
        assert reading.low < reading.value < reading.high
        assert reading.n == 80


def test_the_p_value_and_the_null_tell_a_leak_from_chance(evidence: Callable) -> None:
    leak, chance = attack(evidence()), attack(evidence().of("gold"))
    assert leak["u-lira-p-value"].value == pytest.approx(1 / 21)
    assert chance["u-lira-p-value"].value > 0.1
    for found in (leak, chance):
        null = found["u-lira-null-auc"]
        assert null.low < 0.5 < null.high
        assert null.value == pytest.approx(0.5, abs=0.02)


def test_what_every_row_shares_hides_the_leak_from_one_threshold_for_all(evidence: Callable) -> None:
    found = attack(evidence())
    assert found["u-lira-auc"].low > found["u-lira-uncalibrated-auc"].high
    assert found["u-lira-accuracy"].value > 0.6


def test_the_curve_has_fifteen_points_that_rise_from_one_in_a_thousand(evidence: Callable) -> None:
    curve = [r for r in attack(evidence(m=150)).values() if r.name == "u-lira-tpr"]
    assert [r.at["fpr"] for r in curve][::5] == ["0.001", "0.01", "0.1"]
    assert len(curve) == len(LEVELS) == 15
    values = [r.value for r in curve]
    assert values == sorted(values)
    assert all(r.value >= float(r.at["fpr"]) - 0.02 for r in curve)


def test_a_rate_that_allows_less_than_one_false_alarm_is_no_rate(evidence: Callable) -> None:
    """80 rows and 16 models make 640 entries of models that never saw the row."""
    found = attack(evidence())
    assert [found[f"u-lira-tpr.fpr={fpr}"].status for fpr in ("0.001", "0.00158")] == [
        "too few negatives",
        "ok",
    ]


def test_the_same_models_read_the_same_whatever_they_are_called(evidence: Callable) -> None:
    given = evidence()
    given.given["unlearned"] = given.given["original"]
    assert attack(given) == attack(given.of("original"))
    assert by_group(given) == by_group(given.of("original"))


def test_the_order_of_the_rows_changes_nothing(evidence: Callable) -> None:
    given = evidence()
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    assert attack(given) == attack(given.permuted(order))
    assert by_group(given) == by_group(given.permuted(order))


def test_rows_without_a_label_are_left_out(evidence: Callable) -> None:
    given = evidence()
    given.y[:10] = MISSING
    assert attack(given)["u-lira-auc"].n == 70


def test_forget_set_and_hold_out_may_be_of_unequal_size(evidence: Callable) -> None:
    assert attack(evidence(m=31))["u-lira-auc"].value > 0.6


def spoil(given: Any, value: float) -> Any:
    given.given["unlearned"][3, 5] = value
    return given


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (lambda given: spoil(given, torch.nan), "non-finite"),
        (lambda given: spoil(given, torch.inf), "infinite log-odds"),
        (lambda given: given.given["unlearned"].fill_(0.5) is not None and given, "zero variance"),
        (lambda given: given.permuted(torch.arange(2)), "too few rows"),
        (lambda given: given.permuted(torch.arange(0)), "too few rows"),
    ],
    ids=["nan", "inf", "constant", "one-forget-row", "no-rows"],
)
def test_what_has_no_value_has_a_status(evidence: Callable, make: Callable, status: str) -> None:
    given = make(evidence())
    names = {spec.name for measure in unlearnbench_measures() for spec in measure.readings}
    found = [*attack(given).values(), *by_group(given).values()]
    assert {reading.name for reading in found} == names
    assert {(reading.value, reading.status) for reading in found} == {(None, status)}


def test_one_class_has_a_status(evidence: Callable) -> None:
    given = evidence()
    given.given = {name: outputs[..., :1] for name, outputs in given.given.items()}
    given.y.zero_()
    assert {r.status for r in attack(given).values()} == {"one class"}


def test_every_reading_keeps_the_direction_that_its_spec_states(evidence: Callable) -> None:
    stated = {spec.name: spec.better for measure in unlearnbench_measures() for spec in measure.readings}
    found = [*attack(evidence()).values(), *by_group(evidence()).values()]
    assert {reading.name: reading.better for reading in found} == stated


def test_vulnerable_rows_leak_more_than_the_others(evidence: Callable) -> None:
    """Every fourth row was made to be memorised."""
    found = by_group(evidence())
    vulnerable, others = (found[f"vulnerable-auc.rows={group}"] for group in ("vulnerable", "others"))
    assert (vulnerable.n, others.n) == (20, 60)
    assert vulnerable.low > others.high
    rates = [found[f"vulnerable-tpr.fpr=0.01.rows={group}"].value for group in ("vulnerable", "others")]
    assert rates[0] > rates[1] + 0.3
    gold = by_group(evidence().of("gold"))["vulnerable-auc.rows=vulnerable"]
    assert gold.low < 0.5 < gold.high


def test_which_rows_are_vulnerable_is_not_read_from_the_subject(
    evidence: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither from its outputs nor, for a pair of models, from the originals that they were made from."""
    from unlearnbench_u_lira import measures

    taken: list[np.ndarray] = []
    real = measures.most_exposed
    monkeypatch.setattr(measures, "most_exposed", lambda *args: taken.append(real(*args)) or taken[-1])
    given, few = evidence(), VulnerableParams(bootstrap_draws=100, share=0.1)
    noise = torch.randn(16, 80, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_group(given, few)
    given.given["unlearned"] = noise
    by_group(given, few)
    given.given["original"][4:6] = noise[4:6]
    by_group(given, few)
    first, other_subject, other_pair = taken[0], taken[2], taken[4]
    assert (first == other_subject).all()
    assert (first[4:6] == other_pair[4:6]).all()
    assert (np.delete(first, [4, 5], 0) != np.delete(other_pair, [4, 5], 0)).any()


def test_groups_of_too_few_rows_have_a_status(evidence: Callable) -> None:
    found = by_group(evidence(), VulnerableParams(share=0.03, bootstrap_draws=100))
    assert found["vulnerable-auc.rows=vulnerable"].status == "too few rows"
    assert found["vulnerable-auc.rows=others"].value is not None


def test_independent_golds_show_damage_that_never_members_share(evidence: Callable) -> None:
    """An unlearner that spoils all audit rows alike hides membership, not that it was at work."""
    given = evidence(kept=0.0)
    given.given["unlearned"][..., 0] += 4 * (given.y != 0)
    params = ULiraParams(bootstrap_draws=100, permutations=20, reference="golds")
    inside, against = attack(given)["u-lira-auc"], attack(given, params)["u-lira-auc"]
    assert inside.low < 0.5 < inside.high
    assert against.value > 0.6


def test_gold_against_other_golds_is_the_floor_of_the_second_form(evidence: Callable) -> None:
    given = evidence(m=200).of("gold")
    found = attack(given, ULiraParams(bootstrap_draws=200, permutations=50, reference="golds"))
    assert found["u-lira-auc"].low < 0.5 < found["u-lira-auc"].high
    assert found["u-lira-null-auc"].value == pytest.approx(0.5, abs=0.01)
    assert found["u-lira-p-value"].value > 0.02
    assert given.asked == [16, 32]  # gold models of the second sixteen were not made for the subject


def test_what_will_be_asked_for_is_told_before() -> None:
    assert ULira(ULiraParams(shadows=8)).ensembles() == [Ensemble("shadows", originals=8, golds=8, unlearned=8)]
    golds = ULira(ULiraParams(shadows=8, reference="golds")).ensembles()
    assert golds == [Ensemble("shadows", originals=8, golds=16, unlearned=8)]
    assert VulnerableSamples(VulnerableParams()).ensembles() == ULira(ULiraParams()).ensembles()


@pytest.mark.parametrize(
    ("measure", "parameter"),
    [
        (ULira(ULiraParams(shadows=7)), "u-lira.shadows"),
        (VulnerableSamples(VulnerableParams(shadows=7)), "vulnerable-samples.shadows"),
    ],
    ids=["u-lira", "vulnerable-samples"],
)
def test_an_odd_number_of_shadows_is_refused_before_any_is_trained(measure: Any, parameter: str) -> None:
    with pytest.raises(UsageError, match="7 shadow models") as refused:
        measure.ensembles()
    assert (refused.value.code, refused.value.where, refused.value.hint) == ("bad-parameter", parameter, "take 8")
