"""A model on disk is a ref (which component, with which parameters) and a state dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from unlearnbench.api.errors import UsageError

_REF = "_unlearnbench_ref"


@dataclass(frozen=True)
class Ref:
    """A model component by name, its parameters (JSON) and the interface it is built for.

    ``inputs`` is the shape of one row, ``outputs`` the number of outputs. Parameters of wrappers may hold further refs
    (as JSON, see ``to_json``): a patched net names its base.
    """

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[int, ...] = ()
    outputs: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "params": {k: v.to_json() if isinstance(v, Ref) else v for k, v in self.params.items()},
            "inputs": list(self.inputs),
            "outputs": self.outputs,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Ref:
        return cls(document["name"], dict(document["params"]), tuple(document["inputs"]), document["outputs"])


def ref_of(model: nn.Module) -> Ref:
    """The ref that a module was built from; ``deepcopy`` keeps it.

    Raises:
        ValueError: the module was not built by ``job.build``.
    """
    ref = getattr(model, _REF, None)
    if not isinstance(ref, Ref):
        raise ValueError(f"{type(model).__name__} was not built by job.build, so it cannot be stored")
    return ref


def attach_ref(model: nn.Module, ref: Ref) -> nn.Module:
    """Remember what a module was built from. The host does this for every module that ``build`` returns."""
    object.__setattr__(model, _REF, ref)
    return model


@dataclass(frozen=True)
class BuildJob:
    """What a model component may know while it builds a network: its interface, and how to build nested refs."""

    inputs: tuple[int, ...]
    outputs: int
    build: Callable[[Ref], nn.Module]

    def image(self, model: str) -> tuple[int, int, int]:
        """Channels, height and width of the rows; ``model`` is who asks.

        Raises:
            UsageError: rows are no images.
        """
        if len(self.inputs) != 3:
            raise UsageError(
                "bad-model", f"{model} needs images [channels, height, width], not rows of shape {list(self.inputs)}",
                where="$.model.name", hint="use mlp or logistic",
            )  # fmt: skip
        channels, height, width = self.inputs
        return channels, height, width


class ModelComponent(Protocol):
    """A model component's target: built with its parameters, asked for a network.

    Layers are initialised from torch's global random state, which the host seeds and restores around the call.
    """

    def build(self, job: BuildJob) -> nn.Module: ...
