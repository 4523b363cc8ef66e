"""Label expansion and equation 3, against sums and chain rules written out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hand_jobs import softmax
from scipy import stats
from torch import Tensor, nn

from unlearnbench.api.runtime import Classification, MultiLabel, generator
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.objective import (
    Expanded,
    Terms,
    closed_share,
    drawn_label,
    expand,
    forget_losses,
    forget_term,
    terms,
    weighted,
)
from unlearnbench_wfnet.plugin import WfNetParams
from unlearnbench_wfnet.targets import find_targets

CE, BCE = Classification(), MultiLabel()
NAN = math.nan


def one_convolution(classes: int = 3) -> WFNet:
    """A 2x2 convolution over 2x2 images, whose flattened output goes into a linear head; in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        base = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Flatten(), nn.Linear(4, classes)).double().eval()
    net = WFNet(base, find_targets(base, (1, 2, 2)), classes)
    rng = generator(4)
    with torch.no_grad():
        for alpha in (*net.alpha_weight, *net.alpha_bias):
            alpha.copy_(torch.randn(alpha.shape, generator=rng, dtype=torch.float64))
    return net


def images(n: int, seed: int = 1) -> Tensor:
    return torch.randn(n, 1, 2, 2, generator=generator(seed), dtype=torch.float64)


def gradient_by_hand(net: WFNet, x: Tensor, y: Tensor, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean of 1 / (loss + epsilon), with respect to both memory matrices: a sample reaches its own row alone."""
    conv, head = net.base[0], net.base[2]  # type: ignore[index]
    w, b = conv.weight.detach().numpy().reshape(4, 4), conv.bias.detach().numpy()
    v, c = head.weight.detach().numpy(), head.bias.detach().numpy()
    alpha, beta = (p[0].detach().numpy() for p in (net.alpha_weight, net.alpha_bias))
    by_weight, by_bias = np.zeros_like(alpha), np.zeros_like(beta)
    for pixels, k in zip(x.numpy().reshape(len(x), 4), y.tolist(), strict=True):
        open_w, open_b = 1 / (1 + np.exp(-alpha[k])), 1 / (1 + np.exp(-beta[k]))
        z = v @ ((open_w[:, None] * w) @ pixels + open_b * b) + c
        p = softmax(z)
        loss = -math.log(p[k])
        by_hidden = v.T @ (p - np.eye(len(p))[k])  # dL / d output of the convolution
        by_filtered = by_hidden[:, None] * pixels  # dL / dW'
        outer = -1 / (loss + epsilon) ** 2 / len(x)
        by_weight[k] += outer * (by_filtered * w).sum(1) * open_w * (1 - open_w)
        by_bias[k] += outer * by_hidden * b * open_b * (1 - open_b)
    return by_weight, by_bias


def test_the_gradient_of_per_sample_reciprocals_is_that_of_the_chain_rule() -> None:
    net, p = one_convolution(), WfNetParams(epsilon=0.1)
    x, y = images(5), torch.tensor([0, 2, 0, 2, 2])  # one pair of classes; row 1 is nobody's
    found = terms(net, CE, Expanded(x, y, y, 5), p)
    found.forget.backward()
    by_weight, by_bias = gradient_by_hand(net, x, y, 0.1)
    for alpha, expected in ((net.alpha_weight[0], by_weight), (net.alpha_bias[0], by_bias)):
        assert alpha.grad is not None
        assert np.allclose(alpha.grad.numpy(), expected, rtol=1e-10, atol=1e-14)
        assert not expected[1].any()
        assert expected[0].all()
        assert expected[2].all()
    assert not found.retain


def test_equation_3_is_the_weighted_sum_of_its_three_terms() -> None:
    net, p = one_convolution(), WfNetParams(retain_weight=0.7, open_weight=2.0, epsilon=0.1)
    x, y, rows = images(5), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 1, 2, 2])
    found = terms(net, CE, Expanded(x, y, rows, 2), p)
    losses = []
    for k in range(5):
        z = net.bake(int(rows[k]))(x[k : k + 1]).detach().numpy()[0]  # the filtered weights, sample by sample
        losses.append(-math.log(softmax(z)[y[k]]))
    retain = sum(losses[2:]) / 3
    forget = sum(1 / (loss + 0.1) for loss in losses[:2]) / 2
    closed = 1 - np.concatenate([1 / (1 + np.exp(-v.numpy().ravel())) for v in net.tensors().values()]).mean()
    assert [v.item() for v in found] == pytest.approx([retain, forget, closed], rel=1e-10)
    assert weighted(found, p, 5.0).item() == pytest.approx(0.7 * retain + 5 * forget + 2 * closed, rel=1e-10)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("reciprocal", (1 / 0.6 + 1 / 2.1) / 2),
        ("reciprocal-of-mean", 1 / 1.35),
        ("log", (math.log(1 + 1 / 0.6) + math.log(1 + 1 / 2.1)) / 2),
    ],
)
def test_the_forget_term_of_losses_a_half_and_two(how: str, expected: float) -> None:
    losses = torch.tensor([0.5, 2.0], dtype=torch.float64)
    assert float(forget_term(losses, WfNetParams(forget_term=how))) == pytest.approx(expected)  # type: ignore[arg-type]


def test_to_the_letter_there_is_no_epsilon() -> None:
    losses = torch.tensor([0.5, 2.0])
    assert float(forget_term(losses, WfNetParams(strict_paper=True))) == pytest.approx((1 / 0.5 + 1 / 2) / 2)
    confident = torch.tensor([0.0, 2.0])
    assert float(forget_term(confident, WfNetParams(strict_paper=True))) == math.inf
    assert float(forget_term(confident, WfNetParams())) == pytest.approx((1 / 0.1 + 1 / 2.1) / 2)


def test_the_regulariser_weighs_gates_or_layers_alike() -> None:
    # logit(0.2) closes 4/5, logit(0.6) closes 2/5: one layer of 2 x 1 gates, one of 2 x 3
    narrow = torch.full((2, 1), math.log(0.2 / 0.8), dtype=torch.float64)
    wide = torch.full((2, 3), math.log(0.6 / 0.4), dtype=torch.float64)
    pooled = closed_share([narrow, wide], WfNetParams(regulariser="mean"))
    by_layer = closed_share([narrow, wide], WfNetParams(regulariser="layer-mean"))
    assert float(pooled) == pytest.approx((2 * 0.8 + 6 * 0.4) / 8)
    assert float(by_layer) == pytest.approx((0.8 + 0.4) / 2)


def test_the_first_half_is_seen_under_its_own_rows_and_the_second_under_others() -> None:
    x, y = images(6), torch.tensor([2, 0, 1, 0, 2, 1])
    found = expand(CE, x, y, 3, 4, generator(0))
    assert found.forgotten == 3
    assert torch.equal(found.rows[:3], y[:3])
    assert torch.equal(found.x, torch.cat([x[:3], *[x[3:]] * 4]))
    assert torch.equal(found.y, torch.cat([y[:3], *[y[3:]] * 4]))
    assert bool((found.rows[3:] != found.y[3:]).all())


def test_rows_of_others_are_uniform_and_each_copy_is_drawn_apart() -> None:
    classes, copies, n = 5, 3, 6000
    y = torch.arange(classes).repeat(n // classes)
    y = torch.cat([y, y])
    found = expand(CE, torch.zeros(len(y), 1), y, classes, copies, generator(11))
    rows = found.rows[found.forgotten :].reshape(copies, n)
    for own in range(classes):
        counts = np.bincount(rows[:, y[n:] == own].ravel().numpy(), minlength=classes)
        assert counts[own] == 0
        assert stats.chisquare(np.delete(counts, own)).pvalue > 0.001
    # apart: of two copies of a sample, the pairs of rows are as uniform as the rows
    of_class = rows[:, y[n:] == 0]
    pairs = np.bincount((of_class[0] * classes + of_class[1]).numpy(), minlength=classes**2)
    assert stats.chisquare(pairs.reshape(classes, classes)[1:, 1:].ravel()).pvalue > 0.001


@pytest.mark.parametrize(("size", "forgotten", "retained"), [(2, 1, 1), (3, 1, 2), (5, 2, 3)])
def test_small_and_odd_batches_have_both_halves(size: int, forgotten: int, retained: int) -> None:
    found = expand(CE, images(size), torch.zeros(size, dtype=torch.int64), 3, 3, generator(0))
    assert (found.forgotten, len(found.rows)) == (forgotten, forgotten + 3 * retained)
    assert bool((found.rows[forgotten:] > 0).all())


def test_of_two_classes_the_other_row_is_the_other_class() -> None:
    y = torch.tensor([0, 1, 0, 1, 1, 0])
    found = expand(CE, images(6), y, 2, 2, generator(0))
    assert torch.equal(found.rows[3:], 1 - y[3:].repeat(2))


def test_of_several_labels_a_row_to_forget_is_there_and_a_row_to_retain_is_not() -> None:
    n, labels = 4000, 6
    rng = generator(2)
    y = torch.randint(2, (n, labels), generator=rng).float()
    y[torch.rand(n, labels, generator=rng) < 0.3] = NAN
    x = torch.arange(n)[:, None].float()
    found = expand(BCE, x, y, labels, 2, generator(5))
    cells = found.y.gather(1, found.rows[:, None])[:, 0]
    k = found.forgotten
    assert bool((cells[:k] == 1).all())
    assert bool((cells[k:] == 0).all())  # a cell that is missing is neither
    half = n // 2
    able = [i for i in range(half) if (y[i] == 1).any()]
    rest = [i for i in range(half, n) if (y[i] == 0).any()]
    assert 0 < len(able) < half
    assert found.x[:k, 0].int().tolist() == able
    assert found.x[k:, 0].int().tolist() == rest * 2


def test_a_label_is_drawn_uniformly_of_those_that_a_sample_has() -> None:
    able = torch.tensor([[True, False, True, True]]).repeat(3000, 1)
    drawn, some = drawn_label(able, generator(6))
    counts = np.bincount(drawn.numpy(), minlength=4)
    assert bool(some.all())
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]]).pvalue > 0.001


def test_samples_with_no_or_with_all_labels_are_left_out_of_one_half() -> None:
    none, every, blank = [0.0, 0.0], [1.0, 1.0], [NAN, NAN]
    y = torch.tensor([none, [1, 0], blank, every, [1, NAN], none])
    found = expand(BCE, images(6), y, 2, 1, generator(0))
    assert torch.equal(found.x, images(6)[[1, 5]])
    assert found.forgotten == 1
    assert int(found.rows[0]) == 0


def test_only_the_drawn_label_is_forgotten() -> None:
    out = torch.tensor([[0.3, -1.0, 2.0], [1.5, 0.2, -0.4]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0, 1.0], [NAN, 1.0, 1.0]], dtype=torch.float64)
    found = forget_losses(BCE, out, y, torch.tensor([2, 1]))
    assert found.tolist() == pytest.approx([math.log1p(math.exp(-2.0)), math.log1p(math.exp(-0.2))])


def test_a_batch_of_which_nothing_can_be_drawn_only_opens_gates() -> None:
    net = one_convolution()
    y = torch.full((4, 3), NAN, dtype=torch.float64)
    found = terms(net, BCE, expand(BCE, images(4), y, 3, 3, generator(0)), WfNetParams())
    assert not found.retain
    assert not found.forget
    loss = weighted(found, WfNetParams(), 10.0)
    assert torch.equal(loss, Terms(*found).closed)
    loss.backward()
    assert all(bool((alpha.grad < 0).all()) for alpha in net.alpha_weight)  # type: ignore[operator]
