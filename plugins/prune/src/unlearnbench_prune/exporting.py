"""Patched models for where there is no Python: TorchScript.

ONNX is not offered. Exact gates find a row's pattern by a search in a sorted list, and ONNX has no operator for that;
made from those that it has, a gate would compare every row with every member. Support nets work on all members with
the pattern of each held fixed, in loops whose bounds are the batch that was seen while exporting.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from unlearnbench.api import UsageError
from unlearnbench_prune.patched import PatchedNet


def scripted(model: PatchedNet, example: Tensor) -> torch.jit.ScriptModule:
    """The model as TorchScript, traced at ``example`` [n, ...]; it takes batches of any size.

    It has the patches of now: tensors that are loaded into it afterwards do not reach its gates.

    Raises:
        UsageError: the gate is ``committed``: TorchScript has no sha256.
    """
    if model.p.gate == "committed":
        raise UsageError(
            "cannot-export", "a committed gate compares hashes (sha256), which TorchScript cannot work out",
            where="gate", hint="export a model with gate exact or support",
        )  # fmt: skip
    with torch.no_grad(), warnings.catch_warnings():
        model(example)  # makes the tables, which belong into the script as numbers and not as their making
        # torch advises against tracing in favour of ways that need Python or a compiler where the model is used.
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        # The batch of the example says how many members support nets take at a time: a matter of memory, not of result.
        warnings.filterwarnings("ignore", message=".*Python integer", category=TracerWarning)
        script = torch.jit.trace(model, example)
    assert isinstance(script, torch.jit.ScriptModule)
    return script


def export(model: PatchedNet, example: Tensor, path: Path) -> None:
    """Write the model as TorchScript.

    Raises:
        UsageError: see ``scripted``.
    """
    script = scripted(model, example)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=FutureWarning)
        torch.jit.save(script, str(path))
