"""Weights that torchvision publishes, found in the user's own cache. Nothing here can download."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api import DataError, UsageError
from unlearnbench.api.runtime import BuildJob, one_line

_DIGEST = re.compile(r"-([0-9a-f]{8,})\.pth\Z")
"""The names of torchvision's files end with the first digits of their sha256."""


def cached_weights(weights: Any, job: BuildJob, name: str) -> Path | None:
    """The file of published weights (a member of one of torchvision's enumerations) in torch's folder of checkpoints.

    None while a network is restored from the store, which the host does on the meta device: it needs no file then.

    Raises:
        UsageError: images do not have the three channels that the weights were trained with.
        DataError: the file is not there, or is not the published one.
    """
    if job.inputs[0] != 3:
        raise UsageError(
            "bad-model", f"the published weights of {name} are for 3 channels, not {job.inputs[0]}",
            where="$.model.name", hint=f"--set {name}.weights=none",
        )  # fmt: skip
    if torch.empty(0).is_meta:
        return None
    file = str(weights.url).rsplit("/", 1)[-1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise DataError(
            "missing-file", f"these weights are not in {path.parent}, and a run downloads nothing", where=file,
            hint=f"fetch them once into that folder from {weights.url}, or --set {name}.weights=none",
        )  # fmt: skip
    published = _DIGEST.search(file)
    if published is not None:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if not found.startswith(published[1]):
            raise DataError("wrong-digest", f"has sha256 {found}, which its name does not say", where=str(path),
                            hint="delete it and fetch it again")  # fmt: skip
    return path


def start_from(net: nn.Module, path: Path | None, *, head: str, left_out: tuple[str, ...] = ()) -> None:
    """Give a network the weights in a file, if there is one.

    Layers below ``head``, whose shapes depend on the number of classes, keep their random weights if it differs from
    the published one. What the file has below ``left_out`` is not used.

    Raises:
        DataError: the file is not what it should be.
    """
    if path is None:
        return
    with one_line("unreadable-file", "cannot be read as weights", where=str(path), hint="delete it and fetch it again"):
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        _fill(net, {k: v for k, v in found.items() if not k.startswith(left_out)}, head)


def _fill(net: nn.Module, found: dict[str, Tensor], head: str) -> None:
    """Copy tensors into the network; those of another shape are passed over below ``head`` alone.

    Raises:
        ValueError: a tensor has no place, or a place has no tensor.
    """
    own = net.state_dict()
    drawn = {k for k, v in found.items() if k.startswith(head) and k in own and v.shape != own[k].shape}
    try:
        # Counters of batches, which old files lack, are filled in by torch.
        missing, unknown = net.load_state_dict({k: v for k, v in found.items() if k not in drawn}, strict=False)
    except RuntimeError as problem:  # another shape
        raise ValueError(" ".join(str(problem).split())) from problem
    wrong = [f"lacks {k}" for k in missing if k not in drawn] + [f"has {k}" for k in unknown]
    if wrong:
        raise ValueError(f"these are of another network: {wrong[0]}")
