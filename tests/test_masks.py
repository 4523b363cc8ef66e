"""Masks hold whatever optimiser, loop and nesting is at work; SalUn's own tests show that its weights stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api import Recipe
from unlearnbench.api.runtime import TASKS, Data, Mask, View, fit, generator, local_rng, masked

X = torch.randn(24, 5, generator=generator(0))
Y = torch.randint(3, (24,), generator=generator(1))


def net() -> nn.Module:
    with local_rng(generator(2)):
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def half(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    rng = generator(seed)
    return {name: torch.rand(p.shape, generator=rng) < 0.5 for name, p in model.named_parameters()}


def loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(X), Y)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def moved(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach() != q for (n, p), q in zip(model.named_parameters(), net().parameters(), strict=True)}


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda w: torch.optim.Adam(w, lr=0.05, weight_decay=0.1, amsgrad=True),
    "adamw": lambda w: torch.optim.AdamW(w, lr=0.05, weight_decay=0.1),
    "rmsprop": lambda w: torch.optim.RMSprop(w, lr=0.05, momentum=0.9, weight_decay=0.1, centered=True),
    "adagrad": lambda w: torch.optim.Adagrad(w, lr=0.05, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_exactly_the_weights_of_the_mask_move_under_any_optimiser(name: str) -> None:
    model = net()
    mask = half(model)
    optimizer = OPTIMIZERS[name](model.parameters())
    with masked(model, mask):
        train(model, optimizer)
    for parameter, changed in moved(model).items():
        assert torch.equal(changed, mask[parameter])
    for parameter, p in model.named_parameters():
        values = [v for v in optimizer.state[p].values() if isinstance(v, Tensor) and v.shape == p.shape]
        assert values
        assert all(not bool(v[~mask[parameter]].any()) for v in values)


def test_free_weights_move_as_if_the_others_had_been_left_out() -> None:
    """Plain SGD by hand: the step of a free weight is its own gradient, whatever the mask says about the others."""
    model, mask = net(), half(net())
    with masked(model, mask):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=3)
    expected = net()
    for _ in range(3):
        grads = torch.autograd.grad(loss(expected), list(expected.parameters()))
        with torch.no_grad():
            for (name, p), grad in zip(expected.named_parameters(), grads, strict=True):
                p[mask[name]] -= 0.1 * grad[mask[name]]
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_clipping_sees_the_gradients_that_will_be_applied() -> None:
    model = net()
    mask = half(model)
    grads = dict(zip(mask, torch.autograd.grad(loss(model), list(model.parameters())), strict=True))
    expected = torch.cat([grads[name][mask[name]] for name in mask]).norm()
    everything = torch.cat([g.flatten() for g in grads.values()]).norm()
    with masked(model, mask):
        loss(model).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    torch.testing.assert_close(norm, expected)
    assert float(everything) > 1.05 * float(norm)


def test_what_a_loop_writes_into_masked_weights_is_undone_at_the_end() -> None:
    model = net()
    mask = half(model)
    with masked(model, mask), torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    for name, changed in moved(model).items():
        assert torch.equal(changed, mask[name])


def test_the_mask_is_gone_afterwards_also_after_an_error() -> None:
    model = net()
    with pytest.raises(ZeroDivisionError), masked(model, half(model)):
        train(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1 // 0)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert all(bool(changed.all()) for changed in moved(model).values())


def test_masks_within_masks_leave_what_both_leave_free() -> None:
    model = net()
    outer, inner = half(model, 1), half(model, 2)
    with masked(model, outer), masked(model, inner):
        train(model, OPTIMIZERS["adam"](model.parameters()))
    for name, changed in moved(model).items():
        assert torch.equal(changed, outer[name] & inner[name])


def test_other_models_are_not_bound() -> None:
    model, other = net(), net()
    with masked(model, half(model)):
        train(other, OPTIMIZERS["sgd"](other.parameters()))
    assert all(bool(changed.all()) for changed in moved(other).values())
    assert not any(bool(changed.any()) for changed in moved(model).values())


def test_parameters_without_a_mask_are_free_and_no_mask_binds_nothing() -> None:
    model = net()
    with masked(model, {"0.weight": torch.zeros(7, 5, dtype=torch.bool)}):
        train(model, OPTIMIZERS["sgd"](model.parameters()))
    assert {name for name, changed in moved(model).items() if not bool(changed.any())} == {"0.weight"}
    free = net()
    for mask in (None, {name: torch.ones_like(p, dtype=torch.bool) for name, p in free.named_parameters()}):
        model, plain = net(), net()
        with masked(model, mask):
            train(model, OPTIMIZERS["adam"](model.parameters()))
        train(plain, OPTIMIZERS["adam"](plain.parameters()))
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_mask_for_another_model_is_refused() -> None:
    mask: Mask = {"0.weight": torch.ones(7, 5, dtype=torch.bool), "9.weight": torch.ones(1, dtype=torch.bool)}
    with (
        pytest.raises(ValueError, match=r"parameters that the model does not have: \['9.weight'\]"),
        masked(net(), mask),
    ):
        pass


def test_the_training_loop_of_the_host_is_bound_too() -> None:
    model = net()
    mask = half(model)
    view = View(Data(X, Y, torch.arange(24), tuple("abc")), torch.arange(24), name="retain")
    p = Recipe(optimizer="adamw", lr=0.05, weight_decay=0.5, epochs=2, batch_size=8, clip_norm=1.0, schedule="cosine")
    with masked(model, mask):
        fit(model, TASKS["classification"], view, p, generator(0))
    for name, changed in moved(model).items():
        assert torch.equal(changed, mask[name])
