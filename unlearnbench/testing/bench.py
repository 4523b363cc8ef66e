"""The bench: a component with the tiny problems that fit it, run as the host does but seen before the host tidies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from unlearnbench.api.errors import IncompatibleError, PluginError
from unlearnbench.api.runtime import BudgetExceeded, Mask, Meter, Reading, Result, UnlearnJob, View, masked, predict
from unlearnbench.config import resolve_experiment
from unlearnbench.guard import guarded, time_limit
from unlearnbench.phases import Phases
from unlearnbench.registry import Component, Registry
from unlearnbench.scenes import Scene
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store
from unlearnbench.testing.contract import NotApplicable
from unlearnbench.testing.problems import PROBLEMS, REQUESTS, Problem, possible
from unlearnbench.unlearners import stages_of

LIMIT_S = 30.0
"""Most time for one call; the problems are so small that a fraction of a second is usual."""
RECIPE: dict[str, Any] = {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.0, "epochs": 25, "batch_size": 16}
PRIVATE = frozenset({"_data", "_index", "_meter", "_locked"})


class WatchedView(View):
    """A view whose inside only the host may look at: reading past it would go uncounted."""

    def __getattribute__(self, name: str) -> Any:
        if name in PRIVATE:
            asker = str(sys._getframe(1).f_globals.get("__name__", ""))
            if not asker.startswith("unlearnbench."):
                raise PluginError("private-access", f"{asker} reads View.{name}", hint="use batches, tensors or where")
        return super().__getattribute__(name)

    def where(self, keep: Tensor) -> View:
        return watched(super().where(keep))


def watched(view: View) -> View:
    """The same view with a watch on its inside; itself if it has one."""
    if isinstance(view, WatchedView):
        return view
    found = copy(view)
    found.__class__ = WatchedView
    return found


Change = Callable[[UnlearnJob], None]
"""Alters a job before it is served: a check's experiment."""


@dataclass(frozen=True)
class Served:
    """A request that was served: what came back, and what could be seen on the way."""

    result: Result
    scene: Scene
    before: Mapping[str, Tensor]
    """The original's weights and buffers."""
    rows: Mapping[str, int]
    """Rows read, by view."""
    stepped: frozenset[int]
    """Identities of all tensors that an optimiser stepped on."""
    training: bool
    """Whether the model came back in training mode."""
    frozen: tuple[str, ...]
    """Names of parameters that came back without gradients."""
    drew: bool
    """Whether a random stream of the job was used."""

    @property
    def after(self) -> dict[str, Tensor]:
        return {k: v.detach().cpu() for k, v in self.result.model.state_dict().items()}

    def changed(self) -> list[str]:
        """Names of tensors that are not bit-identical to the original's; all of them when the network is another."""
        after = self.after
        if after.keys() != self.before.keys():
            return sorted(after)
        return [name for name, value in self.before.items() if not same_bits(value, after[name])]


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Same shape, same type and the same bits, NaN included."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    first, second = (t.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(first, second)


class BenchStore(Store):
    """The store of a bench. What a recipe alone trained is kept in memory for all benches of the process.

    The tiny problems are the kit's own, so their originals and gold models are the same for every component; keys say
    so. What a component had a hand in stays in the folder of its bench.
    """

    _trained: ClassVar[dict[str, Entry]] = {}

    def get(self, phase: str, key: str) -> Entry | None:
        entry = self._trained.get(key)
        return super().get(phase, key) if entry is None else _fresh(entry)

    def put(self, phase: str, entry: Entry) -> None:
        if phase == "train" and entry.inputs["trainer"].keys() == {"recipe"}:
            self._trained[entry.key] = _fresh(entry)
        else:
            super().put(phase, entry)


def _fresh(entry: Entry) -> Entry:
    """A copy whose weights nobody else has."""
    return replace(entry, weights={name: value.clone() for name, value in entry.weights.items()})


@dataclass
class Bench:
    """What the checks of one component share: its registry, a store in a temporary folder, and the runs made so far."""

    component: Component
    registry: Registry
    find_folder: Callable[[], Path]
    readings: dict[tuple[str, ...], list[Reading]] = field(default_factory=dict)
    """What a measure under test said, by subject, evidence and unlearner."""
    _served: dict[str, Served] = field(default_factory=dict)
    _overran: bool = False

    @property
    def spec(self) -> Any:
        return self.component.spec

    @property
    def folder(self) -> Path:
        return self.find_folder()

    def combinations(self) -> list[tuple[str, str]]:
        """Every declared task with every declared request that its data allow."""
        return [(t, r) for t in self.spec.tasks if t in PROBLEMS for r in self.spec.requests if possible(t, r)]

    def run_spec(
        self,
        task: str = "",
        request: str | Mapping[str, Any] = "",
        params: Mapping[str, Any] | None = None,
        *,
        then: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> RunSpec:
        """A run of the unlearner under test; without a task or request the first that it declares.

        With ``then`` it is a stream: that request comes after the first.
        """
        combinations = self.combinations()
        if not combinations:
            raise NotApplicable("none of its tasks has a tiny problem")
        task = task or combinations[0][0]
        kind = request or next(r for t, r in combinations if t == task)
        refusals = []
        for problem in PROBLEMS[task]:
            unlearner = {"name": self.spec.name, "params": dict(params or {})}
            first = REQUESTS[kind] if isinstance(kind, str) else kind
            spec = self.tiny(problem, first, unlearner, then=then, seed=seed)
            try:
                self.stages().check(spec)
            except IncompatibleError as refusal:
                refusals.append(refusal.message)
                continue
            return spec
        raise NotApplicable("; ".join(refusals))

    def tiny(
        self,
        problem: Problem,
        request: Mapping[str, Any],
        unlearner: str | Mapping[str, Any],
        measure: str = "run-cost",
        *,
        then: Mapping[str, Any] | None = None,
        seed: int = 0,
        epochs: int = RECIPE["epochs"],
    ) -> RunSpec:
        """A run on a tiny problem; ``seed`` is the unlearning seed, ``then`` a second request of a stream."""
        experiment = {
            "dataset": problem.dataset,
            "model": problem.model,
            "recipe": {**RECIPE, "epochs": epochs},
            "requests": [request, *([then] if then else [])],
            "seeds": {"train": [0], "unlearn": [seed], "measure": [0]},
            "unlearners": [unlearner],
            "measures": [measure],
        }
        (spec,) = resolve_experiment(experiment, self.registry)
        return spec

    def stages(self) -> Stages:
        """As a new invocation would have them: only the store is shared. A call into the plugin has ``LIMIT_S`` to end.

        Raises:
            PluginError: an earlier call did not end in time, so that the next would not either.
        """
        if self._overran:
            raise PluginError("budget-exceeded", f"an earlier call did not end within {LIMIT_S:g} s")
        return Stages(self.registry, BenchStore(self.folder), Phases(self.registry, budget_s=LIMIT_S))

    @cached_property
    def measuring(self) -> Stages:
        """One invocation for the readings of a measure, whose many models are asked for their outputs once."""
        return self.stages()

    def serve(
        self,
        spec: RunSpec,
        mask: Mask | None = None,
        meter: Meter | None = None,
        *,
        change: Change | None = None,
        around: tuple[AbstractContextManager[Any], ...] = (),
    ) -> Served:
        """Serve the first request of a run spec with views that are watched; the same run is made once.

        ``change`` alters the job, ``around`` is entered before the call and left before the host tidies up.

        Raises:
            PluginError: the unlearner raised or broke the contract on the way.
        """
        plain = mask is None and meter is None and change is None and not around
        if plain and spec.id in self._served:
            return self._served[spec.id]
        stages, meter = self.stages(), meter or Meter()
        (stage,) = stages_of(self.registry, spec.unlearner)
        scene, original = stages.scene(spec), stages.original(spec)
        model = stages.network(original, scene.device)
        before = {k: v.clone() for k, v in model.state_dict().items()}
        state = stages.fresh_state(spec, 0, stage)
        job = stages.phases.unlearn_job(spec, scene, stage, 0, "unlearn", model, state, meter)
        job.forget, job.retain, job.validation = map(watched, (job.forget, job.retain, job.validation))
        if change is not None:
            change(job)
            job.forget, job.retain, job.validation = map(watched, (job.forget, job.retain, job.validation))
        found = self._observed(stage.make("unlearn"), job, scene, mask, around)
        served = Served(before=before, rows=dict(meter.rows), drew=bool(job._streams), scene=scene, **found)
        if plain:
            self._served[spec.id] = served
        return served

    def _observed(
        self,
        instance: Any,
        job: UnlearnJob,
        scene: Scene,
        mask: Mask | None,
        around: tuple[AbstractContextManager[Any], ...],
    ) -> dict[str, Any]:
        stepped: set[int] = set()
        started = perf_counter()

        def seen(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            stepped.update(id(p) for group in optimizer.param_groups for p in group["params"])

        handle = register_optimizer_step_post_hook(seen)
        try:
            with guarded(f"unlearner {self.spec.name}", scene.shared), ExitStack() as stack:
                for context in (*around, masked(job.model, mask), time_limit(LIMIT_S)):
                    stack.enter_context(context)
                result = instance.unlearn(job)
        except BudgetExceeded:
            self._overran = perf_counter() - started > LIMIT_S
            raise
        finally:
            handle.remove()
        if not isinstance(result, Result) or not isinstance(result.model, nn.Module):
            raise PluginError("broken-contract", "must return a Result with a model", where=self.spec.name)
        frozen = tuple(name for name, p in result.model.named_parameters() if not p.requires_grad)
        return {"result": result, "stepped": frozenset(stepped), "training": result.model.training, "frozen": frozen}

    def outputs(self, served: Served, split: str = "forget") -> Tensor:
        """Outputs [n, ...] of the model that came back for the rows of a split, on the CPU."""
        return predict(served.result.model, served.scene.task, served.scene.parts[0].measured[split].view(split)).cpu()
