"""Files of data sets: found, downloaded, or reported in one line when they are not what they should be."""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError

from unlearnbench.api.errors import DataError, UnlearnBenchError
from unlearnbench.api.runtime.jobs import DataJob

REASON = 300
"""Characters of a foreign message that fit in one line."""


def require_file(job: DataJob, name: str, hint: str) -> Path:
    """The path of a file below the data folder, recorded by the host as read.

    Raises:
        DataError: the file is not there.
    """
    if not (Path(job.root) / name).is_file():
        raise DataError("missing-file", "is not there", where=name, hint=hint)
    return Path(job.file(name))


@contextmanager
def one_line(code: str, message: str, *, where: str, hint: str, first_cause: bool = False) -> Iterator[None]:
    """Turn whatever a foreign reader raises on bad files into one clear error; our own errors pass.

    With ``first_cause`` the reason is that of the exception at the root, for libraries that wrap what they meet.

    Raises:
        DataError: with this code, and the foreign reason behind the message.
    """
    try:
        yield
    except (UnlearnBenchError, MemoryError):
        raise
    except Exception as problem:
        cause: BaseException = problem
        while first_cause and cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())[:REASON] or type(cause).__name__
        raise DataError(code, f"{message}: {reason}", where=where, hint=hint) from problem


def download(job: DataJob, url: str, folder: str, unpack: Callable[[Path], Mapping[str, bytes]]) -> None:
    """Download a file and put what ``unpack`` makes of it, content by name, into a folder below the data folder.

    For ``fetch`` of data sets alone. The certificate is checked, and a file that arrives shorter than announced is
    refused. Nothing is written to the folder before all of it is there.

    Raises:
        DataError: no connection, or not the file that it should be.
    """
    target = Path(job.root) / folder
    with one_line("fetch-failed", f"{url} cannot be downloaded", where=folder, hint="try again later"):
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target, prefix=".fetch-") as staging:
            arrived = Path(staging) / "arrived"
            try:
                with urllib.request.urlopen(url, timeout=60) as source, arrived.open("wb") as out:  # noqa: S310  the plugin's own address
                    shutil.copyfileobj(source, out)
                    announced = source.headers.get("Content-Length")
            except HTTPError as refused:
                refused.close()  # it holds the connection
                raise
            if announced is not None and arrived.stat().st_size != int(announced):
                raise EOFError(f"{arrived.stat().st_size} of {announced} bytes arrived")
            for name, content in unpack(arrived).items():
                whole = Path(staging) / name
                whole.write_bytes(content)
                whole.replace(target / name)
