"""Original, gold, prepared and unlearned models: memoised functions of a run spec, read from the store or computed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from unlearnbench.api.errors import IncompatibleError, PluginError, UnlearnBenchError
from unlearnbench.api.runtime import (
    ChecksModel,
    Meter,
    PhaseCost,
    PrepareJob,
    Ref,
    Result,
    State,
    TrainJob,
    UnlearnJob,
    fabric_for,
    finish,
    fit,
    masked,
    predict,
    ref_of,
)
from unlearnbench.checkpoints import load_checkpoint
from unlearnbench.guard import Clock, guarded, time_limit, total_cost
from unlearnbench.identity import digest, tensors_digest
from unlearnbench.networks import build_network, restore_network
from unlearnbench.parameters import parameters_json
from unlearnbench.parts import Selection
from unlearnbench.plugins import printable
from unlearnbench.registry import Registry
from unlearnbench.scenes import Scene, load_dataset, make_scene
from unlearnbench.spec import RunSpec
from unlearnbench.store import Damaged, Entry, Store
from unlearnbench.unlearners import Stage, owner_of_training, stages_of

RESULTS_VERSION = 1
"""Goes up when a change of the host changes results; stored models of other versions are not reused."""

Progress = Callable[[str, int], Any]


def no_progress(label: str, total: int) -> Any:
    """Show nothing."""
    return nullcontext(None)


@dataclass
class Stages:
    """The models of run specs. One object serves a whole invocation, so that nothing is computed twice."""

    registry: Registry
    store: Store
    budget_s: float | None = None
    download: bool = False
    base: Path | None = None
    checkpoint: Path | None = None
    progress: Progress = no_progress
    events: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    _scenes: dict[str, Scene] = field(default_factory=dict)
    _data: dict[str, Any] = field(default_factory=dict)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _outputs: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _places: dict[tuple[str, str, int], Entry] = field(default_factory=dict)

    def scene(self, spec: RunSpec) -> Scene:
        """Data, task and requests of a run, shared by all runs on the same data."""
        key = spec.scene_key
        if key not in self._scenes:
            data_key = digest(spec.dataset.to_json())
            if data_key not in self._data:
                self._data[data_key] = load_dataset(self.registry, spec.dataset, download=self.download)
            splits, files = self._data[data_key]
            self._scenes[key] = make_scene(spec, splits, files, device_of(spec.device), self.base)
        return self._scenes[key]

    # -- the four kinds of models -------------------------------------------------------------------------------------

    def original(self, spec: RunSpec) -> Entry:
        """The model trained on the whole training set, or the checkpoint that stands for it."""

        def make() -> Entry:
            if spec.checkpoint:
                return self._from_checkpoint(spec)
            return self._trained(spec, self.scene(spec).train, "original")

        return self._once((spec.id, "original", 0), make)

    def gold(self, spec: RunSpec, step: int = 0) -> Entry:
        """The same trainer with the same seed on what is left after request ``step``."""
        rows = self.scene(spec).parts[step].retain
        return self._once((spec.id, "gold", step), lambda: self._trained(spec, rows, "gold"))

    def prepared(self, spec: RunSpec) -> tuple[Entry | None, ...]:
        """What each stage prepared; None for stages that do not."""
        return tuple(self._prepared(spec, stage) for stage in stages_of(self.registry, spec.unlearner))

    def unlearned(self, spec: RunSpec, step: int = 0) -> Entry:
        """The model after requests 0 to ``step`` were served one after the other."""
        return self._once((spec.id, "unlearned", step), lambda: self._unlearned(spec, step))

    def _unlearned(self, spec: RunSpec, step: int) -> Entry:
        stages = stages_of(self.registry, spec.unlearner)
        original, prepared = self.original(spec), self.prepared(spec)
        scene = self.scene(spec)
        inputs = {
            "phase": "unlearn",
            "unlearner": [stage.identity("unlearn") for stage in stages],
            "train": original.key,
            "prepare": [entry.key if entry else None for entry in prepared],
            "requests": [part.request.digest for part in scene.parts[: step + 1]],
            "retain": scene.parts[step].retain.view("retain").digest(),
            "recipe": parameters_json(spec.recipe),
            **self._common(spec, scene, spec.seeds.unlearn),
        }
        return self._made("unlearn", inputs, lambda key: self._unlearn(spec, stages, prepared, step, key, inputs))

    # -- models and predictions out of entries ------------------------------------------------------------------------

    def network(self, entry: Entry, device: torch.device) -> nn.Module:
        """A private copy of a stored model, in evaluation mode."""
        assert entry.ref is not None
        return restore_network(self.registry, entry.ref, entry.weights, device)

    def outputs(self, entry: Entry, selection: Selection, scene: Scene) -> Tensor:
        """Outputs of a model for the rows of a split, on the CPU; one pass per model and split, however often asked."""
        view = selection.view("measured")
        key = (entry.weights_sha256, view.digest())
        if key not in self._outputs:
            model = self.network(entry, scene.device)
            with guarded("model", scene.shared):
                self._outputs[key] = predict(model, scene.task, view).float().cpu()
        return self._outputs[key]

    # -- training -----------------------------------------------------------------------------------------------------

    def _common(self, spec: RunSpec, scene: Scene, seed: int) -> dict[str, Any]:
        return {
            "model": scene.ref.to_json(),
            "task": spec.task,
            "validation": scene.validation.view("validation").digest(),
            "seed": seed,
            "torch": torch.__version__,
            "device": scene.device.type,
            "results": RESULTS_VERSION,
        }

    def _trained(self, spec: RunSpec, rows: Selection, what: str) -> Entry:
        scene = self.scene(spec)
        owner = owner_of_training(stages_of(self.registry, spec.unlearner))
        inputs = {
            "phase": "train",
            "trainer": {**(owner.identity("train") if owner else {}), "recipe": parameters_json(spec.recipe)},
            "data": rows.view("train").digest(),
            **self._common(spec, scene, spec.seeds.train),
        }
        return self._made("train", inputs, lambda key: self._train(spec, scene, owner, rows, what, key, inputs))

    def _train(
        self, spec: RunSpec, scene: Scene, owner: Stage | None, rows: Selection, what: str, key: str, inputs: Any
    ) -> Entry:
        label = f"train {what} (seed {spec.seeds.train})"
        meter = Meter()
        job = TrainJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.train,
            phase="train",
            builder=self._builder(scene),
            data=rows.view("train", meter),
            validation=scene.validation.view("validation", meter),
            recipe=spec.recipe,
        )
        self._warm_up(spec, scene)

        def train() -> Result:
            if owner is not None:
                return owner.make("train").train(job)  # type: ignore[no-any-return]
            model = job.build()
            fit(model, job.task, job.data, job.recipe, job.rng("order"))
            return Result(model=model)

        where = f"unlearner {owner.spec.name}" if owner else "recipe"
        with self._running(label, where, meter, scene, spec.recipe.epochs * len(rows)) as clock:
            result = _checked(train(), where)
        state = _pack([result.state]) if result.state is not None else None
        return _entry(key, inputs, clock.cost, finish(result.model), state=state, artifacts=result.artifacts)

    def _from_checkpoint(self, spec: RunSpec) -> Entry:
        scene = self.scene(spec)
        assert spec.checkpoint is not None
        assert self.checkpoint is not None
        inputs = {"phase": "train", "checkpoint": spec.checkpoint["sha256"], "model": scene.ref.to_json()}
        path = self.checkpoint

        def load(key: str) -> Entry:
            model = load_checkpoint(path, build_network(self.registry, scene.ref, 0, torch.device("cpu")))
            return _entry(key, inputs, PhaseCost(0, 0, 0), model)

        return self._made("train", inputs, load)

    # -- preparing and unlearning -------------------------------------------------------------------------------------

    def _prepared(self, spec: RunSpec, stage: Stage) -> Entry | None:
        if "prepare" not in stage.phases:
            return None
        original, scene = self.original(spec), self.scene(spec)
        inputs = {
            "phase": "prepare",
            "unlearner": stage.identity("prepare"),
            "train": original.key,
            "data": scene.train.view("train").digest(),
            "position": stage.position,
            **self._common(spec, scene, spec.seeds.train),
        }
        return self._made("prepare", inputs, lambda key: self._prepare(spec, stage, original, key, inputs))

    def _prepare(self, spec: RunSpec, stage: Stage, original: Entry, key: str, inputs: Any) -> Entry:
        scene, meter, reads = self.scene(spec), Meter(), stage.spec.reads
        job = PrepareJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.train,
            phase=f"prepare/{stage.position}",
            builder=self._builder(scene),
            data=scene.train.view("train", meter, locked="train" not in reads),
            validation=scene.validation.view("validation", meter, locked="validation" not in reads),
            model=self.network(original, scene.device),
            state=_unpack(original.state, 0),
        )
        self._check_model(stage, scene, spec)
        self._warm_up(spec, scene)
        where = f"unlearner {stage.spec.name}"
        with self._running(f"prepare {stage.spec.name}", where, meter, scene, 0) as clock:
            state = stage.make("prepare").prepare(job)
            if not isinstance(state, State):
                raise PluginError("broken-contract", "prepare must return a State", where=where)
        return Entry(key=key, inputs=inputs, cost=clock.cost, state=_pack([state]))

    def _unlearn(
        self,
        spec: RunSpec,
        stages: tuple[Stage, ...],
        prepared: tuple[Entry | None, ...],
        step: int,
        key: str,
        inputs: Any,
    ) -> Entry:
        scene = self.scene(spec)
        before = self.unlearned(spec, step - 1) if step else self.original(spec)
        states = [self._state_for(before, prepared[s.position], s, step) for s in stages]
        model = self.network(before, scene.device)
        mask: Mapping[str, Tensor] | None = None
        result = Result(model=model)
        costs: list[PhaseCost] = []
        for stage in stages:
            self._check_model(stage, scene, spec)
            self._warm_up(spec, scene)
            where = f"unlearner {stage.spec.name}"
            meter = Meter()
            job = self._unlearn_job(
                spec, scene, stage, step, model, states[stage.position], meter, alone=len(stages) == 1
            )
            label = f"unlearn {stage.spec.name} (seed {spec.seeds.unlearn})"
            with self._running(label, where, meter, scene, 0) as clock, masked(model, mask):
                result = _checked(stage.make("unlearn").unlearn(job), where)
                if mask is not None and result.model is not model:
                    raise PluginError("broken-contract", "trained a copy, so the mask did not bind it", where=where)
            model = finish(result.model)
            if result.state is not None:
                states[stage.position] = result.state
            if result.mask is not None:
                mask = {
                    **(mask or {}),
                    **{k: v.cpu() & mask[k] if mask and k in mask else v.cpu() for k, v in result.mask.items()},
                }
            costs.append(clock.cost)
        return _entry(
            key, inputs, total_cost(costs), model, state=_pack(states), mask=mask, certificate=result.certificate,
            artifacts=result.artifacts, stages=tuple(costs),
        )  # fmt: skip

    def _unlearn_job(
        self,
        spec: RunSpec,
        scene: Scene,
        stage: Stage,
        step: int,
        model: nn.Module,
        state: State,
        meter: Meter,
        *,
        alone: bool,
    ) -> UnlearnJob:
        parts, reads = scene.parts[step], stage.spec.reads
        place = "unlearn" if alone else f"unlearn/{stage.position}"
        return UnlearnJob(
            task=scene.task,
            device=scene.device,
            root_seed=spec.seeds.unlearn,
            phase=f"{place}/{step}" if step else place,
            builder=self._builder(scene),
            request=parts.request,
            forget=parts.forget.view("forget", meter, locked="forget" not in reads),
            retain=parts.retain.view("retain", meter, locked="retain" not in reads),
            validation=scene.validation.view("validation", meter, locked="validation" not in reads),
            model=model,
            state=state,
            recipe=spec.recipe,
        )

    def _state_for(self, before: Entry, prepared: Entry | None, stage: Stage, step: int) -> State:
        if step:
            return _unpack(before.state, stage.position)
        if prepared is not None:
            return _unpack(prepared.state, 0)
        return _unpack(before.state, 0) if "train" in stage.phases else State()

    def _check_model(self, stage: Stage, scene: Scene, spec: RunSpec) -> None:
        instance = stage.make("unlearn")
        if not isinstance(instance, ChecksModel):
            return
        with torch.device("meta"), guarded(f"unlearner {stage.spec.name}"):
            network = build_network(self.registry, scene.ref, 0, torch.device("meta"))
            reason = instance.check(network, scene.task)
        if reason:
            raise IncompatibleError("incompatible", f"{stage.spec.name} cannot serve model {spec.model.name}: {reason}")

    # -- shared plumbing ----------------------------------------------------------------------------------------------

    def _builder(self, scene: Scene) -> Callable[[Ref | None, int], nn.Module]:
        return lambda ref, seed: build_network(self.registry, ref or scene.ref, seed, scene.device)

    def _once(self, place: tuple[str, str, int], make: Callable[[], Entry]) -> Entry:
        """Remember which entry a run's model is, so that its key is worked out once."""
        if place not in self._places:
            self._places[place] = make()
        return self._places[place]

    def _made(self, phase: str, inputs: Mapping[str, Any], make: Callable[[str], Entry]) -> Entry:
        key = digest(inputs)
        if key not in self._entries:
            try:
                entry = self.store.get(phase, key)
            except Damaged as problem:
                self.events.append(f"{problem.message}; removed and made again")
                self.store.drop(phase, key)
                entry = None
            if entry is None:
                entry = make(key)
                self.computed.append(phase)
                self.store.put(phase, entry)
            self._entries[key] = entry
        return self._entries[key]

    @contextmanager
    def _running(self, label: str, where: str, meter: Meter, scene: Scene, total: int) -> Iterator[Clock]:
        """Budget, guard, clock and progress around one call into a plugin."""
        clock = Clock(meter, scene.device)
        if self.budget_s is not None:
            meter.deadline = perf_counter() + self.budget_s
        try:
            with self.progress(label, total) as on_rows, guarded(where, scene.shared):
                meter.on_rows = on_rows
                with time_limit(self.budget_s), clock:
                    yield clock
        except UnlearnBenchError as problem:
            problem.where = problem.where or where
            raise
        except Exception as problem:
            cause = printable(f"{type(problem).__name__}: {problem}")
            raise PluginError("plugin-raised", f"{label}: {cause}", where=where) from problem

    def _warm_up(self, spec: RunSpec, scene: Scene) -> None:
        """Run one tiny training step before the first clock: torch imports and compiles on first use."""
        if scene.ref.to_json() not in self._warm:
            self._warm.append(scene.ref.to_json())
            rows = replace(scene.train, index=scene.train.index[: spec.recipe.batch_size])
            model = build_network(self.registry, scene.ref, 0, scene.device)
            once = replace(spec.recipe, epochs=1)
            fit(model, scene.task, rows.view("warm-up"), once, torch.Generator())

    @functools.cached_property
    def _warm(self) -> list[Any]:
        return []


def device_of(name: str) -> torch.device:
    """The device of a name: cpu, cuda, mps, or auto for the best there is.

    Raises:
        IncompatibleError: the machine does not have it.
    """
    if name == "cpu":
        return torch.device("cpu")
    try:
        return fabric_for(name).device
    except Exception as problem:
        raise IncompatibleError(
            "no-device", f"{name} is not available here", where="--device", hint="use --device cpu"
        ) from problem


def _checked(result: object, where: str) -> Result:
    if not isinstance(result, Result) or not isinstance(result.model, nn.Module):
        raise PluginError("broken-contract", "must return a Result with a model", where=where)
    try:
        ref_of(result.model)
    except ValueError as problem:
        raise PluginError("broken-contract", str(problem), where=where) from problem
    return result


def _entry(key: str, inputs: Mapping[str, Any], cost: PhaseCost, model: nn.Module, **extra: Any) -> Entry:
    weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    sha256 = tensors_digest(weights)
    return Entry(key=key, inputs=inputs, cost=cost, ref=ref_of(model), weights=weights, weights_sha256=sha256, **extra)


def _pack(states: Sequence[State | None]) -> State:
    """The states of all stages as one, nested by position."""
    packed = State()
    for position, state in enumerate(states):
        if state is not None:
            packed.tensors.update({f"{position}/{k}": v.detach().cpu() for k, v in state.tensors.items()})
            packed.meta[str(position)] = state.meta
    return packed


def _unpack(packed: State | None, position: int) -> State:
    """A fresh, private copy of one stage's state."""
    if packed is None:
        return State()
    prefix = f"{position}/"
    tensors = {k.removeprefix(prefix): v.clone() for k, v in packed.tensors.items() if k.startswith(prefix)}
    return State(tensors=tensors, meta=deepcopy(packed.meta.get(str(position), {})))
