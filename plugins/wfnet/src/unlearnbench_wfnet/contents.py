"""What the artifacts of a WF-Net must be, part by part."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api import DataError
from unlearnbench_wfnet.targets import Target

FORMAT = "wf-net/1"
METADATA = "artifacts"
"""Name of the metadata entry that holds what is JSON."""

_TOLD = ("base", "layers", "classes", "mask_bn", "rows", "harden", "parameters", "log")
_NUMBERS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def checked(artifacts: Mapping[str, Any], where: str = "") -> None:
    """Refuse artifacts that no WF-Net leaves.

    Raises:
        DataError: wrong-artifact, with the first part that is not as it must be.
    """
    if artifacts.get("format") != FORMAT:
        said = artifacts.get("format")
        what = f"format {said[:40]!r} is not known" if isinstance(said, str) else "is not what a WF-Net leaves"
        raise DataError("wrong-artifact", what, where=where, hint=f"this version reads {FORMAT}")
    problem = _not_told(artifacts) or _wrong_value(artifacts) or _wrong_layer(artifacts) or _wrong_tensor(artifacts)
    if problem:
        raise DataError("wrong-artifact", problem, where=where, hint="untrain again, or fetch the file again")


def layers_of(artifacts: Mapping[str, Any]) -> tuple[Target, ...]:
    """The gated layers of artifacts that were checked."""
    return tuple(Target(**layer) for layer in artifacts["layers"])


def _not_told(artifacts: Mapping[str, Any]) -> str:
    wrong = [name for name in _TOLD if name not in artifacts or isinstance(artifacts[name], Tensor)]
    return f"{wrong[0]} is missing" if wrong else ""


def _wrong_value(artifacts: Mapping[str, Any]) -> str:
    base, classes, rows, harden = (artifacts[name] for name in ("base", "classes", "rows", "harden"))
    if not (isinstance(base, str) and re.fullmatch("[0-9a-f]{64}", base)):
        return "base is no sha256"
    if not (isinstance(classes, list) and classes and all(isinstance(one, str) and one for one in classes)):
        return "classes are no list of names"
    if len(set(classes)) != len(classes):
        return "two classes have one name"
    if not (isinstance(rows, list) and all(_whole(row) and 0 <= row < len(classes) for row in rows)):
        return "rows are no positions of classes"
    if not (_number(harden) and 0 <= harden <= 1):
        return "harden is no number from 0 to 1"
    if not isinstance(artifacts["mask_bn"], bool):
        return "mask_bn is neither true nor false"
    if not isinstance(artifacts["parameters"], Mapping):
        return "parameters are no object"
    log = artifacts["log"]
    if not (
        isinstance(log, list) and all(isinstance(look, Mapping) and all(map(_number, look.values())) for look in log)
    ):
        return "log is no list of objects of numbers"
    return ""


def _wrong_layer(artifacts: Mapping[str, Any]) -> str:
    layers = artifacts["layers"]
    types = {"name": str, "kind": str, "width": int, "bias": bool, "norm": str}
    if not (isinstance(layers, list) and layers):
        return "layers are no list of layers"
    for place, layer in enumerate(layers):
        if not (isinstance(layer, Mapping) and set(layer) == set(types)):
            return f"layer {place} is not told by {', '.join(types)}"
        wrong = [name for name, kind in types.items() if type(layer[name]) is not kind]
        if wrong:
            return f"{wrong[0]} of layer {place} is no {types[wrong[0]].__name__}"
        if layer["kind"] not in ("convolution", "linear", "attention") or layer["width"] < 1:
            return f"layer {place} is no layer that can be gated"
    if len({layer["name"] for layer in layers}) != len(layers):
        return "two layers have one name"
    return ""


def _wrong_tensor(artifacts: Mapping[str, Any]) -> str:
    shapes: dict[str, tuple[int, int]] = {}
    for layer in layers_of(artifacts):
        shape = (len(artifacts["classes"]), layer.width)
        shapes |= {f"{part}/{layer.name}": shape for part in (("weight", "bias") if layer.bias else ("weight",))}
    there = {name: value for name, value in artifacts.items() if isinstance(value, Tensor)}
    wrong = sorted(set(shapes) ^ set(there))
    if wrong:
        what = "tensor {} is missing" if wrong[0] in shapes else "tensor {} belongs to no layer"
        return what.format(repr(wrong[0][:60]))
    for name, shape in shapes.items():
        if tuple(there[name].shape) != shape or there[name].dtype not in _NUMBERS:
            return f"tensor {name[:60]!r} has no numbers of shape {shape[0]} x {shape[1]}"
        if bool(there[name].isnan().any()):
            return f"tensor {name[:60]!r} holds what is not a number"
    return ""


def _number(value: object) -> bool:
    return _whole(value) or (isinstance(value, float) and math.isfinite(value))


def _whole(value: object) -> bool:
    return type(value) is int  # True is none
