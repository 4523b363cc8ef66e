"""Pretrained weights, found in the user's own Hugging Face cache. Nothing here can download."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from timm.models import get_pretrained_cfg, load_state_dict
from torch import Tensor

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import one_line

FILES = ("model.safetensors", "pytorch_model.bin")
"""What timm calls the weights in a repository; the first cannot hold code."""


def cached_weights(architecture: str, where: str) -> Path:
    """The file in the cache with the weights that timm names for an architecture (``resnet18`` or ``resnet18.tag``).

    Raises:
        UsageError: timm names no repository of weights for it.
        DataError: the file is not in the cache.
    """
    known = get_pretrained_cfg(architecture)
    if known is None or not known.hf_hub_id:
        raise UsageError("bad-parameter", f"timm names no repository of weights for {architecture}", where=where,
                         hint=f"--set {where}=false, or another of timm.list_pretrained()")  # fmt: skip
    repository = known.hf_hub_id
    for name in FILES:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    raise DataError(
        "missing-file", "these weights are not in the Hugging Face cache, and a run downloads nothing",
        where=repository, hint=f"fetch them once with `hf download {repository} {FILES[0]}`",
    )  # fmt: skip


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name. A pickle is read as plain tensors, so that it can run nothing.

    Raises:
        DataError: the file is damaged or something else.
    """
    with one_line("unreadable-file", "cannot be read as weights", where=str(path), hint="delete it and fetch it again"):
        found: dict[str, Tensor] = load_state_dict(str(path), weights_only=True)
    return found
