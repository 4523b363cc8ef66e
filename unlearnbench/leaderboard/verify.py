"""Verifying a submission: each level in turn, as far as the one that was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import CheckFailed, DataError, UnlearnBenchError, UsageError
from unlearnbench.leaderboard.bounds import flags_of, outside_bands
from unlearnbench.leaderboard.completeness import incomplete
from unlearnbench.leaderboard.evidence import SubmittedStages, submitted_stages
from unlearnbench.leaderboard.layout import SIGNATURE, SUBMISSION
from unlearnbench.leaderboard.read import read_submission
from unlearnbench.leaderboard.recompute import Compared, Comparison, compare, wrong_controls
from unlearnbench.leaderboard.rerun import rerun, sample
from unlearnbench.leaderboard.submission import Level, Submission, SubmittedRun
from unlearnbench.leaderboard.submitted import readings_of_outputs, readings_of_weights
from unlearnbench.leaderboard.suites import Suite, suite
from unlearnbench.leaderboard.verification import Check, Signature, Verification
from unlearnbench.plugins import printable
from unlearnbench.registry import Registry

MOST_PROBLEMS = 10
"""Of one run, named one by one; the readings are all in the report."""

Progress = Callable[[str], None]
Recompute = Callable[[SubmittedRun], Comparison]


def verify(path: Path, level: Level, **options: Any) -> dict[str, Any]:
    """The verification document of a submission; ``options`` are those of ``examine``.

    Raises:
        DataError: the submission cannot be read, or the verifier's own data are not there.
        UsageError: what was asked for makes no sense.
    """
    return examine(path, level, **options).to_json()


def examine(
    path: Path,
    level: Level,
    *,
    registry: Registry,
    sample: int | None = None,
    seed: int | None = None,
    download: bool = False,
    key: Path | None = None,
    progress: Progress = lambda line: None,
) -> Verification:
    """Verify a submission up to a level; what is wrong inside it is in the result.

    ``sample`` runs are made again instead of all, drawn from ``seed``; without a seed from one that nobody could know.
    ``key`` is a public key that the signature must be of.

    Raises:
        DataError: the submission cannot be read, or the verifier's own data are not there.
        UsageError: what was asked for makes no sense.
    """
    if level == "self-reported":
        raise UsageError("bad-level", "is what every submission is", where="--level", hint="ask for a higher one")
    if sample is not None and level != "rerun":
        raise UsageError("bad-sample", "only runs that are made again are sampled", where="--sample",
                         hint="add --level rerun")  # fmt: skip
    if seed is not None and sample is None:
        raise UsageError("bad-sample", "draws nothing without --sample", where="--seed", hint="add --sample N")
    submission = read_submission(path)
    found = Verification(submission, level)
    found.signature = _signature(path, submission, key, found.problems)
    try:
        rules = suite(submission.suite)
    except UsageError as problem:
        found.problems.append(problem)
        found.checks.append(Check("recomputed-metrics", failed={*submission.unlearners}))
        return found
    stages = submitted_stages(registry, download=download)
    attacked = _attacked(path, submission, found.problems)
    structure = incomplete(submission, rules, registry, stages=stages, attacked=attacked)
    found.problems += [*structure, *outside_bands(submission, rules)]
    found.flags = flags_of(submission, rules)
    if found.problems:
        # A run of another spec is not even looked at: what it asks for is the stranger's choice.
        found.checks.append(Check("recomputed-metrics", failed={*submission.unlearners}))
        if structure:
            return found
    _levels(found, rules, stages, sample, seed, progress)
    return found


def _levels(
    found: Verification, rules: Suite, stages: SubmittedStages, size: int | None, seed: int | None, progress: Progress
) -> None:
    """Level after level, as long as they hold."""
    runs = [run for run in found.submission.runs if run.predictions is not None]
    metrics = found.checks[0] if found.checks else Check("recomputed-metrics")
    found.checks = [metrics]
    _recomputed(found, metrics, runs, rules, lambda run: readings_of_outputs(found.submission, run, stages), progress)
    for run in found.submission.runs:
        if run.predictions is None:  # it failed: there is nothing of it to compare
            metrics.add(run.id, run.unlearner, Comparison((), len(run.record.document["readings"])))
    if found.asked == "recomputed-metrics" or len(metrics.failed) == len(found.submission.unlearners):
        return
    weights = Check("recomputed-from-weights")
    found.checks.append(weights)
    given = [run for run in runs if run.weights is not None]
    weights.possible = bool(runs) and len(given) == len(runs)
    _recomputed(
        found, weights, given, rules, lambda run: readings_of_weights(found.submission, run, stages, rules), progress
    )
    if found.asked == "recomputed-from-weights":
        if not weights.possible:
            lacking = next(run.id for run in runs if run.weights is None) if runs else found.submission.name
            found.problems.append(CheckFailed("no-weights", "there are no weights to recompute from",
                                              where=f"{SUBMISSION}: run {lacking}: weights",
                                              hint="pack with --weights, or verify at another level"))  # fmt: skip
        return
    _made_again(found, rules, stages.registry, size, seed, stages.download, progress)


def _recomputed(
    found: Verification, check: Check, runs: list[SubmittedRun], rules: Suite, recomputed: Any, progress: Progress
) -> None:
    for number, run in enumerate(runs, 1):
        try:
            comparison = compare(run.record.document, recomputed(run), rules.recompute)
        except UnlearnBenchError as problem:
            if not isinstance(problem, CheckFailed | DataError):
                raise
            problem.where = problem.where or run.file
            found.problems.append(problem)
            check.failed.add(run.unlearner)
            comparison = Comparison((), 0)
        check.add(run.id, run.unlearner, comparison)
        _judge(found, check, run, comparison)
        progress(f"{check.level}: {number} of {len(runs)} runs")


def _judge(found: Verification, check: Check, run: SubmittedRun, comparison: Comparison) -> None:
    """Problems for the readings of a run that differ, and for controls that do not follow from them."""
    wrong = comparison.wrong
    found.problems += [_wrong_reading(check.level, run, reading) for reading in wrong[:MOST_PROBLEMS]]
    if len(wrong) > MOST_PROBLEMS:
        more = f"and {len(wrong) - MOST_PROBLEMS} more readings of this run differ"
        found.problems.append(CheckFailed("wrong-reading", more, where=f"{run.file}: readings"))
    odd = wrong_controls(run.record.document)
    if odd and check.level == "recomputed-metrics":
        found.problems.append(CheckFailed("wrong-control", "does not follow from the readings",
                                          where=f"{run.file}: {odd}", hint="make the run again"))  # fmt: skip
    if wrong or odd:
        check.failed.add(run.unlearner)


def _wrong_reading(level: Level, run: SubmittedRun, reading: Compared) -> CheckFailed:
    how = {"recomputed-metrics": "the outputs give", "recomputed-from-weights": "the weights give"}.get(
        level, "the run made again gives"
    )
    if reading.verdict == "missing":
        what = (
            "is reported, and" if reading.reported is not None or reading.recomputed is None else "is not reported, and"
        )
        message = f"{what} {how} {_number(reading.recomputed) if reading.recomputed is not None else 'no such reading'}"
    elif "value" in reading.fields:
        message = f"{_number(reading.reported)} is reported, and {how} {_number(reading.recomputed)}"
    else:
        message = f"is not what {how.removesuffix(' gives').removesuffix(' give')} and gold's reading make it"
    return CheckFailed("wrong-reading", message, where=f"{run.file}: readings[{printable(reading.name, 200)}]"
                       f".{'+'.join(reading.fields)}", hint="a record holds what its run read")  # fmt: skip


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _made_again(
    found: Verification,
    rules: Suite,
    registry: Registry,
    size: int | None,
    seed: int | None,
    download: bool,
    progress: Progress,
) -> None:
    check = Check("rerun")
    found.checks.append(check)
    if size is not None and seed is None:
        seed = secrets.randbelow(2**31)
    runs = sample(found.submission.runs, size, seed or 0)
    found.sample = {"seed": seed, "runs": [run.id for run in runs]}
    try:
        for again in rerun(runs, registry, rules.rerun, download=download, progress=progress):
            check.add(again.run.id, again.run.unlearner, again.comparison)
            found.identical[again.run.id] = again.identical
            _judge(found, check, again.run, again.comparison)
            if again.status != again.run.record.status:
                check.failed.add(again.run.unlearner)
                found.problems.append(CheckFailed(
                    "wrong-status", f"{again.run.record.status} is reported, and the run made again is {again.status}",
                    where=f"{again.run.file}: status", hint="a record holds what its run did",
                ))  # fmt: skip
    except UnlearnBenchError as problem:  # a device that is not here, say
        check.possible = False
        found.problems.append(problem)


def _signature(path: Path, submission: Submission, key: Path | None, problems: list[UnlearnBenchError]) -> Signature:
    signed = SIGNATURE in submission.package.files
    if key is None:
        return "not checked" if signed else "none"
    from unlearnbench.leaderboard.signing import verify_signature

    try:
        verify_signature(path, key)
    except DataError as problem:
        problems.append(problem)
        return "not checked" if signed else "none"
    return "valid"


def _attacked(path: Path, submission: Submission, problems: list[UnlearnBenchError]) -> Submission | None:
    """The submission that a re-attack names, if it lies beside it."""
    name = submission.document["re_attacks"]
    beside = path.resolve().parent / name if name else None
    if beside is None or not beside.is_dir():
        return None
    try:
        return read_submission(beside)
    except DataError as problem:
        problems.append(problem)
        return None
