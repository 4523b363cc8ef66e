"""Unlearners as the host runs them: a list of stages, each with the parameters that its phase may read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unlearnbench.api.errors import IncompatibleError, PluginError
from unlearnbench.api.params import Phase
from unlearnbench.api.specs import UnlearnerSpec
from unlearnbench.parameters import defined_phases, locked_until, parameters_until, resolve_parameters
from unlearnbench.registry import Component, Registry
from unlearnbench.spec import Choice


@dataclass(frozen=True)
class Stage:
    """One unlearner, alone or as a link of a chain."""

    component: Component
    params: Any
    position: int

    @property
    def spec(self) -> UnlearnerSpec:
        assert isinstance(self.component.spec, UnlearnerSpec)
        return self.component.spec

    @property
    def phases(self) -> tuple[Phase, ...]:
        found = defined_phases(self.component.cls)
        if "unlearn" not in found:
            raise PluginError("broken-contract", "has no unlearn method", where=f"unlearner {self.spec.name}")
        return found

    def make(self, phase: Phase) -> Any:
        """An instance for one phase; parameters of later phases cannot be read."""
        where = f"unlearner {self.spec.name}"
        return self.component.cls(locked_until(self.params, phase, self.phases, where=where))

    def identity(self, phase: Phase) -> dict[str, Any]:
        """What results of this phase depend on: name, version, distribution and the parameters up to the phase."""
        return {
            "name": self.spec.name,
            "version": self.spec.version,
            "distribution": self.component.plugin.distribution,
            "params": parameters_until(self.params, phase, self.phases),
        }


def stages_of(registry: Registry, choice: Choice) -> tuple[Stage, ...]:
    """The stages of an unlearner, nested chains flattened in order."""
    return tuple(
        Stage(c, resolve_parameters(c.spec.params, leaf.params, where=leaf.name), position)
        for position, leaf in enumerate(_leaves(choice))
        for c in [registry.get("unlearner", leaf.name)]
    )


def _leaves(choice: Choice) -> Iterator[Choice]:
    if not choice.stages:
        yield choice
    for stage in choice.stages:
        yield from _leaves(stage)


def owner_of_training(stages: tuple[Stage, ...]) -> Stage | None:
    """The stage that trains the original itself, if any.

    Raises:
        IncompatibleError: two stages of a chain want to.
    """
    owners = [stage for stage in stages if "train" in stage.phases]
    if len(owners) > 1:
        names = " and ".join(stage.spec.name for stage in owners)
        raise IncompatibleError("two-trainers", f"{names} both own training", where="$.unlearner.stages")
    return owners[0] if owners else None
