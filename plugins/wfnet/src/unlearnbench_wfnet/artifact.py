"""What a WF-Net is kept as: its memory matrices, and what they belong to. The network itself is not in it.

The file is the one that a run leaves beside its record, ``artifacts.safetensors``: the matrices before the sigmoid as
tensors, and everything else as JSON in its metadata. It may be anybody's: nothing in it is executed, and every part is
checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearnbench.api import DataError
from unlearnbench.api.runtime import tensors_digest
from unlearnbench_wfnet.contents import FORMAT, METADATA, checked, layers_of
from unlearnbench_wfnet.network import Gates, WFNet, product
from unlearnbench_wfnet.targets import Target
from unlearnbench_wfnet.writing import replacing

MOST_TEXT = 64 << 20
"""Characters of JSON that are looked at: some hundred for each of 10,000 classes, many times over."""


def describe(
    net: WFNet,
    classes: Sequence[str],
    *,
    rows: Sequence[int],
    harden: float,
    parameters: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
) -> dict[str, Any]:
    """A WF-Net as tensors and JSON: gates, the digest of the base, gated layers, classes, and how it came about.

    ``rows`` are the positions of the classes that are forgotten now, ``log`` the looks at the validation loss.
    """
    return {
        "format": FORMAT,
        "base": tensors_digest(net.base.state_dict()),
        "layers": [asdict(target) for target in net.targets],
        "classes": list(classes),
        "mask_bn": net.mask_bn,
        "rows": list(rows),
        "harden": harden,
        "parameters": dict(parameters),
        "log": [dict(look) for look in log],
        **net.tensors(),
    }


def network_from(base: nn.Module, artifacts: Mapping[str, Any]) -> WFNet:
    """The WF-Net of ``base`` and what :func:`describe` said of it.

    Raises:
        DataError: the artifacts are not those of a WF-Net (wrong-artifact), or of another base (wrong-base).
    """
    checked(artifacts)
    targets = layers_of(artifacts)
    if tensors_digest(base.state_dict()) != artifacts["base"]:
        raise wrong_base()
    named = dict(base.named_modules())
    for target in targets:
        problem = _misfit(named, target, norm=bool(artifacts["mask_bn"]))
        if problem:
            raise DataError("wrong-artifact", problem, where=f"layer {target.name!r}"[:80], hint="untrain again")
    net = WFNet(base, targets, len(artifacts["classes"]), mask_bn=artifacts["mask_bn"])
    return net.load_tensors(artifacts)


def load(path: Path | str, base: nn.Module) -> WFNet:
    """The WF-Net of ``base`` whose gates are in a file.

    Raises:
        DataError: see :func:`read` and :func:`network_from`.
    """
    return network_from(base, read(path))


def read(path: Path | str) -> dict[str, Any]:
    """What a file holds, as :func:`describe` made it.

    Raises:
        DataError: it is not there, no safetensors, or not what a WF-Net leaves; one line, whatever is in it.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("missing-file", "is not there", where=str(path), hint="a run leaves artifacts.safetensors")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA)
            if text is None or len(text) > MOST_TEXT:
                what = "does not say what its tensors are" if text is None else "says more than a WF-Net has to say"
                raise DataError("wrong-artifact", what, where=str(path), hint="name the file that a run of wfnet left")
            found = _parsed(text, path)
            names = sorted(file.keys())
            twice = [name for name in names if name in found]
            if twice:
                raise DataError(
                    "wrong-artifact", f"says {twice[0][:60]!r} twice", where=str(path), hint="untrain again"
                )
            found |= {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError, AttributeError, KeyError) as problem:
        raise DataError("unreadable-file", f"cannot be read as safetensors: {str(problem)[:200]}", where=str(path),
                        hint="name the artifacts.safetensors that a run of wfnet left") from problem  # fmt: skip
    checked(found, where=str(path))
    return found


def save(path: Path | str, artifacts: Mapping[str, Any]) -> None:
    """Write what :func:`describe` made to a file, whole or not at all.

    Raises:
        DataError: it is not what a WF-Net leaves, or the file cannot be written.
    """
    checked(artifacts)
    tensors = {name: value.contiguous() for name, value in artifacts.items() if isinstance(value, Tensor)}
    told = {name: value for name, value in artifacts.items() if name not in tensors}
    text = json.dumps(told, sort_keys=True, allow_nan=False)
    with replacing(Path(path)) as temporary:
        save_file(tensors, temporary, {METADATA: text})


def gates_of(artifacts: Mapping[str, Any], rows: Sequence[int], harden: float = 0.0) -> tuple[Gates, ...]:
    """Gates of each layer, their product over classes (each once), without the network that they belong to."""
    index = torch.tensor(list(dict.fromkeys(rows)), dtype=torch.int64)

    def each(name: str) -> Tensor:
        alpha: Tensor = artifacts[name]
        return alpha[index].sigmoid()

    return tuple(
        product(Gates(each(f"weight/{layer.name}"), each(f"bias/{layer.name}") if layer.bias else None), harden)
        for layer in layers_of(artifacts)
    )


def wrong_base(where: str = "") -> DataError:
    """The error for a network that the gates were not made for."""
    return DataError(
        "wrong-base", "this is not the network that the gates were made for", where=where,
        hint="take the original of the run that left the gates; its digest is their 'base'",
    )  # fmt: skip


def _parsed(text: str, path: Path) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as problem:
        cause = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)[:120]
        raise DataError("wrong-artifact", f"what its tensors are is not JSON: {cause}", where=str(path),
                        hint="name the file that a run of wfnet left") from problem  # fmt: skip
    if not isinstance(found, dict):
        raise DataError("wrong-artifact", "what its tensors are is no JSON object", where=str(path),
                        hint="name the file that a run of wfnet left")  # fmt: skip
    return found


def _misfit(named: Mapping[str, nn.Module], target: Target, *, norm: bool) -> str:
    """Why gates of a layer cannot be put on a network; empty if they can."""
    module = named.get(target.name)
    kinds = {"convolution": nn.Conv2d, "linear": nn.Linear, "attention": nn.MultiheadAttention}
    if not isinstance(module, kinds[target.kind]):
        return f"the network has no {target.kind} of this name"
    own = "in_proj_weight" if target.kind == "attention" else "weight"
    weight = getattr(module, own)
    bias = getattr(module, own.replace("weight", "bias"))
    if weight is None or len(weight) != target.width:
        return f"it does not have {target.width} outputs"
    if (bias is not None) != target.bias:
        return "it has " + ("no bias, for which there are gates" if target.bias else "a bias, for which are no gates")
    if norm and target.norm:
        mean = getattr(named.get(target.norm), "running_mean", None)
        if not isinstance(mean, Tensor) or len(mean) != target.width:
            return f"no batch normalisation {target.norm[:60]!r} reads it"
    return ""
