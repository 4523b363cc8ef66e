"""The interclass confusion test: by hand, against scikit-learn, and on digits with two confused classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hand_evidence import HandEvidence, rows, shuffled_rows
from scipy.stats import beta
from sklearn.metrics import confusion_matrix
from torch import Tensor

import unlearnbench
from unlearnbench.api.runtime import MISSING, Reading, generator
from unlearnbench_goel.confusion import InterclassConfusion, errors, swapped, the_pair
from unlearnbench_goel.plugin import ConfusionParams

NAMES = ("c0", "c1", "c2", "c3")


def outputs_for(guess: Tensor) -> Tensor:
    """Outputs whose largest entry is at these classes."""
    return 5.0 * F.one_hot(guess, 4).double()


def evidence(forget: tuple[list[int], list[int]], test: tuple[list[int], list[int]]) -> HandEvidence:
    """Labels and guesses of forget and test rows."""
    parts = {"forget": forget, "test": test}
    data = {
        name: rows(torch.zeros(len(y), 4), torch.tensor(y, dtype=torch.int64), 100 * i, classes=4)
        for i, (name, (y, _)) in enumerate(parts.items())
    }
    raw = {name: outputs_for(torch.tensor(g, dtype=torch.int64)) for name, (_, g) in parts.items()}
    return HandEvidence(data=data, raw=raw)


def read(found: HandEvidence, *classes: str) -> dict[str, Reading]:
    return {reading.key: reading for reading in InterclassConfusion(ConfusionParams(classes)).measure(found)}


def values(found: dict[str, Reading]) -> dict[str, tuple[float | None, str]]:
    return {key: (reading.value, reading.status) for key, reading in found.items()}


# Classes 1 and 3 are confused. Forgotten rows by true label: 3, 3, 1, 1, of which the second and third are taken for
# what they were labelled; of the test rows of class 1 one is taken for 3 and one for 0, of class 3 one for 1.
BY_HAND = evidence(
    forget=([1, 1, 3, 3], [3, 1, 3, 1]),
    test=([1, 1, 1, 1, 3, 3, 0, 0, 2], [1, 1, 3, 0, 3, 1, 1, 3, 2]),
)


def test_a_case_by_hand() -> None:
    found = read(BY_HAND)
    assert values(found) == {
        "fgt-err.forget": (2.0, "ok"),
        "ic-err.forget": (0.5, "ok"),
        "fgt-err.test": (2.0, "ok"),
        "ic-err.test": (0.5, "ok"),
    }
    assert [r.n for r in found.values()] == [4, 4, 6, 6]  # rows of other classes are not counted
    assert {key: r.better for key, r in found.items()} == {
        "fgt-err.forget": "gold", "ic-err.forget": "gold", "fgt-err.test": "lower", "ic-err.test": "lower",
    }  # fmt: skip


def test_forgotten_rows_are_judged_by_their_true_labels() -> None:
    """A model that believes the swapped labels makes an error on each row; by the labels it would make none."""
    labels = [1, 3, 3, 1, 1]
    believes = read(evidence(forget=(labels, labels), test=([1, 3], [1, 3])))
    assert values(believes)["fgt-err.forget"] == (5.0, "ok")
    assert values(believes)["ic-err.forget"] == (1.0, "ok")
    knows = read(evidence(forget=(labels, [3, 1, 1, 3, 3]), test=([1, 3], [1, 3])))
    assert values(knows)["fgt-err.forget"] == (0.0, "ok")
    assert values(knows)["ic-err.forget"] == (0.0, "ok")


@pytest.mark.parametrize("pair", [(0, 3), (2, 1)])
def test_the_errors_equal_those_of_scikit_learns_confusion_matrix(pair: tuple[int, int]) -> None:
    rng = generator(pair[0])
    y, guess = torch.randint(4, (300,), generator=rng), torch.randint(4, (300,), generator=rng)
    c, (a, b) = confusion_matrix(y.numpy(), guess.numpy(), labels=range(4)), pair
    wrong = c[a].sum() - c[a, a] + c[b].sum() - c[b, b]
    assert errors(guess, y, pair) == (c[a, b] + c[b, a], wrong, c[a].sum() + c[b].sum())
    assert errors(guess, y, (b, a)) == errors(guess, y, pair)


def test_intervals_are_clopper_and_pearsons() -> None:
    found = read(BY_HAND)["ic-err.test"]
    assert (found.low, found.high) == pytest.approx((beta.ppf(0.025, 3, 4), beta.ppf(0.975, 4, 3)), abs=1e-9)
    count = read(BY_HAND)["fgt-err.test"]
    ends = 6 * np.array([beta.ppf(0.025, 2, 5), beta.ppf(0.975, 3, 4)])
    assert (count.low, count.high) == pytest.approx(tuple(ends), abs=1e-9)


def test_the_classes_are_those_of_the_forget_set_or_those_named() -> None:
    assert the_pair(torch.tensor([3, 1, 3]), (), NAMES) == ((1, 3), "ok")
    assert the_pair(torch.tensor([3, 1, MISSING]), (), NAMES) == ((1, 3), "ok")
    assert the_pair(torch.tensor([3, 1, 3]), ("c3", "c1"), NAMES) == ((3, 1), "ok")
    assert the_pair(torch.tensor([3, 3]), ("c3", "c1"), NAMES) == ((3, 1), "ok")  # one kind of mistake alone
    assert the_pair(torch.tensor([3, 3]), (), NAMES) == (None, "not two classes")
    assert the_pair(torch.tensor([0, 1, 3]), (), NAMES) == (None, "not two classes")
    assert the_pair(torch.tensor([0, 1, 3]), ("c3", "c1"), NAMES) == (None, "forget set has other classes")
    for names in (("c1",), ("c1", "c1"), ("c1", "c9"), ("c1", "c2", "c3")):
        assert the_pair(torch.tensor([1, 2]), names, NAMES) == (None, "not two known classes")


def test_swapping_twice_changes_nothing_and_other_classes_stay() -> None:
    y = torch.tensor([0, 1, 2, 3, MISSING])
    assert swapped(y, (1, 3)).tolist() == [0, 3, 2, 1, MISSING]
    assert torch.equal(swapped(swapped(y, (1, 3)), (1, 3)), y)


def test_the_order_of_rows_does_not_matter() -> None:
    other, places = {}, {}
    for name, part in BY_HAND.data.items():
        other[name], places[name] = shuffled_rows(part)
    raw = {name: outputs[places[name]] for name, outputs in BY_HAND.raw.items()}
    assert values(read(HandEvidence(data=other, raw=raw))) == values(read(BY_HAND))


@pytest.mark.parametrize(
    ("found", "classes", "statuses"),
    [
        (evidence(forget=([1, 1], [1, 1]), test=([1], [1])), (), ["not two classes"] * 4),
        (evidence(forget=([1, 3], [1, 1]), test=([], [])), (), ["ok", "ok", "empty split", "empty split"]),
        (evidence(forget=([], []), test=([1, 3], [1, 1])), ("c1", "c3"), ["empty split", "empty split", "ok", "ok"]),
        (
            evidence(forget=([1, 3], [1, 1]), test=([0, 2], [0, 2])),
            (),
            ["ok", "ok", "no rows of the classes", "no rows of the classes"],
        ),
    ],
)
def test_undefined_cases_give_a_status(found: HandEvidence, classes: Any, statuses: list[str]) -> None:
    readings = values(read(found, *classes))
    assert [status for _, status in readings.values()] == statuses
    assert all((value is None) == (status != "ok") for value, status in readings.values())


def test_outputs_that_are_no_numbers_are_a_status() -> None:
    raw = {**BY_HAND.raw, "test": torch.full((9, 4), torch.nan)}
    found = values(read(HandEvidence(data=BY_HAND.data, raw=raw)))
    assert found["fgt-err.test"] == found["ic-err.test"] == (None, "non-finite")
    assert found["fgt-err.forget"] == (2.0, "ok")


def test_confused_digits_are_told_apart_again_after_unlearning(tmp_path: Path) -> None:
    """Half of the threes and eights labelled as the other: measured on test rows 36 of 72 confused, 1 after EU-k."""
    records = {}
    for name in ("identity", "eu-k"):
        (records[name],) = unlearnbench.run(
            name,
            scenario="digits-cnn-class3/v1",
            preprocessing=[{"name": "swap-classes", "params": {"classes": ["3", "8"], "share": 0.5}}],
            forget={"kind": "group", "column": "mislabelled", "values": ["yes"]},
            measures=["interclass-confusion"],
            out=tmp_path / name,
            store=tmp_path / "store",
        )
    eu_k, identity = records["eu-k"], records["identity"]
    for split, least in (("test", 15), ("forget", 40)):
        assert eu_k.value(f"fgt-err.{split}", "original") >= least
        assert eu_k.value(f"fgt-err.{split}", "gold") <= 3
        assert eu_k.value(f"fgt-err.{split}") <= 5
        for name in ("fgt-err", "ic-err"):
            assert identity.value(f"{name}.{split}") == identity.value(f"{name}.{split}", "original")
