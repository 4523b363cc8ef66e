"""ZRF and the entropy attack against numpy, scipy and scikit-learn, and the mistakes of published code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_evidence import HandEvidence, rows, shuffled_rows
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import t
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor, nn

from unlearnbench.api.runtime import Data, Reading, generator
from unlearnbench_bad_teaching.measures import EntropyAttack, Zrf
from unlearnbench_bad_teaching.plugin import EntropyAttackParams, ZrfParams
from unlearnbench_bad_teaching.scores import (
    entropy,
    mean_interval,
    taken_for_members,
    zrf,
)


def logits(n: int, classes: int = 3, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(n, classes, generator=generator(seed), dtype=torch.float64)


def line(seed: int, scale: float = 1.0) -> nn.Module:
    """A linear network 4-3 with given weights."""
    net = nn.Linear(4, 3).double()
    with torch.no_grad():
        net.weight.copy_(scale * torch.randn(3, 4, generator=generator(seed), dtype=torch.float64))
        net.bias.zero_()
    return net.eval()


def data(**sizes: int) -> dict[str, Data]:
    found, rng = {}, generator(3)
    for i, (name, n) in enumerate(sizes.items()):
        x = torch.randn(n, 4, generator=rng, dtype=torch.float64)
        found[name] = rows(x, torch.randint(3, (n,), generator=rng), 1000 * i)
    return found


DATA = data(forget=12, retain=40, test=30)
NETS = {f"net-{i}": line(50 + i) for i in range(6)}


def evidence(**changes: Any) -> HandEvidence:
    base: dict[str, Any] = {"data": DATA, "models": {"unlearned": line(1, 2.0)}, "nets": NETS}
    return HandEvidence(**{**base, **changes})


def only(measure: Any, found: HandEvidence) -> Reading:
    (reading,) = measure.measure(found)
    return reading


def test_it_goes_from_0_for_opposites_to_1_for_the_same() -> None:
    """With a mean over rows and classes even opposites would read 0.9 of 1 for ten classes."""
    sure = torch.full((4, 10), -1000.0)
    one, other = sure.clone(), sure.clone()
    one[:, 0], other[:, 1] = 1000.0, 1000.0
    assert zrf(one, other) == 0.0
    assert zrf(one, one) == 1.0
    assert zrf(logits(9, 10), logits(9, 10)) == 1.0


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_it_does_not_depend_on_the_number_of_classes(classes: int) -> None:
    """The same two classes are at stake; the others have no probability. Divided by C it would come near 1."""
    few = [logits(6, 2, 2.0, 1), logits(6, 2, 2.0, 2)]
    many = [F.pad(z, (0, classes - 2), value=-800.0) for z in few]
    assert zrf(*many) == pytest.approx(zrf(*few), abs=1e-12)


def test_zrf_is_the_mean_over_several_random_networks_with_students_interval() -> None:
    found = evidence()
    outputs = found.outputs("forget")
    with torch.no_grad():
        each = [
            1 - float(np.mean([jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]))
            for net in list(NETS.values())[:4]
            for p, q in [(outputs.softmax(1).numpy(), net(DATA["forget"].x).softmax(1).numpy())]
        ]
    reading = only(Zrf(ZrfParams(nets=4)), found)
    half = t.ppf(0.975, 3) * np.std(each, ddof=1) / 2
    assert reading.value == pytest.approx(np.mean(each), abs=1e-12)
    assert (reading.low, reading.high) == pytest.approx((np.mean(each) - half, np.mean(each) + half), abs=1e-12)
    assert (reading.n, reading.split, reading.better) == (12, "forget", "gold")
    single = only(Zrf(ZrfParams(nets=1)), found)
    assert single.value == pytest.approx(each[0], abs=1e-12)
    assert (single.low, single.high) == (None, None)


def test_an_interval_stays_between_0_and_1() -> None:
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)
    assert mean_interval([0.4, 0.4]) == pytest.approx((0.4, 0.4))
    assert mean_interval([0.4]) is None


def test_a_random_network_itself_reads_1_where_it_is_the_only_one() -> None:
    reading = only(Zrf(ZrfParams(nets=1)), evidence(models={"unlearned": NETS["net-0"]}))
    assert reading.value == pytest.approx(1.0, abs=1e-12)


def test_random_networks_are_in_evaluation_mode() -> None:
    """Dropout would make the reading another one each time."""
    nets = {"net-0": nn.Sequential(nn.Dropout(0.5), line(4)).train()}
    first, second = (only(Zrf(ZrfParams(nets=1)), evidence(nets=nets)).value for _ in range(2))
    assert first == second == pytest.approx(zrf(evidence().outputs("forget"), line(4)(DATA["forget"].x).detach()))


def other_order() -> HandEvidence:
    return evidence(data={name: shuffled_rows(part)[0] for name, part in DATA.items()})


@pytest.mark.parametrize("measure", [Zrf(ZrfParams()), EntropyAttack(EntropyAttackParams(limit=20))])
def test_the_order_of_rows_does_not_matter(measure: Any) -> None:
    here, there = only(measure, evidence()), only(measure, other_order())
    for name in ("value", "low", "high"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), abs=1e-12)


def test_the_entropy_equals_scipys() -> None:
    z = logits(20, 6, 4.0)
    np.testing.assert_allclose(entropy(z).numpy(), scipy_entropy(z.softmax(1).numpy(), axis=1), rtol=0, atol=1e-12)
    assert float(entropy(torch.zeros(1, 8))) == pytest.approx(math.log(8))
    assert float(entropy(torch.tensor([[0.0, -5000.0]]))) == 0.0


@pytest.mark.parametrize("name", ["svc", "logistic"])
def test_the_attack_is_the_authors_classifier_trained_on_retain_and_test_rows(name: Any) -> None:
    """Everything is used where both sets are equally large, so that the drawing has nothing to choose."""
    parts = data(forget=15, retain=30, test=30)
    found = evidence(data=parts, models={"unlearned": line(1, 2.0)})
    h = {
        split: scipy_entropy(found.outputs(split).softmax(1).numpy(), axis=1).reshape(-1, 1)
        for split in ("forget", "retain", "test")
    }
    attack: Any = SVC(C=3, gamma="auto", kernel="rbf")
    if name == "logistic":
        attack = LogisticRegression(class_weight="balanced")
    attack.fit(np.concatenate([h["retain"], h["test"]]), np.r_[np.ones(30), np.zeros(30)])
    reading = only(EntropyAttack(EntropyAttackParams(classifier=name)), found)
    assert reading.value == pytest.approx(float(attack.predict(h["forget"]).mean()), abs=1e-12)
    assert reading.n == 15


def sure(n: int, strength: float, seed: int = 0) -> Tensor:
    """Outputs that favour class 0 by about this much."""
    z = 0.1 * torch.randn(n, 3, generator=generator(seed), dtype=torch.float64)
    z[:, 0] += strength
    return z


@pytest.mark.parametrize("name", ["svc", "logistic"])
def test_rows_that_look_like_members_are_taken_for_members(name: Any) -> None:
    def reading(strength: float) -> Reading:
        raw = {"forget": sure(12, strength, 1), "retain": sure(40, 4.0, 2), "test": sure(30, 1.0, 3)}
        return only(EntropyAttack(EntropyAttackParams(classifier=name)), evidence(raw=raw))

    members, others = reading(4.0), reading(1.0)
    assert (members.value, others.value) == (1.0, 0.0)
    assert members.low == pytest.approx(0.025 ** (1 / 12))
    assert others.high == pytest.approx(1 - 0.025 ** (1 / 12))


def test_as_many_members_as_non_members_are_drawn() -> None:
    """With all rows of a larger retain set, an attack that can tell nothing guesses member for every row."""
    parts = data(forget=200, retain=3000, test=300)
    raw = {name: logits(len(part), seed=i) for i, (name, part) in enumerate(parts.items())}
    balanced = only(EntropyAttack(EntropyAttackParams()), evidence(data=parts, raw=raw)).value
    h = {name: entropy(z).numpy() for name, z in raw.items()}
    assert taken_for_members(h["retain"], h["test"], h["forget"], "svc") == 200
    assert 0.1 < balanced < 0.9


def test_the_limit_bounds_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def watched(members: Any, others: Any, asked: Any, classifier: Any) -> int:
        sizes.append((len(members), len(others), len(asked)))
        return 0

    monkeypatch.setattr("unlearnbench_bad_teaching.measures.taken_for_members", watched)
    for limit in (7, 35, None):
        only(EntropyAttack(EntropyAttackParams(limit=limit)), evidence())
    assert sizes == [(7, 7, 12), (30, 30, 12), (30, 30, 12)]


def test_undefined_cases_give_a_status() -> None:
    attack, empty = EntropyAttack(EntropyAttackParams()), DATA["test"].rows(torch.arange(0))
    nothing = {name: torch.zeros(len(part), 3) for name, part in DATA.items()}
    broken = {**nothing, "retain": torch.full((40, 3), torch.nan)}
    infinite = {"forget": torch.full((12, 3), torch.inf)}
    for found, status in (
        (evidence(raw=nothing), "zero variance"),
        (evidence(raw=broken), "non-finite"),
        (evidence(raw=infinite), "non-finite"),
        *((evidence(data={**DATA, split: empty}), "empty split") for split in DATA),
    ):
        reading = only(attack, found)
        assert (reading.value, reading.low, reading.status) == (None, None, status)
    for found, status in (
        (evidence(raw=infinite), "non-finite"),
        (evidence(data={**DATA, "forget": empty}), "empty split"),
    ):
        reading = only(Zrf(ZrfParams()), found)
        assert (reading.value, reading.low, reading.status) == (None, None, status)


def test_one_row_is_enough() -> None:
    one = evidence(data={**DATA, "forget": DATA["forget"].rows(torch.tensor([0]))})
    assert only(EntropyAttack(EntropyAttackParams()), one).value in (0.0, 1.0)
    assert 0 <= only(Zrf(ZrfParams()), one).value <= 1
