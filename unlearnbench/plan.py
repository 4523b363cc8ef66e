"""The planner: the only place that refuses a combination, before any work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from unlearnbench.api.errors import IncompatibleError, PluginError
from unlearnbench.api.specs import DatasetSpec, MeasureSpec, ModelSpec
from unlearnbench.preprocessing import LABEL_STEPS
from unlearnbench.registry import Registry
from unlearnbench.spec import RunSpec
from unlearnbench.unlearners import owner_of_training, stages_of


def check(spec: RunSpec, registry: Registry) -> None:
    """Refuse what cannot work together.

    Raises:
        IncompatibleError: with the first reason.
    """
    kinds = sorted({str(request["kind"]) for request in spec.requests})
    model = registry.get("model", spec.model.name).spec
    dataset = registry.get("dataset", spec.dataset.name).spec
    assert isinstance(model, ModelSpec)
    assert isinstance(dataset, DatasetSpec)
    _covers(f"model {model.name}", "task", model.tasks, [spec.task])
    _covers(f"model {model.name}", "input", model.inputs, dataset.inputs)
    if any(step.name not in LABEL_STEPS for step in spec.preprocessing):
        _covers("preprocessing", "input", ("numbers",), dataset.inputs)
    if model.wrapper:
        raise IncompatibleError("incompatible", f"model {model.name} is built by its method only", where="$.model")
    stages = stages_of(registry, spec.unlearner)
    for stage in stages:
        _covers(f"unlearner {stage.spec.name}", "task", stage.spec.tasks, [spec.task])
        _covers(f"unlearner {stage.spec.name}", "request", stage.spec.requests, kinds)
        _covers(f"unlearner {stage.spec.name}", "input", stage.spec.inputs, dataset.inputs)
    for choice in spec.measures:
        measure = registry.get("measure", choice.name).spec
        assert isinstance(measure, MeasureSpec)
        _covers(f"measure {measure.name}", "task", measure.tasks, [spec.task])
        _covers(f"measure {measure.name}", "request", measure.requests, kinds)
    owner = owner_of_training(stages)
    if owner is not None and spec.checkpoint:
        raise IncompatibleError(
            "incompatible", f"{owner.spec.name} trains the original itself, so a checkpoint cannot be used",
            where="$.checkpoint",
        )  # fmt: skip


def _covers(who: str, what: str, able: Iterable[str], wanted: Iterable[str]) -> None:
    for need in wanted:
        if need not in able:
            raise IncompatibleError("incompatible", f"{who} cannot handle the {what} {need!r}",
                                    hint=f"it declares {', '.join(able)}")  # fmt: skip


def passing(
    specs: Iterable[RunSpec], checks: Iterable[Callable[[RunSpec], Any]], left_out: dict[str, str] | None
) -> list[RunSpec]:
    """The specs that pass every check; each check is made of all of them before the next.

    Where ``left_out`` is given, it takes the reason for each unlearner that does not pass, and the others go on.

    Raises:
        UnlearnBenchError: one of them does not pass and may not be left out, or none passes.
    """
    passed = list(specs)
    for checked in checks:
        trying, passed = passed, []
        for spec in trying:
            try:
                checked(spec)
                passed.append(spec)
            except (IncompatibleError, PluginError) as problem:
                if left_out is None or (spec is trying[-1] and not passed):
                    raise
                left_out[spec.unlearner.name] = problem.message
    return passed


def describe(spec: RunSpec, registry: Registry) -> dict[str, Any]:
    """What a run would do, for ``--dry-run``: who trains, which phases, which measures."""
    stages = stages_of(registry, spec.unlearner)
    owner = owner_of_training(stages)
    return {
        "id": spec.run_id(),
        "trainer": owner.spec.name if owner else "recipe",
        "stages": [{"name": s.spec.name, "phases": list(s.phases), "reads": list(s.spec.reads)} for s in stages],
        "measures": [m.name for m in spec.measures],
        "spec": spec.to_json(),
    }
