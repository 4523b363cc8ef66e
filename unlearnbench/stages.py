"""Original, gold, prepared and unlearned models: memoised functions of a run spec, read from the store or computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache
from torch import Tensor, nn

from unlearnbench.api.errors import PluginError
from unlearnbench.api.runtime import PhaseCost, Result, Splits, State
from unlearnbench.checkpoints import load_checkpoint
from unlearnbench.entries import entry_from, is_small, to_remember, to_store
from unlearnbench.guard import guarded
from unlearnbench.identity import digest
from unlearnbench.networks import build_network
from unlearnbench.parameters import parameters_json
from unlearnbench.parts import Selection
from unlearnbench.phases import Made, Phases, restore, unpack
from unlearnbench.predictions import Predictions
from unlearnbench.registry import Registry
from unlearnbench.scenes import Scene, device_of, load_dataset, make_scene, prepare
from unlearnbench.shadows import Pool, pool_of, pooled
from unlearnbench.spec import RunSpec
from unlearnbench.stacked import STACK, stackable
from unlearnbench.store import Damaged, Entry, Store
from unlearnbench.unlearners import Stage, owner_of_training, stages_of

ENTRIES_IN_MEMORY = 32
RESULTS_VERSION = 2
"""Goes up when a change of the host changes results; stored models of other versions are not reused."""


@dataclass
class Stages:
    """The models of run specs. One object serves a whole invocation, so that nothing is computed twice."""

    registry: Registry
    store: Store
    phases: Phases
    download: bool = False
    base: Path | None = None
    checkpoint: Path | None = None
    events: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    _scenes: dict[str, Scene] = field(default_factory=dict)
    _data: dict[str, tuple[Splits, Mapping[str, str]]] = field(default_factory=dict)
    _entries: LRUCache[str, Entry] = field(default_factory=lambda: LRUCache(ENTRIES_IN_MEMORY))
    _pools: dict[str, Pool] = field(default_factory=dict)
    _stacks: dict[str, bool] = field(default_factory=dict)
    predictions: Predictions = field(default_factory=Predictions)
    observed: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What measures saw of phases that were carried out again, by measure and phase."""
    kept: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """Tensors that measures keep beside the record, by the spec's id and by name."""
    _live: tuple[str, tuple[State, ...]] | None = None
    """The large states that the last request of a stream left, and the key of its entry."""
    _places: dict[tuple[str, str, int], str] = field(default_factory=dict)

    def check(self, spec: RunSpec) -> None:
        """Load a run's data and ask its unlearners about its model, before any work is done.

        Raises:
            UnlearnBenchError: the data are not there, the request does not fit them, or an unlearner refuses the model.
        """
        scene = self.scene(spec)
        for stage in stages_of(self.registry, spec.unlearner):
            self.phases.check_model(stage, scene, spec)

    def scene(self, spec: RunSpec) -> Scene:
        """Data, task and requests of a run, shared by all runs on the same data."""
        key = spec.scene_key
        if key not in self._scenes:
            device = device_of(spec.device)
            if spec.member is not None and spec.member.kind == "shadows":
                pool, own = self.pool(spec), self.scene(spec.of_which())
                splits, request = pooled(pool, own.splits, spec.requests[0])
                kept = pool.kept(spec.member.draw, spec.member.index % 2)
                shadow = replace(spec, requests=(request,))
                self._scenes[key] = make_scene(shadow, splits, own.files, device, self.base, kept)
            else:
                splits, files = self._prepared_data(spec)
                self._scenes[key] = make_scene(spec, splits, files, device, self.base)
        return self._scenes[key]

    def pool(self, spec: RunSpec) -> Pool:
        """The rows that the shadows of a run are made of."""
        own = spec.of_which()
        if own.scene_key not in self._pools:
            self._pools[own.scene_key] = pool_of(self.scene(own))
        return self._pools[own.scene_key]

    def _prepared_data(self, spec: RunSpec) -> tuple[Splits, Mapping[str, str]]:
        """A data set is read once, and preprocessed once for each chain and share of validation rows."""
        read_key = digest(spec.dataset.to_json())
        if read_key not in self._data:
            self._data[read_key] = load_dataset(self.registry, spec.dataset, download=self.download)
        splits, files = self._data[read_key]
        chain = [step.to_json() for step in spec.preprocessing]
        key = digest({"data": read_key, "task": spec.task, "validation": spec.validation, "chain": chain})
        if key not in self._data:
            self._data[key] = (prepare(spec, splits), files)
        return self._data[key]

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
            # Kind and classes besides the rows: methods may treat the same rows otherwise when they are a class.
            "requests": [[r.kind, r.digest, list(r.classes)] for r in (p.request for p in scene.parts[: step + 1])],
            "retain": scene.parts[step].retain.view("retain").digest(),
            "recipe": parameters_json(spec.recipe),
            **self._common(spec, scene, spec.seeds.unlearn),
        }

        def make() -> Made:
            made = self._served(spec, step, self._handed_over(spec, step))
            self._live = None if is_small(made.state) else (digest(inputs), made.states)
            return made

        return self._made("unlearn", inputs, make, step, len(spec.requests))

    def _served(self, spec: RunSpec, step: int, states: tuple[State, ...]) -> Made:
        """Serve one request; ``states`` are those that the one before left, which are given away."""
        stages = stages_of(self.registry, spec.unlearner)
        state_of: Callable[[Stage], State] = partial(self.fresh_state, spec, step)
        if states:
            state_of = lambda stage: states[stage.position]  # noqa: E731
        before = self._unlearned_before(spec, step)
        return self.phases.unlearn(spec, self.scene(spec), stages, state_of, before, step)

    # -- states -------------------------------------------------------------------------------------------------------

    def fresh_state(self, spec: RunSpec, step: int, stage: Stage) -> State:
        """A private copy of the state that a stage finds when it serves request ``step``."""
        if step:
            entry, phase, position = self.unlearned(spec, step - 1), "unlearn", stage.position
        else:
            prepared = self._prepared(spec, stage)
            if prepared is None:
                return unpack(self.original(spec).state, 0) if "train" in stage.phases else State()
            entry, phase, position = prepared, "prepare", 0
        if entry.state is not None:
            return unpack(entry.state, position)
        packed = self._stored_state(phase, entry)
        if packed is None and step:
            packed = self._worked_out_again(spec, step - 1).state
        if packed is None:  # somebody emptied the store meanwhile
            packed = self.phases.prepare(spec, self.scene(spec), stage, self.original(spec)).state
        return unpack(packed, position, shared=True)

    def _handed_over(self, spec: RunSpec, step: int) -> tuple[State, ...]:
        """The large states that the request before left, to be given away; none where they are small, or at first."""
        if not step:
            return ()
        before = self.unlearned(spec, step - 1)
        if before.state is not None:
            return ()
        live, self._live = self._live, None
        if live is not None and live[0] == before.key:
            return live[1]
        stored = self._stored_state("unlearn", before)
        if stored is None:
            return self._worked_out_again(spec, step - 1).states
        return tuple(unpack(stored, s.position, shared=True) for s in stages_of(self.registry, spec.unlearner))

    def _worked_out_again(self, spec: RunSpec, step: int) -> Made:
        """Request ``step``, whose states were not stored: the requests since the last stored are served again."""
        first = step
        while first and self._stored_state("unlearn", self.unlearned(spec, first - 1)) is None:
            first -= 1
        made = self._served(spec, first, ())
        for k in range(first + 1, step + 1):
            made = self._served(spec, k, made.states)
        return made

    def _stored_state(self, phase: str, entry: Entry) -> State | None:
        stored = self.store.get(phase, entry.key)
        return None if stored is None else stored.state

    def _unlearned_before(self, spec: RunSpec, step: int) -> Entry:
        return self.unlearned(spec, step - 1) if step else self.original(spec)

    # -- models and predictions out of entries ------------------------------------------------------------------------

    def network(self, entry: Entry, device: torch.device) -> nn.Module:
        """A private copy of a stored model, in evaluation mode."""
        return restore(self.registry, entry, device)

    def outputs(self, entry: Entry, selection: Selection, scene: Scene) -> Tensor:
        """Outputs of a model for the rows of a split, on the CPU: one pass per model and split, a copy each time."""
        return self.outputs_of_splits(entry, [selection], scene)[0]

    def outputs_of_splits(self, entry: Entry, selections: Sequence[Selection], scene: Scene) -> list[Tensor]:
        """The same for several splits, from one restored model."""
        return self.predictions.of(entry, selections, scene, partial(self.network, entry, scene.device))

    def again(self, spec: RunSpec, step: int, phase: str) -> tuple[str, Callable[[], object]]:
        """A phase to carry out once more, its result thrown away: what it is known by, and the call.

        Raises:
            PluginError: the run has no such phase.
        """
        scene, phases = self.scene(spec), replace(self.phases, budget_s=None)
        phases.warm_up(spec, scene)  # not under observation: its step is no part of the phase
        owner = owner_of_training(stages_of(self.registry, spec.unlearner))
        if phase == "train" and not spec.checkpoint:
            return self.original(spec).key, lambda: phases.train(spec, scene, owner, scene.train, "original")
        if phase == "train-gold":
            rows = scene.parts[step].retain
            return self.gold(spec, step).key, lambda: phases.train(spec, scene, owner, rows, "gold")
        stages = stages_of(self.registry, spec.unlearner)
        if phase == "unlearn":
            before = self._unlearned_before(spec, step)
            fresh = partial(self.fresh_state, spec, step)
            return self.unlearned(spec, step).key, lambda: phases.unlearn(spec, scene, stages, fresh, before, step)
        preparing = [stage for stage in stages if "prepare" in stage.phases]
        if phase == "prepare" and preparing:
            original = self.original(spec)
            keys = digest([entry.key for entry in self.prepared(spec) if entry])
            return keys, lambda: [phases.prepare(spec, scene, stage, original) for stage in preparing]
        raise PluginError("broken-contract", f"this run has no phase {phase!r} to observe",
                          hint="ask evidence.cost which there are")  # fmt: skip

    # -- training -----------------------------------------------------------------------------------------------------

    def _common(self, spec: RunSpec, scene: Scene, seed: int) -> dict[str, Any]:
        return {
            "model": scene.ref.to_json(),
            "task": spec.task,
            "validation": scene.validation.view("validation").digest(),
            "seed": seed,
            "torch": torch.__version__,
            "device": scene.device.type,
            "threads": spec.threads,
            "results": RESULTS_VERSION,
        }

    def _trained(self, spec: RunSpec, rows: Selection, what: str) -> Entry:
        scene = self.scene(spec)
        owner = owner_of_training(stages_of(self.registry, spec.unlearner))
        if owner is None and spec.member is not None and spec.member.vary == "train":
            stack = self._stack(spec, what)
            if len(stack) > 1 and self._stackable(spec, rows):
                return self._trained_together(stack, spec.member.index, what)
        inputs = self._training_inputs(spec, owner, rows)
        return self._made("train", inputs, lambda: self.phases.train(spec, scene, owner, rows, what))

    def _training_inputs(self, spec: RunSpec, owner: Stage | None, rows: Selection) -> dict[str, Any]:
        return {
            "phase": "train",
            "trainer": {**(owner.identity("train") if owner else {}), "recipe": parameters_json(spec.recipe)},
            "data": rows.view("train").digest(),
            **self._common(spec, self.scene(spec), spec.seeds.train),
        }

    def _rows_of(self, spec: RunSpec, what: str) -> Selection:
        scene = self.scene(spec)
        return scene.train if what == "original" else scene.parts[-1].retain

    def _stack(self, spec: RunSpec, what: str) -> dict[int, RunSpec]:
        """The members of an ensemble that are trained in lockstep with this one, by index: as many rows, and near."""
        own = spec.member
        assert own is not None
        start = own.index - own.index % STACK
        near = {
            index: spec.as_member(replace(own, index=index)) for index in range(start, min(start + STACK, own.size))
        }
        rows = len(self._rows_of(spec, what))
        return {index: member for index, member in near.items() if len(self._rows_of(member, what)) == rows}

    def _stackable(self, spec: RunSpec, rows: Selection) -> bool:
        scene = self.scene(spec)
        key = digest([scene.ref.to_json(), parameters_json(spec.recipe), scene.device.type, spec.task])
        if key not in self._stacks:
            with guarded(f"model {scene.ref.name}"):
                model = build_network(self.registry, scene.ref, 0, scene.device)
                self._stacks[key] = stackable(model, scene.task, rows.view("train"), spec.recipe)
        return self._stacks[key]

    def _trained_together(self, stack: Mapping[int, RunSpec], index: int, what: str) -> Entry:
        """One entry of a stack; whoever asks first has all of them made and stored.

        A network's last bits depend on what it was stacked with, so that is part of its key, and a stack of which a
        part was lost is trained as a whole again.
        """
        alone = {i: self._training_inputs(spec, None, self._rows_of(spec, what)) for i, spec in stack.items()}
        together = digest([digest(inputs) for inputs in alone.values()])
        inputs = {i: {**own, "stack": together} for i, own in alone.items()}

        def make() -> Made:
            members = list(stack.values())
            rows = [self._rows_of(spec, what) for spec in members]
            made = dict(zip(stack, self.phases.train_stack(members, self.scene(members[0]), rows, what), strict=True))
            for i, found in made.items():
                if i != index:
                    self._keep("train", entry_from(digest(inputs[i]), inputs[i], found))
            return made[index]

        return self._made("train", inputs[index], make)

    def _from_checkpoint(self, spec: RunSpec) -> Entry:
        scene = self.scene(spec)
        assert spec.checkpoint is not None
        assert self.checkpoint is not None
        inputs = {"phase": "train", "checkpoint": spec.checkpoint["sha256"], "model": scene.ref.to_json()}
        path = self.checkpoint

        def load() -> Made:
            model = load_checkpoint(path, build_network(self.registry, scene.ref, 0, torch.device("cpu")))
            return Made(PhaseCost(0, 0, 0), Result(model=model), None)

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
        return self._made("prepare", inputs, lambda: self.phases.prepare(spec, scene, stage, original))

    def _once(self, place: tuple[str, str, int], make: Callable[[], Entry]) -> Entry:
        """Remember the key of a run's model, so that it is worked out once; entries that left memory are read again."""
        entry = self._entries.get(self._places.get(place, ""))
        if entry is None:
            entry = make()
            self._places[place] = entry.key
        return entry

    def _made(
        self, phase: str, inputs: Mapping[str, Any], make: Callable[[], Made], step: int = 0, steps: int = 1
    ) -> Entry:
        key = digest(inputs)
        entry = self._entries.get(key)
        if entry is None:
            try:
                entry = self.store.get(phase, key)
            except Damaged as problem:
                self.events.append(f"{problem.message}; removed and made again")
                self.store.drop(phase, key)
                entry = None
            if entry is None:
                entry = entry_from(key, inputs, make())
                self._keep(phase, to_store(entry, step, steps))
            if phase != "train":  # what training leaves is read from memory
                entry = to_remember(entry)
            self._entries[key] = entry
        return entry

    def _keep(self, phase: str, entry: Entry) -> None:
        self.computed.append(phase)
        self.store.put(phase, entry)
