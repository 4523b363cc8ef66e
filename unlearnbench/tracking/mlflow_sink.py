"""The MLflow log of runs: written from records alone, so that it can be rebuilt from them at any time.

An experiment is a scenario, its parent runs are invocations, their children are records. What a child shows is derived
from the validated record; nothing is ever read back from MLflow but which records are there.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearnbench.api.errors import CheckFailed
from unlearnbench.tracking.entities import artifacts, run_params, run_points, run_tags
from unlearnbench.tracking.labels import experiment_name, seed_label

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from unlearnbench.record import Record

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], Any] | None]]

# MLflow refuses larger batches.
BATCH = 100
MAX_METRICS = 1000
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SWITCHES = ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT")


def tracking_uri(out: Path) -> str:
    """``MLFLOW_TRACKING_URI`` where it is set, else a SQLite file in the folder of the records."""
    file = (out.absolute() / "mlflow.db").as_posix().replace("%", "%25").replace("?", "%3F")
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{file}"


@dataclass(frozen=True)
class SyncResult:
    """What a sync did: records that it logged, and records that were there already."""

    added: int
    skipped: int
    uri: str


@dataclass
class _Child:
    """A record's run. ``digest`` is None as long as not everything is logged."""

    run_id: str
    digest: str | None


@dataclass
class _Group:
    """The runs of one invocation in one experiment."""

    experiment: str
    parent: str | None = None
    children: dict[str, _Child] = field(default_factory=dict)
    failed: bool = False
    ended: int = 0
    """Milliseconds; 0 until this sink has written a child."""


class MlflowSink:
    """Logs the records of one invocation. Nothing is imported or opened before the first record comes.

    ``out`` is the folder of the records; stores that are a database keep their artifacts there, in ``mlartifacts``.
    """

    def __init__(self, out: Path, invocation: str, uri: str | None = None) -> None:
        self.out = out
        self.invocation = invocation
        self.uri = uri or tracking_uri(out)
        self._connection: MlflowClient | None = None
        self._groups: dict[str, _Group] = {}
        self._broken = False

    def log(self, record: Record) -> None:
        """Log a record, below the parent run of its experiment.

        Raises:
            CheckFailed: MLflow cannot be reached or fails on the way; the record is not touched.
        """
        self.add(record)

    def add(self, record: Record) -> bool:
        """Log a record unless it is there; what was logged by halves is completed. Says whether anything was written.

        Raises:
            CheckFailed: as for ``log``.
        """
        document = record.document
        if document["invocation"] != self.invocation:
            raise ValueError("the record belongs to another invocation")
        try:
            group = self._group(experiment_name(document))
            group.failed |= record.status != "complete"
            known = group.children.get(document["id"])
            if known is not None and known.digest == document["digest"]:
                return False
            self._write(record, group)
        except Exception as problem:
            self._broken = True
            with suppress(CheckFailed):
                self.close()
            raise self._failure(problem, f"; the record is kept: {record.path}") from problem
        return True

    def close(self, *, failed: bool = False) -> None:
        """End the parent runs: FAILED if asked for, if a record is not complete or if logging one failed.

        Raises:
            CheckFailed: MLflow cannot be reached any more.
        """
        try:
            for group in self._groups.values():
                if group.parent is not None and group.ended:
                    status = "FAILED" if failed or self._broken or group.failed else "FINISHED"
                    self._client.set_terminated(group.parent, status, group.ended)
        except Exception as problem:
            raise self._failure(problem, "; all records are kept") from problem

    @property
    def _client(self) -> MlflowClient:
        if self._connection is None:
            self._connection = connect(self.uri)
        return self._connection

    def _group(self, experiment: str) -> _Group:
        if experiment not in self._groups:
            group = _Group(self._experiment(experiment))
            for tags, run_id in self._runs(group.experiment):
                if "ub.run" in tags:
                    group.children[tags["ub.run"]] = _Child(run_id, tags.get("ub.record_digest"))
                    group.failed |= tags.get("ub.status", "complete") != "complete"
                else:
                    group.parent = run_id
            self._groups[experiment] = group
        return self._groups[experiment]

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        from unlearnbench.record import MLFLOW_COPIES

        found = self._client.get_experiment_by_name(name)
        if found is None:
            # A server has its own place for artifacts; for a database MLflow would take the working folder.
            place = (self.out.absolute() / MLFLOW_COPIES).as_uri() if _is_database(self.uri) else None
            try:
                return self._client.create_experiment(name, artifact_location=place)
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:  # nobody else made it in the meantime, so the error was real
                    raise
        return str(found.experiment_id)

    def _runs(self, experiment: str) -> Iterator[tuple[Mapping[str, str], str]]:
        wanted, token = f"tags.`ub.invocation` = '{self.invocation}'", None
        while True:
            page = self._client.search_runs([experiment], wanted, max_results=1000, page_token=token)
            yield from ((run.data.tags, run.info.run_id) for run in page)
            token = page.token
            if not token:
                return

    def _parent(self, group: _Group, started: int) -> str:
        if group.parent is None:
            label = self.invocation[:8]
            tags = {"ub.invocation": self.invocation, "mlflow.note.content": "The runs of one call, as children."}
            run = self._client.create_run(group.experiment, started, tags, run_name=f"invocation {label}")
            group.parent = run.info.run_id
        return group.parent

    def _write(self, record: Record, group: _Group) -> None:
        document, created = record.document, _milliseconds(record.document["created"])
        # A record says when it was made; how long its phases took stands in the costs, so start and end are the same.
        group.ended = max(group.ended, created)
        child = group.children.get(document["id"])
        if child is None or child.digest is not None:
            tags = {"mlflow.parentRunId": self._parent(group, created), "ub.invocation": self.invocation}
            tags["ub.run"] = document["id"]
            name = f"{record.unlearner} seed {seed_label(document)}"
            run = self._client.create_run(group.experiment, created, tags, run_name=name)
            child = group.children[document["id"]] = _Child(run.info.run_id, None)
        try:
            self._log_entities(child.run_id, record, created)
            for path in artifacts(record):
                self._client.log_artifact(child.run_id, str(path))
            status = "FAILED" if record.status == "failed" else "FINISHED"
            self._client.set_terminated(child.run_id, status, created)
            # The digest comes last: a run without it is taken up again by the next sync.
            self._client.set_tag(child.run_id, "ub.record_digest", document["digest"])
        except BaseException:
            with suppress(Exception):
                self._client.set_terminated(child.run_id, "FAILED", created)
            raise
        child.digest = document["digest"]

    def _log_entities(self, run_id: str, record: Record, created: int) -> None:
        from mlflow.entities import Metric, Param, RunTag

        params, long = run_params(record)
        tags = run_tags(record)
        tags.update({f"ub.by_digest.{name}": "longer than MLflow keeps; see record.json" for name in long})
        metrics = [Metric(point.name, point.value, created, point.step) for point in run_points(record)]
        for part in _batches(metrics, MAX_METRICS):
            self._client.log_batch(run_id, metrics=part, synchronous=True)
        for params_part in _batches([Param(key, value) for key, value in params.items()], BATCH):
            self._client.log_batch(run_id, params=params_part, synchronous=True)
        for tags_part in _batches([RunTag(key, value) for key, value in tags.items()], BATCH):
            self._client.log_batch(run_id, tags=tags_part, synchronous=True)

    def _failure(self, problem: Exception, kept: str) -> CheckFailed:
        return CheckFailed(
            "tracking-failed",
            without_password(f"MLflow failed: {cause(problem)}{kept}"),
            where=without_password(self.uri),
            hint=f"repeat it with `unlearnbench tracking sync {self.out}`",
        )


def sync(records: Iterable[Record], out: Path, uri: str | None = None, progress: Progress | None = None) -> SyncResult:
    """Log every record that is not in MLflow yet. Running it twice changes nothing.

    Raises:
        CheckFailed: MLflow cannot be reached or fails on the way; the next sync goes on from there.
    """
    ordered = sorted(records, key=lambda record: (record.document["created"], record.document["id"]))
    sinks: dict[str, MlflowSink] = {}
    added = 0
    with (progress or _silent)("logging to MLflow", len(ordered)) as advance:
        try:
            for record in ordered:
                invocation = record.document["invocation"]
                added += sinks.setdefault(invocation, MlflowSink(out, invocation, uri)).add(record)
                if advance is not None:
                    advance(1)
        finally:
            for sink in sinks.values():
                sink.close()
    return SyncResult(added, len(ordered) - added, uri or tracking_uri(out))


def _silent(label: str, total: int) -> AbstractContextManager[None]:
    return nullcontext(None)


def connect(uri: str) -> MlflowClient:
    """A client for a store, with telemetry off, short timeouts and nothing printed.

    The first use of a new database creates its tables, which takes some seconds.
    """
    # MLflow reads these when it is imported.
    os.environ.update(dict.fromkeys(SWITCHES, "true"))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if _is_database(uri):
        _open_once(uri)
    return MlflowClient(uri)


def _open_once(uri: str) -> None:
    """Open a database once: MLflow itself tries ten times, for more than a minute, before it says what is wrong."""
    import sqlalchemy

    place = sqlalchemy.make_url(uri)
    if place.get_backend_name() == "sqlite" and place.database:
        Path(place.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(place)
    try:
        sqlalchemy.inspect(engine)
    finally:
        engine.dispose()


def _is_database(uri: str) -> bool:
    return uri.partition(":")[0].partition("+")[0] in DATABASES


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    yield from (items[start : start + size] for start in range(0, len(items), size))


def _milliseconds(created: str) -> int:
    return round(datetime.fromisoformat(created).timestamp() * 1000)


def cause(problem: BaseException) -> str:
    """One line: what the operating system said if it said anything, else the first line of the error itself."""
    step: BaseException | None = problem
    while step is not None:
        if isinstance(step, OSError) and step.strerror:
            return f"{step.strerror} ({step.filename})" if step.filename else step.strerror
        step = step.__cause__ or (None if step.__suppress_context__ else step.__context__)
    text = str(problem).strip() or type(problem).__name__
    return text.splitlines()[0][:200]


def without_password(text: str) -> str:
    """What may be printed of an address."""
    return re.sub(r"//[^/@\s]+@", "//***@", text)
