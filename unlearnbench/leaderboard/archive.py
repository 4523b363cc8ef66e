"""Zip archives of strangers, read strictly: plain members, stored or deflated, each in one place and of one size.

Archives that say a thing twice can say it differently: the directory and the members, the sizes and the bytes. What
would need a choice between the two is refused (APPNOTE 6.3.10, sections 4.3.7 to 4.3.16; Zip64 is not needed here).
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from unlearnbench.api.errors import DataError
from unlearnbench.plugins import printable

CHUNK = 2**16
MOST_DIRECTORY_BYTES = 8 * 2**20
"""What the directory may take: names of a submission are short, and there are at most 20,000 of them."""
END = struct.Struct("<4s4H2LH")
ENTRY = struct.Struct("<4s6H3L5H2L")
HEADER = struct.Struct("<4s5H3L2H")
ENCRYPTED = 0x1 | 0x40 | 0x2000
STORED, DEFLATED = 0, 8
FOLDER = 0x10


@dataclass(frozen=True)
class Member:
    """One entry of the directory; ``folder`` entries have no content."""

    name: str
    size: int
    packed: int
    crc: int
    method: int
    start: int
    folder: bool
    plain: bool


def members(path: Path, where: str) -> list[Member]:
    """The entries of an archive, in its order.

    Raises:
        DataError: it is no zip archive, or one that different readers could read differently.
    """
    try:
        with path.open("rb") as file:
            found = list(_entries(_directory(file, where), where))
    except OSError as problem:
        raise DataError("unreadable-file", problem.strerror or "cannot be read", where=where) from problem
    for one, other in pairwise(sorted(found, key=lambda member: member.start)):
        if one.start + HEADER.size + len(one.name) + one.packed > other.start:
            raise refused(f"{printable(one.name)!r} and {printable(other.name)!r} share bytes", where)
    return found


def content(path: Path, member: Member, where: str) -> Iterator[bytes]:
    """The bytes of a member in chunks, never more than it declares.

    Raises:
        DataError: the header, the number of bytes or the checksum is not that of the directory.
    """
    size, crc = 0, 0
    for chunk in _inflated(path, member, where):
        size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        if size > member.size:
            raise refused(f"has more than the {member.size} bytes that are declared", where)
        yield chunk
    if size != member.size:
        raise refused(f"has {size} bytes, not the {member.size} that are declared", where)
    if crc != member.crc:
        raise refused("has another checksum than is declared", where)


def refused(message: str, where: str) -> DataError:
    """The error for an archive that is not read."""
    return DataError("bad-archive", message, where=where, hint="zip the folder again with a plain tool, or submit it")


def _directory(file: BinaryIO, where: str) -> bytes:
    """The central directory; it lies right before the end of the file, and no other structure does."""
    file.seek(0, 2)
    length = file.tell()
    if length < END.size:
        raise refused("is no zip archive", where)
    file.seek(max(0, length - END.size - 20))
    tail = file.read()
    mark, disk, first, here, total, size, start, comment = END.unpack(tail[-END.size :])
    if mark != b"PK\5\6" or comment:
        raise refused("is no zip archive, or has a comment or further bytes at its end", where)
    if tail[:4] == b"PK\6\7" or disk or first or here != total or start + size != length - END.size:
        raise refused("is a Zip64 archive, has several parts, or bytes before it", where)
    if size > MOST_DIRECTORY_BYTES:
        raise refused(f"has a directory of more than {MOST_DIRECTORY_BYTES >> 20} MiB", where)
    file.seek(start)
    directory = file.read(size)
    if len(directory) != size:
        raise refused("is cut off", where)
    return directory + struct.pack("<LL", total, start)


def _entries(directory: bytes, where: str) -> Iterator[Member]:
    total, limit = struct.unpack("<LL", directory[-8:])
    place, end = 0, len(directory) - 8
    for _ in range(total):
        if place + ENTRY.size > end:
            raise refused("has fewer entries than it counts", where)
        entry = ENTRY.unpack_from(directory, place)
        mark, _, _, flags, method, _, _, crc, packed, size, named, extra, comment, disk, _, outer, start = entry
        raw = directory[place + ENTRY.size : place + ENTRY.size + named]
        place += ENTRY.size + named + extra + comment
        if mark != b"PK\1\2" or place > end:
            raise refused("has a broken directory", where)
        name = raw.decode("latin-1")
        place_of = f"{where}/{printable(name)[:80]}"
        if flags & ENCRYPTED:
            raise refused("is encrypted", place_of)
        if method not in (STORED, DEFLATED):
            raise refused(f"is packed by method {method}, not deflated", place_of)
        if disk or 0xFFFFFFFF in (packed, size, start) or start + HEADER.size + named + packed > limit:
            raise refused("lies outside the archive", place_of)
        if method == STORED and packed != size:
            raise refused("has two sizes", place_of)
        folder = name.endswith("/")
        if folder and size:
            raise refused("is a folder with content", place_of)
        kind = stat.S_IFMT(outer >> 16)
        wanted = stat.S_IFDIR if folder else stat.S_IFREG
        plain = kind in (0, wanted) and (folder or not outer & FOLDER)
        yield Member(name, size, packed, crc, method, start, folder, plain)
    if place != end:
        raise refused("has more entries than it counts", where)


def _inflated(path: Path, member: Member, where: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(member.start)
        header = file.read(HEADER.size)
        if len(header) < HEADER.size:
            raise refused("is cut off", where)
        mark, _, flags, method, _, _, _, _, _, named, extra = HEADER.unpack(header)
        name = file.read(named).decode("latin-1")
        if mark != b"PK\3\4" or flags & ENCRYPTED or method != member.method or name != member.name:
            raise refused("is another file by its header than by the directory", where)
        file.seek(extra, 1)
        left = member.packed
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        while left:
            packed = file.read(min(left, CHUNK))
            if not packed:
                raise refused("is cut off", where)
            left -= len(packed)
            if member.method == STORED:
                yield packed
                continue
            try:
                while packed and not unpacker.eof:
                    yield unpacker.decompress(packed, CHUNK)
                    packed = unpacker.unconsumed_tail
            except zlib.error as problem:
                raise refused("is not deflated as it says", where) from problem
            if unpacker.unused_data or (unpacker.eof and left):
                raise refused("has bytes after its end", where)
        if member.method == DEFLATED and not unpacker.eof:
            yield unpacker.flush()  # the last few bytes, where they did not fit into the last piece
            if not unpacker.eof:
                raise refused("is cut off", where)
