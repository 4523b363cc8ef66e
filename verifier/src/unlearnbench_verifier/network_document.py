"""Reads a network document (``unlearnbench-network/1``): what it names must be there, and everything must fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unlearnbench_verifier.arithmetic import Floats
from unlearnbench_verifier.fields import Field
from unlearnbench_verifier.files import canonical, sha256
from unlearnbench_verifier.findings import Refusal
from unlearnbench_verifier.steps import Average, Bend, Convolution, Linear, MaxPool, Relu, Same, Scale, Smooth, Sum
from unlearnbench_verifier.windows import Pair, Windows, over_channels

FORMAT = "unlearnbench-network/1"
MOST_STEPS = 10_000
MOST_NUMBERS = 2**25
"""In all values and tables of one network together: what is read from a stranger must not fill the memory."""
MOST_POSITIONS = 256
"""Of a window of max pooling: the winner is told in one byte."""

PROPERTIES: Mapping[str, tuple[str, ...]] = {
    "flatten": (),
    "linear": ("weight", "bias"),
    "conv2d": ("weight", "bias", "stride", "padding", "dilation", "groups"),
    "batch_norm": ("mean", "variance", "weight", "bias", "epsilon"),
    "relu": (),
    "leaky_relu": ("slope",),
    "avg_pool": ("kernel", "stride", "padding"),
    "max_pool": ("kernel", "stride", "padding"),
    "add": (),
}
"""What the steps have beside ``op`` and ``inputs``."""
ROLES = ("weight", "bias", "mean", "variance")
"""The properties that name a tensor."""
NAME = r"(?s).{1,1000}"

Tensors = Mapping[str, npt.NDArray[Any]]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Network:
    """The piecewise-linear part of a model: steps of which the last makes its outputs."""

    inputs: Shape
    """shape of one input"""
    outputs: int
    steps: tuple[Smooth | Bend, ...]
    sources: tuple[tuple[int, ...], ...]
    """of each step, the numbers of the values that it takes; value 0 is the input, step k makes value k + 1"""
    last: tuple[int, ...]
    """of each value, the number of the last step that takes it; of the result, the number of steps"""
    load: int
    """the most numbers (per column) that are held at a time: values still to be taken, rows, and what a step needs"""

    @property
    def features(self) -> int:
        """How many numbers an input has (d)."""
        return math.prod(self.inputs)

    @property
    def units(self) -> int:
        """Length of a pattern (U)."""
        return sum(step.units for step in self.steps if isinstance(step, Bend))

    @property
    def rows(self) -> int:
        """How many slacks a region has (L); the same for every pattern."""
        return sum(step.rows for step in self.steps if isinstance(step, Bend))


def read_network(document: object, tensors: Tensors) -> Network:
    """The network of a document and the tensors that it names.

    Raises:
        Refusal: ``bad-network`` with the place: a step that is none, a value or tensor that is not there or does not
            fit, a number out of its range, or more numbers than can be worked with.
    """
    field = Field(document, "$.network", "bad-network")
    parts = field.properties("format", "inputs", "outputs", "steps")
    if parts["format"].value != FORMAT:
        raise parts["format"].refusal(f"must be {FORMAT!r}")
    inputs = tuple(item.integer(1) for item in parts["inputs"].items(1, 8))
    outputs = parts["outputs"].integer(1)
    shapes, spent = [inputs], _counted(parts["inputs"], math.prod(inputs), 0)
    steps: list[Smooth | Bend] = []
    sources: list[tuple[int, ...]] = []
    for item in parts["steps"].items(1, MOST_STEPS):
        step, source, shape = _read_step(item, shapes, tensors)
        load = step.load if isinstance(step, Smooth) else step.rows
        spent = _counted(item, math.prod(shape) + load, spent)
        steps.append(step)
        sources.append(source)
        shapes.append(shape)
    if shapes[-1] != (outputs,):
        raise parts["outputs"].refusal(f"is {outputs} and the last step makes shape {list(shapes[-1])}")
    last = _last_uses(sources)
    return Network(inputs, outputs, tuple(steps), tuple(sources), last, _load(steps, shapes, last))


def _last_uses(sources: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Of each value the last step that takes it. A value that nothing takes is let go of where it is made."""
    last = list(range(-1, len(sources)))
    for number, source in enumerate(sources):
        for value in source:
            last[value] = number
    last[-1] = len(sources)
    return tuple(last)


def _load(steps: Sequence[Smooth | Bend], shapes: Sequence[Shape], last: Sequence[int]) -> int:
    """The most numbers that are held while a step is made: rows of the region so far as well."""
    freed = [0] * (len(steps) + 1)
    for value, end in enumerate(last):
        freed[end] += math.prod(shapes[value])  # that of an input that nothing takes is the last entry, as the result
    most, rows, held = 0, 0, math.prod(shapes[0])
    for number, step in enumerate(steps):
        rows += step.rows if isinstance(step, Bend) else 0
        held += math.prod(shapes[number + 1])
        most = max(most, held + rows + (step.load if isinstance(step, Smooth) else 0))
        held -= freed[number]
    return most


def base_digest(document: object, tensors: Tensors) -> str:
    """Digest of a network: its document, and the tensors that it names as float64, so that it is the same in any dtype.

    Raises:
        Refusal: ``bad-network``, a document without steps, or a tensor that is named and not there.
    """
    steps = Field(document, "$.network", "bad-network").entries().get("steps")
    if steps is None:
        raise Refusal("bad-network", "is missing", where="$.network.steps")
    named = {}
    for item in steps.items():
        entries = item.entries()
        for role in ROLES:
            if role in entries and entries[role].value is not None:
                named[entries[role].text(NAME, "the name of a tensor")] = entries[role]
    parts = [canonical(document)]
    for name in sorted(named):
        if name not in tensors:
            raise named[name].refusal(f"names tensor {name[:80]!r}, which is not there")
        values = np.asarray(tensors[name])
        shape = canonical(list(values.shape)).decode()
        parts += [f"|{name}|{shape}|".encode(), values.astype("<f8").tobytes()]
    return sha256(*parts)


def _counted(field: Field, numbers: int, spent: int) -> int:
    if spent + numbers > MOST_NUMBERS:
        raise field.refusal(f"brings the network to {spent + numbers} numbers, more than the {MOST_NUMBERS} allowed")
    return spent + numbers


def _read_step(item: Field, shapes: list[Shape], tensors: Tensors) -> tuple[Smooth | Bend, tuple[int, ...], Shape]:
    """A step, the values that it takes and the shape that it makes."""
    entries = item.entries()
    if "op" not in entries:
        raise item.refusal("has no op")
    op = entries["op"].text(r"[a-z0-9_]{1,40}", "the name of an operation")
    if op not in PROPERTIES:
        raise entries["op"].refusal(f"is {op!r}, which is none of {', '.join(PROPERTIES)}")
    parts = item.properties("op", "inputs", *PROPERTIES[op])
    wanted = 2 if op == "add" else 1
    source = tuple(number.integer() for number in parts["inputs"].items(wanted, wanted))
    if max(source) >= len(shapes):
        raise parts["inputs"].refusal(f"takes value {max(source)}, which is not made before this step")
    shape = shapes[source[0]]
    if op == "add" and shapes[source[1]] != shape:
        raise item.refusal(f"adds shapes {list(shape)} and {list(shapes[source[1]])}")
    step, made = _READERS[op](_Reading(item, parts, shape, tensors))
    return step, source, made


@dataclass(frozen=True)
class _Reading:
    """A step being read: its properties and the shape of the (first) value that it takes."""

    item: Field
    parts: Mapping[str, Field]
    shape: Shape
    tensors: Tensors

    def tensor(self, role: str, shape: tuple[int | None, ...]) -> Floats:
        """A tensor of this shape (None: any length above 0) as float64."""
        field = self.parts[role]
        name = field.text(NAME, "the name of a tensor")
        if name not in self.tensors:
            raise field.refusal(f"names tensor {name[:80]!r}, which is not there")
        found = np.asarray(self.tensors[name])
        fits = len(found.shape) == len(shape) and all(
            has == wanted or (wanted is None and has > 0) for has, wanted in zip(found.shape, shape, strict=True)
        )
        if not fits or found.dtype.kind != "f":
            lengths = ", ".join("any" if length is None else str(length) for length in shape)
            said = f"{name[:80]!r} has {found.dtype} of shape {list(found.shape)} and must have floats of [{lengths}]"
            raise field.refusal(said)
        if not np.isfinite(found).all():
            raise field.refusal(f"{name[:80]!r} holds numbers that are not finite")
        return np.ascontiguousarray(found, np.float64)

    def optional(self, role: str, length: int) -> Floats | None:
        return None if self.parts[role].value is None else self.tensor(role, (length,))

    def pair(self, role: str, least: int) -> Pair:
        down, across = (number.integer(least) for number in self.parts[role].items(2, 2))
        return down, across

    def windows(self, kernel: Pair, dilation: Pair = (1, 1)) -> Windows:
        """Windows over the value, which must have channels, height and width."""
        if len(self.shape) != 3:
            raise self.item.refusal(f"takes a value of shape {list(self.shape)} and needs channels, height and width")
        size = (self.shape[1], self.shape[2])
        windows = Windows(size, kernel, self.pair("stride", 1), self.pair("padding", 0), dilation)
        if min(windows.counts) < 1:
            raise self.item.refusal(f"has windows larger than the value of shape {list(self.shape)}")
        _counted(self.item, windows.count * windows.positions, 0)
        return windows


def _flatten(reading: _Reading) -> tuple[Smooth, Shape]:
    return Same(), (math.prod(reading.shape),)


def _linear(reading: _Reading) -> tuple[Smooth, Shape]:
    if len(reading.shape) != 1:
        raise reading.item.refusal(f"takes a value of shape {list(reading.shape)}, which is not flat")
    weight = reading.tensor("weight", (None, reading.shape[0]))
    return Linear(weight, reading.optional("bias", len(weight))), (len(weight),)


def _conv2d(reading: _Reading) -> tuple[Smooth, Shape]:
    groups, channels = reading.parts["groups"].integer(1), reading.shape[0]
    if channels % groups:
        raise reading.parts["groups"].refusal(f"is {groups}, which does not divide {channels} channels")
    weight = reading.tensor("weight", (None, channels // groups, None, None))
    made = len(weight)
    if made % groups:
        raise reading.parts["groups"].refusal(f"is {groups}, which does not divide {made} kernels")
    windows = reading.windows((weight.shape[2], weight.shape[3]), reading.pair("dilation", 1))
    bias = reading.optional("bias", made)
    each = None if bias is None else bias.repeat(windows.count)
    step = Convolution(windows, weight.reshape(groups, made // groups, -1), each, channels // groups)
    return step, (made, *windows.counts)


def _batch_norm(reading: _Reading) -> tuple[Smooth, Shape]:
    channels = reading.shape[0]
    mean, variance = reading.tensor("mean", (channels,)), reading.tensor("variance", (channels,))
    weight, bias = reading.optional("weight", channels), reading.optional("bias", channels)
    with np.errstate(all="ignore"):
        spread = variance + reading.parts["epsilon"].number(0)
    if not ((spread > 0) & np.isfinite(spread)).all():
        raise reading.parts["variance"].refusal("has a variance that is no finite number above 0 with epsilon")
    with np.errstate(all="ignore"):
        # By definition of the format these float64 are the step, so their own rounding is no error.
        scale = (np.ones(channels) if weight is None else weight) / np.sqrt(spread)
        shift = (np.zeros(channels) if bias is None else bias) - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise reading.item.refusal("has a scale or shift beyond what float64 holds")
    size = math.prod(reading.shape[1:])
    return Scale(scale.repeat(size), shift.repeat(size)), reading.shape


def _relu(reading: _Reading) -> tuple[Bend, Shape]:
    return Relu(math.prod(reading.shape)), reading.shape


def _leaky_relu(reading: _Reading) -> tuple[Bend, Shape]:
    slope = reading.parts["slope"].number(0)
    if slope >= 1:
        raise reading.parts["slope"].refusal("must be below 1")
    return Relu(math.prod(reading.shape), slope), reading.shape


def _avg_pool(reading: _Reading) -> tuple[Smooth, Shape]:
    windows = reading.windows(reading.pair("kernel", 1))
    return Average(windows, reading.shape[0]), (reading.shape[0], *windows.counts)


def _max_pool(reading: _Reading) -> tuple[Bend, Shape]:
    kernel, channels = reading.pair("kernel", 1), reading.shape[0]
    if kernel[0] * kernel[1] > MOST_POSITIONS:
        raise reading.parts["kernel"].refusal(f"has more than {MOST_POSITIONS} positions")
    windows = reading.windows(kernel)
    sources = windows.sources()
    if (sources < 0).all(axis=0).any():
        raise reading.parts["padding"].refusal("leaves windows with nothing but padding")
    _counted(reading.item, sources.size * channels, 0)
    return MaxPool(over_channels(sources, channels, windows.size)), (channels, *windows.counts)


def _add(reading: _Reading) -> tuple[Smooth, Shape]:
    return Sum(), reading.shape


_READERS: Mapping[str, Callable[[_Reading], tuple[Smooth | Bend, Shape]]] = {
    "flatten": _flatten,
    "linear": _linear,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "avg_pool": _avg_pool,
    "max_pool": _max_pool,
    "add": _add,
}
