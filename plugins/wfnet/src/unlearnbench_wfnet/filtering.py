"""A row of gates per sample: outputs of gated layers are scaled while a network is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from unlearnbench.api import IncompatibleError
from unlearnbench_wfnet.targets import Target


class LayerGates(Protocol):
    """Gates [n, width] of one layer, a row per sample."""

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...


@contextmanager
def filtered_by(
    base: nn.Module, targets: Sequence[Target], gates: Sequence[LayerGates], *, mask_bn: bool = False
) -> Iterator[None]:
    """Call ``base`` with the gates of each sample; afterwards it is as it was.

    a (W x) + a_b b = a (W x + b) + (a_b - a) b: the layer runs as always, and its output is scaled and shifted.
    """
    with ExitStack() as stack:
        for target, gate in zip(targets, gates, strict=True):
            module = base.get_submodule(target.name)
            if isinstance(module, nn.MultiheadAttention):
                stack.enter_context(_gated_attention(module, gate))
            elif mask_bn and target.norm:
                stack.enter_context(_gated_with_norm(module, base.get_submodule(target.norm), target, gate))
            else:
                stack.enter_context(_gated(module, target, gate))
        yield


@contextmanager
def _gated(module: nn.Module, target: Target, gate: LayerGates) -> Iterator[None]:
    """A layer whose output is scaled."""
    bias = cast("Tensor | None", module.bias)

    def hook(module: nn.Module, args: object, out: Tensor) -> Tensor:
        return _scaled(target, gate, bias, out)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _gated_with_norm(module: nn.Module, norm: nn.Module, target: Target, gate: LayerGates) -> Iterator[None]:
    """A layer whose output is scaled for all who read it but the normalisation behind, whose own output is scaled.

    That sees the layer's output as it was, so that a closed gate gives exactly 0 behind it.
    """
    bias = cast("Tensor | None", module.bias)
    made: list[tuple[Tensor, Tensor]] = []

    def after_layer(module: nn.Module, args: object, out: Tensor) -> Tensor:
        made.append((_scaled(target, gate, bias, out), out))
        return made[-1][0]

    def before_norm(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        (plain,) = (out for scaled, out in made if scaled is args[0])
        return (plain,)

    def after_norm(module: nn.Module, args: object, out: Tensor) -> Tensor:
        return out * _beside(gate.weight, out, target)

    handles = [
        module.register_forward_hook(after_layer),
        norm.register_forward_pre_hook(before_norm),
        norm.register_forward_hook(after_norm),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scaled(target: Target, gate: LayerGates, bias: Tensor | None, out: Tensor) -> Tensor:
    """The output of a layer, scaled for each sample."""
    if len(out) != len(gate.weight):
        raise IncompatibleError(
            "incompatible", f"layer {target.name} is called with {len(out)} rows for {len(gate.weight)} samples, so "
            "that it is not known which gates are whose",
        )  # fmt: skip
    scaled = out * _beside(gate.weight, out, target)
    if gate.bias is None or bias is None:
        return scaled
    # In place on what is new here; one addcmul of broadcast gates takes four times as long.
    return scaled.add_(_beside((gate.bias - gate.weight) * bias, out, target))


def _beside(gate: Tensor, out: Tensor, target: Target) -> Tensor:
    """Gates [n, width] shaped for outputs [n, width, ...] of convolutions and [n, ..., width] of other layers."""
    ones = [1] * (out.ndim - 2)
    return gate.reshape(
        len(gate), *((gate.shape[1], *ones) if target.kind == "convolution" else (*ones, gate.shape[1]))
    )


@contextmanager
def _gated_attention(module: nn.MultiheadAttention, gate: LayerGates) -> Iterator[None]:
    """Attention whose joint projection is gated; torch's own never gives that projection to a hook."""
    before = vars(module).get("forward")
    # A hook of any kind also keeps encoder layers from their fast path, which would go past ``forward``.
    handle = module.register_forward_hook(lambda *_: None)
    module.forward = partial(_attend, module, gate)  # type: ignore[method-assign]
    try:
        yield
    finally:
        handle.remove()
        del module.forward
        if before is not None:
            module.forward = before  # type: ignore[method-assign]


def _attend(
    module: nn.MultiheadAttention,
    gate: LayerGates,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Self-attention of ``nn.MultiheadAttention`` in evaluation mode, gates applied to queries, keys and values."""
    if key is not query or value is not query or key_padding_mask is not None or attn_mask is not None or is_causal:
        raise IncompatibleError("incompatible", "gates serve attention of a sequence to itself, without masks")
    x = query if module.batch_first else query.transpose(0, 1)
    if x.ndim != 3 or len(x) != len(gate.weight):
        raise IncompatibleError("incompatible", "attention is called with other rows than the samples")
    projected = F.linear(x, module.in_proj_weight) * gate.weight[:, None]
    if gate.bias is not None:
        projected = projected + (gate.bias * module.in_proj_bias)[:, None]
    q, k, v = (part.unflatten(2, (module.num_heads, -1)).transpose(1, 2) for part in projected.chunk(3, dim=2))
    weights: Tensor | None = None
    if need_weights:
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        mixed = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        mixed = F.scaled_dot_product_attention(q, k, v)
    out = module.out_proj(mixed.transpose(1, 2).flatten(2))
    return (out if module.batch_first else out.transpose(0, 1)), weights
