"""The convolutions of a network that the graph is made of, and the window of them that may be pruned."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from unlearnbench.api import IncompatibleError
from unlearnbench_essential_graph.tracing import CONVOLUTIONS, Structure, traced

_NOT_OF_TOKENS = ("Channel", "Spatial", "Squeeze", "Gate")
"""Parts of names of attention over channels or places, which convolutional networks have."""


def structure(model: nn.Module) -> Structure:
    """Convolutions and their norms as far as they can be known without running the network.

    Layers are in the order of the modules, as the paper and its code count them; where branches are parallel (ASPP,
    detection heads) that is not their depth. Prediction heads and convolutions that do not lead to the output are left
    out. A network that torch.fx cannot trace has no known norms, and its heads are taken to be its last convolutions
    with kernels of one place.
    """
    found = traced(model)
    if found is not None:
        return found
    names = [name for name, module in model.named_modules() if isinstance(module, CONVOLUTIONS)]
    while names and _is_pointwise(model.get_submodule(names[-1])):
        names.pop()
    return Structure(tuple(names), {})


def convolutions(model: nn.Module) -> tuple[str, ...]:
    """Names of the convolutions that a graph of the network can have, in the order of the modules."""
    return structure(model).layers


def window(layers: Sequence[str], sigma: int, skip_last: int) -> tuple[str, ...]:
    """The ``sigma`` layers before the last ``skip_last``, in order.

    Raises:
        IncompatibleError: there are not that many.
    """
    reason = too_few(len(layers), sigma, skip_last)
    if reason:
        raise IncompatibleError(
            "too-few-layers", f"cannot work on this network: {reason}", where="$.unlearner.params.sigma",
            hint="lower sigma or skip_last",
        )  # fmt: skip
    return tuple(layers[len(layers) - skip_last - sigma : len(layers) - skip_last])


def too_few(layers: int, sigma: int, skip_last: int) -> str | None:
    """Why a window does not fit into that many layers, or None."""
    if sigma + skip_last <= layers:
        return None
    needed = f"sigma {sigma} and skip_last {skip_last} need {sigma + skip_last}" if skip_last else f"sigma is {sigma}"
    plural = "" if layers == 1 else "s"
    return f"{needed}, and it has {layers} convolution{plural} besides its prediction heads"


def refusal(model: nn.Module) -> str | None:
    """Why a network cannot have an essential graph, or None: it is a transformer, or has no convolutions to prune."""
    for module in model.modules():
        if _is_attention(module):
            return (
                f"{type(module).__name__} makes it a transformer, and the paper limits itself to convolutional networks"
            )
    names = convolutions(model)
    if not names:
        return "it has no convolutions besides prediction heads"
    if len({id(model.get_submodule(name).weight) for name in names}) < len(names):
        return "two of its convolutions share their weights, so that a channel of one cannot go without the other's"
    for name in names:
        if "weight" not in model.get_submodule(name)._parameters:
            return (
                f"the weight of its convolution {name} is computed from other parameters, so that zeros would not stay"
            )
    return None


def _is_attention(module: nn.Module) -> bool:
    """Attention between tokens, as torch, torchvision, timm and transformers call theirs."""
    kind = type(module).__name__
    named = "Attention" in kind and not any(part in kind for part in _NOT_OF_TOKENS)
    return isinstance(module, nn.MultiheadAttention) or named


def _is_pointwise(module: nn.Module) -> bool:
    return all(size == 1 for size in module.kernel_size)  # type: ignore[union-attr]
