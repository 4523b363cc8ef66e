"""Gates of the projections that attention makes its queries, keys and values by."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench_wfnet.network import WFNet
from unlearnbench_wfnet.targets import find_targets

CLASSES, DIM, HEADS, LONG = 3, 8, 2, 5


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention [n, t, d], head by head."""
    out = []
    for head in range(HEADS):
        part = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        scores = torch.einsum("ntd,nsd->nts", q[..., part], k[..., part]) / (DIM // HEADS) ** 0.5
        out.append(torch.einsum("nts,nsd->ntd", scores.softmax(-1), v[..., part]))
    return torch.cat(out, dim=-1)


class Fused(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.qkv = nn.Linear(DIM, 3 * DIM, bias=bias)
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attended(*self.qkv(x).chunk(3, dim=-1)))


class Apart(nn.Module):
    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(DIM, DIM, bias=bias) for _ in range(3))
        self.proj = nn.Linear(DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(attended(self.q(x), self.k(x), self.v(x)))


class Joint(nn.Module):
    """``nn.MultiheadAttention`` called as options say; gives outputs and, if asked for, attention weights."""

    def __init__(self, bias: bool = True, batch_first: bool = True, **call: Any) -> None:
        super().__init__()
        self.att = nn.MultiheadAttention(DIM, HEADS, bias=bias, batch_first=batch_first)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.att.batch_first else x.transpose(0, 1)
        out, weights = self.att(x, x, x, **self.call)
        out = out if self.att.batch_first else out.transpose(0, 1)
        return out if weights is None else torch.cat([out.flatten(1), weights.flatten(1)], dim=1)


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter drawn anew: heads and biases are zero at first, so that gates would change nothing."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype) * 0.3)
    return net


def wrapped(net: nn.Module, inputs: tuple[int, ...] = (LONG, DIM), seed: int = 0) -> WFNet:
    wf = WFNet(randomised(net, seed), find_targets(net, inputs, layers="attention"), CLASSES)
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for alpha in (*wf.alpha_weight, *wf.alpha_bias):
            alpha.copy_(torch.randn(alpha.shape, generator=rng) * 2)
    return wf


def batch(n: int, inputs: tuple[int, ...] = (LONG, DIM), seed: int = 5) -> Tensor:
    return torch.randn(n, *inputs, generator=torch.Generator().manual_seed(seed))


def clean(net: nn.Module) -> bool:
    return not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in net.modules())


def agrees(wf: WFNet, x: Tensor) -> None:
    """Per sample, by row, selected and baked are the same; rows matter; nothing is left on the base."""
    rows = torch.arange(len(x)) % CLASSES
    base = wf(x)
    found = wf(x, rows)
    assert clean(wf.base)
    assert torch.equal(wf(x), base)
    for i, row in enumerate(rows.tolist()):
        one = x[i : i + 1]
        assert (found[i] - base[i]).abs().max() > 1e-3
        torch.testing.assert_close(found[i : i + 1], wf.bake(row)(one), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[i : i + 1], wf.select(row)(one), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[i : i + 1], wf(one, row=row), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_fused_and_separate_and_joint_projections_agree(bias: bool) -> None:
    fused = wrapped(Fused(bias))
    with torch.no_grad():
        apart, joint = Apart(bias), Joint(bias, need_weights=False)
        weights = {f"{name}.weight": part for name, part in zip("qkv", fused.base.qkv.weight.chunk(3), strict=True)}
        if bias:
            weights |= {f"{name}.bias": part for name, part in zip("qkv", fused.base.qkv.bias.chunk(3), strict=True)}
        apart.load_state_dict({**weights, **fused.base.proj.state_dict(prefix="proj.")})
        joint.att.in_proj_weight.copy_(fused.base.qkv.weight)
        joint.att.out_proj.weight.copy_(fused.base.proj.weight)
        if bias:
            joint.att.in_proj_bias.copy_(fused.base.qkv.bias)
            joint.att.out_proj.bias.copy_(fused.base.proj.bias)
        else:
            fused.base.proj.bias.zero_()
            apart.proj.bias.zero_()
    gates = fused.tensors()
    separate = WFNet(apart, find_targets(apart, (LONG, DIM)), CLASSES).load_tensors(
        {
            f"{kind.partition('/')[0]}/{name}": part
            for kind, alpha in gates.items()
            for name, part in zip("qkv", alpha.chunk(3, dim=1), strict=True)
        }
    )
    together = WFNet(joint, find_targets(joint, (LONG, DIM)), CLASSES).load_tensors(
        {kind.replace("qkv", "att"): alpha for kind, alpha in gates.items()}
    )
    assert [target.width for target in separate.targets] == [DIM] * 3
    assert [target.width for target in together.targets] == [3 * DIM]
    x, rows = batch(4), torch.tensor([2, 0, 1, 2])
    agrees(fused, x)
    for row in (None, 0, [1, 2], rows):
        expected = fused(x, row)
        torch.testing.assert_close(separate(x, row), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(together(x, row), expected, rtol=1e-5, atol=1e-6)


def test_queries_keys_and_values_of_a_sample_are_gated_by_its_own_row() -> None:
    wf, x, rows = wrapped(Joint(need_weights=False)), batch(3), [1, 2, 0]
    att, alphas = wf.base.att, wf.tensors()
    projected = []
    for sample, row in zip(x, rows, strict=True):
        weight = torch.diag(torch.sigmoid(alphas["weight/att"][row])) @ att.in_proj_weight
        bias = torch.sigmoid(alphas["bias/att"][row]) * att.in_proj_bias
        projected.append(sample @ weight.T + bias)
    mixed = attended(*torch.stack(projected).chunk(3, dim=-1))
    expected = mixed @ att.out_proj.weight.T + att.out_proj.bias
    torch.testing.assert_close(wf(x, torch.tensor(rows)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "call", [{"need_weights": False}, {}, {"need_weights": True, "average_attn_weights": False}], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_joint_attention_agrees_with_torchs_own(
    bias: bool, batch_first: bool, call: dict[str, bool], training: bool
) -> None:
    wf = wrapped(Joint(bias, batch_first, **call))
    with torch.set_grad_enabled(training):
        agrees(wf, batch(4))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fast_path_of_encoder_layers_does_not_go_past_the_gates(batch_first: bool, norm_first: bool) -> None:
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(DIM, HEADS, 12, batch_first=batch_first, norm_first=norm_first)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x) if batch_first else self.layers(x.transpose(0, 1)).transpose(0, 1)

    wf = wrapped(Encoder())
    assert [target.name for target in wf.targets] == ["layers.layers.0.self_attn", "layers.layers.1.self_attn"]
    with torch.no_grad():
        agrees(wf, batch(4))
    agrees(wf, batch(4))


def test_the_vision_transformer_of_torchvision_is_gated_per_sample() -> None:
    vit = torchvision.models.VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=8, num_classes=CLASSES
    )
    agrees(wrapped(vit, (3, 16, 16)), batch(4, (3, 16, 16)))


def test_the_vision_transformer_of_timm_is_gated_per_sample() -> None:
    vit = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, depth=2, embed_dim=12, num_heads=2, num_classes=CLASSES
    )
    wf = wrapped(vit, (3, 16, 16))
    assert [target.name for target in wf.targets] == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    agrees(wf, batch(4, (3, 16, 16)))


def test_swin_of_timm_has_windows_for_rows_and_is_served_by_row_alone() -> None:
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=2, embed_dim=8, depths=(1, 1), num_heads=(2, 2),
        num_classes=CLASSES,
    )  # fmt: skip
    wf, x = wrapped(swin, (3, 32, 32)), batch(2, (3, 32, 32))
    with pytest.raises(IncompatibleError, match=r"attn\.qkv is called with 32 rows for 2 samples"):
        wf(x, torch.tensor([0, 1]))
    assert clean(swin)
    torch.testing.assert_close(wf(x, row=1), wf.bake(1)(x), rtol=1e-5, atol=1e-5)
    assert (wf(x, row=1) - wf(x)).abs().max() > 1e-3


class Called(nn.Module):
    """Joint attention called by ``how``."""

    def __init__(self, how: Any) -> None:
        super().__init__()
        self.att = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.att, x)[0]


@pytest.mark.parametrize(
    "how",
    [
        lambda att, x: att(x, x.flip(1), x), lambda att, x: att(x, x, x.flip(1)),
        lambda att, x: att(x, x, x, key_padding_mask=torch.zeros(x.shape[:2], dtype=torch.bool)),
        lambda att, x: att(x, x, x, attn_mask=torch.zeros(LONG, LONG)),
        lambda att, x: att(x, x, x, attn_mask=torch.zeros(LONG, LONG), is_causal=True, need_weights=False),
    ],
    ids=["other keys", "other values", "padding", "mask", "causal"],
)  # fmt: skip
def test_masks_and_attention_to_something_else_are_refused_per_sample(how: Any) -> None:
    wf, x = wrapped(Called(how)), batch(2)
    expected = wf(x)
    with pytest.raises(IncompatibleError, match="attention of a sequence to itself, without masks"):
        wf(x, torch.tensor([0, 1]))
    assert clean(wf.base)
    assert torch.equal(wf(x), expected)
    torch.testing.assert_close(wf(x, row=1), wf.bake(1)(x), rtol=1e-5, atol=1e-5)


def test_attention_over_regrouped_rows_is_refused_per_sample() -> None:
    def windows(att: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, None]:
        parts = torch.cat([x[:, :2], x[:, 2:4]])
        return att(parts, parts, parts, need_weights=False)

    wf = wrapped(Called(windows))
    with pytest.raises(IncompatibleError, match="other rows than the samples"):
        wf(batch(2), torch.tensor([0, 1]))
    assert clean(wf.base)


def test_gradients_reach_the_gates_of_the_rows_in_use_alone() -> None:
    wf, x = wrapped(Joint(need_weights=False)), batch(2)
    expected = torch.autograd.grad(wf(x, row=2).square().sum(), [*wf.alpha_weight, *wf.alpha_bias])
    found = torch.autograd.grad(wf(x, torch.tensor([2, 2])).square().sum(), [*wf.alpha_weight, *wf.alpha_bias])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
        assert one[2].abs().max() > 1e-4
        assert not one[:2].any()
