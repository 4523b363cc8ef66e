"""Jobs: one object per phase, holding only what the phase may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from unlearnbench.api.recipe import Recipe
from unlearnbench.api.runtime.data import Splits, View
from unlearnbench.api.runtime.masks import Mask
from unlearnbench.api.runtime.models import Ref
from unlearnbench.api.runtime.seeds import derive_seed, generator
from unlearnbench.api.runtime.task import Task

P_co = TypeVar("P_co", covariant=True)


class Component(Generic[P_co]):
    """Base of component classes: ``self.p`` is the parameters dataclass, resolved and validated."""

    def __init__(self, params: P_co) -> None:
        self.p = params


@dataclass(frozen=True)
class Request:
    """What is to be forgotten, resolved against the data: class and target positions, and a digest of the selection.

    ``earlier`` are the targets that earlier requests of the stream took away.
    """

    kind: str
    digest: str
    classes: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()
    earlier: tuple[int, ...] = ()


@dataclass(kw_only=True)
class State:
    """What one phase leaves for the next: tensors and JSON. Read back as fresh objects: yours to change.

    In a stream, a large state is not copied: the object that one request returned is what the next one gets. A subclass
    may carry what it would take long to build from the tensors; they must say everything all the same, because a stream
    that goes on from the store finds a plain ``State``.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Result:
    """What training or unlearning returns. ``state`` None keeps the state as it was; a mask binds the later stages.

    ``proof`` are tensors that whoever verifies the certificate needs; they are kept with the record. ``artifacts`` are
    tensors and JSON values by name that measures read; where there are tensors among them, all are kept beside the
    record as ``artifacts.safetensors``, to be taken away. ``warnings`` are sentences that a reader of the record must
    know, such as that nothing could be selected.
    """

    model: nn.Module
    state: State | None = None
    mask: Mask | None = None
    certificate: Mapping[str, Any] | None = None
    proof: Mapping[str, Tensor] = field(default_factory=dict)
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Job:
    """What every phase has: the task, the device, named random streams and a way to build networks."""

    task: Task
    device: torch.device
    root_seed: int
    phase: str
    builder: Callable[[Ref | None, int], nn.Module]
    _streams: dict[str, Generator] = field(default_factory=dict, repr=False)

    def seed(self, purpose: str) -> int:
        """The seed of a purpose in this phase."""
        return derive_seed(self.root_seed, self.phase, purpose)

    def rng(self, purpose: str) -> Generator:
        """The random stream of a purpose in this phase: one stateful CPU generator, the same object on every call."""
        if purpose not in self._streams:
            self._streams[purpose] = generator(self.seed(purpose))
        return self._streams[purpose]

    def build(self, ref: Ref | None = None, init: str = "net") -> nn.Module:
        """Build a network on the device, initialised from the stream ``init``; without a ref the scenario's model."""
        return self.builder(ref, self.seed(f"init/{init}"))


@dataclass(kw_only=True)
class TrainJob(Job):
    """Training from scratch. There is no request here: gold is the same call on other data."""

    data: View
    validation: View
    recipe: Recipe


@dataclass(kw_only=True)
class PrepareJob(Job):
    """Work that does not depend on the request and is shared by many of them."""

    data: View
    validation: View
    model: nn.Module
    state: State


@dataclass(kw_only=True)
class UnlearnJob(Job):
    """One request to serve. ``model`` is a private copy: change it in place and return it, or return another."""

    request: Request
    forget: View
    retain: View
    validation: View
    model: nn.Module
    state: State
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Served:
    """A request that was served, as a verifier of certificates gets it; the views are those of the unlearner."""

    request: Request
    forget: View
    retain: View
    model: nn.Module
    certificate: Mapping[str, Any]
    proof: Mapping[str, Tensor]
    root_seed: int
    phase: str

    def rng(self, purpose: str) -> Generator:
        """The random stream of a purpose in the job that served this, from its beginning: the same numbers again."""
        return generator(derive_seed(self.root_seed, self.phase, purpose))


@dataclass(kw_only=True)
class VerifyJob(Job):
    """A certificate to verify: the training data before any request, the original, and every request in order.

    Everything about it comes out of the record and the data set; no number is to be taken on trust. The random streams
    are those of training the original, and each request has its own: noise whose secret choice would prove anything is
    drawn again.
    """

    data: View
    model: nn.Module
    served: tuple[Served, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One statement of a certificate, and what it comes to when it is worked out again."""

    what: str
    stated: str
    found: str
    fine: bool


@runtime_checkable
class Unlearner(Protocol):
    """The one method that every unlearner has."""

    def unlearn(self, job: UnlearnJob) -> Result: ...


@runtime_checkable
class OwnsTraining(Protocol):
    """An unlearner that trains the original itself (shards, noise in the objective); it also trains its own gold."""

    def train(self, job: TrainJob) -> Result: ...


@runtime_checkable
class Prepares(Protocol):
    """An unlearner with work that many requests share."""

    def prepare(self, job: PrepareJob) -> State: ...


@runtime_checkable
class ChecksModel(Protocol):
    """An unlearner that cannot serve every network: returns the reason for a refusal, or None.

    The network is on the meta device: its layers and shapes can be looked at, its weights do not exist.
    """

    def check(self, model: nn.Module, task: Task) -> str | None: ...


@runtime_checkable
class VerifiesCertificates(Protocol):
    """An unlearner that can work out again what its certificates state (``unlearnbench verify-certificate``)."""

    def verify(self, job: VerifyJob) -> Iterable[Finding]: ...


@dataclass(kw_only=True)
class DataJob:
    """How a data set is read: files under the data folder, seeded splits.

    ``file(name)`` gives the path of a file below the root; the host records the sha256 of every file asked for and
    checks it when ``sha256`` is given. ``scratch`` is a writable folder that survives between runs.
    """

    root: Any
    scratch: Any
    file: Callable[..., Any]
    root_seed: int = 0

    def rng(self, purpose: str) -> Generator:
        """A new stream for a purpose, the same for every run of the scenario."""
        return generator(derive_seed(self.root_seed, "data", purpose))


class Dataset(Protocol):
    """A data set's target."""

    def load(self, job: DataJob) -> Splits: ...


@runtime_checkable
class Fetches(Protocol):
    """A data set that can be downloaded; called by ``unlearnbench data fetch`` and ``--download`` only."""

    def fetch(self, job: DataJob) -> None: ...
