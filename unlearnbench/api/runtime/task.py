"""What a task is: the operations in which tasks differ, and how it words what it found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from torch import Generator, Tensor, nn

from unlearnbench.api.errors import IncompatibleError
from unlearnbench.api.runtime.data import Batch

MISSING = -100
"""Class of an annotation that is not there (torch's ``ignore_index``)."""

Erasure = Literal["absent", "unknown"]
Axis = Literal["horizontal", "vertical"]


class Fault(NamedTuple):
    """An annotation that cannot be right: the position of its row, and a sentence."""

    row: int
    message: str


@dataclass(frozen=True)
class Metric:
    """One number about predictions: ``n`` units were judged; ``at`` says which class or target it is about."""

    name: str
    value: float | None
    n: int
    at: Mapping[str, str] = field(default_factory=dict)


class Task(ABC):
    """The operations in which tasks differ. ``out`` is what ``outputs`` returned, ``y`` annotations of these rows."""

    name: ClassVar[str]
    places: ClassVar[bool] = False
    """Whether annotations say where something is, so that what moves an image moves them."""

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What losses are computed from: raw outputs (logits) of the annotated units of a batch.

        A model of graphs gets nodes, edges and owners. Detectors own their loss, so for them these are the losses of
        the images for ``batch.y``.
        """
        if batch.edges is not None:
            return model(batch.x, batch.edges, batch.rows)  # type: ignore[no-any-return]
        return model(batch.x)  # type: ignore[no-any-return]

    def predictions(self, model: nn.Module, batch: Batch) -> Tensor:
        """What measures read and a record keeps [n, ...]: the outputs, unless the task says otherwise."""
        return self.outputs(model, batch)

    @abstractmethod
    def losses(self, out: Tensor, y: Tensor) -> Tensor:
        """Loss per unit [n]; a unit without any annotation has loss 0."""

    @abstractmethod
    def loss(self, out: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean loss over the annotated cells, a scalar to differentiate."""

    @abstractmethod
    def divergence(self, out: Tensor, reference: Tensor, temperature: float = 1.0) -> Tensor:
        """Kullback-Leibler divergence per unit [n] of the outputs' distribution from that of ``reference``.

        KL(p_reference || p_out) of both softened by the temperature T, times T squared, which keeps the size of its
        gradient (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2).
        """

    def expected(self, out: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each row under every label that the model itself deems possible.

        Returns values [n, k] and their weights [n, k]: the expectation over labels drawn from the model's own
        distribution of the squared gradient of a row's loss is the sum over k of weight * (gradient of value)^2, the
        row's term of the Fisher diagonal. A row without any annotation has weight 0.
        """
        raise IncompatibleError("unsupported-task", f"an expectation over labels is not defined for {self.name}")

    @abstractmethod
    def probabilities(self, out: Tensor) -> Tensor:
        """Outputs as probabilities, same shape."""

    @abstractmethod
    def metrics(self, out: Tensor, y: Tensor, names: tuple[str, ...]) -> list[Metric]:
        """Numbers that describe ``predictions``; ``names`` are the names of the outputs."""

    @abstractmethod
    def other(self, y: Tensor, n: int, rng: Generator, *, wrong: bool = True) -> Tensor:
        """Random annotations for ``n`` outputs: always different from ``y`` if ``wrong``, else uniform over all."""

    @abstractmethod
    def split_target(self, y: Tensor, target: int) -> tuple[Tensor, Tensor]:
        """Which rows carry the target [n] bool, and their annotations with only its cells left."""

    @abstractmethod
    def erase(self, y: Tensor, target: int, how: Erasure) -> Tensor:
        """Annotations without the target: marked as ``absent`` or as ``unknown`` (taken out of the loss)."""

    @abstractmethod
    def target_score(self, model: nn.Module, batch: Batch, target: int) -> Tensor:
        """How strongly the model asserts the target in these rows, a scalar to differentiate (sum over the rows)."""

    def annotated(self, y: Tensor) -> Tensor:
        """Which rows have any annotation left that could teach something [n] bool."""
        return (~(y.isnan() | (y == MISSING))).reshape(len(y), -1).any(1)

    def mirrored(self, y: Tensor, size: int, axis: Axis) -> Tensor:
        """Annotations of images mirrored along an axis on which they have ``size`` pixels."""
        return y

    def find_fault(self, x: Tensor, y: Tensor, outputs: int) -> Fault | None:
        """The first row whose annotations cannot be of these inputs and this number of outputs, and why."""
        return None
