"""Wrong labels on purpose, and the hold-out that carries as many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import IncompatibleError, UsageError
from unlearnbench.api.runtime import TASKS, Data, Splits
from unlearnbench.preprocessing import resolve_preprocessing
from unlearnbench.requests import resolve
from unlearnbench.transforms import preprocessed


def splits(train: int = 400, test: int = 300, validation: int = 0, classes: int = 4) -> Splits:
    def part(n: int, first: int) -> Data:
        ids = torch.arange(first, first + n)
        names = tuple("abcd"[:classes])
        return Data(torch.randn(n, 3), ids % classes, ids, names)

    return Splits(part(train, 0), part(test, 10_000), part(validation, 20_000) if validation else None)


def changed(data: Splits, name: str, **params: Any) -> Splits:
    return preprocessed(data, resolve_preprocessing([{"name": name, "params": params}], lambda step: {}))


def test_a_share_of_the_training_labels_is_wrong_and_marked() -> None:
    before = splits(validation=100)
    after = changed(before, "flip-labels", share=0.3, holdout=100)
    wrong = after.train.y != before.train.y
    assert int(wrong.sum()) == 120
    assert torch.equal(after.train.columns["mislabelled"], wrong.long())
    assert after.train.values["mislabelled"] == ("no", "yes")
    assert after.validation is not None
    assert before.validation is not None
    assert int((after.validation.y != before.validation.y).sum()) == 30
    assert torch.equal(after.train.x, before.train.x)
    assert torch.equal(after.train.ids, before.train.ids)


def test_a_wrong_label_is_each_other_class_as_often() -> None:
    before = splits(train=8000)
    after = changed(before, "flip-labels", share=0.9, holdout=0)
    wrong = after.train.y != before.train.y
    steps = ((after.train.y - before.train.y) % 4)[wrong]
    counts = np.bincount(steps.numpy(), minlength=4)
    assert counts[0] == 0
    assert (abs(counts[1:] / counts.sum() - 1 / 3) < 0.03).all()


def test_the_holdout_comes_out_of_the_test_rows_with_the_same_noise_and_the_rest_stays_clean() -> None:
    before = splits()
    after = changed(before, "flip-labels", share=0.3, holdout=100)
    assert after.holdout is not None
    truth = dict(zip(before.test.ids.tolist(), before.test.y.tolist(), strict=True))
    wrong = [truth[i] != y for i, y in zip(after.holdout.ids.tolist(), after.holdout.y.tolist(), strict=True)]
    assert sum(wrong) == 30
    assert after.holdout.columns["mislabelled"].tolist() == [int(w) for w in wrong]
    assert [truth[i] for i in after.test.ids.tolist()] == after.test.y.tolist()
    assert not after.test.columns["mislabelled"].any()
    assert set(after.test.ids.tolist()) | set(after.holdout.ids.tolist()) == set(before.test.ids.tolist())
    assert not set(after.test.ids.tolist()) & set(after.holdout.ids.tolist())
    assert changed(before, "flip-labels", holdout=0).holdout is None


def test_the_holdout_of_a_request_comes_from_the_noisy_rows() -> None:
    data = changed(splits(), "flip-labels", share=0.3, holdout=150)
    parts = resolve({"kind": "samples", "count": 40, "seed": 0, "stratified": True}, data, TASKS["classification"])
    assert data.holdout is not None
    unseen = parts.measured["holdout"]
    assert unseen.data is data.holdout
    assert parts.measured["test"].data is data.test
    assert len(parts.measured["test"]) == len(data.test)
    forgotten, found = data.train.y[parts.forget.index], data.holdout.y[unseen.index]
    assert torch.equal(forgotten.bincount(minlength=4), found.bincount(minlength=4))


def test_the_holdout_of_a_class_are_the_noisy_rows_of_that_label() -> None:
    data = changed(splits(), "flip-labels", share=0.3, holdout=150)
    parts = resolve({"kind": "class", "classes": ["b"]}, data, TASKS["classification"])
    assert data.holdout is not None
    assert set(parts.measured["holdout"].index.tolist()) == set((data.holdout.y == 1).nonzero()[:, 0].tolist())
    assert not (data.test.y[parts.measured["test"].index] == 1).any()


def test_two_classes_are_confused_in_both_directions() -> None:
    before = splits()
    after = changed(before, "swap-classes", classes=["a", "c"], share=0.25)
    pairs = torch.stack([before.train.y, after.train.y])
    counts = {(i, j): int(((pairs[0] == i) & (pairs[1] == j)).sum()) for i in range(4) for j in range(4)}
    assert counts[0, 2] == counts[2, 0] == 25
    assert counts[0, 0] == counts[2, 2] == 75
    assert counts[1, 1] == counts[3, 3] == 100
    parts = resolve({"kind": "group", "column": "mislabelled", "values": ["yes"]}, after, TASKS["classification"])
    assert len(parts.forget) == 50
    assert set(after.train.y[parts.forget.index].tolist()) == {0, 2}
    assert not len(parts.measured["holdout"])


def test_the_same_seed_gives_the_same_labels_and_another_seed_others() -> None:
    before = splits()
    one, again, other = (changed(before, "flip-labels", holdout=100, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.train.y, again.train.y)
    assert one.train.digest() == again.train.digest()
    assert not torch.equal(one.train.y, other.train.y)
    assert one.holdout is not None
    assert other.holdout is not None
    assert not torch.equal(one.holdout.ids, other.holdout.ids)


def test_steps_on_inputs_reach_the_holdout_whichever_comes_first() -> None:
    chain = [{"name": "flip-labels", "params": {"holdout": 50}}, "standardize"]
    first = preprocessed(splits(), resolve_preprocessing(chain, lambda step: {}))
    assert first.holdout is not None
    assert first.test.x.shape[1:] == first.holdout.x.shape[1:]
    assert abs(float(first.train.x.mean())) < 1e-6


def test_what_cannot_be_mislabelled_is_refused_in_one_line() -> None:
    with pytest.raises(IncompatibleError, match="wants 300 of 200 test rows"):
        changed(splits(test=200), "flip-labels")
    many = Data(torch.randn(4, 3), torch.zeros(4, 2), torch.arange(4), ("a", "b"))
    with pytest.raises(IncompatibleError, match="needs one class per row"):
        changed(Splits(many, many), "flip-labels", holdout=0)
    with pytest.raises(UsageError, match="'a' with itself"):
        changed(splits(), "swap-classes", classes=["a", "a"])
    with pytest.raises(UsageError, match="no class 'z'"):
        changed(splits(), "swap-classes", classes=["a", "z"])
