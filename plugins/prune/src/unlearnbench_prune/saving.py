"""Patched models as files that the verifier reads, and the digests that certificates name them by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from unlearnbench_prune.patched import PatchedNet
from unlearnbench_verifier import files, network

FORMAT = "unlearnbench-patched/1"
ENTRY = "unlearnbench"
"""The entry of a file's metadata that describes the model."""

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def metadata(model: PatchedNet) -> dict[str, Any]:
    """What a file says about the model beside its tensors, as JSON."""
    p = model.p
    return {
        "format": FORMAT,
        "network": model.network.document(),
        "split_at": p.split_at,
        "gate": {
            "kind": p.gate,
            "sharpness": p.sharpness if p.gate == "support" else None,
            "salt": p.salt if p.gate == "committed" else "",
        },
        "box": {"low": p.low, "high": p.high},
    }


def tensors(model: PatchedNet) -> dict[str, Tensor]:
    """The state dict on the CPU, each tensor with memory of its own."""
    return {
        name: tensor.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def base_digest(model: PatchedNet) -> str:
    """The digest of the network underneath, in hex: of its weights and of how they are put together."""
    return network.base_digest(metadata(model)["network"], contents(model).tensors)


def patched_digest(model: PatchedNet) -> str:
    """The digest of the model with its patches, in hex; that of the file that ``save`` writes."""
    return files.patched_digest(metadata(model), contents(model))


def save(model: PatchedNet, path: Path) -> None:
    """Write the model as a safetensors file."""
    save_file(tensors(model), path, metadata={ENTRY: files.canonical(metadata(model)).decode("utf-8")})


def contents(model: PatchedNet) -> files.TensorFile:
    """What reading the saved file gives, without writing it."""
    found = tensors(model)
    return files.TensorFile(
        {name: _array(tensor) for name, tensor in found.items()},
        {name: _NAMES[tensor.dtype] for name, tensor in found.items()},
        {ENTRY: files.canonical(metadata(model)).decode("utf-8")},
    )


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    # numpy has no bfloat16; float32 holds each of its numbers.
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
