"""The descent and the similarity, against cases that have a known answer."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench_model_inversion.inversion import invert
from unlearnbench_model_inversion.plugin import ModelInversionParams
from unlearnbench_model_inversion.similarity import correlation, to_class_means, to_nearest

BOTH = torch.tensor([0, 1])


def linear() -> nn.Linear:
    """Class 0 looks for the first value and against the second, class 1 the other way round; nobody reads the third."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, -2.0, 0.0], [-2.0, 2.0, 0.0]]))
        layer.bias.zero_()
    return layer.requires_grad_(False)


@pytest.mark.parametrize("cost", ["log", "probability"])
def test_the_descent_finds_what_a_linear_model_looks_for(cost: str) -> None:
    p = ModelInversionParams(cost=cost, start="grey", confidence=1.0, steps=500)  # type: ignore[arg-type]
    found, reached = invert(linear(), BOTH, (3,), 0.0, 1.0, p)
    assert found == pytest.approx(np.array([[1, 0, 0.5], [0, 1, 0.5]]), abs=1e-6)
    assert reached == pytest.approx(np.full(2, 1 / (1 + math.exp(-4))))


def test_one_step_is_the_gradient_of_the_cost_in_units_of_the_range() -> None:
    p = ModelInversionParams(steps=1, lr=0.1)
    found, _ = invert(linear(), BOTH[:1], (3,), -1.0, 3.0, p)
    # Of -ln p_0 at x = 0, where p = (1/2, 1/2): -(1/2) (w_0 - w_1) = (-2, 2, 0); width 4 enters twice.
    assert found == pytest.approx(np.array([[min(0.1 * 16 * 2, 3), max(-0.1 * 16 * 2, -1), 0]]))
    small, _ = invert(linear(), BOTH[:1], (3,), -1.0, 3.0, ModelInversionParams(steps=1, lr=0.01))
    assert small == pytest.approx(np.array([[0.32, -0.32, 0]]))


def test_the_step_of_the_papers_cost_is_weighted_by_the_probability() -> None:
    p = ModelInversionParams(cost="probability", steps=1, lr=0.1, start="grey")
    found, _ = invert(linear(), BOTH[:1], (3,), 0.0, 1.0, p)
    assert found == pytest.approx(np.array([[0.5 + 0.1 * 0.5 * 2, 0.5 - 0.1 * 0.5 * 2, 0.5]]))


def test_a_class_of_hardly_any_probability_still_has_a_gradient() -> None:
    layer = linear()
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([-200.0, 0.0]))
    moved = {
        cost: invert(layer, BOTH[:1], (3,), 0.0, 1.0, ModelInversionParams(cost=cost, start="grey"))[0]  # type: ignore[arg-type]
        for cost in ("log", "probability")
    }
    assert moved["log"] == pytest.approx(np.array([[1, 0, 0.5]]), abs=1e-6)
    assert moved["probability"] == pytest.approx(np.full((1, 3), 0.5))


def test_inputs_stay_in_the_range_and_begin_at_zero_or_next_to_it() -> None:
    p = ModelInversionParams(steps=1, lr=1e-12)
    assert invert(linear(), BOTH, (3,), -2.0, 6.0, p)[0] == pytest.approx(np.zeros((2, 3)), abs=1e-6)
    assert invert(linear(), BOTH, (3,), 2.0, 6.0, p)[0] == pytest.approx(np.full((2, 3), 2.0))
    far, _ = invert(linear(), BOTH, (3,), 2.0, 6.0, ModelInversionParams(lr=100.0, confidence=1.0, steps=20))
    assert (far >= 2).all()
    assert (far <= 6).all()


def test_it_ends_at_the_confidence_and_a_class_does_not_touch_another() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
    p = ModelInversionParams(confidence=0.42)
    together, reached = invert(model, torch.arange(3), (6,), 0.0, 1.0, p)
    farther = invert(model, torch.arange(3), (6,), 0.0, 1.0, ModelInversionParams())[1]
    assert 0.42 <= float(reached[1]) < float(farther[1]) - 0.01
    assert float(reached[0]) == float(farther[0]) < 0.42  # more than the range allows
    for c in range(3):
        alone, won = invert(model, torch.tensor([c]), (6,), 0.0, 1.0, p)
        assert alone[0] == pytest.approx(together[c].numpy(), abs=1e-5)
        assert float(won) == pytest.approx(float(reached[c]), abs=1e-5)


def test_it_gives_up_without_progress_and_returns_the_best_input() -> None:
    calls = []

    def outputs(x: Tensor) -> Tensor:
        """The cost has its minimum at .3, which a step of any size jumps over and back."""
        calls.append(float(x.detach().sum()))
        distance = (x.sum(1) - 0.3).abs()
        return torch.stack([-distance, torch.zeros_like(distance)], 1)

    p = ModelInversionParams(lr=0.4, patience=7)
    found, _ = invert(outputs, torch.tensor([0]), (1,), 0.0, 1.0, p)
    best = min(range(len(calls)), key=lambda i: abs(calls[i] - 0.3))
    assert float(found) == pytest.approx(calls[best])
    assert len(calls) - 1 - best == 7


def test_correlation_is_numpys() -> None:
    rng = np.random.default_rng(0)
    one, rows = rng.normal(size=20), rng.normal(size=(5, 20))
    assert correlation(one, rows) == pytest.approx([np.corrcoef(one, row)[0, 1] for row in rows])


def test_what_does_not_vary_has_no_correlation() -> None:
    assert np.isnan(correlation(np.full(9, 0.1), np.arange(9.0)[None])).all()
    assert np.isnan(correlation(np.arange(9.0), np.full((1, 9), 0.1))).all()


def test_similarity_by_hand() -> None:
    rows = np.array([[1.0, 0, 0], [0, 0, 1], [5, 5, 5], [3, 2, 1]])
    y = np.array([0, 0, 1, 1])
    reconstructions = np.array([[2.0, 0, 0], [0, 1, 2]])
    # Class 0: the mean (.5, 0, .5) has correlation .5 with it, its first row 1. Class 1: mean (4, 3.5, 3) and row -1.
    assert to_class_means(reconstructions, np.array([0, 1]), rows, y) == pytest.approx([0.5, -1])
    assert to_nearest(reconstructions, np.array([0, 1]), rows, y) == pytest.approx([1, -1])
    assert np.isnan(to_nearest(reconstructions[1:], np.array([1]), rows[2:3], y[2:3])).all()
