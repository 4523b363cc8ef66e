"""Reference bounds: controls must lie in the suite's bands, and what is nearer to gold than gold itself is flagged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean

from unlearnbench.api.errors import CheckFailed
from unlearnbench.leaderboard.board import Flag
from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.submission import Subject, Submission, SubmittedRun
from unlearnbench.leaderboard.suites import Axis, Part, Suite
from unlearnbench.plugins import printable

TOO_GOOD = 0.5
"""Share of the floor below which a mean distance to gold is flagged."""

LOOKED_AT = ("forgetting", "privacy")
"""Axes on which it is. Not utility: what starts from the original of gold's seed is honestly nearer there."""

_BOUNDS: tuple[Subject, ...] = ("original", "gold")


def outside_bands(submission: Submission, suite: Suite) -> Iterator[CheckFailed]:
    """Originals and golds whose mean over seeds lies outside of the suite's bands, or that lack the reading.

    The bands are those of models that the recipe trains; an unlearner that owns training is flagged instead.
    """
    for unlearner, part, runs in _groups(submission, suite):
        if _own_trainer(runs):
            continue
        for what in _outside(part, runs):
            where = f"{SUBMISSION}: runs ({printable(unlearner, 80)} on {part.scenario})"
            yield CheckFailed("control-outside-band", what, where=where, hint="train original and gold by the suite")


def _own_trainer(runs: Sequence[SubmittedRun]) -> bool:
    return any(run.record.document["trainer"] != "recipe" for run in runs)


def _outside(part: Part, runs: Sequence[SubmittedRun]) -> Iterator[str]:
    finished = [run for run in runs if run.record.status != "failed"]
    for band in part.bands:
        for subject in _BOUNDS:
            low, high = band.original if subject == "original" else band.gold
            values = [_value(run, band.measure, band.key, subject) for run in finished]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                yield f"{subject} has no {band.measure}/{band.key}"
            elif known and not low <= fmean(known) <= high:
                mean = f"{fmean(known):.4g} in the mean over seeds"
                yield f"{band.measure}/{band.key} of {subject} is {mean}, outside of [{low:g}, {high:g}]"


def flags_of(submission: Submission, suite: Suite) -> list[tuple[str, Flag]]:
    """What a person should look at, by unlearner; nothing of it refuses a submission."""
    found = []
    for unlearner, part, runs in _groups(submission, suite):
        if unlearner in suite.controls:
            continue
        if _own_trainer(runs):
            outside = [*_outside(part, runs)]
            if outside:
                more = f" (and {len(outside) - 1} more like it)" if outside[1:] else ""
                message = f"trains its own models, and {outside[0]}{more}"
                found.append((unlearner, Flag(part.scenario, "outside-band", message)))
        same = [run for run in runs if _is_gold(run)]
        if same:
            message = f"is gold to the last bit in {len(same)} of {len(runs)} runs: right for exact methods alone"
            found.append((unlearner, Flag(part.scenario, "same-as-gold", message)))
        else:  # once is enough
            found += [(unlearner, flag) for flag in _too_good(part, runs)]
    return [*found, *_environments(submission)]


def _too_good(part: Part, runs: Sequence[SubmittedRun]) -> Iterator[Flag]:
    for axis in part.axes:
        if axis.name not in LOOKED_AT:
            continue
        floor = part.floor[axis.name]
        distances = [distance for run in runs if (distance := _distance(run, axis)) is not None]
        if distances and fmean(distances) < TOO_GOOD * floor:
            yield Flag(
                part.scenario, "too-good",
                f"{axis.name} ({axis.key}) is {fmean(distances):.4g} from gold, and a second gold model is {floor:.4g}",
            )  # fmt: skip


def _environments(submission: Submission) -> Iterator[tuple[str, Flag]]:
    """Runs of one scenario that were not made under one version of torch are not quite comparable."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for run in submission.runs:
        version = run.record.document["environment"]["packages"].get("torch", "an unknown version")
        groups[run.unlearner, run.scenario].add(printable(version, 40))
    for (unlearner, scenario), versions in sorted(groups.items()):
        if len(versions) > 1:
            message = f"was run under torch {' and '.join(sorted(versions)[:4])}"
            yield unlearner, Flag(scenario, "other-environment", message)


def _groups(submission: Submission, suite: Suite) -> Iterator[tuple[str, Part, list[SubmittedRun]]]:
    for unlearner in submission.unlearners:
        for part in suite.parts:
            runs = [run for run in submission.runs if (run.unlearner, run.scenario) == (unlearner, part.scenario)]
            if runs:
                yield unlearner, part, runs


def _is_gold(run: SubmittedRun) -> bool:
    """By the weights that the record tells of, or by the outputs that were submitted."""
    models, files = run.record.document["models"], run.predictions or {}
    weights = bool(models) and models["unlearned"][-1]["sha256"] == models["gold"][-1]["sha256"]
    return weights or (bool(files) and files["unlearned"] == files["gold"])


def _distance(run: SubmittedRun, axis: Axis) -> float | None:
    mine, gold = (_value(run, axis.measure, axis.key, subject) for subject in ("unlearned", "gold"))
    return None if mine is None or gold is None else abs(mine - gold)


def _value(run: SubmittedRun, measure: str, key: str, subject: str) -> float | None:
    for reading in run.record.document["readings"]:
        if (reading["measure"], reading["key"], reading["subject"]) == (measure, key, subject):
            return None if reading["value"] is None else float(reading["value"])
    return None
