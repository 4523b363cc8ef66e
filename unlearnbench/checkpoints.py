"""A practitioner's own checkpoint in place of a trained original."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unlearnbench.api.errors import DataError

MAX_TENSORS = 20_000


def load_checkpoint(path: Path, model: nn.Module) -> nn.Module:
    """Load a safetensors file, or a state dict saved by torch (read with ``weights_only``), into ``model``.

    A ``state_dict`` entry and a ``module.`` prefix, which training scripts leave, are taken off.

    Raises:
        DataError: the file cannot be read, would run code, or does not fit the model.
    """
    found = {k.removeprefix("module."): v for k, v in _tensors(path).items()}
    expected = model.state_dict()
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    if missing or extra:
        wrong = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the model does not"
        raise DataError("wrong-checkpoint", wrong, where=path.name, hint="name the model it was trained with")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            shapes = f"{list(found[name].shape)}, the model needs {list(tensor.shape)}"
            raise DataError("wrong-checkpoint", f"{name} has shape {shapes}", where=path.name,
                            hint="check --model and its parameters")  # fmt: skip
    model.load_state_dict(found)
    return model


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            document: object = load_file(path)
        else:
            with warnings.catch_warnings(action="ignore"):  # torch remarks on the pickle protocol of foreign files
                document = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as problem:
        raise DataError("unsafe-checkpoint", "holds more than tensors and would run code", where=path.name,
                        hint="save model.state_dict() or a safetensors file")  from problem  # fmt: skip
    except Exception as problem:  # bytes that are no checkpoint break the readers in many ways
        cause = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise DataError("unreadable-file", f"cannot be read as weights: {cause}", where=path.name,
                        hint="save model.state_dict() or a safetensors file")  from problem  # fmt: skip
    if isinstance(document, dict) and isinstance(document.get("state_dict"), dict):
        document = document["state_dict"]
    if not isinstance(document, dict) or not all(isinstance(v, Tensor) for v in document.values()):
        raise DataError("wrong-checkpoint", "is not a state dict", where=path.name, hint="save model.state_dict()")
    if len(document) > MAX_TENSORS:
        raise DataError("wrong-checkpoint", f"holds more than {MAX_TENSORS} tensors", where=path.name)
    return dict(document)
