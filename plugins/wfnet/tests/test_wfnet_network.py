"""A network under its rows of gates, against weights that are multiplied by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from unlearnbench.api import IncompatibleError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import Ref, attach_ref, ref_of
from unlearnbench_wfnet.filtering import filtered_by
from unlearnbench_wfnet.network import Gates, WFNet
from unlearnbench_wfnet.targets import find_targets

CLASSES = 3


class Twice(nn.Module):
    """One convolution that is called twice, with a norm behind another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.again = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.norm(self.stem(x)).relu()).relu())
        return self.head(x.mean((2, 3)))


class Preactivation(nn.Module):
    """The stem's output is read by a norm and, as it is, by a shortcut around it."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, bias=bias)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.norm(x).relu()).mean((2, 3)))


def plain(bias: bool = True, affine: bool = True, linear: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=bias), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


NETS: dict[str, Callable[[], nn.Module]] = {
    "with-bias": plain,
    "without-bias": lambda: plain(bias=False),
    "norm-without-affine": lambda: plain(affine=False),
    "called-twice": Twice,
    "preactivation": Preactivation,
}


def lived(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same network, with statistics and affine parameters that no initialisation would give."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=rng))
                module.running_var.copy_(torch.rand(module.num_features, generator=rng) + 0.3)
                if module.affine:
                    module.weight.copy_(torch.randn(module.num_features, generator=rng))
                    module.bias.copy_(torch.randn(module.num_features, generator=rng))
    return net


def wrapped(net: nn.Module, seed: int = 0, **options: Any) -> WFNet:
    """A WF-Net whose gates are all different."""
    wf = WFNet(lived(net, seed), find_targets(net, (2, 8, 8)), CLASSES, **options)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for alpha in (*wf.alpha_weight, *wf.alpha_bias):
            alpha.copy_(torch.randn(alpha.shape, generator=rng) * 2)
    return wf


def batch(n: int, seed: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(n, 2, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(wf: WFNet, row: int) -> nn.Module:
    """A copy of the base with W' = sigmoid(alpha) W and b' = sigmoid(alpha_b) b written in, channel by channel."""
    net, alphas = deepcopy(wf.base), wf.tensors()
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d):
                for channel in range(module.out_channels):
                    module.weight[channel] *= 1 / (1 + torch.exp(-alphas[f"weight/{name}"][row, channel]))
                    if module.bias is not None:
                        module.bias[channel] *= 1 / (1 + torch.exp(-alphas[f"bias/{name}"][row, channel]))
    return net


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def without_hooks(net: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in net.modules())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rows", [[0, 2], [2, 0, 1], [1], [1, 1, 0, 2, 0]])
def test_every_sample_sees_the_weights_of_its_own_row(name: str, rows: list[int]) -> None:
    wf = wrapped(NETS[name]().double())
    x = batch(len(rows), dtype=torch.float64)
    expected = torch.cat([by_hand(wf, row)(x[i : i + 1]) for i, row in enumerate(rows)])
    torch.testing.assert_close(wf(x, torch.tensor(rows)), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("row", range(CLASSES))
def test_one_row_for_all_is_the_network_with_gated_weights_wrapped_selected_and_baked(name: str, row: int) -> None:
    wf, x = wrapped(NETS[name]().double()), batch(4, dtype=torch.float64)
    expected = by_hand(wf, row)(x)
    assert (expected - wf.base(x)).abs().max() > 0.01
    torch.testing.assert_close(wf(x, row=row), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(wf.select(row)(x), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(wf.bake(row)(x), expected, rtol=1e-6, atol=1e-6)
    single, x = wf.float(), x.float()
    torch.testing.assert_close(single.bake(row)(x), single(x, torch.full((4,), row)), rtol=1e-5, atol=1e-5)


layer = st.fixed_dictionaries(
    {
        "groups": st.sampled_from([1, 2]), "width": st.sampled_from([2, 4]), "bias": st.booleans(),
        "norm": st.booleans(), "stride": st.sampled_from([1, 2]), "kernel": st.sampled_from([1, 3]),
        "in_place": st.booleans(),
    }
)  # fmt: skip


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    layers=st.lists(layer, min_size=1, max_size=3), seed=st.integers(0, 99),
    rows=st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=5), mask_bn=st.booleans(),
)  # fmt: skip
def test_random_networks_agree_per_sample_by_row_and_baked(
    layers: list[dict[str, Any]], seed: int, rows: list[int], mask_bn: bool
) -> None:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    channels = 2
    for one in layers:
        parts.append(
            nn.Conv2d(
                channels, one["width"], one["kernel"], one["stride"], padding=1, groups=one["groups"], bias=one["bias"]
            )
        )
        parts += [nn.ReLU(inplace=True)] if one["in_place"] else []
        parts += [nn.BatchNorm2d(one["width"])] if one["norm"] else []
        channels = one["width"]
    net = nn.Sequential(*parts, nn.Flatten(), nn.LazyLinear(CLASSES)).double()
    net.eval()(batch(1, dtype=torch.float64))
    wf = wrapped(net, seed, mask_bn=mask_bn)
    x = batch(len(rows), dtype=torch.float64)
    found = wf(x, torch.tensor(rows))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.cat([wf(x[i : i + 1], row=r) for i, r in enumerate(rows)]))
    torch.testing.assert_close(found, torch.cat([wf.bake(r)(x[i : i + 1]) for i, r in enumerate(rows)]))
    if not mask_bn:
        torch.testing.assert_close(found, torch.cat([by_hand(wf, r)(x[i : i + 1]) for i, r in enumerate(rows)]))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mask_bn", [False, True])
def test_without_a_row_outputs_are_the_bases_bit_for_bit_also_after_filtered_calls(name: str, mask_bn: bool) -> None:
    base = lived(NETS[name]()).eval()
    x = batch(3)
    expected, before = base(x), tensors_of(base)
    wf = wrapped(base, mask_bn=mask_bn)
    assert torch.equal(wf(x), expected)
    for row in (1, [0, 2], torch.tensor([0, 2, 1])):
        wf(x, row)
        assert without_hooks(wf.base)
        assert torch.equal(wf(x), expected)
    assert same_bits(tensors_of(wf.base), before)


@pytest.mark.parametrize("mask_bn", [False, True])
def test_an_error_in_a_filtered_call_leaves_nothing_behind(mask_bn: bool) -> None:
    wf, x = wrapped(plain(), mask_bn=mask_bn), batch(2)
    expected = wf(x)
    with pytest.raises(RuntimeError, match="channels"):
        wf(x[:, :1], torch.tensor([0, 1]))
    assert without_hooks(wf.base)
    assert torch.equal(wf(x), expected)


def test_a_forward_that_was_put_on_a_layer_before_is_put_back() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.att = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.att(x, x, x, need_weights=False)[0]

    net = Net().eval()
    mine = lambda q, k, v, **_: (q * 2, None)  # noqa: E731
    targets = find_targets(net, (3, 4))
    net.att.forward = mine
    with filtered_by(net, targets, [Gates(torch.ones(2, 12), torch.ones(2, 12))]):
        assert net.att.forward is not mine
    assert net.att.forward is mine


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mask_bn", [False, True])
def test_training_the_gates_changes_no_bit_of_the_base(name: str, mask_bn: bool) -> None:
    wf = wrapped(NETS[name](), mask_bn=mask_bn)
    before, gates = tensors_of(wf.base), wf.tensors()
    wf.train()
    assert wf.training
    assert not any(module.training for module in wf.base.modules())
    optimizer = torch.optim.SGD([p for p in wf.parameters() if p.requires_grad], lr=10.0)
    for rows in (torch.tensor([0, 1, 2, 1]), torch.tensor([2, 0, 0, 1])):
        optimizer.zero_grad()
        nn.functional.cross_entropy(wf(batch(4), rows), rows).backward()
        optimizer.step()
    assert same_bits(tensors_of(wf.base), before)
    assert all(p.grad is None for p in wf.base.parameters())
    assert all(not torch.equal(v, gates[name]) for name, v in wf.tensors().items() if name.startswith("weight/"))


@pytest.mark.parametrize("name", NETS)
def test_gradients_of_gates_through_rows_are_those_through_gated_weights(name: str) -> None:
    wf = wrapped(NETS[name]().double())
    rows, x = torch.tensor([1, 0, 1, 2]), batch(4, dtype=torch.float64)
    parameters = [*wf.alpha_weight, *wf.alpha_bias]
    direction = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = torch.autograd.grad((wf(x, rows) * direction).sum(), parameters)
    out = []
    for i, row in enumerate(rows.tolist()):
        weights, biases = {}, iter(wf.alpha_bias)
        for target, alpha in zip(wf.targets, wf.alpha_weight, strict=True):
            own = wf.base.get_submodule(target.name)
            weights[f"{target.name}.weight"] = torch.einsum("o,oikl->oikl", alpha[row].sigmoid(), own.weight)
            if own.bias is not None:
                weights[f"{target.name}.bias"] = next(biases)[row].sigmoid() * own.bias
        out.append(functional_call(wf.base, weights, (x[i : i + 1],)))
    expected = torch.autograd.grad((torch.cat(out) * direction).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def train_all(base: nn.Module) -> None:
    base.train()


def train_norm(base: nn.Module) -> None:
    base[1].train()


@pytest.mark.parametrize(("train", "who"), [(train_all, "the base"), (train_norm, "1")])
def test_a_base_in_training_mode_is_rejected_before_its_statistics_move(train: Any, who: str) -> None:
    wf, x = wrapped(plain()), batch(2)
    before, selected = tensors_of(wf.base), wf.select(1)
    train(wf.base)
    for call in (
        lambda: wf(x), lambda: wf(x, row=1), lambda: wf(x, torch.tensor([0, 1])), lambda: selected(x),
        lambda: wf.bake(1),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"{who} is in training mode") as problem:
            call()
        assert problem.value.code == "norm-in-training"
    assert same_bits(tensors_of(wf.base), before)


def test_a_norm_that_always_takes_batch_statistics_is_rejected() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(IncompatibleError, match="1 normalises by batch statistics"):
        WFNet(net, find_targets(net, (2, 8, 8)), CLASSES)


def test_nothing_to_gate_is_rejected() -> None:
    with pytest.raises(IncompatibleError, match="no layer to put gates on"):
        WFNet(nn.Sequential(nn.Flatten()), (), CLASSES)


def norm_by_hand(norm: nn.BatchNorm2d, z: np.ndarray) -> np.ndarray:
    """gamma (z - mu) / sqrt(var + eps) + beta over channels [n, c, h, w]."""
    gamma, beta = (
        (norm.weight.detach().numpy(), norm.bias.detach().numpy()) if norm.affine else (np.float32(1), np.float32(0))
    )
    scale = gamma / np.sqrt(norm.running_var.numpy() + norm.eps)
    return (z.transpose(0, 2, 3, 1) - norm.running_mean.numpy()) * scale + beta


def after_norm(wf: WFNet, x: Tensor, row: Any) -> Tensor:
    """What the second module of the base gives."""
    seen = []
    handle = wf.base[2].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    wf(x, row)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("row", [1, torch.tensor([1, 1])])
def test_a_closed_gate_leaves_the_norm_of_zero_unless_the_norm_is_masked_too(
    bias: bool, affine: bool, row: int | Tensor
) -> None:
    for mask_bn in (False, True):
        wf = wrapped(plain(bias, affine), mask_bn=mask_bn)
        with torch.no_grad():
            wf.alpha_weight[0][1, 2] = -torch.inf
            if bias:
                wf.alpha_bias[0][1, 2] = -torch.inf
        channel = after_norm(wf, batch(2), row)[:, 2]
        if mask_bn:
            assert torch.equal(channel, torch.zeros_like(channel))
        else:
            expected = norm_by_hand(wf.base[1], np.zeros((1, 6, 1, 1), dtype=np.float32))[0, 0, 0, 2]
            assert abs(expected) > 0.01
            np.testing.assert_allclose(channel.detach().numpy(), np.full((2, 6, 6), expected), rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_a_masked_norm_gives_the_gate_times_what_it_gave(bias: bool, affine: bool) -> None:
    wf, x = wrapped(plain(bias, affine), mask_bn=True), batch(3)
    rows = [2, 0, 1]
    gate = torch.sigmoid(wf.alpha_weight[0])[rows].detach().numpy()
    expected = norm_by_hand(wf.base[1], wf.base[0](x).detach().numpy()) * gate[:, None, None, :]
    found = after_norm(wf, x, torch.tensor(rows)).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(
            after_norm(wf, x[i : i + 1], row).detach().numpy().transpose(0, 2, 3, 1), expected[i : i + 1],
            rtol=1e-4, atol=1e-5,
        )  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_under_a_masked_norm_rows_baked_and_selected_agree(name: str) -> None:
    wf, x = wrapped(NETS[name](), mask_bn=True), batch(4)
    assert wf.targets[0].norm
    for row in range(CLASSES):
        found = wf(x, torch.full((4,), row))
        assert (found - wrapped(wf.base)(x, row=row)).abs().max() > 1e-4
        torch.testing.assert_close(found, wf.bake(row)(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found, wf.select(row)(x), rtol=1e-5, atol=1e-5)


def test_several_classes_are_forgotten_by_the_product_of_their_gates() -> None:
    wf, x = wrapped(plain()), batch(2)
    net = by_hand(wf, 0)
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= wf.tensors()[f"weight/{name}"][2].sigmoid()[:, None, None, None]
            module.bias.data *= wf.tensors()[f"bias/{name}"][2].sigmoid()
    for rows in ([0, 2], (2, 0), [2, 0, 2]):
        torch.testing.assert_close(wf(x, row=rows), net(x), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(wf.bake(rows)(x), net(x), rtol=1e-6, atol=1e-6)
    assert torch.equal(wf(x, row=[1, 1]), wf(x, row=1))


def test_hardening_closes_what_is_below_and_leaves_the_rest_as_it_is() -> None:
    wf = wrapped(plain())
    soft, hard = wf.bake(1).state_dict(), wf.bake(1, harden=0.5).state_dict()
    assert soft.keys() == hard.keys()
    closed = 0
    for target in wf.targets:
        for name, kind in ((target.weight_name, "weight"), (target.bias_name, "bias")):
            shut = wf.tensors()[f"{kind}/{target.name}"][1].sigmoid() < 0.5
            assert not hard[name][shut].any()
            assert soft[name][shut].abs().flatten(1).sum(1).all() if kind == "weight" else soft[name][shut].all()
            assert torch.equal(hard[name][~shut], soft[name][~shut])
            closed += int(shut.sum())
            soft.pop(name)
    assert 0 < closed < sum(2 * target.width for target in wf.targets)
    assert all(torch.equal(value, hard[name]) for name, value in soft.items())


def test_a_gate_as_open_as_the_threshold_stays_open() -> None:
    wf = WFNet(lived(plain()), find_targets(plain(), (2, 8, 8)), CLASSES, init=0.0)
    assert same_bits(wf.bake(0, harden=0.5).state_dict(), wf.bake(0).state_dict())
    assert not wf.bake(0, harden=0.5001).state_dict()["0.weight"].any()


def test_what_is_baked_is_an_ordinary_copy_that_can_be_trained() -> None:
    base = attach_ref(lived(plain()), Ref("cnn", {}, (2, 8, 8), CLASSES))
    wf = wrapped(base)
    before = tensors_of(base)
    baked = wf.bake(2)
    assert type(baked) is type(base)
    assert ref_of(baked) == ref_of(base)
    assert list(baked.state_dict()) == list(base.state_dict())
    assert not any(module.training for module in baked.modules())
    assert without_hooks(baked)
    assert all(p.requires_grad and p.is_leaf for p in baked.parameters())
    baked.train()(batch(4)).sum().backward()
    assert all(p.grad is not None for p in baked.parameters())
    torch.optim.SGD(baked.parameters(), lr=0.1).step()
    assert same_bits(tensors_of(base), before)
    fresh = plain()
    fresh.load_state_dict(wf.bake(2).state_dict())
    torch.testing.assert_close(fresh.eval()(batch(2)), wf(batch(2), row=2), rtol=1e-6, atol=1e-6)


def test_what_is_selected_keeps_the_gates_of_its_moment() -> None:
    wf, x = wrapped(plain()), batch(2)
    selected = wf.select(0)
    before = selected(x)
    with torch.no_grad():
        wf.alpha_weight[0].zero_()
    assert torch.equal(selected(x), before)
    assert not torch.equal(wf.select(0)(x), before)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (CLASSES, "there is no row 3"), (-1, "there is no row -1"), ([0, 7], "there is no row 7"),
        ([], "no row was named"), (1.0, "there is no row 1.0"), (True, "there is no row True"),
        ([False], "there is no row False"), ("1", "there is no row '1'"),
    ],
)  # fmt: skip
def test_rows_of_no_class_are_refused(row: Any, message: str) -> None:
    wf, x = wrapped(plain()), batch(2)
    for call in (lambda: wf(x, row=row), lambda: wf.select(row), lambda: wf.bake(row), lambda: wf.gates(row)):
        with pytest.raises(UsageError, match=message) as problem:
            call()
        assert problem.value.code == "unknown-row"
        assert problem.value.hint == "rows are 0 to 2, one per class"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([0, 3]), "there is no row 3"), (torch.tensor([-1, 1]), "there is no row -1"),
        (torch.tensor([0.0, 1.0]), "whole numbers, not torch.float32"),
        (torch.tensor([True, False]), "whole numbers, not torch.bool"),
        (torch.tensor([0, 1, 2]), "shape [3] are not one for each of 2 samples"),
        (torch.tensor(1), "shape [] are not one for each"), (torch.tensor([[0], [1]]), "shape [2, 1] are not"),
    ],
)  # fmt: skip
def test_rows_per_sample_that_fit_no_samples_are_refused(rows: Tensor, message: str) -> None:
    wf = wrapped(plain())
    with pytest.raises(UsageError) as problem:
        wf(batch(2), rows)
    assert message in problem.value.message
    assert without_hooks(wf.base)


def test_no_rows_at_all_give_no_outputs() -> None:
    assert wrapped(plain())(batch(0), torch.tensor([], dtype=torch.int64)).shape == (0, CLASSES)


def test_a_layer_that_sees_regrouped_rows_is_refused_per_sample_and_served_by_row() -> None:
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.cat([x[..., :4], x[..., 4:]])).mean((2, 3)).unflatten(0, (2, -1)).mean(0)

    wf = wrapped(Halves())
    with pytest.raises(IncompatibleError, match="conv is called with 6 rows for 3 samples"):
        wf(batch(3), torch.tensor([0, 1, 2]))
    assert without_hooks(wf.base)
    torch.testing.assert_close(wf(batch(3), row=1), by_hand(wf, 1)(batch(3)))


def test_gates_have_the_type_of_the_weights_that_they_gate() -> None:
    net = plain()
    net[0], net[1] = net[0].double(), net[1].double()
    net.insert(2, type("Single", (nn.Module,), {"forward": lambda self, x: x.float()})())
    net.insert(0, type("Double", (nn.Module,), {"forward": lambda self, x: x.double()})())
    net.insert(0, nn.Conv2d(2, 2, 1))
    wf = wrapped(net)
    assert [alpha.dtype for alpha in wf.alpha_weight] == [torch.float32, torch.float64, torch.float32]
    x = batch(2)
    torch.testing.assert_close(wf(x, torch.tensor([1, 1])), wf.bake(1)(x), rtol=1e-5, atol=1e-5)


def test_memory_matrices_go_round_through_their_tensors() -> None:
    wf, x = wrapped(plain()), batch(2)
    other = WFNet(wf.base, wf.targets, CLASSES).load_tensors(wf.tensors())
    assert list(wf.tensors()) == ["weight/0", "bias/0", "weight/3", "bias/3"]
    assert torch.equal(other(x, row=2), wf(x, row=2))
    taken = wf.tensors()
    taken["weight/0"].zero_()
    assert wf.alpha_weight[0].all()


def test_gates_start_where_they_are_told_to() -> None:
    net = plain()
    targets = find_targets(net, (2, 8, 8))
    assert {float(v) for alpha in WFNet(net, targets, 2).tensors().values() for v in alpha.unique()} == {3.0}
    opened = WFNet(lived(net), targets, 2, init=torch.inf)
    assert torch.equal(opened(batch(2), row=1), opened(batch(2)))


def test_errors_are_those_that_the_command_line_prints() -> None:
    with pytest.raises(UnlearnBenchError) as problem:
        wrapped(plain())(batch(2), row=9)
    assert str(problem.value) == "[unknown-row] WFNet: there is no row 9; rows are 0 to 2, one per class"
