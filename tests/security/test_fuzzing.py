"""Random damage, random forgery and random statements: what is accepted means what the honest submission means.

Examples come from fixed seeds, so that a failure is one everywhere.
"""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from security.corpus import raw_controls, zipped
from security.honest import UNLEARNER, honest, records, relist, workplace
from submissions import STATED, mend_digests, packed, read, record_file

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.api.runtime import SUBJECTS
from unlearnbench.leaderboard.bounds import outside_bands
from unlearnbench.leaderboard.completeness import incomplete
from unlearnbench.leaderboard.evidence import SubmittedStages, submitted_stages
from unlearnbench.leaderboard.layout import STATEMENT, SUBMISSION
from unlearnbench.leaderboard.read import outputs, read_submission
from unlearnbench.leaderboard.recompute import compare, wrong_controls
from unlearnbench.leaderboard.submission import Submission
from unlearnbench.leaderboard.submitted import readings_of_outputs
from unlearnbench.leaderboard.suites import suite
from unlearnbench.registry import registry

pytestmark = pytest.mark.usefixtures("measured_once")

FIXED = settings(
    derandomize=True, database=None, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
REMOVED = "removed"


UNVERIFIABLE = re.compile(
    r"submission\.json: (name|created|statement\.(authors|notes|paper|licence|tuning)\b.*)"
    r"|record: (created|invocation|costs|stages|events|warnings|files|environment|certificate)\b.*"
    r"|record: (models\.\w+\[0\]\.(key|sha256|parameters|ref)\b.*|predictions)"
    r"|record: measures\[\d+\]\.(cpu_s|message)"
    r"|record: components\[\d+\]\.distribution_version"
    r"|record: readings\[\d+\]\.\w+ of run-cost.*"
)
"""What outputs alone cannot show: names and words of people, clocks and machines, digests of what is not there."""


@cache
def stages() -> SubmittedStages:
    return submitted_stages(registry())


def problems_of(path: Path) -> list[str]:
    """What verifying finds wrong, with the outputs of the first run alone; it raises nothing but errors for users."""
    try:
        submission = read_submission(path)
        rules = suite(submission.suite)
        found = [str(problem) for problem in incomplete(submission, rules, registry(), stages=stages())]
        found += [str(problem) for problem in outside_bands(submission, rules)]
        if not found:
            found = list(_readings(submission, rules.recompute))
    except UnlearnBenchError as problem:
        found = [str(problem)]
    assert not any(raw_controls(line) for line in found), found
    return found


def _readings(submission: Submission, tolerance: float) -> Iterator[str]:
    for run in submission.runs:
        if run.seed == 0 and run.predictions:
            document = run.record.document
            compared = compare(document, readings_of_outputs(submission, run, stages()), tolerance)
            yield from (f"{reading.name} {reading.fields}" for reading in compared.wrong)
            yield from filter(None, [wrong_controls(document)])


def meaning(path: Path) -> dict[str, Any]:
    """All that a submission holds, however it is written down; raises what reading raises."""
    submission = read_submission(path)
    for run in submission.runs:
        for subject in SUBJECTS:
            outputs(submission, run, subject)
    found: dict[str, Any] = {}
    for name in submission.package.files:
        data = submission.package.read(name)
        found[name] = json.loads(data) if name.endswith(".json") else data
    return found


@cache
def honest_meaning() -> dict[str, Any]:
    return meaning(honest())


damage = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "cut", "insert", "swap", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.integers(1, 64),
    ),
    min_size=1,
    max_size=4,
)


def damaged(data: bytes, steps: list[tuple[str, float, int, int]]) -> bytes:
    found = bytearray(data)
    for kind, where, byte, length in steps:
        place = int(where * len(found))
        part = found[place : place + length]
        match kind:
            case "set":
                found[place : place + 1] = bytes([byte])
            case "flip" if place < len(found):
                found[place] ^= 1 << byte % 8
            case "cut":
                del found[place : place + length]
            case "insert":
                found[place:place] = bytes([byte]) * length
            case "swap":
                found[place : place + length] = part[::-1]
            case "repeat":
                found[place:place] = part
    return bytes(found)


@FIXED
@given(st.randoms(use_true_random=False), damage)
def test_a_damaged_file_is_refused_or_means_the_same(chosen: random.Random, steps: Any) -> None:
    folder = workplace() / "damaged"
    if not folder.exists():
        shutil.copytree(honest(), folder)
    kinds = [
        [folder / SUBMISSION],
        [folder / STATEMENT],
        *(sorted((folder / k).iterdir()) for k in ("records", "predictions")),
    ]
    path = chosen.choice(chosen.choice(kinds))
    kept = path.read_bytes()
    path.write_bytes(damaged(kept, steps))
    try:
        with suppress(UnlearnBenchError):
            assert meaning(folder) == honest_meaning()
    finally:
        path.write_bytes(kept)


@FIXED
@given(damage)
def test_a_damaged_archive_is_refused_or_means_the_same(steps: Any) -> None:
    path = workplace() / "damaged.zip"
    path.write_bytes(damaged(zipped(honest()), steps))
    with suppress(UnlearnBenchError):
        assert meaning(path) == honest_meaning()


# Places are chosen by depth first, so that the few fields of the top are hit as often as the thousands of readings.
values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 2**63), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20), st.just([]), st.just({}), st.just(10**300), st.sampled_from(["0" * 64, "ok", "gold", 5e-324]),
)  # fmt: skip


def edit(document: Any, chosen: random.Random, value: Any) -> str:
    """Change one random place of a document; where that was, or nothing where there was nothing to change."""
    node, path, label = document, "", ""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return ""
        key = chosen.choice(keys)
        path += f"[{key}]" if isinstance(node, list) else f".{key}" if path else str(key)
        child = node[key]
        if isinstance(child, dict) and "measure" in child:
            label = f" of {child['measure']}"
        if isinstance(child, dict | list) and child and chosen.random() < 0.85:
            node = child
            continue
        if value == REMOVED:
            del node[key]
        elif node[key] == value and type(node[key]) is type(value):
            return ""
        else:
            node[key] = value
        return path + label


@settings(FIXED, max_examples=50)
@given(st.sampled_from(["record", SUBMISSION]), st.randoms(use_true_random=False), values | st.just(REMOVED))
def test_a_forged_field_is_refused_unless_nobody_can_know_it(file: str, chosen: random.Random, value: Any) -> None:
    place = forge(file, chosen, value)
    if place and not problems_of(workplace() / "forged"):
        assert UNVERIFIABLE.fullmatch(place), f"{place} was set to {value!r}, and nobody noticed"


def forge(file: str, chosen: random.Random, value: Any) -> str:
    """A submission in which one field is another one, and every digest right."""
    folder = workplace() / "forged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(honest(), folder)
    path = folder / (record_file(folder, UNLEARNER, 0) if file == "record" else file)
    document = read(path)
    before = copy.deepcopy(document)
    place = edit(document, chosen, value)
    if not place or document == before:
        return ""
    path.write_text(json.dumps(document))
    try:
        mend_digests(folder)
    except Exception:  # what is too broken to be forged well is forged as well as it can be
        with suppress(Exception):
            relist(folder)
    return "" if _as_before(folder) else f"{file}: {place}"


def _as_before(folder: Path) -> bool:
    """Whether mending took the change back, as it does with digests."""
    with suppress(Exception):
        return meaning(folder) == honest_meaning()
    return False


odd_text = st.text(st.characters(exclude_categories=[]), max_size=60)


@settings(FIXED, max_examples=8)
@given(
    st.lists(odd_text, max_size=3), odd_text, st.none() | st.just(STATED.paper) | odd_text,
    st.just(set()) | st.sets(st.integers(0, 4), max_size=1), st.integers(0, 150),
)  # fmt: skip
def test_what_bundle_packs_verifies_and_what_it_does_not_it_refuses_in_a_line(
    authors: list[str], notes: str, paper: str | None, dropped: set[int], tried: int
) -> None:
    out = workplace() / "fuzzed"
    shutil.rmtree(out, ignore_errors=True)
    said = replace(STATED, authors=tuple(authors), notes=notes, paper=paper, settings=tried)
    kept = [record for record in records() if record.document["spec"]["seeds"]["train"] not in dropped]
    refused = ""
    try:
        packed(kept, out, statement=said)
    except UnlearnBenchError as problem:
        refused = str(problem)
    assert out.exists() is not bool(refused)
    if not refused:
        assert problems_of(out) == []
        assert read(out / SUBMISSION)["statement"]["notes"] == notes


@pytest.mark.parametrize("notes", ["", "\u202eodd\x1b[2J \U0001f600 e\u0301", "=1+1\r\n<script>"])
def test_odd_notes_survive_packing(notes: str, tmp_path: Path) -> None:
    folder = packed(records(), tmp_path / "odd", statement=replace(STATED, notes=notes))
    assert read(folder / SUBMISSION)["statement"]["notes"] == notes
    assert problems_of(folder) == []


def test_the_list_of_what_nobody_can_know_has_no_result_in_it() -> None:
    for place in ("record: readings[0].value of accuracy", "record: status", "record: spec.recipe.lr", "record: data"):
        assert not UNVERIFIABLE.fullmatch(place)
    assert UNVERIFIABLE.fullmatch("record: environment.processor")
