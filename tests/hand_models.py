"""Networks built by hand from model components, as the host builds them: for tests of plugins with models."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unlearnbench.api.runtime import BuildJob


def interface(inputs: tuple[int, ...], outputs: int = 10) -> BuildJob:
    """What a component is built for; it has no other network inside."""

    def nested(ref: Any) -> nn.Module:
        raise AssertionError("no network of this plugin has another inside")

    return BuildJob(inputs, outputs, nested)


def built_on_meta(component: Any, inputs: tuple[int, ...], outputs: int = 10) -> nn.Module:
    """Layers and shapes without weights."""
    with torch.device("meta"):
        net: nn.Module = component.build(interface(inputs, outputs))
    return net
