"""Small real submissions for tests, and copies of them that somebody has changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from unlearnbench.identity import canonical, digest, file_digest
from unlearnbench.leaderboard.board import Statement
from unlearnbench.leaderboard.bundle import pack, seal
from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.leaderboard.suites import suite
from unlearnbench.record import Record, content_digest
from unlearnbench.registry import registry
from unlearnbench.runner import execute
from unlearnbench.spec import RunSpec
from unlearnbench.store import Store

QUICK = "quick/v1"
SCENARIO = "digits-cnn-class3/v1"
CREATED = "2026-11-21T12:00:00+00:00"
STATED = Statement(("A. Author",), "https://example.org/paper", "CC-BY-4.0", "none", 1, "a test")


def suite_runs(out: Path, unlearners: Sequence[str] = ("identity", "finetune"), name: str = QUICK) -> list[Record]:
    """Real runs of a suite's first scenario over all its seeds, with a store beside them; half a minute for two."""
    wanted = suite(name)
    outcome = execute(wanted.specs(wanted.parts[0], unlearners, registry()), out=out)
    assert not outcome.problems
    return outcome.records


def packed(
    records: Sequence[Record], out: Path, *, weights: Store | None = None, statement: Statement = STATED, **options: Any
) -> Path:
    """A submission of runs, named after its folder; ``options`` as ``pack`` has them."""
    return pack(
        records, name=out.name, suite=suite(QUICK), statement=statement, out=out, weights=weights, created=CREATED,
        **options,
    )  # fmt: skip


def tampered(folder: Path, change: Callable[[Path], None], to: Path, *, mend: bool = True) -> Path:
    """A copy of a submission, changed; mended, its digests are right again, so that only the content is wrong.

    ``change`` is given the copy. A signature cannot be mended and is left out of mended copies.
    """
    shutil.copytree(folder, to)
    change(to)
    if mend:
        mend_digests(to)
    return to


def edited(file: str, *path: str | int, value: Any) -> Callable[[Path], None]:
    """A change that sets one value of a JSON file: ``edited("submission.json", "statement", "notes", value="")``."""

    def change(folder: Path) -> None:
        document = read(folder / file)
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        write(folder / file, document)

    return change


def edited_record(unlearner: str, seed: int, *path: str | int, value: Any) -> Callable[[Path], None]:
    """A change that sets one value of a run's record."""
    return lambda folder: edited(record_file(folder, unlearner, seed), *path, value=value)(folder)


def edited_reading(
    unlearner: str, seed: int, key: str, value: Any, subject: str = "unlearned"
) -> Callable[[Path], None]:
    """A change that sets the value of a reading, and what a record says besides that follows from it."""

    def change(folder: Path) -> None:
        file = record_file(folder, unlearner, seed)
        document = read(folder / file)
        (found,) = [r for r in document["readings"] if (r["key"], r["subject"]) == (key, subject)]
        if found["gap"] is not None:
            found["gap"] += value - found["value"]
        found["value"] = value
        for control in document["controls"]:
            if (control["measure"], control["key"]) == (found["measure"], key) and subject in control:
                control[subject] = value
                control["separates"] = control["original"] != control["gold"]
        write(folder / file, document)

    return change


def record_file(folder: Path, unlearner: str, seed: int) -> str:
    """The file of a run's record inside a submission."""
    (found,) = (folder / "records").glob(f"*.{unlearner}.s{seed}.*.json")
    return f"records/{found.name}"


def run_of(folder: Path, unlearner: str, seed: int) -> dict[str, Any]:
    """What ``submission.json`` says of a run."""
    file = record_file(folder, unlearner, seed)
    (found,) = [run for run in read(folder / SUBMISSION)["runs"] if run["record"] == file]
    return dict(found)


def read(path: Path) -> Any:
    """A JSON file of a submission."""
    return json.loads(path.read_bytes())


def write(path: Path, document: Any) -> None:
    """A JSON file of a submission, with its digests as they were."""
    path.write_bytes(canonical(document))


def mend_digests(folder: Path) -> None:
    """Make every digest and every name that depends on content right again, from the tensors up to the Statement."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    document = read(folder / SUBMISSION)
    names = {}
    for kind in ("predictions", "weights"):
        for path in sorted((folder / kind).glob("*.safetensors")):
            right = path.with_name(f"{file_digest(path)}.safetensors")
            path.replace(right)
            names[f"{kind}/{path.name}"] = f"{kind}/{right.name}"
    for run in document["runs"]:
        for kind in ("predictions", "weights"):
            if run[kind]:
                run[kind] = {subject: names.get(name, name) for subject, name in run[kind].items()}
        if (folder / run["record"]).is_file():
            _mend_record(folder, run)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {path.relative_to(folder).as_posix(): path for path in files if path.name not in (SUBMISSION, STATEMENT)}
    document["files"] = {n: {"sha256": file_digest(p), "bytes": p.stat().st_size} for n, p in listed.items()}
    seal(folder, document)


def _mend_record(folder: Path, run: dict[str, Any]) -> None:
    path = folder / run["record"]
    record = read(path)
    old, label = record["id"], run["id"]
    with suppress(Exception):  # what is too broken to have a digest keeps the one it had
        spec = {k: v for k, v in record["spec"].items() if k not in ("scenario", "$schema")}
        record["spec_id"] = digest(spec)
        if old == label and path.stem == label:
            record["id"] = RunSpec.from_json(record["spec"]).run_id()
        record["digest"] = content_digest(record)
    if record["id"] != old:
        run["id"], run["record"] = record["id"], f"records/{record['id']}.json"
        path.unlink()
    write(folder / run["record"], record)
