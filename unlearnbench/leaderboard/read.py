"""Reading a submission: its files are those that it lists, and its records say of themselves what they are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError
from unlearnbench.api.runtime import SUBJECTS, tensors_digest
from unlearnbench.identity import canonical_json
from unlearnbench.leaderboard.layout import SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.leaderboard.package import Package, open_package, shown
from unlearnbench.leaderboard.statement import statement_of
from unlearnbench.leaderboard.submission import Subject, Submission, SubmittedRun
from unlearnbench.leaderboard.tensors import OUTPUTS, read_tensors, read_weights
from unlearnbench.levels import LEVELS
from unlearnbench.plugins import printable
from unlearnbench.record import Record, content_digest
from unlearnbench.runner import RUN_SPLITS
from unlearnbench.schemas import BASE, load_json, read_document
from unlearnbench.spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

MOST_WEIGHTS = 4096


def read_submission(path: Path) -> Submission:
    """Read a folder or a zip archive and check all that it says of itself; outputs and weights are not looked into.

    Raises:
        DataError: the first thing that is wrong, with the file or field.
    """
    package = open_package(path)
    content = package.read(SUBMISSION)
    document = _parsed(content, package.place(SUBMISSION), "submission")
    files: Mapping[str, Mapping[str, Any]] = document["files"]
    with _of_data(package.place(SUBMISSION)):
        _check_date(document["created"])
    _check_files(package, files)
    runs = tuple(_read_run(package, files, run, position) for position, run in enumerate(document["runs"]))
    _check_runs(package, document["runs"], files)
    sha256 = hashlib.sha256(content).hexdigest()
    digests = {SUBMISSION: sha256, **{name: file["sha256"] for name, file in files.items()}}
    statement = _parsed(package.read(STATEMENT), package.place(STATEMENT))
    if statement != statement_of(document["name"], document["suite"]["name"], len(runs), digests):
        raise wrong_file("bad-statement", "is not the in-toto Statement over exactly these files", package, STATEMENT)
    return Submission(document=document, sha256=sha256, package=package, runs=runs)


def outputs(submission: Submission, run: SubmittedRun, subject: Subject) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of a model in single precision, by split; splits without rows are absent.

    Raises:
        DataError: the file was changed or is none of outputs, or its arrays are not those of the run's rows.
        UsageError: the run has no predictions.
    """
    name = _file_of(run, run.predictions, subject, "predictions")
    place = submission.package.place(name)
    data = _digested(submission.package, name, submission.document["files"])
    arrays = read_tensors(data, place, most=len(RUN_SPLITS), kinds=OUTPUTS)
    _check_outputs(arrays, run, subject, f"{place} ({subject} of run {run.id})")
    return {split: arrays[split].astype(np.float32) for split in RUN_SPLITS if split in arrays}


def weights(submission: Submission, run: SubmittedRun, subject: Subject) -> dict[str, Tensor]:
    """The state dict of a model: the one whose digest the record has.

    Raises:
        DataError: the file was changed, or holds other weights than those of the record.
        UsageError: the run has no weights.
    """
    name = _file_of(run, run.weights, subject, "weights")
    place = submission.package.place(name)
    data = _digested(submission.package, name, submission.document["files"])
    found = read_weights(data, place, most=MOST_WEIGHTS)
    if tensors_digest(found) != run.record.document["models"][subject][-1]["sha256"]:
        raise DataError("wrong-digest", f"are not the weights of the {subject} model in the record of run {run.id}",
                        where=place)  # fmt: skip
    return found


def _parsed(content: bytes, place: str, schema: str = "") -> Any:
    """A JSON document of a submission.

    Raises:
        DataError: it is none, or is not as its schema wants.
    """
    with _of_data(place):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise UsageError("bad-json", "is not UTF-8") from problem
        if not schema:
            return load_json(text)
        try:
            return read_document(text, schema)
        except UsageError:
            _check_version(load_json(text), schema)  # of another version, it may well be valid there
            raise


def _digested(package: Package, name: str, files: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A file's bytes. Its digest is that of these bytes: whoever reads again may find another file there.

    Raises:
        DataError: they are not the listed ones, or cannot be read.
    """
    content = package.read(name)
    if hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
        raise wrong_file("wrong-digest", "has another sha256 than in $.files", package, name)
    return content


@contextmanager
def _of_data(place: str) -> Iterator[None]:
    """What is wrong with a document of a stranger is an error of data, and its words are printed as such."""
    try:
        yield
    except UsageError as problem:
        where = "".join(f".{part}" for part in problem.where.split(".")[1:])
        raise DataError(
            problem.code,
            printable(problem.message),
            where=f"{place}: {shown('$' + where)}",
            hint=printable(problem.hint),
        ) from problem


def _check_version(document: Any, schema: str) -> None:
    found = document.get("$schema") if isinstance(document, dict) else None
    version = re.fullmatch(rf"{re.escape(BASE)}{schema}/([1-9][0-9]{{0,5}})\.json", str(found))
    if version and version[1] != "1":
        raise UsageError("unknown-schema", f"is a {schema} of version {version[1]}; this program reads version 1",
                         where="$.$schema", hint="install a newer unlearnbench")  # fmt: skip


def _check_date(created: str) -> None:
    """A pattern cannot tell that there is no 31st of February."""
    try:
        datetime.fromisoformat(created)
    except ValueError as problem:
        raise UsageError("bad-value", str(problem), where="$.created", hint="pack it again") from problem


def _check_files(package: Package, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Every file is listed with its size and digest, and the name of a file of tensors is its digest."""
    for name in sorted({*package.files} - {*files, SUBMISSION, STATEMENT, SIGNATURE}):
        raise wrong_file("unexpected-file", f"is not in $.files of {SUBMISSION}", package, name)
    for name, file in files.items():
        if name not in package.files:
            raise wrong_file("missing-file", f"is in $.files of {SUBMISSION} and not there", package, name)
        if package.files[name] != file["bytes"]:
            message = f"has {package.files[name]} bytes, not the {file['bytes']} of $.files"
            raise wrong_file("wrong-digest", message, package, name)
        if not name.startswith("records/") and Path(name).stem != file["sha256"]:
            raise wrong_file("wrong-digest", "is not named by the sha256 in $.files", package, name)
        if not name.startswith("records/") and package.sha256(name) != file["sha256"]:  # records: when they are read
            raise wrong_file("wrong-digest", "has another sha256 than in $.files", package, name)


def _read_run(
    package: Package, files: Mapping[str, Mapping[str, Any]], listed: Mapping[str, Any], position: int
) -> SubmittedRun:
    place = f"{package.place(SUBMISSION)}: $.runs.{position}"
    name = listed["record"]
    if name not in files:
        raise DataError("missing-file", f"{shown(name)} is not in $.files", where=f"{place}.record")
    document = _parsed(_digested(package, name, files), package.place(name), "run-record")
    _check_record(package, name, document)
    _check_ending(package, name, document)
    if listed["id"] != document["id"] or name != f"records/{document['id']}.json":
        message = f"is {shown(listed['id'])} in {shown(name)}, whose record is {shown(document['id'])}"
        raise DataError("wrong-id", message, where=f"{place}.id", hint="id, file and record must have one name")
    if (listed["predictions"] is None) != (document["predictions"] is None):
        raise DataError("missing-predictions", "is null, and in the record it is not, or the other way round",
                        where=f"{place}.predictions", hint="add those of every finished run")  # fmt: skip
    if set(document["models"]) != {*SUBJECTS} and (listed["predictions"] is not None or listed["weights"] is not None):
        raise DataError("bad-value", "the record lacks models", where=f"{package.place(name)}: $.models")
    return SubmittedRun(
        id=document["id"],
        file=name,
        record=Record(document, Path(package.where) / "records"),
        predictions=listed["predictions"],
        weights=listed["weights"],
    )


def _check_record(package: Package, name: str, document: Mapping[str, Any]) -> None:
    """Ids and digests are those of the content; what the schema leaves open is still JSON that RFC 8785 can carry."""
    try:
        canonical_json(document)
    except (ValueError, RecursionError) as problem:
        raise wrong_file("bad-value", printable(str(problem)), package, name) from problem
    if content_digest(document) != document["digest"]:
        raise wrong_file("wrong-digest", "$.digest is not the digest of its content", package, name)
    try:
        spec = RunSpec.from_json(document["spec"])
        resolved = spec.to_json()
    except (UnlearnBenchError, TypeError, ValueError, KeyError) as problem:
        raise wrong_file("bad-value", f"$.spec: {printable(str(problem))}", package, name) from problem
    if resolved != document["spec"]:
        raise wrong_file("bad-value", "$.spec is not resolved as a run resolves it", package, name)
    if [request["kind"] for request in document["requests"]] != [request["kind"] for request in spec.requests]:
        raise wrong_file("bad-value", "$.requests are not those of $.spec", package, name)
    if spec.id != document["spec_id"]:
        raise wrong_file("wrong-digest", "$.spec_id is not the digest of $.spec", package, name)
    if spec.run_id() != document["id"]:
        raise wrong_file("wrong-id", f"$.id is not {shown(spec.run_id())}, which its spec gives", package, name)


def _check_ending(package: Package, name: str, document: Mapping[str, Any]) -> None:
    """A run ended as what the record holds says: without predictions there is nothing that its readings could be of."""
    finished = document["predictions"] is not None
    for part in () if finished else ("measures", "readings", "controls", "certificate", "costs", "stages"):
        if document[part]:
            raise wrong_file("wrong-status", f"$.{part} is not empty, and the run has no predictions", package, name)
    broken = {measure["name"] for measure in document["measures"] if measure["status"] == "failed"}
    for position, reading in enumerate(document["readings"]):
        if reading["measure"] in broken:
            message = f"$.readings.{position} is of a measure whose status is failed in $.measures"
            raise wrong_file("wrong-status", message, package, name)
    finite = all(model["finite"] for found in document["models"].values() for model in found)
    ending = "failed" if not finished or (broken and finite) else "complete" if finite else "diverged"
    if document["status"] != ending:
        message = f"$.status is {document['status']}, and by its models, measures and predictions it is {ending}"
        raise wrong_file("wrong-status", message, package, name)


def _check_runs(package: Package, runs: Sequence[Mapping[str, Any]], files: Mapping[str, Any]) -> None:
    """No run is there twice, and every file belongs to one."""
    seen: set[str] = set()
    for position, run in enumerate(runs):
        if run["id"] in seen:
            raise DataError("duplicate-run", f"{shown(run['id'])} is there twice",
                            where=f"{package.place(SUBMISSION)}: $.runs.{position}.id", hint="leave one")  # fmt: skip
        seen.add(run["id"])
    used = {run["record"] for run in runs}
    for position, run in enumerate(runs):
        for part in ("predictions", "weights"):
            for subject, name in (run[part] or {}).items():
                if name not in files:
                    where = f"{package.place(SUBMISSION)}: $.runs.{position}.{part}.{subject}"
                    raise DataError("missing-file", f"{name} is not in $.files", where=where)
                used.add(name)
    for name in sorted(set(files) - used):
        raise wrong_file("unexpected-file", "belongs to no run", package, name)


def _file_of(run: SubmittedRun, files: Mapping[Subject, str] | None, subject: Subject, what: str) -> str:
    if files is None:
        raise UsageError(
            "no-weights" if what == "weights" else "no-predictions", f"the run has no {what}", where=f"run {run.id}"
        )
    return files[subject]


def _check_outputs(arrays: Mapping[str, np.ndarray[Any, Any]], run: SubmittedRun, subject: Subject, where: str) -> None:
    document = run.record.document
    ref = document["models"][subject][-1]["ref"]
    for split, array in arrays.items():
        if split not in RUN_SPLITS:
            raise _bad(f"has an array {shown(split)!r}, which is no split", where)
        if not array.ndim or not len(array):
            raise _bad(f"{split} has no rows", where)
        of_rows = document["spec"]["task"] not in ("segmentation", "detection")
        if ref is not None and of_rows and array.shape[1:] != (ref["outputs"],):
            raise _bad(f"{split} is of shape {array.shape}, not rows x {ref['outputs']} outputs", where)
        if run.record.status != "diverged" and not np.isfinite(array).all():
            raise _bad(f"{split} has numbers that are not finite, and the run did not diverge", where)
    for split, (least, most) in _rows(document).items():
        rows = len(arrays[split]) if split in arrays else 0
        if not least <= rows <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise _bad(f"{split} has {rows} rows, not the {wanted} of the record", where)


def _rows(document: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """How many rows each split has, at least and at most, as far as a record tells without the data.

    Only where rows are forgotten one request after the other do the forget sets add up; and of the test rows those
    that are like the forgotten ones are left out, where the request says what is like them.
    """
    requests, data = document["requests"], document["data"]
    train, test = data["train"]["rows"], data["test"]["rows"]
    holdout = requests[-1]["holdout"]
    found = {"forget": (1, train), "retain": (0, train), "test": (0, test), "holdout": (holdout, holdout)}
    if all(LEVELS[request["kind"]] == "items" for request in requests):
        forget, retain = sum(request["forget"] for request in requests), requests[-1]["retain"]
        found["forget"], found["retain"] = (forget, forget), (retain, retain)
    if all(request["kind"] == "samples" for request in requests):
        found["test"] = (test, test)
    return found


def _bad(message: str, where: str) -> DataError:
    return DataError("bad-predictions", message, where=where, hint="bundle the run's own predictions")


def wrong_file(code: str, message: str, package: Package, name: str) -> DataError:
    """The error for a file that is not what the submission says of it."""
    return DataError(code, message, where=package.place(name),
                     hint="make the submission again with: unlearnbench leaderboard bundle")  # fmt: skip
