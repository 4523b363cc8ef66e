"""The files of a submission, in a folder or a zip archive: allowed names, plain files, bounded in all ways."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unlearnbench.api.errors import DataError
from unlearnbench.leaderboard import archive
from unlearnbench.leaderboard.archive import CHUNK, Member
from unlearnbench.leaderboard.layout import FOLDERS, SIGNATURE, STATEMENT, SUBMISSION
from unlearnbench.plugins import printable

ALLOWED = re.compile(
    rf"{re.escape(SUBMISSION)}|{re.escape(STATEMENT)}|{re.escape(SIGNATURE)}"
    r"|records/[A-Za-z0-9][A-Za-z0-9._+-]{0,206}\.json|(predictions|weights)/[0-9a-f]{64}\.safetensors"
)
PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,100}/")
MOST_FILES = 20_000
MOST_BYTES = 2 * 2**30
MOST_JSON_BYTES = 8 * 2**20
"""A record has about 100 KB, and the list of 20,000 files 4 MB."""
MOST_RECORDS_BYTES = 128 * 2**20
"""All records together, which are kept in memory as Python's objects, each many times as large as its text."""
MOST_TENSOR_BYTES = 512 * 2**20
MOST_RATIO = 200
FREE_BYTES = 8 * 2**20
"""What may be packed as well as it can: outputs of a model that diverged are all the same."""


@dataclass(frozen=True)
class Package:
    """Files by name, with their sizes; ``where`` is the place that errors name."""

    where: str
    files: Mapping[str, int]
    _chunks: Callable[[str], Iterator[bytes]] = field(repr=False, compare=False)

    def place(self, name: str) -> str:
        """What errors call a file."""
        return f"{self.where}/{shown(name)}"

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file, piece by piece, exactly as many as were listed.

        Raises:
            DataError: there is no such file, it cannot be read, or it has changed.
        """
        if name not in self.files:
            raise DataError("missing-file", "is not in the submission", where=self.place(name), hint="add it")
        return self._chunks(name)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            DataError: as ``chunks``.
        """
        return b"".join(self.chunks(name))

    def sha256(self, name: str) -> str:
        """The digest of a file.

        Raises:
            DataError: as ``chunks``.
        """
        found = hashlib.sha256()
        for chunk in self.chunks(name):
            found.update(chunk)
        return found.hexdigest()


def open_package(path: Path) -> Package:
    """List the files of a folder or a zip archive; nothing of their content is read.

    Raises:
        DataError: it is neither, or has what a submission may not have.
    """
    where = printable(str(path))
    if path.is_dir():
        return _open_folder(path, where)
    if path.is_file():
        return _open_archive(path, where)
    raise DataError("missing-file", "no such folder or zip archive", where=where, hint="check the path")


def shown(name: str) -> str:
    """A name of a stranger, short and in one line."""
    plain = printable(name)
    return plain if len(plain) <= 120 else plain[:117] + "..."


def _open_folder(path: Path, where: str) -> Package:
    found: list[tuple[str, int]] = []
    try:
        for name, status in _walk(path):
            if name in FOLDERS:
                if not stat.S_ISDIR(status.st_mode):
                    raise _not_plain(name, where)
                continue
            _check_name(name, where)
            if not stat.S_ISREG(status.st_mode):
                raise _not_plain(name, where)
            found.append((name, status.st_size))
            _check_count(len(found), where)
    except OSError as problem:
        raise _unreadable(problem, where) from problem
    files = _checked(found, where)

    def chunks(name: str) -> Iterator[bytes]:
        place = f"{where}/{shown(name)}"
        try:
            yield from _of_file(path, name, files[name], place)
        except OSError as problem:
            raise _unreadable(problem, place) from problem

    return Package(where, files, chunks)


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Names and what lies there, without following links; only the folders of a submission are entered."""
    for folder in ("", *FOLDERS):
        if folder and not stat.S_ISDIR(_status(root / folder)):
            continue
        with os.scandir(root / folder) as entries:
            for entry in entries:
                yield "/".join(filter(None, [folder, entry.name])), entry.stat(follow_symlinks=False)


def _status(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _of_file(root: Path, name: str, size: int, place: str) -> Iterator[bytes]:
    """A file's bytes. Each step is taken from the folder before it and follows no link, whatever was swapped since."""
    opened = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        *folders, last = name.split("/")
        for folder in folders:
            opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=opened[-1]))
        # Without O_NONBLOCK, to open a pipe would wait for somebody to write.
        handle = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=opened[-1])
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size:
                raise _changed(place)
            left = size
            while left and (chunk := file.read(min(left, CHUNK))):
                left -= len(chunk)
                yield chunk
            if left or file.read(1):
                raise _changed(place)
    finally:
        for each in opened:
            os.close(each)


def _open_archive(path: Path, where: str) -> Package:
    found = archive.members(path, where)
    _check_count(sum(not member.folder for member in found), where)
    prefix = _prefix(found)
    by_name: dict[str, Member] = {}
    listed: list[tuple[str, int]] = []
    for member in found:
        inside = member.name.startswith(prefix)
        name = member.name.removeprefix(prefix)
        if inside and member.folder and member.plain and name in ("", *(f"{folder}/" for folder in FOLDERS)):
            continue
        _check_name(name, where, member.name, inside=inside)
        if not member.plain:
            raise _not_plain(name, where)
        listed.append((name, member.size))
        by_name[name] = member
        _check_ratio(member.size, member.packed, f"{where}/{shown(name)}")
    files = _checked(listed, where)
    _check_ratio(sum(files.values()), sum(member.packed for member in found), where)

    def chunks(name: str) -> Iterator[bytes]:
        place = f"{where}/{shown(name)}"
        try:
            yield from archive.content(path, by_name[name], place)
        except OSError as problem:
            raise _unreadable(problem, place) from problem

    return Package(where, files, chunks)


def _prefix(members: Iterable[Member]) -> str:
    """The one folder that all lies in, as people zip folders; empty where ``submission.json`` lies at the top."""
    names = [member.name for member in members]
    if SUBMISSION in names:
        return ""
    folders = (name.removesuffix(SUBMISSION) for name in names if name.endswith("/" + SUBMISSION))
    return next((folder for folder in folders if PREFIX.fullmatch(folder)), "")


def _check_name(name: str, where: str, given: str = "", *, inside: bool = True) -> None:
    if inside and ALLOWED.fullmatch(name):
        return
    given = given or name
    place = f"{where}/{shown(given)}"
    climbs = ".." in re.split(r"[/\\]", given) or given.startswith("/")
    if climbs or "\\" in given or ":" in given or not given.isprintable():
        raise DataError("unsafe-name", "leads out of the submission or is no plain name", where=place,
                        hint="make the submission with: unlearnbench leaderboard bundle")  # fmt: skip
    raise DataError("unexpected-file", "is no file of a submission", where=place,
                    hint=f"leave only {SUBMISSION}, {STATEMENT}, {SIGNATURE} and {', '.join(FOLDERS)}")  # fmt: skip


def _checked(found: list[tuple[str, int]], where: str) -> dict[str, int]:
    """The files by name, once their names and sizes are found to be in order."""
    files: dict[str, int] = {}
    folded: dict[str, str] = {}
    for name, size in sorted(found):
        if name.casefold() in folded:
            other = folded[name.casefold()]
            message = "is there twice" if other == name else f"differs from {shown(other)} only by case"
            raise DataError("duplicate-file", message, where=f"{where}/{shown(name)}", hint="leave one of the two")
        folded[name.casefold()] = name
        most = MOST_TENSOR_BYTES if name.endswith(".safetensors") else MOST_JSON_BYTES
        if size > most:
            raise _too_large(f"has {size} bytes; {most >> 20} MiB are allowed", f"{where}/{shown(name)}")
        files[name] = size
    total = sum(files.values())
    if total > MOST_BYTES:
        raise _too_large(f"has {total} bytes in all; {MOST_BYTES >> 20} MiB are allowed", where)
    records = sum(size for name, size in files.items() if name.startswith("records/"))
    if records > MOST_RECORDS_BYTES:
        raise _too_large(f"has records of {records} bytes; {MOST_RECORDS_BYTES >> 20} MiB are allowed", where)
    if SUBMISSION not in files:
        raise DataError("missing-file", f"has no {SUBMISSION}", where=where,
                        hint="name the folder that bundle wrote")  # fmt: skip
    return files


def _check_count(files: int, where: str) -> None:
    if files > MOST_FILES:
        raise _too_large(f"has more than {MOST_FILES} files", where)


def _check_ratio(size: int, packed: int, where: str) -> None:
    if size > FREE_BYTES and size > MOST_RATIO * packed:
        raise _too_large(f"grows more than {MOST_RATIO} times when it is unpacked", where)


def _too_large(message: str, where: str) -> DataError:
    return DataError("too-large", message, where=where, hint="split the submission, or leave out the weights")


def _not_plain(name: str, where: str) -> DataError:
    return DataError("not-a-plain-file", "is a link, a folder or a device", where=f"{where}/{shown(name)}",
                     hint="put the file itself there")  # fmt: skip


def _changed(place: str) -> DataError:
    return DataError("unreadable-file", "changed while it was read", where=place, hint="try again when nobody writes")


def _unreadable(problem: OSError, where: str) -> DataError:
    return DataError("unreadable-file", problem.strerror or "cannot be read", where=where)
