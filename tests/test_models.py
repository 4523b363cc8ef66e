"""Built-in networks: their layers, deterministic initialisation, and restoring without drawing."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from unlearnbench.api import UnlearnBenchError, UsageError
from unlearnbench.api.runtime import Ref, derive_seed, generator, ref_of
from unlearnbench.networks import build_network, restore_network
from unlearnbench.registry import registry

CPU = torch.device("cpu")
DIGITS = Ref("cnn", {"channels": [16, 32], "hidden": 64}, (1, 8, 8), 10)
LOCATION = Ref("mlp", {"hidden": [128]}, (446,), 30)


def build(ref: Ref, seed: int = 0) -> nn.Module:
    return build_network(registry(), ref, seed, CPU)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def layers(model: nn.Module) -> str:
    """Kinds and sizes of the layers, in order."""
    found = []
    for layer in model.children():
        shape = tuple(getattr(layer, "weight", torch.empty(0)).shape)
        found.append(type(layer).__name__ + ("x".join(map(str, shape)) if shape != (0,) else ""))
    return " ".join(found)


@pytest.mark.parametrize(
    ("ref", "weights", "expected"),
    [
        (Ref("logistic", {}, (1, 8, 8), 10), 650, "Flatten Linear10x64"),
        (LOCATION, 61_086, "Flatten Linear128x446 ReLU Linear30x128"),
        (Ref("mlp", {"hidden": [5, 4]}, (2, 3), 2), 69, "Flatten Linear5x6 ReLU Linear4x5 ReLU Linear2x4"),
        (Ref("mlp", {"hidden": []}, (6,), 2), 14, "Flatten Linear2x6"),
        (
            DIGITS,
            13_706,
            "Conv2d16x1x3x3 ReLU MaxPool2d Conv2d32x16x3x3 ReLU MaxPool2d Flatten Linear64x128 ReLU Linear10x64",
        ),
        (
            Ref("cnn", {"channels": [4], "hidden": 3}, (3, 7, 9), 2),
            267,
            "Conv2d4x3x3x3 ReLU MaxPool2d Flatten Linear3x48 ReLU Linear2x3",
        ),
    ],
    ids=["logistic", "location30", "mlp", "mlp without hidden layers", "digits", "odd images"],
)
def test_layers_and_weights_are_as_described(ref: Ref, weights: int, expected: str) -> None:
    model = build(ref)
    assert (layers(model), count(model)) == (expected, weights)
    assert model(torch.zeros(5, *ref.inputs)).shape == (5, ref.outputs)
    assert not model.training
    assert ref_of(model) == ref


def test_defaults_fill_in_what_a_ref_leaves_out() -> None:
    plain = build(Ref("cnn", {}, (1, 8, 8), 10))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), build(DIGITS).parameters(), strict=True))


@pytest.mark.parametrize("ref", [DIGITS, LOCATION], ids=["cnn", "mlp"])
def test_the_seed_decides_every_weight_and_the_global_state_none(ref: Ref) -> None:
    found = []
    for noise, seed in ((1, 7), (2, 7), (1, 8)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(noise)
            before = torch.get_rng_state()
            found.append([p.detach().clone() for p in build(ref, seed).parameters()])
            assert torch.equal(before, torch.get_rng_state())
    first, again, other = found
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_initial_weights_are_those_of_plain_torch_under_the_same_seed() -> None:
    seed = derive_seed(0, "train", "init/net")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator(seed))))
        plain = nn.Sequential(nn.Flatten(), nn.Linear(446, 128), nn.ReLU(), nn.Linear(128, 30))
    made = build(LOCATION, seed).state_dict()
    assert all(torch.equal(value, made[name]) for name, value in plain.state_dict().items())


def test_restoring_gives_the_same_outputs_and_draws_nothing() -> None:
    model = build(DIGITS, 3)
    x = torch.randn(4, 1, 8, 8, generator=generator(0))
    before = torch.get_rng_state()
    restored = restore_network(registry(), DIGITS, model.state_dict(), CPU)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(restored(x), model(x))
    assert not restored.training
    assert all(p.requires_grad for p in restored.parameters())
    with torch.no_grad():
        next(restored.parameters()).zero_()
    assert torch.equal(model(x), build(DIGITS, 3)(x))  # the stored weights are not shared


def test_a_copy_knows_what_it_was_built_from_and_a_strange_module_does_not() -> None:
    assert ref_of(copy.deepcopy(build(DIGITS))) == DIGITS
    with pytest.raises(ValueError, match=r"not built by job\.build"):
        ref_of(nn.Linear(2, 2))


def test_a_ref_survives_json() -> None:
    nested = Ref("wrapper", {"base": DIGITS, "rank": 2}, (1, 8, 8), 10)
    document = nested.to_json()
    assert document["params"]["base"] == DIGITS.to_json()
    assert Ref.from_json(DIGITS.to_json()) == DIGITS


@pytest.mark.parametrize(
    ("ref", "line"),
    [
        (Ref("cnn", {}, (30,), 2), "needs images [channels, height, width], not rows of shape [30]"),
        (Ref("cnn", {"channels": [4] * 4}, (1, 8, 8), 2), "4 poolings leave nothing of 8x8 pixels"),
        (Ref("cnn", {"hidden": 0}, (1, 8, 8), 2), "cnn.hidden"),
        (Ref("mlp", {"hiden": [3]}, (4,), 2), "hidden"),
        (Ref("cmn", {}, (1, 8, 8), 2), "cnn"),
    ],
    ids=["rows", "too deep", "out of range", "unknown parameter", "unknown model"],
)
def test_a_network_that_cannot_be_is_refused_in_one_line(ref: Ref, line: str) -> None:
    with pytest.raises(UnlearnBenchError, match=re.escape(line)) as found:
        build(ref)
    assert isinstance(found.value, UsageError)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_weights_that_do_not_fit_are_never_loaded_in_part(change: str) -> None:
    weights: dict[str, Any] = dict(build(LOCATION).state_dict())
    if change == "missing":
        del weights["3.bias"]
    else:
        weights["3.bias"] = torch.zeros(29)
    with pytest.raises(RuntimeError, match=r"3\.bias"):
        restore_network(registry(), LOCATION, weights, CPU)
