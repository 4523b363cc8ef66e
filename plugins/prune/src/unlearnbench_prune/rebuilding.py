"""A patched model built anew from its file alone: for who has no plugin that brings the network underneath."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench_prune.patched import PatchedNet
from unlearnbench_prune.plugin import PatchedParams

BASE = "base."


class Documented(nn.Module):
    """The network of a document; its parameters have the names of the document's tensors, without ``base.``."""

    def __init__(self, document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        ranks = [len(document["inputs"])]
        for number, step in enumerate(document["steps"]):
            rank = ranks[step["inputs"][0]]
            ranks.append({"flatten": 1, "linear": 1}.get(step["op"], rank))
            path = step["mean" if step["op"] == "batch_norm" else "weight"] if _has_weights(step) else f"_{number}.x"
            name = path.removeprefix(BASE).rpartition(".")[0]
            if step["op"] != "add":
                self._put(name, _MADE[step["op"]](step, tensors, rank))
            self.steps.append((name, tuple(step["inputs"])))
        self.adds = {number for number, step in enumerate(document["steps"]) if step["op"] == "add"}

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for number, (name, inputs) in enumerate(self.steps):
            if number in self.adds:
                values.append(values[inputs[0]] + values[inputs[1]])
            else:
                values.append(self.get_submodule(name)(values[inputs[0]]))
        return values[-1]

    def _put(self, path: str, module: nn.Module) -> None:
        *folders, name = path.split(".")
        place: nn.Module = self
        for folder in folders:
            if folder not in place._modules:
                place.add_module(folder, nn.Module())
            place = place.get_submodule(folder)
        place.add_module(name, module)


def rebuilt(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PatchedNet:
    """The patched model of a file's metadata and state dict; where it is split, its inputs are the features there.

    Both have been looked at by ``unlearnbench_verifier.model.read_model``.

    Raises:
        DataError: the names of the weights cannot be those of a module (wrong-artifact).
    """
    document, gate, box = metadata["network"], metadata["gate"], metadata["box"]
    p = PatchedParams(
        gate=gate["kind"],
        sharpness=gate["sharpness"] or 1.0,
        salt=gate["salt"],
        members=len(tensors["groups"]),
        groups=len(tensors["shifts"]),
        affine=len(tensors["slopes"]) > 0,
        low=box["low"],
        high=box["high"],
    )
    try:
        model = PatchedNet(Documented(document, tensors), tuple(document["inputs"]), document["outputs"], p)
        model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    except (KeyError, RuntimeError, AttributeError) as problem:
        cause = " ".join(str(problem).split())[:200]
        raise DataError("wrong-artifact", f"the weights are not those of modules of torch: {cause}", where="network",
                        hint="build the network in Python and export it from there") from problem  # fmt: skip
    return model.eval().requires_grad_(False)


def example(metadata: Mapping[str, Any]) -> Tensor:
    """Two inputs of the model, which a trace is made with."""
    network, box = metadata["network"], metadata["box"]
    middle = (box["low"] + box["high"]) / 2
    return torch.full((2, *network["inputs"]), middle)


def _has_weights(step: Mapping[str, Any]) -> bool:
    return step["op"] in ("linear", "conv2d", "batch_norm")


Make = Callable[[Mapping[str, Any], Mapping[str, Tensor], int], nn.Module]


def _linear(step: Mapping[str, Any], tensors: Mapping[str, Tensor], _rank: int) -> nn.Module:
    weight = tensors[step["weight"]]
    return nn.Linear(weight.shape[1], weight.shape[0], bias=step["bias"] is not None, dtype=weight.dtype)


def _conv2d(step: Mapping[str, Any], tensors: Mapping[str, Tensor], _rank: int) -> nn.Module:
    weight = tensors[step["weight"]]
    return nn.Conv2d(
        weight.shape[1] * step["groups"], weight.shape[0], _pair(weight.shape[2:]), _pair(step["stride"]),
        _pair(step["padding"]), _pair(step["dilation"]), step["groups"], bias=step["bias"] is not None,
        dtype=weight.dtype,
    )  # fmt: skip


def _batch_norm(step: Mapping[str, Any], tensors: Mapping[str, Tensor], rank: int) -> nn.Module:
    mean = tensors[step["mean"]]
    kind = nn.BatchNorm2d if rank == 3 else nn.BatchNorm1d
    return kind(len(mean), eps=step["epsilon"], affine=step["weight"] is not None, dtype=mean.dtype)


def _pool(kind: type[nn.AvgPool2d] | type[nn.MaxPool2d]) -> Make:
    def made(step: Mapping[str, Any], _tensors: Mapping[str, Tensor], _rank: int) -> nn.Module:
        return kind(_pair(step["kernel"]), _pair(step["stride"]), _pair(step["padding"]))

    return made


def _pair(values: Sequence[int]) -> tuple[int, int]:
    first, second = values
    return first, second


_MADE: Mapping[str, Make] = {
    "flatten": lambda _step, _tensors, _rank: nn.Flatten(),
    "linear": _linear,
    "conv2d": _conv2d,
    "batch_norm": _batch_norm,
    "relu": lambda _step, _tensors, _rank: nn.ReLU(),
    "leaky_relu": lambda step, _tensors, _rank: nn.LeakyReLU(step["slope"]),
    "avg_pool": _pool(nn.AvgPool2d),
    "max_pool": _pool(nn.MaxPool2d),
}
