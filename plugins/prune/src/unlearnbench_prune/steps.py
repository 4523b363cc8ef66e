"""The steps of a piecewise-linear network, their shapes, and the network document that certificates are checked on."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]
Shape = tuple[int, ...]
FORMAT = "unlearnbench-network/1"


@dataclass(frozen=True)
class Step:
    """What makes a value from earlier ones; ``inputs`` are their numbers (0 is the network's input)."""

    op: ClassVar[str]
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Flatten(Step):
    """All axes of a sample in one."""

    op: ClassVar[str] = "flatten"


@dataclass(frozen=True)
class Linear(Step):
    """``weight @ value + bias``."""

    op: ClassVar[str] = "linear"
    weight: str
    bias: str | None


@dataclass(frozen=True)
class Conv2d(Step):
    """Cross-correlation with zeros around."""

    op: ClassVar[str] = "conv2d"
    weight: str
    bias: str | None
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


@dataclass(frozen=True)
class BatchNorm(Step):
    """Scale and shift of every channel (axis 0 of a sample) from the stored moments."""

    op: ClassVar[str] = "batch_norm"
    mean: str
    variance: str
    weight: str | None
    bias: str | None
    epsilon: float


@dataclass(frozen=True)
class Relu(Step):
    """The larger of 0 and the value."""

    op: ClassVar[str] = "relu"


@dataclass(frozen=True)
class LeakyRelu(Step):
    """The value, times ``slope`` where it is under 0."""

    op: ClassVar[str] = "leaky_relu"
    slope: float


@dataclass(frozen=True)
class AvgPool(Step):
    """Mean of windows; zeros of the padding count."""

    op: ClassVar[str] = "avg_pool"
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class MaxPool(Step):
    """Largest entry of windows; the padding never is."""

    op: ClassVar[str] = "max_pool"
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class Add(Step):
    """Sum of two values."""

    op: ClassVar[str] = "add"


TENSORS = ("weight", "bias", "mean", "variance")
BENDS = (Relu, LeakyRelu, MaxPool)


def windows(value: Tensor, pool: MaxPool, around: float = -math.inf) -> Tensor:
    """Windows [*, C, H', W', kernel] of a value [*, C, H, W], row-major in each, with ``around`` for the padding."""
    (height, width), (down, right), (rows, columns) = pool.kernel, pool.stride, pool.padding
    padded = functional.pad(value, (columns, columns, rows, rows), value=around)
    return padded.unfold(-2, height, down).unfold(-2, width, right).flatten(-2)


def real(pool: MaxPool, shape: Shape) -> Tensor:
    """Which positions [units, kernel] of the windows over a value of ``shape`` are no padding."""
    ones = torch.ones(shape, device="cpu")  # also where networks are built without weights
    return windows(ones, pool, 0.0).flatten(0, 2) > 0


@dataclass(frozen=True)
class Network:
    """The piecewise-linear part of a base. Tensors are named as in the base's state dict.

    ``shapes[k]`` is the shape of one sample of value k; value k + 1 is made by ``steps[k]``, the last is the result.
    """

    steps: tuple[Step, ...]
    shapes: tuple[Shape, ...]

    @property
    def inputs(self) -> Shape:
        """Shape of one input."""
        return self.shapes[0]

    @property
    def features(self) -> int:
        """Numbers in one input."""
        return math.prod(self.shapes[0])

    @property
    def outputs(self) -> int:
        """Outputs (classes)."""
        return self.shapes[-1][0]

    @property
    def bends(self) -> tuple[int, ...]:
        """Numbers of the steps that bend, in order."""
        return tuple(number for number, step in enumerate(self.steps) if isinstance(step, BENDS))

    @property
    def units(self) -> int:
        """Entries of a pattern (U)."""
        return sum(math.prod(self.shapes[number + 1]) for number in self.bends)

    @property
    def rows(self) -> int:
        """Rows of a region (L), the same for every pattern: a window has one winner, and it is never padding."""
        return sum(self._rows(number) for number in self.bends)

    def _rows(self, number: int) -> int:
        step, units = self.steps[number], math.prod(self.shapes[number + 1])
        return units if not isinstance(step, MaxPool) else int(real(step, self.shapes[step.inputs[0]]).sum()) - units

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the base's tensors that it reads, sorted."""
        named = {getattr(step, name, None) for step in self.steps for name in TENSORS}
        return tuple(sorted(name for name in named if name is not None))

    def document(self) -> dict[str, Any]:
        """The network document: plain JSON, tensors named as in a patched model (``base.`` before them)."""
        steps = [{f.name: _plain(f.name, getattr(step, f.name)) for f in fields(step)} for step in self.steps]
        return {
            "format": FORMAT,
            "inputs": list(self.inputs),
            "outputs": self.outputs,
            "steps": [{"op": step.op, **document} for step, document in zip(self.steps, steps, strict=True)],
        }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return f"base.{value}" if name in TENSORS and value is not None else value
