"""Features, linear probe and CKA."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlearnbench.api.runtime import Classification, Data, View
from unlearnbench_utility.features import Cka, LinearProbe, features, linear_cka
from unlearnbench_utility.plugin import CkaParams, ProbeParams

TASK = Classification()


def view(x: Tensor, ids: Tensor | None = None) -> View:
    n = len(x)
    ids = torch.arange(n) if ids is None else ids
    return View(Data(x, torch.zeros(n, dtype=torch.long), ids, tuple("abc")), torch.arange(n), name="forget")


def net(*tail: nn.Module, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3), *tail)


X = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))


def test_features_are_what_the_last_linear_layer_gets_in_evaluation_mode_sorted_by_id() -> None:
    model, ids = net().train(), torch.randperm(30, generator=torch.Generator().manual_seed(2))
    found, status = features(model, TASK, view(X, ids))
    assert status == "ok"
    expected = torch.tanh(model[0](X))[ids.argsort()].double()
    assert torch.equal(found, expected.detach())
    assert not any(module._forward_hooks for module in model.modules())


class Twice(nn.Module):
    """An ensemble: no linear layer of it gives the output."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = net(seed=1), net(seed=2)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.two(x)) / 2


@pytest.mark.parametrize("model", [nn.Identity(), net(nn.Softmax(1)), Twice()])
def test_a_network_that_does_not_end_in_a_linear_layer_has_no_features(model: nn.Module) -> None:
    assert features(model, TASK, view(X))[1] == "no linear output layer"


def test_no_rows_and_no_numbers_have_a_status() -> None:
    assert features(net(), TASK, view(X[:0]))[1] == "empty split"
    broken = net()
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan
    assert features(broken, TASK, view(X))[1] == "non-finite"


def hsic(k: Any, m: Any) -> float:
    """Hilbert-Schmidt independence criterion from Gram matrices, as the definition has it."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(k @ h @ m @ h) / (n - 1) ** 2)


@pytest.mark.parametrize(("n", "p", "q"), [(40, 5, 8), (6, 20, 9), (12, 12, 3)])
def test_cka_is_the_normalised_hsic(n: int, p: int, q: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, p)) + 3
    y = np.concatenate([x[:, :2], rng.normal(size=(n, q - 2))], 1)
    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert linear_cka(torch.tensor(x), torch.tensor(y)) == pytest.approx(expected, rel=1e-10)
    assert 0 < expected < 1


def test_cka_by_hand() -> None:
    x = torch.tensor([[1.0, 0], [-1, 0], [0, 0], [0, 0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [-1], [1], [-1]], dtype=torch.float64)
    # centred already: Y'X = [2, 0], X'X = diag(2, 0), Y'Y = 4
    assert linear_cka(x, y) == pytest.approx(4 / (2 * 4))
    assert linear_cka(x, y[[0, 0, 0, 0]]) is None


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    assert linear_cka(x, 7 * x @ q + 2) == pytest.approx(1.0)
    assert linear_cka(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 0, 0, 0], dtype=torch.float64))) < 0.8


@pytest.fixture
def clustered(hand: Any) -> Any:
    """Evidence about nets that see three clusters; class 0 is forgotten. The unlearned net cannot say class 0."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.tensor([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]])
    y = {
        "forget": torch.zeros(40, dtype=torch.long),
        "retain": torch.arange(120) % 2 + 1,
        "test": torch.arange(30) % 2 + 1,
        "holdout": torch.zeros(20, dtype=torch.long),
    }
    x = {split: centres[labels] + torch.randn(len(labels), 4, generator=rng) / 2 for split, labels in y.items()}
    nets = {"original": net(), "gold": net(seed=3), "unlearned": net()}
    with torch.no_grad():
        nets["unlearned"][3].weight[0] = 0
        nets["unlearned"][3].bias[0] = -100
    return hand(y, {}, x=x, nets=nets)


def test_a_probe_reads_the_class_that_the_output_layer_hides(clustered: Any, by_key: Any) -> None:
    found = by_key(LinearProbe(ProbeParams()), clustered)
    outputs = clustered.nets["unlearned"].eval()(clustered.x["forget"])
    assert (outputs.argmax(1) == 0).sum() == 0
    assert found["probe-accuracy.forget"].value > 0.9
    assert found["probe-accuracy.holdout"].value > 0.9
    assert (found["probe-accuracy.forget"].n, found["probe-accuracy.holdout"].n) == (40, 20)
    original = by_key(LinearProbe(ProbeParams()), replace(clustered, subject="original"))
    assert original == found  # the features are the same


def test_a_probe_reads_nothing_off_features_that_hold_nothing(clustered: Any, by_key: Any) -> None:
    with torch.no_grad():
        clustered.nets["unlearned"][0].weight.zero_()
    found = by_key(LinearProbe(ProbeParams()), clustered)["probe-accuracy.forget"]
    assert found.value == 0  # all rows look the same; the most frequent classes are others
    assert (found.low, found.high) == (0, pytest.approx(1 - 0.025 ** (1 / 40)))


def test_rows_are_predicted_by_probes_that_were_not_trained_on_them(clustered: Any, by_key: Any) -> None:
    """With as many features as rows a probe would learn any labels by heart; held-out random labels stay a guess."""
    rng = torch.Generator().manual_seed(3)
    wide = nn.Sequential(nn.Linear(300, 3))
    y = {split: torch.randint(3, (len(labels),), generator=rng) for split, labels in clustered.y_of.items()}
    x = {split: torch.randn(len(labels), 300, generator=rng) for split, labels in y.items()}
    evidence = replace(clustered, y_of=y, x=x, nets={"unlearned": wide})
    found = by_key(LinearProbe(ProbeParams(c=1e6)), evidence)["probe-accuracy.forget"]
    assert 0.1 < found.value < 0.6


def test_order_of_rows_does_not_matter(clustered: Any, shuffled: Any, by_key: Any) -> None:
    for measure in (LinearProbe(ProbeParams(rows=50)), Cka(CkaParams(rows=15))):
        torch.manual_seed(0)
        plain = by_key(measure, clustered)
        torch.manual_seed(1)
        other = by_key(measure, shuffled(clustered))
        assert {key: r.status for key, r in plain.items()} == dict.fromkeys(plain, "ok")
        assert {k: r.value for k, r in plain.items()} == pytest.approx({k: r.value for k, r in other.items()}, abs=1e-6)


def test_probe_says_what_it_cannot_do(clustered: Any, by_key: Any) -> None:
    few = replace(clustered, y_of={**clustered.y_of, "forget": torch.tensor([0, 0, 0, 0] + [-100] * 36)})
    found = by_key(LinearProbe(ProbeParams()), few)
    assert {(r.value, r.status) for r in found.values()} == {(None, "fewer than 5 rows")}
    one = replace(clustered, y_of={**clustered.y_of, "retain": torch.zeros(120, dtype=torch.long)})
    assert {r.status for r in by_key(LinearProbe(ProbeParams()), one).values()} == {"one class"}
    unseen = replace(clustered, y_of={**clustered.y_of, "holdout": torch.full((20,), -100)})
    found = by_key(LinearProbe(ProbeParams()), unseen)
    assert found["probe-accuracy.holdout"].status == "empty split"
    assert found["probe-accuracy.forget"].status == "ok"
    ensemble = replace(clustered, nets={"unlearned": Twice()})
    found = by_key(LinearProbe(ProbeParams()), ensemble)
    assert {(r.value, r.status) for r in found.values()} == {(None, "no linear output layer")}


def test_cka_with_itself_is_1_and_with_another_net_less(clustered: Any, by_key: Any) -> None:
    found = by_key(Cka(CkaParams()), clustered)
    assert found["cka-to-original.forget"].value == pytest.approx(1)  # dropout would make it less
    assert 0 < found["cka-to-gold.forget"].value < 1
    assert (found["cka-to-original.forget"].better, found["cka-to-gold.forget"].better) == ("gold", "higher")
    assert {r.n for r in by_key(Cka(CkaParams(rows=7)), clustered).values()} == {7}


def test_cka_of_one_row_or_of_constant_features_has_a_status(clustered: Any, by_key: Any) -> None:
    one = replace(clustered, y_of={**clustered.y_of, "forget": torch.tensor([0])}, x={**clustered.x, "forget": X[:1]})
    assert {(r.value, r.status) for r in by_key(Cka(CkaParams()), one).values()} == {(None, "zero variance")}
    with torch.no_grad():
        clustered.nets["gold"][0].weight.zero_()
    found = by_key(Cka(CkaParams()), clustered)
    assert found["cka-to-gold.forget"].status == "zero variance"
    assert found["cka-to-original.forget"].status == "ok"
    clustered.nets["gold"] = nn.Identity()
    assert by_key(Cka(CkaParams()), clustered)["cka-to-gold.forget"].status == "no linear output layer"
