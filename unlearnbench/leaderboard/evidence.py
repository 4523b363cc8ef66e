"""Stages whose models and outputs come from a submission, so that measures read it as they read a run.

Data, request, splits and annotations are the verifier's own: a submission cannot change what its outputs are judged by.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from unlearnbench.api.errors import CheckFailed
from unlearnbench.api.runtime import PhaseCost, Ref, Subject, tensors_digest
from unlearnbench.parts import Selection
from unlearnbench.phases import Phases
from unlearnbench.registry import Registry
from unlearnbench.scenes import Scene
from unlearnbench.shadows import Pool
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store


class NotAvailable(CheckFailed):
    """A measure asked for what the submission does not hold; its readings are not compared at this level."""


def lacks(what: str) -> NotAvailable:
    """The error for what a submission does not hold."""
    return NotAvailable("not-available", f"a submission does not hold {what}")


@dataclass(frozen=True)
class Given:
    """What a submission gives of one model: its outputs by split and, for the level of weights, the model itself."""

    outputs: Mapping[str, Tensor]
    ref: Ref | None = None
    weights: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class SubmittedStages(Stages):
    """The models of one submitted run. ``under`` gives those of another one, with the same data and predictions."""

    given: Mapping[Subject, Given] = field(default_factory=dict)

    def under(self, given: Mapping[Subject, Given]) -> SubmittedStages:
        """These stages for another run: what was loaded is shared, since it depends on the spec alone."""
        return replace(self, given=given)

    def original(self, spec: RunSpec) -> Entry:
        return self._of(spec, "original", len(spec.requests) - 1)

    def gold(self, spec: RunSpec, step: int = 0) -> Entry:
        return self._of(spec, "gold", step)

    def unlearned(self, spec: RunSpec, step: int = 0) -> Entry:
        return self._of(spec, "unlearned", step)

    def _of(self, spec: RunSpec, subject: Subject, step: int) -> Entry:
        if spec.member is not None:
            raise lacks("further models")
        if step != len(spec.requests) - 1 or subject not in self.given:
            raise lacks(f"the {subject} model after request {step}")
        given = self.given[subject]
        sha256 = tensors_digest(given.weights) if given.ref else ""
        # The key is the subject's name, by which its outputs are found again.
        return Entry(subject, {}, PhaseCost(0, 0, 0), ref=given.ref, weights=given.weights, weights_sha256=sha256)

    def prepared(self, spec: RunSpec) -> NoReturn:
        raise lacks("what phases cost")

    def pool(self, spec: RunSpec) -> Pool:
        raise lacks("further models")

    def again(self, spec: RunSpec, step: int, phase: str) -> tuple[str, Callable[[], object]]:
        raise lacks("a phase to carry out again")

    def network(self, entry: Entry, device: torch.device) -> nn.Module:
        if entry.ref is None:
            raise lacks("weights")
        return super().network(entry, device)

    def outputs_of_splits(self, entry: Entry, selections: Sequence[Selection], scene: Scene) -> list[Tensor]:
        """What was submitted, or what the submitted weights give where they are at hand."""
        if entry.ref is not None:
            return super().outputs_of_splits(entry, selections, scene)
        return [self._submitted(entry, selection, scene) for selection in selections]

    def _submitted(self, entry: Entry, selection: Selection, scene: Scene) -> Tensor:
        for subject, given in self.given.items():
            for split, measured in scene.parts[-1].measured.items():
                if subject == entry.key and measured is selection and split in given.outputs:
                    return given.outputs[split].clone()
        raise lacks("outputs for these rows")


def spec_here(document: Mapping[str, Any]) -> RunSpec:
    """The spec of a record, on this machine's processor: what was run on an accelerator is read anywhere."""
    spec = RunSpec.from_json(document["spec"])
    return replace(spec, device="cpu", threads=min(spec.threads, os.cpu_count() or 1))


def submitted_stages(registry: Registry, *, download: bool = False) -> SubmittedStages:
    """Stages that know no model yet; they have no store, since they never make one."""
    return SubmittedStages(registry, Store(Path()), Phases(registry), download)
