"""Baking from files alone: weights of the base times gates, without the program that the network is written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unlearnbench.api import DataError
from unlearnbench.api.runtime import tensors_digest
from unlearnbench_wfnet.artifact import gates_of, wrong_base
from unlearnbench_wfnet.contents import layers_of
from unlearnbench_wfnet.network import filtered_tensors
from unlearnbench_wfnet.targets import Target
from unlearnbench_wfnet.writing import replacing


@dataclass(frozen=True)
class Baked:
    """Weights of the ordinary network that does not know some classes, and how many of its gates are exactly 0."""

    tensors: Mapping[str, Tensor]
    zeros: int
    gates: int


def read_base(path: Path) -> dict[str, Tensor]:
    """The state dict of a base.

    Raises:
        DataError: it is not there, or no safetensors.
    """
    if not path.is_file():
        raise DataError("missing-file", "is not there", where=str(path), hint="save the base's state dict there")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError) as problem:
        raise DataError("unreadable-file", f"cannot be read as safetensors: {str(problem)[:200]}", where=str(path),
                        hint="save the base's state dict with safetensors") from problem  # fmt: skip


def baked_tensors(
    base: Mapping[str, Tensor], artifacts: Mapping[str, Any], rows: Sequence[int], harden: float, where: str = ""
) -> Baked:
    """The base's tensors times the gates of these classes; the same as ``WFNet.bake``.

    Raises:
        DataError: the tensors are not those of the base that the gates were made for.
    """
    if tensors_digest(base) != artifacts["base"]:
        raise wrong_base(where)
    targets, mask_bn = layers_of(artifacts), bool(artifacts["mask_bn"])
    for target in targets:
        _check(base, target, mask_bn)
    gates = gates_of(artifacts, rows, harden)
    found = filtered_tensors(base, targets, gates, mask_bn=mask_bn)
    every = torch.cat([part for gate in gates for part in (gate.weight, gate.bias) if part is not None])
    return Baked(
        tensors={name: found[name].to(tensor.dtype) if name in found else tensor for name, tensor in base.items()},
        zeros=int((every == 0).sum()),
        gates=len(every),
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A state dict as safetensors, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, {"format": "pt"})


def _check(base: Mapping[str, Tensor], target: Target, mask_bn: bool) -> None:
    wanted = [target.weight_name, *([target.bias_name] if target.bias else [])]
    if mask_bn and target.norm:
        wanted.append(f"{target.norm}.running_mean")
    for name in wanted:
        if name not in base or base[name].ndim == 0 or len(base[name]) != target.width:
            raise DataError("wrong-artifact", f"the base has no {name[:80]!r} with {target.width} outputs",
                            hint="untrain again, or fetch the file again")  # fmt: skip
