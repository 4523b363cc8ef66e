"""Networks from refs: built from seeded random state, or restored from stored weights without drawing any."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unlearnbench.api.errors import PluginError
from unlearnbench.api.runtime import BuildJob, Ref, attach_ref, generator, local_rng
from unlearnbench.guard import guarded
from unlearnbench.parameters import resolve_parameters
from unlearnbench.registry import Registry


def build_network(registry: Registry, ref: Ref, seed: int, device: torch.device) -> nn.Module:
    """Build the network that a ref describes; the same seed gives the same weights.

    Raises:
        UsageError: the ref's model or parameters are unknown.
        PluginError: the model component broke.
    """
    component = registry.get("model", ref.name)
    params = resolve_parameters(component.spec.params, ref.to_json()["params"], where=ref.name)

    def nested(inner: Ref) -> nn.Module:
        found = component_build(inner)
        return attach_ref(found, inner)

    def component_build(inner: Ref) -> nn.Module:
        part = registry.get("model", inner.name)
        values = resolve_parameters(part.spec.params, inner.to_json()["params"], where=inner.name)
        found: nn.Module = part.cls(values).build(BuildJob(inner.inputs, inner.outputs, nested))
        return found

    with guarded(f"model {ref.name}", doing="does not build"), local_rng(generator(seed)):
        model = component.cls(params).build(BuildJob(ref.inputs, ref.outputs, nested))
    if not isinstance(model, nn.Module):
        raise PluginError("broken-contract", "build must return a module", where=f"model {ref.name}")
    return attach_ref(model, ref).to(device).eval()


def restore_network(registry: Registry, ref: Ref, weights: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """A fresh network with stored weights, in evaluation mode.

    It is built on the meta device, which draws no random numbers; a network with buffers that are not stored is built
    for real, so that they have values.
    """
    with torch.device("meta"):
        model = build_network(registry, ref, 0, torch.device("meta"))
    fresh = {k: v.clone().to(device) for k, v in weights.items()}
    model.load_state_dict(fresh, strict=True, assign=True)
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        model = build_network(registry, ref, 0, device)
        model.load_state_dict(fresh, strict=True)
    return model.requires_grad_(True).eval()
