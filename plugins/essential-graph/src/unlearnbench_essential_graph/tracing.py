"""How a network is put together: which convolutions lead to its output, which are heads, which norm reads which.

``traced`` reads it from the network's own code with torch.fx, without running it. Code that cannot be traced (its
control flow depends on data, it calls compiled operators) is looked at in a real pass instead: ``observed``. Names of
layers mean nothing to either.
"""

from __future__ import annotations

import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from unlearnbench.api.runtime import generator, local_rng

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PASSED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
"""What hands its input on in evaluation mode."""


@dataclass(frozen=True)
class Structure:
    """Convolutions that lead to the output without being its heads, in module order, and the BatchNorm of each.

    ``norms`` has the name of the norm that reads the convolution, where there is exactly one and it reads nothing else.
    """

    layers: tuple[str, ...]
    norms: Mapping[str, str]


def is_batch_norm(module: nn.Module) -> bool:
    """Whether it is a BatchNorm: the frozen ones of torchvision and timm have buffers and classes of their own."""
    frozen = any(kind.__name__.startswith("FrozenBatchNorm") for kind in type(module).__mro__)
    return frozen or isinstance(module, _BatchNorm)


def has_weights(module: nn.Module) -> bool:
    """Whether it is a layer that mixes what it gets: not a norm, nor a mere scale of channels."""
    if isinstance(module, (_NormBase, nn.LayerNorm)):
        return False
    if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
        return True
    return any(_is_matrix(parameter) for parameter in module.parameters(recurse=False))


def _is_matrix(weight: Tensor) -> bool:
    return sum(size > 1 for size in weight.shape) >= 2


def traced(model: nn.Module) -> Structure | None:
    """The structure from torch.fx; None where the network cannot be traced. Works on the meta device.

    What it does in evaluation mode counts: an auxiliary head is used in training alone.
    """
    modules = dict(model.named_modules())
    try:
        with warnings.catch_warnings(), local_rng(generator(0)), _attributes_kept(model), evaluating(model):
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(model, concrete_args=_defaults(model))
    except Exception:  # whatever foreign code raises when it meets a symbol instead of a tensor
        return None
    called = {node: str(node.target) for node in graph.nodes if node.op == "call_module"}
    (end,) = (node for node in graph.nodes if node.op == "output")
    alive = _ancestors(end)
    convolutions = {name for node, name in called.items() if node in alive and _is_convolution(modules[name])}
    read: dict[str, set[str]] = defaultdict(set)  # norm -> what it reads
    for node, name in called.items():
        if is_batch_norm(modules[name]):
            source = _source(node, modules)
            read[name].add(called.get(source, "") if source is not None else "")
    heads = _heads(end, called, modules)
    return _structure(modules, convolutions - heads, read)


def observed(model: nn.Module, score: Callable[[], Tensor]) -> Structure:
    """The structure that one pass shows; ``score`` runs the network and returns a scalar that depends on its output.

    A norm reads a convolution if the tensor that it gets is the very one that the convolution returned; a head is what
    the gradient reaches before any other layer with weights.
    """
    modules = dict(model.named_modules())
    returned: dict[int, tuple[str, Tensor, int]] = {}
    layer_of: dict[Any, str] = {}  # step of the autograd graph -> layer
    read: dict[str, set[str]] = defaultdict(set)

    def after(name: str, out: Any) -> None:
        if isinstance(out, Tensor) and out.grad_fn is not None:
            layer_of[out.grad_fn] = name
            returned[id(out)] = (name, out, out._version)

    def before(name: str, inputs: tuple[Any, ...]) -> None:
        found = returned.get(id(inputs[0])) if inputs else None
        # A tensor that was changed in place since (a ReLU) is no longer what the convolution returned.
        read[name].add(found[0] if found is not None and found[1]._version == found[2] else "")

    handles: list[Any] = []
    for name, module in modules.items():
        if has_weights(module):
            handles.append(module.register_forward_hook(lambda m, inputs, out, name=name: after(name, out)))
        elif is_batch_norm(module):
            handles.append(module.register_forward_pre_hook(lambda m, inputs, name=name: before(name, inputs)))
    try:
        with torch.enable_grad():
            value = score()
    finally:
        for handle in handles:
            handle.remove()
    heads, used = _last_layers(value, layer_of)
    convolutions = {name for name in used - heads if _is_convolution(modules[name])}
    return _structure(modules, convolutions, read)


def _structure(modules: Mapping[str, nn.Module], layers: set[str], read: Mapping[str, set[str]]) -> Structure:
    readers: dict[str, list[str]] = defaultdict(list)
    for norm, sources in read.items():
        for source in sources:
            readers[source].append(norm)
    norms = {
        layer: readers[layer][0]
        for layer in layers
        if len(readers[layer]) == 1
        and read[readers[layer][0]] == {layer}
        and _channels(modules[readers[layer][0]]) == modules[layer].out_channels
    }
    return Structure(tuple(name for name in modules if name in layers), norms)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, CONVOLUTIONS)


def _channels(norm: nn.Module) -> int | None:
    """Channels of a norm that has a scale and a shift of its own, as parameters or as buffers; None without."""
    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return len(weight) if isinstance(weight, Tensor) and isinstance(bias, Tensor) else None


class _Tracer(fx.Tracer):
    """Does not look into modules without parts, nor into convolutions and norms, whatever class they are of."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        whole = _is_convolution(m) or is_batch_norm(m) or not any(True for _ in m.children())
        return whole or super().is_leaf_module(m, module_qualified_name)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Arguments that a caller may leave out, as they are then: a detector without annotations detects."""
    arguments = inspect.signature(model.forward).parameters.values()
    return {one.name: one.default for one in arguments if one.default is not inspect.Parameter.empty}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards each module has the mode that it had."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Networks that remember something in their forward pass would remember symbols."""
    before = [(module, dict(module.__dict__)) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            module.__dict__.clear()
            module.__dict__.update(attributes)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    open_ = [node]
    while open_:
        for one in open_.pop().all_input_nodes:
            if one not in found:
                found.add(one)
                open_.append(one)
    return found


def _source(norm: fx.Node, modules: Mapping[str, nn.Module]) -> fx.Node | None:
    """The step whose output a norm reads, past what only hands on."""
    inputs = norm.all_input_nodes
    while len(inputs) == 1 and inputs[0].op == "call_module" and isinstance(modules[str(inputs[0].target)], _PASSED):
        inputs = inputs[0].all_input_nodes
    return inputs[0] if len(inputs) == 1 else None


def _heads(end: fx.Node, called: Mapping[fx.Node, str], modules: Mapping[str, nn.Module]) -> set[str]:
    """Layers with weights that are met first on the way back from the output."""
    found: set[str] = set()
    seen: set[fx.Node] = set()
    open_: list[fx.Node] = [end]
    while open_:
        for one in open_.pop().all_input_nodes:
            if one in seen:
                continue
            seen.add(one)
            if one in called and _mixes(modules[called[one]]):
                found.add(called[one])
            elif not _mixes_by_function(one, modules[""]):
                open_.append(one)
    return found


def _mixes(module: nn.Module) -> bool:
    return any(has_weights(part) for part in module.modules())


def _mixes_by_function(node: fx.Node, model: nn.Module) -> bool:
    """Whether the step uses a weight of the network directly, as ``F.linear(x, self.weight)`` does."""
    for one in node.all_input_nodes:
        if node.op == "call_function" and one.op == "get_attr":
            value: Any = model
            for part in str(one.target).split("."):
                value = getattr(value, part)
            if isinstance(value, nn.Parameter) and _is_matrix(value):
                return True
    return False


def _last_layers(score: Tensor, layer_of: Mapping[Any, str]) -> tuple[set[str], set[str]]:
    """Layers that the gradient of the score meets first, and all that it meets."""
    first = {layer_of[step] for step in _reached([score.grad_fn], layer_of, stop=True) if step in layer_of}
    every = {layer_of[step] for step in _reached([score.grad_fn], layer_of, stop=False) if step in layer_of}
    return first, every


def _reached(start: Iterable[Any], layer_of: Mapping[Any, str], *, stop: bool) -> set[Any]:
    found: set[Any] = set()
    open_ = [step for step in start if step is not None]
    while open_:
        step = open_.pop()
        if step in found:
            continue
        found.add(step)
        if not (stop and step in layer_of):
            open_.extend(one for one, _ in step.next_functions if one is not None)
    return found
