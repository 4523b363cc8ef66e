"""What can be gated in a network: convolutions, and the projections that attention makes its queries, keys, values by.

The paper gates the kernels and biases of every convolution, or the query, key and value projections of attention; other
layers, the head and the normalisations stay as they are (Poppi et al. 2024, section "WF-Net").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlearnbench.api import IncompatibleError, UsageError, did_you_mean
from unlearnbench_wfnet.plugin import Layers

Kind = Literal["convolution", "linear", "attention"]
TOGETHER = (
    ("qkv",), ("to_qkv",), ("q", "k", "v"), ("q", "kv"), ("query", "key", "value"), ("q_proj", "k_proj", "v_proj"),
    ("to_q", "to_k", "to_v"), ("to_q", "to_kv"),
)  # fmt: skip
"""What attention calls its projections, where they are layers of their own; a lone ``value`` is something else."""
PROJECTIONS = frozenset(name for names in TOGETHER for name in names)
"""All those names."""
GATE_BYTES = 4
"""A gate is a 4-byte float."""


@dataclass(frozen=True)
class Target:
    """A gated layer: one gate for each of its ``width`` output channels or features, and one for each bias.

    ``norm`` is the batch normalisation that reads the layer's output, if one does.
    """

    name: str
    kind: Kind
    width: int
    bias: bool
    norm: str = ""

    @property
    def weight_name(self) -> str:
        """Name of the gated weight in the network's state dict."""
        return f"{self.name}.{'in_proj_weight' if self.kind == 'attention' else 'weight'}".removeprefix(".")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what is gated in the network's state dict."""
        return (self.weight_name, self.bias_name) if self.bias else (self.weight_name,)

    @property
    def bias_name(self) -> str:
        """Name of the gated bias in the network's state dict."""
        return f"{self.name}.{'in_proj_bias' if self.kind == 'attention' else 'bias'}".removeprefix(".")


def find_targets(
    model: nn.Module, inputs: Sequence[int], *, layers: Layers = "auto", modules: Sequence[str] = ()
) -> tuple[Target, ...]:
    """The layers to gate, in the order in which they are called on two rows of shape ``inputs``.

    Works on the meta device too. A network without such layers has no targets.

    Raises:
        UsageError: a name of ``modules`` is no layer that can be gated.
        IncompatibleError: a layer is never called as a module, so that gates cannot reach it, or its weights are
            computed from others or used by another layer too.
    """
    named = [_named(model, name) for name in modules]
    chosen = dict(named) if named else _by_type(model, layers)
    if not chosen:
        return ()
    called, norms = _calls(model, chosen, inputs)
    idle = [name for name in chosen if name not in called]
    if idle and (named or not called or any(_kind(chosen[name]) != "convolution" for name in idle)):
        raise IncompatibleError(
            "incompatible", f"layer {idle[0]} is never called as a module, so that gates cannot reach it",
            hint="name other layers: --set wfnet.modules=[...]",
        )  # fmt: skip
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    targets = tuple(_target(name, chosen[name], norms.get(name, "")) for name in called)
    for target in targets:
        _check_own(target, chosen[target.name], owners)
    return targets


def gate_bytes(targets: Sequence[Target], classes: int) -> int:
    """What the gates of so many classes take in memory and on disk, in bytes: 4 for each weight and bias gate."""
    return GATE_BYTES * classes * sum(target.width * (2 if target.bias else 1) for target in targets)


def without_targets(layers: Layers) -> str:
    """Why a network cannot be served."""
    what = {"convolutions": "convolution", "attention": "attention projection"}.get(
        layers, "convolution and no attention projection"
    )
    return f"it has no {what} to put gates on"


def _by_type(model: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    convolutions: dict[str, nn.Module] = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    parts = {id(part) for module in model.modules() for part in _attention_parts(module)}
    attention: dict[str, nn.Module] = {name: m for name, m in model.named_modules() if id(m) in parts}
    if layers == "auto":
        return attention or convolutions
    return convolutions if layers == "convolutions" else attention


def _attention_parts(module: nn.Module) -> list[nn.Module]:
    """The projections right below a module, or itself if it projects jointly."""
    if isinstance(module, nn.MultiheadAttention):
        return [module]
    linear = {name: child for name, child in module.named_children() if isinstance(child, nn.Linear)}
    return [linear[name] for names in TOGETHER if linear.keys() >= set(names) for name in names]


def _named(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    able = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.MultiheadAttention)}
    if name not in able:
        raise UsageError(
            "bad-parameter", f"{name!r} is no convolution, linear layer or attention of this network",
            where="wfnet.modules", hint=did_you_mean(name, able, otherwise=f"there are {', '.join(list(able)[:8])}"),
        )  # fmt: skip
    return name, able[name]


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, nn.Conv2d):
        return "convolution"
    return "linear" if isinstance(module, nn.Linear) else "attention"


def _target(name: str, module: nn.Module, norm: str) -> Target:
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None or module.bias_k is not None or module.add_zero_attn:
            raise IncompatibleError(
                "incompatible", f"attention {name} has no joint projection of queries, keys, values"
            )
        return Target(name, "attention", 3 * module.embed_dim, module.in_proj_bias is not None)
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return Target(name, _kind(module), len(module.weight), module.bias is not None, norm)


def _check_own(target: Target, module: nn.Module, owners: Mapping[int, int]) -> None:
    """Gates are multiplied into a stored weight; that must be there, and no other layer may read it."""
    stored = dict(module.named_parameters(recurse=False))
    for name in target.names:
        part = name.rpartition(".")[2]
        if part not in stored:
            raise IncompatibleError("incompatible", f"the {part} of layer {target.name} is computed from others")
        if owners[id(stored[part])] > 1:
            raise IncompatibleError("incompatible", f"the {part} of layer {target.name} is used by another layer too")


@torch.no_grad()
def _calls(model: nn.Module, chosen: dict[str, nn.Module], inputs: Iterable[int]) -> tuple[list[str], dict[str, str]]:
    """Names of the chosen layers in the order of their first calls, and the batch normalisation behind each.

    That is one which reads all outputs of the layer, as they are, and nothing else, channel by channel.
    """
    made: list[tuple[str, Tensor, int]] = []
    readers: list[tuple[int, str]] = []

    def saw(name: str) -> object:
        def hook(module: nn.Module, args: tuple[object, ...], out: object) -> None:
            out = out if isinstance(out, Tensor) else torch.empty(0)
            made.append((name, out, out._version))

        return hook

    def reads(norm: str) -> object:
        def hook(module: nn.Module, args: tuple[object, ...]) -> None:
            read = [
                place
                for place, (name, out, version) in enumerate(made)
                # An activation in place returns the same tensor, but it is no longer what the layer made.
                if args and out is args[0] and out._version == version and _by_channel(chosen[name], out)
            ]
            readers.append((read[0] if read else -1, norm))

        return hook

    handles = [module.register_forward_hook(saw(name)) for name, module in chosen.items()]  # type: ignore[arg-type]
    handles += [
        module.register_forward_pre_hook(reads(name))  # type: ignore[arg-type]
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    modes = [(module, module.training) for module in model.modules()]
    example = next(model.parameters())
    try:
        model.eval()(torch.zeros(2, *inputs, device=example.device, dtype=example.dtype))
    finally:
        for module, training in modes:
            module.training = training
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(name for name, *_ in made)), _paired([name for name, *_ in made], readers)


def _by_channel(module: nn.Module, out: Tensor) -> bool:
    """Whether channels, which a batch normalisation finds in dimension 1, are what the layer has gates for."""
    return isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and out.ndim == 2)


def _paired(made: Sequence[str], readers: Sequence[tuple[int, str]]) -> dict[str, str]:
    """The normalisation of each layer, where each reads the other's every output alone.

    ``made`` names the layer of each output, ``readers`` each read output (-1 for any other) and who read it.
    """
    found: dict[str, str] = {}
    for layer in dict.fromkeys(made):
        places = [place for place, name in enumerate(made) if name == layer]
        norms = {norm for place, norm in readers if place in places}
        if len(norms) == 1:
            read = sorted(place for place, norm in readers if norm in norms)
            if read == places:
                found[layer] = norms.pop()
    return found
