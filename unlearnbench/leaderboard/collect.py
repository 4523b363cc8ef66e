"""Records from an MLflow server: nothing of it is trusted beyond what a record says of itself.

Only runs that carry the name of a record are looked at, of each only the artifact ``record.json``. Over HTTP its bytes
are asked for by the name of the run, from the server that was named and from no other, and never more than a record may
have; of a database, whose artifacts lie in folders, only files below the folder of the run are read. The folders that
are written are named after what was checked, not after what the server says.
"""

from __future__ import annotations

import os
import re
import stat
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from unlearnbench.api.errors import CheckFailed, DataError, UnlearnBenchError
from unlearnbench.plugins import printable
from unlearnbench.record import RECORD, content_digest
from unlearnbench.schemas import MAX_BYTES, read_document
from unlearnbench.store import cannot_write
from unlearnbench.tracking.mlflow_sink import cause, connect, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 200
MOST_RUNS = 100_000
TIMEOUT = 30.0
DEADLINE = 120.0

_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}", re.ASCII)
_RUN_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True)
class CollectResult:
    """Folders of the records that were written, and what is wrong with the runs that were left out."""

    records: tuple[Path, ...]
    problems: tuple[UnlearnBenchError, ...]


def collect(uri: str, folder: Path) -> CollectResult:
    """Write the record of every run of a server or database into ``folder/RUN/record.json``.

    A run that was logged twice is taken once, the later one where they differ. What is not a valid record is left out
    and said.

    Raises:
        CheckFailed: MLflow cannot be reached or fails on the way.
        DataError: the folder cannot be written.
    """
    try:
        client = connect(uri)
        runs = list(_runs(client))
    except Exception as problem:
        raise _failure(uri, problem) from problem
    written: dict[str, tuple[str, Path]] = {}
    problems: list[UnlearnBenchError] = []
    for run in runs:
        where = f"run {printable(str(run.info.run_id))[:40]}"
        try:
            content = _artifact(uri, run, where)
            document = _checked(content, run, where)
        except UnlearnBenchError as problem:
            problems.append(problem)
            continue
        name, created = str(document["id"]), str(document["created"])
        if name not in written or written[name][0] < created:
            written[name] = (created, _write(folder / name, content))
    return CollectResult(tuple(path for _, (_, path) in sorted(written.items())), tuple(problems))


def _runs(client: MlflowClient) -> Iterator[Run]:
    """Every run that carries the name of a record, whatever became of it."""
    experiments, token = [], None
    while True:
        page = client.search_experiments(max_results=PAGE, page_token=token)
        experiments += [str(experiment.experiment_id) for experiment in page]
        token = page.token
        if not token or len(experiments) > MOST_RUNS:
            break
    seen = 0
    for experiment in sorted(experiments):
        token = None
        while True:
            # Not all stores can ask whether a tag is there.
            found = client.search_runs([experiment], max_results=PAGE, page_token=token)
            yield from (run for run in found if "ub.run" in run.data.tags)
            seen += len(found)
            token = found.token
            if not token or seen > MOST_RUNS:
                break


def _artifact(uri: str, run: Run, where: str) -> bytes:
    if not _RUN_ID.fullmatch(str(run.info.run_id)):
        raise DataError("bad-value", "is no id of a run", where=where)
    if uri.startswith(("http://", "https://")):
        content = _downloaded(uri, str(run.info.run_id), where)
    else:
        content = _read_local(str(run.info.artifact_uri or ""), where)
    if len(content) > MAX_BYTES:
        raise DataError("bad-json", f"{RECORD} is larger than {MAX_BYTES >> 20} MiB", where=where)
    return content


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: they may lead to files and to servers that nobody named."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _downloaded(uri: str, run_id: str, where: str) -> bytes:
    query = urllib.parse.urlencode({"path": RECORD, "run_uuid": run_id})
    place = urllib.parse.urlsplit(uri)
    address = urllib.parse.urlunsplit(place._replace(netloc=place.netloc.rpartition("@")[2], query="", fragment=""))
    request = urllib.request.Request(f"{address.rstrip('/')}/get-artifact?{query}")  # noqa: S310 - http or https
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    name = place.username or os.environ.get("MLFLOW_TRACKING_USERNAME")
    word = place.password or os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    elif name and word:
        import base64

        pair = base64.b64encode(f"{urllib.parse.unquote(name)}:{urllib.parse.unquote(word)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {pair}")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT) as answer:
            return _bounded(answer, where)
    except (OSError, ValueError, urllib.error.URLError) as problem:
        raise DataError(
            "missing-file", f"{RECORD} cannot be read: {printable(cause(problem))}", where=where
        ) from problem


def _bounded(stream: IO[bytes], where: str) -> bytes:
    """What a server sends, up to one byte more than a record may have; it may not take for ever over it."""
    end, content = monotonic() + DEADLINE, bytearray()
    while len(content) <= MAX_BYTES and (part := stream.read(65_536)):
        content += part
        if monotonic() > end:
            raise DataError("missing-file", f"{RECORD} did not come within {DEADLINE:.0f} s", where=where)
    return bytes(content[: MAX_BYTES + 1])


def _read_local(artifacts: str, where: str) -> bytes:
    """The record in the folder of a run's artifacts; a link in it leads nowhere."""
    place = urllib.parse.urlsplit(artifacts)
    if place.scheme not in ("", "file") or place.netloc or not place.path:
        raise DataError("bad-value", "its artifacts are in no folder of this machine", where=where,
                        hint="name the server that keeps them, not its database")  # fmt: skip
    path = Path(urllib.request.url2pathname(place.path)) / RECORD
    try:
        # Without waiting: a pipe without a writer would hold the reader for ever.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(os.open(path, flags), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DataError("missing-file", f"{RECORD} is no file", where=where)
            return stream.read(MAX_BYTES + 1)
    except OSError as problem:
        raise DataError("missing-file", f"{RECORD} cannot be read: {cause(problem)}", where=where) from problem


def _checked(content: bytes, run: Run, where: str) -> dict[str, Any]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError("bad-json", f"{RECORD} is not UTF-8", where=where) from problem
    document: dict[str, Any] = read_document(text, "run-record", where=where)
    name = str(document["id"])
    if not _RUN_NAME.fullmatch(name) or name != run.data.tags["ub.run"]:
        raise DataError("wrong-id", f"{RECORD} is of another run: {printable(name)[:80]}", where=where)
    try:
        found = content_digest(document)
    except ValueError as problem:
        raise DataError("bad-value", printable(str(problem)), where=where) from problem
    if found != document["digest"]:
        raise DataError("wrong-digest", "its digest does not match its content", where=where, hint="it was changed")
    return document


def _write(folder: Path, content: bytes) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_bytes(content)
    except OSError as problem:
        raise cannot_write(folder, problem) from problem
    return folder


def _failure(uri: str, problem: Exception) -> CheckFailed:
    return CheckFailed(
        "tracking-failed",
        without_password(f"MLflow failed: {printable(cause(problem))}"),
        where=without_password(printable(uri)),
        hint="see that the server runs and can be reached",
    )
