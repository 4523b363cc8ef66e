"""Packing: runs become a submission, a folder that is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save

from unlearnbench.api.errors import DataError
from unlearnbench.api.runtime import SUBJECTS, tensors_digest
from unlearnbench.identity import canonical
from unlearnbench.leaderboard.board import Statement
from unlearnbench.leaderboard.compact import Outputs, compact
from unlearnbench.leaderboard.completeness import check_against_suite
from unlearnbench.leaderboard.evidence import SubmittedStages, submitted_stages
from unlearnbench.leaderboard.layout import STATEMENT, SUBMISSION
from unlearnbench.leaderboard.package import Package
from unlearnbench.leaderboard.read import read_submission
from unlearnbench.leaderboard.recompute import compare, from_outputs
from unlearnbench.leaderboard.signing import signer
from unlearnbench.leaderboard.statement import statement_of
from unlearnbench.leaderboard.submission import SCHEMA, Subject, Submission, SubmittedRun
from unlearnbench.leaderboard.suites import Suite
from unlearnbench.leaderboard.tensors import write_tensors
from unlearnbench.record import PREDICTIONS, Record, verify_record
from unlearnbench.registry import Registry, registry
from unlearnbench.schemas import validate
from unlearnbench.store import Store, cannot_write

Progress = Callable[[str], None]
_PHASES = {"original": "train", "gold": "train", "unlearned": "unlearn"}
"""Where the store keeps a model."""


def pack(
    records: Sequence[Record],
    *,
    name: str,
    suite: Suite,
    statement: Statement,
    out: Path,
    weights: Store | None = None,
    key: Path | Literal["sigstore"] | None = None,
    re_attacks: str | None = None,
    attacked: Submission | None = None,
    created: str | None = None,
    components: Registry | None = None,
    progress: Progress = lambda line: None,
) -> Path:
    """Write a submission of these runs; the same runs and the same ``created`` give the same bytes.

    ``weights`` is the store that the models' weights are taken from; without it there are none. ``key`` is a private
    key to sign with, or ``sigstore``. ``re_attacks`` names the submission that these runs attack; ``attacked`` is that
    submission where it is at hand, and then they must be runs of it.

    Raises:
        UsageError: something that the submitters say is not allowed.
        DataError: the output folder is in use or cannot be written, or a run's files are not those of its record.
        UnlearnBenchError: what a verifier would refuse.
    """
    sign = signer(key) if key is not None else None
    stages = submitted_stages(components or registry())
    created = created or datetime.now(UTC).isoformat(timespec="seconds")
    document: dict[str, Any] = {
        "$schema": SCHEMA,
        "name": name,
        "kind": "re-attack" if re_attacks else "results",
        "suite": {"name": suite.name, "sha256": suite.sha256},
        "created": created,
        "statement": _said(statement),
        "re_attacks": re_attacks,
        "plugins": plugins(records),
        "runs": [],
        "files": {},
    }
    records = sorted(records, key=_id)
    _check(document, records, suite, stages, attacked)
    with _whole(out) as folder:
        packing = _Packing(folder, suite, stages, weights)
        for number, record in enumerate(records, 1):
            progress(f"{number} of {len(records)}: {_id(record)}")
            document["runs"].append(packing.add(record))
        progress("")
        document["files"] = dict(sorted(packing.files.items()))
        validate(document, "submission", where=SUBMISSION)
        seal(folder, document)
        _check_written(folder, out)
        if sign is not None:
            sign(folder)
    return out


def seal(folder: Path, document: Mapping[str, Any]) -> None:
    """Write ``submission.json`` and the Statement, which speaks of it too; both are text that a person can read."""
    text = _text(document)
    (folder / SUBMISSION).write_bytes(text)
    digests = {file: found["sha256"] for file, found in document["files"].items()} | {SUBMISSION: _sha256(text)}
    made = statement_of(document["name"], document["suite"]["name"], len(document["runs"]), digests)
    (folder / STATEMENT).write_bytes(_text(made))


def plugins(records: Sequence[Record]) -> list[dict[str, str]]:
    """Every distribution that brought a part of a run, with its version."""
    found = {
        (component["distribution"], component["distribution_version"])
        for record in records
        for component in record.document["components"]
    }
    return [{"distribution": name, "version": version} for name, version in sorted(found)]


@dataclass
class _Packing:
    """A folder that runs are added to; files that runs share are written once."""

    folder: Path
    suite: Suite
    stages: SubmittedStages
    store: Store | None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, record: Record) -> dict[str, Any]:
        """Write what belongs to a run, and say where it lies.

        Raises:
            DataError: a file is not what the record says, or a model is not in the store.
        """
        verify_record(record)
        finished = record.document["predictions"] is not None
        return {
            "id": _id(record),
            "record": self._put(f"records/{_id(record)}.json", canonical(record.document)),
            "predictions": self._predictions(record) if finished else None,
            "weights": self._weights(record) if finished and self.store else None,
        }

    def _predictions(self, record: Record) -> dict[str, str]:
        kept = compact(outputs_of(record), record.document["spec"]["task"], partial(self._wrong, record.document))
        return {subject: self._put_by_content("predictions", write_tensors(kept[subject])) for subject in SUBJECTS}

    def _wrong(self, document: Mapping[str, Any], tried: Outputs) -> set[Subject]:
        """Models with a reading that a verifier would not find in these outputs."""
        read = {s: {split: torch.from_numpy(of).float() for split, of in splits.items()} for s, splits in tried.items()}
        found = compare(document, from_outputs(document, read, self.stages), self.suite.recompute)
        return {subject for reading in found.wrong for subject in SUBJECTS if subject == reading.subject}

    def _weights(self, record: Record) -> dict[str, str]:
        return {subject: self._put_by_content("weights", self._model(record, subject)) for subject in SUBJECTS}

    def _model(self, record: Record, subject: str) -> bytes:
        assert self.store is not None
        described = record.document["models"][subject][-1]
        where = f"{_id(record)}: {subject} model"
        entry = self.store.get(_PHASES[subject], described["key"])
        if entry is None:
            raise DataError("missing-file", f"is not in the store {self.store.root}", where=where,
                            hint="name the store of the run with --store, or pack without --weights")  # fmt: skip
        if not entry.weights or tensors_digest(entry.weights) != described["sha256"]:
            raise DataError("wrong-digest", "the store has other weights than the record says", where=where,
                            hint="run it again, or pack without --weights")  # fmt: skip
        return save({name: tensor.contiguous() for name, tensor in entry.weights.items()})

    def _put_by_content(self, kind: str, content: bytes) -> str:
        return self._put(f"{kind}/{_sha256(content)}.safetensors", content)

    def _put(self, name: str, content: bytes) -> str:
        if name not in self.files:
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            self.files[name] = {"sha256": _sha256(content), "bytes": len(content)}
        return name


def outputs_of(record: Record) -> Outputs:
    """The outputs that a run wrote, by model and split."""
    with np.load(record.folder / PREDICTIONS, allow_pickle=False) as arrays:
        found: dict[Any, dict[str, Any]] = {subject: {} for subject in SUBJECTS}
        for name in arrays.files:
            split, _, what = name.rpartition("/")
            if what in found:
                found[what][split] = arrays[name]
    return found


def _check(
    document: Mapping[str, Any],
    records: Sequence[Record],
    suite: Suite,
    stages: SubmittedStages,
    attacked: Submission | None,
) -> None:
    """Refuse what can be seen before any work is done.

    Raises:
        UsageError: something that the submitters say is not allowed.
        UnlearnBenchError: runs are missing, or are not the suite's.
    """
    validate({**document, "runs": [_ANY_RUN]}, "submission", where=SUBMISSION)
    runs = tuple(SubmittedRun(_id(each), f"records/{_id(each)}.json", each, None, None) for each in records)
    draft = Submission(document, "", Package(str(document["name"]), {}, lambda name: iter(())), runs)
    problems = check_against_suite(draft, suite, stages.registry, stages=stages, attacked=attacked)
    if problems:
        if problems[1:]:
            problems[0].message += f" (the first of {len(problems)} problems)"
        raise problems[0]


_ANY_RUN = {"id": "run", "record": "records/run.json", "predictions": None, "weights": None}
"""What stands for the runs while nothing is packed."""


def _check_written(folder: Path, out: Path) -> None:
    """Read what was written as a verifier does, and call the place by the name that it will have.

    Raises:
        DataError: it would be refused.
    """
    try:
        read_submission(folder)
    except DataError as problem:
        problem.where = problem.where.replace(str(folder), str(out))
        raise


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder that takes its place when all went well, and leaves nothing behind when something did not.

    Raises:
        DataError: there is something in that place, or it cannot be written.
    """
    if out.is_symlink() or (out.exists() and not (out.is_dir() and not any(out.iterdir()))):
        raise DataError("cannot-write", "is there already, and not an empty folder", where=str(out),
                        hint="name a folder that does not exist")  # fmt: skip
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".packing-", dir=out.parent))
        # Inside it under its own name: signatures say what the folder was called.
        folder = temporary / out.name
        folder.mkdir()
        yield folder
        folder.replace(out)
    except OSError as problem:
        raise cannot_write(out, problem) from problem
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _said(statement: Statement) -> dict[str, Any]:
    return {
        "authors": list(statement.authors),
        "paper": statement.paper,
        "licence": statement.licence,
        "tuning": {"access": statement.access, "settings": statement.settings},
        "notes": statement.notes,
    }


def _id(record: Record) -> str:
    return str(record.document["id"])


def _text(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
