"""Which of the runs in some folders a submission packs, and why others stay behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlearnbench.api.errors import UsageError, did_you_mean
from unlearnbench.comparison.comparable import newest
from unlearnbench.leaderboard.suites import Suite, suite, suite_names
from unlearnbench.record import Record
from unlearnbench.registry import Registry


@dataclass(frozen=True)
class Selection:
    """Runs of a suite, each of them once, and the names of those that were left out, by reason."""

    records: tuple[Record, ...]
    left_out: Mapping[str, Sequence[str]]


def select(
    records: Sequence[Record],
    suite: Suite,
    registry: Registry,
    *,
    unlearners: Sequence[str] = (),
    scenarios: Sequence[str] = (),
    attack: bool = False,
) -> Selection:
    """The runs that belong to a suite, of these unlearners and scenarios (none given: of all), failed ones too.

    A re-attack takes runs that have measures beyond the suite's, and anything else those that have just the suite's.

    Raises:
        UsageError: a scenario that the suite does not have, an unlearner without a run, or no run at all.
    """
    for scenario in scenarios:
        suite.part(scenario)
    measures = measures_of(suite, registry)
    once, older = newest(records)
    left_out: dict[str, list[str]] = {"in another folder, and not the newest": [each.run for each in older]}
    kept = []
    for record in once:
        why = _why_not(record, suite, measures, attack)
        if not why and unlearners and record.unlearner not in unlearners:
            why = "of other unlearners"
        if not why and scenarios and record.document["spec"]["scenario"] not in scenarios:
            why = "of other scenarios"
        if why:
            left_out.setdefault(why, []).append(str(record.document["id"]))
        else:
            kept.append(record)
    found = {record.unlearner for record in kept}
    for name in unlearners:
        if name not in found:
            hint = did_you_mean(name, found or {record.unlearner for record in once})
            raise UsageError("no-records", f"no run of {name} belongs to {suite.name}", where="--unlearner", hint=hint)
    if not kept:
        raise UsageError("no-records", f"no run belongs to {suite.name}: {told(left_out)}", where="bundle",
                         hint=f"make runs with `unlearnbench run --suite {suite.name}`")  # fmt: skip
    return Selection(tuple(kept), {why: runs for why, runs in left_out.items() if runs})


def only_suite(records: Sequence[Record], registry: Registry) -> Suite:
    """The suite that all of some runs belong to.

    Raises:
        UsageError: there is none, or more than one.
    """
    fits = []
    for name in suite_names():
        found = suite(name)
        measures = measures_of(found, registry)
        if not any(_why_not(record, found, measures, attack=False) for record in records):
            fits.append(found)
    if len(fits) != 1:
        which = f"they belong to {' and to '.join(each.name for each in fits)}" if fits else "they belong to none"
        raise UsageError("unknown-suite", f"the runs do not say which suite is meant: {which}", where="--suite",
                         hint=f"give one of {', '.join(suite_names())}")  # fmt: skip
    return fits[0]


def measures_of(suite: Suite, registry: Registry) -> dict[str, list[Any]]:
    """The measures of each scenario with all their parameters, as a run's spec has them.

    A scenario is left out where a plugin that it needs is not installed: no run of it can be checked here.
    """
    found = {}
    for part in suite.parts:
        try:
            spec = suite.specs(part, ["identity"], registry)[0]
        except UsageError:
            continue
        found[part.scenario] = [choice.to_json() for choice in spec.measures]
    return found


def told(left_out: Mapping[str, Sequence[str]]) -> str:
    """How many runs were left out and why, with the name of one of them, in a line."""
    found = [f"{len(runs)} {why} ({'such as ' if runs[1:] else ''}{runs[0]})" for why, runs in left_out.items() if runs]
    return ", ".join(found) or "there is none"


def _why_not(record: Record, suite: Suite, measures: Mapping[str, list[Any]], attack: bool) -> str:
    """Why a run is none of the suite's; empty where it is one."""
    spec = record.document["spec"]
    if spec["scenario"] not in measures:
        return "of other scenarios"
    seeds = set(spec["seeds"].values())
    if len(seeds) > 1 or not seeds <= set(suite.seeds):
        return "with other seeds"
    wanted = measures[spec["scenario"]]
    if attack:
        return "" if any(choice not in wanted for choice in spec["measures"]) else "without further measures"
    return "" if spec["measures"] == wanted else "with other measures"
