"""The price of a profile, told before the work starts: how many further models its measures ask for, and how long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from time import process_time
from typing import Any

import torch
from torch import nn

from unlearnbench.api.errors import IncompatibleError, PluginError
from unlearnbench.api.recipe import Recipe
from unlearnbench.api.runtime import (
    AsksForEnsembles,
    Ensemble,
    Subject,
    Task,
    View,
    fit,
    generator,
    steps_per_epoch,
)
from unlearnbench.guard import guarded
from unlearnbench.identity import digest
from unlearnbench.networks import build_network
from unlearnbench.parameters import parameters_json, resolve_parameters
from unlearnbench.registry import Registry
from unlearnbench.spec import Choice, RunSpec
from unlearnbench.stacked import STACK, fit_stacked, stackable
from unlearnbench.stages import Stages
from unlearnbench.unlearners import owner_of_training, stages_of

PROBE_STEPS = 10
"""Training steps that are timed to tell how long whole trainings will take."""


@dataclass(frozen=True)
class Price:
    """Further models that measures ask for, those of the store included; seconds of training them, if it was tried."""

    originals: int = 0
    golds: int = 0
    unlearned: int = 0
    training_s: float | None = None

    @property
    def models(self) -> int:
        return self.originals + self.golds + self.unlearned

    def __str__(self) -> str:
        parts = [
            f"{n} {what}"
            for n, what in ((self.originals, "original"), (self.golds, "gold"), (self.unlearned, "unlearned"))
            if n
        ]
        text = f"the measures ask for {' + '.join(parts)} models besides those of the runs"
        if self.training_s is None:
            return text
        return f"{text}: about {_span(self.training_s)} of training (less what is stored), and the unlearning"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def made_measure(components: Registry, choice: Choice) -> Any:
    """A measure with its parameters.

    Raises:
        UsageError: a value that it does not take, or a library that it needs is not there.
    """
    component = components.get("measure", choice.name)
    with guarded(f"measure {choice.name}"):
        return component.cls(resolve_parameters(component.spec.params, choice.params, where=choice.name))


def ensembles_of(spec: RunSpec, components: Registry) -> list[Ensemble]:
    """The ensembles that the measures of a run ask for.

    Raises:
        IncompatibleError: the run cannot have siblings or shadows.
    """
    found: list[Ensemble] = []
    for choice in spec.measures:
        measure = made_measure(components, choice)
        if not isinstance(measure, AsksForEnsembles):
            continue
        where = f"measure {choice.name}"
        with guarded(where):
            asked = list(measure.ensembles())
        if not all(isinstance(ensemble, Ensemble) for ensemble in asked):
            raise PluginError("broken-contract", "ensembles must yield Ensemble objects", where=where)
        if asked and spec.checkpoint:
            raise IncompatibleError(
                "incompatible", f"{choice.name} trains further originals, and this run's was brought as a checkpoint",
                where="$.measures", hint="leave the measure out, or let the recipe train the original",
            )  # fmt: skip
        if len(spec.requests) > 1 and any(ensemble.kind == "shadows" for ensemble in asked):
            raise IncompatibleError(
                "incompatible", f"{choice.name} reads shadow models, which serve one request, not a stream",
                where="$.measures", hint="leave the measure out, or ask for one request",
            )  # fmt: skip
        found += asked
    return found


def price(specs: Sequence[RunSpec], components: Registry, stages: Stages | None = None) -> Price:
    """What the measures of some runs ask for, each model counted once; with ``stages`` also how long it takes."""
    wanted: dict[tuple[str, Subject], RunSpec] = {}
    for spec in specs:
        for ensemble in ensembles_of(spec, components):
            for subject, n in _counts(ensemble):
                for index in range(n):
                    wanted[_which(spec, components, ensemble, subject, index), subject] = spec
    found = [subject for _, subject in wanted]
    training = [spec for (_, subject), spec in wanted.items() if subject != "unlearned"]
    seconds = None if stages is None else _training_seconds(training, stages)
    return Price(found.count("original"), found.count("gold"), found.count("unlearned"), seconds)


def _counts(ensemble: Ensemble) -> Iterable[tuple[Subject, int]]:
    """How many of each kind; what is unlearned was an original first."""
    originals = max(ensemble.originals, ensemble.unlearned) if ensemble.vary == "train" else 0
    return (("original", originals), ("gold", ensemble.golds), ("unlearned", ensemble.unlearned))


def _which(spec: RunSpec, components: Registry, ensemble: Ensemble, subject: Subject, index: int) -> str:
    """What tells a model from others, as far as it can be known without the data."""
    owner = owner_of_training(stages_of(components, spec.unlearner))
    return digest({
        "scene": spec.scene_key, "recipe": parameters_json(spec.recipe), "seed": spec.seeds.measure,
        "owner": owner.identity("train") if owner else None, "kind": ensemble.kind, "vary": ensemble.vary,
        "unlearner": [spec.unlearner.to_json(), spec.seeds.unlearn] if subject == "unlearned" else None, "index": index,
    })  # fmt: skip


def _training_seconds(specs: Sequence[RunSpec], stages: Stages) -> float:
    """CPU seconds of training a model for each spec, by some steps of each kind of training."""
    per_kind: dict[str, float] = {}
    total = 0.0
    for spec in specs:
        owned = owner_of_training(stages_of(stages.registry, spec.unlearner)) is not None
        kind = digest([spec.scene_key, parameters_json(spec.recipe), owned])
        if kind not in per_kind:
            per_kind[kind] = _probe(spec, stages, owned)
        total += per_kind[kind]
    return total


def _probe(spec: RunSpec, stages: Stages, owned: bool) -> float:
    """Seconds for one model, trained as the members of an ensemble are: in a stack where that is faster."""
    scene, recipe = stages.scene(spec), spec.recipe
    rows = scene.train.view("probe")
    some = rows.where(torch.arange(min(len(rows), PROBE_STEPS * recipe.batch_size)))
    once = replace(recipe, epochs=1, schedule="constant", warmup_epochs=0)
    with guarded(f"model {scene.ref.name}", scene.shared, "first training steps"):
        models = [build_network(stages.registry, scene.ref, 0, scene.device)]
        if not owned and stackable(models[0], scene.task, rows, recipe):
            models += [deepcopy(models[0]) for _ in range(STACK - 1)]
        _train(models, scene.task, some, once)  # torch imports and compiles on first use
        started = process_time()
        _train(models, scene.task, some, once)
    spent = (process_time() - started) / len(models) / max(1, steps_per_epoch(some, recipe.batch_size))
    return spent * recipe.epochs * steps_per_epoch(rows, recipe.batch_size)


def _train(models: Sequence[nn.Module], task: Task, view: View, recipe: Recipe) -> None:
    if len(models) == 1:
        fit(models[0], task, view, recipe, generator(0))
    else:
        fit_stacked(models, task, [view] * len(models), recipe, [generator(0) for _ in models])
