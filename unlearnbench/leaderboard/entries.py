"""Entries of boards: from submissions, with what maintainers found out about them, and from plain records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.comparison.comparable import differing, method, newest, place, scene_parts
from unlearnbench.identity import digest
from unlearnbench.leaderboard.board import AttackReading, Division, Entry, Flag, ReAttack, Statement
from unlearnbench.leaderboard.history import RECORDS, History
from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.made_up import controls, is_attack
from unlearnbench.leaderboard.reading import read_all, slim
from unlearnbench.leaderboard.submission import Level, Submission, SubmittedRun
from unlearnbench.leaderboard.suites import Suite, suite, suite_names
from unlearnbench.plugins import printable
from unlearnbench.record import Record, find_records

ORACLES = ("test", "gold")
"""Access during tuning that makes an entry oracle-tuned."""


@dataclass(frozen=True)
class Gathered:
    """Entries, and what was left out because it is not valid: each error names its file."""

    entries: tuple[Entry, ...]
    problems: tuple[UnlearnBenchError, ...]


@dataclass(frozen=True)
class Sources:
    """What lies below the paths that were asked for."""

    submissions: tuple[Path, ...]
    records: tuple[Path, ...]


def gather_entries(paths: Sequence[Path], history: History) -> Gathered:
    """Entries of all submissions and records below paths: a submission (folder or zip), a folder of them, or runs.

    Raises:
        DataError: a path does not exist, or a retraction names an unlearner that its submission lacks.
        UsageError: a folder holds neither submissions nor records.
    """
    sources = find_sources(paths)
    submissions, problems = _read_submissions(sources.submissions)
    entries, more = _entries(submissions, history)
    records, broken = read_all(sources.records)
    return Gathered((*entries, *entries_of_records(records)), (*problems, *more, *broken))


def find_sources(paths: Sequence[Path]) -> Sources:
    """Submissions and records below paths, each once.

    Raises:
        DataError: a path does not exist.
        UsageError: a folder holds neither.
    """
    submissions: dict[Path, None] = {}
    records: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise DataError("missing-file", "does not exist", where=str(path),
                            hint="name submissions, a folder of them, or a folder of runs")  # fmt: skip
        found = _submissions_in(path)
        runs = [] if found else find_records(path) if path.is_dir() else [path]
        if not found and not runs:
            raise UsageError("no-records", "holds neither submissions nor records", where=str(path),
                             hint="name submissions, a folder of them, or a folder of runs")  # fmt: skip
        submissions |= dict.fromkeys(found)
        records |= dict.fromkeys(runs)
    return Sources(tuple(submissions), tuple(records))


def _submissions_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.suffix == ".zip" else []
    if (path / SUBMISSION).exists():
        return [path]
    return sorted(each for each in path.iterdir() if (each / SUBMISSION).exists() or each.suffix == ".zip")


def entries_of_submissions(folders: Sequence[Path], history: History) -> list[Entry]:
    """Entries of submissions.

    Raises:
        UnlearnBenchError: the first thing that is wrong with one of them.
    """
    submissions, problems = _read_submissions(folders)
    entries, more = _entries(submissions, history)
    for problem in (*problems, *more):
        raise problem
    return entries


def _read_submissions(paths: Sequence[Path]) -> tuple[list[Submission], list[UnlearnBenchError]]:
    from unlearnbench.leaderboard.read import read_submission

    found: dict[str, Submission] = {}
    problems: list[UnlearnBenchError] = []
    for path in paths:
        try:
            submission = read_submission(path)
            _check_suite(submission, path)
            if submission.name in found:
                raise DataError("duplicate-submission", f"there is another submission {submission.name!r}",
                                where=str(path), hint="give each a name of its own")  # fmt: skip
            found[submission.name] = _slimmed(submission)
        except UnlearnBenchError as problem:
            problems.append(problem)
    return list(found.values()), problems


def _slimmed(submission: Submission) -> Submission:
    """The submission with the records as boards keep them."""
    runs = tuple(replace(run, record=slim(run.record)) for run in submission.runs)
    return replace(submission, runs=runs)


def _check_suite(submission: Submission, path: Path) -> None:
    rules = suite(submission.suite)
    if submission.document["suite"]["sha256"] != rules.sha256:
        raise DataError("wrong-digest", f"is made for another {rules.name}", where=f"{path}: $.suite.sha256",
                        hint="suites never change: make it again with this version")  # fmt: skip


def _entries(submissions: Sequence[Submission], history: History) -> tuple[list[Entry], list[UnlearnBenchError]]:
    _check_retractions(submissions, history)
    found = {
        entry.id: entry
        for submission in submissions
        if submission.kind == "results"
        for entry in _entries_of(submission, history)
    }
    problems: list[UnlearnBenchError] = []
    for submission in sorted(submissions, key=lambda each: each.name):
        if submission.kind == "re-attack":
            problems += _attack(submission, found, history)
    return list(found.values()), problems


def _check_retractions(submissions: Sequence[Submission], history: History) -> None:
    unlearners = {submission.name: submission.unlearners for submission in submissions}
    for each in history.retractions:
        mine = unlearners.get(each.submission)
        if mine is not None and each.unlearner is not None and each.unlearner not in mine:
            raise DataError("bad-retraction", f"submission {each.submission} has no {each.unlearner!r}",
                            where="retractions.yaml", hint=f"it has {', '.join(mine)}")  # fmt: skip


def _entries_of(submission: Submission, history: History) -> Iterable[Entry]:
    rules = suite(submission.suite)
    verification = history.verifications.get(submission.sha256)
    said = submission.statement
    for unlearner in submission.unlearners:
        level, rerun = _level(verification, unlearner)
        yield Entry(
            id=f"{submission.name}/{unlearner}",
            submission=submission.name,
            unlearner=unlearner,
            division=_division(unlearner, rules.controls, said["tuning"]["access"]),
            statement=Statement(
                authors=tuple(said["authors"]),
                paper=said["paper"],
                licence=said["licence"],
                access=said["tuning"]["access"],
                settings=said["tuning"]["settings"],
                notes=said["notes"],
            ),
            created=submission.document["created"],
            level=level,
            rerun=rerun,
            records=tuple(run.record for run in submission.runs if run.unlearner == unlearner),
            flags=_flags(verification, unlearner),
            retracted=history.retracted(submission.name, unlearner),
            suite=rules.name,
            sha256=submission.sha256,
        )


def _division(unlearner: str, known: Sequence[str], access: str) -> Division:
    return "control" if unlearner in known else "oracle-tuned" if access in ORACLES else "oracle-free"


def _level(verification: Mapping[str, Any] | None, unlearner: str) -> tuple[Level, int]:
    for each in verification["entries"] if verification else ():
        if each["unlearner"] == unlearner:
            return each["level"], each["rerun"]
    return "self-reported", 0


def _flags(verification: Mapping[str, Any] | None, unlearner: str) -> tuple[Flag, ...]:
    return tuple(
        Flag(flag["scenario"], flag["code"], flag["message"])
        for flag in (verification["flags"] if verification else ())
        if flag["unlearner"] == unlearner
    )


def _attack(submission: Submission, entries: dict[str, Entry], history: History) -> list[UnlearnBenchError]:
    """Hang a re-attack on the entries that it attacks; what of it attacks nothing is said."""
    problems: list[UnlearnBenchError] = []
    for unlearner in submission.unlearners:
        runs = [run for run in submission.runs if run.unlearner == unlearner]
        entry = entries.get(f"{submission.document['re_attacks']}/{unlearner}")
        own = {_without_measures(record) for record in entry.records} if entry else set()
        strange = [run.id for run in runs if _without_measures(run.record) not in own]
        if entry is None or entry.suite != submission.suite or strange:
            what = f"run {strange[0]} is none of its runs" if entry and strange else "there is no such entry"
            message = printable(f"attacks {submission.document['re_attacks']}/{unlearner}: {what}")
            problems.append(DataError("nothing-attacked", message, where=submission.package.where,
                                      hint="take the runs of the entry under further measures"))  # fmt: skip
            continue
        level, _ = _level(history.verifications.get(submission.sha256), unlearner)
        readings = tuple(reading for run in runs for reading in _attack_readings(run, suite(submission.suite)))
        created = str(submission.document["created"])
        attack = ReAttack(submission.name, created, submission.sha256, level, readings)
        entries[entry.id] = replace(
            entry, re_attacks=(*entry.re_attacks, submission.name), attacks=(*entry.attacks, attack)
        )
    return problems


def _without_measures(record: Record) -> str:
    return digest({name: value for name, value in record.document["spec"].items() if name != "measures"})


def _attack_readings(run: SubmittedRun, rules: Suite) -> Iterable[AttackReading]:
    """The stronger attack: the first reading of an attack, in the order of the measures, that the suite has not."""
    known = rules.part(run.scenario).measures
    for choice in run.record.document["spec"]["measures"]:
        for reading in run.record.document["readings"]:
            fits = reading["measure"] == choice["name"] and choice["name"] not in known
            if fits and reading["subject"] == "unlearned" and not reading["at"] and is_attack(reading):
                if reading["value"] is not None and reading["gap"] is not None:
                    value, gap = float(reading["value"]), float(reading["gap"])
                    yield AttackReading(run.scenario, run.seed, choice["name"], reading["key"], value, abs(gap))
                return


def entries_of_records(records: Iterable[Record]) -> list[Entry]:
    """Entries of plain records: each on the board of a suite that it fits, else on one made up of its scenario.

    Two settings of one unlearner are two entries.
    """
    found, _ = newest(records)
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        fitting = _fitting(record)
        groups.setdefault((fitting, "" if fitting else digest(scene_parts(record))), []).append(record)
    places: dict[str, int] = {}
    for name, scene in groups:
        if not name:
            places[place(groups[name, scene][0])] = places.get(place(groups[name, scene][0]), 0) + 1
    entries = []
    for (name, scene), group in groups.items():
        usual = place(group[0])
        board = name or (f"{usual} ({scene[:8]})" if places[usual] > 1 or usual in suite_names() else usual)
        entries += _entries_of_group(board, group, suite(name).controls if name else controls())
    return entries


def _fitting(record: Record) -> str:
    """The newest suite whose run a record is: its scenario, one of its seeds, all of its measures; else empty."""
    spec = record.document["spec"]
    measures = {choice["name"] for choice in spec["measures"]}
    for name in reversed(suite_names()):
        rules = suite(name)
        part = next((part for part in rules.parts if part.scenario == spec["scenario"]), None)
        seeds = set(spec["seeds"].values())
        if part is not None and len(seeds) == 1 and seeds <= set(rules.seeds) and measures >= set(part.measures):
            return name
    return ""


def _entries_of_group(board: str, group: Sequence[Record], known: Sequence[str]) -> list[Entry]:
    by_unlearner: dict[str, list[Record]] = {}
    for record in group:
        by_unlearner.setdefault(record.unlearner, []).append(record)
    return [
        Entry(
            id=f"{RECORDS}/{label}",
            submission=RECORDS,
            unlearner=unlearner,
            division=_division(unlearner, known, ""),
            statement=Statement(),
            created=max(str(record.document["created"]) for record in records),
            level="self-reported",
            rerun=0,
            records=tuple(records),
            suite=board,
        )
        for unlearner, mine in by_unlearner.items()
        for label, records in _settings(unlearner, mine).items()
    ]


def _settings(unlearner: str, records: Sequence[Record]) -> dict[str, list[Record]]:
    """An unlearner's records by the label of an entry.

    An entry has one setting for each scenario. Of a scenario with several, each makes an entry, which takes the same
    setting of other scenarios, or the only one that a scenario has.
    """
    by_scenario: dict[str, dict[str, list[Record]]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for record in records:
        setting = method(record)
        key = digest(setting)
        settings[key] = setting
        scenario = str(record.document["spec"]["scenario"] or "")
        by_scenario.setdefault(scenario, {}).setdefault(key, []).append(record)
    several = sorted({key for found in by_scenario.values() if len(found) > 1 for key in found})
    if not several:
        return {unlearner: list(records)}
    entries = {}
    for key in several:
        words = differing(settings[key], [settings[each] for each in several])
        entries[f"{unlearner} ({words})"] = [
            record
            for found in by_scenario.values()
            for record in found.get(key, next(iter(found.values())) if len(found) == 1 else ())
        ]
    return entries
