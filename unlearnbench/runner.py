"""From run specs to records: models, evidence, readings, one validated document per run."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

from unlearnbench.api.errors import CheckFailed, IncompatibleError, Interrupted, PluginError, UnlearnBenchError
from unlearnbench.api.runtime import SUBJECTS, Reading, Subject, Summarises
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.environment import environment
from unlearnbench.evidence import RunEvidence, entry_of, run_costs
from unlearnbench.guard import deterministic, guarded
from unlearnbench.parts import Parts
from unlearnbench.phases import Phases, Progress, no_progress
from unlearnbench.plan import check, passing
from unlearnbench.price import Price, ensembles_of, made_measure, price
from unlearnbench.record import (
    ARTIFACTS,
    PREDICTIONS,
    PROOFS,
    SCHEMA,
    SEALED_BY,
    Record,
    arrays_digest,
    content_digest,
    controls,
    pack_arrays,
    reading_json,
    seal,
    write_record,
)
from unlearnbench.registry import Registry, registry
from unlearnbench.scenes import Scene
from unlearnbench.served import check_certificate, cost_json, pack_artifacts, pack_proofs, stream_json
from unlearnbench.spec import Choice, RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Entry, Store
from unlearnbench.unlearners import owner_of_training, stages_of

Sink = Callable[[Record], None]
RUN_SPLITS = ("forget", "retain", "test", "holdout")


@dataclass
class Outcome:
    """What an invocation left: records in the order of the specs, and what went wrong."""

    invocation: str
    records: list[Record] = field(default_factory=list)
    problems: list[UnlearnBenchError] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)


def execute(
    specs: Sequence[RunSpec],
    *,
    out: Path,
    store: Path | None = None,
    components: Registry | None = None,
    base: Path | None = None,
    checkpoint: Path | None = None,
    budget_s: float | None = None,
    download: bool = False,
    progress: Progress = no_progress,
    on_record: Sink | None = None,
    on_left_out: Callable[[Mapping[str, str]], None] | None = None,
    on_price: Callable[[Price], None] | None = None,
) -> Outcome:
    """Check all specs, then run them one after the other; a run that fails is recorded and the others go on.

    Where somebody takes what is left out, unlearners that a check refuses are left out, with the reason by name.

    Raises:
        UnlearnBenchError: a spec is refused before any work is done, or the output folder cannot be written.
        Interrupted: the user stopped it; finished stages and records are kept.
    """
    components = components or registry()
    outcome = Outcome(uuid.uuid4().hex)
    phases = Phases(components, budget_s, progress)
    stages = Stages(
        components, Store(store or out / "store"), phases, download, base, checkpoint, computed=outcome.computed
    )
    checks: list[Callable[[RunSpec], Any]] = [
        partial(check, registry=components), partial(ensembles_of, components=components), stages.check,
    ]  # fmt: skip
    left_out: dict[str, str] | None = None if on_left_out is None else {}
    specs = passing(specs, checks, left_out)
    if on_price is not None:
        on_price(price(specs, components, stages))
    for spec in specs:
        try:
            with deterministic(spec.threads):
                record, problem = run_one(spec, stages, out, outcome.invocation)
        except KeyboardInterrupt:
            done = f"{len(outcome.records)} of {len(specs)} runs are finished"
            raise Interrupted("interrupted", done, hint="the same command goes on from here") from None
        except IncompatibleError as refusal:  # what a method sees only once it has the data before it
            if left_out is None:
                raise
            left_out[spec.unlearner.name] = refusal.message
            continue
        outcome.records.append(record)
        if problem is not None:
            outcome.problems.append(problem)
        if on_record is not None:
            on_record(record)
    if on_left_out is not None and left_out:
        on_left_out(left_out)
    return outcome


def run_one(spec: RunSpec, stages: Stages, out: Path, invocation: str) -> tuple[Record, UnlearnBenchError | None]:
    """Run one spec and write its record; a broken plugin gives a record with status ``failed`` and the problem.

    Raises:
        UnlearnBenchError: the data or the output folder is at fault, so that no record makes sense.
    """
    stages.events.clear()
    problem: UnlearnBenchError | None = None
    document = _frame(spec, stages, invocation)
    files: dict[str, bytes] = {}
    try:
        for step in range(len(spec.requests)):
            check_certificate(stages.unlearned(spec, step).certificate, spec.unlearner.name)
        document["models"] = _models(spec, stages)
        arrays = _predictions(spec, stages)
        readings, document["measures"], problem = _readings(spec, stages)
        document["readings"] = readings
        document["controls"] = controls(readings)
        document["predictions"] = arrays_digest(arrays)
        last = len(spec.requests) - 1
        document["costs"] = {k: cost_json(c) for k, c in run_costs(stages, spec, last).items()}
        document["stages"] = [cost_json(c) for c in stages.unlearned(spec, last).stages]
        document["certificate"] = stages.unlearned(spec, last).certificate
        if last:
            document["stream"] = stream_json(spec, stages)
        packed = {PROOFS: pack_proofs(spec, stages), ARTIFACTS: pack_artifacts(spec, stages)}
        stages.kept.pop(spec.id, None)
        for name, content in packed.items():
            if content is not None:
                document[Path(name).stem] = hashlib.sha256(content).hexdigest()
                files[name] = content
        document["warnings"] = [w for step in range(last + 1) for w in stages.unlearned(spec, step).warnings]
        files[PREDICTIONS] = pack_arrays(arrays)
        document["status"] = "complete" if problem is None else "failed"
        broken = [name for name, found in document["models"].items() if not all(m["finite"] for m in found)]
        if broken:
            document["status"] = "diverged"
            what = f"weights of the {' and '.join(broken)} model are not finite numbers"
            problem = CheckFailed("diverged", what, where=f"run {spec.run_id()}",
                                  hint="lower the learning rate, or look at the checkpoint")  # fmt: skip
    except PluginError as found:
        problem = found
        document["status"] = "failed"
    if problem is not None:
        document["error"] = problem.to_json()
    document["events"] = [*document["events"], *stages.events]
    document["files"] = sorted(files)
    document["digest"] = content_digest(document)
    if PROOFS in files:
        document[SEALED_BY] = seal(document)
    return write_record(out / spec.run_id(), document, files), problem


def _frame(spec: RunSpec, stages: Stages, invocation: str) -> dict[str, Any]:
    """The part of a record that is known before any model is made."""
    scene = stages.scene(spec)
    return {
        "$schema": SCHEMA,
        "id": spec.run_id(),
        "spec_id": spec.id,
        "invocation": invocation,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "complete",
        "error": None,
        "spec": spec.to_json(),
        "trainer": trainer_of(spec, stages.registry),
        "components": origins_of(spec, stages.registry),
        **resolved_data(scene),
        "models": {},
        "measures": [],
        "readings": [],
        "controls": [],
        "predictions": None,
        "certificate": None,
        "costs": {},
        "stages": [],
        "environment": environment(scene.device),
        "warnings": [],
        "events": [],
    }


def resolved_data(scene: Scene) -> dict[str, Any]:
    """Data and requests as a record keeps them: which rows the run saw, by their digests."""
    splits = scene.splits
    data = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        "data": {
            **{k: {"digest": d.digest(), "rows": len(d)} if d is not None else None for k, d in data.items()},
            "files": dict(scene.files),
        },
        "requests": [_request_json(part) for part in scene.parts],
    }


def _request_json(part: Parts) -> dict[str, Any]:
    found = {
        "kind": part.request.kind,
        "digest": part.request.digest,
        "forget": len(part.forget),
        "retain": len(part.retain),
        "holdout": len(part.measured["holdout"]),
        "holdout_digest": part.measured["holdout"].view("holdout").digest(),
    }
    if part.forget.elements is not None:
        found["elements"] = part.forget.elements.shape[1]
    if part.cascade:
        found["partition"] = [{"name": name, "rows": rows} for name, rows in part.cascade]
    return found


def trainer_of(spec: RunSpec, components: Registry) -> str:
    """Who trains original and gold: the recipe, or the unlearner that owns training."""
    owner = owner_of_training(stages_of(components, spec.unlearner))
    return owner.spec.name if owner else "recipe"


def origins_of(spec: RunSpec, components: Registry) -> list[dict[str, str]]:
    """Every component of a run and where it comes from."""
    found = [components.get("dataset", spec.dataset.name), components.get("model", spec.model.name)]
    found += [stage.component for stage in stages_of(components, spec.unlearner)]
    found += [components.get("measure", choice.name) for choice in spec.measures]
    return [component.origin() for component in found]


def _models(spec: RunSpec, stages: Stages) -> dict[str, list[dict[str, Any]]]:
    def described(entry: Entry) -> dict[str, Any]:
        return {
            "key": entry.key,
            "sha256": entry.weights_sha256,
            "ref": entry.ref.to_json() if entry.ref else None,
            "parameters": sum(w.numel() for w in entry.weights.values()),
            "finite": all(bool(w.isfinite().all()) for w in entry.weights.values() if w.is_floating_point()),
        }

    return {
        "original": [described(stages.original(spec))],
        "gold": [described(stages.gold(spec, step)) for step in spec.measured_steps],
        "unlearned": [described(stages.unlearned(spec, step)) for step in range(len(spec.requests))],
    }


def _predictions(spec: RunSpec, stages: Stages) -> dict[str, Any]:
    """Outputs of every subject on every split after the last request, with ids and annotations."""
    scene = stages.scene(spec)
    step = len(spec.requests) - 1
    measured = scene.parts[step].measured
    selections = {split: measured[split] for split in RUN_SPLITS if len(measured[split])}
    arrays: dict[str, Any] = {}
    for split, selection in selections.items():
        arrays[f"{split}/ids"] = selection.view(split).ids.numpy()
        arrays[f"{split}/y"] = selection.data.y[selection.index].cpu().numpy()
    for subject in SUBJECTS:
        outputs = stages.outputs_of_splits(entry_of(stages, spec, subject, step), list(selections.values()), scene)
        arrays.update({f"{split}/{subject}": out.numpy() for split, out in zip(selections, outputs, strict=True)})
    return arrays


def measure_spec_of(components: Registry, choice: Choice) -> MeasureSpec:
    """What a measure says of itself."""
    spec = components.get("measure", choice.name).spec
    assert isinstance(spec, MeasureSpec)
    return spec


def _readings(spec: RunSpec, stages: Stages) -> tuple[list[dict[str, Any]], list[dict[str, Any]], PluginError | None]:
    """Readings of all measures, how each measure went, and the first problem: a broken measure costs no other one."""
    found: list[dict[str, Any]] = []
    measures: list[dict[str, Any]] = []
    first: PluginError | None = None
    for choice in spec.measures:
        timed = "cost" in measure_spec_of(stages.registry, choice).reads
        measure = {"name": choice.name, "timed": timed, "status": "ok", "message": "", "cpu_s": 0.0}
        started = process_time()
        try:
            readings = readings_of(choice, spec, stages)
            gold = {r.key: r for r in readings if r.subject == "gold"}
            found += [reading_json(reading, choice.name, gold) for reading in readings]
        except PluginError as problem:
            first = first or problem
            measure.update(status="failed", message=problem.message)
            kept = stages.kept.get(spec.id, {})
            for name in [name for name in kept if name.startswith(f"measures/{choice.name}/")]:
                del kept[name]
        measure["cpu_s"] = round(process_time() - started, 6)
        measures.append(measure)
    return found, measures, first


def readings_of(choice: Choice, spec: RunSpec, stages: Stages) -> list[Reading]:
    """One measure on all subjects after each request."""
    measure_spec = measure_spec_of(stages.registry, choice)
    instance = made_measure(stages.registry, choice)
    readings: list[Reading] = []
    for step in spec.measured_steps:
        at = {"request": str(step)} if len(spec.requests) > 1 else {}
        for subject in SUBJECTS:
            evidence = RunEvidence(stages, spec, step, subject, choice.name, measure_spec.reads)
            taken = _measured(partial(instance.measure, evidence), choice.name, stages, spec)
            readings += [_placed(reading, subject, at) for reading in taken]
    if isinstance(instance, Summarises):
        summary = _measured(partial(instance.summarise, tuple(readings)), choice.name, stages, spec)
        if any(reading.subject not in SUBJECTS for reading in summary):
            raise PluginError("broken-contract", "summarise must name subjects", where=f"measure {choice.name}")
        readings += summary
    return readings


def _measured(call: Callable[[], Iterable[Reading]], name: str, stages: Stages, spec: RunSpec) -> list[Reading]:
    where = f"measure {name}"
    with guarded(where, stages.scene(spec).shared):
        readings = list(call())
    for reading in readings:
        wrong = _wrong_reading(reading)
        if wrong:
            raise PluginError("broken-contract", wrong, where=where)
    return readings


def _wrong_reading(reading: object) -> str:
    """What is wrong with a reading, before it can spoil a record."""
    if not isinstance(reading, Reading):
        return f"must yield Reading objects, not {type(reading).__name__}"
    if reading.value is not None and not isinstance(reading.value, int | float):
        return f"value of {reading.name} must be a float, not {type(reading.value).__name__}"
    if type(reading.n) is not int:
        return f"n of {reading.name} must be an int, not {type(reading.n).__name__}"
    if not all(end is None or isinstance(end, int | float) for end in (reading.low, reading.high)):
        return f"interval of {reading.name} must be two floats"
    if not all(isinstance(v, str) for v in (reading.name, reading.split, *reading.at, *reading.at.values())):
        return f"coordinates of {reading.name} must be text"
    return ""


def _placed(reading: Reading, subject: Subject, at: Mapping[str, str]) -> Reading:
    return replace(reading, at={**reading.at, **at}, subject=subject)
