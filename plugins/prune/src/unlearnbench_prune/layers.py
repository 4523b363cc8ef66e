"""From the layers of a traced network to steps: what a layer does, and what it does to a shape."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from unlearnbench_prune import steps
from unlearnbench_prune.steps import Pair, Shape, Step

SIDES = 256
"""Positions of a window that a byte of a pattern can name."""


class Refused(Exception):
    """The network cannot be patched; the message is a sentence about it that starts with ``it``."""


@dataclass(frozen=True)
class Adaptive(Step):
    """Average pooling to a size: what it is depends on the shape."""

    op: ClassVar[str] = "adaptive_avg_pool"
    size: tuple[int | None, int | None]


@dataclass(frozen=True)
class View(Step):
    """A view of every sample as ``size`` numbers in one axis; -1 for as many as there are."""

    op: ClassVar[str] = "view"
    size: int


def _pair(value: Any) -> Pair:
    first, second = value if isinstance(value, Sequence) else (value, value)
    return int(first), int(second)


def _linear(path: str, module: nn.Linear) -> Step:
    return steps.Linear((), f"{path}.weight", None if module.bias is None else f"{path}.bias")


def _conv(path: str, module: nn.Conv2d) -> Step:
    if module.padding_mode != "zeros":
        raise Refused(f"it has a Conv2d ({path}) that pads by {module.padding_mode}: only zeros can be patched")
    dilation, kernel = _pair(module.dilation), _pair(module.kernel_size)
    padding: str | int | Sequence[int] = module.padding
    if padding == "valid":
        padding = 0
    elif padding == "same":
        totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
        if any(total % 2 for total in totals):
            raise Refused(f"it has a Conv2d ({path}) that pads more on one side: only even padding can be patched")
        padding = (totals[0] // 2, totals[1] // 2)
    bias = None if module.bias is None else f"{path}.bias"
    return steps.Conv2d(
        (), f"{path}.weight", bias, _pair(module.stride), _pair(padding), dilation, int(module.groups)
    )  # fmt: skip


def _norm(path: str, module: nn.BatchNorm1d | nn.BatchNorm2d) -> Step:
    if module.running_mean is None:
        raise Refused(
            f"it has a {type(module).__name__} ({path}) that normalises by the batch: outputs of a row depend on others"
        )
    weight, bias = (None if tensor is None else f"{path}.{name}"
                    for name, tensor in (("weight", module.weight), ("bias", module.bias)))  # fmt: skip
    return steps.BatchNorm((), f"{path}.running_mean", f"{path}.running_var", weight, bias, float(module.eps))


def _leaky(path: str, module: nn.LeakyReLU) -> Step:
    if not 0 <= module.negative_slope < 1:
        raise Refused(f"it has a LeakyReLU ({path}) with slope {module.negative_slope:g}: it must be in [0, 1)")
    return steps.LeakyRelu((), float(module.negative_slope))


def _average(path: str, module: nn.AvgPool2d) -> Step:
    padding = _pair(module.padding)
    if module.ceil_mode or module.divisor_override or (any(padding) and not module.count_include_pad):
        raise Refused(f"it has an AvgPool2d ({path}) with ceil_mode, divisor_override or uncounted padding")
    kernel = _pair(module.kernel_size)
    return steps.AvgPool((), kernel, kernel if module.stride is None else _pair(module.stride), padding)


def _largest(path: str, module: nn.MaxPool2d) -> Step:
    kernel = _pair(module.kernel_size)
    if module.ceil_mode or module.return_indices or _pair(module.dilation) != (1, 1):
        raise Refused(f"it has a MaxPool2d ({path}) with ceil_mode, return_indices or dilation")
    if math.prod(kernel) > SIDES:
        raise Refused(f"it has a MaxPool2d ({path}) of {math.prod(kernel)} entries: a pattern names at most {SIDES}")
    stride = kernel if module.stride is None else _pair(module.stride)
    return steps.MaxPool((), kernel, stride, _pair(module.padding))


def _adaptive(path: str, module: nn.AdaptiveAvgPool2d) -> Step:
    size = module.output_size
    rows, columns = size if isinstance(size, Sequence) else (size, size)
    return Adaptive((), (rows, columns))


def _flatten(path: str, module: nn.Flatten) -> Step:
    if module.start_dim != 1 or module.end_dim != -1:
        raise Refused(f"it has a Flatten ({path}) of other than all axes of a sample")
    return steps.Flatten(())


def _relu(path: str, module: nn.ReLU) -> Step:
    return steps.Relu(())


def _nothing(path: str, module: nn.Module) -> None:
    return None


MODULES: dict[type[nn.Module], Callable[[str, Any], Step | None]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _norm,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky,
    nn.AvgPool2d: _average,
    nn.MaxPool2d: _largest,
    nn.AdaptiveAvgPool2d: _adaptive,
    nn.Flatten: _flatten,
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout), _nothing),
}
"""How a module is read, by its very class: a subclass may compute something else. None makes no step."""

POOL = ("kernel_size", "stride", "padding")
FUNCTIONS: dict[Any, tuple[type[nn.Module], tuple[str, ...]]] = {
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, "relu", "relu_"), (nn.ReLU, ("inplace",))),
    functional.leaky_relu: (nn.LeakyReLU, ("negative_slope", "inplace")),
    functional.max_pool2d: (nn.MaxPool2d, (*POOL, "dilation", "ceil_mode", "return_indices")),
    functional.avg_pool2d: (nn.AvgPool2d, (*POOL, "ceil_mode", "count_include_pad", "divisor_override")),
    functional.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    "contiguous": (nn.Identity, ()),
}
"""The module that does what a function or method does, and the names of the function's arguments after the input."""

DROPOUTS = (functional.dropout, functional.dropout1d, functional.dropout2d)
ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


def asks_for_size(node: fx.Node) -> bool:
    """Whether ``node`` is a shape or a length, no value."""
    if node.op == "call_method" and node.target == "size":
        return True
    if node.target is getattr and node.args[1:] == ("shape",):
        return True
    return node.target is operator.getitem and isinstance(node.args[0], fx.Node) and asks_for_size(node.args[0])


def _counts_rows(size: Any) -> bool:
    """Whether ``size`` is the number of samples: ``x.size(0)`` or ``x.shape[0]``."""
    if not (isinstance(size, fx.Node) and asks_for_size(size)):
        return False
    return size.args[1:] == (0,)


def layer(node: fx.Node, base: nn.Module, tensors: Mapping[str, Tensor]) -> Step | None:
    """The step of a node, its inputs left open; None where it changes nothing. ``tensors``: the base's state dict.

    Raises ``Refused``.
    """
    if node.op == "call_module":
        path = _path(node)
        return _module(path, base.get_submodule(path), tensors)
    step = _called(node, tensors)
    for source in node.all_input_nodes:
        if source.op == "get_attr":
            raise Refused(f"it computes with {_path(source)}, a tensor of no layer: only layers can be patched")
    return step


def _path(node: fx.Node) -> str:
    """Name in the base of a module or tensor."""
    return str(node.target).removeprefix("base").removeprefix(".")


def _called(node: fx.Node, tensors: Mapping[str, Tensor]) -> Step | None:
    """The step of a function or method."""
    if node.target in ADDITIONS:
        if len(node.args) != 2 or node.kwargs or not all(isinstance(part, fx.Node) for part in node.args):
            raise Refused("it adds something other than two values of the same input")
        return steps.Add(())
    name = str(getattr(node.target, "__name__", node.target))
    return _function(name, node, tensors)


def _function(name: str, node: fx.Node, tensors: Mapping[str, Tensor]) -> Step | None:
    """The step of a function or method of one value."""
    if node.target in ("view", "reshape") or node.target is torch.reshape:
        return _view(node)
    given: dict[str, Any] = {key: value for key, value in node.kwargs.items() if key != "input"}
    if node.target in DROPOUTS:
        given |= dict(zip(("p", "training", "inplace"), node.args[1:], strict=False))
        if given.get("training", True):
            raise Refused(f"it drops outputs at random ({name}) in evaluation, too")
        return None
    if node.target is torch.flatten or node.target == "flatten":
        given |= dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False))
        return _module(name, nn.Flatten(**{"start_dim": 0, **given}), tensors)
    known = FUNCTIONS.get(node.target)
    if known is None:
        raise Refused(_no_layer(name, ""))
    kind, names = known
    given |= dict(zip(names, node.args[1:], strict=False))
    if len(node.all_input_nodes) != 1:
        raise Refused(f"it has a {name} whose settings are computed")
    if kind is nn.MaxPool2d and given.pop("return_indices", False):
        raise Refused(f"it has a {name} that returns indices")
    return _module(name, kind(**given), tensors)


def _module(path: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> Step | None:
    read = MODULES.get(type(module))
    if read is None:
        raise Refused(_no_layer(type(module).__name__, path))
    step = read(path, module)
    for field in steps.TENSORS:
        name = getattr(step, field, None)
        if name is not None and name not in tensors:
            raise Refused(f"it has a {type(module).__name__} ({path}) whose {field} is computed, no stored tensor")
    return step


def _no_layer(kind: str, path: str) -> str:
    place = f" ({path})" if path else ""
    return f"it has a {kind}{place}: only piecewise-linear layers can be patched"


def _view(node: fx.Node) -> Step:
    sizes = node.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], Sequence):
        sizes = tuple(cast("Sequence[Any]", sizes[0]))
    if len(sizes) == 2 and isinstance(sizes[1], int) and (sizes[0] == -1 or _counts_rows(sizes[0])):
        return View((), sizes[1])
    raise Refused("it has a view of other than all numbers of a sample in one axis")


def changes(node: fx.Node, base: nn.Module) -> fx.Node | None:
    """The node whose tensor this one overwrites, or None."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(first, fx.Node):
        return None
    if node.op == "call_module":
        module = base.get_submodule(_path(node))
        return first if getattr(module, "inplace", False) else None
    if node.op not in ("call_function", "call_method"):
        return None
    name = str(getattr(node.target, "__name__", node.target))
    inplace = node.kwargs.get("inplace") or name.endswith("_") or name in ("iadd", "isub", "imul", "setitem")
    if node.target in (functional.relu, functional.leaky_relu, *DROPOUTS):
        inplace = inplace or node.args[-1] is True
    return first if inplace else None


def shaped(step: Step, shapes: Sequence[Shape], tensors: Mapping[str, Tensor]) -> tuple[Step, Shape]:
    """The step as it is for inputs of ``shapes`` and the shape that it makes. Raises ``Refused``."""
    shape = shapes[0]
    what = f"{'an' if step.op[0] == 'a' else 'a'} {step.op} of {'x'.join(map(str, shape))} numbers"
    match step:
        case steps.Flatten():
            return step, (math.prod(shape),)
        case View(inputs, size):
            if size not in (-1, math.prod(shape)):
                raise Refused(f"it has {what} as {size}: samples would be mixed")
            return steps.Flatten(inputs), (math.prod(shape),)
        case steps.Linear(_, weight):
            if shape != tuple(tensors[weight].shape[1:]):
                raise Refused(f"it has {what} in a sample: {tensors[weight].shape[1]} in one axis are needed")
            return step, (len(tensors[weight]),)
        case steps.BatchNorm(_, mean):
            if not shape or shape[0] != len(tensors[mean]):
                raise Refused(f"it has {what} in a sample: {len(tensors[mean])} channels are needed")
            return step, shape
        case steps.Add():
            if any(other != shape for other in shapes):
                raise Refused(f"it has {what} to numbers of another shape: only equal shapes can be patched")
            return step, shape
        case steps.Relu() | steps.LeakyRelu():
            return step, shape
    if len(shape) != 3:
        raise Refused(f"it has {what} in a sample: channels, rows and columns are needed")
    return _image(step, shape, tensors, what)


def _image(step: Step, shape: Shape, tensors: Mapping[str, Tensor], what: str) -> tuple[Step, Shape]:
    channels, *area = shape
    if isinstance(step, Adaptive):
        size = tuple(side if wanted is None else int(wanted) for side, wanted in zip(area, step.size, strict=True))
        if any(side % wanted for side, wanted in zip(area, size, strict=True)):
            raise Refused(f"it has {what} to {size[0]}x{size[1]}: only sizes that divide can be patched")
        kernel = (area[0] // size[0], area[1] // size[1])
        return steps.AvgPool(step.inputs, kernel, kernel, (0, 0)), (channels, *size)
    if isinstance(step, steps.Conv2d):
        weight = tensors[step.weight]
        if channels != weight.shape[1] * step.groups:
            raise Refused(f"it has {what}: {weight.shape[1] * step.groups} channels are needed")
        channels, window, dilation = len(weight), tuple(weight.shape[2:]), step.dilation
    else:
        assert isinstance(step, (steps.AvgPool, steps.MaxPool))
        window, dilation = step.kernel, (1, 1)
    sides = [
        (side + 2 * around - apart * (size - 1) - 1) // stride + 1
        for side, around, apart, size, stride in zip(area, step.padding, dilation, window, step.stride, strict=True)
    ]
    if min(sides) < 1:
        raise Refused(f"it has {what}: nothing is left")
    return step, (channels, *sides)


def with_inputs(step: Step, inputs: Sequence[int]) -> Step:
    """The step with its inputs."""
    return replace(step, inputs=tuple(inputs))
