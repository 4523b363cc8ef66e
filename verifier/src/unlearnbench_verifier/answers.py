"""Points that go to whoever serves a model, and the answers that come back: over HTTP, or as files."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from unlearnbench_verifier.files import MOST_BYTES, load_json, read_bytes
from unlearnbench_verifier.findings import Refusal, Unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Answers = NDArray[np.float64] | NDArray[np.int64]

TIMEOUT_S = 30.0
ASKED = '{"inputs": [[...], ...]}'
ANSWERED = '{"outputs": [[...], ...]} or {"labels": [...]}'


def ask(place: str, points: NDArray[np.float32]) -> Answers:
    """What a server, or a file, answers to points [k, features].

    A server is asked once, by POST of ``{"inputs": [[...], ...]}`` with a row of features for each point, and answers
    ``{"outputs": [[...], ...]}`` or ``{"labels": [...]}`` in 30 s and 64 MiB; it is followed nowhere else. A file holds
    the same JSON, or an array as .npy.

    Returns:
        Outputs [k, outputs] in float64, or labels [k] in int64.

    Raises:
        Refusal: no answer came (no-answer), or one that is none to these points (bad-answers).
        Unreadable: the file is not there or cannot be read.
    """
    if "://" not in place:
        answers = _read(Path(place))
    elif place.lower().startswith(("http://", "https://")):
        answers = _parsed(_posted(place, points), place)
    else:
        raise Refusal("bad-url", "is neither http nor https", where=place, hint="name a server, or a file of answers")
    if len(answers) != len(points):
        raise _bad(f"answers {len(answers)} points of {len(points)}", place)
    return answers


def write_points(path: Path, points: NDArray[np.float32]) -> None:
    """Write points [k, features] to a .npy file, or as the JSON that a server is asked with; whole or not at all.

    Raises:
        Refusal: the name ends otherwise (bad-output), or the file cannot be written (cannot-write).
    """
    if path.suffix not in (".npy", ".json"):
        raise Refusal("bad-output", "ends neither in .npy nor in .json", where=str(path), hint="name such a file")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            try:
                _write(file, points, as_json=path.suffix == ".json")
                file.close()
                Path(file.name).chmod(0o644)
                Path(file.name).replace(path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as problem:
        raise Refusal("cannot-write", problem.strerror or str(problem), where=str(path),
                      hint="choose a folder that can be written") from problem  # fmt: skip


def _write(file: IO[bytes], points: NDArray[np.float32], *, as_json: bool) -> None:
    if as_json:
        file.write(_asked(points))
    else:
        np.save(file, points, allow_pickle=False)


def _asked(points: NDArray[np.float32]) -> bytes:
    """A float32 is written as the float64 that it is, so that a server that reads float32 has the very same."""
    return json.dumps({"inputs": points.astype(np.float64).tolist()}, allow_nan=False).encode()


class _Stays(urllib.request.HTTPRedirectHandler):
    """Follows nobody: the server that was named is the one that is asked."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _posted(url: str, points: NDArray[np.float32]) -> bytes:
    """The body of the answer."""
    ends = time.monotonic() + TIMEOUT_S
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        # http and https alone come here; the handlers for files and ftp are never asked.
        request = urllib.request.Request(url, data=_asked(points), headers=headers, method="POST")  # noqa: S310
        with urllib.request.build_opener(_Stays).open(request, timeout=TIMEOUT_S) as response:
            found = bytearray()
            while part := response.read1(1 << 16):  # whatever has come, so that trickling bytes meet the deadline
                found += part
                if len(found) > MOST_BYTES:
                    raise _bad(f"answers with more than {MOST_BYTES >> 20} MiB", url)
                if time.monotonic() > ends:
                    raise TimeoutError
            promised = response.headers.get("Content-Length", "")
            if promised.isdecimal() and int(promised) != len(found):
                raise _silent("stops in the middle of its answer", url)
            return bytes(found)
    except urllib.error.HTTPError as problem:
        problem.close()
        raise _silent(f"answers {problem.code} {problem.reason}", url) from problem
    except TimeoutError as problem:
        raise _silent(f"does not answer in {TIMEOUT_S:g} s", url) from problem
    except urllib.error.URLError as problem:
        late = isinstance(problem.reason, TimeoutError)
        what = f"does not answer in {TIMEOUT_S:g} s" if late else f"cannot be reached: {problem.reason}"
        raise _silent(what, url) from problem
    except (OSError, ValueError, http.client.HTTPException) as problem:
        raise _silent(f"cannot be asked: {str(problem)[:200] or type(problem).__name__}", url) from problem


def _read(path: Path) -> Answers:
    """Answers that were written down."""
    if path.suffix == ".json":
        return _parsed(read_bytes(path, MOST_BYTES), str(path))
    if path.suffix != ".npy":
        raise Refusal("bad-answers", "is neither a .npy nor a .json file", where=str(path),
                      hint="name such a file, or a server by http:// or https://")  # fmt: skip
    if not path.is_file():
        raise Unreadable("no-file", "is no file", where=str(path), hint="give the path of a file")
    try:
        # Mapped, so that a header which promises terabytes is held against the length of the file and not allocated.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, MemoryError, SyntaxError) as problem:
        raise Unreadable("bad-answers", f"is no .npy array: {problem}", where=str(path)) from problem
    if not isinstance(found, np.ndarray):
        found.close()
        raise _bad("holds several arrays", str(path))
    return _array(found, str(path))


def _parsed(body: bytes, place: str) -> Answers:
    """Answers in JSON."""
    found = load_json(body, where=place)
    if not isinstance(found, dict) or ("outputs" in found) == ("labels" in found):
        raise _bad("says neither outputs nor labels, or both", place)
    values = found.get("outputs", found.get("labels"))
    if not isinstance(values, list):
        raise _bad("has answers that are no list", place)
    if "labels" in found:
        if not all(type(value) is int for value in values):
            raise _bad("has labels that are no whole numbers", place)
        return np.array(values, dtype=np.int64)
    if not all(isinstance(row, list) and all(type(value) in (int, float) for value in row) for row in values):
        raise _bad("has outputs that are no rows of numbers", place)
    if len({len(row) for row in values}) > 1:
        raise _bad("has outputs of different lengths", place)
    return np.array(values, dtype=np.float64).reshape(len(values), len(values[0]) if values else 0)


def _array(found: NDArray[Any], place: str) -> Answers:
    """Answers in an array: labels if it has one axis and whole numbers, outputs if it has two."""
    if found.ndim == 1 and found.dtype.kind in "iu":
        return found.astype(np.int64)
    if found.ndim == 2 and found.dtype.kind == "f":
        return found.astype(np.float64)
    raise _bad(f"is an array of {found.dtype} {list(found.shape)}", place)


def _bad(what: str, place: str) -> Refusal:
    return Refusal("bad-answers", what, where=place, hint=f"the answer is {ANSWERED} for all points, in their order")


def _silent(what: str, url: str) -> Refusal:
    return Refusal("no-answer", what, where=url, hint=f"a server is asked by POST of {ASKED} and answers {ANSWERED}")
