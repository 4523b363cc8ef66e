"""Built-in measures against independent derivations: numpy, scipy, scikit-learn and cases worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from records import run_document
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn.svm import SVC
from torch import Generator, Tensor

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import (
    SUBJECTS,
    TASKS,
    Data,
    PhaseCost,
    Reading,
    Subject,
    Task,
    View,
    generator,
    jensen_shannon,
)
from unlearnbench.builtin.cost import RunCost
from unlearnbench.builtin.measures import Accuracy, Agreement, UaRaTaMia
from unlearnbench.builtin.plugin import MembershipParams

ROWS = {"forget": 12, "retain": 60, "test": 40, "holdout": 10}
CLASSES = 4


@dataclass
class Known:
    """Evidence with chosen outputs: everything that a measure may ask the host for, and nothing else."""

    subject: Subject
    logits: Mapping[Subject, Mapping[str, Tensor]]
    labels: Mapping[str, Tensor]
    cost: Mapping[str, PhaseCost] = field(default_factory=dict)
    task: Task = TASKS["classification"]
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(name for name in ROWS if len(self.labels[name]))

    def y(self, split: str) -> Tensor:
        return self.labels[split]

    def outputs(self, split: str, subject: Subject | None = None) -> Tensor:
        self.asked.append((split, subject or self.subject))
        return self.logits[subject or self.subject][split]

    def view(self, split: str) -> View:
        y = self.labels[split]
        data = Data(torch.zeros(len(y), 1), y, torch.arange(len(y)), tuple(f"c{k}" for k in range(CLASSES)))
        return View(data, torch.arange(len(y)), name=split)

    def rng(self, purpose: str) -> Generator:
        return generator(11)


def evidence(subject: Subject = "unlearned", seed: int = 0, **rows: int) -> Known:
    rng = generator(seed)
    sizes = {**ROWS, **rows}
    labels = {split: torch.randint(CLASSES, (n,), generator=rng) for split, n in sizes.items()}
    logits: dict[Subject, dict[str, Tensor]] = {}
    for k, name in enumerate(SUBJECTS):
        logits[name] = {}
        for split, y in labels.items():
            # Retain rows are known better than the others, so that the attack has something to find.
            known = torch.nn.functional.one_hot(y, CLASSES) * (3.0 if split == "retain" else 0.5 + k)
            logits[name][split] = torch.randn(len(y), CLASSES, generator=rng) + known
    return Known(subject, logits, labels)


def by_key(readings: Any) -> dict[str, Reading]:
    found = list(readings)
    named = {reading.key: reading for reading in found}
    assert len(named) == len(found)
    return named


# -- accuracy ----------------------------------------------------------------------------------------------------------


def test_accuracy_and_loss_are_numpys_on_every_split() -> None:
    known = evidence()
    found = by_key(Accuracy(NoParams()).measure(known))  # type: ignore[arg-type]
    for split, n in ROWS.items():
        p = softmax(known.logits["unlearned"][split].numpy().astype(np.float64), axis=1)
        y = known.labels[split].numpy()
        right = p.argmax(1) == y
        assert found[f"accuracy.{split}"].value == pytest.approx(right.mean(), abs=1e-12)
        assert found[f"loss.{split}"].value == pytest.approx(-np.log(p[np.arange(n), y]).mean(), rel=1e-5)
        assert found[f"accuracy.{split}"].n == n
        for k in np.unique(y):
            of_class = found[f"accuracy.{split}.class=c{k}"]
            assert of_class.value == pytest.approx(right[y == k].mean(), abs=1e-12)
            assert of_class.n == int((y == k).sum())


def test_accuracy_has_a_direction_on_retain_and_test_and_aims_at_gold_elsewhere() -> None:
    found = by_key(Accuracy(NoParams()).measure(evidence()))  # type: ignore[arg-type]
    directions = {key: r.better for key, r in found.items() if not r.at}
    assert directions == {
        "accuracy.forget": "gold", "loss.forget": "gold", "accuracy.holdout": "gold", "loss.holdout": "gold",
        "accuracy.retain": "higher", "loss.retain": "lower", "accuracy.test": "higher", "loss.test": "lower",
    }  # fmt: skip


def test_accuracy_says_nothing_about_classes_and_splits_without_rows() -> None:
    known = evidence(holdout=0)
    known.labels["test"].fill_(2)
    found = by_key(Accuracy(NoParams()).measure(known))  # type: ignore[arg-type]
    assert {key for key in found if key.startswith("accuracy.test")} == {"accuracy.test", "accuracy.test.class=c2"}
    assert not [key for key in found if "holdout" in key]


# -- UA, RA, TA, MIA ---------------------------------------------------------------------------------------------------


def attack(known: Known, subject: Subject, members: np.ndarray, others: np.ndarray) -> float:
    """SalUn's MIA-efficacy from its definition: an RBF classifier on the confidence in the true class."""
    confidence = {}
    for split in ("forget", "retain", "test"):
        p = softmax(known.logits[subject][split].numpy().astype(np.float64), axis=1)
        confidence[split] = p[np.arange(len(p)), known.labels[split].numpy()]
    x = np.concatenate([confidence["retain"][members], confidence["test"][others]]).reshape(-1, 1)
    y = np.concatenate([np.ones(len(members)), np.zeros(len(others))])
    guess = SVC(C=3, gamma="auto", kernel="rbf").fit(x, y).predict(confidence["forget"].reshape(-1, 1))
    return 100 * np.mean(guess == 0)


def draws(sizes: tuple[int, int], n: int) -> tuple[np.ndarray, np.ndarray]:
    """The measure's own draws of members and non-members: from one stream, retain rows first."""
    rng = generator(11)
    members, others = (torch.randperm(size, generator=rng)[:n].numpy() for size in sizes)
    return members, others


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ua_ra_ta_and_mia_follow_their_definition(subject: Subject, seed: int) -> None:
    known = evidence(subject, seed)
    found = by_key(UaRaTaMia(MembershipParams()).measure(known))  # type: ignore[arg-type]
    for name, split in (("UA", "forget"), ("RA", "retain"), ("TA", "test")):
        hits = known.logits[subject][split].argmax(1) == known.labels[split]
        share = 100 * sum(hits.tolist()) / ROWS[split]
        assert found[name].value == pytest.approx(100 - share if name == "UA" else share, abs=1e-9)
        assert found[name].n == ROWS[split]
    n = min(ROWS["retain"], ROWS["test"])
    expected = attack(known, subject, *draws((ROWS["retain"], ROWS["test"]), n))
    assert found["MIA"].value == pytest.approx(expected, abs=1e-9)
    assert found["MIA"].n == ROWS["forget"]
    assert {(r.better, r.unit) for r in found.values()} == {("gold", "%")}


def test_mia_reads_what_is_clear_to_the_eye() -> None:
    """Members are sure, non-members are not: a sure forget set reads 0, an unsure one 100."""
    for sure, expected in ((True, 0.0), (False, 100.0)):
        known = evidence()
        for split in ("forget", "retain", "test"):
            height = 6.0 if split == "retain" or (split == "forget" and sure) else 0.0
            known.logits["unlearned"][split] = height * torch.nn.functional.one_hot(known.labels[split], CLASSES)
        found = by_key(UaRaTaMia(MembershipParams()).measure(known))  # type: ignore[arg-type]
        assert found["MIA"].value == expected


def test_members_are_not_the_first_rows_of_the_retain_set() -> None:
    """The retain set is sorted by class here; its first rows would be of one class, and unlike the others."""
    known = evidence(retain=400, test=40, forget=40)
    y = known.labels["retain"].sort().values
    heights = torch.where(y == 0, 8.0, 0.0)  # only class 0, which stands first, looks like a member
    known.labels["retain"].copy_(y)
    known.logits["unlearned"]["retain"] = heights[:, None] * torch.nn.functional.one_hot(y, CLASSES)
    for split in ("forget", "test"):
        known.logits["unlearned"][split] = torch.zeros(40, CLASSES)
    first = attack(known, "unlearned", np.arange(40), draws((400, 40), 40)[1])
    found = by_key(UaRaTaMia(MembershipParams()).measure(known))  # type: ignore[arg-type]
    assert first == 100.0
    members = draws((400, 40), 40)[0]
    assert 0 < int((y[torch.from_numpy(members)] == 0).sum()) < 40
    assert found["MIA"].value == attack(known, "unlearned", *draws((400, 40), 40))


@pytest.mark.parametrize("limit", [10, 25, None])
def test_the_limit_bounds_each_side_of_the_attack(limit: int | None) -> None:
    known = evidence()
    found = by_key(UaRaTaMia(MembershipParams(limit=limit)).measure(known))  # type: ignore[arg-type]
    assert found["MIA"].value == attack(known, "unlearned", *draws((ROWS["retain"], ROWS["test"]), limit or 40))


@pytest.mark.parametrize("empty", ["forget", "retain", "test"])
def test_an_empty_split_is_a_status_and_not_a_number(empty: str) -> None:
    found = by_key(UaRaTaMia(MembershipParams()).measure(evidence(**{empty: 0})))  # type: ignore[arg-type]
    missing = {"forget": "UA", "retain": "RA", "test": "TA"}[empty]
    for name, reading in found.items():
        if name in (missing, "MIA"):
            assert (reading.value, reading.status != "ok") == (None, True)
        else:
            assert reading.value is not None
    assert found["MIA"].status == "empty split"


def test_one_class_only_is_measured_like_any_other() -> None:
    known = evidence()
    for y in known.labels.values():
        y.fill_(1)
    found = by_key(UaRaTaMia(MembershipParams()).measure(known))  # type: ignore[arg-type]
    assert all(r.value is not None and 0 <= r.value <= 100 for r in found.values())


def summary(rows: list[tuple[str, str, float | None, dict[str, str]]]) -> dict[tuple[str, str], Reading]:
    readings = [Reading(name, value, 1, subject=subject, at=at) for name, subject, value, at in rows]
    found = UaRaTaMia(MembershipParams()).summarise(readings)
    return {(r.subject, r.at.get("request", "")): r for r in found}


FOUR = ("UA", "RA", "TA", "MIA")


def test_the_average_gap_is_two_sided() -> None:
    """Far below gold is as bad as far above: deviations must not cancel each other."""
    gold, mine = (30.0, 99.0, 65.0, 70.0), (34.0, 97.0, 60.0, 75.0)
    rows = [(n, "gold", g, {}) for n, g in zip(FOUR, gold, strict=True)]
    rows += [(n, "unlearned", m, {}) for n, m in zip(FOUR, mine, strict=True)]
    found = summary(rows)
    assert found["unlearned", ""].value == (4 + 2 + 5 + 5) / 4
    assert found["gold", ""].value == 0
    assert (found["unlearned", ""].better, found["unlearned", ""].n) == ("lower", 4)


def test_the_average_gap_of_a_stream_compares_with_the_gold_of_its_step() -> None:
    rows = []
    for step, aim in (("0", 10.0), ("1", 50.0)):
        rows += [(name, "gold", aim, {"request": step}) for name in FOUR]
        rows += [(name, "unlearned", 12.0, {"request": step}) for name in FOUR]
    found = summary(rows)
    assert {step: found["unlearned", step].value for step in "01"} == {"0": 2.0, "1": 38.0}


@pytest.mark.parametrize("who", ["gold", "unlearned"])
def test_the_average_gap_of_three_numbers_is_none(who: str) -> None:
    rows = [(name, subject, 50.0, {}) for name in FOUR for subject in ("gold", "unlearned")]
    rows = [(n, s, None if (n, s) == ("MIA", who) else v, at) for n, s, v, at in rows]
    reading = summary(rows)["unlearned", ""]
    assert (reading.value, reading.status) == (None, "a part is undefined")


# -- agreement with gold -----------------------------------------------------------------------------------------------


def test_js_is_the_square_of_scipys_distance_in_base_two() -> None:
    known = evidence()
    found = by_key(Agreement(NoParams()).measure(known))  # type: ignore[arg-type]
    for split in ("forget", "retain", "test"):
        p = softmax(known.logits["unlearned"][split].numpy().astype(np.float64), axis=1)
        q = softmax(known.logits["gold"][split].numpy().astype(np.float64), axis=1)
        js = np.mean(jensenshannon(p, q, base=2, axis=1) ** 2)
        assert found[f"js.{split}"].value == pytest.approx(js, rel=1e-9)
        distance = np.mean(np.linalg.norm(p - q, axis=1))
        assert found[f"activation-distance.{split}"].value == pytest.approx(distance, rel=1e-12)
        assert found[f"js.{split}"].n == ROWS[split]
    assert {r.better for r in found.values()} == {"lower"}


def test_agreement_does_not_shrink_with_the_number_of_classes() -> None:
    """Averaging over cells instead of rows would divide by the number of classes and call every model close."""
    for classes in (2, 10, 100):
        p, q = torch.zeros(3, classes), torch.zeros(3, classes)
        p[:, 0], q[:, 1] = 1, 1
        assert jensen_shannon(p, q).tolist() == [1.0] * 3  # disjoint: the largest value there is


def test_js_is_symmetric_bounded_and_zero_only_for_the_same() -> None:
    rng = generator(3)
    p, q = (torch.randn(200, 5, generator=rng).double().mul(8).softmax(1) for _ in range(2))
    forth, back = jensen_shannon(p, q), jensen_shannon(q, p)
    assert torch.allclose(forth, back, atol=1e-12)
    assert bool(((forth > 0) & (forth <= 1 + 1e-12)).all())
    assert jensen_shannon(p, p).tolist() == [0.0] * 200


def test_a_model_that_is_gold_reads_zero() -> None:
    found = by_key(Agreement(NoParams()).measure(evidence("gold")))  # type: ignore[arg-type]
    assert len(found) == 6
    assert {r.value for r in found.values()} == {0.0}


@pytest.mark.parametrize("height", [50.0, 2000.0])
def test_sure_predictions_give_finite_numbers(height: float) -> None:
    known = evidence()
    for split, y in known.labels.items():
        hot = height * torch.nn.functional.one_hot(y, CLASSES)
        known.logits["unlearned"][split], known.logits["gold"][split] = hot, hot.roll(1, 1)
    found = by_key(Agreement(NoParams()).measure(known))  # type: ignore[arg-type]
    assert found["js.forget"].value == pytest.approx(1, abs=1e-9)
    assert found["activation-distance.forget"].value == pytest.approx(math.sqrt(2), abs=1e-9)


def test_agreement_on_an_empty_split_is_a_status() -> None:
    found = by_key(Agreement(NoParams()).measure(evidence(forget=0)))  # type: ignore[arg-type]
    for name in ("js.forget", "activation-distance.forget"):
        assert (found[name].value, found[name].status, found[name].n) == (None, "undefined", 0)
    assert found["js.test"].value is not None


# -- cost --------------------------------------------------------------------------------------------------------------

COSTS = {
    "train": PhaseCost(9.0, 8.0, 3.0, {"train": 900}),
    "train-gold": PhaseCost(7.0, 6.0, 2.0, {"train": 800}),
    "prepare": PhaseCost(1.0, 0.5, 5.0, {"train": 100}),
    "unlearn": PhaseCost(2.0, 1.5, 4.0, {"forget": 30, "retain": 70}),
}


def cost_of(subject: Subject, costs: Mapping[str, PhaseCost] = COSTS) -> dict[str, float | None]:
    known = Known(subject, {}, {}, costs)
    return {key: r.value for key, r in by_key(RunCost(NoParams()).measure(known)).items()}  # type: ignore[arg-type]


def test_cost_of_the_unlearned_model_is_preparing_and_unlearning() -> None:
    assert cost_of("unlearned") == {
        "wall-time": 3.0, "cpu-time": 2.0, "peak-memory": 5.0, "rows-read": 200.0, "speed-up": 6.0 / 2.0,
    }  # fmt: skip


def test_cost_of_original_and_gold_is_their_training_and_has_no_speed_up() -> None:
    assert cost_of("original") == {"wall-time": 9.0, "cpu-time": 8.0, "peak-memory": 3.0, "rows-read": 900.0}
    assert cost_of("gold") == {"wall-time": 7.0, "cpu-time": 6.0, "peak-memory": 2.0, "rows-read": 800.0}


def test_an_original_that_was_not_trained_here_has_no_time() -> None:
    assert cost_of("original", {k: v for k, v in COSTS.items() if k != "train"}) == {"wall-time": None}


def test_no_time_at_all_is_no_infinite_speed_up() -> None:
    free = {**COSTS, "unlearn": PhaseCost(0.0, 0.0, 0.0)}
    del free["prepare"]
    assert "speed-up" not in cost_of("unlearned", free)


# -- readings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_becomes_a_status(value: float) -> None:
    reading = Reading("loss", value, 3)
    assert (reading.value, reading.status) == (None, "non-finite")


def test_diverged_outputs_are_statuses_in_every_measure() -> None:
    known = evidence()
    for split in ROWS:
        known.logits["unlearned"][split] = torch.full((ROWS[split], CLASSES), math.nan)
    agreement = by_key(Agreement(NoParams()).measure(known))  # type: ignore[arg-type]
    assert {r.status for r in agreement.values()} == {"non-finite"}
    accuracy = by_key(Accuracy(NoParams()).measure(known))  # type: ignore[arg-type]
    assert {r.status for r in accuracy.values()} == {"non-finite"}
    membership = by_key(UaRaTaMia(MembershipParams()).measure(known))  # type: ignore[arg-type]
    assert [(r.value, r.status) for r in membership.values()] == [(None, "non-finite")] * 4


def test_the_handwritten_record_of_the_tests_has_gaps_to_gold() -> None:
    readings = {(r["subject"], r["key"]): r for r in run_document()["readings"]}
    mine, gold = readings["unlearned", "accuracy.test"], readings["gold", "accuracy.test"]
    assert mine["gap"] == mine["value"] - gold["value"]
    assert gold["gap"] is None
