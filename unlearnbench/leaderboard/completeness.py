"""Whether a submission is what its suite asks for: all runs once, of the suite's specs, on the verifier's data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

from unlearnbench.api.errors import DataError, IncompatibleError, UnlearnBenchError, UsageError
from unlearnbench.leaderboard.bounds import outside_bands
from unlearnbench.leaderboard.evidence import SubmittedStages, spec_here, submitted_stages
from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.soundness import (
    Expected,
    at,
    differing,
    other_data,
    quoted,
    uninstalled,
    wrong_origins,
    wrong_spec,
)
from unlearnbench.leaderboard.submission import Submission, SubmittedRun
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.registry import Registry
from unlearnbench.runner import resolved_data
from unlearnbench.spec import RunSpec


def check_against_suite(
    submission: Submission,
    suite: Suite,
    registry: Registry,
    *,
    stages: SubmittedStages | None = None,
    attacked: Submission | None = None,
) -> list[UnlearnBenchError]:
    """All that is wrong with a submission before any reading is recomputed; each problem names its run and field.

    ``stages`` holds data that were loaded already; ``attacked`` is the submission that a re-attack names.

    Raises:
        DataError: the verifier's own data are not there.
    """
    found = [*incomplete(submission, suite, registry, stages=stages, attacked=attacked)]
    return [*found, *outside_bands(submission, suite)]


def incomplete(
    submission: Submission,
    suite: Suite,
    registry: Registry,
    *,
    stages: SubmittedStages | None = None,
    attacked: Submission | None = None,
) -> list[UnlearnBenchError]:
    """The same without the suite's bands."""
    found = [*_head(submission, suite), *_counted(submission, suite)]
    sound: dict[str, list[SubmittedRun]] = defaultdict(list)
    expected = Expected(suite, registry)
    for run in submission.runs:
        wrong = [*uninstalled(run, registry)]
        if not wrong and any(part.scenario == run.scenario for part in suite.parts):
            wrong = [*wrong_spec(run, expected, submission.kind == "re-attack")]
            if not wrong:
                wrong = [*wrong_origins(run, registry)]
                sound[RunSpec.from_json(run.record.document["spec"]).scene_key].append(run)
        found += wrong
    stages = stages or submitted_stages(registry)
    for runs in sound.values():
        own = resolved_data(stages.scene(spec_here(runs[0].record.document)))
        found += [problem for run in runs for problem in other_data(run, own)]
    if attacked is not None:
        found += _same_runs(submission, attacked)
    return found


def _head(submission: Submission, suite: Suite) -> Iterator[UnlearnBenchError]:
    claimed = submission.document["suite"]
    if (claimed["name"], claimed["sha256"]) != (suite.name, suite.sha256):
        yield IncompatibleError(
            "other-suite", f"was made for {claimed['name']} {claimed['sha256'][:12]}..., "
            f"and this is {suite.name} {suite.sha256[:12]}...", where=f"{SUBMISSION}: suite.sha256",
            hint="use the version of UnlearnBench that has this suite",
        )  # fmt: skip
    settings = submission.statement["tuning"]["settings"]
    if settings > suite.settings:
        yield UsageError(
            "over-budget", f"{settings} settings were tried, and {suite.name} allows {suite.settings}",
            where=f"{SUBMISSION}: statement.tuning.settings", hint="tune within the suite's budget",
        )  # fmt: skip
    named = [(each["distribution"], each["version"]) for each in submission.document["plugins"]]
    used = {
        (each["distribution"], each["distribution_version"])
        for run in submission.runs
        for each in run.record.document["components"]
    }
    if sorted(named) != sorted(used):
        odd = sorted(set(named) ^ used) or sorted(named)
        yield DataError(
            "wrong-plugins", f"{quoted(' '.join(odd[0]))} is not listed once and used by a run",
            where=f"{SUBMISSION}: plugins", hint="pack the runs again",
        )  # fmt: skip


def _counted(submission: Submission, suite: Suite) -> Iterator[UnlearnBenchError]:
    """Every scenario has every seed exactly once, of one setting."""
    groups: dict[tuple[str, str], list[SubmittedRun]] = defaultdict(list)
    known = [part.scenario for part in suite.parts]
    for run in submission.runs:
        if run.scenario not in known:
            yield UsageError(
                "foreign-run", f"{quoted(run.scenario) or 'no scenario'} is none of {suite.name}",
                where=at(run, "spec.scenario"), hint="pack runs of the suite only",
            )  # fmt: skip
            continue
        seeds = run.record.document["spec"]["seeds"]
        odd = [name for name in ("unlearn", "measure") if seeds[name] != seeds["train"]]
        if odd or run.seed not in suite.seeds:
            name = odd[0] if odd else "train"
            yield UsageError(
                "foreign-run", f"{name} seed {seeds[name]} is none of the suite's runs",
                where=at(run, f"spec.seeds.{name}"),
                hint=f"the suite's seeds are {', '.join(map(str, suite.seeds))}, the same for all parts of a run",
            )  # fmt: skip
            continue
        groups[run.unlearner, run.scenario].append(run)
    for (unlearner, scenario), runs in sorted(groups.items()):
        yield from _group(unlearner, scenario, runs, suite)


def _group(unlearner: str, scenario: str, runs: list[SubmittedRun], suite: Suite) -> Iterator[UnlearnBenchError]:
    where = f"{SUBMISSION}: runs ({quoted(unlearner)} on {scenario})"
    counts = Counter(run.seed for run in runs)
    missing = [str(seed) for seed in suite.seeds if not counts[seed]]
    if missing:
        yield DataError(
            "missing-seed", f"lacks seed {', '.join(missing)}", where=where,
            hint="a scenario may be left out, a seed of it may not: failed and diverged runs are part of a submission",
        )  # fmt: skip
    for run in runs:
        if counts[run.seed] > 1:
            counts[run.seed] = 1
            yield DataError("duplicate-run", f"has seed {run.seed} more than once", where=where,
                            hint="pack one run for each seed")  # fmt: skip
    first = runs[0]
    for run in runs[1:]:
        mine, theirs = (each.record.document["spec"] for each in (run, first))
        for name in ("unlearner", "device", "threads", "measures"):
            odd = differing(mine[name], theirs[name], name)
            if odd:
                yield UsageError(
                    "several-settings", f"is another setting than that of {first.id}", where=at(run, f"spec.{odd}"),
                    hint="a submission has one setting of an unlearner for each scenario",
                )  # fmt: skip
                break


def _same_runs(submission: Submission, attacked: Submission) -> Iterator[UnlearnBenchError]:
    """A re-attack has the runs of what it attacks, under other measures."""
    known = {_without_measures(run) for run in attacked.runs}
    for run in submission.runs:
        if _without_measures(run) not in known:
            yield UsageError(
                "other-runs", f"is no run of {attacked.name}", where=at(run, "spec"),
                hint="a re-attack has the same unlearner, parameters and seeds as the entry, and other measures",
            )  # fmt: skip


def _without_measures(run: SubmittedRun) -> str:
    return replace(RunSpec.from_json(run.record.document["spec"]), measures=()).id
