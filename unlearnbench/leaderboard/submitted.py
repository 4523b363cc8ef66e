"""Readings of a submitted run: of its outputs, and of its weights once these are known to give the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unlearnbench.api.errors import CheckFailed, DataError, UnlearnBenchError
from unlearnbench.api.runtime import SUBJECTS, Ref, Subject
from unlearnbench.evidence import entry_of
from unlearnbench.guard import deterministic
from unlearnbench.leaderboard.evidence import Given, SubmittedStages, spec_here
from unlearnbench.leaderboard.read import outputs, weights
from unlearnbench.leaderboard.recompute import FROM_WEIGHTS, Recomputed, from_outputs, recompute
from unlearnbench.leaderboard.submission import Submission, SubmittedRun
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.networks import build_network
from unlearnbench.scenes import Scene
from unlearnbench.spec import RunSpec

MOST_UNITS = 100_000
"""Largest number among a network's parameters: what a stranger describes must be built before it can be refused."""


def readings_of_outputs(submission: Submission, run: SubmittedRun, stages: SubmittedStages) -> Recomputed:
    """What the submitted outputs give.

    Raises:
        DataError: outputs are damaged, or are not for the rows of the run.
    """
    return from_outputs(run.record.document, _outputs(submission, run, stages), stages)


def readings_of_weights(submission: Submission, run: SubmittedRun, stages: SubmittedStages, rules: Suite) -> Recomputed:
    """What the submitted weights give, once they are those of the record and give the submitted outputs.

    Raises:
        DataError: weights are damaged, are not those of the record, or do not fit the network.
        CheckFailed: they give other outputs than were submitted.
    """
    spec = spec_here(run.record.document)
    scene = stages.scene(spec)
    reported = _outputs(submission, run, stages)
    given = {}
    for subject in SUBJECTS:
        found = weights(submission, run, subject)
        ref = _fitting(run, subject, found, spec, stages, scene)
        given[subject] = Given(reported[subject], ref, found)
    theirs = stages.under(given)
    with deterministic(spec.threads):
        for subject in SUBJECTS:
            _compare_outputs(run, subject, spec, theirs, scene, rules)
    return recompute(spec, theirs, FROM_WEIGHTS)


def _outputs(submission: Submission, run: SubmittedRun, stages: SubmittedStages) -> dict[Subject, dict[str, Tensor]]:
    measured = stages.scene(spec_here(run.record.document)).parts[-1].measured
    rows = {split: len(of) for split, of in measured.items() if len(of)}
    found: dict[Subject, dict[str, Tensor]] = {}
    for subject in SUBJECTS:
        arrays = outputs(submission, run, subject)
        for split in sorted({*rows, *arrays}):
            have = len(arrays[split]) if split in arrays else 0
            if have != rows.get(split, 0):
                raise _bad_predictions(
                    run, subject, f"{split} has {have} rows, not the {rows.get(split, 0)} of the data"
                )
        found[subject] = {split: torch.from_numpy(array) for split, array in arrays.items()}
    for split in rows:
        shapes = {subject: tuple(found[subject][split].shape) for subject in SUBJECTS}
        for subject, shape in shapes.items():
            if shape != shapes["original"]:
                raise _bad_predictions(run, subject, f"{split} is of shape {shape}, not {shapes['original']}")
    return found


def _bad_predictions(run: SubmittedRun, subject: Subject, message: str) -> DataError:
    where = f"{(run.predictions or {}).get(subject)} ({subject} of run {run.id})"
    return DataError("bad-predictions", message, where=where, hint="bundle the run's own predictions")


def _fitting(
    run: SubmittedRun,
    subject: Subject,
    found: Mapping[str, Tensor],
    spec: RunSpec,
    stages: SubmittedStages,
    scene: Scene,
) -> Ref:
    """The network's description, once names, shapes and types of its tensors are those of the weights."""
    place = f"{run.file}: models.{subject}"
    described = run.record.document["models"][subject][-1]["ref"]
    if described is None or not _bounded(described):
        raise DataError("wrong-weights", "has no network that could be built", where=f"{place}.ref")
    ref = Ref.from_json(described)
    if subject != "unlearned" and run.record.document["trainer"] == "recipe" and ref.to_json() != scene.ref.to_json():
        raise DataError("wrong-weights", "is not the network of the spec", where=f"{place}.ref")
    try:
        with torch.device("meta"):
            wanted = build_network(stages.registry, ref, 0, torch.device("meta")).state_dict()
    except UnlearnBenchError as problem:
        raise DataError("wrong-weights", problem.message, where=f"{place}.ref") from problem
    for name in sorted({*wanted, *found}):
        mine, theirs = ((tuple(of[name].shape), of[name].dtype) if name in of else None for of in (found, wanted))
        if mine != theirs:
            raise DataError("wrong-weights", f"tensor {name[:80]!r} does not fit the network", where=place,
                            hint="bundle the run's own weights")  # fmt: skip
    return ref


def _bounded(described: Any) -> bool:
    if isinstance(described, Mapping):
        return all(map(_bounded, described.values()))
    if isinstance(described, list):
        return all(map(_bounded, described))
    return not isinstance(described, int | float) or abs(described) <= MOST_UNITS


def _compare_outputs(
    run: SubmittedRun, subject: Subject, spec: RunSpec, stages: SubmittedStages, scene: Scene, rules: Suite
) -> None:
    """Outputs may differ as readings may; those of classifiers count up to a constant for each row."""
    given = stages.given[subject]
    measured = scene.parts[-1].measured
    splits = list(given.outputs)
    model = entry_of(stages, spec, subject, len(spec.requests) - 1)
    made = stages.outputs_of_splits(model, [measured[split] for split in splits], scene)
    for split, theirs in zip(splits, made, strict=True):
        mine = given.outputs[split]
        if spec.task == "classification":
            mine, theirs = mine.log_softmax(1), theirs.log_softmax(1)
        if not torch.allclose(theirs, mine, rtol=rules.recompute, atol=rules.recompute, equal_nan=True):
            worst = float((theirs - mine).abs().max())
            raise CheckFailed("wrong-outputs", f"{split} differs from what the weights give by up to {worst:.3g}",
                              where=f"{(run.predictions or {}).get(subject)} ({subject} of run {run.id})",
                              hint="bundle weights and predictions of one run")  # fmt: skip
