"""Phases: one call into a plugin, with its job built, its time and memory measured and its contract checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import torch
from torch import nn

from unlearnbench.api.errors import IncompatibleError, PluginError
from unlearnbench.api.runtime import (
    ChecksModel,
    Mask,
    Meter,
    PhaseCost,
    PrepareJob,
    Ref,
    Result,
    State,
    TrainJob,
    UnlearnJob,
    finish,
    fit,
    generator,
    masked,
    ref_of,
)
from unlearnbench.guard import Clock, guarded, share_of, time_limit, total_cost
from unlearnbench.networks import build_network, restore_network
from unlearnbench.parts import Selection
from unlearnbench.registry import Registry
from unlearnbench.scenes import Scene
from unlearnbench.spec import RunSpec
from unlearnbench.stacked import fit_stacked
from unlearnbench.store import Entry
from unlearnbench.unlearners import Stage

Progress = Callable[[str, int], Any]


def no_progress(label: str, total: int) -> Any:
    """Show nothing."""
    return nullcontext(None)


@dataclass(frozen=True)
class Made:
    """What a phase left: its cost, the result (none for a preparation), the packed states, the costs of the stages.

    ``states`` are the stages' states themselves, which a stream may hand on.
    """

    cost: PhaseCost
    result: Result | None
    state: State | None
    stages: tuple[PhaseCost, ...] = ()
    states: tuple[State, ...] = ()


@dataclass
class Phases:
    """Runs training, preparation and unlearning. Inputs are loaded before the clock starts."""

    registry: Registry
    budget_s: float | None = None
    progress: Progress = no_progress
    _warm: list[Ref] = field(default_factory=list)

    def train(self, spec: RunSpec, scene: Scene, owner: Stage | None, rows: Selection, what: str) -> Made:
        """Train a model on some rows: by the unlearner that owns training, else by the recipe."""
        meter = Meter()
        job = self._train_job(spec, scene, rows, meter)
        self.warm_up(spec, scene)
        where = f"unlearner {owner.spec.name}" if owner else "recipe"
        label = f"train {what} (seed {spec.seeds.train})"
        budget_s = self.budget_s if owner else None
        with self._running(label, where, meter, scene, budget_s, spec.recipe.epochs * len(rows)) as clock:
            result = _checked(owner.make("train").train(job) if owner else _train_by_recipe(job), where)
        return Made(clock.cost, result, pack([result.state]) if result.state is not None else None)

    def train_stack(self, specs: Sequence[RunSpec], scene: Scene, rows: Sequence[Selection], what: str) -> list[Made]:
        """Train the networks of several runs of one recipe in lockstep; each bears an equal share of the cost."""
        meter = Meter()
        jobs = [self._train_job(spec, scene, own, meter) for spec, own in zip(specs, rows, strict=True)]
        self.warm_up(specs[0], scene)
        recipe = specs[0].recipe
        total = recipe.epochs * sum(map(len, rows))
        with self._running(f"train {what} of {len(jobs)} runs", "recipe", meter, scene, None, total) as clock:
            models = [job.build() for job in jobs]
            rngs = [job.rng("order") for job in jobs]
            fit_stacked(models, scene.task, [job.data for job in jobs], recipe, rngs)
        cost = share_of(clock.cost, len(jobs))
        return [Made(cost, _checked(Result(model=model), "recipe"), None) for model in models]

    def _train_job(self, spec: RunSpec, scene: Scene, rows: Selection, meter: Meter) -> TrainJob:
        """What training a model on some rows gets."""
        return TrainJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.train,
            phase="train",
            builder=self._builder(scene),
            data=rows.view("train", meter),
            validation=scene.validation_beside(rows).view("validation", meter),
            recipe=spec.recipe,
        )

    def prepare(self, spec: RunSpec, scene: Scene, stage: Stage, original: Entry) -> Made:
        """Let one stage do what many requests share."""
        meter, reads = Meter(), stage.spec.reads
        job = PrepareJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.train,
            phase=f"prepare/{stage.position}",
            builder=self._builder(scene),
            data=scene.train.view("train", meter, locked="train" not in reads),
            validation=scene.validation.view("validation", meter, locked="validation" not in reads),
            model=restore(self.registry, original, scene.device),
            state=unpack(original.state, 0) if "train" in stage.phases else State(),
        )
        self.warm_up(spec, scene)
        where = f"unlearner {stage.spec.name}"
        with self._running(f"prepare {stage.spec.name}", where, meter, scene, self.budget_s) as clock:
            state = stage.make("prepare").prepare(job)
            if not isinstance(state, State):
                raise PluginError("broken-contract", "prepare must return a State", where=where)
        return Made(clock.cost, None, pack([state]))

    def unlearn(
        self,
        spec: RunSpec,
        scene: Scene,
        stages: Sequence[Stage],
        state_of: Callable[[Stage], State],
        before: Entry,
        step: int,
    ) -> Made:
        """Serve one request: run the stages one after the other, each under the masks of those before it.

        ``state_of`` gives what a stage finds: a private copy, so that a stage that returns no state keeps it as it was,
        whatever it wrote there; or, where a stream hands a large state on, the state itself.
        """
        model = restore(self.registry, before, scene.device)
        states: list[State] = []
        mask: Mask | None = None
        result = Result(model=model)
        costs: list[PhaseCost] = []
        warnings: list[str] = []
        for stage in stages:
            self.warm_up(spec, scene)
            where = f"unlearner {stage.spec.name}"
            meter = Meter()
            place = place_of(stage, len(stages), step)
            job = self.unlearn_job(spec, scene, stage, step, place, model, state_of(stage), meter)
            label = f"unlearn {stage.spec.name} (seed {spec.seeds.unlearn})"
            with self._running(label, where, meter, scene, self.budget_s) as clock, masked(model, mask):
                result = _checked(stage.make("unlearn").unlearn(job), where)
                if mask is not None and result.model is not model:
                    raise PluginError("broken-contract", "trained a copy, so the mask did not bind it", where=where)
            model = finish(result.model)
            states.append(state_of(stage) if result.state is None else result.state)
            mask = _both(mask, result.mask)
            costs.append(clock.cost)
            warnings += result.warnings
        final = replace(result, model=model, mask=mask, warnings=tuple(warnings))
        return Made(total_cost(costs), final, pack(states), tuple(costs), tuple(states))

    def unlearn_job(
        self,
        spec: RunSpec,
        scene: Scene,
        stage: Stage,
        step: int,
        place: str,
        model: nn.Module,
        state: State,
        meter: Meter,
    ) -> UnlearnJob:
        """What a stage gets to serve request ``step``; ``place`` names its random streams."""
        parts, reads = scene.parts[step], stage.spec.reads
        return UnlearnJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.unlearn,
            phase=place,
            builder=self._builder(scene),
            request=parts.request,
            forget=parts.forget.view("forget", meter, locked="forget" not in reads),
            retain=parts.retain.view("retain", meter, locked="retain" not in reads),
            validation=scene.validation_beside(parts.retain).view(
                "validation", meter, locked="validation" not in reads
            ),
            model=model,
            state=state,
            recipe=spec.recipe,
        )

    def check_model(self, stage: Stage, scene: Scene, spec: RunSpec) -> None:
        """Ask an unlearner whether it can serve the model; the answer needs no weights.

        Raises:
            IncompatibleError: it cannot, for the reason that it gives, or there is nothing of what it reads.
        """
        where = f"unlearner {stage.spec.name}"
        if "validation" in stage.spec.reads and not len(scene.validation):
            raise IncompatibleError(
                "incompatible", f"{stage.spec.name} reads validation rows, and there are none",
                hint="keep a share of the training rows for them: --validation 0.1",
            )  # fmt: skip
        with guarded(where):
            instance = stage.make("unlearn")
        if not isinstance(instance, ChecksModel):
            return
        with torch.device("meta"), guarded(where):
            network = build_network(self.registry, scene.ref, 0, torch.device("meta"))
            reason = instance.check(network, scene.task)
        if reason:
            raise IncompatibleError("incompatible", f"{stage.spec.name} cannot serve model {spec.model.name}: {reason}")

    def _builder(self, scene: Scene) -> Callable[[Ref | None, int], nn.Module]:
        return lambda ref, seed: build_network(self.registry, ref or scene.ref, seed, scene.device)

    @contextmanager
    def _running(
        self, label: str, where: str, meter: Meter, scene: Scene, budget_s: float | None, total: int = 0
    ) -> Iterator[Clock]:
        """Budget, guard, clock and progress around one call into a plugin."""
        clock = Clock(meter, scene.device)
        if budget_s is not None:
            meter.deadline = perf_counter() + budget_s
        with self.progress(label, total) as on_rows, guarded(where, scene.shared, label):
            meter.on_rows = on_rows
            with clock, time_limit(budget_s):  # the alarm must not ring while the clock is read
                yield clock

    def warm_up(self, spec: RunSpec, scene: Scene) -> None:
        """Run one tiny training step before the first clock: torch imports and compiles on first use."""
        if scene.ref in self._warm:
            return
        self._warm.append(scene.ref)
        rows = replace(scene.train, index=scene.train.index[: spec.recipe.batch_size])
        model = build_network(self.registry, scene.ref, 0, scene.device)
        with guarded(f"model {scene.ref.name}", scene.shared, "first training step"):
            fit(model, scene.task, rows.view("warm-up"), replace(spec.recipe, epochs=1), generator(0))


def _train_by_recipe(job: TrainJob) -> Result:
    model = job.build()
    fit(model, job.task, job.data, job.recipe, job.rng("order"))
    return Result(model=model)


def _both(earlier: Mask | None, new: Mask | None) -> Mask | None:
    """The weights that two masks both leave free."""
    if earlier is None or new is None:
        return new if earlier is None else earlier
    both = {name: keep.cpu() for name, keep in earlier.items()}
    for name, keep in new.items():
        both[name] = both[name] & keep.cpu() if name in both else keep.cpu()
    return both


def place_of(stage: Stage, stages: int, step: int) -> str:
    """What names the random streams of one of so many stages when it serves request ``step``.

    The only stage of an unlearner has the same ones as the method on its own.
    """
    return "/".join(["unlearn", *([str(stage.position)] if stages > 1 else []), *([str(step)] * bool(step))])


def restore(registry: Registry, entry: Entry, device: torch.device) -> nn.Module:
    """A private copy of a stored model, in evaluation mode."""
    if entry.ref is None:
        raise ValueError("the entry holds no model")
    return restore_network(registry, entry.ref, entry.weights, device)


def _checked(result: object, where: str) -> Result:
    if not isinstance(result, Result) or not isinstance(result.model, nn.Module):
        raise PluginError("broken-contract", "must return a Result with a model", where=where)
    if not all(isinstance(warning, str) and warning for warning in result.warnings):
        raise PluginError("broken-contract", "warnings must be sentences", where=where)
    try:
        ref_of(result.model)
    except ValueError as problem:
        raise PluginError("broken-contract", str(problem), where=where) from problem
    return result


def pack(states: Sequence[State | None]) -> State:
    """The states of all stages as one, nested by position."""
    packed = State()
    for position, state in enumerate(states):
        if state is not None:
            packed.tensors.update({f"{position}/{k}": v.detach().cpu() for k, v in state.tensors.items()})
            packed.meta[str(position)] = state.meta
    return packed


def unpack(packed: State | None, position: int, *, shared: bool = False) -> State:
    """One stage's state: a fresh, private copy, or with ``shared`` one of the same tensors."""
    if packed is None:
        return State()
    prefix = f"{position}/"
    tensors = {
        k.removeprefix(prefix): v if shared else v.clone() for k, v in packed.tensors.items() if k.startswith(prefix)
    }
    return State(tensors=tensors, meta=deepcopy(packed.meta.get(str(position), {})))
