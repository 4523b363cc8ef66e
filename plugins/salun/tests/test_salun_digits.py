"""SalUn on digits, class=3: the network and the recipe of the scenario digits-cnn-class3."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlearnbench_salun.method import SalUn
from unlearnbench_salun.plugin import SalUnParams


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


@pytest.mark.parametrize("passes", ["alternate", "mixed"])
def test_forgets_a_class_and_keeps_the_others(passes: Any, digits: tuple[nn.Module, Any, Tensor, Tensor]) -> None:
    original, problem, x_test, y_test = digits
    others = y_test != 3
    forget = problem.x[problem.forget], problem.y[problem.forget]
    assert accuracy(original, *forget) >= 0.95
    p = SalUnParams(lr=0.01, batch_size=32, passes=passes)
    unlearned = SalUn(p).unlearn(problem.job(copy.deepcopy(original))).model
    assert accuracy(unlearned, *forget) <= 0.05
    kept = accuracy(original, x_test[others], y_test[others])
    assert accuracy(unlearned, x_test[others], y_test[others]) >= kept - 0.03
