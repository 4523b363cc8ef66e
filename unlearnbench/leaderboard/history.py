"""What maintainers keep beside submissions: verifications and retractions; and the feed of changes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import DataError, UsageError
from unlearnbench.leaderboard.board import Change, Entry
from unlearnbench.plugins import printable
from unlearnbench.schemas import MAX_BYTES, load_yaml, read_document

SUBMISSIONS = "submissions"
VERIFICATIONS = "verifications"
RETRACTIONS = "retractions.yaml"
RECORDS = "records"
"""The submission that plain records are counted to."""

_FIELDS = {"submission", "unlearner", "date", "reason"}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True)
class Retraction:
    """An entry that its submitters or the maintainers no longer stand for; without unlearner, the whole submission."""

    submission: str
    unlearner: str | None
    date: str
    reason: str


@dataclass(frozen=True)
class History:
    """Verifications by the sha256 of the submission that they are bound to, and retractions."""

    verifications: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retractions: tuple[Retraction, ...] = ()

    def retracted(self, submission: str, unlearner: str) -> str | None:
        """Why an entry was retracted, or None."""
        for each in self.retractions:
            if each.submission == submission and each.unlearner in (None, unlearner):
                return each.reason
        return None


def read_history(root: Path) -> History:
    """Read the folder that holds ``submissions/``, ``verifications/`` and ``retractions.yaml``; each may be missing.

    Raises:
        DataError: a file cannot be read or is not valid, or says something of a submission that is not there.
    """
    if not root.is_dir():
        raise DataError("missing-file", "is no folder", where=str(root), hint="name the folder of the leaderboard")
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted((root / VERIFICATIONS).glob("*.json")):
        document = _verification(path)
        sha256 = str(document["submission"]["sha256"])
        if sha256 not in found or str(found[sha256]["created"]) < str(document["created"]):
            found[sha256] = document
    return History(found, _retractions(root))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError("missing-file", f"cannot be read: {problem}", where=str(path)) from problem


def _verification(path: Path) -> Mapping[str, Any]:
    try:
        document: dict[str, Any] = read_document(_text(path), "verification", where=str(path))
    except UsageError as problem:
        raise DataError(problem.code, problem.message, where=problem.where, hint=problem.hint) from problem
    if document["submission"]["name"] != path.stem:
        raise DataError("wrong-name", f"is about submission {document['submission']['name']!r}", where=str(path),
                        hint="a verification is named after its submission")  # fmt: skip
    return document


def _retractions(root: Path) -> tuple[Retraction, ...]:
    path = root / RETRACTIONS
    if not path.is_file():
        return ()
    try:
        document = load_yaml(_text(path), str(path))
    except UsageError as problem:
        raise DataError(problem.code, problem.message, where=problem.where) from problem
    if not isinstance(document, list):
        raise _bad(path, "$", "is no list of retractions")
    return tuple(_retraction(each, f"$.{place}", path, root) for place, each in enumerate(document))


def _retraction(document: Any, place: str, path: Path, root: Path) -> Retraction:
    if not isinstance(document, dict) or set(document) != _FIELDS:
        raise _bad(path, place, f"must have exactly {', '.join(sorted(_FIELDS))}")
    # YAML makes a date of what looks like one.
    values = {name: value if value is None else str(value) for name, value in document.items()}
    for name in ("submission", "date", "reason"):
        if not (values[name] or "").strip():
            raise _bad(path, f"{place}.{name}", "is empty")
    if values["unlearner"] is not None and not values["unlearner"].strip():
        raise _bad(path, f"{place}.unlearner", "is empty; null stands for all of the submission")
    if not _DATE.fullmatch(str(values["date"])):
        raise _bad(path, f"{place}.date", f"{values['date']!r} is no date such as 2026-11-21")
    folder = root / SUBMISSIONS
    names = {each.name.removesuffix(".zip") for each in folder.iterdir()} if folder.is_dir() else set()
    if values["submission"] not in names:
        raise _bad(path, f"{place}.submission", f"there is no submission {values['submission']!r}")
    return Retraction(str(values["submission"]), values["unlearner"], str(values["date"]), str(values["reason"]))


def _bad(path: Path, place: str, message: str) -> DataError:
    return DataError("bad-retraction", printable(message), where=f"{path}: {place}")


def changes(entries: Iterable[Entry], history: History) -> tuple[Change, ...]:
    """The feed of changes, newest first: submissions, re-attacks, verifications and retractions of these entries."""
    by_submission: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda each: each.id):
        if entry.submission != RECORDS:
            by_submission.setdefault(entry.submission, []).append(entry)
    found = [change for name, group in by_submission.items() for change in _of_submission(name, group, history)]
    for each in history.retractions:
        if each.submission in by_submission:
            whom = f"{each.submission}/{each.unlearner}" if each.unlearner else each.submission
            found.append(Change(each.date, "retraction", whom, f"retracted: {each.reason}"))
    return tuple(sorted(found, key=lambda each: (each.date, each.kind, each.subject, each.text), reverse=True))


def _of_submission(name: str, group: Sequence[Entry], history: History) -> Iterable[Change]:
    unlearners = ", ".join(entry.unlearner for entry in group)
    authors = ", ".join(group[0].statement.authors)
    yield Change(group[0].created, "submission", name, f"{unlearners} on {group[0].suite}, by {authors}")
    attacks = {attack.submission: attack for entry in group for attack in entry.attacks}
    for attack in attacks.values():
        attacked = ", ".join(entry.id for entry in group if attack.submission in entry.re_attacks)
        yield Change(attack.created, "re-attack", attack.submission, f"a stronger attack on {attacked}")
    shas = {name: group[0].sha256, **{attack.submission: attack.sha256 for attack in attacks.values()}}
    for submission, sha256 in shas.items():
        document = history.verifications.get(sha256)
        if document is not None:
            outcome = "passed" if document["passed"] else "did not pass"
            text = f"{outcome} verification at {document['asked']}; found: {document['level']}"
            yield Change(str(document["created"]), "verification", submission, text)
