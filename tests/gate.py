"""The rules for what lies in ``leaderboard/``, one function each; what breaks a rule is a line that names the place.

``root`` is the folder of the leaderboard, so that the rules can be tried on folders that break them.
"""

from __future__ import annotations

import hashlib
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.leaderboard.completeness import incomplete
from unlearnbench.leaderboard.evidence import submitted_stages
from unlearnbench.leaderboard.history import read_history
from unlearnbench.leaderboard.layout import SUBMISSION
from unlearnbench.leaderboard.read import read_submission
from unlearnbench.leaderboard.recompute import compare
from unlearnbench.leaderboard.submission import LEVELS, Submission
from unlearnbench.leaderboard.submitted import readings_of_outputs
from unlearnbench.leaderboard.suites import suite
from unlearnbench.leaderboard.verify import examine
from unlearnbench.registry import Registry
from unlearnbench.schemas import load_json, validate

HERE = {
    "README.md", "suites", "submissions", "submissions.txt", "verifications", "retractions.yaml", "plugins.txt",
}  # fmt: skip
MOST_FILE = 10 * 2**20
MOST_SUBMISSION = 64 * 2**20
LOOKED_AT = 6
"""Runs of a submission that was verified already which are computed again with this version."""

_LINE = re.compile(r"([0-9a-f]{64})  leaderboard/submissions/([a-z0-9-]+)/submission\.json")
_PLUGIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)( .*)?")


class Unavailable(Exception):
    """The rule cannot be held up here: a plugin from elsewhere or data are missing."""


def folders(root: Path) -> list[Path]:
    """The submissions."""
    return sorted(path for path in (root / "submissions").glob("*") if path.is_dir())


def strays(root: Path) -> Iterator[str]:
    """Nothing lies here that has no place."""
    for path in sorted(root.iterdir()):
        if path.name not in HERE:
            yield f"{path.name}: has no place in {root.name}/"
    for path in sorted((root / "submissions").glob("*")):
        if not path.is_dir() or path.is_symlink():
            yield f"submissions/{path.name}: is no folder of a submission"
    for path in sorted((root / "verifications").glob("*")):
        if path.suffix != ".json" or not (root / "submissions" / path.stem).is_dir():
            yield f"verifications/{path.name}: is of no submission here"


def listed(root: Path) -> dict[str, str]:
    """Digest by name of ``submissions.txt``."""
    path = root / "submissions.txt"
    return _listed(path.read_text("utf-8")) if path.exists() else {}


def _listed(text: str) -> dict[str, str]:
    found = [match.groups() for line in text.splitlines() if (match := _LINE.fullmatch(line))]
    return {name: digest for digest, name in found}


def unlisted(root: Path) -> Iterator[str]:
    """``submissions.txt`` has every submission once, as it is, and nothing else."""
    path = root / "submissions.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    names = []
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            yield f"submissions.txt: line {number} is not what sha256sum prints for a submission.json"
            continue
        digest, name = match.groups()
        names.append(name)
        file = root / "submissions" / name / SUBMISSION
        if not file.is_file():
            yield f"submissions.txt: {name} was here, and submissions/{name} is gone"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield f"submissions/{name}: is not what submissions.txt says; a correction is a submission of another name"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"submissions.txt: {name} stands there twice"
    for folder in folders(root):
        if folder.name not in names and (folder / SUBMISSION).is_file():
            digest = hashlib.sha256((folder / SUBMISSION).read_bytes()).hexdigest()
            yield f"submissions.txt: add the line {digest}  leaderboard/submissions/{folder.name}/{SUBMISSION}"


def removed(root: Path, base: str) -> Iterator[str]:
    """What was listed in a commit of git is listed now.

    Raises:
        Unavailable: there is no such commit, or this is no checkout.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
    if commit is None:
        raise Unavailable(f"there is no commit {base} to compare with")
    before = _git(root, "show", f"{base}:./submissions.txt")
    now = listed(root)
    for name, digest in _listed(before or "").items():
        if now.get(name) != digest:
            yield f"submissions.txt: the line of {name} was {'changed' if name in now else 'removed'}"


def _git(root: Path, *words: str) -> str | None:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def too_large(folder: Path) -> Iterator[str]:
    """Every file and the whole are small enough for a repository."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        if path.stat().st_size > MOST_FILE:
            yield f"{path.relative_to(folder.parent)}: is larger than {MOST_FILE >> 20} MiB"
    total = sum(path.stat().st_size for path in files)
    if total > MOST_SUBMISSION:
        yield f"{folder.name}: is larger than {MOST_SUBMISSION >> 20} MiB"


def misnamed(folder: Path) -> Iterator[str]:
    """It can be read, is called as its folder is, and its suite is one of ours, unchanged."""
    try:
        found = read_submission(folder)
        rules = suite(found.suite)
    except UnlearnBenchError as problem:
        yield str(problem)
        return
    if found.name != folder.name:
        yield f"{folder.name}: its name is {found.name}"
    if found.document["suite"]["sha256"] != rules.sha256:
        yield f"{folder.name}: was made for another {found.suite} than the one here"
    attacked = found.document["re_attacks"]
    if attacked and not (folder.parent / attacked).is_dir():
        yield f"{folder.name}: attacks {attacked}, which is not here"


def unknown_plugins(folder: Path, registry: Registry) -> Iterator[str]:
    """Every distribution is installed here, or anybody can see in ``plugins.txt`` which one to install."""
    listed_here = _plugins(folder.parents[1])
    for each in read_submission(folder).document["plugins"]:
        name, version = each["distribution"], each["version"]
        if name not in _installed(registry) and listed_here.get(name) != version:
            yield f"{folder.name}: {name} {version} is neither installed nor {name}=={version} in plugins.txt"


def _plugins(root: Path) -> dict[str, str]:
    path = root / "plugins.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {match[1]: match[2] for line in lines if (match := _PLUGIN.fullmatch(line))}


def _installed(registry: Registry) -> set[str]:
    return {plugin.distribution for plugin in registry.plugins}


def wrong(folder: Path, registry: Registry) -> list[str]:
    """All readings follow from the outputs; of a submission that was verified, those of a few runs are looked at.

    Raises:
        Unavailable: data or plugins from elsewhere are missing.
    """
    submission = read_submission(folder)
    absent = {each["distribution"] for each in submission.document["plugins"]} - _installed(registry)
    if absent:
        raise Unavailable(f"{' and '.join(sorted(absent))} is not installed; see leaderboard/plugins.txt")
    try:
        if verified(folder, submission):
            return [str(problem) for problem in _some_runs(submission, registry)]
        return [str(problem) for problem in examine(folder, "recomputed-metrics", registry=registry).problems]
    except UnlearnBenchError as problem:
        if problem.code != "missing-file":
            raise
        raise Unavailable(str(problem)) from problem


def verified(folder: Path, submission: Submission) -> bool:
    """A maintainer has verified exactly this submission, and it passed."""
    path = folder.parents[1] / "verifications" / f"{folder.name}.json"
    found = load_json(path.read_text("utf-8"), where=path.name) if path.exists() else {}
    return bool(found) and found["passed"] and found["submission"]["sha256"] == submission.sha256


def _some_runs(submission: Submission, registry: Registry) -> Iterator[UnlearnBenchError | str]:
    rules, stages = suite(submission.suite), submitted_stages(registry)
    yield from incomplete(submission, rules, registry, stages=stages)
    runs = [run for run in submission.runs if run.predictions]
    for run in random.Random(submission.sha256).sample(runs, min(LOOKED_AT, len(runs))):
        found = compare(run.record.document, readings_of_outputs(submission, run, stages), rules.recompute)
        for reading in found.wrong:
            yield f"{run.file}: {reading.name}: {reading.reported} is reported, {reading.recomputed} follows"


def wrong_verification(path: Path) -> Iterator[str]:
    """A verification is of the submission beside it, and its levels are those that its checks found."""
    document = load_json(path.read_text("utf-8"), where=path.name)
    try:
        validate(document, "verification", where=path.name)
    except UnlearnBenchError as problem:
        yield str(problem)
        return
    submission = read_submission(path.parents[1] / "submissions" / path.stem)
    if document["submission"] != {"name": submission.name, "sha256": submission.sha256}:
        yield f"{path.name}: is of another submission, or of what this one was before"
    if sorted(entry["unlearner"] for entry in document["entries"]) != list(submission.unlearners):
        yield f"{path.name}: has not the unlearners of the submission"
    yield from (f"{path.name}: {line}" for line in _inconsistent(document, {run.id for run in submission.runs}))


def _inconsistent(document: dict[str, Any], runs: set[str]) -> Iterator[str]:
    checks = {check["level"]: check for check in document["checks"]}
    levels = [entry["level"] for entry in document["entries"]]
    lowest = min(levels, key=LEVELS.index)
    if document["passed"]:
        asked = checks.get(document["asked"], {"status": "missing"})
        if asked["status"] != "passed" or document["problems"] or document["level"] != document["asked"]:
            yield f"passed is true, and the check of {document['asked']} is {asked['status']}"
    elif document["level"] != lowest:
        yield f"level is {document['level']}, and the lowest of the entries {lowest}"
    for name, check in checks.items():
        if check["status"] == "passed" and (check["outside"] or check["missing"] or not check["runs"]):
            yield f"check {name} is passed, and not all of its readings agree"
        if check["same"] + check["within"] + check["outside"] + check["missing"] != check["readings"]:
            yield f"check {name} has another number of readings than verdicts"
    for entry in document["entries"]:
        if entry["level"] != LEVELS[0] and checks.get(entry["level"], {"runs": 0})["runs"] == 0:
            yield f"entry {entry['unlearner']} is {entry['level']}, and no run was looked at for it"
        if (entry["level"] == "rerun") != bool(entry["rerun"]) and document["passed"]:
            yield f"entry {entry['unlearner']} is {entry['level']} with {entry['rerun']} runs made again"
    drawn = (document["sample"] or {"runs": []})["runs"]
    if len(drawn) != sum(entry["rerun"] for entry in document["entries"]) or not set(drawn) <= runs:
        yield "the runs of the sample are not those that were made again"


def wrong_history(root: Path) -> Iterator[str]:
    """Verifications and retractions can be read, and a retraction names an unlearner that the submission has."""
    try:
        history = read_history(root)
    except UnlearnBenchError as problem:
        yield str(problem)
        return
    for each in history.retractions:
        known = read_submission(root / "submissions" / each.submission).unlearners
        if each.unlearner is not None and each.unlearner not in known:
            yield f"retractions.yaml: {each.submission} has no unlearner {each.unlearner}"
