"""Metrics of scikit-learn by name: its own scorers on real estimators are the independent computation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from torch import Tensor

from unlearnbench.api import UsageError
from unlearnbench_utility.plugin import SklearnParams
from unlearnbench_utility.sklearn_metrics import SklearnMetrics, classification_scorers, score

BINARY = {
    "f1", "jaccard", "precision", "recall", "roc_auc", "positive_likelihood_ratio", "neg_negative_likelihood_ratio",
}  # fmt: skip
MULTI_LABEL = {"f1_samples", "jaccard_samples", "precision_samples", "recall_samples"}


def fitted(load: Callable[..., Any], features: int) -> tuple[Any, Any, Any]:
    """An estimator that errs now and then, as it sees few features."""
    x, y = load(return_X_y=True)
    x = x[:, :features]
    return LogisticRegression(max_iter=5000).fit(x[::2], y[::2]), x[1::2], y[1::2]


@pytest.mark.parametrize("name", classification_scorers())
def test_three_classes_read_as_scikit_learns_scorer_reads_an_estimator(name: str) -> None:
    estimator, x, y = fitted(load_iris, 2)
    value, status = score(name, torch.tensor(y), torch.tensor(estimator.decision_function(x)))
    if name in BINARY | MULTI_LABEL:
        assert (value, status) == (None, "binary only" if name in BINARY else "multi-label only")
    else:
        assert status == "ok"
        assert value == pytest.approx(abs(get_scorer(name)(estimator, x, y)), rel=1e-9)
        assert 0 < value < 2


@pytest.mark.parametrize("name", sorted(set(classification_scorers()) - MULTI_LABEL - {"top_k_accuracy"}))
def test_two_classes_read_as_scikit_learns_scorer_reads_an_estimator(name: str) -> None:
    estimator, x, y = fitted(load_breast_cancer, 3)
    margin = torch.tensor(estimator.decision_function(x))
    value, status = score(name, torch.tensor(y), torch.stack([torch.zeros_like(margin), margin], 1))
    assert status == "ok"
    assert value == pytest.approx(abs(get_scorer(name)(estimator, x, y)), rel=1e-9)


def test_metrics_of_regression_and_clustering_are_not_offered() -> None:
    names = classification_scorers()
    assert {"f1_macro", "roc_auc_ovr", "neg_log_loss", "positive_likelihood_ratio"} <= set(names)
    assert not {"r2", "neg_mean_squared_error", "adjusted_rand_score", "neg_max_error"} & set(names)


def rows(*guesses: tuple[int, int], classes: int = 3) -> tuple[Tensor, Tensor]:
    """Labels and outputs from pairs (label, predicted class)."""
    y, guess = (torch.tensor(column) for column in zip(*guesses, strict=True))
    return y, 4 * torch.nn.functional.one_hot(guess, classes).double()


def test_macro_f1_by_hand() -> None:
    # class 0: precision 1/1, recall 1/2, F1 2/3; class 1: 1/2 and 1, F1 2/3; class 2: 1
    value, _ = score("f1_macro", *rows((0, 0), (0, 1), (1, 1), (2, 2)))
    assert value == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_log_loss_by_hand_on_rows_that_lack_a_class() -> None:
    value, status = score("neg_log_loss", *rows((0, 0), (1, 1)))
    assert status == "ok"
    assert value == pytest.approx(math.log(1 + 2 * math.exp(-4)))


@pytest.mark.parametrize(
    ("name", "guesses", "status"),
    [
        ("matthews_corrcoef", [(0, 0), (0, 1)], "one class"),
        ("matthews_corrcoef", [(0, 1), (1, 1), (2, 1)], "zero variance"),
        ("roc_auc_ovr", [(0, 0), (1, 1)], "classes absent"),
        ("roc_auc_ovo", [(0, 0), (0, 1)], "one class"),
        ("average_precision", [(0, 0), (1, 1)], "classes absent"),
        ("precision_macro", [(0, 0), (1, 0), (2, 0)], "ill-defined"),
        ("recall_macro", [(0, 0), (0, 1)], "one class"),
        ("d2_log_loss_score", [(0, 0)], "one class"),
        ("d2_brier_score", [(0, 0), (0, 1)], "one class"),
        ("f1", [(0, 0), (1, 1), (2, 2)], "binary only"),
    ],
)
def test_what_is_not_defined_has_a_status(name: str, guesses: list[tuple[int, int]], status: str) -> None:
    assert score(name, *rows(*guesses)) == (None, status)


def test_a_class_that_is_predicted_but_absent_does_not_hide_the_balanced_accuracy() -> None:
    assert score("balanced_accuracy", *rows((0, 0), (1, 1), (1, 2))) == (0.75, "ok")


def test_each_metric_is_read_on_its_split(noisy: Callable[..., Any], by_key: Callable[..., Any]) -> None:
    wanted = ("accuracy", "accuracy@forget", "neg_log_loss@test", "neg_log_loss@forget", "accuracy@test")
    found = by_key(SklearnMetrics(SklearnParams(wanted)), noisy())
    assert {key: (r.better, r.n) for key, r in found.items()} == {
        "accuracy.test": ("higher", 50),
        "accuracy.forget": ("gold", 40),
        "log_loss.test": ("lower", 50),
        "log_loss.forget": ("gold", 40),
    }
    evidence = noisy()
    assert found["accuracy.forget"].value == float(
        (evidence.outputs("forget").argmax(1) == evidence.y("forget")).double().mean()
    )


def test_rows_without_label_empty_splits_and_bad_outputs_are_left_out_or_said(
    noisy: Callable[..., Any], by_key: Callable[..., Any]
) -> None:
    evidence = noisy()
    evidence.y_of["retain"][10:] = -100
    evidence.y_of["test"][:] = -100
    evidence.out["unlearned"]["forget"][3, 1] = math.nan
    found = by_key(SklearnMetrics(SklearnParams(("accuracy@retain", "accuracy@test", "accuracy@forget"))), evidence)
    assert {key: (r.n, r.status) for key, r in found.items()} == {
        "accuracy.retain": (10, "ok"),
        "accuracy.test": (0, "empty split"),
        "accuracy.forget": (40, "non-finite"),
    }


def test_order_of_rows_changes_no_bit(noisy: Any, shuffled: Any, by_key: Any) -> None:
    measure = SklearnMetrics(SklearnParams(("neg_log_loss@test", "roc_auc_ovr@test", "f1_macro@retain")))
    assert by_key(measure, noisy()) == by_key(measure, shuffled(noisy()))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("f1_makro@test", "no metric 'f1_makro'", "did you mean f1_macro"),
        ("f1_macro@tset", "no split 'tset'", "did you mean test"),
        ("f1_macro@", "no split ''", "available: forget"),
        ("r2@test", "no metric 'r2'", "available: accuracy"),
    ],
)
def test_a_wrong_name_is_said_when_the_measure_is_made(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        SklearnMetrics(SklearnParams((text,)))
    assert message in str(caught.value)
    assert hint in caught.value.hint
